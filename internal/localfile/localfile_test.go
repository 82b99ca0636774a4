package localfile

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// adopted returns a destination that has adopted the partial file of an interrupted run. The file is length bytes long,
// with any ballast, and its first written bytes are written.
func adopted(t *testing.T, disk fsys.FS, path string, length, written int64) (*Destination, *partial) {
	t.Helper()
	w := filesIn(foldersOf(path)[0])
	if err := disk.Mkdir(w.folder, 0o777); err != nil {
		t.Fatal(err)
	}
	f, err := disk.OpenFile(w.data, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	err = f.Truncate(length)
	if err == nil {
		_, err = f.WriteAt(make([]byte, written), 0)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	d := newDestination(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: path, KeepPartial: true})
	if found, err := d.Adopt(length, false); !found || err != nil {
		t.Fatalf("%t, %v", found, err)
	}
	t.Cleanup(func() { d.Abandon(AsFound) })
	return d, d.content.(*partial)
}

// TestReservationOfAResumeRunsBeside checks that a resumed run writes immediately, too, and reserves the rest in parallel with
// the writes. The ballast of the earlier run does not keep it from that.
func TestReservationOfAResumeRunsBeside(t *testing.T) {
	step := int64(fsys.ReserveStep)
	if step > 1<<30 {
		t.Skip("here space is reserved in one step")
	}
	size := step + 1<<20
	_, p := adopted(t, fsys.OS(), filepath.Join(t.TempDir(), "file"), size+ballastSize, 1<<20)
	if err := p.allocate(size, size-1<<20); err != nil {
		t.Fatal(err)
	}
	if p.toReserve != size {
		t.Errorf("%d bytes are left to reserve in parallel with the writes, want %d", p.toReserve, size)
	}
	if fi, err := p.file.Stat(); err != nil || fi.Size() != size {
		t.Errorf("size %d, %v", fi.Size(), err)
	}
}

// TestNoSpaceForAResume checks that a partial file with holes does not take what little room there is if that is too
// little for what is missing.
func TestNoSpaceForAResume(t *testing.T) {
	const size, written, room = 4 << 20, 1 << 20, 1 << 20
	disk := memfs.New(memfs.Config{Capacity: written + room})
	d, _ := adopted(t, disk, "/file", size, written)
	err := d.Begin(size, size-written)
	var full *noSpaceError
	if !errors.As(err, &full) || !errors.Is(err, ErrNoSpace) || full.missing != size-written || full.free != room {
		t.Errorf("%v, want %d bytes missing and %d free", err, size-written, room)
	}
	if free, err := disk.Free("/"); err != nil || free != room {
		t.Errorf("%d bytes are free after it, want %d (%v)", free, room, err)
	}
}

// TestChoose checks when the blocks of a partial file are reserved.
func TestChoose(t *testing.T) {
	const step = fsys.ReserveStep
	for _, c := range []struct {
		name             string
		size, need, free int64
		adopted          bool
		want             reservation
	}{
		{"empty", 0, 0, 0, false, reserveNone},
		{"all there", 100, 0, 0, true, reserveNone},
		{"more than all there", 100, -3996, 0, true, reserveNone},
		{"small, there is room", 100, 100, 100, false, reserveNow},
		{"small resume, there is room", 100, 60, 60, true, reserveNow},
		{"small, a byte too little", 100, 100, 99, false, reserveNow},
		{"resume, a byte too little", 100, 60, 59, true, reserveRefused},
		{"resume, a byte left", 100, 60, 1, true, reserveRefused},
		{"free space unknown", 100, 100, -1, false, reserveNow},
		{"resume, free space unknown", 100, 60, -1, true, reserveNow},
		{"one step", step, step, step, false, reserveNow},
		{"over one step, a byte too little", step, step - 1, step - 2, false, reserveNow},
	} {
		if got := choose(c.size, c.need, c.free, c.adopted); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	size := int64(step)
	if size > 1<<30 {
		return // here space is reserved in one step
	}
	size++
	for _, adopted := range []bool{false, true} {
		if got := choose(size, size-1, size-1, adopted); got != reserveBeside {
			t.Errorf("over one step, there is room, adopted %t: %v, want %v", adopted, got, reserveBeside)
		}
	}
	if got := choose(size, size-1, size-2, false); got != reserveNow {
		t.Errorf("over one step, a byte too little: %v, want %v", got, reserveNow)
	}
	if got := choose(size, size, -1, false); got != reserveNow {
		t.Errorf("over one step, free space unknown: %v, want %v", got, reserveNow)
	}
}

// TestCommittedFileReplacedDuringItsProof checks that Commit fails if the file at the path, which an earlier run has
// completed, was replaced by another one while it was verified.
func TestCommittedFileReplacedDuringItsProof(t *testing.T) {
	disk := memfs.New(memfs.Config{})
	write := func(name string) {
		t.Helper()
		if err := fsys.WriteFile(disk, name, make([]byte, 1000), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write("/file")
	for _, replaced := range []bool{false, true} {
		d := newDestination(Config{
			FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file", KeepPartial: true,
		})
		if found, err := d.Adopt(1000, true); !found || err != nil {
			t.Fatalf("%t, %v", found, err)
		}
		if _, err := d.WriteAt([]byte("x"), 0); !errors.Is(err, ErrNotOurs) {
			t.Errorf("the file at the path was written into: %v", err)
		}
		if replaced {
			write("/file")
		}
		if _, err := d.Commit(1000, time.Time{}); (err != nil) != replaced {
			t.Errorf("replaced %t: %v", replaced, err)
		}
		d.Abandon(AsFound)
	}
}

// TestFileInPlaceIsOfferedOnlyIfComplete checks that the file at the path is adopted only for a checkpoint that claims
// everything, and only if it has the right length.
func TestFileInPlaceIsOfferedOnlyIfComplete(t *testing.T) {
	for _, c := range []struct {
		name     string
		length   int64
		complete bool
		want     bool
	}{
		{"complete", 1000, true, true},
		{"claims less", 1000, false, false},
		{"longer than the file", 1001, true, false},
		{"shorter than the file", 999, true, false},
	} {
		disk := memfs.New(memfs.Config{})
		if err := fsys.WriteFile(disk, "/file", make([]byte, 1000), 0o666); err != nil {
			t.Fatal(err)
		}
		d := newDestination(Config{
			FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file", KeepPartial: true,
		})
		if found, err := d.Adopt(c.length, c.complete); found != c.want || err != nil {
			t.Errorf("%s: %t, %v", c.name, found, err)
		}
		if d.Saves() == c.want {
			t.Errorf("%s: saves is %t", c.name, d.Saves())
		}
		d.Abandon(AsFound)
	}
}

// TestLeftoversOfACallInUse checks that RemoveLeftovers leaves the files of a running call alone, and removes those of a
// killed one.
func TestLeftoversOfACallInUse(t *testing.T) {
	disk := memfs.New(memfs.Config{})
	cfg := Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file", Folder: "/", Base: "/file"}
	for _, suffix := range []string{"", partSuffix, checkpointSuffix, checkpointSuffix + fsys.TempSuffix} {
		if err := fsys.WriteFile(disk, "/file"+suffix, []byte("x"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	unlock, err := newDestination(cfg).Lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := RemoveLeftovers(cfg); err != nil {
		t.Error(err)
	}
	if n := len(disk.Names()); n != 5 {
		t.Errorf("in use: %v", disk.Names())
	}
	unlock()
	if _, err := RemoveLeftovers(cfg); err != nil {
		t.Error(err)
	}
	if n := disk.Names(); len(n) != 1 || n[0] != "/file" {
		t.Errorf("killed: %v", n)
	}
}
