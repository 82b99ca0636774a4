package fsys_test

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossdl/ossdl/internal/fsys"
)

func mknodNull(name string) error {
	return unix.Mknod(name, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
}

// Reserve takes blocks from the disk, so that no write into them can fail for want of space.
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

// TestWritableIsAHint checks that a refusal of access(2) is not believed: an ACL, a root that maps users or a seccomp
// filter may make it a wrong one, and making the file tells. What is certain is still an error.
func TestWritableIsAHint(t *testing.T) {
	dir := t.TempDir()
	locked := filepath.Join(dir, "locked")
	if err := errors.Join(os.Mkdir(locked, 0o555), os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
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
	root, err := os.OpenRoot(mount)
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

// TestOpenLeased checks that a file under a lease is opened once its holder has given way. An open that does not wait
// is refused meanwhile.
func TestOpenLeased(t *testing.T) {
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
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
	root, err := os.OpenRoot(dir)
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
