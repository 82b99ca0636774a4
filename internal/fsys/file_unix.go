//go:build unix

package fsys

import (
	"errors"
	"io"
	"io/fs"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// unixFile is a plain file by its descriptor. An os.File would ask what it is and whether it can be polled: six system calls
// for each file, whose answers are known. Unlike an os.File one that is not closed stays open.
type unixFile struct {
	name string

	mu     sync.RWMutex // held for reading while the descriptor is used
	fd     int
	closed bool

	lostMu sync.Mutex
	lost   error // of a write-back that failed; the system reports it only once
}

// use runs fn while the descriptor cannot be closed and given to another file.
func (f *unixFile) use(op string, fn func(fd int) error) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	err := fs.ErrClosed
	if !f.closed {
		err = fn(f.fd)
	}
	return pathError(op, f.name, err)
}

func (f *unixFile) Name() string { return f.name }

// Close waits for the operations that are running.
func (f *unixFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := fs.ErrClosed
	if !f.closed {
		f.closed = true
		err = unix.Close(f.fd)
		if err == unix.EINTR { // it is closed all the same, and the number may be another file's by now
			err = nil
		}
	}
	return pathError("close", f.name, err)
}

// maxTransfer bounds one read or write: some systems refuse more than an int32 holds.
const maxTransfer = 1 << 30

var errNegativeOffset = errors.New("negative offset")

func (f *unixFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.transfer("read", p, off, &n, unix.Pread)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (f *unixFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.transfer("write", p, off, &n, pwrite)
	if err == nil && n < len(p) {
		err = pathError("write", f.name, io.ErrUnexpectedEOF)
	}
	return n, err
}

// pwrite is replaced by tests.
var pwrite = unix.Pwrite

// transfer calls once until all of p is done, or nothing more comes. n counts the bytes.
func (f *unixFile) transfer(op string, p []byte, off int64, n *int, once func(fd int, p []byte, off int64) (int, error)) error {
	return f.use(op, func(fd int) error {
		if off < 0 {
			return errNegativeOffset
		}
		for *n < len(p) {
			part := p[*n:min(len(p), *n+maxTransfer)]
			m, err := once(fd, part, off+int64(*n))
			if err == unix.EINTR {
				continue
			}
			if err != nil || m <= 0 {
				return err
			}
			*n += m
		}
		return nil
	})
}

func (f *unixFile) Stat() (fi fs.FileInfo, err error) {
	err = f.use("stat", func(fd int) error {
		found, err := statOf(fd, f.name)
		if err == nil {
			fi = found
		}
		return err
	})
	return fi, err
}

func (f *unixFile) Truncate(size int64) error {
	return f.use("truncate", func(fd int) error {
		return ignoringEINTR(func() error { return unix.Ftruncate(fd, size) })
	})
}

func (f *unixFile) Chmod(mode fs.FileMode) error {
	return f.use("chmod", func(fd int) error {
		return ignoringEINTR(func() error { return unix.Fchmod(fd, uint32(mode.Perm())) })
	})
}

func (f *unixFile) Chown(uid, gid int) error {
	return f.use("chown", func(fd int) error {
		return ignoringEINTR(func() error { return unix.Fchown(fd, uid, gid) })
	})
}

func (f *unixFile) Reserve(off, size int64) error {
	return f.use("reserve", func(fd int) error {
		switch {
		case off < 0 || size < 0:
			return syscall.EINVAL
		case size == 0:
			return nil // fallocate(2) takes it for an error
		}
		return ReserveError(reserveAt(uintptr(fd), off, size))
	})
}

func (f *unixFile) Sync() error {
	err := f.use("sync", func(fd int) error { return SyncError(syncDataAt(uintptr(fd))) })
	f.lostMu.Lock()
	defer f.lostMu.Unlock()
	if f.lost != nil {
		err, f.lost = f.lost, nil
	}
	return err
}

func (f *unixFile) WriteBack(off, size int64) error {
	return f.use("write back", func(fd int) error { return writeBack(uintptr(fd), off, size) })
}

func (f *unixFile) DropCache(off, size int64) error {
	err := f.use("drop cache", func(fd int) error { return dropCache(uintptr(fd), off, size) })
	if err != nil {
		f.lostMu.Lock()
		defer f.lostMu.Unlock()
		f.lost = err
	}
	return err
}

func (f *unixFile) TryLock() error {
	return f.use("lock", func(fd int) error { return tryLock(uintptr(fd)) })
}
