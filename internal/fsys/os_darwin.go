package fsys

import (
	"errors"
	"math"

	"golang.org/x/sys/unix"
)

// ReserveStep is without bound: blocks are allocated here without being touched.
const ReserveStep = math.MaxInt64

// reserveAt is F_PREALLOCATE, which allocates blocks behind the end of the file, and then moves the end.
func reserveAt(fd uintptr, off, size int64) error {
	size += off
	var st unix.Stat_t
	if err := ignoringEINTR(func() error { return unix.Fstat(int(fd), &st) }); err != nil {
		return err
	}
	missing := size - st.Size
	if missing <= 0 {
		return nil
	}
	err := ignoringEINTR(func() error {
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

// syncDataAt is F_FULLFSYNC, which (*os.File).Sync uses here: fsync(2) leaves the bytes in the drive's cache, where a
// power loss takes them. File systems without it (SMB) get fsync(2), the most they have.
func syncDataAt(fd uintptr) error {
	err := ignoringEINTR(func() error {
		_, err := unix.FcntlInt(fd, unix.F_FULLFSYNC, 0)
		return err
	})
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
