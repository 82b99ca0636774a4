package tree

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// openWith opens a folder in whose folders for working files there are these files.
func openWith(t *testing.T, wrap func(fsys.FS) fsys.FS, left ...string) *Folder {
	t.Helper()
	disk := memfs.New(memfs.Config{})
	for _, name := range left {
		if err := disk.Mkdir(path.Dir(name), 0o777); err != nil && !errors.Is(err, syscall.EEXIST) {
			t.Fatal(err)
		}
		f, err := disk.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o666)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Open(wrap(disk), "dir", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func asIs(f fsys.FS) fsys.FS { return f }

// TestLeft checks that the working files of other calls are those that were there before this one: not its own, and not unknown
// because it has some.
func TestLeft(t *testing.T) {
	f := openWith(t, asIs, WorkDir+"/a.part", WorkDir+"/b.new")
	own, err := f.FS().OpenFile(WorkDir+"/c.new", os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	names, known := f.Left(WorkDir)
	_, a := names["a.part"]
	_, b := names["b.new"]
	if !known || len(names) != 2 || !a || !b || !f.HasLeft("x") {
		t.Errorf("%v, %t", names, known)
	}

	f = openWith(t, asIs)
	if names, known := f.Left(WorkDir); !known || len(names) > 0 || f.HasLeft("x") {
		t.Errorf("a new folder: %v, %t", names, known)
	}
}

// TestLeftUnknown checks that nothing is said of a folder that cannot be listed, or that holds more than is remembered.
func TestLeftUnknown(t *testing.T) {
	unlistable := func(f fsys.FS) fsys.FS {
		return faultfs.New(f, faultfs.Plan{Kind: faultfs.List, Err: syscall.EACCES, Forever: true})
	}
	var many []string
	for i := range maxLeft + 1 {
		many = append(many, fmt.Sprintf("%s/%d", WorkDir, i))
	}
	for _, f := range []*Folder{openWith(t, unlistable, WorkDir+"/a.part"), openWith(t, asIs, many...)} {
		if names, known := f.Left(WorkDir); known || !f.HasLeft("x") {
			t.Errorf("%d names, %t", len(names), known)
		}
	}
}
