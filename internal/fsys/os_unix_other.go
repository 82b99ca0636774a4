//go:build unix && !linux && !darwin

package fsys

import (
	"errors"
	"math"
	"os"
)

// ReserveStep is without bound: blocks are allocated here without being touched.
const ReserveStep = math.MaxInt64

// reserve has no system call here that fails rather than writes zeros where the file system cannot.
func reserve(*os.File, uintptr, int64, int64) error { return errors.ErrUnsupported }

func syncData(f *os.File, _ uintptr) error { return f.Sync() }

// openAt: a folder must be readable here to be opened.
const openAt = 0

// writeBack and dropCache: nothing here begins the writing without waiting for it.
func writeBack(uintptr, int64, int64) error { return nil }

func dropCache(uintptr, int64, int64) error { return nil }
