package fsys

import "golang.org/x/sys/unix"

func access(dirfd int, name string) error {
	return ignoringEINTR(func() error { return unix.Faccessat(dirfd, name, unix.W_OK|unix.X_OK, 0) })
}
