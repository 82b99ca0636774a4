//go:build js || wasip1

package fsys

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"syscall"
)

// Nothing is waited for here, and a folder must be readable to be opened.
const (
	openGuards = 0
	waitGuards = 0
	openAt     = 0
)

func refusesGuards(error) bool { return false }

func isPlain(func(string) (fs.FileInfo, error), string) bool { return false }

// Holes says that a write behind the end of a file leaves a hole before it: unknown here.
const Holes = false

func openNoFollow(name string, flag int, perm fs.FileMode) (*os.File, error) {
	if fi, err := os.Lstat(name); err == nil && !fi.Mode().IsRegular() {
		return nil, notRegular("open", name, fi.Mode())
	}
	return os.OpenFile(name, flag, perm)
}

func stat(f *os.File) (fs.FileInfo, error) { return f.Stat() }

func rename(oldname, newname string) error { return os.Rename(oldname, newname) }

func renameIn(root *os.Root, oldname, newname string) error { return root.Rename(oldname, newname) }

func patiently(fn func() error) error { return fn() }

// Files have no owners here that the system compares.

func effectiveUser() (uid uint32, ok bool) { return 0, false }

// Owner is the user whom the file belongs to; false if the system does not say, as here.
func Owner(fi fs.FileInfo) (uid uint32, ok bool) {
	if i, ok := fi.Sys().(Inode); ok {
		return i.Owner()
	}
	return 0, false
}

// Device distinguishes file systems; false if the system does not say, as here.
func Device(fi fs.FileInfo) (dev uint64, ok bool) {
	if i, ok := fi.Sys().(Inode); ok {
		return i.Device(), true
	}
	return 0, false
}

func mountPointAt(fs.FileInfo, fs.FileInfo, string) bool { return false }

func mountPointDir(*os.File, fs.FileInfo, string) (bool, error) { return false, nil }

func syncDir(*os.File) error { return nil }

// writeBack and dropCache: nothing here begins the writing without waiting for it.
func writeBack(uintptr, int64, int64) error { return nil }

func dropCache(uintptr, int64, int64) error { return nil }

// ReserveStep is without bound: blocks are allocated here without being touched.
const ReserveStep = math.MaxInt64

func reserve(*os.File, uintptr, int64, int64) error { return errors.ErrUnsupported }

func syncData(f *os.File, _ uintptr) error { return f.Sync() }

// volumeAt: nothing is known here, which is no error.
func volumeAt(dir string) (Volume, error) {
	fi, err := os.Stat(dir)
	if err == nil && !fi.IsDir() {
		err = &fs.PathError{Op: "statfs", Path: dir, Err: syscall.ENOTDIR}
	}
	return counts{}.volume(false, math.MaxInt64), err
}

func volumeDir(*os.File) (Volume, error) { return counts{}.volume(false, math.MaxInt64), nil }

// writableAt: nothing here asks without trying.
func writableAt(string) error { return nil }

func writableDir(*os.File) error { return nil }

func certain(err error) error { return err }

// bare is what os.SameFile knows: every FileInfo says itself how many names the file has.
func bare(fi fs.FileInfo) fs.FileInfo { return fi }

func allocated(fs.FileInfo) int64 { return -1 }

// ID distinguishes the files of one file system, as long as they exist; false if the system does not say, as here.
func ID(fs.FileInfo) (id uint64, ok bool) { return 0, false }

// Links is the number of hard links of the file; 1 if the system does not say, as here.
func Links(fi fs.FileInfo) uint64 {
	if i, ok := fi.Sys().(Inode); ok {
		return i.Links()
	}
	return 1
}

// syncAccess is how a file is opened to be synced.
const syncAccess = os.O_RDONLY
