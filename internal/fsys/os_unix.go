//go:build unix

package fsys

import (
	"errors"
	"io/fs"
	"math"
	"math/bits"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// openGuards keep an open from waiting for the other end of a pipe and from making a terminal ours. They mean nothing
// for a plain file.
const openGuards = unix.O_NONBLOCK | unix.O_NOCTTY

// Holes says that a write behind the end of a file leaves a hole before it.
const Holes = true

func openNoFollow(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(name, flag|unix.O_NOFOLLOW|openGuards, perm)
}

func stat(f *os.File) (fs.FileInfo, error) { return f.Stat() }

func rename(oldname, newname string) error { return os.Rename(oldname, newname) }

// syncDir is fsync(2) of an open folder. Network and user-space file systems that cannot do it say so in many ways,
// and then there is nothing to wait for.
func syncDir(d *os.File) error {
	err := d.Sync()
	if noSuchSync(err) {
		return nil
	}
	return err
}

func noSuchSync(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTTY)
}

func writableAt(dir string) error { return access(unix.AT_FDCWD, dir) }

// writableDir is writableAt for an open folder.
func writableDir(d *os.File) error {
	return osFile{d}.control("access", func(fd uintptr) error { return access(int(fd), ".") })
}

// freeDir is freeAt for an open folder.
func freeDir(d *os.File) (n int64, err error) {
	err = osFile{d}.control("statfs", func(fd uintptr) error {
		n, err = freeFd(int(fd))
		return err
	})
	return n, err
}

// bare is what os.SameFile knows: every FileInfo says itself how many names the file has.
func bare(fi fs.FileInfo) fs.FileInfo { return fi }

// allocated: a block of st_blocks has 512 bytes whatever the file system's have.
func allocated(fi fs.FileInfo) int64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int64(st.Blocks) * 512
	}
	return -1
}

// Links is the number of hard links of the file; 1 where the system does not say.
func Links(fi fs.FileInfo) uint64 {
	switch st := fi.Sys().(type) {
	case *syscall.Stat_t:
		return uint64(st.Nlink)
	case Inode:
		return st.Links()
	}
	return 1
}

// ID tells the files of one file system apart, as long as they are there; false where the system does not say.
func ID(fi fs.FileInfo) (id uint64, ok bool) {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino), true
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

// product is blocks times size, or as much of it as an int64 holds.
func product(blocks, size uint64) int64 {
	hi, lo := bits.Mul64(blocks, size)
	if hi != 0 || lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(lo)
}
