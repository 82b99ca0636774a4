//go:build unix

package fsys

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func volumeAt(dir string) (Volume, error) {
	fi, err := os.Stat(dir)
	if err == nil && !fi.IsDir() {
		err = &fs.PathError{Op: "statfs", Path: dir, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return Volume{}, err
	}
	c, err := statfsAt(dir)
	if err != nil {
		return Volume{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	v := c.volume(os.Geteuid() == 0, maxFile())
	v.Mount = mountOf(fi, unix.AT_FDCWD, dir)
	v.Inherit = inheritOf(fi, dir)
	return v, nil
}

// volumeDir is volumeAt for an open folder.
func volumeDir(fd int) (v Volume, err error) {
	fi, err := statOf(fd, ".")
	if err != nil {
		return Volume{}, err
	}
	c, err := statfsFd(fd)
	if err != nil {
		return Volume{}, err
	}
	v = c.volume(os.Geteuid() == 0, maxFile())
	v.Mount = mountOf(fi, fd, ".")
	v.Inherit = inheritOf(fi, pathOf(uintptr(fd)))
	return v, nil
}

func mountOf(folder fs.FileInfo, dirfd int, name string) Mount {
	device, _ := Device(folder)
	id, _ := mountID(dirfd, name)
	return Mount{device, id}
}

// inheritOf is Volume.Inherit of a folder. path leads to it; where none does only the group is known.
func inheritOf(folder fs.FileInfo, path string) string {
	group := ""
	if gid, ok := groupOf(folder); ok && (groupsInherited || folder.Mode()&fs.ModeSetgid != 0) {
		group = fmt.Sprintf("group %d ", gid)
	}
	return group + attributesOf(path)
}

func groupOf(fi fs.FileInfo) (gid uint32, ok bool) {
	switch st := fi.Sys().(type) {
	case *syscall.Stat_t:
		return st.Gid, true
	case *inode:
		return st.st.Gid, true
	}
	return 0, false
}

// mountPoint reports whether name in the open folder is a mount point. On Linux a plain file can be one, and a rename
// over it fails then.
func mountPoint(folder, file fs.FileInfo, dirfd int, dir, name string) bool {
	a, ok := mountID(dirfd, dir)
	b, okB := mountID(dirfd, name)
	if ok && okB {
		return a != b
	}
	if mountsFiles { // and overlayfs gives the files of one folder several devices
		return false
	}
	of, ok := Device(folder)
	its, okB := Device(file)
	return ok && okB && of != its
}

// maxFile is the longest file that the process may write, whatever the file system can.
func maxFile() int64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_FSIZE, &limit) != nil {
		return math.MaxInt64
	}
	return int64(min(uint64(limit.Cur), math.MaxInt64))
}

// Device distinguishes file systems; false if the system does not say.
func Device(fi fs.FileInfo) (dev uint64, ok bool) {
	switch st := fi.Sys().(type) {
	case *syscall.Stat_t:
		return uint64(st.Dev), true
	case Inode:
		return st.Device(), true
	}
	return 0, false
}
