package ossdl_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/fstest"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestPrefixRefusesKeys checks that keys that have no place below the folder fail with a reason, without a request, and
// nothing comes to be anywhere.
func TestPrefixRefusesKeys(t *testing.T) {
	s := harness.NewServer(t)
	refused := map[string]string{
		"p/../x": `".."`, "p/..": `".."`, "p/a/../../x": `".."`, "p/./x": `"."`, "p/.": `"."`, "p//x": "empty", "p/a//b": "empty", "p//": "empty",
		"p/nul\x00": "NUL", "p/.ossdl": "reserved", "p/.ossdl/x": "reserved", "p/.OSSDL/x": "reserved", "p/.Ossdl": "reserved", "p/OSSDL~1/x": "reserved",
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
	want := harness.Put(s, map[string]int64{"p/file": 1, "p/file-between": 2, "p/..x": 3, "p/a.": 4})
	s.Put("bkt", "p/", osstest.Bytes(nil))
	top := t.TempDir()
	dir := filepath.Join(top, "dir")
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "p/", dir)
	if runtime.GOOS == "windows" {
		delete(want, "p/a.")
		refused["p/a."] = "drops a dot"
	}
	harness.CheckCounts(t, res, err, len(want), 1, len(refused))
	for _, f := range res.Failures {
		why, ok := refused[f.Key]
		if !ok || !strings.Contains(f.Err.Error(), why) {
			t.Errorf("%q: %v, want %q in it", f.Key, f.Err, why)
		}
	}
	local := harness.Contents{}
	for key, c := range want {
		local[strings.TrimPrefix(key, "p/")] = c
	}
	harness.CheckTree(t, dir, local)
	if entries, err := os.ReadDir(top); err != nil || len(entries) != 1 {
		t.Errorf("outside of the folder: %v, %v", entries, err)
	}
	if got := keysAsked(s); len(got) != len(want) {
		t.Errorf("requests for %q", got)
	}
}

// TestPrefixFollowsNoLink checks that links that are in the folder are not followed, whether they lead out of it or not.
func TestPrefixFollowsNoLink(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"out/x": 1, "file": 3, "dangling": 4, "real/x": 5, "deep/out/x": 6})
	s.Put("bkt", "in/x", osstest.Random(1, 5), osstest.LastModified(s.Stat("bkt", "real/x").LastModified)) // as if it were there
	top := t.TempDir()
	dir := filepath.Join(top, "dir")
	for _, path := range []string{"outside", "dir/real", "dir/deep"} {
		if err := os.MkdirAll(filepath.Join(top, path), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	harness.WriteFile(t, filepath.Join(top, "outside", "victim"), "precious")
	for name, target := range map[string]string{
		"out": filepath.Join(top, "outside"), "in": "real", "file": "../outside/victim", "dangling": "nowhere", "deep/out": "../../outside",
	} {
		if err := fstest.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	link := filepath.Join(top, "to-dir") // the folder itself may be reached by one
	if err := fstest.Symlink("dir", link); err != nil {
		t.Fatal(err)
	}
	d := harness.NewDownloader(t, s)
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", link)
	harness.CheckCounts(t, res, err, 1, 0, 5)
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", link)
	harness.CheckCounts(t, res, err, 0, 1, 5)
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
	if harness.Exists(filepath.Join(dir, "nowhere")) {
		t.Error("a dangling link was written through")
	}
}

// TestPrefixInTheWay checks that what stands in the way of a file or of its folder is left alone.
func TestPrefixInTheWay(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"folder": 1, "file/x": 2, "fine": 3})
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o777); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(dir, "file"), "mine")
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 1, 0, 2)
	for _, f := range res.Failures {
		if name, _, _ := strings.Cut(f.Key, "/"); !strings.Contains(f.Err.Error(), name) {
			t.Errorf("%s: %v", f.Key, f.Err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(b) != "mine" {
		t.Errorf("file holds %q, %v", b, err)
	}
}

// foldFS is a file system that is case-insensitive and stores names in lower case.
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

func (f foldFS) Remove(name string) error { return f.FS.Remove(f.name(name)) }

func (f foldFS) SyncDir(name string) error { return f.FS.SyncDir(f.name(name)) }

func (f foldFS) Free(dir string) (int64, error) { return f.FS.Free(f.name(dir)) }

func (f foldFS) Writable(dir string) error { return f.FS.Writable(f.name(dir)) }

func (f foldFS) Key(name string) (any, error) { // which takes the last element as it is
	dir, base := filepath.Split(name)
	return f.FS.Key(f.name(dir) + base)
}

func (f foldFS) Chtimes(name string, mtime time.Time) error {
	return f.FS.Chtimes(f.name(name), mtime)
}

func TestPrefixCaseTwins(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"File": 1, "file": 2, "FILE": 3, "dir/Ключ": 4, "dir/КЛЮЧ": 5, "Dir/other": 6, "single": 7})
	dir := t.TempDir()
	folding := harness.WithFolderFS(func(r *fsys.Root) fsys.FS { return foldFS{fsys.Rooted(r), nil} })
	d := harness.NewDownloader(t, s)
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
	harness.CheckTree(t, dir, harness.Contents{"file": all["FILE"], "dir/ключ": all["dir/КЛЮЧ"], "dir/other": all["Dir/other"], "single": all["single"]})
	// By shards, too: who comes first is a matter of the keys, not of the shard.
	for i := range 3 {
		res, _ := d.DownloadPrefix(t.Context(), "bkt", "", dir, folding, ossdl.WithShard(i, 3))
		if res.Done != 0 {
			t.Errorf("shard %d: %+v", i, res)
		}
	}
}

// TestPrefixNamesOnlyTheFileSystemFolds checks a file system that treats more names as equal than those that differ by case.
// No key replaces the file of another unnoticed, and none gets into the folder of working files.
func TestPrefixNamesOnlyTheFileSystemFolds(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files cannot be distinguished here without opening them")
	}
	more := strings.NewReplacer("\u00df", "ss", "\u00e9", "e\u0301", "\u200d", "")
	folding := harness.WithFolderFS(func(r *fsys.Root) fsys.FS { return foldFS{fsys.Rooted(r), more} })
	twins := [][]string{{"stra\u00dfe", "strasse"}, {"caf\u00e9/x", "cafe\u0301/x"}, {"\u00e9", "\u200de\u0301", "e\u0301"}}
	among := []string{".o\u00dfdl/x", ".oss\u200ddl/y/z"}
	s := harness.NewServer(t)
	sizes := map[string]int64{"single": 1, ".o\u00dfdl": 9}
	for i, keys := range append(slices.Clone(twins), among) {
		for j, key := range keys {
			sizes[key] = int64(10*i + j + 1)
		}
	}
	all := harness.Put(s, sizes)
	// Two of the same size and time, of which the second would be skipped for the first.
	all["same\u00df"], all["samess"] = osstest.Random(70, 5), osstest.Random(71, 5)
	for _, key := range []string{"same\u00df", "samess"} {
		s.Put("bkt", key, all[key], osstest.LastModified(time.Unix(1e9, 0)))
	}
	twins = append(twins, []string{"same\u00df", "samess"})
	dir := t.TempDir()
	d := harness.NewDownloader(t, s)
	same := ""
	for i := range 3 {
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, folding)
		if err == nil || res.Done+res.Skipped != 1+len(twins) || res.Failed != len(all)-1-len(twins) {
			t.Fatalf("run %d: %+v, %v", i, res, err)
		}
		failed := map[string]bool{}
		for _, f := range res.Failures {
			failed[f.Key] = true
			// In use: the other key with this name was being downloaded, under another name of the folder.
			if !strings.Contains(f.Err.Error(), "for that of another key") && !errors.Is(f.Err, ossdl.ErrInUse) && !strings.HasPrefix(f.Key, ".o") {
				t.Errorf("%q: %v", f.Key, f.Err)
			}
		}
		for _, key := range append(among, ".o\u00dfdl") {
			if !failed[key] {
				t.Errorf("%q came among the working files", key)
			}
		}
		want := harness.Contents{"single": all["single"]}
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
		harness.CheckTree(t, dir, want)
	}
}

// TestPrefixHardLinks checks that two names that the user has given to one file are no collision, whatever the file system
// folds.
func TestPrefixHardLinks(t *testing.T) {
	s := harness.NewServer(t)
	when := osstest.LastModified(time.Unix(1e9, 0))
	c := osstest.Random(1, 100)
	s.Put("bkt", "a", c, when)
	s.Put("bkt", "b", c, when)
	dir := t.TempDir()
	folding := harness.WithFolderFS(func(r *fsys.Root) fsys.FS { return foldFS{fsys.Rooted(r), nil} })
	d := harness.NewDownloader(t, s)
	if _, err := d.DownloadPrefix(t.Context(), "bkt", "a", dir, folding); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Skip(err)
	}
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, folding)
	harness.CheckCounts(t, res, err, 0, 2, 0)
	s.Put("bkt", "b", osstest.Random(2, 100))
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, folding)
	harness.CheckCounts(t, res, err, 1, 1, 0)
}

// TestPrefixInUse checks that of two calls for the same folder at the same time, one fails for what the other is downloading.
func TestPrefixInUse(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 1000, "b": 1000})
	dir := t.TempDir()
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 2, 0, 0)
	all["held"] = osstest.Random(9, 100<<10)
	s.Put("bkt", "held", all["held"])
	open, holds := make(chan struct{}), make(chan struct{})
	s.Once(func(r *osstest.Request) bool { return r.Key == "held" }, osstest.Inject().At(1000, func() { close(holds) }).Gate(1000, open))
	var wg sync.WaitGroup
	defer wg.Wait()
	one, two := harness.NewDownloader(t, s), harness.NewDownloader(t, s)
	wg.Go(func() {
		res, err := one.DownloadPrefix(t.Context(), "bkt", "", dir)
		if err != nil || res.Done != 1 || res.Skipped != 2 {
			t.Errorf("first call: %+v, %v", res, err)
		}
		harness.CheckTree(t, dir, all)
	})
	<-holds
	res, err = two.DownloadPrefix(t.Context(), "bkt", "", dir)
	if !errors.Is(err, ossdl.ErrInUse) || res.Skipped != 2 || res.Failed != 1 || res.Failures[0].Key != "held" {
		t.Errorf("second call: %+v, %v", res, err)
	}
	close(open)
}

// TestPrefixManyCallsOneFolder checks that many calls can use the same folder at the same time, although each removes the
// folder of working files as it ends.
func TestPrefixManyCallsOneFolder(t *testing.T) {
	s := harness.NewServer(t)
	sizes := map[string]int64{}
	for i := range 8 {
		sizes[fmt.Sprintf("p%d/k", i)] = 100
	}
	all := harness.Put(s, sizes)
	dir := t.TempDir()
	d := harness.NewDownloader(t, s)
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
	harness.CheckTree(t, dir, all)
}

// TestPrefixWorkDirRemovedByAnother does the same as TestPrefixManyCallsOneFolder, with the folder gone at the worst
// moments.
func TestPrefixWorkDirRemovedByAnother(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"k": 100})
	for _, moment := range []string{"lstat", "upper", "new", "lock"} {
		if moment == "new" && runtime.GOOS == "windows" {
			continue // there is a lock in the folder by then
		}
		opts := []ossdl.Option{}
		if moment == "lock" {
			opts = append(opts, ossdl.WithPartSize(50)) // it takes two requests, and so it is not small
		}
		dir := t.TempDir()
		f := &removingFS{moment: moment}
		removing := harness.WithFolderFS(func(r *fsys.Root) fsys.FS { f.FS = fsys.Rooted(r); return f })
		res, err := harness.NewDownloader(t, s, opts...).DownloadPrefix(t.Context(), "bkt", "", dir, removing)
		harness.CheckCounts(t, res, err, 1, 0, 0)
		harness.CheckTree(t, dir, all)
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
		f.done = f.FS.Remove(harness.WorkDir) == nil
	}
}

func (f *removingFS) Lstat(name string) (fs.FileInfo, error) {
	switch name {
	case harness.WorkDir:
		f.now("lstat")
	case strings.ToUpper(harness.WorkDir):
		f.now("upper")
	}
	return f.FS.Lstat(name)
}

func (f *removingFS) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	switch {
	case strings.HasSuffix(name, harness.TreeLock):
		f.now("lock")
	case strings.HasSuffix(name, harness.TreeSmall):
		f.now("new")
	}
	return f.FS.OpenFile(name, flag, perm)
}

// TestPrefixResumes checks that an interrupted call leaves whole files and working files, and the next one goes on, also
// inside large objects.
func TestPrefixResumes(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 1000, "large": 40 * harness.PartSize, "z": 1000})
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
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
	if entries, err := os.ReadDir(filepath.Join(dir, harness.WorkDir)); err != nil || len(entries) != 2 {
		t.Errorf("working files: %v, %v", entries, err)
	}
	if harness.Exists(filepath.Join(dir, "large")) {
		t.Error("the unfinished object has its name")
	}
	s.ClearFaults()
	s.ResetLog()
	p := &harness.ProgressRecorder{T: t}
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithProgress(p.AddOfMany))
	if err != nil || res.Done+res.Skipped != 3 {
		t.Fatalf("%+v, %v", res, err)
	}
	var again int64
	for _, r := range s.Requests() {
		if r.Key == "large" {
			again += r.Sent
		}
	}
	if want := int64(40-19) * harness.PartSize; again != want || p.Last().Resumed < 19*harness.PartSize {
		t.Errorf("%d bytes of the large object fetched again, want %d; %+v", again, want, p.Last())
	}
	harness.CheckTree(t, dir, all)
}

// TestPrefixInterruptUntilDone cuts a call off at any request, again and again until it is done: no byte but those in
// flight comes twice.
func TestPrefixInterruptUntilDone(t *testing.T) {
	s := harness.NewServer(t)
	sizes := map[string]int64{}
	var total int64
	for i := range 30 {
		size := int64(i) * 3 << 10
		if i%10 == 9 {
			size = 20 * harness.PartSize
		}
		sizes[fmt.Sprintf("d%d/k%02d", i%3, i)] = size
		total += size
	}
	all := harness.Put(s, sizes)
	const workers = 4
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(workers))
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
	harness.CheckTree(t, dir, all)
	if done != len(all) {
		t.Errorf("%d objects downloaded, there are %d", done, len(all))
	}
	listings := int64(0)
	for _, r := range s.Requests() {
		if r.Key == "" {
			listings += r.Sent
		}
	}
	if sent, most := harness.Fetched(s)-listings, total+int64(runs)*workers*harness.PartSize; sent > most {
		t.Errorf("%d bytes sent for %d, in %d runs", sent, total, runs+1)
	}
	t.Logf("%d runs", runs+1)
}

func TestPrefixWithoutCheckpoint(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"large": 10 * harness.PartSize})
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}), ossdl.WithoutCheckpoint())
	dir := t.TempDir()
	s.Nth(5, osstest.Error(500, "InternalError"))
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 0, 0, 1)
	harness.CheckTree(t, dir, harness.Contents{})

	// What a call with a checkpoint left goes, too.
	s.ClearFaults()
	s.Nth(5, osstest.Error(500, "InternalError"))
	keeping := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}))
	res, err = keeping.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 0, 0, 1)
	if !harness.Exists(filepath.Join(dir, harness.WorkDir)) {
		t.Error("nothing was kept")
	}
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 1, 0, 0)
	harness.CheckTree(t, dir, all)
}

// TestPrefixTidiesUp checks that what a killed call left of a file that is there by now goes, unless another call is at it.
func TestPrefixTidiesUp(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"k": 1000})
	d := harness.NewDownloader(t, s, ossdl.WithCheckpointDir(filepath.Join(t.TempDir(), "unused")))
	dir := t.TempDir()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 1, 0, 0)
	work := filepath.Join(dir, harness.WorkDir)
	if err := os.Mkdir(work, 0o777); err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(dir, harness.WorkBase("k"))
	for _, suffix := range []string{
		harness.TreePart, harness.TreeCheckpoint, harness.TreeCheckpoint + fsys.TempSuffix, harness.TreeRecent, harness.TreeLock,
	} {
		harness.WriteFile(t, base+suffix, "{}")
	}
	harness.WriteFile(t, filepath.Join(work, "of another"), "")
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 0, 1, 0)
	if entries, err := os.ReadDir(work); err != nil || len(entries) != 1 || entries[0].Name() != "of another" {
		t.Errorf("left: %v, %v", entries, err)
	}
	if err := os.Remove(filepath.Join(work, "of another")); err != nil {
		t.Fatal(err)
	}
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 0, 1, 0)
	harness.CheckTree(t, dir, all)
}
