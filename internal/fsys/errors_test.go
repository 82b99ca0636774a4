//go:build !windows

package fsys_test

import (
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"

	"os"
)

// TestErrorsOfTheSystem checks which of the system's errors mean "not supported", alone and through faultfs.
func TestErrorsOfTheSystem(t *testing.T) {
	const enotsupp = syscall.Errno(524)
	for op, test := range map[faultfs.Kind]struct {
		fn          func(error) error
		fatal, soft []error
	}{
		faultfs.Reserve: {fsys.ReserveError,
			[]error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG, fs.ErrClosed},
			[]error{syscall.EPERM, syscall.EINVAL, syscall.EIO, syscall.ENODEV, syscall.ENOTSUP, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.EACCES, enotsupp}},
		faultfs.Sync: {fsys.SyncError,
			[]error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EBADF, fs.ErrClosed},
			[]error{syscall.EINVAL, syscall.ENOSYS, syscall.EPERM, syscall.ENOTSUP, enotsupp}},
		faultfs.SyncDir: {fsys.SyncDirError,
			[]error{syscall.EIO, syscall.EPERM, syscall.EACCES, syscall.ENOSPC, fs.ErrClosed},
			[]error{syscall.EINVAL, syscall.ENOSYS, syscall.ENOTSUP, syscall.ENOTTY, syscall.EBADF, enotsupp}},
	} {
		for _, cause := range append(test.fatal, test.soft...) {
			soft := len(test.soft) > 0 && containsError(test.soft, cause)
			for how, err := range map[string]error{
				"by itself": test.fn(cause), "in a PathError": test.fn(&fs.PathError{Op: "x", Path: "/file", Err: cause}), "planned": planned(t, op, cause),
			} {
				if !errors.Is(err, cause) || errors.Is(err, errors.ErrUnsupported) != soft {
					t.Errorf("%s, %v %s: %v", op, cause, how, err)
				}
			}
		}
		if err := test.fn(nil); err != nil {
			t.Errorf("%s: %v for nil", op, err)
		}
	}
	for err, want := range map[error][2]bool{
		syscall.ENOSPC: {true, false}, syscall.EDQUOT: {true, false}, syscall.EFBIG: {false, true}, syscall.EIO: {}, fsys.ErrTooLarge: {},
		&fs.PathError{Op: "write", Path: "file", Err: syscall.EFBIG}: {false, true},
	} {
		if got := [2]bool{fsys.IsNoSpace(err), fsys.IsTooLarge(err)}; got != want {
			t.Errorf("%v: no space and too large: %v, want %v", err, got, want)
		}
	}
}

// TestIncapable checks which errors say that a file system does not have an operation.
func TestIncapable(t *testing.T) {
	for err, want := range map[error]bool{
		nil: false, syscall.EINVAL: true, syscall.ENOSYS: true, syscall.ENOTSUP: true, syscall.ESPIPE: true, errors.ErrUnsupported: true,
		&fs.PathError{Op: "write", Path: "file", Err: syscall.EINVAL}: true,
		syscall.EIO: false, syscall.ENOSPC: false, syscall.EACCES: false, syscall.EPERM: false, syscall.EFBIG: false, fs.ErrNotExist: false,
	} {
		if got := fsys.IsIncapable(err); got != want {
			t.Errorf("%v: %t", err, got)
		}
	}
}

func containsError(list []error, err error) bool {
	for _, e := range list {
		if e == err {
			return true
		}
	}
	return false
}

// planned is what faultfs makes of the cause.
func planned(t *testing.T, op faultfs.Kind, cause error) error {
	t.Helper()
	f := faultfs.New(memfs.New(memfs.Config{}), faultfs.Plan{Kind: op, Err: cause})
	file, err := f.OpenFile("/file", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	switch op {
	case faultfs.Reserve:
		err = file.Reserve(0, 1)
	case faultfs.Sync:
		err = file.Sync()
	case faultfs.SyncDir:
		err = f.SyncDir("/")
	}
	return err
}

// What the system says of a name that it refuses, and what may pass.
var (
	refused = []error{syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EINVAL, syscall.EILSEQ}
	passing = []error{syscall.EAGAIN, syscall.EBUSY, syscall.ESTALE, syscall.EDQUOT}
)
