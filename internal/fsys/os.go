package fsys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

// OS is the file system of the operating system.
//
// On Windows files are opened so that others may rename and remove them; a program that opens one of them without
// sharing deletion (a virus scanner, say) makes Rename and Remove fail with a sharing violation while it has it open.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := openNoFollow(name, flag, perm)
	if err != nil {
		return nil, explainOpen(name, tooLong(name, err), os.Lstat)
	}
	return plainFile(f)
}

func (osFS) Lstat(name string) (fs.FileInfo, error) {
	fi, err := os.Lstat(name)
	if err == nil {
		// On Windows package os learns which file it is when it is first asked, by the name, which may be another's then.
		os.SameFile(fi, fi)
	}
	return fi, tooLong(name, err)
}

func (osFS) Mkdir(name string, perm fs.FileMode) error { return tooLong(name, os.Mkdir(name, perm)) }

func (osFS) List(dir string, most int) ([]string, error) { return listFolder(os.OpenFile, dir, most) }

func (osFS) Rename(oldname, newname string) error { return rename(oldname, newname) }

func (osFS) Remove(name string) error { return patiently(func() error { return os.Remove(name) }) }

func (osFS) SyncDir(name string) error {
	return withFolder(os.OpenFile, name, 0, syncDir)
}

func (osFS) Free(dir string) (int64, error) {
	v, err := volumeAt(dir)
	return freeOf(dir, v, err)
}

func (osFS) Volume(dir string) (Volume, error) { return volumeAt(dir) }

func (osFS) User() (uid uint32, ok bool) { return effectiveUser() }

func (osFS) MountPoint(name string) (bool, error) {
	fi, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	folder, err := os.Stat(filepath.Dir(name))
	return err == nil && mountPointAt(folder, fi, name), err
}

func (osFS) Writable(dir string) error {
	// access(2) says nothing about the kind, and a plain file may well be writable and executable.
	fi, err := os.Stat(dir)
	if err == nil && !fi.IsDir() {
		err = &fs.PathError{Op: "access", Path: dir, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return err
	}
	if err := certain(writableAt(dir)); err != nil {
		return &fs.PathError{Op: "access", Path: dir, Err: err}
	}
	return nil
}

func (osFS) Chtimes(name string, mtime time.Time) error { return os.Chtimes(name, time.Now(), mtime) }

func (osFS) Resolve(name string) (string, error) { return Resolve(name) }

func (osFS) Key(name string) (any, error) {
	dir, base := filepath.Split(name)
	dir, err := resolveFolder(dir)
	if err != nil {
		return nil, err
	}
	return filepath.Join(dir, base), nil
}

// osFile is a plain file of the operating system, opened by OS or by Rooted.
type osFile struct {
	*os.File
	lost atomic.Pointer[error] // of a write-back that failed; the system reports it only once
}

func (f *osFile) Stat() (fs.FileInfo, error) { return stat(f.File) }

func (f *osFile) Reserve(off, size int64) error {
	if off < 0 || size < 0 {
		return &fs.PathError{Op: "reserve", Path: f.Name(), Err: syscall.EINVAL}
	}
	if size == 0 {
		return nil // fallocate(2) takes it for an error
	}
	return control(f.File, "reserve", func(fd uintptr) error { return ReserveError(reserve(f.File, fd, off, size)) })
}

func (f *osFile) Sync() error {
	err := control(f.File, "sync", func(fd uintptr) error { return SyncError(syncData(f.File, fd)) })
	if lost := f.lost.Swap(nil); lost != nil {
		return *lost
	}
	return err
}

func (f *osFile) WriteBack(off, size int64) error {
	return control(f.File, "write back", func(fd uintptr) error { return writeBack(fd, off, size) })
}

func (f *osFile) DropCache(off, size int64) error {
	err := control(f.File, "drop cache", func(fd uintptr) error { return dropCache(fd, off, size) })
	if err != nil {
		f.lost.Store(&err)
	}
	return err
}

func (f *osFile) TryLock() error {
	return control(f.File, "lock", tryLock)
}

// control runs fn while the descriptor cannot be closed and given to another file.
func control(f *os.File, op string, fn func(fd uintptr) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return &fs.PathError{Op: op, Path: f.Name(), Err: err}
	}
	var ferr error
	if conn.Control(func(fd uintptr) { ferr = fn(fd) }) != nil {
		ferr = fs.ErrClosed
	}
	if ferr != nil {
		return &fs.PathError{Op: op, Path: f.Name(), Err: ferr}
	}
	return nil
}

// plainFile is f as a File, or closed and an error if f is something else than a plain file.
func plainFile(f *os.File) (File, error) {
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = notRegular("open", f.Name(), fi.Mode())
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &osFile{File: f}, nil
}

// withFolder runs fn with the folder open, by flags beyond those that keep it from waiting. Nothing but a folder is taken.
func withFolder(
	open func(name string, flag int, perm fs.FileMode) (*os.File, error), name string, flag int, fn func(*os.File) error,
) error {
	d, err := open(name, os.O_RDONLY|openGuards|flag, 0)
	if err != nil {
		return err
	}
	fi, err := d.Stat()
	if err == nil && !fi.IsDir() {
		err = &fs.PathError{Op: "open", Path: name, Err: syscall.ENOTDIR}
	}
	if err == nil {
		err = fn(d)
	}
	return errors.Join(err, d.Close())
}

// listFolder is the List of a file system whose folders open opens.
func listFolder(
	open func(name string, flag int, perm fs.FileMode) (*os.File, error), name string, most int,
) (names []string, err error) {
	err = withFolder(open, name, 0, func(d *os.File) (err error) {
		names, err = d.Readdirnames(max(most, 1))
		if err == io.EOF { // there are none
			err = nil
		}
		return err
	})
	return names, err
}

// explainOpen names the cause if the system's errno for "that is no plain file" says little (ELOOP, ENXIO, EMLINK). A file that is
// read-only itself is no matter of waiting, where the errno may be one.
func explainOpen(name string, err error, lstat func(string) (fs.FileInfo, error)) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) {
		return err
	}
	switch fi, lerr := lstat(name); {
	case lerr != nil:
	case !fi.Mode().IsRegular():
		return notRegular("open", name, fi.Mode())
	case errors.Is(err, fs.ErrPermission) && busy(err) && fi.Mode()&0o222 == 0:
		return Unusable(err)
	}
	return err
}

// notRegular says what stands at name instead of a plain file.
func notRegular(op, name string, mode fs.FileMode) error {
	kind := "a special file"
	switch mode.Type() {
	case fs.ModeSymlink:
		kind = "a symbolic link"
	case fs.ModeDir:
		kind = "a folder"
	case fs.ModeNamedPipe:
		kind = "a named pipe"
	case fs.ModeSocket:
		kind = "a socket"
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		kind = "a device"
	}
	return &fs.PathError{Op: op, Path: name, Err: fmt.Errorf("%w: it is %s", ErrNotRegular, kind)}
}
