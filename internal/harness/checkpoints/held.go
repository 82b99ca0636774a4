package checkpoints

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/fsys"
)

// Held is the ranges that a checkpoint claims and that are in the partial file, or, where there is none, in the file at
// the path, for a run that was killed right after its rename. have is what is in that file.
func Held(t *testing.T, disk fsys.FS, cp *Document, part, path string) (held []Span, have []byte) {
	t.Helper()
	have, err := fsys.ReadFile(disk, part, 1<<30)
	if errors.Is(err, fs.ErrNotExist) && cp.Complete() {
		have, err = fsys.ReadFile(disk, path, 1<<30)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, p := range cp.Parts {
		if p.Offset+p.Done <= int64(len(have)) && crc64.Update(0, have[p.Offset:p.Offset+p.Done]) == p.CRC64 {
			held = append(held, p.Span())
		}
	}
	return held, have
}
