//go:build darwin || dragonfly || freebsd

package fsys

import (
	"strings"

	"golang.org/x/sys/unix"
)

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

// countsOf takes blocks in units of f_bsize, which is the fragment size on these systems. What is available is below zero
// when root has eaten into the reserve. The length of a name is not in the answer of all of them.
func countsOf(st *unix.Statfs_t) counts {
	return counts{
		blockSize: uint64(st.Bsize), blocks: uint64(st.Blocks), free: uint64(st.Bfree),
		available: uint64(max(int64(st.Bavail), 0)),
		files:     uint64(st.Files), freeFiles: uint64(max(int64(st.Ffree), 0)),
		fat: strings.HasPrefix(unix.ByteSliceToString(st.Fstypename[:]), "msdos"), // msdos, msdosfs
	}
}
