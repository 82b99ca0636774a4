// Package fsys is the one seam between ossdl and a file system. Everything the library does to a file goes through
// an FS, so that tests can fail the i-th operation, forget what was not synced, or fill the disk. It knows the operations
// of each operating system, and must not know what they are for. Its invariant: every operation means the same for all
// implementations, which the suite in fstest checks.
//
// The interfaces hold primitive operations only. Procedures that need an order to be safe (taking a lock file,
// replacing a file atomically) are functions of this package on top of them, so that each of their steps can fail too.
package fsys

import (
	"errors"
	"io"
	"io/fs"
	"time"
)

// ErrLocked is returned by File.TryLock and Lock if another open file, in this process or another, holds the lock.
var ErrLocked = errors.New("locked")

// ErrNotRegular is the cause if a link, folder, device, pipe or socket is at the name of a plain file.
var ErrNotRegular = errors.New("not a regular file")

// ErrTooLarge is the cause if ReadFile found more than it may read.
var ErrTooLarge = errors.New("file too large")

// FS is a file system. Errors are *fs.PathError or *os.LinkError and name the file; errors.Is works with
// fs.ErrNotExist, syscall.ENOSPC and the like. All methods are safe for concurrent use.
type FS interface {
	// OpenFile is os.OpenFile, except that it opens plain files only and never waits: a symbolic link as the last element
	// of name is refused rather than followed, and so are folders, devices, pipes and sockets (ErrNotRegular). Only the
	// holder of a lease on a plain file (fcntl F_SETLEASE) is waited for, as long as the system lets it.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Lstat does not follow a symbolic link as the last element.
	Lstat(name string) (fs.FileInfo, error)
	// Mkdir makes one folder.
	Mkdir(name string, perm fs.FileMode) error
	// List returns names of what is in the folder, in any order: all of them, or most of them if there are more.
	List(dir string, most int) ([]string, error)
	// Rename replaces newname atomically: another process sees the old file or the new one, never none.
	Rename(oldname, newname string) error
	Remove(name string) error
	// SyncDir makes renames and removals in the folder durable. It returns nil if renames are durable anyway (Windows),
	// and errors.ErrUnsupported if the file system cannot sync a folder. Any other error, such as EACCES for a folder that
	// may be written to and not read, says that it is not known what a power loss would leave.
	SyncDir(name string) error
	// Free is Volume.Free: the number of bytes that this process may still write to the file system that holds the folder.
	// The error is errors.ErrUnsupported if that is not known.
	Free(dir string) (int64, error)
	// Volume is what is known of the file system that holds the folder.
	Volume(dir string) (Volume, error)
	// MountPoint reports whether name, which must be resolved, is a mount point of its own, so that nothing can be renamed
	// over it (EBUSY). It is false if there is nothing at name, or if that is not known.
	MountPoint(name string) (bool, error)
	// Writable returns what keeps files from being made in dir for certain: dir is missing, is no folder, or is on a file
	// system mounted read-only. That the system believes it a matter of permission is not returned: ACLs, servers and
	// filters make it a wrong answer, and the proof is to make the file. Writable changes nothing.
	Writable(dir string) error
	// Chtimes sets the modification time, and the access time to now: some file systems drop a change of one alone. The
	// change is durable no sooner than the system likes. See SetTime.
	Chtimes(name string, mtime time.Time) error
	// Resolve is where a file written to name belongs: name with all symbolic links resolved, also the last element if
	// it is a link, dangling or not. The folder must exist, the file need not. The result is good for the other methods
	// of this FS, and absolute unless the FS has relative names only (Rooted). A link that MayFollow forbids is an error,
	// wherever on the way it is.
	Resolve(name string) (string, error)
	// User is the effective user, which Owner is compared with; false if files have no owners that the system compares.
	User() (uid uint32, ok bool)
	// Key is equal for two names of one file and differs otherwise, among all file systems of the process, as far as
	// names tell: links to the folder are resolved, the last element is taken as it is. It is comparable. The folder
	// must exist.
	Key(name string) (any, error)
}

// File is an open file. Its methods other than Close are safe for concurrent use. After an error WriteAt may have written
// more than the n it returns: os.File forgets the first part of a write that the kernel did in two.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	// Reserve allocates disk blocks for the size bytes at off and makes the file at least that long; where the system
	// can only allocate from the front or behind the end, for all of them up to there. What the file holds already is
	// kept. It may take long and keep writes waiting: ask for at most ReserveStep bytes at a time.
	// The error is errors.ErrUnsupported, with the cause, if the file system cannot or says so in whatever way; there is
	// no emulation by writing zeros. The only other errors are IsNoSpace and IsTooLarge. After either the file may be
	// longer than before and hold some of the blocks.
	Reserve(off, size int64) error
	// Sync returns once the bytes written before the call, and what is needed to read them again (the size; not the
	// times), are on stable storage. After an error none of the bytes written since the last good Sync can be relied on,
	// also if a later Sync succeeds: the system may have dropped them. The error is errors.ErrUnsupported if the file
	// system cannot sync; nothing was lost then, and nothing is certain.
	Sync() error
	// WriteBack has the system begin to write the bytes of the range to the disk, and does not wait. It is a hint, which
	// makes nothing durable; elsewhere than on Linux it does nothing.
	WriteBack(off, size int64) error
	// DropCache waits until the bytes of the range are written, and gives the memory back that caches them. A range that
	// was given to WriteBack some time ago costs little waiting. It makes nothing durable, and does nothing elsewhere than
	// on Linux. An error is one that the next Sync would have returned, and the next Sync returns it too.
	DropCache(off, size int64) error
	// Chmod sets the mode, of which only the permissions count.
	Chmod(mode fs.FileMode) error
	// Chown sets the user and the group; -1 leaves one as it is. The error is errors.ErrUnsupported if files have no owners
	// that the system compares.
	Chown(uid, gid int) error
	// TryLock takes an exclusive advisory lock that ends with Close or with the process, without waiting: ErrLocked
	// if another holds it, errors.ErrUnsupported if the file system has no locks. Call it once for an open file.
	TryLock() error
}
