//go:build unix

package fsys_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
)

// must fails the test at the first error.
func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// hold has f hold the folder open.
func hold(t *testing.T, f fsys.FS, dir string) {
	t.Helper()
	if _, err := f.Lstat(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// operations are done in a folder that holds the files "file", "going" and "old", as to make, find or change something there.
var operations = map[string]func(f fsys.FS, dir string) error{
	"make": func(f fsys.FS, dir string) error {
		return made(f.OpenFile(dir+"/new", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600))
	},
	"open":    func(f fsys.FS, dir string) error { return made(f.OpenFile(dir+"/file", os.O_RDWR, 0)) },
	"lstat":   func(f fsys.FS, dir string) error { return second(f.Lstat(dir + "/file")) },
	"mkdir":   func(f fsys.FS, dir string) error { return f.Mkdir(dir+"/folder", 0o755) },
	"rename":  func(f fsys.FS, dir string) error { return f.Rename("other", dir+"/there") },
	"take":    func(f fsys.FS, dir string) error { return f.Rename(dir+"/old", "taken") },
	"remove":  func(f fsys.FS, dir string) error { return f.Remove(dir + "/going") },
	"chtimes": func(f fsys.FS, dir string) error { return f.Chtimes(dir+"/file", time.Now()) },
	"mount": func(f fsys.FS, dir string) error {
		_, err := f.MountPoint(dir + "/file")
		return err
	},
	"resolve": func(f fsys.FS, dir string) error { return second(f.Resolve(dir + "/file")) },
	"list": func(f fsys.FS, dir string) error {
		names, err := f.List(dir, 10)
		if err == nil && len(names) != 3 {
			err = fmt.Errorf("%q are in the folder", names)
		}
		return err
	},
	"volume":   func(f fsys.FS, dir string) error { return second(f.Volume(dir)) },
	"writable": func(f fsys.FS, dir string) error { return f.Writable(dir) },
	"sync":     func(f fsys.FS, dir string) error { return f.SyncDir(dir) },
	"write":    func(f fsys.FS, dir string) error { return fsys.WriteFile(f, dir+"/file", nil, 0o600) },
}

func made(file fsys.File, err error) error {
	if err == nil {
		err = file.Close()
	}
	return err
}

// furnish makes the files that operations expect.
func furnish(t *testing.T, dir string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	for _, name := range []string{"file", "going", "old"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600))
	}
}

// TestHeldFolderRemoved checks that every operation finds the folder that others made where they removed one that is held, also
// if they did it with the one above, and says that there is none if there is none.
func TestHeldFolderRemoved(t *testing.T) {
	for op, do := range operations {
		for _, above := range []string{"a/b/c", "a/b", "a"} {
			f, dir, _ := rooted(t)
			must(t, os.WriteFile(filepath.Join(dir, "other"), nil, 0o600), os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755))
			hold(t, f, "a/b/c")
			must(t, os.RemoveAll(filepath.Join(dir, above)))
			if op != "rename" || above != "a/b/c" {
				if err := do(f, "a/b/c"); !errors.Is(err, fs.ErrNotExist) && op != "mount" {
					t.Errorf("%s without %s: %v", op, above, err)
				}
				must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(above)), 0o755))
			}
			furnish(t, filepath.Join(dir, "a/b/c"))
			if err := do(f, "a/b/c"); err != nil {
				t.Errorf("%s in another %s: %v", op, above, err)
			}
		}
	}
}

// TestHeldFolderReplaced is TestHeldFolderRemoved for a folder that still exists, elsewhere. What is not found there is looked
// for at the name, and questions about the folder are about the one at the name.
func TestHeldFolderReplaced(t *testing.T) {
	for op, do := range operations {
		for _, above := range []string{"a/b/c", "a/b", "a"} {
			f, dir, _ := rooted(t)
			must(t, os.WriteFile(filepath.Join(dir, "other"), nil, 0o600), os.MkdirAll(filepath.Join(dir, "a/b/c"), 0o755))
			hold(t, f, "a/b/c")
			must(t, os.Rename(filepath.Join(dir, above), filepath.Join(dir, "moved")))
			furnish(t, filepath.Join(dir, "a/b/c"))
			err := do(f, "a/b/c")
			if op == "write" {
				if !errors.Is(err, fsys.ErrMoved) {
					t.Errorf("%s into %s, which was moved: %v", op, above, err)
				}
			} else if err != nil {
				t.Errorf("%s where %s was replaced: %v", op, above, err)
			}
		}
	}
}

// TestWalkFromHeld checks that the way to a folder does not begin in one that was removed, or was moved together with those above
// it.
func TestWalkFromHeld(t *testing.T) {
	for _, above := range []string{"a/b", "a"} {
		for _, away := range []func(string) error{os.RemoveAll, func(name string) error { return os.Rename(name, name+"-moved") }} {
			f, dir, _ := rooted(t)
			must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
			hold(t, f, "a/b")
			must(t, away(filepath.Join(dir, above)))
			furnish(t, filepath.Join(dir, "a/b/c"))
			if _, err := f.Lstat("a/b/c/file"); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestSyncDirMoved checks that nothing counts as placed that went to a folder which was moved away, even if it is not held any
// more when it is synced, and whoever syncs it.
func TestSyncDirMoved(t *testing.T) {
	for _, evicted := range []string{"held", "moved while held", "moved afterwards"} {
		f, dir, _ := rooted(t)
		sub, moved := filepath.Join(dir, "sub"), filepath.Join(dir, "moved")
		must(t, os.Mkdir(sub, 0o755), os.WriteFile(filepath.Join(dir, "part"), nil, 0o600))
		hold(t, f, "sub")
		if evicted != "moved afterwards" {
			must(t, os.Rename(sub, moved), os.Mkdir(sub, 0o755))
		}
		must(t, f.Rename("part", "sub/file"))
		if evicted != "held" {
			for i := range 100 {
				name := fmt.Sprint(i)
				must(t, f.Mkdir(name, 0o755))
				hold(t, f, name)
			}
		}
		if evicted == "moved afterwards" {
			// At the name it was when it was placed, and that is all that can be known.
			must(t, os.Rename(sub, moved), os.Mkdir(sub, 0o755), f.SyncDir("sub"))
			continue
		}
		if _, err := os.Stat(filepath.Join(moved, "file")); err != nil {
			t.Errorf("%s: %v", evicted, err)
		}
		for range 2 {
			if err := f.SyncDir("sub"); !errors.Is(err, fsys.ErrMoved) {
				t.Errorf("%s: SyncDir: %v", evicted, err)
			}
		}
		must(t, fsysWrite(f, "other"))
	}

	f, dir, _ := rooted(t)
	sub := filepath.Join(dir, "sub")
	must(t, os.Mkdir(sub, 0o755), os.WriteFile(filepath.Join(dir, "part"), nil, 0o600))
	must(t, f.Rename("part", "sub/file"), os.RemoveAll(sub), os.Mkdir(sub, 0o755))
	if err := f.SyncDir("sub"); !errors.Is(err, fsys.ErrMoved) {
		t.Errorf("a folder that was removed with what was placed in it: %v", err)
	}

	f, dir, _ = rooted(t)
	sub = filepath.Join(dir, "sub")
	must(t, os.Mkdir(sub, 0o755))
	must(t, fsysWrite(f, "sub/file"))
	// What was placed before is durable: others may do with it what they like.
	must(t, os.Rename(sub, sub+"2"), os.Mkdir(sub, 0o755))
	must(t, f.SyncDir("sub"), fsysWrite(f, "sub/file"))
	if _, err := os.Stat(filepath.Join(sub, "file")); err != nil {
		t.Error(err)
	}
	// We know what we move and remove.
	must(t, f.Mkdir("sub/folder", 0o755), f.Rename("sub", "sub3"), f.Mkdir("sub", 0o755), f.SyncDir("sub"), f.SyncDir("sub3"))
	must(t, f.Mkdir("sub/folder", 0o755), f.Remove("sub/folder"), f.Remove("sub"), f.Mkdir("sub", 0o755), f.SyncDir("sub"))
	// A folder that others could remove was empty, unless they removed what was in it. The next operation in it finds that out.
	must(t, f.Mkdir("sub/folder", 0o755), f.Remove("sub/folder"), os.Remove(sub), os.Mkdir(sub, 0o755))
	must(t, fsysWrite(f, "sub/file"))
}

func fsysWrite(f fsys.FS, name string) error {
	return fsys.WriteFile(f, name, []byte("content"), 0o600)
}

// TestHeldLinks checks that a link planted in the path of a held folder leads nowhere outside of the root.
func TestHeldLinks(t *testing.T) {
	for op, do := range operations {
		f, dir, outside := rooted(t)
		must(t, os.WriteFile(filepath.Join(dir, "other"), nil, 0o600), os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
		furnish(t, filepath.Join(outside, "b"))
		hold(t, f, "a/b")
		must(t, os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "moved")))
		must(t, os.Symlink(outside, filepath.Join(dir, "a")))
		err := do(f, "a/b")
		switch op {
		case "make", "mkdir", "rename": // in the folder that was moved
		case "write":
			if !errors.Is(err, fsys.ErrMoved) {
				t.Errorf("%s: %v", op, err)
			}
		default:
			if err == nil {
				t.Errorf("%s: no error", op)
			}
		}
		entries, err := os.ReadDir(filepath.Join(outside, "b"))
		if err != nil || len(entries) != 3 {
			t.Errorf("%s: outside are now %v, %v", op, entries, err)
		}
	}

	// One that stays inside is followed to a folder, and never at the last element.
	f, dir, _ := rooted(t)
	furnish(t, filepath.Join(dir, "a/b"))
	must(t, os.Symlink("a", filepath.Join(dir, "way")), os.Symlink("file", filepath.Join(dir, "a/b/link")))
	must(t, fsysWrite(f, "way/b/new"), f.SyncDir("way/b"))
	if _, err := os.Stat(filepath.Join(dir, "a/b/new")); err != nil {
		t.Error(err)
	}
	through, err := f.Key("way/b/new")
	direct, derr := f.Key("a/b/new")
	if err != nil || derr != nil || through != direct {
		t.Errorf("the keys %v and %v, %v, %v", through, direct, err, derr)
	}
	if _, err := f.OpenFile("way/b/link", os.O_RDWR, 0); !errors.Is(err, fsys.ErrNotRegular) {
		t.Error(err)
	}
	old := time.Unix(1e9, 0)
	must(t, f.Chtimes("a/b/link", old))
	if fi, err := os.Stat(filepath.Join(dir, "a/b/file")); err != nil || fi.ModTime().Equal(old) {
		t.Errorf("the time of a link's target was set, %v", err)
	}
	must(t, os.Remove(filepath.Join(dir, "way")), os.Symlink("/", filepath.Join(dir, "way")))
	if _, err := f.Lstat("way/b/none"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name out of the root: %v", err)
	}
}

// TestRootedNames checks names that are not in the usual form.
func TestRootedNames(t *testing.T) {
	f, dir, _ := rooted(t)
	furnish(t, filepath.Join(dir, "a/b"))
	for _, name := range []string{"a/b/file", "./a//b/./file", "a/../a/b/file", "a/b/../b/file"} {
		if fi, err := f.Lstat(name); err != nil || fi.Name() != "file" || fi.Size() != 4 {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
		must(t, made(f.OpenFile(name, os.O_RDWR, 0)))
	}
	for _, name := range []string{"a/b", "a/b/", "a/b/.", "a/../a/b", "."} {
		if fi, err := f.Lstat(name); err != nil || !fi.IsDir() {
			t.Errorf("%s: %v, %v", name, fi, err)
		}
		must(t, f.SyncDir(name), second(f.Volume(name)), second(f.List(name, 5)))
		if _, err := f.OpenFile(name, os.O_RDONLY, 0); !errors.Is(err, fsys.ErrNotRegular) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "..", "../root/a", "a/../..", "/", dir, "a/b/file/", "a/b/file/.", "a/b/..", "a/b/file/x"} {
		if fi, err := f.Lstat(name); err == nil {
			t.Errorf("%q: %v", name, fi)
		}
		if f.Mkdir(name, 0o755) == nil || f.Remove(name) == nil || f.Chtimes(name, time.Now()) == nil {
			t.Errorf("%q: reached", name)
		}
	}
}

// TestRootedFileInfo checks that what an open folder says of a file is what package os says.
func TestRootedFileInfo(t *testing.T) {
	f, dir, _ := rooted(t)
	furnish(t, dir)
	must(t, os.Link(filepath.Join(dir, "file"), filepath.Join(dir, "second")), os.Symlink("file", filepath.Join(dir, "link")),
		os.Mkdir(filepath.Join(dir, "sticky"), 0o755), os.Chmod(filepath.Join(dir, "sticky"), 0o777|fs.ModeSticky),
		os.Chmod(filepath.Join(dir, "old"), 0o755|fs.ModeSetuid|fs.ModeSetgid))
	names := []string{".", "file", "second", "link", "sticky", "old"}
	for kind, make := range special {
		if err := make(filepath.Join(dir, kind)); err != nil {
			t.Log(kind, err)
			continue
		}
		names = append(names, kind)
	}
	for _, name := range names {
		want, err := os.Lstat(filepath.Join(dir, name))
		must(t, err)
		got, err := f.Lstat(name)
		must(t, err)
		id, _ := fsys.ID(want)
		gotID, ok := fsys.ID(got)
		if got.Name() != filepath.Base(name) || got.Size() != want.Size() || got.Mode() != want.Mode() || !got.ModTime().Equal(want.ModTime()) ||
			got.IsDir() != want.IsDir() || fsys.Links(got) != fsys.Links(want) || fsys.Allocated(got) != fsys.Allocated(want) || !ok || gotID != id {
			t.Errorf("%s: %v %v %v, want %v %v %v", name, got.Mode(), got.Size(), got.ModTime(), want.Mode(), want.Size(), want.ModTime())
		}
		other, err := os.Lstat(filepath.Join(dir, "going"))
		must(t, err)
		if !fsys.SameFile(got, want) || !fsys.SameFile(want, got) || fsys.SameFile(got, other) || fsys.SameFile(other, got) {
			t.Errorf("%s: another file than package os finds", name)
		}
	}
}

// TestHeldConcurrently checks that work in many folders goes on while others remove and replace them, with nothing lost that
// counts as placed.
func TestHeldConcurrently(t *testing.T) {
	f, dir, _ := rooted(t)
	const folders, workers, turns = 100, 8, 200
	at := func(i int) string { return fmt.Sprintf("folder-%d", i%folders) }
	for i := range folders {
		must(t, f.Mkdir(at(i), 0o755))
	}
	var wg sync.WaitGroup
	var placed sync.Map
	for w := range workers {
		wg.Go(func() {
			for i := range turns {
				name := fmt.Sprintf("%s/%d-%d", at(w*13+i*7), w, i)
				err := fsysWrite(f, name)
				if err == nil {
					placed.Store(name, true)
				} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fsys.ErrMoved) {
					t.Error(err)
				}
				if _, err := f.List(filepath.Dir(name), 1000); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			}
		})
	}
	for i := range turns {
		was := filepath.Join(dir, at(i))
		must(t, os.Rename(was, fmt.Sprintf("%s-was-%d", was, i)), os.Mkdir(was, 0o755))
	}
	wg.Wait()
	n := 0
	placed.Range(func(name, _ any) bool {
		n++
		// Moved after it counted, at the earliest.
		found, err := filepath.Glob(filepath.Join(dir, filepath.Dir(name.(string))+"*", filepath.Base(name.(string))))
		if err != nil || len(found) != 1 {
			t.Errorf("%s is at %v, %v", name, found, err)
		}
		return true
	})
	t.Logf("%d of %d files placed", n, workers*turns)
}

// TestRootClosed checks that a closed root is used no longer, while a file that is open stays good.
func TestRootClosed(t *testing.T) {
	dir := t.TempDir()
	furnish(t, filepath.Join(dir, "a"))
	root, err := fsys.OpenRoot(dir)
	must(t, err)
	f := fsys.Rooted(root)
	file, err := f.OpenFile("a/file", os.O_RDWR, 0)
	must(t, err)
	must(t, root.Close())
	for op, do := range operations {
		if err := do(f, "a"); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: %v", op, err)
		}
	}
	_, err = file.WriteAt([]byte("x"), 0)
	must(t, err, file.Sync(), file.Close())
	if err := file.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
}

// TestFileClosedMeanwhile checks that no operation reaches another file that was given the number of a closed one.
func TestFileClosedMeanwhile(t *testing.T) {
	f, _, _ := rooted(t)
	for range 50 {
		file, err := f.OpenFile("file", os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		var wg sync.WaitGroup
		for _, do := range []func() error{
			func() error { return second(file.WriteAt([]byte("mine"), 0)) }, file.Sync, file.TryLock, file.Close,
			func() error { return file.Truncate(4) }, func() error { return second(file.Stat()) },
		} {
			wg.Go(func() {
				if err := do(); err != nil && !errors.Is(err, fs.ErrClosed) {
					t.Error(err)
				}
			})
		}
		other, err := f.OpenFile("other", os.O_RDWR|os.O_CREATE, 0o600)
		must(t, err)
		wg.Wait()
		fi, err := other.Stat()
		must(t, err, other.Close())
		if fi.Size() != 0 {
			t.Fatal("another file was written")
		}
	}
}

// TestRootedErrno checks that errors of the system come through.
func TestRootedErrno(t *testing.T) {
	f, dir, _ := rooted(t)
	furnish(t, filepath.Join(dir, "a"))
	for want, err := range map[error]error{
		syscall.ENOTDIR: second(f.Lstat("a/file/x")), syscall.ENOTEMPTY: f.Remove("a"), fs.ErrExist: f.Mkdir("a", 0o755),
	} {
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
}
