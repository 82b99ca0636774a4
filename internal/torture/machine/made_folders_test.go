package machine_test

import (
	"math/rand/v2"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestMadeFoldersLast checks that a power loss after a durable download leaves the folders that were made for its file. If one of the
// folders above cannot be synced, the file is in place and not durable.
func TestMadeFoldersLast(t *testing.T) {
	const path = "/new/deep/file"
	s := harness.NewServer(t)
	content := osstest.Random(1, 300<<10)
	s.Put("bkt", "k", content)
	for i := -1; ; i++ {
		disk := memfs.New(memfs.Config{})
		f := faultfs.New(disk, faultfs.Plan{At: i, Kind: faultfs.SyncDir, Err: syscall.EIO})
		res, err := harness.NewDownloader(t, s, harness.WithFS(f), ossdl.WithMkdirAll()).Download(t.Context(), "bkt", "k", path)
		if err != nil {
			t.Fatalf("sync %d: %v", i, err)
		}
		if i < 2 && res.Durable != (i < 0) { // those of the two folders come first
			t.Errorf("sync %d: durable is %t", i, res.Durable)
		}
		if res.Durable {
			for seed := range uint64(10) {
				mustHold(t, disk.Crash(rand.New(rand.NewPCG(seed, 0))), path, content)
			}
		}
		if i >= 0 && !f.Fired() {
			break
		}
	}
}

// unsyncedFS cannot sync some folders. It counts the syncs of the others.
type unsyncedFS struct {
	fsys.FS
	these []string // "*": all

	mu     sync.Mutex
	synced map[string]int
}

func (f *unsyncedFS) SyncDir(name string) error {
	name = path.Clean(filepath.ToSlash(name))
	if slices.Contains(f.these, name) || slices.Contains(f.these, "*") {
		return syscall.EIO
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.synced == nil {
		f.synced = map[string]int{}
	}
	f.synced[name]++
	return f.FS.SyncDir(name)
}

// mustLast fails the test unless a power loss leaves the files.
func mustLast(t *testing.T, disk *memfs.FS, files harness.Contents) {
	t.Helper()
	for seed := range uint64(10) {
		crashed := disk.Crash(rand.New(rand.NewPCG(seed, 0)))
		for name, content := range files {
			mustHold(t, crashed, name, content)
		}
	}
}

// TestFoldersOfAnEarlierCallLast checks that folders that a call has made and could not sync are synced by a later one, whether that
// finds the file or fetches it. Until that succeeds the file is not durable.
func TestFoldersOfAnEarlierCallLast(t *testing.T) {
	const file = "/new/deep/file"
	s := harness.NewServer(t)
	content := osstest.Random(1, 300<<10)
	s.Put("bkt", "k", content)
	for name, opts := range map[string][]ossdl.Option{"found": {ossdl.WithIfChanged()}, "fetched": nil} {
		disk := memfs.New(memfs.Config{})
		for _, unsynced := range [][]string{{"*"}, {"/"}, {"/new"}, {"/new/deep"}, nil} {
			f := &unsyncedFS{FS: disk, these: unsynced}
			d := harness.NewDownloader(t, s, harness.WithFS(f), ossdl.WithMkdirAll())
			res, err := d.Download(t.Context(), "bkt", "k", file, opts...)
			if err != nil {
				t.Fatal(name, unsynced, err)
			}
			if res.Durable != (unsynced == nil) {
				t.Errorf("%s, %q not synced: durable is %t", name, unsynced, res.Durable)
			}
			harness.Tried.Add("cases from the field", 1)
		}
		mustLast(t, disk, harness.Contents{file: content})
	}
}

// TestListFoldersOfAnEarlierCallLast checks the same of a list, and that each folder is synced once for what is found in it and below.
func TestListFoldersOfAnEarlierCallLast(t *testing.T) {
	s := harness.NewServer(t)
	files := harness.Contents{}
	var items []ossdl.Item
	for key, c := range harness.Put(s, map[string]int64{"a": 10, "b": 20, "c": 30, "d": 40, "e": 50}) {
		at := "/new/1/" + key
		if key > "c" {
			at = "/new/2/" + key
		}
		files[at] = c
		items = append(items, ossdl.Item{Source: "oss://bkt/" + key, Path: at})
	}
	disk := memfs.New(memfs.Config{})
	for _, c := range []struct {
		unsynced   []string
		notDurable int
	}{{[]string{"*"}, 5}, {[]string{"/"}, 5}, {[]string{"/new"}, 5}, {[]string{"/new/2"}, 2}, {nil, 0}} {
		f := &unsyncedFS{FS: disk, these: c.unsynced}
		d := harness.NewDownloader(t, s, harness.WithFS(f), ossdl.WithMkdirAll(), ossdl.WithIfChanged())
		res, err := d.DownloadAll(t.Context(), harness.Items(items...))
		if err != nil || res.Done+res.Skipped != len(items) || res.NotDurable != c.notDurable {
			t.Errorf("%q not synced: %+v, %v; want %d not durable", c.unsynced, res, err, c.notDurable)
		}
		if f.synced["/"] > 1 || f.synced["/new"] > 1 && res.Skipped > 0 {
			t.Errorf("%q not synced: synced %v times", c.unsynced, f.synced)
		}
		harness.Tried.Add("cases from the field", 1)
	}
	mustLast(t, disk, files)
}

// TestPrefixFoldersOfAnEarlierCallLast checks the same of a prefix: what could not be synced once is synced by the next call, once for
// each folder, or else is not durable in that call either.
func TestPrefixFoldersOfAnEarlierCallLast(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a/k": 10, "a/l": 10, "a/b/k": 10, "a/b/l": 3 * harness.PartSize, "a/b/": 0, "c/": 0, "d": 10})
	delete(all, "a/b/")
	delete(all, "c/")
	for name, opts := range map[string][]ossdl.Option{"by time": nil, "by CRC-64": {ossdl.WithCompareCRC64()}} {
		disk := memfs.New(memfs.Config{})
		for _, c := range []struct {
			unsynced   []string
			notDurable int
		}{{[]string{"*"}, 7}, {[]string{"*"}, 7}, {[]string{"."}, 7}, {[]string{"a"}, 5}, {[]string{"a/b"}, 2}, {nil, 0}} {
			f := &unsyncedFS{FS: disk, these: c.unsynced}
			var log harness.Records
			d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithLogger(log.Logger()))
			res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), append(opts, onDisk(f))...)
			if err != nil || res.Done+res.Skipped != 7 || res.NotDurable != c.notDurable {
				t.Errorf("%s, %q not synced: %+v, %v; want %d not durable", name, c.unsynced, res, err, c.notDurable)
			}
			if n := strings.Count(log.String(), "a folder could not be synced"); n != min(1, len(c.unsynced)) {
				t.Errorf("%s, %q not synced: logged %d times\n%s", name, c.unsynced, n, &log)
			}
			for dir, n := range f.synced {
				if n > 1 {
					t.Errorf("%s, %q not synced: %s was synced %d times", name, c.unsynced, dir, n)
				}
			}
			harness.Tried.Add("cases from the field", 1)
		}
		mustLast(t, disk, all)
	}
}

// TestPrefixInFoldersOfAnEarlierCall checks that a file which comes into a folder that an earlier call made, and did not live to sync,
// lasts if it is durable.
func TestPrefixInFoldersOfAnEarlierCall(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a/b/k": 10, "a/b/l": 3 * harness.PartSize})
	for _, unsynced := range [][]string{{"."}, {"a"}, nil} {
		disk := memfs.New(memfs.Config{})
		for _, dir := range []string{"a", "a/b"} {
			if err := disk.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize))
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), onDisk(&unsyncedFS{FS: disk, these: unsynced}))
		harness.CheckCounts(t, res, err, len(all), 0, 0)
		if want := len(all) * len(unsynced); res.NotDurable != want {
			t.Errorf("%q not synced: %d not durable, want %d", unsynced, res.NotDurable, want)
		}
		if unsynced == nil {
			mustLast(t, disk, all)
		}
		harness.Tried.Add("cases from the field", 1)
	}
}
