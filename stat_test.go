package ossdl_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestStat checks what is found out about an object, with one HEAD request.
func TestStat(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("ver", osstest.Versioning(osstest.Enabled))
	old := s.Put("ver", "k", osstest.Random(1, 100))
	o := s.Put("ver", "k", osstest.Random(2, 200))
	d := harness.NewDownloader(t, s)
	i, err := d.Stat(t.Context(), "ver", "k")
	if err != nil {
		t.Fatal(err)
	}
	if i.Bucket != "ver" || i.Key != "k" || i.URL || i.VersionID != o.VersionID || i.ETag != o.ETag || i.Size != 200 || !i.HasCRC64 || i.CRC64 != o.CRC64() ||
		!i.LastModified.Equal(o.LastModified.Truncate(time.Second)) || i.StorageClass != "Standard" || i.ArchiveState != "" || i.Header.Get("Content-Length") != "200" {
		t.Errorf("%+v", i)
	}
	if all := s.Requests(); len(all) != 1 || all[0].Method != http.MethodHead {
		t.Errorf("%+v", all)
	}
	if i, err = d.Stat(t.Context(), "ver", "k", ossdl.WithVersionID(old.VersionID)); err != nil || i.VersionID != old.VersionID || i.Size != 100 {
		t.Errorf("an old version: %+v, %v", i, err)
	}
	s.ResetLog()
	s.Nth(0, osstest.Inject().Error(503, ""))
	if i, err = d.Stat(t.Context(), "ver", "k"); err != nil || i.Size != 200 {
		t.Errorf("after a failure: %+v, %v", i, err)
	}
	s.ClearFaults()
	var service oss.ServiceError
	if _, err = d.Stat(t.Context(), "ver", "absent"); !errors.Is(err, ossdl.ErrNotFound) || !errors.As(err, &service) || service.RequestID == "" {
		t.Errorf("no object: %v", err)
	}
	if _, err = d.Stat(t.Context(), "ver", ""); err == nil || !strings.Contains(err.Error(), "stat oss://ver/") {
		t.Errorf("no key: %v", err)
	}
	if _, err = d.Stat(t.Context(), "ver", "k", ossdl.WithInclude("*")); err == nil || !strings.Contains(err.Error(), "WithInclude") {
		t.Errorf("a wrong option: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = d.Stat(ctx, "ver", "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// TestStatOfArchivedObjects checks the states of archived objects, in a HEAD and in a listing.
func TestStatOfArchivedObjects(t *testing.T) {
	s := harness.NewServer(t, osstest.WithThawTime(osstest.Never))
	s.CreateBucket("bkt")
	until := time.Now().Add(48 * time.Hour).Truncate(time.Second)
	for _, key := range []string{"frozen", "restored", "thawing"} {
		s.Put("bkt", key, osstest.Random(1, 100), osstest.StorageClass("ColdArchive"))
	}
	s.Put("bkt", "warm", osstest.Random(1, 100))
	s.Restore("bkt", "restored", until)
	client, err := s.Client()
	if err != nil {
		t.Fatal(err)
	}
	b, err := client.Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.RestoreObject("thawing"); err != nil {
		t.Fatal(err)
	}
	want := map[string]ossdl.ArchiveState{"frozen": ossdl.ArchiveFrozen, "restored": ossdl.ArchiveRestored, "thawing": ossdl.ArchiveThawing, "warm": ""}
	d := harness.NewDownloader(t, s)
	check := func(what string, i ossdl.ObjectInfo) {
		t.Helper()
		class := "ColdArchive"
		if i.Key == "warm" {
			class = "Standard"
		}
		if i.ArchiveState != want[i.Key] || i.StorageClass != class || i.ThawedUntil.IsZero() == (i.Key == "restored") || i.Key == "restored" && !i.ThawedUntil.Equal(until) {
			t.Errorf("%s, %s: %+v", what, i.Key, i)
		}
	}
	for key := range want {
		i, err := d.Stat(t.Context(), "bkt", key)
		if err != nil {
			t.Fatal(err)
		}
		check("HEAD", *i)
	}
	n := 0
	for i, err := range d.List(t.Context(), "bkt", "") {
		if err != nil {
			t.Fatal(err)
		}
		n++
		check("listing", i)
	}
	if n != len(want) {
		t.Errorf("%d objects", n)
	}
}

// TestStatURL checks what is found out about the object of a URL, from OSS and from web servers, also one without ranges.
func TestStatURL(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("bkt", osstest.PublicRead())
	o := s.Put("bkt", "k", osstest.Random(1, 1000))
	s.Put("bkt", "empty", osstest.Bytes(nil))
	content := bytes.Repeat([]byte("x"), 1000)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"e"`)
		switch {
		case r.URL.Path == "/whole":
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(content)
		case r.Header.Get("Token") != "secret-token":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			http.ServeContent(w, r, "", time.Unix(1e9, 0), bytes.NewReader(content))
		}
	}))
	defer web.Close()
	d := harness.NewURLDownloader(t, ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}))
	for url, size := range map[string]int64{
		harness.Sign(t, s, oss.AuthV4, time.Hour, "k"): 1000, s.URL("bkt", "k"): 1000, s.URL("bkt", "empty"): 0, web.URL + "/whole": 1000, web.URL + "/ranges": 1000,
	} {
		i, err := d.StatURL(t.Context(), url, ossdl.WithHeader("Token", "secret-token"))
		if err != nil || i.Size != size || !i.URL || i.ETag == "" || !strings.HasPrefix(i.Key, "/") {
			t.Errorf("%s: %+v, %v", url, i, err)
			continue
		}
		if strings.HasPrefix(url, web.URL) != !i.HasCRC64 || size == 1000 && i.HasCRC64 && i.CRC64 != o.CRC64() {
			t.Errorf("%s: %+v", url, i)
		}
	}
	if _, err := d.StatURL(t.Context(), web.URL+"/ranges"); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("without the header: %v", err)
	}
	if _, err := d.StatURL(t.Context(), harness.Sign(t, s, oss.AuthV1, time.Hour, "absent")); !errors.Is(err, ossdl.ErrNotFound) || strings.Contains(err.Error(), "Signature") {
		t.Errorf("no object: %v", err)
	}
	if _, err := d.StatURL(t.Context(), "http://h/k?OSSAccessKeyId=a&Signature=SECRET&Expires=1"); !errors.Is(err, ossdl.ErrExpired) || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("expired: %v", err)
	}
}

// TestList checks that a listing yields the wanted keys in their order, over several pages, and that it can be broken off.
func TestList(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("bkt")
	var all []string
	for i := range 2500 {
		key := "p/" + strings.Repeat("x", i%3) + string(rune('a'+i%26)) + "/" + time.Unix(int64(i), 0).UTC().Format("150405")
		s.Put("bkt", key, osstest.Random(1, int64(i)))
		all = append(all, key)
	}
	o := s.Put("bkt", "q/k.gz", osstest.Random(1, 10))
	slices.Sort(all)
	d := harness.NewDownloader(t, s)
	list := func(prefix string, opts ...ossdl.Option) (keys []string) {
		t.Helper()
		for i, err := range d.List(t.Context(), "bkt", prefix, opts...) {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, i.Key)
		}
		return keys
	}
	if got := list("p/"); !slices.Equal(got, all) {
		t.Errorf("%d keys of %d", len(got), len(all))
	}
	if got := list("", ossdl.WithInclude("*.gz")); !slices.Equal(got, []string{"q/k.gz"}) {
		t.Errorf("%v", got)
	}
	if got := list("p/", ossdl.WithKeyRange(all[9], all[19])); !slices.Equal(got, all[10:20]) {
		t.Errorf("%v", got)
	}
	if n := len(list("p/", ossdl.WithShard(0, 2))) + len(list("p/", ossdl.WithShard(1, 2))); n != len(all) {
		t.Errorf("%d keys in two shares", n)
	}
	for i, err := range d.List(t.Context(), "bkt", "q/") {
		if err != nil || i.Bucket != "bkt" || i.ETag != o.ETag || i.Size != 10 || i.StorageClass != "Standard" || i.HasCRC64 || !i.LastModified.Equal(o.LastModified.Truncate(time.Millisecond)) {
			t.Errorf("%+v, %v", i, err)
		}
	}
	for range d.List(t.Context(), "bkt", "") {
		break
	}
	n := 0
	for i, err := range d.List(t.Context(), "absent", "") {
		if n++; !errors.Is(err, ossdl.ErrNotFound) || i.Key != "" {
			t.Errorf("%+v, %v", i, err)
		}
	}
	for _, err := range d.List(t.Context(), "bkt", "", ossdl.WithChecksum(nil, nil)) {
		if n++; err == nil {
			t.Error("a wrong option is accepted")
		}
	}
	if n != 2 {
		t.Errorf("%d errors", n)
	}
}

// TestLocal checks what is said of the path of a download: whether the file is the object, and what an interrupted download has
// left.
func TestLocal(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("bkt")
	c := osstest.Random(1, 8*harness.PartSize)
	s.Put("bkt", "k", c)
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
	other := harness.NewDownloader(t, s) // the request in flight of d is all that it may make
	path := filepath.Join(t.TempDir(), "file")
	local := func() *ossdl.LocalInfo {
		t.Helper()
		i, err := other.Stat(t.Context(), "bkt", "k")
		if err != nil {
			t.Error(err)
			return new(ossdl.LocalInfo)
		}
		l, err := i.Local(t.Context(), path)
		if err != nil {
			t.Error(err)
			return new(ossdl.LocalInfo)
		}
		return l
	}
	if l := local(); l.Exists || l.Same || l.KeptBytes != 0 || l.Holder != "" {
		t.Errorf("nothing is there: %+v", l)
	}

	ctx, cancel := context.WithCancel(t.Context())
	s.Nth(5, osstest.Inject().Before(func() {
		if l := local(); !strings.Contains(l.Holder, "process ") {
			t.Errorf("while it is running: %+v", l)
		}
		cancel()
	}))
	if _, err := d.Download(ctx, "bkt", "k", path); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	before, err := os.ReadFile(filepath.Join(path+".cp", "checkpoint.json"))
	if err != nil {
		t.Fatal(err)
	}
	if l := local(); l.Exists || l.KeptBytes <= 0 || l.KeptBytes >= c.Size() || l.Holder != "" {
		t.Errorf("after an interruption: %+v", l)
	}
	if after, err := os.ReadFile(filepath.Join(path+".cp", "checkpoint.json")); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the checkpoint was changed: %v", err)
	}
	s.Put("bkt", "k", osstest.Random(2, 8*harness.PartSize))
	if l := local(); l.KeptBytes != 0 {
		t.Errorf("the object has changed: %+v", l)
	}
	s.Put("bkt", "k", c)
	if l := local(); l.KeptBytes == 0 {
		t.Errorf("the object is the old one: %+v", l)
	}

	if _, err := d.Download(t.Context(), "bkt", "k", path); err != nil {
		t.Fatal(err)
	}
	if l := local(); !l.Exists || !l.Same || l.Size != c.Size() || l.KeptBytes != 0 {
		t.Errorf("it is there: %+v", l)
	}
	s.Put("bkt", "k", osstest.Random(2, 8*harness.PartSize))
	if l := local(); !l.Exists || l.Same {
		t.Errorf("the object has other bytes: %+v", l)
	}
	s.Put("bkt", "k", osstest.Random(1, 10))
	if l := local(); !l.Exists || l.Same {
		t.Errorf("the object has another size: %+v", l)
	}

	modified := time.Now().Add(-time.Hour)
	info := &ossdl.ObjectInfo{Bucket: "bkt", Key: "k", Size: c.Size(), LastModified: modified}
	for at, same := range map[time.Time]bool{modified: true, modified.Add(time.Second): true, modified.Add(time.Minute): false} {
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		if l, err := info.Local(t.Context(), path); err != nil || l.Same != same {
			t.Errorf("without a CRC-64, %v: %+v, %v", at.Sub(modified), l, err)
		}
	}
	if _, err := info.Local(t.Context(), t.TempDir()); err == nil {
		t.Error("a folder is accepted")
	}
}

// TestLocalCountsRecentSaves checks that what a killed run has left counts as the next one counts it: also what it did after its last
// save of the checkpoint, and not what that run would ignore.
func TestLocalCountsRecentSaves(t *testing.T) {
	_, d, path, c := harness.Interrupted(t)
	content := make([]byte, c.Size())
	if _, err := c.ReadAt(content, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	i, err := d.Stat(t.Context(), "bkt", "k")
	if err != nil {
		t.Fatal(err)
	}
	cp := checkpoints.Read(t, path+harness.CheckpointSuffix)
	base, err := cp.Encode()
	if err != nil {
		t.Fatal(err)
	}
	slot := func(seq uint64, continues []byte, parts int64, change func(*checkpoints.Document)) []byte {
		later, crc := *cp, *cp.CRC64
		later.CRC64 = &crc
		later.Claim(content, checkpoints.Span{End: parts * harness.PartSize})
		if change != nil {
			change(&later)
		}
		data, err := later.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return checkpoints.Slot{Seq: seq, Bases: [2]uint64{crc64.Update(0, continues), 1}, Data: data}.Encode()
	}
	file := func(first, second []byte) []byte {
		return append(append(bytes.Clone(first), make([]byte, checkpoints.SlotSize-len(first))...), second...)
	}
	older, newer := slot(7, base, 8, nil), slot(8, base, 12, nil)
	other := func(d *checkpoints.Document) { d.ETag, *d.CRC64 = `"other"`, 1 }
	alone := checkpoints.Total(cp.Spans()) / harness.PartSize
	for what, c := range map[string]struct {
		checkpoint, recent []byte
		parts              int64
	}{
		"none":                           {base, nil, alone},
		"two":                            {base, file(older, newer), 12},
		"the other way round":            {base, file(newer, older), 12},
		"a torn one":                     {base, file(older, newer[:len(newer)-1]), 8},
		"of less":                        {base, slot(9, base, 1, nil), alone},
		"of another checkpoint":          {base, slot(9, []byte("other"), 12, nil), alone},
		"of another object":              {base, slot(9, base, 12, other), alone},
		"too long":                       {base, append(file(older, newer), make([]byte, 2*checkpoints.SlotSize)...), alone},
		"no checkpoint":                  {nil, file(slot(1, nil, 8, nil), slot(2, nil, 12, nil)), 12},
		"no checkpoint, but it had one":  {nil, file(older, newer), 0},
		"no checkpoint, another object":  {nil, slot(1, nil, 12, other), 0},
		"no checkpoint, another path":    {nil, slot(1, nil, 12, func(d *checkpoints.Document) { d.Path = "../other" }), 0},
		"a torn checkpoint":              {base[:len(base)/2], file(older, newer), 0},
		"a checkpoint of another object": {bytes.Replace(base, []byte(`"key":"k"`), []byte(`"key":"j"`), 1), file(older, newer), 0},
	} {
		leave(t, path, content, c.checkpoint, c.recent)
		l, res := localAndResumed(t, d, i, path)
		if want := c.parts * harness.PartSize; l.KeptBytes != want || res.ResumedBytes != want {
			t.Errorf("%s: %d bytes kept, %d resumed, want %d", what, l.KeptBytes, res.ResumedBytes, want)
		}
	}

	leave(t, path, content, base, nil)
	if err := os.Link(path+harness.PartSuffix, filepath.Join(t.TempDir(), "link")); err != nil {
		t.Fatal(err)
	}
	if l, res := localAndResumed(t, d, i, path); l.KeptBytes != 0 || res.ResumedBytes != 0 {
		t.Errorf("data with a second name: %d bytes kept, %d resumed", l.KeptBytes, res.ResumedBytes)
	}
	sum := sha256.Sum256([]byte(filepath.Base(path)))
	second := filepath.Join(filepath.Dir(path), ".ossdl-"+hex.EncodeToString(sum[:16])+harness.FolderSuffix)
	for empty, want := range map[bool]int64{false: alone * harness.PartSize, true: 0} {
		leave(t, path, content, base, nil)
		if err := errors.Join(os.RemoveAll(second), os.Rename(path+harness.FolderSuffix, second)); err != nil {
			t.Fatal(err)
		}
		if empty {
			if err := os.Mkdir(path+harness.FolderSuffix, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if l, res := localAndResumed(t, d, i, path); l.KeptBytes != want || res.ResumedBytes != want {
			t.Errorf("in the other folder, the usual one is there: %t: %d bytes kept, %d resumed, want %d", empty, l.KeptBytes, res.ResumedBytes, want)
		}
	}
}

// leave makes what a killed run has left at a path: all the data, and these files unless they are nil.
func leave(t *testing.T, path string, data, checkpoint, recent []byte) {
	t.Helper()
	if err := errors.Join(os.RemoveAll(path), os.RemoveAll(path+harness.FolderSuffix), os.Mkdir(path+harness.FolderSuffix, 0o700)); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{harness.PartSuffix: data, harness.CheckpointSuffix: checkpoint, harness.RecentSuffix: recent} {
		if content == nil {
			continue
		}
		if err := os.WriteFile(path+name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// localAndResumed returns what is said of a path, which must change nothing there, and then what a download to it did.
func localAndResumed(t *testing.T, d *ossdl.Downloader, i *ossdl.ObjectInfo, path string) (*ossdl.LocalInfo, *ossdl.Result) {
	t.Helper()
	before, _ := os.ReadFile(path + harness.RecentSuffix)
	l, err := i.Local(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(path + harness.RecentSuffix); !bytes.Equal(after, before) {
		t.Error("the recent saves were changed")
	}
	res, err := d.Download(t.Context(), "bkt", "k", path)
	if err != nil {
		t.Fatal(err)
	}
	return l, res
}

// TestLocalWithoutACheckpoint checks what counts of a run that saved no checkpoint: what its recent saves claim. So the next run
// resumes it.
func TestLocalWithoutACheckpoint(t *testing.T) {
	s := harness.NewServer(t)
	c := osstest.Random(1, 16*harness.PartSize)
	s.Put("bkt", "k", c)
	disk := faultfs.New(fsys.OS(), faultfs.Plan{Kind: faultfs.Sync, Name: harness.CheckpointSuffix + fsys.TempSuffix, Err: syscall.EIO, Forever: true})
	saving := make(chan struct{}, 2)
	disk.OnOp(func(op faultfs.Op) error {
		if op.Kind == faultfs.Write && strings.HasSuffix(op.Name, harness.RecentSuffix) {
			select {
			case saving <- struct{}{}:
			default:
			}
		}
		return nil
	})
	wait := osstest.Inject().Before(func() { <-saving })
	s.Nth(5, wait)
	s.Nth(10, wait) // the second save has begun: the first is in the file
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
	path := filepath.Join(t.TempDir(), "file")
	harness.Interrupt(t, s, d, path, 11, harness.WithFS(disk))
	if _, err := os.Lstat(path + harness.CheckpointSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a checkpoint: %v", err)
	}
	i, err := d.Stat(t.Context(), "bkt", "k")
	if err != nil {
		t.Fatal(err)
	}
	l, err := i.Local(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	res, err := d.Download(t.Context(), "bkt", "k", path)
	if err != nil {
		t.Fatal(err)
	}
	if l.KeptBytes == 0 || l.KeptBytes != res.ResumedBytes {
		t.Errorf("%d bytes kept, %d resumed", l.KeptBytes, res.ResumedBytes)
	}
}
