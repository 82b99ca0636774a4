// Package fsys is the one seam between ossdl and a file system. Everything the library does to a file goes through
// an FS, so that tests can fail the i-th operation, forget what was not synced, or fill the disk.
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

// ErrLocked is returned by File.TryLock and Lock where another open file, in this process or another, holds the lock.
var ErrLocked = errors.New("locked")

// ErrNotRegular is the cause where a link, folder, device, pipe or socket stands where a plain file was expected.
var ErrNotRegular = errors.New("not a regular file")

// ErrTooLarge is the cause where ReadFile found more than it may read.
var ErrTooLarge = errors.New("file too large")

// FS is a file system. Errors are *fs.PathError or *os.LinkError and name the file; errors.Is works with
// fs.ErrNotExist, syscall.ENOSPC and the like. All methods are safe for concurrent use.
type FS interface {
	// OpenFile is os.OpenFile, except that it opens plain files only and never waits: a symbolic link as the last element
	// of name is refused rather than followed, and so are folders, devices, pipes and sockets (ErrNotRegular).
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Lstat does not follow a symbolic link as the last element.
	Lstat(name string) (fs.FileInfo, error)
	// Mkdir makes one folder.
	Mkdir(name string, perm fs.FileMode) error
	// Rename replaces newname atomically: another process sees the old file or the new one, never none.
	Rename(oldname, newname string) error
	Remove(name string) error
	// SyncDir makes renames and removals in the folder durable. It returns nil where the system has no such notion.
	SyncDir(name string) error
	// Free is the number of bytes an ordinary user may still write to the file system that holds the folder.
	Free(dir string) (int64, error)
	// Writable reports whether files can be made in the folder dir: nil, or why not. It changes nothing.
	Writable(dir string) error
	// Chtimes sets the modification time; the change is durable no sooner than the system likes.
	Chtimes(name string, mtime time.Time) error
	// Resolve is where a file written to name belongs: name with all symbolic links resolved, also the last element if
	// it is a link, dangling or not. The folder must exist, the file need not. The result is good for the other methods
	// of this FS, and absolute unless the FS has relative names only (Rooted).
	Resolve(name string) (string, error)
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
	// kept. It may take long and keep writes waiting: ask for at most ReserveStep bytes at a time. Where the file system
	// cannot, the error is errors.ErrUnsupported; there is no emulation by writing zeros. After another error the file may be longer than before and hold some of the blocks.
	Reserve(off, size int64) error
	// Sync returns once the bytes written before the call, and what is needed to read them again (the size; not the
	// times), are on stable storage. After an error none of the bytes written since the last good Sync can be relied on,
	// also if a later Sync succeeds: the system may have dropped them.
	Sync() error
	// TryLock takes an exclusive advisory lock that ends with Close or with the process, without waiting: ErrLocked
	// where another holds it, errors.ErrUnsupported where the file system has no locks. Call it once for an open file.
	TryLock() error
}
