//go:build unix && !aix

package fsys

import "golang.org/x/sys/unix"

// access asks for the effective user, the one that will make the files, not for the one who started a setuid program.
func access(dirfd int, name string) error {
	return ignoringEINTR(func() error {
		return unix.Faccessat(dirfd, name, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	})
}
