package ossdl

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// adopted is a destination whose partial file an interrupted run has left: of that length, spare included, with so many
// bytes written from the start.
func adopted(t *testing.T, disk fsys.FS, path string, length, written int64) *destination {
	t.Helper()
	f, err := disk.OpenFile(path+partSuffix, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(length); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, written), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &destination{
		fs: disk, log: slog.New(slog.DiscardHandler), path: path, base: path, keeps: true,
		cpPath: path + checkpointSuffix, file: f,
	}
}

// A run that goes on writes at once, too, and reserves what is left beside the writes: the spare of the run before does
// not keep it from that.
func TestReservationOfAResumeRunsBeside(t *testing.T) {
	step := int64(fsys.ReserveStep)
	if step > 1<<30 {
		t.Skip("here space is reserved in one step")
	}
	size := step + 1<<20
	d := adopted(t, fsys.OS(), filepath.Join(t.TempDir(), "file"), size+spareSize, 1<<20)
	if err := d.prepare(size, size-1<<20); err != nil {
		t.Fatal(err)
	}
	if d.toReserve != size {
		t.Errorf("%d bytes are left to reserve beside the writes, want %d", d.toReserve, size)
	}
	if fi, err := d.file.Stat(); err != nil || fi.Size() != size {
		t.Errorf("size %d, %v", fi.Size(), err)
	}
}

// Where there is too little room for what is missing, a file with holes does not take what room there is.
func TestNoSpaceForAResume(t *testing.T) {
	const size, written, room = 4 << 20, 1 << 20, 1 << 20
	disk := memfs.New(memfs.Config{Capacity: written + room})
	d := adopted(t, disk, "/file", size, written)
	err := d.prepare(size, size-written)
	var full *noSpaceError
	if !errors.As(err, &full) || !errors.Is(err, ErrNoSpace) || full.missing != size-written || full.free != room {
		t.Errorf("%v, want %d bytes missing and %d free", err, size-written, room)
	}
	if free, err := disk.Free("/"); err != nil || free != room {
		t.Errorf("%d bytes are free after it, want %d (%v)", free, room, err)
	}
}

// A file at the path that was proved, and is not there any more at the end, is not what the call reports.
func TestCommittedFileReplacedDuringItsProof(t *testing.T) {
	disk := memfs.New(memfs.Config{})
	d := adopted(t, disk, "/file", 1000, 1000)
	if err := disk.Rename("/file"+partSuffix, "/file"); err != nil {
		t.Fatal(err)
	}
	d.committed = true
	if err := d.keep(1000); err != nil {
		t.Fatal(err)
	}

	d = adopted(t, disk, "/file", 1000, 1000)
	d.committed = true
	if err := d.keep(1000); err == nil {
		t.Error("another file is at the path, and no error")
	}
}
