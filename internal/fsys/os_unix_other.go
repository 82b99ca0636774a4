//go:build unix && !linux && !darwin

package fsys

import (
	"errors"
	"math"

	"golang.org/x/sys/unix"
)

// ReserveStep is without bound: blocks are allocated here without being touched.
const ReserveStep = math.MaxInt64

// reserveAt has no system call here that fails rather than writes zeros where the file system cannot.
func reserveAt(uintptr, int64, int64) error { return errors.ErrUnsupported }

func syncDataAt(fd uintptr) error {
	return ignoringEINTR(func() error { return unix.Fsync(int(fd)) })
}

// openAt: a folder must be readable here to be opened.
const openAt = 0

// writeBack and dropCache: nothing here begins the writing without waiting for it.
func writeBack(uintptr, int64, int64) error { return nil }

func dropCache(uintptr, int64, int64) error { return nil }
