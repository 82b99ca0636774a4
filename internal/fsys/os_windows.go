package fsys

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// openGuards: a file of another kind is seen by its type after the open; there is nothing to wait for.
const openGuards = 0

// shareAll lets others read, write, rename and remove what we have open. os.OpenFile leaves the last two out, so that a
// partial file could not be renamed before it is closed, nor a lock file removed while it is held.
const shareAll = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE

// openNoFollow opens a link itself (FILE_FLAG_OPEN_REPARSE_POINT) and refuses it then, so that nothing can come between
// the look and the open.
func openNoFollow(name string, flag int, perm fs.FileMode) (*os.File, error) {
	fail := func(err error) (*os.File, error) { return nil, &fs.PathError{Op: "open", Path: name, Err: err} }
	p, err := longPath(name)
	if err != nil {
		return fail(err)
	}
	var access uint32
	switch flag & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR) {
	case os.O_RDONLY:
		access = windows.GENERIC_READ
	case os.O_WRONLY:
		access = windows.GENERIC_WRITE
	case os.O_RDWR:
		access = windows.GENERIC_READ | windows.GENERIC_WRITE
	}
	mode := uint32(windows.OPEN_EXISTING)
	switch {
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		mode = windows.CREATE_NEW
	case flag&os.O_CREATE != 0:
		mode = windows.OPEN_ALWAYS
	}
	attrs := uint32(windows.FILE_ATTRIBUTE_NORMAL)
	if perm&0o200 == 0 {
		attrs = windows.FILE_ATTRIBUTE_READONLY
	}
	h, err := windows.CreateFile(p, access, shareAll, nil, mode, attrs|windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if err != nil {
		return fail(err)
	}
	f := os.NewFile(uintptr(h), name)
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = notRegular("open", name, fi.Mode())
	}
	// After the look: a link would have passed it on to its target.
	if err == nil && flag&os.O_TRUNC != 0 {
		err = f.Truncate(0)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// rename is MoveFileEx with MOVEFILE_WRITE_THROUGH, which returns when the move is on the disk; that is what SyncDir is
// elsewhere. It fails with a sharing violation while another program has one of the two open without sharing deletion.
func rename(oldname, newname string) error {
	from, err := longPath(oldname)
	if err == nil {
		var to *uint16
		if to, err = longPath(newname); err == nil {
			err = windows.MoveFileEx(from, to, windows.MOVEFILE_REPLACE_EXISTING|windows.MOVEFILE_WRITE_THROUGH)
		}
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	return nil
}

// syncDir: a folder opened for reading cannot be flushed here.
func syncDir(*os.File) error { return nil }

// ReserveStep is without bound: blocks are allocated here without being touched.
const ReserveStep = math.MaxInt64

// Holes says that a write behind the end of a file leaves a hole before it: here zeros are written, but for files that are
// sparse.
const Holes = false

// reserve sets the allocation and then the end of the file. Without the first NTFS would allocate too, but other file
// systems need not.
func reserve(f *os.File, fd uintptr, off, size int64) error {
	size += off
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if size <= fi.Size() {
		return nil // an allocation below the end would cut the file
	}
	for _, class := range []uint32{windows.FileAllocationInfo, windows.FileEndOfFileInfo} {
		err := windows.SetFileInformationByHandle(windows.Handle(fd), class, (*byte)(unsafe.Pointer(&size)), uint32(unsafe.Sizeof(size)))
		if err == windows.ERROR_INVALID_FUNCTION || err == windows.ERROR_INVALID_PARAMETER {
			err = errors.ErrUnsupported
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// syncData is FlushFileBuffers.
func syncData(f *os.File, _ uintptr) error { return f.Sync() }

// tryLock is LockFileEx of one byte where no file has any: locks are mandatory here and would keep others from reading.
func tryLock(fd uintptr) error {
	at := windows.Overlapped{Offset: math.MaxUint32, OffsetHigh: math.MaxInt32}
	err := windows.LockFileEx(windows.Handle(fd), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	switch err {
	case windows.ERROR_LOCK_VIOLATION, windows.ERROR_IO_PENDING:
		return ErrLocked
	case windows.ERROR_INVALID_FUNCTION:
		return errors.ErrUnsupported
	}
	return err
}

func freeAt(dir string) (int64, error) {
	p, err := longPath(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	err = windows.GetDiskFreeSpaceEx(p, &free, nil, nil)
	return int64(min(free, math.MaxInt64)), err
}

func freeDir(d *os.File) (int64, error) {
	n, err := freeAt(d.Name())
	if err != nil {
		return 0, &fs.PathError{Op: "statfs", Path: d.Name(), Err: err}
	}
	return n, nil
}

// writableAt opens the folder with the right to add a file to it, so that the system itself looks at the ACL and at the
// volume's write protection.
func writableAt(dir string) error {
	p, err := longPath(dir)
	if err != nil {
		return err
	}
	const addFile = 0x2 // FILE_ADD_FILE
	h, err := windows.CreateFile(p, addFile, shareAll, nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
	if err != nil {
		return err
	}
	return windows.CloseHandle(h)
}

func writableDir(d *os.File) error {
	if err := writableAt(d.Name()); err != nil {
		return &fs.PathError{Op: "access", Path: d.Name(), Err: err}
	}
	return nil
}

func allocated(fs.FileInfo) int64 { return -1 }

// ID tells the files of one file system apart, as long as they are there; false where the system does not say, as here.
func ID(fs.FileInfo) (id uint64, ok bool) { return 0, false }

// Links is the number of hard links of the file; 1 where the system does not say. Here only File.Stat does.
func Links(fi fs.FileInfo) uint64 {
	if c, ok := fi.(counted); ok {
		return c.links
	}
	if i, ok := fi.Sys().(Inode); ok {
		return i.Links()
	}
	return 1
}

// stat counts the links beside what os.File says.
func stat(f *os.File) (fs.FileInfo, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var by windows.ByHandleFileInformation
	err = osFile{f}.control("stat", func(fd uintptr) error {
		return windows.GetFileInformationByHandle(windows.Handle(fd), &by)
	})
	if err != nil {
		return nil, err
	}
	return counted{fi, uint64(by.NumberOfLinks)}, nil
}

// IsNoSpace reports whether err says that the disk, or what the user may have of it, is full.
func IsNoSpace(err error) bool {
	for _, full := range []error{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED,
		syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, full) {
			return true
		}
	}
	return false
}

// vanishing: a removed file that someone still has open denies access until the last of them closes it.
func vanishing(err error) bool {
	return errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_DELETE_PENDING)
}

func busy(err error) bool {
	return errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_ACCESS_DENIED)
}

// longPath is name for system calls; over 260 characters they want the absolute form with a prefix, on systems and in
// programs where long paths are not switched on.
func longPath(name string) (*uint16, error) {
	const short = 248 // the limit for folders, which must leave room for an 8.3 name
	if len(name) >= short && !strings.HasPrefix(name, `\\?\`) && !strings.HasPrefix(name, `\\.\`) {
		abs, err := filepath.Abs(name)
		if err != nil {
			return nil, err
		}
		if unc, ok := strings.CutPrefix(abs, `\\`); ok {
			name = `\\?\UNC\` + unc
		} else {
			name = `\\?\` + abs
		}
	}
	return windows.UTF16PtrFromString(name)
}

// counted is a FileInfo of a system whose own does not say how many names the file has.
type counted struct {
	fs.FileInfo
	links uint64
}

// bare is what os.SameFile knows.
func bare(fi fs.FileInfo) fs.FileInfo {
	if c, ok := fi.(counted); ok {
		return c.FileInfo
	}
	return fi
}
