package fsys

import (
	"os"

	"golang.org/x/sys/unix"
)

// ReserveStep is small enough for a file system that fills the pages it allocates, as tmpfs does: no write waits long.
const ReserveStep = 32 << 20

// reserve is fallocate(2) itself: where the file system has no such thing the C library's posix_fallocate would write
// a byte into each block, which takes as long as the download.
func reserve(_ *os.File, fd uintptr, off, size int64) error {
	const least = 1 << 20
	end := off + size
	for step := size; off < end; {
		step = min(step, end-off)
		switch err := unix.Fallocate(int(fd), 0, off, step); err {
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

// syncData is fdatasync(2): it flushes the bytes, the size and the block map, which is what reading them again takes,
// and spares the journal the times.
func syncData(_ *os.File, fd uintptr) error {
	return ignoringEINTR(func() error { return unix.Fdatasync(int(fd)) })
}

func freeAt(dir string) (int64, error) {
	var st unix.Statfs_t
	err := ignoringEINTR(func() error { return unix.Statfs(dir, &st) })
	return free(&st), err
}

func freeFd(fd int) (int64, error) {
	var st unix.Statfs_t
	err := ignoringEINTR(func() error { return unix.Fstatfs(fd, &st) })
	return free(&st), err
}

// free counts f_bavail, what is left to those who are not root, in units of f_frsize.
func free(st *unix.Statfs_t) int64 {
	size := st.Frsize
	if size == 0 {
		size = st.Bsize // kernels before 2.6.36 leave f_frsize empty on some file systems
	}
	return product(st.Bavail, uint64(size))
}
