package fsys

import "golang.org/x/sys/unix"

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

func free(st *unix.Statfs_t) int64 {
	return product(uint64(max(st.F_bavail, 0)), uint64(st.F_bsize))
}
