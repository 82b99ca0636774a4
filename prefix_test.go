package ossdl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/osstest"
	"github.com/ossdl/ossdl/internal/testhook"
)

// contents are objects by key, or files by local name.
type contents map[string]osstest.Content

// put stores random objects of these sizes, all of a different time.
func put(s *osstest.Server, sizes map[string]int64) contents {
	all := contents{}
	for i, key := range slices.Sorted(maps.Keys(sizes)) {
		all[key] = osstest.Random(uint64(i), sizes[key])
		s.Put("bkt", key, all[key], osstest.LastModified(time.Unix(1_600_000_000+int64(i)*1000, 0)))
	}
	return all
}

// checkTree fails the test unless below dir there are these files, with these contents, and nothing else but folders.
func checkTree(t testing.TB, dir string, want contents) {
	t.Helper()
	var got []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() && e.Name() != WorkDir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		got = append(got, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if names := slices.Sorted(maps.Keys(want)); !slices.Equal(got, names) {
		t.Fatalf("%s holds %q, want %q", dir, got, names)
	}
	for name, c := range want {
		checkFile(t, filepath.Join(dir, filepath.FromSlash(name)), c)
	}
}

// counts fails the test unless the result is this one.
func counts(t testing.TB, res *PrefixResult, err error, done, skipped, failed int) {
	t.Helper()
	if res == nil {
		t.Fatalf("no result, %v", err)
	}
	if res.Done != done || res.Skipped != skipped || res.Failed != failed || len(res.Failures) != failed || (err != nil) != (failed > 0) {
		t.Fatalf("%+v, %v; want %d done, %d skipped, %d failed", *res, err, done, skipped, failed)
	}
}

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

func within(f func(*os.Root) fsys.FS) Option {
	return testhook.FolderFileSystem.(func(func(*os.Root) fsys.FS) Option)(f)
}

func TestPrefixBrings(t *testing.T) {
	for name, opts := range map[string][]oss.ClientOption{"V1": {oss.AuthVersion(oss.AuthV1)}, "V4": {oss.AuthVersion(oss.AuthV4)}} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			hc := HTTPClient()
			defer hc.CloseIdleConnections()
			client, err := s.Client(append(opts, oss.HTTPClient(hc))...)
			if err != nil {
				t.Fatal(err)
			}
			d, err := New(client)
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
			all := put(s, sizes)
			dir := filepath.Join(t.TempDir(), "made", "as", "needed")
			res, err := d.DownloadPrefix(t.Context(), "bkt", "p/", dir)
			counts(t, res, err, 6, 0, 0)
			if want := sizes["p/large"] + 1 + 100 + 5; res.Bytes != want {
				t.Errorf("%d bytes, want %d", res.Bytes, want)
			}
			want := contents{}
			for key, c := range all {
				if name, ok := strings.CutPrefix(key, "p/"); ok && !strings.HasSuffix(key, "/") {
					want[name] = c
					fi, err := os.Stat(filepath.Join(dir, name))
					if o := s.Stat("bkt", key); err != nil || !fi.ModTime().Equal(o.LastModified) {
						t.Errorf("%s: time %v, want %v, %v", key, fi.ModTime(), o.LastModified, err)
					}
				}
			}
			checkTree(t, dir, want)
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
			counts(t, res, err, 0, 6, 0)
			if n := s.Stats().Requests; n != 1 {
				t.Errorf("%d requests where nothing is left to do, want the listing alone", n)
			}
			checkTree(t, dir, want)
		})
	}
}

func TestPrefixLocalNames(t *testing.T) {
	s := newServer(t)
	put(s, map[string]int64{"a/b": 1, "a/bc/d": 2, "a/b/e": 3, "ab": 4})
	d := newDownloader(t, s)
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
			if !exists(filepath.Join(dir, name)) {
				t.Errorf("prefix %q: no %s", prefix, name)
			}
		}
	}
}

// A second run fetches what is missing, differs in size or time, or was replaced, and nothing else.
func TestPrefixDoesOnlyWhatIsLeft(t *testing.T) {
	s := newServer(t)
	all := put(s, map[string]int64{"a": 10, "b": 10, "c": 10, "d": 10, "e": 10, "f": 0})
	d := newDownloader(t, s)
	dir := t.TempDir()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 6, 0, 0)

	all["b"] = osstest.Random(100, 10) // same size, another time
	s.Put("bkt", "b", all["b"])
	if err := os.Remove(filepath.Join(dir, "c")); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "d"), "longer than it was")
	if err := os.Chtimes(filepath.Join(dir, "d"), time.Time{}, s.Stat("bkt", "d").LastModified); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(dir, "e"), time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "mine"), "not of the bucket")
	s.ResetLog()
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 4, 2, 0)
	if got := keysAsked(s); !slices.Equal(got, []string{"b", "c", "d", "e"}) {
		t.Errorf("fetched %q", got)
	}
	all["mine"] = osstest.Bytes([]byte("not of the bucket"))
	checkTree(t, dir, all)
}

func TestPrefixCompareCRC64(t *testing.T) {
	s := newServer(t)
	all := put(s, map[string]int64{"same": 300 << 10, "altered": 10, "touched": 10, "longer": 10})
	noCRC := osstest.Random(50, 10)
	s.Put("bkt", "nocrc", noCRC, osstest.NoCRC())
	all["nocrc"] = noCRC
	d := newDownloader(t, s, WithCompareCRC64())
	dir := t.TempDir()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 5, 0, 0)

	at := func(name string) string { return filepath.Join(dir, name) }
	fi, err := os.Stat(at("altered"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, at("altered"), "0123456789")
	writeFile(t, at("longer"), "01234567890")
	for name, when := range map[string]time.Time{"altered": fi.ModTime(), "touched": time.Unix(1, 0), "nocrc": time.Unix(1, 0)} {
		if err := os.Chtimes(at(name), time.Time{}, when); err != nil {
			t.Fatal(err)
		}
	}
	s.ResetLog()
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 3, 2, 0)
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
	checkTree(t, dir, all)

	// Deleted since it was listed: the HEAD says so.
	s.Once(func(r *osstest.Request) bool { return r.Key == "same" }, osstest.Inject().Before(func() { s.Delete("bkt", "same") }))
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 0, 4, 1)
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted before the HEAD: %v", err)
	}
}

// The listing has size and time of a symbolic link, the file those of its target.
func TestPrefixSymlinkObject(t *testing.T) {
	s := newServer(t)
	all := put(s, map[string]int64{"target": 1000})
	s.Symlink("bkt", "link", "target")
	all["link"] = all["target"]
	d := newDownloader(t, s)
	dir := t.TempDir()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 2, 0, 0)
	checkTree(t, dir, all)
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 0, 2, 0)
}

// One object's failure stops no other, and each is told with its cause; the cause of the first is that of the call.
func TestPrefixFailures(t *testing.T) {
	s := newServer(t)
	all := put(s, map[string]int64{"a": 10, "archived": 10, "b": 10, "broken": 10, "c": 10, "deleted": 10, "replaced": 10})
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
	d := newDownloader(t, s, WithLogger(slog.New(slog.NewTextHandler(&log, nil))), WithConcurrency(1))
	dir := t.TempDir()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 4, 0, 3)
	checkTree(t, dir, all)
	causes := map[string]error{"archived": ErrArchived, "broken": ErrChecksum, "deleted": ErrNotFound}
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
	var first KeyError
	if !errors.As(err, &first) || first != res.Failures[0] || !errors.Is(err, causes[first.Key]) || !strings.Contains(err.Error(), "3 of 7") {
		t.Errorf("the error does not say what happened: %v", err)
	}
	if left := s.Unfired(); len(left) > 0 {
		t.Errorf("not tested: %q", left)
	}

	s.ClearFaults()
	s.Restore("bkt", "archived", time.Now().Add(time.Hour))
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 2, 4, 0)
}

// An object that was listed as empty is not asked for by a range, and one that was not is: both may be the other by then.
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
			s := newServer(t)
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
			d := newDownloader(t, s, WithPartSize(testPart))
			p := &progress{t: t}
			res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, WithProgress(p.addOfMany))
			counts(t, res, err, 1, 0, 0)
			checkTree(t, dir, contents{"k": content})
			if last := p.last(); res.Bytes != c.then || last.Total != c.then || last.Done != c.then {
				t.Errorf("%d bytes, %+v", res.Bytes, last)
			}
			if left := s.Unfired(); len(left) > 0 {
				t.Errorf("not tested: %q", left)
			}
			lines := wire(s)[1:] // after the listing
			if c.wire != nil {
				sameLines(t, lines, c.wire...)
			} else if lines[0] != "GET " || len(lines) < 2 || !strings.HasSuffix(lines[len(lines)-1], "if-match") {
				t.Errorf("requests %q, want the whole first and then ranges of the same object", lines)
			}
		})
	}
}

func TestPrefixCapsFailures(t *testing.T) {
	s := newServer(t)
	const n = 1500
	s.SetVirtual("bkt", n, func(i int) (string, osstest.Content) { return fmt.Sprintf("/k%04d", i), osstest.Bytes(nil) })
	var log records
	res, err := newDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), WithLogger(log.logger()))
	if err == nil || res.Failed != n || len(res.Failures) != 1000 || res.Failures[0].Key != "/k0000" {
		t.Errorf("%d failed, %d are told, %v", res.Failed, len(res.Failures), err)
	}
	logged := log.String() // of each key, whether it is told or not
	for i := range n {
		if c := strings.Count(logged, fmt.Sprintf(`msg="object failed" bucket=bkt key=/k%04d `, i)); c != 1 {
			t.Fatalf("the failure of key %d is logged %d times", i, c)
		}
	}
}

// Keys that have no place below the folder fail with a reason, without a request, and nothing comes to be anywhere.
func TestPrefixRefusesKeys(t *testing.T) {
	s := newServer(t)
	refused := map[string]string{
		"p/../x": `".."`, "p/..": `".."`, "p/a/../../x": `".."`, "p/./x": `"."`, "p/.": `"."`, "p//x": "empty", "p/a//b": "empty", "p//": "empty",
		"p/nul\x00": "NUL", "p/.ossdl": "kept", "p/.ossdl/x": "kept", "p/.OSSDL/x": "kept", "p/.Ossdl": "kept", "p/OSSDL~1/x": "kept",
		"p/content/": "5 bytes", "p/" + strings.Repeat("n", 300): "name too long", "p/" + strings.Repeat("d", 300) + "/x": "name too long",
		"p/file/below": `below "file"`, "p/file/": `below "file"`, "p/file/be/low": `below "file"`,
	}
	if runtime.GOOS == "windows" {
		delete(refused, "p/"+strings.Repeat("n", 300))
		delete(refused, "p/"+strings.Repeat("d", 300)+"/x")
	}
	for key := range refused {
		var c osstest.Content = osstest.Bytes([]byte("12345"))
		if key == "p//" || key == "p/file/" {
			c = osstest.Bytes(nil)
		}
		s.Put("bkt", key, c)
	}
	want := put(s, map[string]int64{"p/file": 1, "p/file-between": 2, "p/..x": 3, "p/a.": 4})
	s.Put("bkt", "p/", osstest.Bytes(nil))
	top := t.TempDir()
	dir := filepath.Join(top, "dir")
	res, err := newDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "p/", dir)
	if runtime.GOOS == "windows" {
		delete(want, "p/a.")
		refused["p/a."] = "drops a dot"
	}
	counts(t, res, err, len(want), 1, len(refused))
	for _, f := range res.Failures {
		why, ok := refused[f.Key]
		if !ok || !strings.Contains(f.Err.Error(), why) {
			t.Errorf("%q: %v, want %q in it", f.Key, f.Err, why)
		}
	}
	local := contents{}
	for key, c := range want {
		local[strings.TrimPrefix(key, "p/")] = c
	}
	checkTree(t, dir, local)
	if entries, err := os.ReadDir(top); err != nil || len(entries) != 1 {
		t.Errorf("outside of the folder: %v, %v", entries, err)
	}
	if got := keysAsked(s); len(got) != len(want) {
		t.Errorf("requests for %q", got)
	}
}

// Links that are in the folder are not followed, whether they lead out of it or not.
func TestPrefixFollowsNoLink(t *testing.T) {
	s := newServer(t)
	put(s, map[string]int64{"out/x": 1, "file": 3, "dangling": 4, "real/x": 5, "deep/out/x": 6})
	s.Put("bkt", "in/x", osstest.Random(1, 5), osstest.LastModified(s.Stat("bkt", "real/x").LastModified)) // as if it were there
	top := t.TempDir()
	dir := filepath.Join(top, "dir")
	for _, path := range []string{"outside", "dir/real", "dir/deep"} {
		if err := os.MkdirAll(filepath.Join(top, path), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(top, "outside", "victim"), "precious")
	for name, target := range map[string]string{
		"out": filepath.Join(top, "outside"), "in": "real", "file": "../outside/victim", "dangling": "nowhere", "deep/out": "../../outside",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	link := filepath.Join(top, "to-dir") // the folder itself may be reached by one
	if err := os.Symlink("dir", link); err != nil {
		t.Fatal(err)
	}
	d := newDownloader(t, s)
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", link)
	counts(t, res, err, 1, 0, 5)
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", link)
	counts(t, res, err, 0, 1, 5)
	for _, f := range res.Failures {
		name, _ := strings.CutSuffix(f.Key, "/x")
		if text := f.Err.Error(); !strings.Contains(text, name) || !strings.Contains(text, "symbolic link") && !strings.Contains(text, "escapes") {
			t.Errorf("%s: %v", f.Key, f.Err)
		}
	}
	if fi, err := os.Stat(filepath.Join(dir, "real", "x")); err != nil || fi.Size() != 5 {
		t.Errorf("real/x: %v, %v", fi, err)
	}
	if entries, err := os.ReadDir(filepath.Join(top, "outside")); err != nil || len(entries) != 1 {
		t.Errorf("outside of the folder: %v, %v", entries, err)
	}
	if b, err := os.ReadFile(filepath.Join(top, "outside", "victim")); err != nil || string(b) != "precious" {
		t.Errorf("the victim holds %q, %v", b, err)
	}
	if exists(filepath.Join(dir, "nowhere")) {
		t.Error("a dangling link was written through")
	}
}

// What stands in the way of a file or of its folder is left alone.
func TestPrefixInTheWay(t *testing.T) {
	s := newServer(t)
	put(s, map[string]int64{"folder": 1, "file/x": 2, "fine": 3})
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o777); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "file"), "mine")
	res, err := newDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 1, 0, 2)
	for _, f := range res.Failures {
		if name, _, _ := strings.Cut(f.Key, "/"); !strings.Contains(f.Err.Error(), name) {
			t.Errorf("%s: %v", f.Key, f.Err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != "mine" {
		t.Errorf("file holds %q, %v", b, err)
	}
}

// foldFS is a file system that does not tell upper from lower case, and keeps the lower.
type foldFS struct {
	fsys.FS
	more *strings.Replacer // what else it takes for the same; nil: nothing
}

func (f foldFS) name(name string) string {
	if f.more != nil {
		name = f.more.Replace(name)
	}
	return strings.ToLower(name)
}

func (f foldFS) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	return f.FS.OpenFile(f.name(name), flag, perm)
}
func (f foldFS) Lstat(name string) (fs.FileInfo, error) { return f.FS.Lstat(f.name(name)) }
func (f foldFS) Mkdir(name string, perm fs.FileMode) error {
	return f.FS.Mkdir(f.name(name), perm)
}
func (f foldFS) Rename(from, to string) error {
	return f.FS.Rename(f.name(from), f.name(to))
}
func (f foldFS) Remove(name string) error       { return f.FS.Remove(f.name(name)) }
func (f foldFS) SyncDir(name string) error      { return f.FS.SyncDir(f.name(name)) }
func (f foldFS) Free(dir string) (int64, error) { return f.FS.Free(f.name(dir)) }
func (f foldFS) Writable(dir string) error      { return f.FS.Writable(f.name(dir)) }
func (f foldFS) Key(name string) (any, error) { // which takes the last element as it is
	dir, base := filepath.Split(name)
	return f.FS.Key(f.name(dir) + base)
}
func (f foldFS) Chtimes(name string, mtime time.Time) error {
	return f.FS.Chtimes(f.name(name), mtime)
}

func TestPrefixCaseTwins(t *testing.T) {
	s := newServer(t)
	all := put(s, map[string]int64{"File": 1, "file": 2, "FILE": 3, "dir/Ключ": 4, "dir/КЛЮЧ": 5, "Dir/other": 6, "single": 7})
	dir := t.TempDir()
	folding := within(func(r *os.Root) fsys.FS { return foldFS{fsys.Rooted(r), nil} })
	d := newDownloader(t, s)
	for range 2 { // the same ones fail each time
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, folding)
		if err == nil || res.Failed != 3 || res.Done+res.Skipped != 4 {
			t.Fatalf("%+v, %v", res, err)
		}
		for _, f := range res.Failures {
			if !slices.Contains([]string{"File", "file", "dir/Ключ"}, f.Key) || !strings.Contains(f.Err.Error(), "case") {
				t.Errorf("%s: %v", f.Key, f.Err)
			}
		}
	}
	checkTree(t, dir, contents{"file": all["FILE"], "dir/ключ": all["dir/КЛЮЧ"], "dir/other": all["Dir/other"], "single": all["single"]})
	// By shards, too: who comes first is a matter of the keys, not of the shard.
	for i := range 3 {
		res, _ := d.DownloadPrefix(t.Context(), "bkt", "", dir, folding, WithShard(i, 3))
		if res.Done != 0 {
			t.Errorf("shard %d: %+v", i, res)
		}
	}
}

// A file system that takes more names for the same than differ by case: no key replaces the file of another unseen, and
// none comes among the working files.
func TestPrefixNamesOnlyTheFileSystemFolds(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files are not told apart here without opening them")
	}
	more := strings.NewReplacer("\u00df", "ss", "\u00e9", "e\u0301", "\u200d", "")
	folding := within(func(r *os.Root) fsys.FS { return foldFS{fsys.Rooted(r), more} })
	twins := [][]string{{"stra\u00dfe", "strasse"}, {"caf\u00e9/x", "cafe\u0301/x"}, {"\u00e9", "\u200de\u0301", "e\u0301"}}
	among := []string{".o\u00dfdl/x", ".oss\u200ddl/y/z"}
	s := newServer(t)
	sizes := map[string]int64{"single": 1, ".o\u00dfdl": 9}
	for i, keys := range append(slices.Clone(twins), among) {
		for j, key := range keys {
			sizes[key] = int64(10*i + j + 1)
		}
	}
	all := put(s, sizes)
	// Two of the same size and time, of which the second would be skipped for the first.
	all["same\u00df"], all["samess"] = osstest.Random(70, 5), osstest.Random(71, 5)
	for _, key := range []string{"same\u00df", "samess"} {
		s.Put("bkt", key, all[key], osstest.LastModified(time.Unix(1e9, 0)))
	}
	twins = append(twins, []string{"same\u00df", "samess"})
	dir := t.TempDir()
	d := newDownloader(t, s)
	same := ""
	for i := range 3 {
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, folding)
		if err == nil || res.Done+res.Skipped != 1+len(twins) || res.Failed != len(all)-1-len(twins) {
			t.Fatalf("run %d: %+v, %v", i, res, err)
		}
		failed := map[string]bool{}
		for _, f := range res.Failures {
			failed[f.Key] = true
			// In use: its twin in the same folder was being brought, under another name of the folder.
			if !strings.Contains(f.Err.Error(), "for that of another key") && !errors.Is(f.Err, ErrInUse) && !strings.HasPrefix(f.Key, ".o") {
				t.Errorf("%q: %v", f.Key, f.Err)
			}
		}
		for _, key := range append(among, ".o\u00dfdl") {
			if !failed[key] {
				t.Errorf("%q came among the working files", key)
			}
		}
		want := contents{"single": all["single"]}
		for _, keys := range twins {
			rest := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return failed[key] })
			if len(rest) != 1 {
				t.Fatalf("of %q %q did not fail", keys, rest)
			}
			if keys[0] == "same\u00df" && i > 0 { // by size and time it is either's, and only the first run knows better
				rest[0] = same
			} else if keys[0] == "same\u00df" {
				same = rest[0]
			}
			want[strings.ToLower(more.Replace(rest[0]))] = all[rest[0]]
		}
		checkTree(t, dir, want)
	}
}

// Two names that the user has given to one file are no twins, whatever the file system folds.
func TestPrefixHardLinks(t *testing.T) {
	s := newServer(t)
	when := osstest.LastModified(time.Unix(1e9, 0))
	c := osstest.Random(1, 100)
	s.Put("bkt", "a", c, when)
	s.Put("bkt", "b", c, when)
	dir := t.TempDir()
	folding := within(func(r *os.Root) fsys.FS { return foldFS{fsys.Rooted(r), nil} })
	d := newDownloader(t, s)
	if _, err := d.DownloadPrefix(t.Context(), "bkt", "a", dir, folding); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Skip(err)
	}
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, folding)
	counts(t, res, err, 0, 2, 0)
	s.Put("bkt", "b", osstest.Random(2, 100))
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, folding)
	counts(t, res, err, 1, 1, 0)
}

// A disk that is too full for a folder is a disk that is full.
func TestPrefixNoSpaceForAFolder(t *testing.T) {
	s := newServer(t)
	all := put(s, map[string]int64{"a/k": 1, "b/": 0, "c": 1})
	delete(all, "b/")
	for _, name := range []string{WorkDir, "a", "b"} {
		dir := t.TempDir()
		full := within(func(r *os.Root) fsys.FS {
			return &failingFS{FS: fsys.Rooted(r), op: "mkdir " + name, err: syscall.ENOSPC}
		})
		res, err := newDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir, full)
		if !errors.Is(err, ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "are free") {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
		res, err = newDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir)
		if err != nil || res.Done+res.Skipped != 3 {
			t.Errorf("after %s: %+v, %v", name, res, err)
		}
		checkTree(t, dir, all)
	}
}

// secondSync fails the second time a folder is synced.
type secondSync struct {
	fsys.FS
	n int
}

func (f *secondSync) SyncDir(name string) error {
	if f.n++; f.n == 2 {
		return errors.New("disk broken")
	}
	return f.FS.SyncDir(name)
}

// An object that is whole counts once, also where what an earlier call left of it does not go.
func TestPrefixLeftoverThatStays(t *testing.T) {
	s := newServer(t)
	put(s, map[string]int64{"k": 1000})
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, WorkDir), 0o777); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, WorkBase("k")) + CheckpointSuffix
	writeFile(t, left, "{}")
	broken := within(func(r *os.Root) fsys.FS { return &secondSync{FS: fsys.Rooted(r)} })
	res, err := newDownloader(t, s, WithoutCheckpoint()).DownloadPrefix(t.Context(), "bkt", "", dir, broken)
	counts(t, res, err, 1, 0, 0)
	if !exists(left) {
		t.Error("the sync did not fail: not tested")
	}
}

func TestPrefixFilters(t *testing.T) {
	s := newServer(t)
	put(s, map[string]int64{"p/a.txt": 1, "p/a.log": 1, "p/d/b.txt": 1, "p/d/c.log": 1, "p/d/e/f.txt": 1, "p/d/": 0, "p/../no.txt": 1})
	for _, c := range []struct {
		opts []Option
		want []string
	}{
		{[]Option{WithInclude("*.txt"), WithExclude("no.txt")}, []string{"a.txt", "d/b.txt", "d/e/f.txt"}},
		{[]Option{WithInclude("d/*"), WithExclude("no.txt")}, []string{"d/b.txt", "d/c.log"}},
		{[]Option{WithInclude("*.txt", "*.log"), WithExclude("d/*", "no.*")}, []string{"a.log", "a.txt", "d/e/f.txt"}},
		{[]Option{WithInclude("[ab].*")}, []string{"a.log", "a.txt", "d/b.txt"}},
		{[]Option{WithExclude("*")}, nil},
	} {
		dir := t.TempDir()
		res, err := newDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "p/", dir, c.opts...)
		counts(t, res, err, len(c.want), 0, 0)
		for _, name := range c.want {
			if !exists(filepath.Join(dir, name)) {
				t.Errorf("no %s in %s", name, dir)
			}
		}
	}
}

// Four shards at the same time into one folder bring everything once.
func TestPrefixShards(t *testing.T) {
	s := newServer(t)
	sizes := map[string]int64{}
	for i := range 200 {
		sizes[fmt.Sprintf("d%d/k%03d", i%7, i)] = int64(i)
	}
	all := put(s, sizes)
	dir := t.TempDir()
	var wg sync.WaitGroup
	var done atomic.Int64
	for i := range 4 {
		d := newDownloader(t, s)
		wg.Go(func() {
			res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, WithShard(i, 4))
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
	checkTree(t, dir, all)
}

// The requests in flight are bounded over all objects of the call, large and small, and the listing.
func TestPrefixConcurrency(t *testing.T) {
	s := newServer(t)
	sizes := map[string]int64{"large1": 3 << 20, "large2": 3 << 20}
	for i := range 40 {
		sizes[fmt.Sprintf("k%02d", i)] = 1000
	}
	all := put(s, sizes)
	// Two more pages, read while objects are in flight.
	s.SetVirtual("bkt", 2500, func(i int) (string, osstest.Content) { return fmt.Sprintf("x%04d", i), osstest.Bytes(nil) })
	slow := func(*osstest.Request) *osstest.Fault { return osstest.Inject().Delay(2 * time.Millisecond) }
	s.OnRequest(slow)
	s.OnList(slow)
	for name, c := range map[string]struct {
		of, call []Option
		most     int
	}{
		"of the Downloader": {of: []Option{WithConcurrency(3)}, most: 3},
		"of the call":       {call: []Option{WithConcurrency(3)}, most: 3},
		"of both":           {of: []Option{WithConcurrency(2)}, call: []Option{WithConcurrency(5)}, most: 2},
		"one":               {call: []Option{WithConcurrency(1)}, most: 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDownloader(t, s, c.of...)
			s.ResetLog()
			dir := t.TempDir()
			res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, append(c.call, WithPartSize(100<<10), WithExclude("x*"))...)
			counts(t, res, err, len(all), 0, 0)
			checkTree(t, dir, all)
			if got := s.MaxInFlight(); got != c.most {
				t.Errorf("%d requests in flight, want %d", got, c.most)
			}
		})
	}
}

func TestPrefixRateLimit(t *testing.T) {
	s := newServer(t)
	put(s, map[string]int64{"a": 20 << 10, "b": 20 << 10, "c": 20 << 10, "d": 60 << 10})
	d := newDownloader(t, s)
	start := time.Now()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), WithRateLimit(200<<10))
	counts(t, res, err, 4, 0, 0)
	// 120 KiB, less an eighth of a second's worth that may come at once.
	if took := time.Since(start); took < 450*time.Millisecond {
		t.Errorf("120 KiB at 200 KiB/s took %v", took)
	}
	// The listing is read from the network, too.
	s.SetVirtual("bkt", 900, func(i int) (string, osstest.Content) { return fmt.Sprintf("x%04d", i), osstest.Bytes(nil) })
	s.ResetLog()
	start = time.Now()
	res, err = d.DownloadPrefix(t.Context(), "bkt", "x", t.TempDir(), WithRateLimit(400<<10), WithExclude("*"))
	counts(t, res, err, 0, 0, 0)
	if n, took := s.Stats().Sent, time.Since(start); took < time.Duration(n-50<<10)*time.Second/(400<<10) {
		t.Errorf("a listing of %d bytes at 400 KiB/s took %v", n, took)
	}
}

// addOfMany is add where the total is known bit by bit.
func (p *progress) addOfMany(r Progress) {
	p.mu.Lock()
	if n := len(p.all); n > 0 {
		p.all[n-1].Total = r.Total
	}
	p.mu.Unlock()
	p.add(r)
}

func TestPrefixProgress(t *testing.T) {
	s := newServer(t)
	put(s, map[string]int64{"a": 1 << 20, "b": 1000, "c": 0, "d": 5 << 20, "e/": 0})
	s.OnRequest(func(r *osstest.Request) *osstest.Fault { return osstest.Inject().Rate(3 << 20) })
	d := newDownloader(t, s)
	dir := t.TempDir()
	total := int64(6<<20 + 1000)
	p := &progress{t: t}
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, WithProgress(p.addOfMany), WithPartSize(1<<20))
	counts(t, res, err, 5, 0, 0)
	if last := p.last(); last.Done != total || last.Total != total || last.Resumed != 0 || last.InFlight != 0 || last.Remaining != 0 {
		t.Errorf("last report %+v", last)
	}
	if len(p.all) < 3 {
		t.Errorf("%d reports", len(p.all))
	}
	if err := os.Remove(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	p = &progress{t: t}
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, WithProgress(p.addOfMany))
	counts(t, res, err, 1, 4, 0)
	if last := p.last(); last.Done != total || last.Total != total || last.Resumed != 6<<20 {
		t.Errorf("last report %+v", last)
	}

	// An object that is another one by the time it is fetched counts as what it is then.
	p = &progress{t: t}
	s.Once(func(*osstest.Request) bool { return true }, osstest.Inject().Before(func() { s.Put("bkt", "b", osstest.Random(8, 2<<20)) }))
	res, err = d.DownloadPrefix(t.Context(), "bkt", "b", t.TempDir(), WithProgress(func(r Progress) {
		p.addOfMany(r)
		for _, o := range r.Objects {
			if want := int64(2 << 20); o.Done > 0 && o.Total != want {
				t.Errorf("%+v, want a total of %d", o, want)
			}
		}
	}))
	counts(t, res, err, 1, 0, 0)
	if last := p.last(); last.Done != 2<<20 || last.Total != 2<<20 || res.Bytes != 2<<20 {
		t.Errorf("last report %+v", last)
	}
}

// TestPrefixProgressOfObjects holds ten objects in the middle: the same eight of them, which were begun first, are told with
// how far they are, and none once all is done.
func TestPrefixProgressOfObjects(t *testing.T) {
	s := newServer(t)
	const size, gate, n = 6 << 18, 5 << 18, 10 // so small that no request takes a part of another's
	sizes := map[string]int64{}
	for i := range n {
		sizes[fmt.Sprintf("large%d", i)] = size
	}
	all := put(s, sizes)
	open := make(chan struct{})
	s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().Gate(gate, open) })
	var first, last Progress
	same := 0
	dir := t.TempDir()
	res, err := newDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir, WithConcurrency(n+2), WithProgress(func(p Progress) {
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
		names := func(p Progress) (keys []string) {
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
	counts(t, res, err, n, 0, 0)
	checkTree(t, dir, all)
	if same < 3 || last.Objects != nil || last.Requests != s.Stats().Requests {
		t.Errorf("seen %d times; last report %+v, of %d requests", same, last, s.Stats().Requests)
	}
}

// Two calls for one folder at once: what one of them is at fails in the other, and comes whole.
func TestPrefixInUse(t *testing.T) {
	s := newServer(t)
	all := put(s, map[string]int64{"a": 1000, "b": 1000})
	dir := t.TempDir()
	res, err := newDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 2, 0, 0)
	all["held"] = osstest.Random(9, 100<<10)
	s.Put("bkt", "held", all["held"])
	open, holds := make(chan struct{}), make(chan struct{})
	s.Once(func(r *osstest.Request) bool { return r.Key == "held" }, osstest.Inject().At(1000, func() { close(holds) }).Gate(1000, open))
	var wg sync.WaitGroup
	defer wg.Wait()
	one, two := newDownloader(t, s), newDownloader(t, s)
	wg.Go(func() {
		res, err := one.DownloadPrefix(t.Context(), "bkt", "", dir)
		if err != nil || res.Done != 1 || res.Skipped != 2 {
			t.Errorf("first call: %+v, %v", res, err)
		}
		checkTree(t, dir, all)
	})
	<-holds
	res, err = two.DownloadPrefix(t.Context(), "bkt", "", dir)
	if !errors.Is(err, ErrInUse) || res.Skipped != 2 || res.Failed != 1 || res.Failures[0].Key != "held" {
		t.Errorf("second call: %+v, %v", res, err)
	}
	close(open)
}

// Many calls for one folder, over and over, each removing the folder of working files as it ends.
func TestPrefixManyCallsOneFolder(t *testing.T) {
	s := newServer(t)
	sizes := map[string]int64{}
	for i := range 8 {
		sizes[fmt.Sprintf("p%d/k", i)] = 100
	}
	all := put(s, sizes)
	dir := t.TempDir()
	d := newDownloader(t, s)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 10 {
				_ = os.Remove(filepath.Join(dir, fmt.Sprintf("p%d", i), "k"))
				if res, err := d.DownloadPrefix(t.Context(), "bkt", fmt.Sprintf("p%d", i), dir); err != nil || res.Done != 1 {
					t.Errorf("%+v, %v", res, err)
				}
			}
		})
	}
	wg.Wait()
	checkTree(t, dir, all)
}

// The same, with the folder gone at the worst moments.
func TestPrefixWorkDirRemovedByAnother(t *testing.T) {
	s := newServer(t)
	all := put(s, map[string]int64{"k": 100})
	for _, moment := range []string{"lstat", "upper", "lock"} {
		dir := t.TempDir()
		f := &removingFS{moment: moment}
		removing := within(func(r *os.Root) fsys.FS { f.FS = fsys.Rooted(r); return f })
		res, err := newDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir, removing)
		counts(t, res, err, 1, 0, 0)
		checkTree(t, dir, all)
		if !f.done {
			t.Errorf("%s did not happen", moment)
		}
	}
}

// removingFS removes the folder of working files, once.
type removingFS struct {
	fsys.FS
	moment string
	done   bool
}

func (f *removingFS) now(moment string) {
	if moment == f.moment && !f.done {
		f.done = f.FS.Remove(WorkDir) == nil
	}
}

func (f *removingFS) Lstat(name string) (fs.FileInfo, error) {
	switch name {
	case WorkDir:
		f.now("lstat")
	case strings.ToUpper(WorkDir):
		f.now("upper")
	}
	return f.FS.Lstat(name)
}

func (f *removingFS) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	if strings.HasSuffix(name, LockSuffix) {
		f.now("lock")
	}
	return f.FS.OpenFile(name, flag, perm)
}

// An interrupted call leaves whole files and working files, and the next one goes on: also inside large objects.
func TestPrefixResumes(t *testing.T) {
	s := newServer(t)
	all := put(s, map[string]int64{"a": 1000, "large": 40 * testPart, "z": 1000})
	d := newDownloader(t, s, WithPartSize(testPart), WithConcurrency(1))
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	n := 0
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Key == "large" {
			if n++; n == 20 {
				return osstest.Inject().Before(func() { cancel(why) }).HoldHeaders(nil)
			}
		}
		return nil
	})
	res, err := d.DownloadPrefix(ctx, "bkt", "", dir)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, why) || res == nil || res.Failed != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, WorkDir)); err != nil || len(entries) != 2 {
		t.Errorf("working files: %v, %v", entries, err)
	}
	if exists(filepath.Join(dir, "large")) {
		t.Error("the unfinished object has its name")
	}
	s.ClearFaults()
	s.ResetLog()
	p := &progress{t: t}
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, WithProgress(p.addOfMany))
	if err != nil || res.Done+res.Skipped != 3 {
		t.Fatalf("%+v, %v", res, err)
	}
	var again int64
	for _, r := range s.Requests() {
		if r.Key == "large" {
			again += r.Sent
		}
	}
	if want := int64(40-19) * testPart; again != want || p.last().Resumed < 19*testPart {
		t.Errorf("%d bytes of the large object fetched again, want %d; %+v", again, want, p.last())
	}
	checkTree(t, dir, all)
}

// Cut off at any request, again and again until it is done: no byte but those in flight comes twice.
func TestPrefixInterruptUntilDone(t *testing.T) {
	s := newServer(t)
	sizes := map[string]int64{}
	var total int64
	for i := range 30 {
		size := int64(i) * 3 << 10
		if i%10 == 9 {
			size = 20 * testPart
		}
		sizes[fmt.Sprintf("d%d/k%02d", i%3, i)] = size
		total += size
	}
	all := put(s, sizes)
	const workers = 4
	d := newDownloader(t, s, WithPartSize(testPart), WithConcurrency(workers))
	dir := t.TempDir()
	runs, done := 0, 0
	for ; runs < 200; runs++ {
		ctx, cancel := context.WithCancel(t.Context())
		s.Nth(5+runs%7, osstest.Inject().Before(cancel).HoldHeaders(nil).Maybe()) // the last run is not interrupted
		res, err := d.DownloadPrefix(ctx, "bkt", "", dir)
		cancel()
		s.ClearFaults()
		done += res.Done
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) || res.Failed != 0 {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	checkTree(t, dir, all)
	if done != len(all) {
		t.Errorf("%d objects brought, there are %d", done, len(all))
	}
	listings := int64(0)
	for _, r := range s.Requests() {
		if r.Key == "" {
			listings += r.Sent
		}
	}
	if sent, most := fetched(s)-listings, total+int64(runs)*workers*testPart; sent > most {
		t.Errorf("%d bytes sent for %d, in %d runs", sent, total, runs+1)
	}
	t.Logf("%d runs", runs+1)
}

func TestPrefixWithoutCheckpoint(t *testing.T) {
	s := newServer(t)
	all := put(s, map[string]int64{"large": 10 * testPart})
	d := newDownloader(t, s, WithPartSize(testPart), WithConcurrency(1), WithRetry(RetryPolicy{Attempts: 1}), WithoutCheckpoint())
	dir := t.TempDir()
	s.Nth(5, osstest.Error(500, "InternalError"))
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 0, 0, 1)
	checkTree(t, dir, contents{})

	// What a call with a checkpoint left goes, too.
	s.ClearFaults()
	s.Nth(5, osstest.Error(500, "InternalError"))
	keeping := newDownloader(t, s, WithPartSize(testPart), WithConcurrency(1), WithRetry(RetryPolicy{Attempts: 1}))
	res, err = keeping.DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 0, 0, 1)
	if !exists(filepath.Join(dir, WorkDir)) {
		t.Error("nothing was kept")
	}
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 1, 0, 0)
	checkTree(t, dir, all)
}

// What a killed call left of a file that is there by now goes, unless another call is at it.
func TestPrefixTidiesUp(t *testing.T) {
	s := newServer(t)
	all := put(s, map[string]int64{"k": 1000})
	d := newDownloader(t, s, WithCheckpointDir(filepath.Join(t.TempDir(), "unused")))
	dir := t.TempDir()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 1, 0, 0)
	work := filepath.Join(dir, WorkDir)
	if err := os.Mkdir(work, 0o777); err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(dir, WorkBase("k"))
	for _, suffix := range []string{PartSuffix, CheckpointSuffix, CheckpointSuffix + fsys.TempSuffix, LockSuffix} {
		writeFile(t, base+suffix, "{}")
	}
	writeFile(t, filepath.Join(work, "of another"), "")
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 0, 1, 0)
	if entries, err := os.ReadDir(work); err != nil || len(entries) != 1 || entries[0].Name() != "of another" {
		t.Errorf("left: %v, %v", entries, err)
	}
	if err := os.Remove(filepath.Join(work, "of another")); err != nil {
		t.Fatal(err)
	}
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	counts(t, res, err, 0, 1, 0)
	checkTree(t, dir, all)
}

// A process is killed in the middle, over and over. What has its name is whole at every moment, and the last run, in a
// folder with all that the others left, ends with nothing but the files.
func TestPrefixKilled(t *testing.T) {
	s := newServer(t)
	sizes := map[string]int64{}
	for i := range 60 {
		sizes[fmt.Sprintf("d%d/k%02d", i%3, i)] = int64(i) * 2 << 10
	}
	sizes["large"] = 30 << 20
	all := put(s, sizes)
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start := func() *os.Process {
		p, err := os.StartProcess(self, []string{self, dir}, &os.ProcAttr{
			Env: append(os.Environ(), prefixChildEnv+"="+s.Endpoint()), Files: []*os.File{nil, nil, os.Stderr},
		})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for i := range 4 {
		asked := make(chan struct{})
		s.Nth(5+3*i, osstest.Inject().Before(func() { close(asked) }).HoldHeaders(nil))
		p := start()
		<-asked
		if err := p.Kill(); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(); err != nil {
			t.Fatal(err)
		}
		s.ClearFaults()
		for key, c := range all {
			path := filepath.Join(dir, filepath.FromSlash(key))
			if exists(path) {
				checkFile(t, path, c)
			}
		}
	}
	if !exists(filepath.Join(dir, WorkDir)) {
		t.Error("killed without leaving anything: not tested")
	}
	p := start()
	if st, err := p.Wait(); err != nil || !st.Success() {
		t.Fatalf("%v, %v", st, err)
	}
	checkTree(t, dir, all)
}

const prefixChildEnv = "OSSDL_TEST_PREFIX"

func init() {
	endpoint := os.Getenv(prefixChildEnv)
	if endpoint == "" {
		return
	}
	err := func() error {
		client, err := oss.New(endpoint, osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(HTTPClient()))
		if err != nil {
			return err
		}
		d, err := New(client)
		if err != nil {
			return err
		}
		_, err = d.DownloadPrefix(context.Background(), "bkt", "", os.Args[1])
		return err
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// The number of requests adapts itself although no object takes long enough to judge by.
func TestPrefixAdapts(t *testing.T) {
	s := newServer(t)
	sizes := map[string]int64{}
	for i := range 600 {
		sizes[fmt.Sprintf("k%04d", i)] = 100
	}
	put(s, sizes)
	s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().Delay(20 * time.Millisecond) })
	res, err := newDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir())
	counts(t, res, err, len(sizes), 0, 0)
	if n := s.MaxInFlight(); n <= StartConcurrency || n > AdaptiveConcurrency {
		t.Errorf("%d requests in flight at most", n)
	}
}

// quickService answers each request after two milliseconds.
type quickService struct {
	service
	now, most atomic.Int64 // requests in flight
}

func (s *quickService) RoundTrip(r *http.Request) (*http.Response, error) {
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
	}
	if err := wait(r.Context(), 2*time.Millisecond); err != nil {
		return nil, err
	}
	if r.URL.Path == "/" {
		return s.list(r), nil
	}
	resp := s.answer(r, http.StatusPartialContent, nil, map[string]string{
		"Content-Range": "bytes 0-0/1", "ETag": `"E"`, "Last-Modified": serviceTime.Format(http.TimeFormat),
	})
	resp.Header.Set("Content-Length", "1")
	resp.Body = io.NopCloser(strings.NewReader("x"))
	return resp, nil
}

// The number of requests adapts itself although no object takes as long as its own monitor needs for a first look.
func TestPrefixAdaptsOnAFastLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &quickService{service: service{objects: map[string][]byte{}, piece: 1 << 20}}
		for i := range 3000 {
			s.objects[fmt.Sprintf("k%04d", i)] = []byte("x")
		}
		client, err := oss.New("http://service.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(&http.Client{Transport: s}))
		if err != nil {
			t.Fatal(err)
		}
		d, err := New(client)
		if err != nil {
			t.Fatal(err)
		}
		disk := within(func(*os.Root) fsys.FS { return memfs.New(memfs.Config{}) })
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), disk)
		counts(t, res, err, len(s.objects), 0, 0)
		if n := s.most.Load(); n <= StartConcurrency || n > AdaptiveConcurrency {
			t.Errorf("%d requests in flight at most", n)
		}
	})
}

// A folder is on disk before a file in it has its name: a power loss must not take what was synced.
func TestPrefixSyncsFolders(t *testing.T) {
	s := newServer(t)
	put(s, map[string]int64{"a/b/c/k": 1, "a/b/l": 1})
	rec := &recordingFS{}
	recorded := within(func(r *os.Root) fsys.FS { rec.FS = fsys.Rooted(r); return rec })
	res, err := newDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), recorded)
	counts(t, res, err, 2, 0, 0)
	for _, c := range [][]string{
		{"mkdir a", "sync .", "rename a/b/c/k"}, {"mkdir a/b", "sync a", "rename a/b/l"}, {"mkdir a/b/c", "sync a/b", "rename a/b/c/k", "sync a/b/c"},
	} {
		rec.inOrder(t, c...)
	}
}

// A file has its object's time before it has its name: a call that is killed in between would leave a file that each later
// one fetches again.
func TestPrefixSetsTimeBeforeName(t *testing.T) {
	s := newServer(t)
	all := put(s, map[string]int64{"a": 10, "b": 0, "c/d": 5 * testPart})
	rec := &recordingFS{}
	recorded := within(func(r *os.Root) fsys.FS { rec.FS = fsys.Rooted(r); return rec })
	dir := t.TempDir()
	res, err := newDownloader(t, s, WithPartSize(testPart)).DownloadPrefix(t.Context(), "bkt", "", dir, recorded)
	counts(t, res, err, len(all), 0, 0)
	for name := range all {
		part := filepath.ToSlash(WorkBase(name)) + PartSuffix
		rec.inOrder(t, fmt.Sprintf("chtimes %s %d", part, s.Stat("bkt", name).LastModified.Unix()), "rename "+name)
	}
}

// recordingFS writes down what matters after a power loss.
type recordingFS struct {
	fsys.FS
	mu  sync.Mutex
	ops []string
}

// inOrder fails the test unless these come one after the other, with others between them.
func (f *recordingFS) inOrder(t *testing.T, ops ...string) {
	t.Helper()
	rest := f.ops
	for _, op := range ops {
		at := slices.Index(rest, op)
		if at < 0 {
			t.Fatalf("%q does not come in this order in %q", ops, f.ops)
		}
		rest = rest[at+1:]
	}
}

func (f *recordingFS) Chtimes(name string, mtime time.Time) error {
	return f.did("chtimes", fmt.Sprintf("%s %d", name, mtime.Unix()), f.FS.Chtimes(name, mtime))
}

func (f *recordingFS) did(op, name string, err error) error {
	if err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ops = append(f.ops, op+" "+filepath.ToSlash(name))
	}
	return err
}

func (f *recordingFS) Mkdir(name string, perm fs.FileMode) error {
	return f.did("mkdir", name, f.FS.Mkdir(name, perm))
}
func (f *recordingFS) SyncDir(name string) error { return f.did("sync", name, f.FS.SyncDir(name)) }
func (f *recordingFS) Rename(from, to string) error {
	return f.did("rename", to, f.FS.Rename(from, to))
}

func TestPrefixBrokenDisk(t *testing.T) {
	s := newServer(t)
	put(s, map[string]int64{"a/k": 1000, "b/k": 1000})
	broken := errors.New("disk broken")
	for _, op := range []string{"mkdir a", "sync", "rename", "chtimes"} {
		dir := t.TempDir()
		d := newDownloader(t, s, WithConcurrency(1))
		faulty := within(func(r *os.Root) fsys.FS { return &failingFS{FS: fsys.Rooted(r), op: op, err: broken} })
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, faulty)
		if op == "chtimes" { // a pity, but the file is right
			counts(t, res, err, 2, 0, 0)
			continue
		}
		if !errors.Is(err, broken) || res.Failed == 0 {
			t.Errorf("%s: %+v, %v", op, res, err)
		}
		res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
		if err != nil || res.Done+res.Skipped != 2 {
			t.Errorf("after %s: %+v, %v", op, res, err)
		}
	}
}

// failingFS fails one operation.
type failingFS struct {
	fsys.FS
	op  string
	err error
}

func (f *failingFS) fails(op string) error {
	if op == f.op {
		return f.err
	}
	return nil
}

func (f *failingFS) Mkdir(name string, perm fs.FileMode) error {
	return errors.Join(f.fails("mkdir "+name), f.FS.Mkdir(name, perm))
}

func (f *failingFS) SyncDir(name string) error {
	return errors.Join(f.fails("sync"), f.FS.SyncDir(name))
}

func (f *failingFS) Rename(from, to string) error {
	if err := f.fails("rename"); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

func (f *failingFS) Chtimes(name string, mtime time.Time) error {
	if err := f.fails("chtimes"); err != nil {
		return err
	}
	return f.FS.Chtimes(name, mtime)
}

// Bad input is an error that names it, before anything is asked or made.
func TestPrefixBadInput(t *testing.T) {
	s := newServer(t)
	put(s, map[string]int64{"k": 1})
	d := newDownloader(t, s)
	top := t.TempDir()
	writeFile(t, filepath.Join(top, "file"), "mine")
	if err := os.Mkdir(filepath.Join(top, "taken"), 0o777); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(top, "taken", WorkDir), "mine")
	if err := os.Mkdir(filepath.Join(top, "linked"), 0o777); err != nil {
		t.Fatal(err)
	}
	if os.Symlink(top, filepath.Join(top, "linked", WorkDir)) != nil {
		writeFile(t, filepath.Join(top, "linked", WorkDir), "")
	}
	for _, c := range []struct {
		bucket, prefix, dir string
		opts                []Option
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
		{"bkt", "", "taken", nil, WorkDir},
		{"bkt", "", "linked", nil, WorkDir},
		{"bkt", "", "new", []Option{WithRange(0, 1)}, "WithRange"},
		{"bkt", "", "new", []Option{WithVersionID("v")}, "WithVersionID"},
		{"bkt", "", "new", []Option{WithCheckpoint("c")}, "WithCheckpoint"},
		{"bkt", "", "new", []Option{WithCheckpointDir("c")}, "WithCheckpointDir"},
		{"bkt", "", "new", []Option{WithInclude("[")}, `pattern "["`},
		{"bkt", "", "new", []Option{WithExclude("")}, `pattern ""`},
		{"bkt", "", "new", []Option{WithShard(3, 3)}, "shard 3 of 3"},
		{"bkt", "", "new", []Option{WithShard(0, 0)}, "shard 0 of 0"},
		{"bkt", "", "new", []Option{WithShard(-1, 2)}, "shard -1 of 2"},
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
	none, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := none.DownloadPrefix(t.Context(), "bkt", "", filepath.Join(top, "new")); err == nil || !strings.Contains(err.Error(), "no client") {
		t.Errorf("without a client: %v", err)
	}
	if n := s.Stats().Requests; n != 0 {
		t.Errorf("%d requests", n)
	}
	if exists(filepath.Join(top, "new")) {
		t.Error("the folder was made")
	}
	res, err := d.DownloadPrefix(t.Context(), "none", "", filepath.Join(top, "new"))
	if !errors.Is(err, ErrNotFound) || res == nil || !errors.Is(res.Listing, ErrNotFound) {
		t.Errorf("no such bucket: %+v, %v", res, err)
	}
}

// The listing is retried as ranges are, over the same conditions.
func TestPrefixListing(t *testing.T) {
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
	fast := WithRetry(RetryPolicy{Attempts: 3, MinDelay: time.Microsecond, MaxDelay: time.Microsecond})
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
		"an empty circle":   {func(n int) *osstest.Fault { return more(n%2, "") }, MaxEmptyPages, "does not end"},
		"no end":            {func(n int) *osstest.Fault { return more(n, "") }, MaxEmptyPages, "does not end"},
		"no end after keys": {func(n int) *osstest.Fault { return more(n, strings.Repeat(object("x"), 1-min(n, 1))) }, MaxEmptyPages + 1, `after "x"`},
		"descending":        {always(page(object("b") + object("a"))), 1, "out of order"},
		"twice":             {always(page(object("a") + object("a"))), 1, "out of order"},
		"no key":            {always(page("<Contents><Key></Key></Contents>")), 3, "no listing"},
		"bad escape":        {always(page("<EncodingType>url</EncodingType><Contents><Key>%</Key></Contents>")), 3, "no listing"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			all := put(s, map[string]int64{"k": 100, "l": 100})
			s.OnList(one(c.faults))
			dir := t.TempDir()
			res, err := newDownloader(t, s, fast, WithStallTimeout(200*time.Millisecond)).DownloadPrefix(t.Context(), "bkt", "", dir)
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
				counts(t, res, err, 2, 0, 0)
				checkTree(t, dir, all)
			} else if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q in it", err, c.says)
			}
		})
	}
}

// A listing that fails in the middle ends the call after what was listed.
func TestPrefixListingBreaksOff(t *testing.T) {
	s := newServer(t)
	s.SetVirtual("bkt", 2500, func(i int) (string, osstest.Content) { return fmt.Sprintf("k%04d", i), osstest.Bytes(nil) })
	n := 0
	s.OnList(func(*osstest.Request) *osstest.Fault {
		if n++; n > 2 {
			return osstest.Error(403, "AccessDenied")
		}
		return nil
	})
	s.Once(func(r *osstest.Request) bool { return r.Key == "k0007" }, osstest.Error(403, "AccessDenied"))
	res, err := newDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), WithExclude("k0[1-9]*", "k1*"))
	if err == nil || !strings.Contains(err.Error(), "listing") || !strings.Contains(err.Error(), "1 of 100 objects failed") || res.Done != 99 || res.Failed != 1 ||
		res.Listing == nil || strings.Contains(res.Listing.Error(), "objects failed") {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestPrefixUnsigned(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("bkt", osstest.PublicRead())
	all := put(s, map[string]int64{"d/a +%": 100, "d/b": 0})
	dir := t.TempDir()
	hc := HTTPClient()
	defer hc.CloseIdleConnections()
	client, err := s.ClientFor("", "", oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(client, WithCompareCRC64())
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
	counts(t, res, err, 2, 0, 0)
	checkTree(t, dir, contents{"d/a +%": all["d/a +%"], "d/b": all["d/b"]})
	res, err = d.DownloadPrefix(t.Context(), "bkt", "d", dir)
	counts(t, res, err, 0, 2, 0)
	for _, r := range s.Requests() {
		if r.Header.Get("Authorization") != "" || strings.Contains(r.Query, "Signature") {
			t.Errorf("%s %s?%s is signed", r.Method, r.Key, r.Query)
		}
	}
}

// The clock of this machine is wrong: one request is refused, all others are dated by the server's.
func TestPrefixClockSkew(t *testing.T) {
	s := newServer(t)
	put(s, map[string]int64{"a": 10, "b": 10, "c": 10})
	s.SetNow(func() time.Time { return time.Now().Add(time.Hour) })
	res, err := newDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir())
	counts(t, res, err, 3, 0, 0)
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
	s := newServer(t)
	put(s, map[string]int64{"a": 10})
	d := newDownloader(t, s, WithCompareCRC64(), WithRequestOptions(oss.RequestPayer(oss.Requester), oss.TrafficLimitHeader(819200)))
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

// Neither goroutines nor files stay behind, however a call ends.
func TestPrefixLeavesNothingRunning(t *testing.T) {
	s := newServer(t)
	sizes := map[string]int64{}
	for i := range 50 {
		sizes[fmt.Sprintf("k%02d", i)] = 200 << 10
	}
	put(s, sizes)
	hc := HTTPClient()
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(client)
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for i := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		s.Nth(10*i, osstest.Inject().At(100, cancel).StallAfter(100))
		if _, err := d.DownloadPrefix(ctx, "bkt", "", t.TempDir()); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		cancel()
		s.ClearFaults()
	}
	hc.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.WaitFor(ctx, func() bool { return s.InFlight() == 0 }); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+2 && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > before+2 {
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines, %d before\n%s", n, before, buf[:runtime.Stack(buf, true)])
	}
}

// heapInUse is what is reachable.
func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Many keys need no more memory than few: when all are listed no more is held than when a tenth of them was. What is held
// of a key costs some 20 bytes at the least.
func TestPrefixMemory(t *testing.T) {
	n := 60_000
	if long() {
		n = 1_000_000
	}
	s := newServer(t, osstest.WithoutLog())
	s.SetVirtual("bkt", n, func(i int) (string, osstest.Content) {
		return fmt.Sprintf("d%04d/e%05d/k%07d", i/1000, i/100, i), osstest.Zeros(1)
	})
	last := (n + 999) / 1000
	var pages, early, late atomic.Int64
	s.OnList(func(*osstest.Request) *osstest.Fault {
		switch pages.Add(1) {
		case int64(last / 10):
			early.Store(heapInUse())
		case int64(last):
			late.Store(heapInUse())
		}
		return nil
	})
	// All keys are other shards': they get their names, and nothing is fetched.
	res, err := newDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), WithShard(0, math.MaxInt),
		within(func(*os.Root) fsys.FS { return memfs.New(memfs.Config{}) })) // which does not fold names
	if err != nil || res.Done+res.Skipped+res.Failed > 0 || pages.Load() != int64(last) {
		t.Fatalf("%+v, %v; %d pages", res, err, pages.Load())
	}
	t.Logf("%d pages: %d bytes held after a tenth of them, %d after all", pages.Load(), early.Load(), late.Load())
	if grown, keys := late.Load()-early.Load(), int64(n*9/10); grown > keys*10 {
		t.Errorf("grown by %d bytes, %d a key", grown, grown/keys)
	}
}

// Files and sockets are bounded by what is in flight, and none stays open: what is forgotten is not closed by the collector
// here.
func TestPrefixOpenFiles(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	n := 300
	if long() {
		n = 3000
	}
	s := newServer(t, osstest.WithoutLog())
	s.SetVirtual("bkt", n, func(i int) (string, osstest.Content) {
		return fmt.Sprintf("d%04d/k%07d", i/100, i), osstest.Zeros(int64(i % 1000))
	})
	hc := HTTPClient()
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	const requests = 4
	d, err := New(client, WithConcurrency(requests))
	if err != nil {
		t.Fatal(err)
	}
	goroutines, before := runtime.NumGoroutine(), openFiles()
	var most atomic.Int64
	s.OnRequest(func(*osstest.Request) *osstest.Fault {
		most.Store(max(most.Load(), int64(openFiles()-before)))
		return nil
	})
	for i := range 2 {
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir())
		if err != nil || res.Done != n {
			t.Fatalf("run %d: %+v, %v", i, res, err)
		}
	}
	// For each object in flight its partial file, lock, checkpoint and folder; for each request both ends of its connection.
	inFlight := requests + requests/4 + 2
	if bound := int64(inFlight*6 + 2*requests + 10); most.Load() > bound {
		t.Errorf("%d files and sockets were open, want %d or less", most.Load(), bound)
	}
	t.Logf("%d more files and sockets were open at most", most.Load())
	hc.CloseIdleConnections()
	backTo(t, goroutines, before)
}
