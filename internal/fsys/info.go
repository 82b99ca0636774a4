package fsys

import (
	"io/fs"
	"os"
)

// Inode is what FileInfo.Sys implements, for Links, Allocated, Owner, Device and SameFile, where the FileInfo is not one of
// package os.
type Inode interface {
	Links() uint64
	Allocated() int64
	Owner() (uid uint32, ok bool)
	Device() uint64
	// Same reports whether other, the Sys of another FileInfo, is the same file.
	Same(other any) bool
}

// Allocated is how many bytes of disk blocks the file has; -1 if the system does not report it.
func Allocated(fi fs.FileInfo) int64 {
	if i, ok := fi.Sys().(Inode); ok {
		return i.Allocated()
	}
	return allocated(fi)
}

// SameFile reports whether a and b describe one file, whatever its names. It works for every FS of this module.
func SameFile(a, b fs.FileInfo) bool {
	if i, ok := a.Sys().(Inode); ok {
		return i.Same(b.Sys())
	}
	if i, ok := b.Sys().(Inode); ok {
		return i.Same(a.Sys())
	}
	return os.SameFile(bare(a), bare(b))
}
