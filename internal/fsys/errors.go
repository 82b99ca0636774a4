package fsys

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
)

// Unsupported is err as the reason why the file system cannot do something that can be left out: errors.ErrUnsupported,
// and still err.
func Unsupported(err error) error { return fmt.Errorf("%w: %w", errors.ErrUnsupported, err) }

// ReserveError is what File.Reserve returns for an error of the system. A full disk, a used-up quota and a file that is
// too large for the file system would meet the writes as well. Everything else is taken for "cannot": file systems and
// filters say that in many ways (EPERM, EINVAL, EIO, ENODEV, 524), and the writes tell whether the disk is sound.
func ReserveError(err error) error {
	if !isErrno(err) || IsNoSpace(err) || IsTooLarge(err) {
		return err
	}
	return Unsupported(err)
}

// SyncError is what File.Sync returns for an error of the system.
func SyncError(err error) error {
	if err == nil {
		return nil
	}
	if isErrno(err, append(noSync, syscall.EPERM)...) {
		return Unsupported(err)
	}
	return err
}

// SyncDirError is what FS.SyncDir returns for an error of the system. EPERM and EACCES stay what they are: somebody
// forbids it.
func SyncDirError(err error) error {
	if err == nil {
		return nil
	}
	if isErrno(err, append(noSync, syscall.EBADF)...) {
		return Unsupported(err)
	}
	return err
}

// IsIncapable reports whether err is one of the ways in which a file system says that it does not have an operation: writing
// out of order or a rename, for example, on the mount of an object store.
func IsIncapable(err error) bool {
	return err != nil && isErrno(err, append(noSync, syscall.ESPIPE)...) || errors.Is(err, errors.ErrUnsupported)
}

// ErrUnusable is found in an error that says that no file can be made or replaced at a name as things are: by the name itself, or by
// what is there, or on the way, and whose that is.
var ErrUnusable = errors.New("no file can be made or replaced there")

// Unusable returns err as an ErrUnusable, too, with the same text.
func Unusable(err error) error {
	if err == nil || errors.Is(err, ErrUnusable) {
		return err
	}
	return &unusable{err}
}

type unusable struct{ error }

func (e *unusable) Unwrap() error { return e.error }

func (e *unusable) Is(target error) bool { return target == ErrUnusable }

// Refusal is Unusable for an error of making or opening a file with which the system refuses a name: the next call would meet the
// same. Other errors are returned as they are. So is a denial that may be another program's, for as long as that has the file open.
func Refusal(err error) error {
	if errors.Is(err, fs.ErrPermission) && !busy(err) || errors.Is(err, ErrNotRegular) || isErrno(err, refusals...) {
		return Unusable(err)
	}
	return err
}

// isErrno reports whether err is an error of the system, and one of these if any are given.
func isErrno(err error, these ...syscall.Errno) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && (len(these) == 0 || slices.Contains(these, errno))
}
