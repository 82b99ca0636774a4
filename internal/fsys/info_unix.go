//go:build unix

package fsys

import (
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// fileInfo is a FileInfo by a descriptor or in an open folder: package os makes none of these without opening a folder again.
type fileInfo struct {
	name string
	inode
}

func (fi *fileInfo) Name() string { return fi.name }

func (fi *fileInfo) Size() int64 { return fi.st.Size }

func (fi *fileInfo) ModTime() time.Time { return time.Unix(fi.st.Mtim.Unix()) }

func (fi *fileInfo) IsDir() bool { return fi.Mode().IsDir() }

func (fi *fileInfo) Sys() any { return &fi.inode }

// Mode is the mode in the form that package os gives it.
func (fi *fileInfo) Mode() fs.FileMode {
	bits := uint32(fi.st.Mode)
	mode := fs.FileMode(bits & 0o777)
	switch bits & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		mode |= fs.ModeDir
	case unix.S_IFLNK:
		mode |= fs.ModeSymlink
	case unix.S_IFIFO:
		mode |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		mode |= fs.ModeSocket
	case unix.S_IFBLK:
		mode |= fs.ModeDevice
	case unix.S_IFCHR:
		mode |= fs.ModeDevice | fs.ModeCharDevice
	default:
		mode |= fs.ModeIrregular
	}
	if bits&unix.S_ISGID != 0 {
		mode |= fs.ModeSetgid
	}
	if bits&unix.S_ISUID != 0 {
		mode |= fs.ModeSetuid
	}
	if bits&unix.S_ISVTX != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}

// inode is the Inode of a fileInfo.
type inode struct{ st unix.Stat_t }

// blockBytes: a block of st_blocks has 512 bytes whatever the file system's have.
const blockBytes = 512

func (i *inode) Links() uint64 { return uint64(i.st.Nlink) }

func (i *inode) Allocated() int64 { return int64(i.st.Blocks) * blockBytes }

func (i *inode) Owner() (uid uint32, ok bool) { return i.st.Uid, true }

func (i *inode) Device() uint64 { return uint64(i.st.Dev) }

func (i *inode) Same(other any) bool {
	switch st := other.(type) {
	case *inode:
		return i.st.Dev == st.st.Dev && i.st.Ino == st.st.Ino
	case *syscall.Stat_t:
		return uint64(i.st.Dev) == uint64(st.Dev) && uint64(i.st.Ino) == uint64(st.Ino)
	}
	return false
}

// statAt is what is at the name in the open folder. It does not follow a link.
func statAt(dir int, name string) (*fileInfo, error) {
	return statWith(dir, name, unix.AT_SYMLINK_NOFOLLOW)
}

func statWith(dir int, name string, flags int) (*fileInfo, error) {
	fi := &fileInfo{name: filepath.Base(name)}
	err := ignoringEINTR(func() error { return unix.Fstatat(dir, name, &fi.st, flags) })
	if err != nil {
		return nil, err
	}
	return fi, nil
}

// statOf is the file that the descriptor is of.
func statOf(fd int, name string) (*fileInfo, error) {
	fi := &fileInfo{name: filepath.Base(name)}
	err := ignoringEINTR(func() error { return unix.Fstat(fd, &fi.st) })
	if err != nil {
		return nil, err
	}
	return fi, nil
}
