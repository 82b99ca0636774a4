package engine

import (
	"context"
	"io"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/span"
)

// Prove compares the claimed ranges with the disk. It calls held with the length of each that matches; one that does not is
// missing from then on.
func (t *Engine) Prove(ctx context.Context, held func(bytes int64)) error {
	for p := t.Parts.NextClaim(); p != nil; p = t.Parts.NextClaim() {
		sp := p.Span // the part may be joined to another once it is proved
		crc, err := t.sum(ctx, sp)
		if ctx.Err() != nil {
			return cause(ctx)
		}
		holds := err == nil && crc == p.CRC
		if !holds {
			t.Log.Warn("range on disk does not match its checksum; downloading it again", "offset", sp.Off, "bytes", sp.Len(), "error", err)
		}
		t.Parts.Proved(p, holds)
		if holds {
			held(sp.Len())
		}
	}
	return nil
}

// sum is the CRC-64 of a range on disk.
func (t *Engine) sum(ctx context.Context, sp span.Span) (crc uint64, err error) {
	buf := t.Buffers.Get()
	defer t.Buffers.Put(buf)
	err = ReadThrough(ctx, t.Disk, sp.Off, sp.Len(), buf, func(b []byte) { crc = crc64.Update(crc, b) })
	return crc, err
}

// ReadThrough reads size bytes from off on, or with a size of -1 all up to the end, and passes them to fn in order. If r
// ends earlier, the error is io.EOF. When ctx is done, the error is its cause.
func ReadThrough(ctx context.Context, r io.ReaderAt, off, size int64, buf []byte, fn func([]byte)) error {
	for left := size; left != 0; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := buf
		if left > 0 {
			b = buf[:min(int64(len(buf)), left)]
		}
		n, err := r.ReadAt(b, off)
		fn(b[:n])
		off += int64(n)
		if left > 0 {
			left -= int64(n)
		}
		if err == io.EOF && left <= 0 { // the end is where it should be, or could be anywhere
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}
