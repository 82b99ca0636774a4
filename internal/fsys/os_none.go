//go:build js || wasip1

package fsys

import (
	"errors"
	"io/fs"
	"math"
	"os"
)

const openGuards = 0

// Holes says that a write behind the end of a file leaves a hole before it: here nobody knows.
const Holes = false

func openNoFollow(name string, flag int, perm fs.FileMode) (*os.File, error) {
	if fi, err := os.Lstat(name); err == nil && !fi.Mode().IsRegular() {
		return nil, notRegular("open", name, fi.Mode())
	}
	return os.OpenFile(name, flag, perm)
}

func stat(f *os.File) (fs.FileInfo, error) { return f.Stat() }

func rename(oldname, newname string) error { return os.Rename(oldname, newname) }

func syncDir(*os.File) error { return nil }

// ReserveStep is without bound: blocks are allocated here without being touched.
const ReserveStep = math.MaxInt64

func reserve(*os.File, uintptr, int64, int64) error { return errors.ErrUnsupported }

func syncData(f *os.File, _ uintptr) error { return f.Sync() }

func freeAt(string) (int64, error) { return 0, errors.ErrUnsupported }

func freeDir(*os.File) (int64, error) { return 0, errors.ErrUnsupported }

// writableAt: nothing here asks without trying.
func writableAt(string) error { return nil }

func writableDir(*os.File) error { return nil }

// bare is what os.SameFile knows: every FileInfo says itself how many names the file has.
func bare(fi fs.FileInfo) fs.FileInfo { return fi }

func allocated(fs.FileInfo) int64 { return -1 }

// ID tells the files of one file system apart, as long as they are there; false where the system does not say, as here.
func ID(fs.FileInfo) (id uint64, ok bool) { return 0, false }

// Links is the number of hard links of the file; 1 where the system does not say, as here.
func Links(fi fs.FileInfo) uint64 {
	if i, ok := fi.Sys().(Inode); ok {
		return i.Links()
	}
	return 1
}
