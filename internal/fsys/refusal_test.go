package fsys_test

import (
	"errors"
	"io/fs"
	"slices"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
)

// TestRefusal checks which errors of making a file say that no file can be made at its name, and that they stay what they are.
func TestRefusal(t *testing.T) {
	at := func(err error) error { return &fs.PathError{Op: "open", Path: "name", Err: err} }
	final := slices.Concat(refused, []error{
		fs.ErrPermission, syscall.ENAMETOOLONG, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, fsys.ErrNotRegular,
		fsys.Unusable(errors.New("reserved")),
	})
	for _, cause := range slices.Concat(final, passing, []error{
		syscall.ENOENT, syscall.ENOSPC, syscall.EIO, syscall.EMFILE, fsys.ErrLocked, errors.New("other"),
	}) {
		err := fsys.Refusal(at(cause))
		if final := slices.Contains(final, cause); errors.Is(err, fsys.ErrUnusable) != final || !errors.Is(err, cause) || err.Error() != at(cause).Error() {
			t.Errorf("%v: %v, an ErrUnusable: %t", cause, err, !final)
		}
	}
	if fsys.Refusal(nil) != nil || fsys.Unusable(nil) != nil {
		t.Error("no error became one")
	}
}
