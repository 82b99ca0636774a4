//go:build unix && !linux && !darwin

package fsys

import (
	"errors"
	"os"
)

// reserve has no system call here that fails rather than writes zeros where the file system cannot.
func reserve(*os.File, uintptr, int64) error { return errors.ErrUnsupported }

func syncData(f *os.File, _ uintptr) error { return f.Sync() }
