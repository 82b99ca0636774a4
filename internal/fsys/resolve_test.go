package fsys_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/fstest"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

func TestResolve(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(top)
	for _, dir := range []string{"a", "a/b", "c"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("a/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{
		"c/tob":    "../a/b",  // a folder elsewhere
		"file":     "a/file",  // a file elsewhere
		"dangling": "a/b/new", // a file that is not there yet
		"absolute": filepath.Join(top, "a", "new"),
		"chain":    "c/tob/../link", // through a folder's parent, which is a, not c
		"a/link":   "b/../b/end",
		"lost":     "none/new", // no such folder
		"loop":     "loop",
		"ring":     "c/ring",
		"c/ring":   "../ring",
		"nodir":    "a/file/new", // a file as a folder
		"toa":      "a",
		"tofolder": "a/b" + string(filepath.Separator),
	} {
		if err := fstest.Symlink(filepath.FromSlash(target), name); err != nil {
			t.Skip(err)
		}
	}
	for _, test := range []struct{ path, want string }{
		{"a/file", "a/file"},
		{"a/new", "a/new"},
		{"./a//new", "a/new"},
		{"a/b/../new", "a/new"},
		{"c/tob/new", "a/b/new"},
		{"c/tob/../new", "a/new"}, // not c/new: the parent of where the link leads
		{"toa/file", "a/file"},
		{"file", "a/file"},
		{"dangling", "a/b/new"},
		{"absolute", "a/new"},
		{"chain", "a/b/end"},
		{"toa/link", "a/b/end"},
		{"a", "a"},
		{"a/", "a"},
		{"toa", "a"},
		{"toa/", "a"},
		{"tofolder", "a/b"},
		{".", ""},
		{"a/..", ""},
		{"c/tob/..", "a"},
		{filepath.Join(top, "a", "new"), "a/new"},
	} {
		got, err := fsys.Resolve(filepath.FromSlash(test.path))
		if want := filepath.Join(top, filepath.FromSlash(test.want)); got != want || err != nil {
			t.Errorf("Resolve(%s) = %s, %v; want %s", test.path, got, err, want)
		}
	}
	for _, test := range []struct {
		path  string
		cause error
		names string
	}{
		{"", fs.ErrNotExist, "resolve"},
		{"none/new", fs.ErrNotExist, "none"},
		{"new/", fs.ErrNotExist, "new"}, // a folder by its name
		{"a/none/../new", fs.ErrNotExist, "none"},
		{"lost", fs.ErrNotExist, "none"},
		{"loop", syscall.ELOOP, "loop"},
		{"ring", syscall.ELOOP, "ring"},
		{"loop/new", syscall.ELOOP, "loop"},
		{"nodir", syscall.ENOTDIR, "file"},
		{"a/file/new", syscall.ENOTDIR, "file"},
		{"a/file/", syscall.ENOTDIR, "file"},
	} {
		got, err := fsys.Resolve(filepath.FromSlash(test.path))
		if got != "" || err == nil || test.cause != nil && !errors.Is(err, test.cause) || !strings.Contains(err.Error(), test.names) {
			t.Errorf("Resolve(%s) = %s, %v; want %v", test.path, got, err, test.cause)
		}
	}
}

// TestKeyAcross checks that OS and Rooted exclude each other on the same file, also through a link to the folder.
func TestKeyAcross(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "below"), 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := fsys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	a, err := fsys.OS().Key(filepath.Join(dir, "below", "file"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := fsys.Rooted(root).Key(filepath.Join("below", "file"))
	if err != nil || a != b {
		t.Errorf("%v and %v, %v", a, b, err)
	}
}

// syncedFS notes which folders are synced, and cannot sync one of them.
type syncedFS struct {
	fsys.FS
	broken string
	synced []string
}

func (f *syncedFS) SyncDir(name string) error {
	name = filepath.ToSlash(name)
	if name == f.broken {
		return syscall.EIO
	}
	f.synced = append(f.synced, name)
	return f.FS.SyncDir(name)
}

// Writable goes by the mode: the owner is looked at before.
func (f *syncedFS) Writable(name string) error {
	fi, err := f.Lstat(name)
	if user, _ := f.User(); err == nil && user != 0 && fi.Mode()&0o002 == 0 {
		return syscall.EACCES
	}
	return err
}

// TestFoldersAreSynced checks which folders are synced when one is made or found: those in which this user may have made one.
func TestFoldersAreSynced(t *testing.T) {
	disk := func() *memfs.FS {
		f := memfs.New(memfs.Config{})
		for _, dir := range []string{"/home", "/home/u", "/home/u/a", "/home/u/disk", "/home/u/disk/d", "/tmp", "/tmp/x"} {
			if err := f.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(f.Chown("/home/u", 1000), f.Chown("/home/u/a", 1000), f.Chown("/home/u/disk", 1000), f.Mount("/home/u/disk"),
			f.Chmod("/tmp", 0o777|fs.ModeSticky)); err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, test := range []struct {
		user uint32
		dir  string
		want []string
	}{
		{1000, "/home/u", nil},
		{1000, "/home/u/a", []string{"/home/u"}},
		{1000, "/home/u/a/new", []string{"/home/u/a", "/home/u"}},
		{1000, "/home/u/a/new/deep/", []string{"/home/u/a/new", "/home/u/a", "/home/u"}},
		{1000, "/home/new", []string{"/home"}}, // by an access list
		{1000, "/home/u/disk", nil},
		{1000, "/home/u/disk/d", []string{"/home/u/disk"}},
		{1000, "/tmp/x", []string{"/tmp"}}, // of another user
		{0, "/home/u/a", []string{"/home/u", "/home", "/"}},
		{0, "/", nil},
	} {
		mem := disk()
		mem.SetUser(test.user)
		f := &syncedFS{FS: mem}
		var folders fsys.Folders
		for again := range 2 {
			if _, unsynced, err := folders.Make(f, test.dir, 0o777); unsynced != nil || err != nil || !slices.Equal(f.synced, test.want) {
				t.Errorf("user %d, %s, %d: %q, %v, %v; want %q", test.user, test.dir, again, f.synced, unsynced, err, test.want)
			}
		}
	}
	f := &syncedFS{FS: disk()}
	var folders fsys.Folders
	for _, test := range []struct {
		broken, dir string
		lasts       bool
		synced      []string
	}{
		{"", "/tmp/x", true, []string{"/tmp", "/"}},
		{"", "/tmp/x/new", true, []string{"/tmp/x"}},
		{"/tmp", "/tmp/y", false, nil},
		{"", "/tmp/y", false, nil}, // nothing says that a later sync has what the failed one lost
		{"", "/tmp/y/z", false, []string{"/tmp/y"}},
		{"", "/home/u", true, []string{"/home"}},
	} {
		f.broken, f.synced = test.broken, nil
		_, unsynced, err := folders.Make(f, test.dir, 0o777)
		if err != nil || test.lasts != (unsynced == nil) || !slices.Equal(f.synced, test.synced) {
			t.Errorf("%s: %q, %v, %v; want %q", test.dir, f.synced, unsynced, err, test.synced)
		}
	}
}
