package ossdl_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// wireOf returns method and key of the requests, sorted.
func wireOf(s *osstest.Server) (lines []string) {
	for _, r := range s.Requests() {
		lines = append(lines, r.Method+" "+r.Key)
	}
	slices.Sort(lines)
	return lines
}

// TestObjectsBrings checks that the objects of a list in any order get their names, contents and times, without a listing,
// and that nothing is fetched again.
func TestObjectsBrings(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"b/empty": 0, "a": 1, "b/deep/er": 100, "large": 20<<20 + 7, "dir/": 0, "not/in/the/list": 3})
	d := harness.NewDownloader(t, s)
	dir := filepath.Join(t.TempDir(), "made", "as", "needed")
	list := harness.List(
		ossdl.Object{Key: "large"}, ossdl.Object{Key: "b/empty"}, ossdl.Object{Key: "dir/"}, ossdl.Object{Key: "a", Name: "c/renamed"},
		ossdl.Object{Key: "b/deep/er", Size: 100, CRC64: all["b/deep/er"].CRC64(), ETag: s.Stat("bkt", "b/deep/er").ETag, LastModified: s.Stat("bkt", "b/deep/er").LastModified},
	)
	p := &harness.ProgressRecorder{T: t}
	res, err := d.DownloadObjects(t.Context(), "bkt", list, dir, ossdl.WithProgress(p.AddOfMany))
	harness.CheckCounts(t, res, err, 5, 0, 0)
	want := harness.Contents{"large": all["large"], "b/empty": all["b/empty"], "c/renamed": all["a"], "b/deep/er": all["b/deep/er"]}
	harness.CheckTree(t, dir, want)
	for name, key := range map[string]string{"c/renamed": "a", "large": "large"} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if o := s.Stat("bkt", key); err != nil || !fi.ModTime().Equal(o.LastModified) {
			t.Errorf("%s: time %v, want %v, %v", key, fi.ModTime(), o.LastModified, err)
		}
	}
	if fi, err := os.Stat(filepath.Join(dir, "dir")); err != nil || !fi.IsDir() {
		t.Errorf("no folder for a key that ends in a slash: %v", err)
	}
	const total = 20<<20 + 7 + 101
	if last := p.Last(); res.Bytes != total || last.Total != total || last.Done != total {
		t.Errorf("%d bytes, %+v", res.Bytes, last)
	}
	for _, r := range s.Requests() {
		if r.Key == "" {
			t.Errorf("a listing: %s", r.Query)
		}
	}

	// What is known of the one object is enough to see that its file is there. Of the others the service is asked.
	s.ResetLog()
	p = &harness.ProgressRecorder{T: t}
	res, err = d.DownloadObjects(t.Context(), "bkt", list, dir, ossdl.WithProgress(p.AddOfMany))
	harness.CheckCounts(t, res, err, 0, 5, 0)
	harness.SameLines(t, wireOf(s), "HEAD a", "HEAD b/empty", "HEAD dir/", "HEAD large")
	if last := p.Last(); last.Total != total || last.Done != total || last.Resumed != total {
		t.Errorf("%+v", last)
	}
	harness.CheckTree(t, dir, want)
}

// TestObjectsSkipped checks what decides whether a file is there already, and the requests that it costs.
func TestObjectsSkipped(t *testing.T) {
	const key = "k"
	when := time.Unix(1_600_000_000, 0)
	content := osstest.Random(1, 1000)
	other := string(harness.Bytes(t, osstest.Random(2, 1000)))
	for name, c := range map[string]struct {
		give func(*ossdl.Object)
		opts []ossdl.Option
		// What is on disk: content or not, its time or another.
		same, sameTime bool
		wire           string // "" none
	}{
		"size and time":                      {func(o *ossdl.Object) { o.CRC64 = 0 }, nil, true, true, ""},
		"size and time, touched":             {func(o *ossdl.Object) { o.CRC64 = 0 }, nil, true, false, "GET"},
		"all, touched":                       {nil, nil, true, false, ""},
		"all, touched and other":             {nil, nil, false, false, "GET"},
		"all, other, compared":               {nil, []ossdl.Option{ossdl.WithCompareCRC64()}, false, true, "GET"},
		"all, compared":                      {nil, []ossdl.Option{ossdl.WithCompareCRC64()}, true, true, ""},
		"CRC-64":                             {func(o *ossdl.Object) { o.Size, o.LastModified = 0, time.Time{} }, nil, true, false, ""},
		"CRC-64, other":                      {func(o *ossdl.Object) { o.Size, o.LastModified = 0, time.Time{} }, nil, false, true, "GET"},
		"another size":                       {func(o *ossdl.Object) { o.Size, o.ETag, o.CRC64 = 999, "", 0 }, nil, true, true, "GET"},
		"size":                               {func(o *ossdl.Object) { o.CRC64, o.LastModified = 0, time.Time{} }, nil, true, true, "HEAD"},
		"size, touched":                      {func(o *ossdl.Object) { o.CRC64, o.LastModified = 0, time.Time{} }, nil, true, false, "GET HEAD"},
		"time":                               {func(o *ossdl.Object) { o.CRC64, o.Size = 0, 0 }, nil, true, true, "HEAD"},
		"nothing":                            {func(o *ossdl.Object) { *o = ossdl.Object{Key: key} }, nil, true, true, "HEAD"},
		"nothing, touched":                   {func(o *ossdl.Object) { *o = ossdl.Object{Key: key} }, nil, true, false, "GET HEAD"},
		"nothing, touched, compared":         {func(o *ossdl.Object) { *o = ossdl.Object{Key: key} }, []ossdl.Option{ossdl.WithCompareCRC64()}, true, false, "HEAD"},
		"nothing, other, compared by CRC-64": {func(o *ossdl.Object) { *o = ossdl.Object{Key: key} }, []ossdl.Option{ossdl.WithCompareCRC64()}, false, true, "GET HEAD"},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewServer(t)
			put := s.Put("bkt", key, content, osstest.LastModified(when))
			o := ossdl.Object{Key: key, Size: 1000, CRC64: content.CRC64(), ETag: put.ETag, LastModified: when}
			if c.give != nil {
				c.give(&o)
			}
			dir := t.TempDir()
			path := filepath.Join(dir, key)
			text := other
			if c.same {
				text = string(harness.Bytes(t, content))
			}
			harness.WriteFile(t, path, text)
			at := when
			if !c.sameTime {
				at = when.Add(time.Hour)
			}
			if err := os.Chtimes(path, time.Time{}, at); err != nil {
				t.Fatal(err)
			}
			record := &settledObjects{t: t}
			res, err := harness.NewDownloader(t, s).DownloadObjects(t.Context(), "bkt", harness.List(o), dir, append(c.opts, record.option())...)
			if strings.HasPrefix(name, "another size") {
				harness.CheckCounts(t, res, err, 0, 0, 1)
				if !errors.Is(err, ossdl.ErrObjectChanged) {
					t.Error(err)
				}
				return
			}
			if err != nil || res.Done+res.Skipped != 1 || (res.Done == 1) != strings.Contains(c.wire, "GET") {
				t.Errorf("%+v, %v", res, err)
			}
			var methods []string
			for _, r := range s.Requests() {
				methods = append(methods, r.Method)
			}
			slices.Sort(methods)
			if got := strings.Join(methods, " "); got != c.wire {
				t.Errorf("requests %q, want %q", got, c.wire)
			}
			if got := record.byKey[key]; got.Size != 1000 || got.Requests != len(methods) || got.CRC64 != 0 && (got.CRC64 != content.CRC64() || !got.Verified) {
				t.Errorf("%+v", got)
			}
			harness.CheckFile(t, path, map[bool]osstest.Content{true: content, false: osstest.Bytes([]byte(other))}[c.same || res.Done == 1])
		})
	}
}

// TestObjectsThatAreNotAsListed checks that an object is not downloaded if its ETag, size or CRC-64 is not as the list says,
// and that the file that is there stays.
func TestObjectsThatAreNotAsListed(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 3<<20)
	put := s.Put("bkt", "k", content)
	bare := s.Put("bkt", "nocrc", content, osstest.NoCRC())
	right := content.CRC64()
	d := harness.NewDownloader(t, s, ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 2, MinDelay: time.Microsecond, MaxDelay: time.Microsecond}))
	unquoted := strings.Trim(put.ETag, `"`)
	for name, c := range map[string]struct {
		o        ossdl.Object
		want     error // nil: it is downloaded
		says     string
		verified bool
		bytes    int64 // read from the network
	}{
		"as it is":                {ossdl.Object{Key: "k", Size: 3 << 20, ETag: put.ETag, CRC64: right}, nil, "", true, 3 << 20},
		"ETag without quotes":     {ossdl.Object{Key: "k", ETag: unquoted}, nil, "", true, 3 << 20},
		"another ETag":            {ossdl.Object{Key: "k", ETag: `"0123"`}, ossdl.ErrObjectChanged, "0123", false, 0},
		"another size":            {ossdl.Object{Key: "k", Size: 3<<20 + 1}, ossdl.ErrObjectChanged, "size 3145728, wanted 3145729", false, 0},
		"another CRC-64":          {ossdl.Object{Key: "k", CRC64: right + 1}, ossdl.ErrChecksum, fmt.Sprint("wanted ", right+1), false, 0},
		"CRC-64 that OSS has not": {ossdl.Object{Key: "nocrc", CRC64: right}, nil, "", true, 3 << 20},
		"neither has one":         {ossdl.Object{Key: "nocrc", ETag: bare.ETag}, nil, "", false, 3 << 20},
		"another than OSS's none": {ossdl.Object{Key: "nocrc", CRC64: right + 1}, ossdl.ErrChecksum, fmt.Sprint("want ", right+1), false, 6 << 20},
		"weak ETag":               {ossdl.Object{Key: "k", ETag: `W/"0123"`}, nil, "strong", false, 0},
		"negative size":           {ossdl.Object{Key: "k", Size: -1}, nil, "negative", false, 0},
		"no key":                  {ossdl.Object{Name: "x"}, nil, "1 to 1023 bytes", false, 0},
		"key that is too long":    {ossdl.Object{Key: strings.Repeat("x", 1024), Name: "x"}, nil, "1 to 1023 bytes", false, 0},
		"no such key":             {ossdl.Object{Key: "none"}, ossdl.ErrNotFound, "", false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.o.Name = "name"
			path := filepath.Join(dir, "name")
			harness.WriteFile(t, path, "old")
			if err := os.Chtimes(path, time.Time{}, time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
			s.ResetLog()
			record := &settledObjects{t: t}
			res, err := d.DownloadObjects(t.Context(), "bkt", harness.List(c.o), dir, record.option())
			if c.want == nil && c.says == "" {
				harness.CheckCounts(t, res, err, 1, 0, 0)
				harness.CheckTree(t, dir, harness.Contents{"name": content})
				if got := record.byKey[c.o.Key]; got.Verified != c.verified || got.CRC64 != right || res.Unverified == 1 == c.verified {
					t.Errorf("%+v, %+v", got, res)
				}
			} else {
				harness.CheckCounts(t, res, err, 0, 0, 1)
				if c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v, want %v with %q", err, c.want, c.says)
				}
				harness.CheckTree(t, dir, harness.Contents{"name": osstest.Bytes([]byte("old"))})
			}
			if n := record.byKey[c.o.Key].DownloadedBytes; n != c.bytes {
				t.Errorf("%d bytes were read, want %d", n, c.bytes)
			}
		})
	}
}

// TestObjectsOfVersions checks that a version is pinned, for the HEAD of a file that is there as well.
func TestObjectsOfVersions(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("ver", osstest.Versioning(osstest.Enabled))
	contents := harness.Contents{}
	var list []ossdl.Object
	for i := range 3 {
		name := fmt.Sprint("v", i)
		contents[name] = osstest.Random(uint64(i), 1000)
		list = append(list, ossdl.Object{Key: "k", VersionID: s.Put("ver", "k", contents[name]).VersionID, Name: name})
	}
	d := harness.NewDownloader(t, s)
	dir := t.TempDir()
	res, err := d.DownloadObjects(t.Context(), "ver", harness.List(list...), dir)
	harness.CheckCounts(t, res, err, 3, 0, 0)
	harness.CheckTree(t, dir, contents)
	s.ResetLog()
	var versions []string
	res, err = d.DownloadObjects(t.Context(), "ver", harness.List(list...), dir, ossdl.WithCompareCRC64(), ossdl.WithObjectResult(func(r ossdl.ObjectResult) {
		versions = append(versions, r.VersionID)
	}))
	harness.CheckCounts(t, res, err, 0, 3, 0)
	slices.Sort(versions)
	want := []string{list[0].VersionID, list[1].VersionID, list[2].VersionID}
	slices.Sort(want)
	if !slices.Equal(versions, want) {
		t.Errorf("versions %q, want %q", versions, want)
	}
}

// TestObjectsCollide checks that of two names that cannot both be files the later one fails, in any order, without a request.
func TestObjectsCollide(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a": 1, "a/b": 1, "x": 1, "y/": 0, "y": 1, "y/z": 1, "A": 1})
	for name, c := range map[string]struct {
		keys []string // each with a name, if there is one behind =
		done int
		says string
	}{
		"twins":                   {[]string{"x", "x"}, 1, "an earlier object has the same name"},
		"twins of two keys":       {[]string{"x", "a=x"}, 1, "an earlier object has the same name"},
		"file, and then below it": {[]string{"a", "a/b"}, 1, "below the file of an earlier object"},
		"folder, and then a file": {[]string{"a/b", "a"}, 1, "a folder that earlier objects need"},
		"file, and a folder":      {[]string{"y", "y/"}, 1, "an earlier object has the same name"},
		"folder, and the file":    {[]string{"y/", "y"}, 1, "a folder that earlier objects need"},
		"deep":                    {[]string{"x=p/q/r/s", "a=p/q"}, 1, "a folder that earlier objects need"},
		"folder twice":            {[]string{"y/", "y/z", "y/"}, 3, ""},
		"out":                     {[]string{"x=../x"}, 0, `".."`},
		"absolute":                {[]string{"x=/x"}, 0, "empty"},
		"working files":           {[]string{"x=.ossdl/x"}, 0, "reserved"},
		"NUL":                     {[]string{"x=a\x00b"}, 0, "NUL"},
		"no UTF-8":                {[]string{"x=\xff"}, 0, "UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			var list []ossdl.Object
			for _, o := range c.keys {
				key, name, _ := strings.Cut(o, "=")
				list = append(list, ossdl.Object{Key: key, Name: name})
			}
			s.ResetLog()
			res, err := harness.NewDownloader(t, s).DownloadObjects(t.Context(), "bkt", harness.List(list...), t.TempDir())
			failed := 1
			if c.says == "" {
				failed = 0
			}
			if res == nil || res.Done+res.Skipped != c.done || res.Failed != failed {
				t.Fatalf("%+v, %v", res, err)
			}
			if failed > 0 && (!strings.Contains(err.Error(), c.says) || res.Failures[0].Key != list[len(list)-1].Key) {
				t.Errorf("%v, want %q of the last", err, c.says)
			}
		})
	}
}

// TestObjectsVersionOfHEAD checks that an answer about another version, as that of a cache that drops the parameter, does not make
// a file count as there.
func TestObjectsVersionOfHEAD(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("ver", osstest.Versioning(osstest.Enabled))
	first := s.Put("ver", "k", osstest.Random(1, 500)).VersionID
	second := s.Put("ver", "k", osstest.Random(2, 500)).VersionID
	d, dir := harness.NewDownloader(t, s), t.TempDir()
	if _, err := d.DownloadObjects(t.Context(), "ver", harness.List(ossdl.Object{Key: "k"}), dir); err != nil {
		t.Fatal(err)
	}
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Method != http.MethodHead {
			return nil
		}
		return osstest.Inject().Header("X-Oss-Version-Id", second).Header("Last-Modified", s.Stat("ver", "k").LastModified.UTC().Format(http.TimeFormat))
	})
	res, err := d.DownloadObjects(t.Context(), "ver", harness.List(ossdl.Object{Key: "k", VersionID: first}), dir)
	if res == nil || res.Failed != 1 || !errors.Is(err, ossdl.ErrObjectChanged) {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestObjectsCollideByCase checks the same for names that differ by case, in a folder that folds them.
func TestObjectsCollideByCase(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a/b": 1, "A": 1})
	folding := harness.WithFolderFS(func(r *fsys.Root) fsys.FS { return foldFS{fsys.Rooted(r), nil} })
	res, err := harness.NewDownloader(t, s).DownloadObjects(t.Context(), "bkt", harness.List(ossdl.Object{Key: "a/b"}, ossdl.Object{Key: "A"}), t.TempDir(), folding)
	if res == nil || res.Done != 1 || res.Failed != 1 || !strings.Contains(err.Error(), "case-insensitive") {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestObjectsListBreaksOff checks that an error of the list ends the call after what was yielded, and that nothing is asked
// of the list any more.
func TestObjectsListBreaksOff(t *testing.T) {
	s := harness.NewServer(t)
	sizes := map[string]int64{}
	for i := range 100 {
		sizes[fmt.Sprintf("k%02d", i)] = 10
	}
	all := harness.Put(s, sizes)
	broken := errors.New("the database is gone")
	dir := t.TempDir()
	list := func(yield func(ossdl.Object, error) bool) {
		for i := range 100 {
			if !yield(ossdl.Object{Key: fmt.Sprintf("k%02d", i)}, nil) {
				t.Error("the list is stopped")
				return
			}
		}
		if yield(ossdl.Object{Key: "not/this"}, broken) {
			t.Error("more is wanted")
		}
	}
	res, err := harness.NewDownloader(t, s).DownloadObjects(t.Context(), "bkt", list, dir)
	if res == nil || res.Done != 100 || !errors.Is(err, broken) || !errors.Is(res.Listing, broken) || !strings.Contains(err.Error(), "list of objects: ") {
		t.Errorf("%+v, %v", res, err)
	}
	harness.CheckTree(t, dir, all)
}

// TestObjectsEmptyList checks that a list without objects is no error and has a result.
func TestObjectsEmptyList(t *testing.T) {
	s := harness.NewServer(t)
	res, err := harness.NewDownloader(t, s).DownloadObjects(t.Context(), "bkt", harness.List(), t.TempDir())
	harness.CheckCounts(t, res, err, 0, 0, 0)
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
	if _, err := harness.NewDownloader(t, s).DownloadObjects(t.Context(), "bkt", nil, t.TempDir()); err == nil || !strings.Contains(err.Error(), "nil list") {
		t.Errorf("no list: %v", err)
	}
}

// endless yields keys for ever. It fails the test if it is asked from two goroutines at once, or after over.
func endless(t *testing.T, over *atomic.Bool, each func(i int)) iter.Seq2[ossdl.Object, error] {
	var asked atomic.Int32
	return func(yield func(ossdl.Object, error) bool) {
		for i := range 10_000 { // enough to stand for no end
			if asked.Add(1) != 1 || over.Load() {
				t.Error("the list is read in two goroutines, or after the call")
			}
			each(i)
			asked.Add(-1)
			if !yield(ossdl.Object{Key: fmt.Sprint("k", i)}, nil) {
				return
			}
		}
	}
}

// TestObjectsEndWithTheContext checks that a list without end is read no further once the context is done.
func TestObjectsEndWithTheContext(t *testing.T) {
	s := harness.NewServer(t)
	s.SetVirtual("bkt", 1_000_000, func(i int) (string, osstest.Content) { return fmt.Sprintf("k%06d", i), osstest.Bytes(nil) })
	for name, opts := range map[string][]ossdl.Option{"objects are wanted": nil, "none is": {ossdl.WithExclude("*")}} {
		var over atomic.Bool
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		read := 0
		list := endless(t, &over, func(i int) {
			if read = i; i == 500 {
				cancel()
			}
		})
		res, err := harness.NewDownloader(t, s).DownloadObjects(ctx, "bkt", list, t.TempDir(), opts...)
		over.Store(true)
		if !errors.Is(err, context.Canceled) || (res == nil) != (opts != nil) || read != 500 {
			t.Errorf("%s: %+v, %v, %d objects read", name, res, err, read)
		}
	}
}

// TestObjectsListPanics checks that a panic of the list is raised once nothing of the call is left.
func TestObjectsListPanics(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"k0": 10, "k1": 10})
	planned := errors.New("planned")
	var over atomic.Bool
	list := endless(t, &over, func(i int) {
		if i == 2 {
			panic(planned)
		}
	})
	func() {
		defer func() {
			if v, ok := recover().(error); !ok || !errors.Is(v, planned) {
				t.Errorf("raised %v", v)
			}
		}()
		_, err := harness.NewDownloader(t, s).DownloadObjects(t.Context(), "bkt", list, t.TempDir())
		t.Errorf("returned %v", err)
	}()
	over.Store(true)
}

// TestObjectsShardsAndFilters checks that patterns are compared with local names and shards with keys.
func TestObjectsShardsAndFilters(t *testing.T) {
	s := harness.NewServer(t)
	var list []ossdl.Object
	sizes := map[string]int64{}
	for i := range 60 {
		key := fmt.Sprintf("k%02d", i)
		sizes[key] = 5
		list = append(list, ossdl.Object{Key: key, Name: fmt.Sprintf("d/n%02d.%s", i, [2]string{"txt", "log"}[i%2])})
	}
	harness.Put(s, sizes)
	dir := t.TempDir()
	done := 0
	for i := range 3 {
		res, err := harness.NewDownloader(t, s).DownloadObjects(t.Context(), "bkt", harness.List(list...), dir, ossdl.WithShard(i, 3), ossdl.WithInclude("d/*.txt"), ossdl.WithExclude("n00.*"))
		if err != nil || res.Skipped > 0 || res.Done == 0 {
			t.Errorf("%+v, %v", res, err)
		}
		done += res.Done
	}
	if done != 29 || harness.Exists(filepath.Join(dir, "d", "n00.txt")) || !harness.Exists(filepath.Join(dir, "d", "n58.txt")) {
		t.Errorf("%d done", done)
	}
}
