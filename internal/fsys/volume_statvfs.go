//go:build netbsd || solaris

package fsys

import "golang.org/x/sys/unix"

func statfsAt(dir string) (counts, error) {
	var st unix.Statvfs_t
	err := ignoringEINTR(func() error { return unix.Statvfs(dir, &st) })
	return countsOf(&st), err
}

func statfsFd(fd int) (counts, error) {
	var st unix.Statvfs_t
	err := ignoringEINTR(func() error { return unix.Fstatvfs(fd, &st) })
	return countsOf(&st), err
}

func countsOf(st *unix.Statvfs_t) counts {
	return counts{
		blockSize: uint64(st.Frsize), blocks: st.Blocks, free: st.Bfree, available: st.Bavail,
		files: st.Files, freeFiles: st.Ffree, maxName: uint64(st.Namemax),
	}
}
