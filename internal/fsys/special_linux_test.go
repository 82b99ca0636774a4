package fsys_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ossdl/ossdl/internal/fsys"
)

func mknodNull(name string) error {
	return unix.Mknod(name, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
}

// TestReserveAllocates checks that Reserve allocates blocks, so that no write into them can fail for lack of space.
func TestReserveAllocates(t *testing.T) {
	const size = 3<<20 + 1
	f, err := fsys.OS().OpenFile(filepath.Join(t.TempDir(), "file"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := f.Reserve(0, size); errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if got := fi.Sys().(*syscall.Stat_t).Blocks * 512; fi.Size() != size || got < size {
		t.Errorf("size %d, %d bytes allocated; want %d", fi.Size(), got, size)
	}
	if err := f.Reserve(0, 1<<60); err == nil || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("reserving an EiB: %v", err)
	}
}

func TestReserveNoSpace(t *testing.T) {
	dir := t.TempDir()
	free, err := fsys.OS().Free(dir)
	if err != nil {
		t.Fatal(err)
	}
	mount := filepath.Join(dir, "mount")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip(err)
	}
	defer func() {
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}()
	if n, err := fsys.OS().Free(mount); err != nil || n != 1<<20 || n == free {
		t.Errorf("Free = %d, %v; want 1 MiB", n, err)
	}
	f, err := fsys.OS().OpenFile(filepath.Join(mount, "file"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Reserve(0, 2<<20); !fsys.IsNoSpace(err) {
		t.Errorf("reserving twice the disk: %v", err)
	}
	if err := f.Reserve(0, 1<<19); err != nil {
		t.Error(err)
	}
	if _, err := f.WriteAt(make([]byte, 2<<20), 0); !fsys.IsNoSpace(err) {
		t.Errorf("writing twice the disk: %v", err)
	}
	if fi, err := f.Stat(); err != nil || fi.Size() != 1<<20 {
		t.Errorf("%d bytes are there, %v; want 1 MiB", fi.Size(), err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestWritableIsAHint checks that a refusal of access(2) is not final. An ACL, a root that maps users or a seccomp filter
// may make it a wrong one; only creating the file shows that. What is certain is still an error.
func TestWritableIsAHint(t *testing.T) {
	dir := t.TempDir()
	locked := filepath.Join(dir, "locked")
	if err := errors.Join(os.Mkdir(locked, 0o555), os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	root, err := fsys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	asAnother(t, func() {
		for f, name := range map[fsys.FS]string{fsys.OS(): locked, fsys.Rooted(root): "locked"} {
			if err := f.Writable(name); err != nil {
				t.Errorf("%T: %v", f, err)
			}
		}
	})
}

// asAnother runs fn on a thread whose effective user is not root, for whom everything is allowed.
func asAnother(t *testing.T, fn func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		fn()
		return
	}
	const keep = ^uintptr(0)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, keep, 65534, keep); e != 0 {
		t.Skip(e)
	}
	defer func() {
		if _, _, e := syscall.RawSyscall(syscall.SYS_SETRESUID, keep, 0, keep); e != 0 {
			t.Fatal(e)
		}
	}()
	fn()
}

// TestWritableReadOnly checks that a file system mounted read-only is an error, also for root, who may write everywhere.
func TestWritableReadOnly(t *testing.T) {
	mount := t.TempDir()
	mounted(t, "tmpfs", mount, "tmpfs", unix.MS_RDONLY, "size=1m")
	root, err := fsys.OpenRoot(mount)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for f, name := range map[fsys.FS]string{fsys.OS(): mount, fsys.Rooted(root): "."} {
		if err := f.Writable(name); !errors.Is(err, syscall.EROFS) {
			t.Errorf("%T: %v, want EROFS", f, err)
		}
	}
}

// mounted mounts a file system until the end of the test, or skips the test.
func mounted(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Skip("mount: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// TestOpenLeased checks that a file under a lease is opened once its holder has released it. An open that does not wait is
// refused until then.
func TestOpenLeased(t *testing.T) {
	dir := t.TempDir()
	root, err := fsys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	for f, name := range map[fsys.FS]string{fsys.OS(): path, fsys.Rooted(root): "file"} {
		holder, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		broken := make(chan os.Signal, 1)
		signal.Notify(broken, syscall.SIGIO)
		if _, err := unix.FcntlInt(holder.Fd(), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
			t.Skip(err)
		}
		gone := make(chan error, 1)
		go func() {
			<-broken
			time.Sleep(50 * time.Millisecond)
			_, err := unix.FcntlInt(holder.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
			gone <- err
		}()
		file, err := f.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatalf("%T: %v", f, err)
		}
		if err := errors.Join(file.Close(), <-gone, holder.Close()); err != nil {
			t.Error(err)
		}
		signal.Stop(broken)
	}
}

// TestChtimesSetsBoth checks that the access time is set too: libfuse 2 drops a change that leaves it out, so that the
// file keeps both times (bindfs, encfs, unionfs).
func TestChtimesSetsBoth(t *testing.T) {
	dir := t.TempDir()
	root, err := fsys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	path := filepath.Join(dir, "file")
	long := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	for f, name := range map[fsys.FS]string{fsys.OS(): path, fsys.Rooted(root): "file"} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
		if err := f.Chtimes(name, long.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if at := time.Unix(fi.Sys().(*syscall.Stat_t).Atim.Unix()); at.Equal(long) {
			t.Errorf("%T: the access time is still %v", f, at)
		}
	}
}

// TestMounts checks how mounts are distinguished, with real ones: a tmpfs, the same folder mounted twice, a plain file that
// is a mount point.
func TestMounts(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"tmpfs", "twice", "plain"} {
		if err := os.Mkdir(at(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(at("file"), nil, 0o600), os.WriteFile(at("other"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	mounted(t, "tmpfs", at("tmpfs"), "tmpfs", 0, "size=1m,nr_inodes=3")
	mounted(t, at("plain"), at("twice"), "", unix.MS_BIND, "")
	mounted(t, at("other"), at("file"), "", unix.MS_BIND, "")
	root, err := fsys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for f, name := range map[fsys.FS]func(string) string{fsys.OS(): at, fsys.Rooted(root): func(name string) string { return name }} {
		here, err := f.Volume(name("."))
		if err != nil {
			t.Fatal(err)
		}
		for below, same := range map[string]bool{"plain": true, "tmpfs": false, "twice": false} {
			v, err := f.Volume(name(below))
			if err != nil || fsys.SameMount(here, v) != same {
				t.Errorf("%T, %s: %+v, %v; want the mount of %+v: %t", f, below, v, err, here, same)
			}
			was, is := name("other"), name(filepath.Join(below, "moved"))
			if err := f.Rename(was, is); errors.Is(err, syscall.EXDEV) == same {
				t.Errorf("%T: the rename into %s: %v", f, below, err)
			} else if err == nil {
				if err := f.Rename(is, was); err != nil {
					t.Fatal(err)
				}
			}
		}
		for file, want := range map[string]bool{"file": true, "other": false, "none": false, "plain": false, "twice": true} {
			if is, err := f.MountPoint(name(file)); is != want || err != nil {
				t.Errorf("%T: %s is a mount point: %t, %v", f, file, is, err)
			}
		}
		if err := fsys.CheckReplaceable(f, name("file")); !errors.Is(err, syscall.EBUSY) {
			t.Errorf("%T: a mount point: %v", f, err)
		}
		if err := f.Rename(name("other"), name("file")); !errors.Is(err, syscall.EBUSY) {
			t.Errorf("%T: the rename over it: %v", f, err)
		}
		v, err := f.Volume(name("tmpfs"))
		if err != nil || v.Files != 2 || v.Free > 1<<20 { // the folder itself is one of three
			t.Fatalf("%T, tmpfs: %+v, %v", f, v, err)
		}
		for i := range 3 {
			err := fsys.WriteFile(f, name(fmt.Sprintf("tmpfs/%d", i)), nil, 0o600)
			if i < 2 && err != nil || i == 2 && !fsys.IsNoSpace(err) {
				t.Errorf("%T: file %d: %v", f, i, err)
			}
		}
		if v, err := f.Volume(name("tmpfs")); err != nil || v.Files != 0 || v.Free <= 0 {
			t.Errorf("%T, inodes used up: %+v, %v", f, v, err)
		}
		for i := range 2 {
			if err := f.Remove(name(fmt.Sprintf("tmpfs/%d", i))); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestInherit checks that folders are told apart by what files made in them get: the group of a setgid folder, and the default
// access list. Folders that differ only in what files do not get are the same.
func TestInherit(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a folder to any group")
	}
	dir := t.TempDir()
	list := []byte("\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x07\x00\x39\x30\x00\x00" + // the owner, user 12345
		"\x04\x00\x05\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x05\x00\xff\xff\xff\xff") // the group, the mask, others
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"plain", "group", "setgid", "same", "other", "list"} {
		if err := os.Mkdir(at(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.Chown(at("group"), -1, 4321), os.Chown(at("setgid"), -1, 4321), os.Chown(at("same"), -1, 4321), os.Chown(at("other"), -1, 4322),
		os.Chmod(at("setgid"), 0o775|os.ModeSetgid), os.Chmod(at("same"), 0o755|os.ModeSetgid), os.Chmod(at("other"), 0o775|os.ModeSetgid),
	); err != nil {
		t.Fatal(err)
	}
	kinds := [][]string{{"plain", "group"}, {"setgid", "same"}, {"other"}}
	if err := unix.Setxattr(at("list"), "system.posix_acl_default", list, 0); err == nil {
		kinds = append(kinds, []string{"list"})
	} else {
		t.Log("no access lists here: ", err)
	}
	root, err := fsys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for f, name := range map[fsys.FS]func(string) string{fsys.OS(): at, fsys.Rooted(root): func(name string) string { return name }} {
		seen := map[string]int{}
		for i, kind := range kinds {
			for _, folder := range kind {
				v, err := f.Volume(name(folder))
				if err != nil {
					t.Fatal(err)
				}
				if was, ok := seen[v.Inherit]; ok && was != i || !ok && folder != kind[0] {
					t.Errorf("%T: %s inherits %q", f, folder, v.Inherit)
				}
				seen[v.Inherit] = i
			}
		}
	}
}

// TestFreeUnknown checks that a file system that does not report its size is not treated as a full one.
func TestFreeUnknown(t *testing.T) {
	mount := t.TempDir()
	mounted(t, "ramfs", mount, "ramfs", 0, "")
	if n, err := fsys.OS().Free(mount); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Free = %d, %v", n, err)
	}
	if v, err := fsys.OS().Volume(mount); err != nil || v.Free != -1 || v.Files != -1 || v.MaxName != 255 {
		t.Errorf("%+v, %v", v, err)
	}
	if err := fsys.WriteFile(fsys.OS(), filepath.Join(mount, "file"), []byte("content"), 0o600); err != nil {
		t.Error(err)
	}
}

// TestMaxSizeOfProcess checks that ulimit -f limits the size of files.
func TestMaxSizeOfProcess(t *testing.T) {
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	const most = 1 << 40
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: most, Max: was.Max}); err != nil {
		t.Skip(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &was); err != nil {
			t.Fatal(err)
		}
	}()
	dir := t.TempDir()
	if v, err := fsys.OS().Volume(dir); err != nil || v.MaxSize != most {
		t.Errorf("%+v, %v", v, err)
	}
	f, err := fsys.OS().OpenFile(filepath.Join(dir, "file"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(most + 1); !fsys.IsTooLarge(err) {
		t.Errorf("one byte more: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestDropBox checks a folder that may be written to and not read (0733), for those who are not root.
func TestDropBox(t *testing.T) {
	dir := t.TempDir()
	box := filepath.Join(dir, "box")
	if err := errors.Join(os.Mkdir(box, 0o733), os.Chmod(box, 0o733), os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	root, err := fsys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	asAnother(t, func() {
		for f, name := range map[fsys.FS]string{fsys.OS(): box, fsys.Rooted(root): "box"} {
			v, err := f.Volume(name)
			if err != nil || v.Free <= 0 {
				t.Errorf("%T: %+v, %v", f, v, err)
			}
			if err := f.Writable(name); err != nil {
				t.Errorf("%T: %v", f, err)
			}
			if err := f.SyncDir(name); os.Geteuid() != 0 && (!errors.Is(err, os.ErrPermission) || errors.Is(err, errors.ErrUnsupported)) {
				t.Errorf("%T: SyncDir: %v, want that it is forbidden", f, err)
			}
		}
	})
}

// TestCheckReplaceableForReal checks in a sticky folder that the check agrees with the kernel.
func TestCheckReplaceableForReal(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a file of another user")
	}
	dir := t.TempDir()
	shared := filepath.Join(dir, "shared")
	name, ours := filepath.Join(shared, "theirs"), filepath.Join(shared, "ours")
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755), os.Mkdir(shared, 0o755), os.Chmod(shared, 0o777|os.ModeSticky),
		os.WriteFile(name, nil, 0o666), os.Chown(name, 12345, -1)); err != nil {
		t.Fatal(err)
	}
	asAnother(t, func() {
		f := fsys.OS()
		if err := fsys.WriteFile(f, ours, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := fsys.CheckReplaceable(f, ours); err != nil {
			t.Error(err)
		}
		if err := fsys.CheckReplaceable(f, name); !errors.Is(err, syscall.EPERM) {
			t.Errorf("theirs: %v", err)
		}
		if err := f.Rename(ours, name); !errors.Is(err, syscall.EPERM) {
			t.Errorf("the rename: %v", err)
		}
	})
}

// TestDropCacheDrops checks that written pages leave the cache, so that they do not count against a container's memory.
func TestDropCacheDrops(t *testing.T) {
	dir := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil || st.Type == unix.TMPFS_MAGIC || st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		t.Skip("its pages have nowhere to go, ", err)
	}
	path := filepath.Join(dir, "file")
	f, err := fsys.OS().OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 8 << 20
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i >> 12)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		t.Fatal(err)
	}
	before := cachedPages(t, path, size)
	if err := f.WriteBack(0, size); err != nil {
		t.Fatal(err)
	}
	if err := f.DropCache(0, size); err != nil {
		t.Fatal(err)
	}
	if after := cachedPages(t, path, size); before == 0 || after > before/2 {
		t.Errorf("%d pages in memory before, %d after", before, after)
	}
	got := make([]byte, size)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the file is not what was written, %v", err)
	}
}

// cachedPages counts the pages of the file that are in memory.
func cachedPages(t *testing.T, path string, size int) int {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	pages := make([]byte, (size+os.Getpagesize()-1)/os.Getpagesize())
	if _, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(size), uintptr(unsafe.Pointer(&pages[0]))); e != 0 {
		t.Skip(e)
	}
	n := 0
	for _, p := range pages {
		n += int(p & 1)
	}
	return n
}
