package fsys

import "golang.org/x/sys/unix"

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

func countsOf(st *unix.Statfs_t) counts {
	return counts{
		blockSize: uint64(st.F_bsize), blocks: st.F_blocks, free: st.F_bfree, available: uint64(max(st.F_bavail, 0)),
		files: st.F_files, freeFiles: st.F_ffree, maxName: uint64(st.F_namemax),
		fat: unix.ByteSliceToString(st.F_fstypename[:]) == "msdos",
	}
}
