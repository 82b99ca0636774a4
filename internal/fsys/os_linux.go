package fsys

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// ReserveStep is small enough for a file system that fills the pages it allocates, as tmpfs does: no write waits long.
const ReserveStep = 32 << 20

// openAt opens a folder that need not be readable, for all but reading it and syncing it.
const openAt = unix.O_PATH | unix.O_DIRECTORY

// Replaced by tests.
var (
	fallocate     = unix.Fallocate
	fdatasync     = unix.Fdatasync
	syncFileRange = unix.SyncFileRange
)

// reserveAt is fallocate(2) itself: where the file system has no such thing the C library's posix_fallocate would write
// a byte into each block, which takes as long as the download.
func reserveAt(fd uintptr, off, size int64) error {
	const least = 1 << 20
	end := off + size
	for step := size; off < end; {
		step = min(step, end-off)
		switch err := fallocate(int(fd), 0, off, step); err {
		case nil:
			off += step
		case unix.EINTR:
			// tmpfs gives up and undoes its work at any signal. Under a profiler's timer a large step would never
			// come to its end.
			step = max(step/2, min(least, end-off))
		default:
			return err
		}
	}
	return nil
}

// syncDataAt is fdatasync(2): it flushes the bytes, the size and the block map, which is what reading them again takes,
// and spares the journal the times.
func syncDataAt(fd uintptr) error {
	return ignoringEINTR(func() error { return fdatasync(int(fd)) })
}

// writeBack starts the writing. It waits only if the queue of the disk is full.
func writeBack(fd uintptr, off, size int64) error {
	return hint(ignoringEINTR(func() error {
		return syncFileRange(int(fd), off, size, unix.SYNC_FILE_RANGE_WRITE)
	}))
}

// dropCache must wait for the writing first: POSIX_FADV_DONTNEED passes over pages that are not on the disk.
func dropCache(fd uintptr, off, size int64) error {
	const flags = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	err := hint(ignoringEINTR(func() error { return syncFileRange(int(fd), off, size, flags) }))
	if err != nil {
		return err
	}
	// Best effort: whatever it says, the bytes are where they were.
	_ = unix.Fadvise(int(fd), off, size, unix.FADV_DONTNEED)
	return nil
}

// hint is an error of sync_file_range(2), unless the file system or a filter does not know the call.
func hint(err error) error {
	if isErrno(err, syscall.EINVAL, syscall.ENOSYS, syscall.EPERM, syscall.ESPIPE, syscall.ENOTSUP, enotsupp) {
		return nil
	}
	return err
}
