//go:build unix

package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// openGuards keep an open from waiting for the other end of a pipe and from making a terminal ours. They mean nothing
// for a plain file.
const openGuards = unix.O_NONBLOCK | waitGuards

// waitGuards are openGuards for what may be waited for.
const waitGuards = unix.O_NOCTTY

// Holes says that a write behind the end of a file leaves a hole before it.
const Holes = true

func openNoFollow(name string, flag int, perm fs.FileMode) (*os.File, error) {
	f, err := openFile(name, flag|unix.O_NOFOLLOW|openGuards, perm)
	if refusesGuards(err) && isPlain(os.Lstat, name) {
		f, err = openFile(name, flag|unix.O_NOFOLLOW|waitGuards, perm)
	}
	return f, err
}

// openFile is replaced by tests.
var openFile = os.OpenFile

// refusesGuards reports whether an open may have failed because of O_NONBLOCK.
//
// EWOULDBLOCK: another process has a lease on the file (a file server, mostly) and is being asked to give it up. The system
// takes it away after some time (/proc/sys/fs/lease-break-time), so the next open does not wait forever. EINVAL: some FUSE
// file systems know no such flag.
func refusesGuards(err error) bool {
	return errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINVAL)
}

func isPlain(lstat func(string) (fs.FileInfo, error), name string) bool {
	fi, err := lstat(name)
	return err == nil && fi.Mode().IsRegular()
}

func stat(f *os.File) (fs.FileInfo, error) { return f.Stat() }

func rename(oldname, newname string) error { return os.Rename(oldname, newname) }

func reserve(_ *os.File, fd uintptr, off, size int64) error { return reserveAt(fd, off, size) }

func syncData(_ *os.File, fd uintptr) error { return syncDataAt(fd) }

// patiently: what others have open can be renamed and removed here.
func patiently(fn func() error) error { return fn() }

func effectiveUser() (uid uint32, ok bool) { return uint32(os.Geteuid()), true }

// syncDir is fsync(2) of an open folder.
func syncDir(d *os.File) error {
	return control(d, "sync", func(fd uintptr) error { return SyncDirError(fsyncFolder(int(fd))) })
}

// fsyncFolder is replaced by tests.
var fsyncFolder = func(fd int) error { return ignoringEINTR(func() error { return unix.Fsync(fd) }) }

// faccessat is replaced by tests.
var faccessat = access

func writableAt(dir string) error { return faccessat(unix.AT_FDCWD, dir) }

// certain is an error of access(2), if it is one that is believed. EACCES may be wrong under an ACL or on a server, EPERM
// and ENOSYS are what a seccomp filter or an old kernel says to faccessat2(2).
func certain(err error) error {
	if errors.Is(err, syscall.EROFS) {
		return err
	}
	return nil
}

// mountPointAt reports whether the file is a mount point of its own.
func mountPointAt(folder, file fs.FileInfo, name string) bool {
	return mountPoint(folder, file, unix.AT_FDCWD, filepath.Dir(name), name)
}

// bare is what os.SameFile knows: every FileInfo says itself how many names the file has.
func bare(fi fs.FileInfo) fs.FileInfo { return fi }

// allocated: see blockBytes.
func allocated(fi fs.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int64(st.Blocks) * blockBytes
	}
	return -1
}

// Links is the number of hard links of the file; 1 if the system does not say.
func Links(fi fs.FileInfo) uint64 {
	switch st := fi.Sys().(type) {
	case *syscall.Stat_t:
		return uint64(st.Nlink)
	case Inode:
		return st.Links()
	}
	return 1
}

// ID distinguishes the files of one file system, as long as they exist; false if the system does not say.
func ID(fi fs.FileInfo) (id uint64, ok bool) {
	switch st := fi.Sys().(type) {
	case *syscall.Stat_t:
		return uint64(st.Ino), true
	case *inode:
		return uint64(st.st.Ino), true
	}
	return 0, false
}

func ignoringEINTR(fn func() error) error {
	for {
		if err := fn(); err != unix.EINTR {
			return err
		}
	}
}

// Owner is the user whom the file belongs to; false if the system does not say.
func Owner(fi fs.FileInfo) (uid uint32, ok bool) {
	switch st := fi.Sys().(type) {
	case *syscall.Stat_t:
		return st.Uid, true
	case Inode:
		return st.Owner()
	}
	return 0, false
}

// syncAccess is how a file is opened to be synced.
const syncAccess = os.O_RDONLY
