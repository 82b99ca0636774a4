//go:build netbsd || solaris

package fsys

import "golang.org/x/sys/unix"

func freeAt(dir string) (int64, error) {
	var st unix.Statvfs_t
	err := ignoringEINTR(func() error { return unix.Statvfs(dir, &st) })
	return product(uint64(st.Bavail), uint64(st.Frsize)), err
}

func freeFd(fd int) (int64, error) {
	var st unix.Statvfs_t
	err := ignoringEINTR(func() error { return unix.Fstatvfs(fd, &st) })
	return product(uint64(st.Bavail), uint64(st.Frsize)), err
}
