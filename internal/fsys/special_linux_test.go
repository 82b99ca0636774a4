package fsys_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

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

// Root may write everywhere, so the thread becomes somebody else for the question.
func TestWritableAsAnother(t *testing.T) {
	dir := t.TempDir()
	locked := filepath.Join(dir, "locked")
	if err := os.Mkdir(locked, 0o555); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if os.Geteuid() == 0 {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
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
	}
	for f, name := range map[fsys.FS]string{fsys.OS(): locked, fsys.Rooted(root): "locked"} {
		if err := f.Writable(name); !errors.Is(err, os.ErrPermission) {
			t.Errorf("%T: %v", f, err)
		}
	}
}
