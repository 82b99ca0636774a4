package fsys

import (
	"errors"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// ReserveStep is without bound: blocks are allocated here without being touched.
const ReserveStep = math.MaxInt64

// reserve is F_PREALLOCATE, which allocates blocks behind the end of the file, and then moves the end.
func reserve(f *os.File, fd uintptr, off, size int64) error {
	size += off
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	missing := size - fi.Size()
	if missing <= 0 {
		return nil
	}
	err = ignoringEINTR(func() error {
		return unix.FcntlFstore(fd, unix.F_PREALLOCATE, &unix.Fstore_t{
			Flags:   unix.F_ALLOCATEALL, // all of it or an error
			Posmode: unix.F_PEOFPOSMODE,
			Length:  missing,
		})
	})
	if err != nil {
		return err
	}
	return ignoringEINTR(func() error { return unix.Ftruncate(int(fd), size) })
}

// syncData is F_FULLFSYNC, which (*os.File).Sync uses here: fsync(2) leaves the bytes in the drive's cache, where a
// power loss takes them. File systems without it (SMB) get fsync(2), the most they have.
func syncData(f *os.File, fd uintptr) error {
	err := f.Sync()
	if errors.Is(SyncError(err), errors.ErrUnsupported) {
		return ignoringEINTR(func() error { return unix.Fsync(int(fd)) })
	}
	return err
}

// openAt: a folder must be readable here to be opened.
const openAt = 0

// writeBack and dropCache: nothing here begins the writing without waiting for it.
func writeBack(uintptr, int64, int64) error { return nil }

func dropCache(uintptr, int64, int64) error { return nil }
