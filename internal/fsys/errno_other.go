//go:build !windows

package fsys

import (
	"errors"
	"syscall"
)

// enotsupp is what Linux uses within the kernel for "not supported". Drivers let it out now and then.
const enotsupp syscall.Errno = 524

// noSync are the ways to say that there is no such sync.
var noSync = []syscall.Errno{syscall.EINVAL, syscall.ENOSYS, syscall.ENOTSUP, syscall.EOPNOTSUPP, syscall.ENOTTY, enotsupp}

// refusals: the file system is read-only; the name has characters or a length that it does not take; on the way are a file or links
// in a circle.
var refusals = []syscall.Errno{syscall.EROFS, syscall.EINVAL, syscall.EILSEQ, syscall.ENAMETOOLONG, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP}

// IsNoSpace reports whether err says that the disk, or what the user may have of it, is full. It says so too when the
// inodes are used up (Volume.Files).
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// IsTooLarge reports whether err says that the file is too large: for the file system, or for the limit of the process.
func IsTooLarge(err error) bool { return errors.Is(err, syscall.EFBIG) }

// tooLong: the system says ENAMETOOLONG itself.
func tooLong(_ string, err error) error { return err }

// vanishing: a removed name is gone at once here.
func vanishing(error) bool { return false }

// busy: an open file can be opened, replaced and removed here. What permissions deny, they deny until someone changes them.
func busy(error) bool { return false }
