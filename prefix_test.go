package ossdl_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys/fstest"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// keysAsked are the keys of the requests for objects, sorted.
func keysAsked(s *osstest.Server) (keys []string) {
	for _, r := range s.Requests() {
		if r.Key != "" {
			keys = append(keys, r.Key)
		}
	}
	slices.Sort(keys)
	return keys
}

func TestPrefixBrings(t *testing.T) {
	for name, opts := range map[string][]oss.ClientOption{"V1": {oss.AuthVersion(oss.AuthV1)}, "V4": {oss.AuthVersion(oss.AuthV4)}} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewServer(t)
			hc := ossdl.HTTPClient()
			defer hc.CloseIdleConnections()
			client, err := s.Client(append(opts, oss.HTTPClient(hc))...)
			if err != nil {
				t.Fatal(err)
			}
			d, err := ossdl.New(client)
			if err != nil {
				t.Fatal(err)
			}
			odd := "p/ключ +&%2F'"
			if runtime.GOOS != "windows" {
				odd += "\x01\"<\\C:"
			}
			sizes := map[string]int64{
				"p/empty": 0, "p/one": 1, "p/deep/er/and/deeper": 100, "p/large": 20<<20 + 7, odd: 5, "p/dir/": 0, "q": 3,
			}
			all := harness.Put(s, sizes)
			dir := filepath.Join(t.TempDir(), "made", "as", "needed")
			res, err := d.DownloadPrefix(t.Context(), "bkt", "p/", dir)
			harness.CheckCounts(t, res, err, 6, 0, 0)
			if want := sizes["p/large"] + 1 + 100 + 5; res.Bytes != want {
				t.Errorf("%d bytes, want %d", res.Bytes, want)
			}
			want := harness.Contents{}
			for key, c := range all {
				if name, ok := strings.CutPrefix(key, "p/"); ok && !strings.HasSuffix(key, "/") {
					want[name] = c
					fi, err := os.Stat(filepath.Join(dir, name))
					if o := s.Stat("bkt", key); err != nil || !fi.ModTime().Equal(o.LastModified) {
						t.Errorf("%s: time %v, want %v, %v", key, fi.ModTime(), o.LastModified, err)
					}
				}
			}
			harness.CheckTree(t, dir, want)
			if fi, err := os.Stat(filepath.Join(dir, "dir")); err != nil || !fi.IsDir() {
				t.Errorf("no folder for a key that ends in a slash: %v", err)
			}
			small := 0
			for _, r := range s.Requests() {
				if r.Key != "" && r.Key != "p/large" {
					small++
				}
			}
			if small != 4 {
				t.Errorf("%d requests for 4 small objects", small)
			}

			s.ResetLog()
			res, err = d.DownloadPrefix(t.Context(), "bkt", "p/", dir)
			harness.CheckCounts(t, res, err, 0, 6, 0)
			if n := s.Stats().Requests; n != 1 {
				t.Errorf("%d requests where nothing is left to do, want the listing alone", n)
			}
			harness.CheckTree(t, dir, want)
		})
	}
}

func TestPrefixLocalNames(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a/b": 1, "a/bc/d": 2, "a/b/e": 3, "ab": 4})
	d := harness.NewDownloader(t, s)
	for prefix, want := range map[string][]string{
		"a/b":  {"b", "bc/d"}, // "b/e" lies below "b"
		"a/b/": {"e"},
		"a/bc": {"bc/d"},
		"a/":   {"b", "bc/d"},
		"a":    {"a/b", "a/bc/d", "ab"},
		"":     {"a/b", "a/bc/d", "ab"},
		"z":    nil,
	} {
		dir := t.TempDir()
		res, err := d.DownloadPrefix(t.Context(), "bkt", prefix, dir)
		if res == nil || res.Done != len(want) {
			t.Errorf("prefix %q: %+v, %v", prefix, res, err)
		}
		for _, name := range want {
			if !harness.Exists(filepath.Join(dir, name)) {
				t.Errorf("prefix %q: no %s", prefix, name)
			}
		}
	}
}

// TestPrefixDoesOnlyWhatIsLeft checks that a second run fetches what is missing, differs in size or time, or was replaced,
// and nothing else.
func TestPrefixDoesOnlyWhatIsLeft(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 10, "b": 10, "c": 10, "d": 10, "e": 10, "f": 0})
	d := harness.NewDownloader(t, s)
	dir := t.TempDir()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 6, 0, 0)

	all["b"] = osstest.Random(100, 10) // same size, another time
	s.Put("bkt", "b", all["b"])
	if err := os.Remove(filepath.Join(dir, "c")); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(dir, "d"), "longer than it was")
	if err := os.Chtimes(filepath.Join(dir, "d"), time.Time{}, s.Stat("bkt", "d").LastModified); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, "e"), time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(dir, "mine"), "not of the bucket")
	s.ResetLog()
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 4, 2, 0)
	if got := keysAsked(s); !slices.Equal(got, []string{"b", "c", "d", "e"}) {
		t.Errorf("fetched %q", got)
	}
	all["mine"] = osstest.Bytes([]byte("not of the bucket"))
	harness.CheckTree(t, dir, all)
}

func TestPrefixCompareCRC64(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"same": 300 << 10, "altered": 10, "touched": 10, "longer": 10})
	noCRC := osstest.Random(50, 10)
	s.Put("bkt", "nocrc", noCRC, osstest.NoCRC())
	all["nocrc"] = noCRC
	d := harness.NewDownloader(t, s, ossdl.WithCompareCRC64())
	dir := t.TempDir()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 5, 0, 0)

	at := func(name string) string { return filepath.Join(dir, name) }
	fi, err := os.Stat(at("altered"))
	if err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, at("altered"), "0123456789")
	harness.WriteFile(t, at("longer"), "01234567890")
	for name, when := range map[string]time.Time{"altered": fi.ModTime(), "touched": time.Unix(1, 0), "nocrc": time.Unix(1, 0)} {
		if err := os.Chtimes(at(name), time.Time{}, when); err != nil {
			t.Fatal(err)
		}
	}
	s.ResetLog()
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 3, 2, 0)
	var got []string
	for _, r := range s.Requests() {
		if r.Key != "" {
			got = append(got, r.Method+" "+r.Key)
		}
	}
	slices.Sort(got)
	if want := []string{"GET altered", "GET longer", "GET nocrc", "HEAD altered", "HEAD nocrc", "HEAD same", "HEAD touched"}; !slices.Equal(got, want) {
		t.Errorf("requests %q, want %q", got, want)
	}
	harness.CheckTree(t, dir, all)

	// Deleted since it was listed: the HEAD says so.
	s.Once(func(r *osstest.Request) bool { return r.Key == "same" }, osstest.Inject().Before(func() { s.Delete("bkt", "same") }))
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 0, 4, 1)
	if !errors.Is(err, ossdl.ErrNotFound) {
		t.Errorf("deleted before the HEAD: %v", err)
	}
}

// TestPrefixSymlinkObject checks that the listing has size and time of a symbolic link, the file those of its target.
func TestPrefixSymlinkObject(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"target": 1000})
	s.Symlink("bkt", "link", "target")
	all["link"] = all["target"]
	d := harness.NewDownloader(t, s)
	dir := t.TempDir()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 2, 0, 0)
	harness.CheckTree(t, dir, all)
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 0, 2, 0)
}

// TestPrefixFailures checks that one object's failure stops no other, and each is reported with its cause; the cause of the
// first is that of the call.
func TestPrefixFailures(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 10, "archived": 10, "b": 10, "broken": 10, "c": 10, "deleted": 10, "replaced": 10})
	s.Archive("bkt", "archived")
	delete(all, "archived")
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Key == "broken" {
			return osstest.Inject().FlipByte(3)
		}
		return nil
	})
	delete(all, "broken")
	s.Once(func(r *osstest.Request) bool { return r.Key == "deleted" }, osstest.Inject().Before(func() { s.Delete("bkt", "deleted") }))
	delete(all, "deleted")
	all["replaced"] = osstest.Random(77, 9_000_000)
	s.Once(func(r *osstest.Request) bool { return r.Key == "replaced" }, osstest.Inject().Before(func() { s.Put("bkt", "replaced", all["replaced"]) }))

	var log strings.Builder
	d := harness.NewDownloader(t, s, ossdl.WithLogger(slog.New(slog.NewTextHandler(&log, nil))), ossdl.WithConcurrency(1))
	dir := t.TempDir()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 4, 0, 3)
	harness.CheckTree(t, dir, all)
	causes := map[string]error{"archived": ossdl.ErrArchived, "broken": ossdl.ErrChecksum, "deleted": ossdl.ErrNotFound}
	for _, f := range res.Failures {
		if !errors.Is(f, causes[f.Key]) {
			t.Errorf("%s: %v", f.Key, f)
		}
		var se oss.ServiceError
		if f.Key != "broken" && (!errors.As(f, &se) || se.RequestID == "") {
			t.Errorf("%s: no request ID in %v", f.Key, f)
		}
		if !strings.Contains(log.String(), "key="+f.Key) {
			t.Errorf("the failure of %s is not logged", f.Key)
		}
	}
	var first ossdl.KeyError
	if !errors.As(err, &first) || first != res.Failures[0] || !errors.Is(err, causes[first.Key]) || !strings.Contains(err.Error(), "3 of 7") {
		t.Errorf("the error does not say what happened: %v", err)
	}
	if left := s.Unfired(); len(left) > 0 {
		t.Errorf("not tested: %q", left)
	}

	s.ClearFaults()
	s.Restore("bkt", "archived", time.Now().Add(time.Hour))
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 2, 4, 0)
}

// TestPrefixEmptyAndNoLonger checks that an object that was listed as empty is not asked for by a range, and one that was
// not is: both may be the other by then.
func TestPrefixEmptyAndNoLonger(t *testing.T) {
	for name, c := range map[string]struct {
		listed, then int64
		wire         []string
	}{
		"stays empty":           {0, 0, []string{"GET "}},
		"empty, and then small": {0, 1000, []string{"GET "}},
		"empty, and then large": {0, 3 << 20, nil},
		"small, and then empty": {1000, 0, []string{"GET bytes=0-65535", "GET "}},
		"large, and then empty": {3 << 20, 0, []string{"GET bytes=0-65535", "GET "}},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewServer(t)
			s.Put("bkt", "k", osstest.Random(1, c.listed))
			content := osstest.Random(2, c.then)
			s.OnList(func(*osstest.Request) *osstest.Fault {
				return osstest.Inject().Then(func() { s.Put("bkt", "k", content) })
			})
			if c.wire == nil { // the whole does not end before a range was asked for
				open := make(chan struct{})
				s.Once(func(r *osstest.Request) bool { return r.Range == "" }, osstest.Inject().Gate(1000, open))
				s.Once(func(r *osstest.Request) bool { return r.Range != "" }, osstest.Inject().Before(func() { close(open) }))
			}
			dir := t.TempDir()
			d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize))
			p := &harness.ProgressRecorder{T: t}
			res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithProgress(p.AddOfMany))
			harness.CheckCounts(t, res, err, 1, 0, 0)
			harness.CheckTree(t, dir, harness.Contents{"k": content})
			if last := p.Last(); res.Bytes != c.then || last.Total != c.then || last.Done != c.then {
				t.Errorf("%d bytes, %+v", res.Bytes, last)
			}
			if left := s.Unfired(); len(left) > 0 {
				t.Errorf("not tested: %q", left)
			}
			lines := harness.Wire(s)[1:] // after the listing
			if c.wire != nil {
				harness.SameLines(t, lines, c.wire...)
			} else if lines[0] != "GET " || len(lines) < 2 || !strings.HasSuffix(lines[len(lines)-1], "if-match") {
				t.Errorf("requests %q, want the whole first and then ranges of the same object", lines)
			}
		})
	}
}

func TestPrefixCapsFailures(t *testing.T) {
	s := harness.NewServer(t)
	const n = 1500
	s.SetVirtual("bkt", n, func(i int) (string, osstest.Content) { return fmt.Sprintf("/k%04d", i), osstest.Bytes(nil) })
	var log harness.Records
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), ossdl.WithLogger(log.Logger()))
	if err == nil || res.Failed != n || len(res.Failures) != 1000 || res.Failures[0].Key != "/k0000" {
		t.Errorf("%d failed, %d are listed, %v", res.Failed, len(res.Failures), err)
	}
	logged := log.String() // of each key, whether it is listed or not
	for i := range n {
		if c := strings.Count(logged, fmt.Sprintf(`msg="object failed" bucket=bkt key=/k%04d `, i)); c != 1 {
			t.Fatalf("the failure of key %d is logged %d times", i, c)
		}
	}
}

func TestPrefixFilters(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"p/a.txt": 1, "p/a.log": 1, "p/d/b.txt": 1, "p/d/c.log": 1, "p/d/e/f.txt": 1, "p/d/": 0, "p/../no.txt": 1})
	for _, c := range []struct {
		opts []ossdl.Option
		want []string
	}{
		{[]ossdl.Option{ossdl.WithInclude("*.txt"), ossdl.WithExclude("no.txt")}, []string{"a.txt", "d/b.txt", "d/e/f.txt"}},
		{[]ossdl.Option{ossdl.WithInclude("d/*"), ossdl.WithExclude("no.txt")}, []string{"d/b.txt", "d/c.log"}},
		{[]ossdl.Option{ossdl.WithInclude("*.txt", "*.log"), ossdl.WithExclude("d/*", "no.*")}, []string{"a.log", "a.txt", "d/e/f.txt"}},
		{[]ossdl.Option{ossdl.WithInclude("[ab].*")}, []string{"a.log", "a.txt", "d/b.txt"}},
		{[]ossdl.Option{ossdl.WithExclude("*")}, nil},
	} {
		dir := t.TempDir()
		res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "p/", dir, c.opts...)
		harness.CheckCounts(t, res, err, len(c.want), 0, 0)
		for _, name := range c.want {
			if !harness.Exists(filepath.Join(dir, name)) {
				t.Errorf("no %s in %s", name, dir)
			}
		}
	}
}

// TestPrefixShards checks that four shards at the same time into one folder download everything once.
func TestPrefixShards(t *testing.T) {
	t.Parallel()
	s := harness.NewServer(t)
	sizes := map[string]int64{}
	for i := range 200 {
		sizes[fmt.Sprintf("d%d/k%03d", i%7, i)] = int64(i)
	}
	all := harness.Put(s, sizes)
	dir := t.TempDir()
	var wg sync.WaitGroup
	var done atomic.Int64
	for i := range 4 {
		d := harness.NewDownloader(t, s)
		wg.Go(func() {
			res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithShard(i, 4))
			if err != nil || res.Done < 20 {
				t.Errorf("shard %d: %+v, %v", i, res, err)
			}
			done.Add(int64(res.Done))
		})
	}
	wg.Wait()
	if got := keysAsked(s); done.Load() != 200 || !slices.Equal(got, slices.Sorted(maps.Keys(sizes))) {
		t.Errorf("%d done, %d requests", done.Load(), len(got))
	}
	harness.CheckTree(t, dir, all)
}

// TestPrefixBadInput checks that bad input is an error that names it, before anything is asked or made.
func TestPrefixBadInput(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"k": 1})
	d := harness.NewDownloader(t, s)
	top := t.TempDir()
	harness.WriteFile(t, filepath.Join(top, "file"), "mine")
	if err := os.Mkdir(filepath.Join(top, "taken"), 0o777); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(top, "taken", harness.WorkDir), "mine")
	if err := os.Mkdir(filepath.Join(top, "linked"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := fstest.Symlink(top, filepath.Join(top, "linked", harness.WorkDir)); err != nil {
		t.Log("a file in place of the link: ", err)
		harness.WriteFile(t, filepath.Join(top, "linked", harness.WorkDir), "")
	}
	for _, c := range []struct {
		bucket, prefix, dir string
		opts                []ossdl.Option
		says                string
	}{
		{"B", "", "new", nil, `bucket name "B"`},
		{"", "", "new", nil, `bucket name ""`},
		{"bkt", "a\x00", "new", nil, "without NUL"},
		{"bkt", "a\xff", "new", nil, "UTF-8"},
		{"bkt", strings.Repeat("a", 1024), "new", nil, "1023"},
		{"bkt", "", "", nil, "empty destination folder"},
		{"bkt", "", "file", nil, "file"},
		{"bkt", "", "file/below", nil, "file"},
		{"bkt", "", "taken", nil, harness.WorkDir},
		{"bkt", "", "linked", nil, harness.WorkDir},
		{"bkt", "", "new", []ossdl.Option{ossdl.WithRange(0, 1)}, "WithRange"},
		{"bkt", "", "new", []ossdl.Option{ossdl.WithVersionID("v")}, "WithVersionID"},
		{"bkt", "", "new", []ossdl.Option{ossdl.WithCheckpoint("c")}, "WithCheckpoint"},
		{"bkt", "", "new", []ossdl.Option{ossdl.WithCheckpointDir("c")}, "WithCheckpointDir"},
		{"bkt", "", "new", []ossdl.Option{ossdl.WithInclude("[")}, `pattern "["`},
		{"bkt", "", "new", []ossdl.Option{ossdl.WithExclude("")}, `pattern ""`},
		{"bkt", "", "new", []ossdl.Option{ossdl.WithShard(3, 3)}, "shard 3 of 3"},
		{"bkt", "", "new", []ossdl.Option{ossdl.WithShard(0, 0)}, "shard 0 of 0"},
		{"bkt", "", "new", []ossdl.Option{ossdl.WithShard(-1, 2)}, "shard -1 of 2"},
	} {
		dir := c.dir
		if dir != "" {
			dir = filepath.Join(top, c.dir)
		}
		res, err := d.DownloadPrefix(t.Context(), c.bucket, c.prefix, dir, c.opts...)
		if res != nil || err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q %q %q: %+v, %v; want %q in it", c.bucket, c.prefix, c.dir, res, err, c.says)
		}
	}
	if os.Getuid() > 0 {
		ro := filepath.Join(top, "ro")
		if err := os.Mkdir(ro, 0o555); err != nil {
			t.Fatal(err)
		}
		if res, err := d.DownloadPrefix(t.Context(), "bkt", "", ro); res != nil || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("read-only folder: %+v, %v", res, err)
		}
	}
	none, err := ossdl.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := none.DownloadPrefix(t.Context(), "bkt", "", filepath.Join(top, "new")); err == nil || !strings.Contains(err.Error(), "no client") {
		t.Errorf("without a client: %v", err)
	}
	if n := s.Stats().Requests; n != 0 {
		t.Errorf("%d requests", n)
	}
	if harness.Exists(filepath.Join(top, "new")) {
		t.Error("the folder was made")
	}
	res, err := d.DownloadPrefix(t.Context(), "none", "", filepath.Join(top, "new"))
	if !errors.Is(err, ossdl.ErrNotFound) || res == nil || !errors.Is(res.Listing, ossdl.ErrNotFound) {
		t.Errorf("no such bucket: %+v, %v", res, err)
	}
}

func TestPrefixUnsigned(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("bkt", osstest.PublicRead())
	all := harness.Put(s, map[string]int64{"d/a +%": 100, "d/b": 0})
	dir := t.TempDir()
	hc := ossdl.HTTPClient()
	defer hc.CloseIdleConnections()
	client, err := s.ClientFor("", "", oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ossdl.New(client, ossdl.WithCompareCRC64())
	if err != nil {
		t.Fatal(err)
	}
	res, err := d.DownloadPrefix(t.Context(), "bkt", "d", dir)
	var se oss.ServiceError
	if res == nil || !errors.As(err, &se) || se.Code != "AccessDenied" {
		t.Errorf("all may read the objects, but not the listing: %+v, %v", res, err)
	}
	// The service may let all read the listing, too, which this server does not imitate.
	s.OnList(func(r *osstest.Request) *osstest.Fault {
		if r.Bucket != "bkt" || !strings.Contains(r.Query, "list-type=2") || !strings.Contains(r.Query, "prefix=d") {
			return nil
		}
		doc := "<ListBucketResult>"
		for _, key := range []string{"d/a +%", "d/b"} {
			o := s.Stat("bkt", key)
			doc += fmt.Sprintf("<Contents><Key>%s</Key><LastModified>%s</LastModified><Size>%d</Size></Contents>", key, o.LastModified.Format(time.RFC3339), o.Size())
		}
		return osstest.Inject().Reply(200, "application/xml", doc+"</ListBucketResult>")
	})
	res, err = d.DownloadPrefix(t.Context(), "bkt", "d", dir)
	harness.CheckCounts(t, res, err, 2, 0, 0)
	harness.CheckTree(t, dir, harness.Contents{"d/a +%": all["d/a +%"], "d/b": all["d/b"]})
	res, err = d.DownloadPrefix(t.Context(), "bkt", "d", dir)
	harness.CheckCounts(t, res, err, 0, 2, 0)
	for _, r := range s.Requests() {
		if r.Header.Get("Authorization") != "" || strings.Contains(r.Query, "Signature") {
			t.Errorf("%s %s?%s is signed", r.Method, r.Key, r.Query)
		}
	}
}

// TestPrefixClockSkew checks that one request is refused if the clock of this machine is wrong, and all others are dated by
// the server's.
func TestPrefixClockSkew(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a": 10, "b": 10, "c": 10})
	s.SetNow(func() time.Time { return time.Now().Add(time.Hour) })
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir())
	harness.CheckCounts(t, res, err, 3, 0, 0)
	refused := 0
	for _, r := range s.Requests() {
		if r.Status == http.StatusForbidden {
			refused++
		}
	}
	if refused != 1 {
		t.Errorf("%d requests were refused", refused)
	}
}

func TestPrefixRequesterPays(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a": 10})
	d := harness.NewDownloader(t, s, ossdl.WithCompareCRC64(), ossdl.WithRequestOptions(oss.RequestPayer(oss.Requester), oss.TrafficLimitHeader(819200)))
	dir := t.TempDir()
	for range 2 {
		if _, err := d.DownloadPrefix(t.Context(), "bkt", "", dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range s.Requests() {
		if r.Header.Get("X-Oss-Request-Payer") != "requester" {
			t.Errorf("%s %q names no payer", r.Method, r.Key)
		}
		if limited := r.Header.Get("X-Oss-Traffic-Limit") != ""; limited != (r.Method == http.MethodGet && r.Key != "") {
			t.Errorf("%s %q: traffic limit %t", r.Method, r.Key, limited)
		}
	}
}

// TestPrefixListing checks that the listing is retried as ranges are, over the same conditions.
func TestPrefixListing(t *testing.T) {
	t.Parallel()
	one := func(f func(n int) *osstest.Fault) func(*osstest.Request) *osstest.Fault {
		n := -1
		return func(*osstest.Request) *osstest.Fault { n++; return f(n) }
	}
	first := func(fault *osstest.Fault) func(n int) *osstest.Fault {
		return func(n int) *osstest.Fault {
			if n == 0 {
				return fault
			}
			return nil
		}
	}
	always := func(fault *osstest.Fault) func(n int) *osstest.Fault {
		return func(int) *osstest.Fault { return fault }
	}
	page := func(body string) *osstest.Fault {
		return osstest.Inject().Reply(200, "application/xml", `<?xml version="1.0"?><ListBucketResult>`+body+`</ListBucketResult>`)
	}
	more := func(token int, keys string) *osstest.Fault {
		return page(fmt.Sprintf("<IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>%s", token, keys))
	}
	object := func(key string) string { return "<Contents><Key>" + key + "</Key><Size>1</Size></Contents>" }
	fast := ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 3, MinDelay: time.Microsecond, MaxDelay: time.Microsecond})
	for name, c := range map[string]struct {
		faults func(n int) *osstest.Fault
		lists  int    // requests
		says   string // "": it goes well
	}{
		"busy once":         {first(osstest.Error(503, "ServiceUnavailable")), 2, ""},
		"html once":         {first(osstest.Inject().HTML(502)), 2, ""},
		"login page once":   {first(osstest.Inject().LoginPage()), 2, ""},
		"reset in the body": {first(osstest.Inject().ResetAfter(100)), 2, ""},
		"cut in the body":   {first(osstest.Inject().UntilClose().CloseAfter(100)), 2, ""},
		"stalls":            {first(osstest.Inject().StallAfter(100)), 2, ""},
		"no answer":         {first(osstest.Inject().HoldHeaders(nil)), 2, ""},
		"always busy":       {always(osstest.Error(503, "ServiceUnavailable")), 3, "503"},
		"always a page":     {always(osstest.Inject().LoginPage()), 3, "not an answer of OSS"},
		"no XML":            {always(osstest.Inject().Reply(200, "text/plain", "hello")), 3, "no listing"},
		"another document":  {always(osstest.Inject().Reply(200, "application/xml", "<Other/>")), 3, "no listing"},
		"denied":            {always(osstest.Error(403, "AccessDenied")), 1, "AccessDenied"},
		"no next token":     {always(page("<IsTruncated>true</IsTruncated>")), 1, "cut short"},
		"a circle":          {always(page("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>")), 2, "cut short"},
		"a larger circle":   {func(n int) *osstest.Fault { return more(n%2, object("x"+strconv.Itoa(n%2))) }, 3, `out of order: "x0" comes after "x1"`},
		"an empty circle":   {func(n int) *osstest.Fault { return more(n%2, "") }, harness.MaxEmptyPages, "does not end"},
		"no end":            {func(n int) *osstest.Fault { return more(n, "") }, harness.MaxEmptyPages, "does not end"},
		"no end after keys": {func(n int) *osstest.Fault { return more(n, strings.Repeat(object("x"), 1-min(n, 1))) }, harness.MaxEmptyPages + 1, `after "x"`},
		"descending":        {always(page(object("b") + object("a"))), 1, "out of order"},
		"twice":             {always(page(object("a") + object("a"))), 1, "out of order"},
		"no key":            {always(page("<Contents><Key></Key></Contents>")), 3, "no listing"},
		"bad escape":        {always(page("<EncodingType>url</EncodingType><Contents><Key>%</Key></Contents>")), 3, "no listing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := harness.NewServer(t)
			all := harness.Put(s, map[string]int64{"k": 100, "l": 100})
			s.OnList(one(c.faults))
			dir := t.TempDir()
			d := harness.NewDownloader(t, s, fast)
			if name == "stalls" || name == "no answer" {
				d = harness.NewDownloader(t, s, fast, ossdl.WithStallTimeout(2*time.Second))
			}
			res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
			if res == nil {
				t.Fatal(err)
			}
			lists := 0
			for _, r := range s.Requests() {
				if r.Key == "" {
					lists++
				}
			}
			if lists != c.lists {
				t.Errorf("%d listings, want %d", lists, c.lists)
			}
			if c.says == "" {
				harness.CheckCounts(t, res, err, 2, 0, 0)
				harness.CheckTree(t, dir, all)
			} else if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q in it", err, c.says)
			}
		})
	}
}

// TestPrefixListingBreaksOff checks that a listing that fails in the middle ends the call after what was listed.
func TestPrefixListingBreaksOff(t *testing.T) {
	s := harness.NewServer(t)
	s.SetVirtual("bkt", 2500, func(i int) (string, osstest.Content) { return fmt.Sprintf("k%04d", i), osstest.Bytes(nil) })
	n := 0
	s.OnList(func(*osstest.Request) *osstest.Fault {
		if n++; n > 2 {
			return osstest.Error(403, "AccessDenied")
		}
		return nil
	})
	s.Once(func(r *osstest.Request) bool { return r.Key == "k0007" }, osstest.Error(403, "AccessDenied"))
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), ossdl.WithExclude("k0[1-9]*", "k1*"))
	if err == nil || !strings.Contains(err.Error(), "listing") || !strings.Contains(err.Error(), "1 of 100 objects failed") || res.Done != 99 || res.Failed != 1 ||
		res.Listing == nil || strings.Contains(res.Listing.Error(), "objects failed") {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestPrefixProgress(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a": 1 << 20, "b": 1000, "c": 0, "d": 5 << 20, "e/": 0})
	s.OnRequest(func(r *osstest.Request) *osstest.Fault { return osstest.Inject().Rate(3 << 20) })
	d := harness.NewDownloader(t, s)
	dir := t.TempDir()
	total := int64(6<<20 + 1000)
	p := &harness.ProgressRecorder{T: t}
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithProgress(p.AddOfMany), ossdl.WithPartSize(1<<20))
	harness.CheckCounts(t, res, err, 5, 0, 0)
	if last := p.Last(); last.Done != total || last.Total != total || last.Resumed != 0 || last.InFlight != 0 || last.Remaining != 0 {
		t.Errorf("last report %+v", last)
	}
	if len(p.All) < 3 {
		t.Errorf("%d reports", len(p.All))
	}
	if err := os.Remove(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	p = &harness.ProgressRecorder{T: t}
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithProgress(p.AddOfMany))
	harness.CheckCounts(t, res, err, 1, 4, 0)
	if last := p.Last(); last.Done != total || last.Total != total || last.Resumed != 6<<20 {
		t.Errorf("last report %+v", last)
	}

	// An object that is another one by the time it is fetched counts as what it is then.
	p = &harness.ProgressRecorder{T: t}
	s.Once(func(*osstest.Request) bool { return true }, osstest.Inject().Before(func() { s.Put("bkt", "b", osstest.Random(8, 2<<20)) }))
	res, err = d.DownloadPrefix(t.Context(), "bkt", "b", t.TempDir(), ossdl.WithProgress(func(r ossdl.Progress) {
		p.AddOfMany(r)
		for _, o := range r.Objects {
			if want := int64(2 << 20); o.Done > 0 && o.Total != want {
				t.Errorf("%+v, want a total of %d", o, want)
			}
		}
	}))
	harness.CheckCounts(t, res, err, 1, 0, 0)
	if last := p.Last(); last.Done != 2<<20 || last.Total != 2<<20 || res.Bytes != 2<<20 {
		t.Errorf("last report %+v", last)
	}
}

// TestPrefixProgressOfObjects checks which of ten objects in flight are reported: always the same eight, which were begun
// first, and none once all is done.
func TestPrefixProgressOfObjects(t *testing.T) {
	s := harness.NewServer(t)
	const size, gate, n = 6 << 18, 5 << 18, 10
	sizes := map[string]int64{}
	for i := range n {
		sizes[fmt.Sprintf("large%d", i)] = size
	}
	all := harness.Put(s, sizes)
	open := make(chan struct{})
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		return osstest.Inject().Gate(max(0, gate-max(0, r.Start)), open).Maybe() // a request that takes over the rest sends nothing
	})
	var first, last ossdl.Progress
	same := 0
	dir := t.TempDir()
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithConcurrency(n+2), ossdl.WithProgress(func(p ossdl.Progress) {
		last = p
		var done int64
		for _, o := range p.Objects {
			if done += o.Done; sizes[o.Key] != o.Total || o.Done < 0 || o.Done > o.Total {
				t.Errorf("%+v", o)
			}
		}
		if len(p.Objects) > 8 || done > p.Done {
			t.Errorf("%+v", p)
		}
		if len(p.Objects) < 8 || done < 8*gate/2 || same == 3 { // then they go on
			return
		}
		names := func(p ossdl.Progress) (keys []string) {
			for _, o := range p.Objects {
				keys = append(keys, o.Key)
			}
			return keys
		}
		if same == 0 {
			first = p
		} else if !slices.Equal(names(first), names(p)) {
			t.Errorf("%q after %q", names(p), names(first))
		}
		if same++; same == 3 {
			close(open)
		}
	}))
	harness.CheckCounts(t, res, err, n, 0, 0)
	harness.CheckTree(t, dir, all)
	if same < 3 || last.Objects != nil || last.Requests != s.Stats().Requests {
		t.Errorf("seen %d times; last report %+v, of %d requests", same, last, s.Stats().Requests)
	}
}

// settledObjects records what WithObjectResult reports. It fails the test if a key is reported twice, if reports run at the
// same time, or if one comes after the call.
type settledObjects struct {
	t       *testing.T
	running atomic.Int32
	over    atomic.Bool
	during  func() // called in each report; nil: nothing
	byKey   map[string]ossdl.ObjectResult
}

func (s *settledObjects) option() ossdl.Option {
	s.byKey = map[string]ossdl.ObjectResult{}
	s.over.Store(false)
	return ossdl.WithObjectResult(func(r ossdl.ObjectResult) {
		if s.running.Add(1) != 1 || s.over.Load() {
			s.t.Errorf("%q is reported at the same time as another object, or after the call", r.Key)
		}
		if s.during != nil {
			s.during()
		}
		runtime.Gosched() // another report may come in between
		if before, twice := s.byKey[r.Key]; twice {
			s.t.Errorf("reported twice: %+v and %+v", before, r)
		}
		if r.Duration < 0 || r.Duration == 0 && runtime.GOOS != "windows" || r.Duration > time.Hour { // Windows has a clock of 0.5 to 16 ms
			s.t.Errorf("%q took %v", r.Key, r.Duration)
		}
		r.Duration = 0
		s.byKey[r.Key] = r
		s.running.Add(-1)
	})
}

// check fails the test unless these objects were reported, and the result has the same sums.
func (s *settledObjects) check(res *ossdl.PrefixResult, want ...ossdl.ObjectResult) {
	s.t.Helper()
	s.over.Store(true)
	var sum ossdl.PrefixResult
	for _, r := range s.byKey {
		switch r.Status {
		case ossdl.ObjectDone, ossdl.ObjectFolder:
			sum.Done++
		case ossdl.ObjectSkipped:
			sum.Skipped++
		case ossdl.ObjectFailed:
			sum.Failed++
		}
		if r.Status == ossdl.ObjectDone && !r.Verified {
			sum.Unverified++
		}
		sum.Requests += r.Requests
		sum.Retries += r.Retries
		sum.ResumedBytes += r.ResumedBytes
		sum.DownloadedBytes += r.DownloadedBytes
	}
	sum.Requests++ // the listing
	got := ossdl.PrefixResult{
		Done: res.Done, Skipped: res.Skipped, Failed: res.Failed, Unverified: res.Unverified,
		Requests: res.Requests, Retries: res.Retries, ResumedBytes: res.ResumedBytes, DownloadedBytes: res.DownloadedBytes,
	}
	if !reflect.DeepEqual(got, sum) {
		s.t.Errorf("the result is\n\t%+v\nand the sum of the objects\n\t%+v", got, sum)
	}
	for _, w := range want {
		r := s.byKey[w.Key]
		sameError := errors.Is(r.Err, w.Err) || r.Err != nil && w.Err != nil && r.Err.Error() == w.Err.Error()
		if !sameError || !r.LastModified.Equal(w.LastModified) {
			s.t.Errorf("%q: error %v, time %v; want %v, %v", w.Key, r.Err, r.LastModified, w.Err, w.LastModified)
		}
		r.Err, w.Err, r.LastModified, w.LastModified = nil, nil, time.Time{}, time.Time{}
		if r != w {
			s.t.Errorf("got\n\t%+v\nwant\n\t%+v", r, w)
		}
	}
	if len(s.byKey) != len(want) {
		s.t.Errorf("%d objects were reported, want %d: %v", len(s.byKey), len(want), slices.Sorted(maps.Keys(s.byKey)))
	}
}

// TestPrefixObjectResults checks what is reported of each object: when it is downloaded, resumed, compared, skipped or
// failed, or is a folder, and that nothing is reported of keys that are left out. The result has the same sums.
func TestPrefixObjectResults(t *testing.T) {
	const part, large = harness.PartSize, 5 * harness.PartSize
	s := harness.NewServer(t)
	put := func(i int, key string, size int64, opts ...osstest.ObjectOption) *osstest.Object {
		when := time.Unix(1_600_000_000+int64(i)*1000, 0)
		return s.Put("bkt", key, osstest.Random(uint64(i), size), append(opts, osstest.LastModified(when))...)
	}
	a, nocrc, frozen := put(1, "p/a", 10), put(2, "p/d/nocrc", 20, osstest.NoCRC()), put(3, "p/frozen", 30, osstest.Archived(""))
	up, folder := put(4, "p/../up", 40), put(5, "p/folder/", 0)
	put(6, "p/left.out", 50)
	s.Once(func(r *osstest.Request) bool { return r.Key == "p/a" }, osstest.Error(503, "ServiceUnavailable"))
	var log harness.Records
	d := harness.NewDownloader(t, s, ossdl.WithExclude("*.out"), ossdl.WithLogger(log.Logger()), ossdl.WithPartSize(part), ossdl.WithConcurrency(1),
		ossdl.WithRetry(ossdl.RetryPolicy{MinDelay: time.Microsecond, MaxDelay: time.Microsecond}))
	dir := t.TempDir()
	of := func(status ossdl.ObjectStatus, o *osstest.Object, requests int) ossdl.ObjectResult {
		name := strings.TrimPrefix(o.Key, "p/")
		r := ossdl.ObjectResult{
			Status: status, Key: o.Key, Name: name, Path: filepath.Join(dir, filepath.FromSlash(name)), ETag: o.ETag, Size: o.Size(),
			LastModified: o.LastModified, Durable: status != ossdl.ObjectFailed, Requests: requests,
		}
		if status == ossdl.ObjectDone {
			r.CRC64, r.Verified, r.DownloadedBytes = o.CRC64(), o.CRC != "", o.Size()
		}
		return r
	}
	archived := of(ossdl.ObjectFailed, frozen, 1)
	archived.Err = ossdl.ErrArchived
	record := &settledObjects{t: t}
	run := func(opts ...ossdl.Option) *ossdl.PrefixResult {
		t.Helper()
		res, err := d.DownloadPrefix(t.Context(), "bkt", "p/", dir, append(opts, record.option())...)
		if res == nil || !errors.Is(err, ossdl.ErrArchived) && res.Failed > 0 && !strings.Contains(err.Error(), "..") {
			t.Fatalf("%+v, %v", res, err)
		}
		return res
	}

	res := run()
	retried := of(ossdl.ObjectDone, a, 2)
	retried.Retries = 1
	refused := record.byKey[up.Key]
	if refused.Status != ossdl.ObjectFailed || refused.Name != "" || refused.Path != "" || refused.Err == nil || refused.Requests != 0 {
		t.Errorf("a key without a name: %+v", refused)
	}
	record.check(res, retried, of(ossdl.ObjectDone, nocrc, 1), archived, of(ossdl.ObjectFolder, folder, 0), refused)
	if res.Unverified != 1 || res.Retries != 1 {
		t.Errorf("%+v", res)
	}
	const warning = `level=WARN msg="object not verified: there is no checksum to compare with" bucket=bkt key=`
	if logged := log.String(); strings.Count(logged, warning) != 1 || !strings.Contains(logged, warning+"p/d/nocrc\n") {
		t.Errorf("no warning of p/d/nocrc alone in\n%s", logged)
	}
	for key := range record.byKey {
		if n := strings.Count(log.String(), `level=DEBUG msg="object settled" bucket=bkt object.status=`+string(record.byKey[key].Status)+" object.key="+key+" "); n != 1 {
			t.Errorf("%d lines of %s at level debug", n, key)
		}
	}

	// An object that is cut off is not reported.
	big := put(7, "p/big", large)
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Key == big.Key {
			if n++; n == 3 {
				return osstest.Inject().Before(cancel).HoldHeaders(nil)
			}
		}
		return nil
	})
	opt := record.option()
	cut, err := d.DownloadPrefix(ctx, "bkt", "p/", dir, opt)
	if !errors.Is(err, context.Canceled) || cut == nil || len(record.byKey) != cut.Done+cut.Skipped+cut.Failed || record.byKey[big.Key].Key != "" {
		t.Errorf("interrupted: %+v, %v, and %d reports with %+v", cut, err, len(record.byKey), record.byKey[big.Key])
	}
	if cut.DownloadedBytes != 2*part {
		t.Errorf("interrupted: %+v", cut)
	}
	s.ClearFaults()

	// Compared by CRC-64, with a HEAD each. What the first call kept of the large object is not fetched again.
	res = run(ossdl.WithCompareCRC64())
	same := of(ossdl.ObjectSkipped, a, 1)
	same.CRC64, same.Verified = a.CRC64(), true
	resumed := of(ossdl.ObjectDone, big, 3)
	resumed.ResumedBytes, resumed.DownloadedBytes = 2*part, 3*part
	record.check(res, same, of(ossdl.ObjectSkipped, nocrc, 1), archived, of(ossdl.ObjectSkipped, folder, 0), refused, resumed)

	// By time, without a request.
	res = run()
	record.check(res, of(ossdl.ObjectSkipped, a, 0), of(ossdl.ObjectSkipped, nocrc, 0), archived, of(ossdl.ObjectSkipped, folder, 0), refused, of(ossdl.ObjectSkipped, big, 0))
}

// TestPrefixObjectResultsOneByOne checks that a slow function keeps others waiting, rather than being called at the same time.
func TestPrefixObjectResultsOneByOne(t *testing.T) {
	s := harness.NewServer(t)
	sizes := map[string]int64{}
	for i := range 200 {
		sizes[fmt.Sprintf("k%03d", i)] = int64(i)
	}
	harness.Put(s, sizes)
	var others sync.WaitGroup // that were asked for while the first is being reported
	others.Add(20)
	n := 0
	s.OnRequest(func(*osstest.Request) *osstest.Fault {
		if n++; n <= 20 {
			return osstest.Inject().Then(others.Done)
		}
		return nil
	})
	record := &settledObjects{t: t}
	record.during = sync.OnceFunc(others.Wait)
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), record.option())
	harness.CheckCounts(t, res, err, 200, 0, 0)
	if len(record.byKey) != 200 {
		t.Errorf("%d objects were reported", len(record.byKey))
	}
}

// TestPrefixObjectResultsEndWithTheContext checks that a function that cancels the call has been told of all that is counted.
func TestPrefixObjectResultsEndWithTheContext(t *testing.T) {
	s := harness.NewServer(t)
	sizes := map[string]int64{}
	const n = 1000 // more than two batches and what is in flight
	for i := range n {
		sizes[fmt.Sprintf("k%03d", i)] = int64(i)
	}
	harness.Put(s, sizes)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	told := 0
	res, err := harness.NewDownloader(t, s).DownloadPrefix(ctx, "bkt", "", t.TempDir(), ossdl.WithObjectResult(func(ossdl.ObjectResult) {
		if told++; told == 20 {
			cancel()
		}
	}))
	if !errors.Is(err, context.Canceled) || res == nil || told != res.Done+res.Skipped+res.Failed || told < 20 || told == n {
		t.Errorf("%d were told; %+v, %v", told, res, err)
	}
}

// TestPrefixKeyRanges checks that ranges cover all keys once, whatever their bounds are, and that only the part of a range is
// listed: the page in which it ends is the last one that is asked for.
func TestPrefixKeyRanges(t *testing.T) {
	const n = 5000
	for name, auth := range map[string]oss.AuthVersionType{"V1": oss.AuthV1, "V4": oss.AuthV4} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewServer(t)
			s.SetVirtual("bkt", n, func(i int) (string, osstest.Content) { return fmt.Sprintf("p/k %04d+", i), osstest.Bytes(nil) })
			hc := ossdl.HTTPClient()
			t.Cleanup(hc.CloseIdleConnections)
			client, err := s.Client(oss.HTTPClient(hc), oss.AuthVersion(auth), oss.Region("cn-hangzhou"))
			if err != nil {
				t.Fatal(err)
			}
			d, err := ossdl.New(client)
			if err != nil {
				t.Fatal(err)
			}
			seen := map[string]bool{}
			for _, c := range []struct {
				after, until string
				keys, lists  int
			}{
				{"", "p/k 0", 0, 1}, {"p/k 0", "p/k 0009+", 10, 1}, {"p/k 0009+", "p/k 0010", 0, 1}, {"p/k 0010", "p/k 2500+", 2491, 3},
				{"p/k 2500+", "p/k 4999", 2498, 3}, {"p/k 4999", "", 1, 1}, {"q", "", 0, 1}, {"", "o", 0, 1},
			} {
				s.ResetLog()
				res, err := d.DownloadPrefix(t.Context(), "bkt", "p/", t.TempDir(), ossdl.WithKeyRange(c.after, c.until), ossdl.WithDryRun(),
					ossdl.WithObjectResult(func(r ossdl.ObjectResult) {
						if seen[r.Key] {
							t.Errorf("%q is in two ranges", r.Key)
						}
						seen[r.Key] = true
					}))
				harness.CheckCounts(t, res, err, c.keys, 0, 0)
				if got := len(s.Requests()); got != c.lists {
					t.Errorf("%q to %q: %d listings, want %d", c.after, c.until, got, c.lists)
				}
			}
			if len(seen) != n {
				t.Errorf("%d keys in all ranges, want %d", len(seen), n)
			}
		})
	}
}

// TestPrefixKeyRangeIgnored checks that a server that lists keys before the range is an error, and none of them is fetched.
func TestPrefixKeyRangeIgnored(t *testing.T) {
	s := harness.NewServer(t)
	s.OnList(func(*osstest.Request) *osstest.Fault {
		return osstest.Inject().Reply(200, "application/xml", "<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents></ListBucketResult>")
	})
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), ossdl.WithKeyRange("a", ""))
	if res == nil || res.Done+res.Failed != 0 || err == nil || !strings.Contains(err.Error(), `"a" comes after "a"`) {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestPrefixKeyRangesClash checks that of a key that is a file and one that needs it as a folder, in two ranges, the later
// one fails with an error that names what is in its way, whichever it is.
func TestPrefixKeyRangesClash(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 5, "a/b": 6})
	d := harness.NewDownloader(t, s)
	first, second := ossdl.WithKeyRange("", "a"), ossdl.WithKeyRange("a", "")
	for _, c := range []struct {
		ranges []ossdl.Option
		want   harness.Contents
		says   string
	}{
		{[]ossdl.Option{first, second}, harness.Contents{"a": all["a"]}, "a is not a folder"},
		{[]ossdl.Option{second, first}, harness.Contents{"a/b": all["a/b"]}, "a is not a regular file"},
	} {
		dir := t.TempDir()
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, c.ranges[0])
		harness.CheckCounts(t, res, err, 1, 0, 0)
		res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, c.ranges[1])
		harness.CheckCounts(t, res, err, 0, 0, 1)
		if !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v, want %q", err, c.says)
		}
		harness.CheckTree(t, dir, c.want)
	}
	if res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), first, ossdl.WithDelete(1)); res != nil || err == nil ||
		!strings.Contains(err.Error(), "WithDelete and WithKeyRange") {
		t.Errorf("a range as a mirror: %+v, %v", res, err)
	}
}
