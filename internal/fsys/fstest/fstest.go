// Package fstest is the conformance suite of fsys.FS: what ossdl relies on, asked of every implementation.
package fstest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
)

// Symlink makes a symbolic link in the system's file system and looks whether it is there. Wine 10 says that it is, and has
// made none.
func Symlink(target, name string) error {
	if err := os.Symlink(target, name); err != nil {
		return err
	}
	fi, err := os.Lstat(name)
	if err != nil || fi.Mode()&os.ModeSymlink == 0 {
		return fmt.Errorf("symlink %s: said to be made, and is not there: %w", name, errors.ErrUnsupported)
	}
	return nil
}

// Target is a file system to test, fresh for each test.
type Target struct {
	FS  fsys.FS
	Dir string // an empty folder

	// Links are no part of fsys.FS. nil: the file system has none, or the user may not make them.
	Symlink func(target, name string) error
	Link    func(oldname, newname string) error

	// What tests need to be somebody else, on names that are not links. nil: that cannot be.
	Chown func(name string, uid uint32) error
	Chmod func(name string, mode fs.FileMode) error // also fs.ModeSticky

	// Where false, errors.ErrUnsupported is accepted too.
	Reserves, Locks bool
}

func (g Target) path(elem ...string) string {
	return filepath.Join(append([]string{g.Dir}, elem...)...)
}

// Run runs the suite.
func Run(t *testing.T, target func(t *testing.T) Target) {
	for _, test := range []struct {
		name string
		fn   func(t *testing.T, g Target)
	}{
		{"Open", testOpen},
		{"Access", testAccess},
		{"ReadWrite", testReadWrite},
		{"ConcurrentWrites", testConcurrentWrites},
		{"Truncate", testTruncate},
		{"Reserve", testReserve},
		{"Sync", testSync},
		{"Closed", testClosed},
		{"Lstat", testLstat},
		{"Mkdir", testMkdir},
		{"LongName", testLongName},
		{"List", testList},
		{"Rename", testRename},
		{"Remove", testRemove},
		{"NotRegular", testNotRegular},
		{"Symlinks", testSymlinks},
		{"Free", testFree},
		{"Writable", testWritable},
		{"Chtimes", testChtimes},
		{"TryLock", testTryLock},
		{"Chmod", testChmod},
		{"WriteBack", testWriteBack},
		{"Volume", testVolume},
		{"MountPoint", testMountPoint},
		{"Owner", testOwner},
		{"Sticky", testSticky},
		{"Links", testLinks},
		{"SameFile", testSameFile},
		{"Resolve", testResolve},
		{"Key", testKey},
		{"Procedures", testProcedures},
	} {
		t.Run(test.name, func(t *testing.T) { test.fn(t, target(t)) })
	}
}

func testOpen(t *testing.T, g Target) {
	name := g.path("file")
	_, err := g.FS.OpenFile(name, os.O_RDWR, 0)
	wantPathError(t, err, fs.ErrNotExist, "file")
	_, err = g.FS.OpenFile(g.path("none", "file"), os.O_RDWR|os.O_CREATE, 0o600)
	wantPathError(t, err, fs.ErrNotExist, "file")

	put(t, g.FS, name, "content")
	if fi := lstat(t, g.FS, name); runtime.GOOS != "windows" && fi.Mode() != 0o600 {
		t.Errorf("mode %v, want -rw-------", fi.Mode())
	}
	_, err = g.FS.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	wantPathError(t, err, fs.ErrExist, "file")
	_, err = g.FS.OpenFile(filepath.Join(name, "below"), os.O_RDWR|os.O_CREATE, 0o600)
	wantPathError(t, err, nil, "below")

	closed(t, open(t, g.FS, name, os.O_RDWR|os.O_CREATE)) // opens what is there
	wantContent(t, g.FS, name, "content")
	closed(t, open(t, g.FS, name, os.O_RDWR|os.O_TRUNC))
	wantContent(t, g.FS, name, "")
}

func testAccess(t *testing.T, g Target) {
	name := g.path("file")
	put(t, g.FS, name, "content")
	r := open(t, g.FS, name, os.O_RDONLY)
	defer closed(t, r)
	if _, err := r.WriteAt([]byte("x"), 0); err == nil {
		t.Error("wrote to a file opened for reading")
	}
	if r.Truncate(1) == nil {
		t.Error("cut a file opened for reading")
	}
	w := open(t, g.FS, name, os.O_WRONLY)
	defer closed(t, w)
	if _, err := w.ReadAt(make([]byte, 1), 0); err == nil || err == io.EOF {
		t.Errorf("read from a file opened for writing: %v", err)
	}
	wantContent(t, g.FS, name, "content")
}

func testReadWrite(t *testing.T, g Target) {
	f := open(t, g.FS, g.path("file"), os.O_RDWR|os.O_CREATE)
	defer closed(t, f)
	if !strings.HasSuffix(f.Name(), "file") {
		t.Errorf("name %q", f.Name())
	}
	const far = 3<<20 + 5 // a hole before it
	for _, w := range []struct {
		off  int64
		data string
	}{{far, "far"}, {4094, "across a page"}, {0, ""}, {4096, "ACR"}} {
		if n, err := f.WriteAt([]byte(w.data), w.off); n != len(w.data) || err != nil {
			t.Fatalf("WriteAt(%q, %d) = %d, %v", w.data, w.off, n, err)
		}
	}
	want := make([]byte, far+3)
	copy(want[4094:], "acACR"+"s a page")
	copy(want[far:], "far")
	copy(want[4094:], "ac")
	if fi, err := f.Stat(); err != nil || fi.Size() != int64(len(want)) || fi.Name() != "file" {
		t.Errorf("Stat: %v, %v", fi, err)
	}
	for _, r := range []struct {
		off, size int64
		n         int
		err       error
	}{
		{0, far + 3, far + 3, nil}, {4090, 20, 20, nil}, {far - 1, 10, 4, io.EOF}, {far, 3, 3, nil},
		{far + 3, 1, 0, io.EOF}, {far + 100, 1, 0, io.EOF},
	} {
		got := bytes.Repeat([]byte{'?'}, int(r.size))
		n, err := f.ReadAt(got, r.off)
		if n != r.n || err != r.err && (err != nil || r.err != nil) {
			t.Fatalf("ReadAt %d bytes at %d = %d, %v; want %d, %v", r.size, r.off, n, err, r.n, r.err)
		}
		if n > 0 && !bytes.Equal(got[:n], want[r.off:r.off+int64(n)]) {
			t.Errorf("ReadAt %d bytes at %d: not what was written", r.size, r.off)
		}
	}
	_, err := f.ReadAt(make([]byte, 1), -1)
	wantPathError(t, err, nil, "file")
	_, err = f.WriteAt(make([]byte, 1), -1)
	wantPathError(t, err, nil, "file")
}

func testConcurrentWrites(t *testing.T, g Target) {
	name := g.path("file")
	f := open(t, g.FS, name, os.O_RDWR|os.O_CREATE)
	const parts, size = 16, 1000
	var wg sync.WaitGroup
	for i := range parts {
		wg.Go(func() {
			if _, err := f.WriteAt(bytes.Repeat([]byte{byte('a' + i)}, size), int64(i*size)); err != nil {
				t.Error(err)
			}
			if _, err := f.Stat(); err != nil {
				t.Error(err)
			}
			if err := f.Sync(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	closed(t, f)
	var want []byte
	for i := range parts {
		want = append(want, bytes.Repeat([]byte{byte('a' + i)}, size)...)
	}
	wantContent(t, g.FS, name, string(want))
}

func testTruncate(t *testing.T, g Target) {
	name := g.path("file")
	f := open(t, g.FS, name, os.O_RDWR|os.O_CREATE)
	if _, err := f.WriteAt([]byte("0123456789"), 0); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{4, 8} {
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
	}
	wantPathError(t, f.Truncate(-1), nil, "file")
	closed(t, f)
	wantContent(t, g.FS, name, "0123\x00\x00\x00\x00")
}

func testReserve(t *testing.T, g Target) {
	name := g.path("file")
	f := open(t, g.FS, name, os.O_RDWR|os.O_CREATE)
	defer closed(t, f)
	if _, err := f.WriteAt([]byte("kept"), 0); err != nil {
		t.Fatal(err)
	}
	wantPathError(t, f.Reserve(0, -1), nil, "file")
	for _, size := range []int64{0, 2, 10_000, 100} {
		err := f.Reserve(0, size)
		if !g.Reserves && errors.Is(err, errors.ErrUnsupported) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatalf("Reserve(%d): %v", size, err)
		}
	}
	wantContent(t, g.FS, name, "kept"+strings.Repeat("\x00", 9996))
}

func testSync(t *testing.T, g Target) {
	f := open(t, g.FS, g.path("file"), os.O_RDWR|os.O_CREATE)
	if err := f.Sync(); err != nil {
		t.Error(err)
	}
	closed(t, f)
	if err := g.FS.SyncDir(g.Dir); err != nil {
		t.Error(err)
	}
	wantPathError(t, g.FS.SyncDir(g.path("none")), fs.ErrNotExist, "none")
	wantPathError(t, g.FS.SyncDir(g.path("file")), nil, "file")
}

func testClosed(t *testing.T, g Target) {
	f := open(t, g.FS, g.path("file"), os.O_RDWR|os.O_CREATE)
	closed(t, f)
	_, read := f.ReadAt(make([]byte, 1), 0)
	_, write := f.WriteAt(make([]byte, 1), 0)
	_, stat := f.Stat()
	for op, err := range map[string]error{
		"close": f.Close(), "read": read, "write": write, "stat": stat, "truncate": f.Truncate(1),
		"reserve": f.Reserve(0, 1), "sync": f.Sync(), "lock": f.TryLock(),
		"chmod": f.Chmod(0o600), "chown": f.Chown(-1, -1), "write back": f.WriteBack(0, 1), "drop cache": f.DropCache(0, 1),
	} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s of a closed file: %v", op, err)
		}
	}
}

func testLstat(t *testing.T, g Target) {
	_, err := g.FS.Lstat(g.path("none"))
	wantPathError(t, err, fs.ErrNotExist, "none")
	put(t, g.FS, g.path("file"), "12345")
	if fi := lstat(t, g.FS, g.path("file")); fi.Size() != 5 || !fi.Mode().IsRegular() || fi.Name() != "file" {
		t.Errorf("a file: %v", fi)
	}
	if fi := lstat(t, g.FS, g.Dir); !fi.IsDir() {
		t.Errorf("a folder: %v", fi.Mode())
	}
}

func testList(t *testing.T, g Target) {
	dir := g.path("dir")
	if err := g.FS.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if names, err := g.FS.List(dir, 3); err != nil || len(names) != 0 {
		t.Errorf("of an empty folder: %q, %v", names, err)
	}
	for _, name := range []string{"a", "b", "new"} {
		if err := g.FS.Mkdir(g.path("dir", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	names, err := g.FS.List(dir, 4)
	slices.Sort(names)
	if err != nil || !slices.Equal(names, []string{"a", "b", "new"}) {
		t.Errorf("%q, %v", names, err)
	}
	if names, err := g.FS.List(dir, 2); err != nil || len(names) != 2 {
		t.Errorf("two at most: %q, %v", names, err)
	}
	_, err = g.FS.List(g.path("none"), 1)
	wantPathError(t, err, fs.ErrNotExist, "none")
}

func testMkdir(t *testing.T, g Target) {
	dir := g.path("dir")
	if err := g.FS.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if !lstat(t, g.FS, dir).IsDir() {
		t.Error("no folder")
	}
	wantPathError(t, g.FS.Mkdir(dir, 0o755), fs.ErrExist, "dir")
	wantPathError(t, g.FS.Mkdir(g.path("none", "dir"), 0o755), fs.ErrNotExist, "dir")
	put(t, g.FS, filepath.Join(dir, "file"), "content")
	wantContent(t, g.FS, filepath.Join(dir, "file"), "content")
}

// testLongName checks that the error of making a name which is too long says so.
func testLongName(t *testing.T, g Target) {
	v, err := g.FS.Volume(g.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if v.MaxName > 1<<16 {
		t.Skip("names have no limit")
	}
	name := g.path(strings.Repeat("x", v.MaxName+1))
	if _, err := g.FS.Lstat(name); !errors.Is(err, syscall.ENAMETOOLONG) && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lstat: %v", err)
	}
	wantPathError(t, g.FS.Mkdir(name, 0o755), syscall.ENAMETOOLONG, "xxx")
	_, err = g.FS.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	wantPathError(t, err, syscall.ENAMETOOLONG, "xxx")
}

func testRename(t *testing.T, g Target) {
	from, to, dir := g.path("from"), g.path("to"), g.path("dir")
	put(t, g.FS, from, "new")
	put(t, g.FS, to, "old")
	was := lstat(t, g.FS, from)
	f := open(t, g.FS, from, os.O_RDWR) // a partial file is renamed while it is open
	if err := g.FS.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("N"), 0); err != nil {
		t.Error(err)
	}
	closed(t, f)
	wantContent(t, g.FS, to, "New")
	wantNames(t, g, "to")
	if !fsys.SameFile(was, lstat(t, g.FS, to)) {
		t.Error("another file than the one renamed")
	}
	if err := g.FS.Rename(to, to); err != nil {
		t.Error(err)
	}
	if err := g.FS.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	fail := [][2]string{{from, to}, {to, g.path("none", "to")}, {to, dir}}
	if runtime.GOOS != "windows" { // where a folder replaces a file
		fail = append(fail, [2]string{dir, to})
	}
	for _, r := range fail {
		err := g.FS.Rename(r[0], r[1])
		if _, ok := errors.AsType[*os.LinkError](err); !ok {
			t.Errorf("rename %v: %v, want a LinkError", r, err)
		}
	}
	if err := g.FS.Rename(to, filepath.Join(dir, "file")); err != nil {
		t.Error(err)
	}
	if err := g.FS.Rename(dir, g.path("other")); err != nil {
		t.Error(err)
	}
	wantContent(t, g.FS, g.path("other", "file"), "New")
}

func testRemove(t *testing.T, g Target) {
	name := g.path("file")
	wantPathError(t, g.FS.Remove(name), fs.ErrNotExist, "file")
	put(t, g.FS, name, "content")
	f := open(t, g.FS, name, os.O_RDWR)
	if err := g.FS.Remove(name); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 7)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "content" {
		t.Errorf("read after remove: %q, %v", got, err)
	}
	closed(t, f)
	wantNames(t, g)

	if err := g.FS.Mkdir(g.path("dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, g.FS, g.path("dir", "file"), "")
	wantPathError(t, g.FS.Remove(g.path("dir")), nil, "dir")
	for _, name := range []string{g.path("dir", "file"), g.path("dir")} {
		if err := g.FS.Remove(name); err != nil {
			t.Error(err)
		}
	}
	wantNames(t, g)
}

func testNotRegular(t *testing.T, g Target) {
	if err := g.FS.Mkdir(g.path("dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []int{os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREATE} {
		_, err := g.FS.OpenFile(g.path("dir"), flag, 0o600)
		wantPathError(t, err, fsys.ErrNotRegular, "dir")
	}
}

func testSymlinks(t *testing.T, g Target) {
	if g.Symlink == nil {
		t.Skip("no symbolic links")
	}
	put(t, g.FS, g.path("file"), "content")
	if err := g.FS.Mkdir(g.path("dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"file", "none", "dir", "link"} {
		link := g.path("link")
		if err := g.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if fi := lstat(t, g.FS, link); fi.Mode().Type() != fs.ModeSymlink {
			t.Errorf("link to %s: mode %v", target, fi.Mode())
		}
		for _, flag := range []int{os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_CREATE | os.O_TRUNC} {
			_, err := g.FS.OpenFile(link, flag, 0o600)
			wantPathError(t, err, fsys.ErrNotRegular, "link")
		}
		_, err := g.FS.OpenFile(link, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		wantPathError(t, err, fs.ErrExist, "link")
		wantContent(t, g.FS, g.path("file"), "content")
		wantNames(t, g, "dir", "file", "link")

		// A rename and a removal are of the link.
		put(t, g.FS, g.path("temp"), "replaced")
		if err := g.FS.Rename(g.path("temp"), link); err != nil {
			t.Fatal(err)
		}
		wantContent(t, g.FS, link, "replaced")
		if err := g.FS.Remove(link); err != nil {
			t.Fatal(err)
		}
		wantNames(t, g, "dir", "file")
	}
	if err := g.Symlink("dir", g.path("way")); err != nil {
		t.Fatal(err)
	}
	put(t, g.FS, g.path("way", "file"), "through")
	wantContent(t, g.FS, g.path("dir", "file"), "through")
}

func testFree(t *testing.T, g Target) {
	n, err := g.FS.Free(g.Dir)
	if err != nil || n <= 0 {
		t.Errorf("Free = %d, %v", n, err)
	}
	_, err = g.FS.Free(g.path("none"))
	wantPathError(t, err, fs.ErrNotExist, "none")
}

func testWritable(t *testing.T, g Target) {
	if err := g.FS.Writable(g.Dir); err != nil {
		t.Error(err)
	}
	wantPathError(t, g.FS.Writable(g.path("none")), fs.ErrNotExist, "none")
	put(t, g.FS, g.path("file"), "")
	wantPathError(t, g.FS.Writable(g.path("file")), nil, "file")
	wantNames(t, g, "file")
}

func testChtimes(t *testing.T, g Target) {
	put(t, g.FS, g.path("file"), "")
	want := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	if err := g.FS.Chtimes(g.path("file"), want); err != nil {
		t.Fatal(err)
	}
	if got := lstat(t, g.FS, g.path("file")).ModTime(); !got.Equal(want) {
		t.Errorf("time %v, want %v", got, want)
	}
	wantPathError(t, g.FS.Chtimes(g.path("none"), want), fs.ErrNotExist, "none")
	if is, err := fsys.SetTime(g.FS, g.path("file"), want.Add(time.Hour)); err != nil || !is.Equal(want.Add(time.Hour)) {
		t.Errorf("SetTime = %v, %v", is, err)
	}
	_, err := fsys.SetTime(g.FS, g.path("none"), want)
	wantPathError(t, err, fs.ErrNotExist, "none")
}

func testChmod(t *testing.T, g Target) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no mode")
	}
	f := open(t, g.FS, g.path("file"), os.O_RDWR|os.O_CREATE)
	defer closed(t, f)
	for _, mode := range []fs.FileMode{0o640, 0o755, 0o600} {
		if err := f.Chmod(mode); err != nil {
			t.Fatal(err)
		}
		if fi := lstat(t, g.FS, g.path("file")); fi.Mode() != mode {
			t.Errorf("mode %v, want %v", fi.Mode(), mode)
		}
	}
}

func testWriteBack(t *testing.T, g Target) {
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	f := open(t, g.FS, g.path("file"), os.O_RDWR|os.O_CREATE)
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		f.WriteBack(0, 500_000), f.DropCache(0, 500_000), f.DropCache(500_000, 500_000), f.WriteBack(2_000_000, 10), f.Sync(),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	closed(t, f)
	wantContent(t, g.FS, g.path("file"), string(data))
}

func testVolume(t *testing.T, g Target) {
	v, err := g.FS.Volume(g.Dir)
	if err != nil || v.Free <= 0 || v.Files == 0 || v.MaxSize < 1<<20 || v.MaxName < 100 {
		t.Errorf("%+v, %v", v, err)
	}
	if n, err := g.FS.Free(g.Dir); err != nil || n <= 0 {
		t.Errorf("Free = %d, %v", n, err)
	}
	if err := g.FS.Mkdir(g.path("dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	below, err := g.FS.Volume(g.path("dir"))
	if err != nil || !fsys.SameMount(v, below) || below.Mount != v.Mount {
		t.Errorf("the folder below: %+v, %v; want the mount %v", below, err, v.Mount)
	}
	put(t, g.FS, g.path("file"), "")
	for _, name := range []string{"none", "file"} {
		_, err := g.FS.Volume(g.path(name))
		wantPathError(t, err, nil, name)
	}
}

func testMountPoint(t *testing.T, g Target) {
	put(t, g.FS, g.path("file"), "")
	for _, name := range []string{"none", "file"} {
		if is, err := g.FS.MountPoint(g.path(name)); is || err != nil {
			t.Errorf("%s is a mount point: %t, %v", name, is, err)
		}
		if err := fsys.CheckReplaceable(g.FS, g.path(name)); err != nil {
			t.Error(err)
		}
	}
}

func testOwner(t *testing.T, g Target) {
	put(t, g.FS, g.path("file"), "")
	f := open(t, g.FS, g.path("file"), os.O_RDWR)
	defer closed(t, f)
	user, ok := g.FS.User()
	made, madeOK, err := fsys.MadeBy(g.FS, g.Dir)
	owner, ownerOK := fsys.Owner(lstat(t, g.FS, g.path("file")))
	if err != nil || ok != madeOK || ok != ownerOK {
		t.Fatalf("a user: %t, an owner: %t and %t, %v", ok, madeOK, ownerOK, err)
	}
	wantNames(t, g, "file")
	if owner != made {
		t.Errorf("our file belongs to user %d, and to %d in the next moment", owner, made)
	}
	opened, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := fsys.Owner(opened); again != owner {
		t.Errorf("the open file belongs to user %d, that at its name to %d", again, owner)
	}
	if ours, err := fsys.Ours(g.FS, g.Dir, opened); !ours || err != nil {
		t.Errorf("a file of user %d, made by user %d, is ours: %t, %v", owner, user, ours, err)
	}
	if g.Chown == nil {
		return
	}
	if err := g.Chown(g.path("file"), stranger); err != nil {
		t.Fatal(err)
	}
	fi := lstat(t, g.FS, g.path("file"))
	if owner, _ := fsys.Owner(fi); owner != stranger {
		t.Errorf("owner %d", owner)
	}
	if ours, err := fsys.Ours(g.FS, g.Dir, fi); ours || err != nil {
		t.Errorf("a stranger's file is ours: %t, %v", ours, err)
	}
	for _, uid := range []int{stranger + 1, -1} { // -1 leaves it as it is
		if err := f.Chown(uid, -1); err != nil {
			t.Fatal(err)
		}
		if owner, _ := fsys.Owner(lstat(t, g.FS, g.path("file"))); owner != stranger+1 {
			t.Errorf("after a change to user %d: %d", uid, owner)
		}
	}
	wantNames(t, g, "file")
	_, _, err = fsys.MadeBy(g.FS, g.path("none"))
	wantPathError(t, err, fs.ErrNotExist, "none")
}

const stranger = 12345

// testSticky is the rule for links in sticky folders that everybody may write to.
func testSticky(t *testing.T, g Target) {
	if g.Chown == nil || g.Symlink == nil {
		t.Skip("nobody else to be")
	}
	shared := g.path("dir")
	if err := g.FS.Mkdir(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	if fsys.Sticky(lstat(t, g.FS, shared)) {
		t.Error("a new folder is sticky")
	}
	put(t, g.FS, g.path("file"), "")
	for name, target := range map[string]string{"file": "../file", "dir": "..", "mine": "../file"} {
		if err := g.Symlink(filepath.FromSlash(target), filepath.Join(shared, name)); err != nil {
			t.Fatal(err)
		}
		if name == "mine" {
			continue
		}
		if err := g.Chown(filepath.Join(shared, name), stranger); err != nil {
			t.Fatal(err)
		}
	}
	follows := func(what string, want bool) {
		t.Helper()
		for _, name := range []string{"file", filepath.Join("dir", "file"), filepath.Join("dir", "new")} {
			_, err := g.FS.Resolve(filepath.Join(shared, name))
			if want && err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if !want {
				wantPathError(t, err, fsys.ErrForeignLink, filepath.Join("dir", strings.Split(name, string(filepath.Separator))[0])+":")
				wantPathError(t, err, fs.ErrPermission, "12345")
			}
		}
		if _, err := g.FS.Resolve(filepath.Join(shared, "mine")); err != nil {
			t.Errorf("%s, our own link: %v", what, err)
		}
	}
	chmod := func(mode fs.FileMode) {
		t.Helper()
		if err := g.Chmod(shared, mode); err != nil {
			t.Fatal(err)
		}
	}
	follows("a plain folder", true)
	chmod(0o755 | fs.ModeSticky)
	follows("a sticky folder", true)
	chmod(0o777)
	follows("a folder that all may write to", true)
	chmod(0o777 | fs.ModeSticky)
	if !fsys.Sticky(lstat(t, g.FS, shared)) {
		t.Error("not sticky")
	}
	follows("a sticky folder that all may write to", false)
	if err := g.Chown(shared, stranger); err != nil {
		t.Fatal(err)
	}
	follows("a sticky folder of the link's owner", true)
	if err := g.Chown(shared, stranger+1); err != nil {
		t.Fatal(err)
	}
	follows("a sticky folder of a third user", false)
}

func testTryLock(t *testing.T, g Target) {
	name := g.path("file")
	a := open(t, g.FS, name, os.O_RDWR|os.O_CREATE)
	err := a.TryLock()
	if !g.Locks && errors.Is(err, errors.ErrUnsupported) {
		closed(t, a)
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	b := open(t, g.FS, name, os.O_RDWR)
	wantPathError(t, b.TryLock(), fsys.ErrLocked, "file")
	// It belongs to the file, not to the name, and another open file's end does not drop it.
	if err := g.FS.Rename(name, g.path("moved")); err != nil {
		t.Fatal(err)
	}
	closed(t, b)
	b = open(t, g.FS, g.path("moved"), os.O_RDWR)
	wantPathError(t, b.TryLock(), fsys.ErrLocked, "moved")
	other := open(t, g.FS, name, os.O_RDWR|os.O_CREATE)
	if err := other.TryLock(); err != nil {
		t.Errorf("a new file at the old name: %v", err)
	}
	closed(t, other)
	closed(t, a)
	if err := b.TryLock(); err != nil {
		t.Errorf("after the holder closed: %v", err)
	}
	closed(t, b)
}

func testLinks(t *testing.T, g Target) {
	put(t, g.FS, g.path("file"), "")
	if n := fsys.Links(lstat(t, g.FS, g.path("file"))); n != 1 {
		t.Errorf("%d links, want 1", n)
	}
	if g.Link == nil || runtime.GOOS == "windows" {
		t.Skip("no hard links")
	}
	if err := g.Link(g.path("file"), g.path("other")); err != nil {
		t.Fatal(err)
	}
	if n := fsys.Links(lstat(t, g.FS, g.path("file"))); n != 2 {
		t.Errorf("%d links, want 2", n)
	}
	f := open(t, g.FS, g.path("other"), os.O_RDWR)
	defer closed(t, f)
	if err := g.FS.Remove(g.path("file")); err != nil {
		t.Fatal(err)
	}
	fi, err := f.Stat()
	if err != nil || fsys.Links(fi) != 1 {
		t.Errorf("%d links, %v; want 1", fsys.Links(fi), err)
	}
}

func testSameFile(t *testing.T, g Target) {
	put(t, g.FS, g.path("a"), "")
	put(t, g.FS, g.path("b"), "")
	a, b := lstat(t, g.FS, g.path("a")), lstat(t, g.FS, g.path("b"))
	f := open(t, g.FS, g.path("a"), os.O_RDWR)
	defer closed(t, f)
	opened, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if !fsys.SameFile(a, opened) || !fsys.SameFile(opened, a) || fsys.SameFile(a, b) || fsys.SameFile(b, opened) {
		t.Error("a and b confused")
	}
	idA, ok := fsys.ID(a)
	idB, okB := fsys.ID(b)
	if idOpened, okOpened := fsys.ID(opened); ok != okB || ok != okOpened || ok && (idA != idOpened || idA == idB) {
		t.Errorf("IDs %d of a, %d of b, %d of a when it is open", idA, idB, idOpened)
	}
	if g.Link != nil {
		if err := g.Link(g.path("a"), g.path("c")); err != nil {
			t.Fatal(err)
		}
		if !fsys.SameFile(a, lstat(t, g.FS, g.path("c"))) {
			t.Error("two names of one file taken for two files")
		}
	}
}

func testResolve(t *testing.T, g Target) {
	put(t, g.FS, g.path("file"), "")
	if err := g.FS.Mkdir(g.path("dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	same := func(name, want string) {
		t.Helper()
		a, err := g.FS.Resolve(g.path(name))
		if err != nil {
			t.Errorf("Resolve(%s): %v", name, err)
			return
		}
		b, err := g.FS.Resolve(g.path(want))
		if err != nil || filepath.Clean(a) != filepath.Clean(b) {
			t.Errorf("Resolve(%s) = %s; want %s, %v", name, a, b, err)
		}
		if filepath.Base(a) != filepath.Base(want) {
			t.Errorf("Resolve(%s) = %s, want %s at the end", name, a, want)
		}
	}
	same("file", "file")
	same("none", "none")
	same("dir", "dir")
	_, err := g.FS.Resolve(g.path("none", "file"))
	wantPathError(t, err, fs.ErrNotExist, "none")
	_, err = g.FS.Resolve(g.path("file", "file"))
	wantPathError(t, err, nil, "file")
	_, err = g.FS.Resolve("")
	wantPathError(t, err, nil, "")
	if g.Symlink == nil {
		return
	}
	for name, target := range map[string]string{
		"link": "file", "dangling": "new", "up": "dir/../file", "chain": "dangling", "into": "dir/new", "folder": "dir",
		"loop": "pool", "pool": "loop", "lost": "none/file",
	} {
		if err := g.Symlink(filepath.FromSlash(target), g.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	same("link", "file")
	same("dangling", "new")
	same("up", "file")
	same("chain", "new")
	same("into", filepath.Join("dir", "new"))
	same("folder", "dir")
	_, err = g.FS.Resolve(g.path("loop"))
	wantPathError(t, err, nil, "loop")
	_, err = g.FS.Resolve(g.path("lost"))
	wantPathError(t, err, fs.ErrNotExist, "")
}

func testKey(t *testing.T, g Target) {
	key := func(name string) any {
		t.Helper()
		k, err := g.FS.Key(name)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	if err := g.FS.Mkdir(g.path("dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	a := key(g.path("a"))
	if a != key(g.path("a")) || a == key(g.path("b")) || a == key(g.path("dir", "a")) {
		t.Error("names confused")
	}
	put(t, g.FS, g.path("a"), "")
	if a != key(g.path("a")) {
		t.Error("another key once the file is there")
	}
	if g.Dir != "." && a != key(filepath.Dir(g.path("a"))+"/dir/../a") {
		t.Error("another key by way of a folder")
	}
	_, err := g.FS.Key(g.path("none", "a"))
	wantPathError(t, err, fs.ErrNotExist, "none")
	if g.Symlink == nil {
		return
	}
	if err := g.Symlink("dir", g.path("way")); err != nil {
		t.Fatal(err)
	}
	if key(g.path("way", "a")) != key(g.path("dir", "a")) {
		t.Error("another key by way of a link")
	}
	if err := g.Symlink("a", g.path("link")); err != nil {
		t.Fatal(err)
	}
	if key(g.path("link")) == a {
		t.Error("the last element was followed")
	}
}

func testProcedures(t *testing.T, g Target) {
	name := g.path("file")
	for _, data := range []string{"one", "two, longer", ""} {
		if err := fsys.WriteFile(g.FS, name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		wantContent(t, g.FS, name, data)
	}
	wantNames(t, g, "file")

	for range 3 {
		unlock, systemwide, err := fsys.Lock(g.FS, g.path("lock"))
		if err != nil {
			t.Fatal(err)
		}
		if g.Locks && !systemwide {
			t.Error("locks not supported")
		}
		_, _, err = fsys.Lock(g.FS, g.path("lock"))
		wantPathError(t, err, fsys.ErrLocked, "lock")
		wantNames(t, g, "file", "lock")
		if err := unlock(); err != nil {
			t.Error(err)
		}
		if err := unlock(); err != nil {
			t.Errorf("unlock again: %v", err)
		}
		wantNames(t, g, "file")
	}
}

func open(t *testing.T, f fsys.FS, name string, flag int) fsys.File {
	t.Helper()
	file, err := f.OpenFile(name, flag, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func closed(t *testing.T, file fsys.File) {
	t.Helper()
	if err := file.Close(); err != nil {
		t.Error(err)
	}
}

func put(t *testing.T, f fsys.FS, name, data string) {
	t.Helper()
	file := open(t, f, name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if _, err := file.WriteAt([]byte(data), 0); err != nil {
		t.Fatal(err)
	}
	closed(t, file)
}

func lstat(t *testing.T, f fsys.FS, name string) fs.FileInfo {
	t.Helper()
	fi, err := f.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	return fi
}

func wantContent(t *testing.T, f fsys.FS, name, want string) {
	t.Helper()
	got, err := fsys.ReadFile(f, name, int64(len(want)))
	if err != nil {
		t.Errorf("%s: %v", name, err)
	} else if string(got) != want {
		t.Errorf("%s holds %.40q (%d bytes), want %.40q (%d bytes)", name, got, len(got), want, len(want))
	}
}

// wantNames asks for each name that any test uses; FS has no listing.
func wantNames(t *testing.T, g Target, want ...string) {
	t.Helper()
	for _, name := range []string{"a", "b", "dir", "file", "from", "link", "lock", "new", "none", "temp", "to", "file" + fsys.TempSuffix} {
		_, err := g.FS.Lstat(g.path(name))
		if there := err == nil; there != slices.Contains(want, name) {
			t.Errorf("%s is there: %t (%v)", name, there, err)
		}
	}
}

// wantPathError wants a *fs.PathError with the cause (nil: any) whose text names the file.
func wantPathError(t *testing.T, err, cause error, name string) {
	t.Helper()
	if _, ok := errors.AsType[*fs.PathError](err); !ok || cause != nil && !errors.Is(err, cause) ||
		!strings.Contains(err.Error(), name) {
		t.Errorf("error %v; want a PathError of %s with the cause %v", err, name, cause)
	}
}
