//go:build darwin || dragonfly || freebsd

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

// free counts f_bavail in units of f_bsize, which is the fragment size on these systems. It is below zero where root has
// eaten into the reserve.
func free(st *unix.Statfs_t) int64 {
	return product(uint64(max(int64(st.Bavail), 0)), uint64(st.Bsize))
}
