//go:build !windows

package fsys

import (
	"errors"
	"syscall"
)

// IsNoSpace reports whether err says that the disk, or what the user may have of it, is full.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// vanishing: a removed name is gone at once here.
func vanishing(error) bool { return false }

// busy: an open file can be removed here.
func busy(error) bool { return false }
