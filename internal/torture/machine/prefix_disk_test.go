package machine_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/harness"
)

// TestPrefixNoSpaceForAFolder checks that a disk that is too full for a folder is a disk that is full.
func TestPrefixNoSpaceForAFolder(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a/k": 1, "b/": 0, "c": 1})
	delete(all, "b/")
	for _, name := range []string{harness.WorkDir, "a", "b"} {
		dir := t.TempDir()
		full := harness.WithFolderFS(func(r *fsys.Root) fsys.FS {
			return &failingFS{FS: fsys.Rooted(r), op: "mkdir " + name, err: syscall.ENOSPC}
		})
		res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir, full)
		if !errors.Is(err, ossdl.ErrNoSpace) || !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "are free") {
			t.Errorf("%s: %+v, %v", name, res, err)
		}
		res, err = harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir)
		if err != nil || res.Done+res.Skipped != 3 {
			t.Errorf("after %s: %+v, %v", name, res, err)
		}
		harness.CheckTree(t, dir, all)
	}
}

// stayingCheckpoints removes no checkpoint.
type stayingCheckpoints struct{ fsys.FS }

func (f stayingCheckpoints) Remove(name string) error {
	if strings.HasSuffix(name, harness.TreeCheckpoint) {
		return errors.New("disk broken")
	}
	return f.FS.Remove(name)
}

// TestPrefixLeftoverThatStays checks that an object that is whole counts once, also where what an earlier call left of it
// does not go.
func TestPrefixLeftoverThatStays(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"k": 1000})
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, harness.WorkDir), 0o777); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, harness.WorkBase("k")) + harness.TreeCheckpoint
	harness.WriteFile(t, left, "{}")
	broken := harness.WithFolderFS(func(r *fsys.Root) fsys.FS { return stayingCheckpoints{fsys.Rooted(r)} })
	res, err := harness.NewDownloader(t, s, ossdl.WithoutCheckpoint()).DownloadPrefix(t.Context(), "bkt", "", dir, broken)
	harness.CheckCounts(t, res, err, 1, 0, 0)
	if !harness.Exists(left) {
		t.Error("it is gone: not tested")
	}
}

// TestPrefixSyncsFolders checks that a folder is on disk before a file in it has its name: a power loss must not take what
// was synced.
func TestPrefixSyncsFolders(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a/b/c/k": 1, "a/b/l": 1})
	rec := &recordingFS{}
	recorded := harness.WithFolderFS(func(r *fsys.Root) fsys.FS { rec.FS = fsys.Rooted(r); return rec })
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), recorded)
	harness.CheckCounts(t, res, err, 2, 0, 0)
	for _, c := range [][]string{
		{"mkdir a", "sync .", "rename a/b/c/k"}, {"mkdir a/b", "sync a", "rename a/b/l"}, {"mkdir a/b/c", "sync a/b", "rename a/b/c/k", "sync a/b/c"},
	} {
		rec.inOrder(t, c...)
	}
}

// TestPrefixSetsTimeBeforeName checks that a file has its object's time before it has its name: a call that is killed in
// between would leave a file that each later one fetches again.
func TestPrefixSetsTimeBeforeName(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 10, "b": 0, "c/d": 5 * harness.PartSize})
	rec := &recordingFS{}
	recorded := harness.WithFolderFS(func(r *fsys.Root) fsys.FS { rec.FS = fsys.Rooted(r); return rec })
	dir := t.TempDir()
	res, err := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize)).DownloadPrefix(t.Context(), "bkt", "", dir, recorded)
	harness.CheckCounts(t, res, err, len(all), 0, 0)
	for name, c := range all {
		part := filepath.ToSlash(harness.WorkBase(name)) + harness.TreeSmall
		if c.Size() > harness.PartSize {
			part = filepath.ToSlash(harness.WorkBase(name)) + harness.TreePart
		}
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
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a/k": 1000, "b/k": 1000})
	broken := errors.New("disk broken")
	for _, op := range []string{"mkdir a", "sync", "sync .", "rename", "chtimes"} {
		dir := t.TempDir()
		var log harness.Records
		d := harness.NewDownloader(t, s, ossdl.WithConcurrency(1), ossdl.WithLogger(log.Logger()))
		faulty := harness.WithFolderFS(func(r *fsys.Root) fsys.FS { return &failingFS{FS: fsys.Rooted(r), op: op, err: broken} })
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, faulty)
		if op == "chtimes" { // a pity, but the file is right
			harness.CheckCounts(t, res, err, 2, 0, 0)
			continue
		}
		if strings.HasPrefix(op, "sync") { // every call would end the same way, and the files are there
			harness.CheckCounts(t, res, err, 2, 0, 0)
			if n := strings.Count(log.String(), "a folder could not be synced"); res.NotDurable != 2 || n != 1 {
				t.Errorf("%s: %d may be lost, logged %d times\n%s", op, res.NotDurable, n, log.String())
			}
			harness.Tried.Add("cases from the field", 1)
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

// TestPrefixKeysOfFoldersNotSynced checks that folders that keys stand for count as not durable where theirs cannot be synced, and
// that the manifest is in place all the same, also if its own folder cannot be.
func TestPrefixKeysOfFoldersNotSynced(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a/": 0, "a/b/": 0, "c": 10})
	dir, manifest := t.TempDir(), filepath.Join(t.TempDir(), "manifest")
	var log harness.Records
	d := harness.NewDownloader(t, s, ossdl.WithLogger(log.Logger()), harness.WithFS(&failingFS{FS: fsys.OS(), op: "sync", err: syscall.EACCES}))
	faulty := harness.WithFolderFS(func(r *fsys.Root) fsys.FS {
		return &failingFS{FS: fsys.Rooted(r), op: "sync .", err: syscall.EPERM}
	})
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithManifest(manifest), faulty)
	// Where the key a/b/ comes first, the folder of the key a/ is there.
	if err != nil || res.Done+res.Skipped != 3 || res.Done < 2 {
		t.Errorf("%+v, %v", res, err)
	}
	if res.NotDurable != 3 {
		t.Errorf("%d may be lost, want all 3", res.NotDurable)
	}
	if data, err := os.ReadFile(manifest); err != nil || strings.Count(string(data), "\n") == 0 {
		t.Errorf("%q, %v", data, err)
	}
	if n := strings.Count(log.String(), "folder of the manifest could not be synced"); n != 1 {
		t.Errorf("logged %d times\n%s", n, log.String())
	}
	harness.Tried.Add("cases from the field", 1)
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
	return errors.Join(f.fails("sync"), f.fails("sync "+name), f.FS.SyncDir(name))
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
