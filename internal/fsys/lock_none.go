//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package fsys

import "errors"

// tryLock: fcntl(2) locks, where they are all there is, end when any descriptor of the file in the process is closed.
// A lock that vanishes unseen is worse than none.
func tryLock(uintptr) error { return errors.ErrUnsupported }
