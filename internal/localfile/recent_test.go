package localfile

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// TestSlotThatIsTorn checks that a slot counts only as it was written: not cut short, and not with any byte changed.
func TestSlotThatIsTorn(t *testing.T) {
	data := []byte("what was done")
	whole := encodeSlot(7, Bases{1, 2}, data)
	r, ok := decodeSlot(append(bytes.Clone(whole), make([]byte, 100)...))
	if !ok || r.seq != 7 || r.Bases != (Bases{1, 2}) || !bytes.Equal(r.Data, data) {
		t.Fatalf("%+v, %v", r, ok)
	}
	for n := range whole {
		if _, ok := decodeSlot(whole[:n]); ok {
			t.Errorf("the first %d bytes count", n)
		}
		torn := bytes.Clone(whole)
		torn[n] ^= 1
		if _, ok := decodeSlot(torn); ok {
			t.Errorf("it counts with byte %d changed", n)
		}
	}
}

// TestRecentSavesInTurn checks that each save leaves the one before it on the disk, also when another run goes on, and that one which
// finds none that counts begins with a new file.
func TestRecentSavesInTurn(t *testing.T) {
	disk := memfs.New(memfs.Config{})
	d, _ := adopted(t, disk, "/file", 1<<20, 100)
	all := func() (found []string) {
		d.FindRecent(func(r *Recent) bool {
			found = append(found, string(r.Data))
			return len(r.Data) == 0
		})
		slices.Sort(found)
		return found
	}
	save := func(data string) {
		t.Helper()
		if err := d.SaveRecent(Bases{1, 2}, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	newest := func() string {
		if r := d.FindRecent(func(*Recent) bool { return true }); r != nil {
			return string(r.Data)
		}
		return ""
	}
	for _, s := range []string{"a", "b", "c"} {
		save(s)
	}
	if got := all(); !slices.Equal(got, []string{"b", "c"}) {
		t.Errorf("the disk has %q", got)
	}
	d.closeRecent()
	d.recent = recent{}
	if got := newest(); got != "c" {
		t.Errorf("the newest is %q", got)
	}
	save("d") // over b
	if got := all(); !slices.Equal(got, []string{"c", "d"}) {
		t.Errorf("the disk has %q", got)
	}
	d.closeRecent()
	d.recent = recent{}
	save("e")
	if got := all(); !slices.Equal(got, []string{"e"}) {
		t.Errorf("the disk has %q after a run that none counted for", got)
	}
	d.DropRecent()
	if _, err := disk.Lstat(d.work.recent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// TestRecentSavesWithAnotherName checks that a file of recent saves that has a second name is read, and not written into.
func TestRecentSavesWithAnotherName(t *testing.T) {
	disk := memfs.New(memfs.Config{})
	d, _ := adopted(t, disk, "/file", 1<<20, 100)
	save := func(data string) {
		t.Helper()
		if err := d.SaveRecent(Bases{}, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	save("a")
	d.closeRecent()
	if err := disk.Link(d.work.recent, "/copy"); err != nil {
		t.Fatal(err)
	}
	before, err := fsys.ReadFile(disk, "/copy", slotCount*slotSize)
	if err != nil {
		t.Fatal(err)
	}
	d.recent = recent{}
	if r := d.FindRecent(func(*Recent) bool { return true }); r == nil || string(r.Data) != "a" {
		t.Errorf("found %+v", r)
	}
	save("b")
	if r := d.FindRecent(func(*Recent) bool { return true }); r == nil || string(r.Data) != "b" {
		t.Errorf("found %+v", r)
	}
	if after, err := fsys.ReadFile(disk, "/copy", slotCount*slotSize); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the other name has %d bytes, %v, and had %d", len(after), err, len(before))
	}
}

// BenchmarkSaveRecent measures a recent save of the largest document.
func BenchmarkSaveRecent(b *testing.B) {
	d := newDestination(Config{FS: fsys.OS(), Log: slog.New(slog.DiscardHandler), Path: filepath.Join(b.TempDir(), "file"), KeepPartial: true})
	if err := d.makeFolder(); err != nil {
		b.Fatal(err)
	}
	defer d.closeRecent()
	data := make([]byte, CheckpointLimit)
	for b.Loop() {
		if err := d.SaveRecent(Bases{}, data); err != nil {
			b.Fatal(err)
		}
	}
}
