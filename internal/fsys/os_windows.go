package fsys

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode/utf16"
	"unsafe"

	"golang.org/x/sys/windows"
)

// openGuards: a file of another kind is seen by its type after the open; there is nothing to wait for.
const openGuards = 0

const (
	waitGuards = 0
	openAt     = 0
)

func refusesGuards(error) bool { return false }

func isPlain(func(string) (fs.FileInfo, error), string) bool { return false }

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

// rename returns when the new name is on the disk; that is what SyncDir is elsewhere. It waits some seconds for others
// that have one of the two open without sharing deletion.
func rename(oldname, newname string) error {
	err := patiently(func() error {
		err := renamePOSIX(oldname, newname)
		if noPOSIX(err) {
			err = renamePlain(oldname, newname)
		}
		if isFolder(newname) { // nothing ever replaces it, and the system's error is the one that means "wait"
			err = permanent(err)
		}
		return err
	})
	if err != nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	return nil
}

// renamePOSIX replaces newname also while others read it, who keep the file they have. NTFS can do it since Windows 10
// 1607. FILE_FLAG_WRITE_THROUGH has NTFS flush the rename, as MOVEFILE_WRITE_THROUGH does.
func renamePOSIX(oldname, newname string) error {
	from, err := longPath(oldname)
	if err != nil {
		return err
	}
	to, err := filepath.Abs(newname)
	if err != nil {
		return err
	}
	target, err := windows.UTF16FromString(extended(to))
	if err != nil {
		return err
	}
	h, err := windows.CreateFile(from, windows.DELETE|windows.SYNCHRONIZE, shareAll, nil, windows.OPEN_EXISTING,
		windows.FILE_FLAG_BACKUP_SEMANTICS|windows.FILE_FLAG_OPEN_REPARSE_POINT|windows.FILE_FLAG_WRITE_THROUGH, 0)
	if err != nil {
		return err
	}
	info := renameInfo(target)
	return errors.Join(
		windows.SetFileInformationByHandle(h, windows.FileRenameInfoEx, &info[0], uint32(len(info))),
		windows.CloseHandle(h))
}

// renameInfo is a FILE_RENAME_INFO for the name, which ends in a zero.
func renameInfo(name []uint16) []byte {
	type header struct {
		flags  uint32
		root   windows.Handle
		length uint32 // bytes of the name without the zero
		name   [1]uint16
	}
	const at = unsafe.Offsetof(header{}.name)
	buf := make([]byte, max(int(at)+2*len(name), int(unsafe.Sizeof(header{}))))
	h := (*header)(unsafe.Pointer(&buf[0]))
	h.flags = windows.FILE_RENAME_REPLACE_IF_EXISTS | windows.FILE_RENAME_POSIX_SEMANTICS
	h.length = uint32(2 * (len(name) - 1))
	copy(unsafe.Slice((*uint16)(unsafe.Pointer(&buf[at])), len(name)), name)
	return buf
}

// noPOSIX reports whether err says that the system or the file system does not know such a rename, or that MoveFileEx
// may do better: it copies a file to another volume not even when asked, but its error says why.
func noPOSIX(err error) bool {
	return isErrno(err, windows.ERROR_INVALID_PARAMETER, windows.ERROR_INVALID_FUNCTION, windows.ERROR_NOT_SUPPORTED,
		windows.ERROR_CALL_NOT_IMPLEMENTED, windows.ERROR_NOT_SAME_DEVICE, windows.ERROR_INVALID_NAME)
}

func renamePlain(oldname, newname string) error {
	from, err := longPath(oldname)
	if err != nil {
		return err
	}
	to, err := longPath(newname)
	if err != nil {
		return err
	}
	return windows.MoveFileEx(from, to, windows.MOVEFILE_REPLACE_EXISTING|windows.MOVEFILE_WRITE_THROUGH)
}

// renameIn renames within the root, and has the file flush its new name: os.Root cannot write through.
func renameIn(root *os.Root, oldname, newname string) error {
	err := patiently(func() error {
		err := root.Rename(oldname, newname)
		if fi, lerr := root.Lstat(newname); err != nil && lerr == nil && fi.IsDir() {
			err = permanent(err)
		}
		return err
	})
	if err != nil {
		return err
	}
	// If it cannot be opened, by a scanner that has it or for want of rights, there is nothing more to be done.
	var f *os.File
	if patiently(func() (err error) { f, err = root.OpenFile(newname, os.O_WRONLY, 0); return err }) != nil {
		return nil
	}
	return errors.Join(f.Sync(), f.Close())
}

// How long to wait for a file that another program has open. Scanners and indexers close it within a second or two.
const (
	patience   = 5 * time.Second
	firstPause = 5 * time.Millisecond
	mostPause  = 250 * time.Millisecond
)

// patiently repeats fn while another program has the file open.
func patiently(fn func() error) error {
	end := time.Now().Add(patience)
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		err := fn()
		if final, ok := errors.AsType[permanentError](err); ok {
			return final.error
		}
		if !busy(err) || time.Now().After(end) {
			return err
		}
		time.Sleep(pause)
	}
}

// permanent is err as one that waiting does not help.
func permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

type permanentError struct{ error }

func isFolder(name string) bool {
	fi, err := os.Lstat(name)
	return err == nil && fi.IsDir()
}

// Files have owners here too, in ACLs, by which nothing is decided.

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

// writeBack and dropCache: nothing here begins the writing without waiting for it.
func writeBack(uintptr, int64, int64) error { return nil }

func dropCache(uintptr, int64, int64) error { return nil }

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
		if err != nil {
			return err
		}
	}
	return nil
}

// syncAccess is how a file is opened to be synced: FlushFileBuffers is for those who may write.
const syncAccess = os.O_WRONLY

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

func volumeAt(dir string) (Volume, error) {
	fi, err := os.Stat(dir)
	if err == nil && !fi.IsDir() {
		err = &fs.PathError{Op: "statfs", Path: dir, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return Volume{}, err
	}
	v := counts{}.volume(false, math.MaxInt64)
	p, err := longPath(dir)
	if err != nil {
		return v, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	var free, total uint64
	if err := windows.GetDiskFreeSpaceEx(p, &free, &total, nil); err == nil && total > 0 {
		v.Free = int64(min(free, math.MaxInt64))
	}
	describe(&v, p)
	return v, nil
}

// describe adds what the volume says of itself. A share need not say anything.
func describe(v *Volume, dir *uint16) {
	var top [windows.MAX_LONG_PATH]uint16
	if windows.GetVolumePathName(dir, &top[0], uint32(len(top))) != nil {
		return
	}
	var serial, longest uint32
	var kind [windows.MAX_PATH + 1]uint16
	if windows.GetVolumeInformation(&top[0], nil, 0, &serial, &longest, nil, &kind[0], uint32(len(kind))) != nil {
		return
	}
	v.Mount.Device = uint64(serial)
	if longest > 0 {
		v.MaxName = int(longest)
	}
	if strings.HasPrefix(windows.UTF16ToString(kind[:]), "FAT") { // FAT, FAT32; not exFAT
		v.MaxSize = maxFAT
	}
}

func volumeDir(d *os.File) (Volume, error) { return volumeAt(d.Name()) }

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

// certain: that was the system's own look, at the ACL too. Nobody else keeps files from being added to a folder.
func certain(err error) error {
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) {
		return Unusable(err)
	}
	return err
}

func writableDir(d *os.File) error {
	if err := writableAt(d.Name()); err != nil {
		return &fs.PathError{Op: "access", Path: d.Name(), Err: err}
	}
	return nil
}

func allocated(fs.FileInfo) int64 { return -1 }

// ID distinguishes the files of one file system, as long as they exist; false if the system does not say, as here.
func ID(fs.FileInfo) (id uint64, ok bool) { return 0, false }

// Links is the number of hard links of the file; 1 if the system does not say. Here only File.Stat does.
func Links(fi fs.FileInfo) uint64 {
	if c, ok := fi.(counted); ok {
		return c.links
	}
	if i, ok := fi.Sys().(Inode); ok {
		return i.Links()
	}
	return 1
}

// stat is that of os.File, with the number of links.
func stat(f *os.File) (fs.FileInfo, error) {
	var by windows.ByHandleFileInformation
	err := control(f, "stat", func(fd uintptr) error { // first: os.File.Stat does not see that the file is closed
		return windows.GetFileInformationByHandle(windows.Handle(fd), &by)
	})
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return counted{fi, uint64(by.NumberOfLinks)}, nil
}

// IsNoSpace reports whether err says that the disk, or what the user may have of it, is full. It says so too when the
// inodes are used up (Volume.Files).
func IsNoSpace(err error) bool {
	for _, full := range []error{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED,
		syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, full) {
			return true
		}
	}
	return false
}

// IsTooLarge reports whether err says that the file is too large for the file system.
func IsTooLarge(err error) bool {
	return errors.Is(err, windows.ERROR_FILE_TOO_LARGE) || errors.Is(err, syscall.EFBIG)
}

// noSync are the ways to say that there is no such sync.
var noSync = []syscall.Errno{windows.ERROR_INVALID_FUNCTION, windows.ERROR_NOT_SUPPORTED, syscall.EINVAL, syscall.ENOSYS}

// refusals are the system's own ways to say what the errors of POSIX say, in which package os translates some. ERROR_DIRECTORY is
// that of a file on the way.
var refusals = []syscall.Errno{
	windows.ERROR_WRITE_PROTECT, windows.ERROR_INVALID_NAME, windows.ERROR_BAD_PATHNAME, windows.ERROR_NO_UNICODE_TRANSLATION,
	windows.ERROR_FILENAME_EXCED_RANGE, windows.ERROR_DIRECTORY, windows.ERROR_CANT_RESOLVE_FILENAME,
	syscall.EROFS, syscall.EINVAL, syscall.EILSEQ, syscall.ENAMETOOLONG, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP,
}

// tooLong is err as ENAMETOOLONG if the name has more than any file system here allows. What the system says then depends
// on the length of the whole path: an invalid name, or none that exists.
func tooLong(name string, err error) error {
	p, ok := errors.AsType[*fs.PathError](err)
	if !ok || len(utf16.Encode([]rune(filepath.Base(name)))) <= defaultMaxName {
		return err
	}
	return &fs.PathError{Op: p.Op, Path: p.Path, Err: syscall.ENAMETOOLONG}
}

// vanishing: a removed file that someone still has open denies access until the last of them closes it.
func vanishing(err error) bool {
	return errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_DELETE_PENDING)
}

// busy: another program has the file open and does not share it, or has removed it and has it open still. An ACL denies access with
// the same error.
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
		name = extended(abs)
	}
	return windows.UTF16PtrFromString(name)
}

// extended is the absolute path in the form that has no limit of length.
func extended(abs string) string {
	if strings.HasPrefix(abs, `\\?\`) || strings.HasPrefix(abs, `\\.\`) {
		return abs
	}
	if unc, ok := strings.CutPrefix(abs, `\\`); ok {
		return `\\?\UNC\` + unc
	}
	return `\\?\` + abs
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
