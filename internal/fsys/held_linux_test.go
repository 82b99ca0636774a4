package fsys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// descriptors counts the open files of this process at dir and below.
func descriptors(t *testing.T, dir string) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name())); err == nil && strings.HasPrefix(to, dir) {
			n++
		}
	}
	return n
}

func openedRoot(t *testing.T) (*Root, FS, string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root, err := OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root, Rooted(root), dir
}

// TestHeldBounded checks that as many folders are held as are allowed, and that none is left after Close, whatever happened to
// them.
func TestHeldBounded(t *testing.T) {
	root, f, dir := openedRoot(t)
	for i := range 3 * maxHeld {
		name := fmt.Sprintf("%d", i)
		if err := errors.Join(f.Mkdir(name, 0o755), f.Mkdir(name+"/below", 0o755), WriteFile(f, name+"/below/file", nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		if i%5 == 0 { // of what is held
			if err := errors.Join(os.Rename(filepath.Join(dir, name), filepath.Join(dir, name+"-moved")), os.Mkdir(filepath.Join(dir, name), 0o755)); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Lstat(name + "/below/file"); !errors.Is(err, fs.ErrNotExist) && err != nil {
				t.Error(err)
			}
		}
		const roots = 2 // that of os.Root, and ours
		if n := descriptors(t, dir); n > maxHeld+roots {
			t.Fatalf("%d folders are open", n)
		}
	}
	if n := descriptors(t, dir); n < maxHeld {
		t.Errorf("%d folders are open, so few", n)
	}
	if err := root.Close(); err != nil {
		t.Fatal(err)
	}
	if n := descriptors(t, dir); n != 0 {
		t.Errorf("%d files are left open", n)
	}
}

// TestHeldWhileClosed checks that a folder which is in use at the time of Close is closed after that.
func TestHeldWhileClosed(t *testing.T) {
	root, f, dir := openedRoot(t)
	if err := f.Mkdir("a", 0o755); err != nil {
		t.Fatal(err)
	}
	with(t, &fsyncFolder, func(fd int) error {
		if err := root.Close(); err != nil {
			t.Error(err)
		}
		return unix.Fsync(fd)
	})
	if err := f.SyncDir("a"); err != nil && !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	if n := descriptors(t, dir); n != 0 {
		t.Errorf("%d files are left open", n)
	}
}

// TestOneOpenEach checks that a file in a held folder, however deep, takes one open(2), and so does the next folder.
func TestOneOpenEach(t *testing.T) {
	_, f, _ := openedRoot(t)
	for _, dir := range []string{"a", "a/b", "a/b/c", "a/b/c/d"} {
		if err := f.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var opens atomic.Int64
	real := openat
	with(t, &openat, func(dir int, name string, flags int, mode uint32) (int, error) {
		opens.Add(1)
		return real(dir, name, flags, mode)
	})
	for i := range 5 {
		name := fmt.Sprintf("a/b/c/%d", i)
		file, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			err = file.Close()
		}
		if _, kerr := f.Key(name); err != nil || kerr != nil {
			t.Fatal(err, kerr)
		}
		if err := errors.Join(f.Rename(name, name+"-moved"), f.SyncDir("a/b/c"), f.Remove(name+"-moved")); err != nil {
			t.Fatal(err)
		}
	}
	if n := opens.Load(); n != 5 {
		t.Errorf("%d opens for five files in a held folder", n)
	}
	if _, err := f.Lstat("a/b/c/d/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if n := opens.Load(); n != 6 {
		t.Errorf("%d opens with one more folder", n)
	}
}

// TestRootedWithoutNonblock is TestOpenWithoutNonblock below a root.
func TestRootedWithoutNonblock(t *testing.T) {
	_, f, dir := openedRoot(t)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), nil, 0o600), unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	real := openat
	for _, errno := range []error{unix.EINVAL, unix.EWOULDBLOCK} {
		with(t, &openat, func(dir int, name string, flags int, mode uint32) (int, error) {
			if flags&unix.O_NONBLOCK != 0 {
				return -1, errno
			}
			return real(dir, name, flags, mode)
		})
		file, err := f.OpenFile("file", os.O_RDWR, 0)
		if err != nil {
			t.Fatalf("%v: %v", errno, err)
		}
		if err := file.Close(); err != nil {
			t.Error(err)
		}
		if _, err := f.OpenFile("pipe", os.O_RDONLY, 0); !errors.Is(err, ErrNotRegular) {
			t.Errorf("%v, a pipe: %v", errno, err)
		}
	}
}

// TestWritesInPieces checks that WriteAt goes on after an interrupted and after a short write, and counts what was written before
// an error.
func TestWritesInPieces(t *testing.T) {
	_, f, dir := openedRoot(t)
	file, err := f.OpenFile("file", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	calls := 0
	with(t, &pwrite, func(fd int, p []byte, off int64) (int, error) {
		if calls++; calls%2 == 1 {
			return -1, unix.EINTR
		}
		if off >= 6 {
			return -1, unix.ENOSPC
		}
		return unix.Pwrite(fd, p[:min(2, len(p))], off)
	})
	if n, err := file.WriteAt([]byte("abcd"), 0); n != 4 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := file.WriteAt([]byte("efgh"), 4); n != 2 || !IsNoSpace(err) {
		t.Errorf("%d bytes, %v; want two and a full disk", n, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(got) != "abcdef" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestLayeredNumbers checks that a folder counts as the same if its number changed with the one at its name, as overlayfs does
// when something is written into it.
func TestLayeredNumbers(t *testing.T) {
	root, f, _ := openedRoot(t)
	if err := errors.Join(f.Mkdir("a", 0o755), f.Mkdir("a/b", 0o755)); err != nil {
		t.Fatal(err)
	}
	d, err := root.below.acquire("a")
	if err != nil {
		t.Fatal(err)
	}
	d.info.st.Ino++
	root.below.release(d)
	if err := f.SyncDir("a"); err != nil {
		t.Error(err)
	}
}
