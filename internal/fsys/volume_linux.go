package fsys

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountsFiles: a plain file can be a mount point.
const mountsFiles = true

func statfsAt(dir string) (counts, error) {
	var st unix.Statfs_t
	err := ignoringEINTR(func() error { return unix.Statfs(dir, &st) })
	return countsOf(&st), err
}

func statfsFd(fd int) (counts, error) {
	var st unix.Statfs_t
	err := ignoringEINTR(func() error { return unix.Fstatfs(fd, &st) })
	return countsOf(&st), err
}

// countsOf takes blocks in units of f_frsize.
func countsOf(st *unix.Statfs_t) counts {
	size := st.Frsize
	if size == 0 {
		size = st.Bsize // kernels before 2.6.36 leave f_frsize empty on some file systems
	}
	return counts{
		blockSize: uint64(size), blocks: st.Blocks, free: st.Bfree, available: st.Bavail,
		files: st.Files, freeFiles: st.Ffree, maxName: uint64(st.Namelen), fat: uint32(st.Type) == unix.MSDOS_SUPER_MAGIC,
	}
}

// mountID returns the mount that name in the open folder is on, or is itself, without following a link.
func mountID(dirfd int, name string) (uint64, bool) {
	var st unix.Statx_t
	err := ignoringEINTR(func() error {
		return unix.Statx(dirfd, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &st)
	})
	// No mount has the number 0. qemu's user mode (7.2) passes the mask on and leaves the number out.
	if err == nil && st.Mask&unix.STATX_MNT_ID != 0 && st.Mnt_id != 0 {
		return st.Mnt_id, true
	}
	return procMountID(dirfd, name)
}

// procMountID is for kernels before 5.8, whose statx(2) does not say it.
func procMountID(dirfd int, name string) (uint64, bool) {
	fd, err := unix.Openat(dirfd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	info, err := os.Open(fmt.Sprintf("/proc/thread-self/fdinfo/%d", fd))
	if err != nil {
		return 0, false
	}
	defer info.Close()
	for lines := bufio.NewScanner(info); lines.Scan(); {
		if id, ok := strings.CutPrefix(lines.Text(), "mnt_id:"); ok {
			n, err := strconv.ParseUint(strings.TrimSpace(id), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
