//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package fsys

import (
	"errors"

	"golang.org/x/sys/unix"
)

// tryLock is flock(2), whose locks belong to the open file: closing another descriptor of the same file does not drop
// them, as it does with fcntl(2) locks, and two opens within one process exclude each other.
func tryLock(fd uintptr) error {
	err := ignoringEINTR(func() error { return unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB) })
	switch err {
	case unix.EWOULDBLOCK:
		return ErrLocked
	case unix.ENOLCK, unix.EINVAL: // NFS without a lock daemon; file systems that know no flock
		return errors.ErrUnsupported
	}
	return err
}
