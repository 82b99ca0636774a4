package checkpoints

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/fsys"
)

// Held is the ranges that a checkpoint claims and that are in the partial file, or, where there is none, in the file at
// the path, for a run that was killed right after its rename. have is what is in that file. Claims of older count where the one that
// they lie in does not hold.
func Held(t *testing.T, disk fsys.FS, cp *Document, older []Part, part, path string) (held []Span, have []byte) {
	t.Helper()
	have, err := fsys.ReadFile(disk, part, 1<<30)
	if errors.Is(err, fs.ErrNotExist) && cp.Complete() {
		have, err = fsys.ReadFile(disk, path, 1<<30)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	isThere := func(p Part) bool {
		return p.Offset+p.Done <= int64(len(have)) && crc64.Update(0, have[p.Offset:p.Offset+p.Done]) == p.CRC64
	}
	for _, p := range cp.Parts {
		if isThere(p) {
			held = append(held, p.Span())
			continue
		}
		for _, o := range older {
			if p.Span().Off <= o.Span().Off && o.Span().End <= p.Span().End && isThere(o) {
				held = append(held, o.Span())
			}
		}
	}
	return held, have
}

// LaterOn is Later of a checkpoint, nil if there is none, and of the recent saves in the file recent, which need not be there.
func LaterOn(t *testing.T, disk fsys.FS, checkpoint []byte, recent string) (cp *Document, older []Part) {
	t.Helper()
	slots, err := fsys.ReadFile(disk, recent, 2*SlotSize)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fsys.ErrTooLarge) {
		t.Fatal(err)
	}
	if cp, older, err = Later(checkpoint, slots); err != nil {
		t.Fatal(err)
	}
	return cp, older
}
