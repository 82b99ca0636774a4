package engine

import (
	"context"
	"io"

	"github.com/ossdl/ossdl/internal/crc64"
)

// Prove verifies the claimed ranges against the disk. It calls matched with the length of each that matches. A range that
// does not match is missing from then on.
func (e *Engine) Prove(ctx context.Context, matched func(bytes int64)) error {
	for {
		p, claim := e.Parts.NextClaim()
		if p == nil {
			return nil
		}
		crc, err := e.sum(ctx, claim.Off, claim.Done)
		if ctx.Err() != nil {
			return cause(ctx)
		}
		holds := err == nil && crc == claim.CRC
		if !holds {
			e.Log.Warn("range on disk does not match its checksum; downloading it again", "offset", claim.Off, "bytes", claim.Done, "error", err)
		}
		e.Parts.Proved(p, holds)
		if holds {
			matched(claim.Done)
		}
	}
}

// sum returns the CRC-64 of size bytes on disk, from off on.
func (e *Engine) sum(ctx context.Context, off, size int64) (crc uint64, err error) {
	buf := e.Buffers.Get()
	defer e.Buffers.Put(buf)
	err = ReadThrough(ctx, e.Disk, off, size, buf, func(b []byte) { crc = crc64.Update(crc, b) })
	return crc, err
}

// ReadThrough reads size bytes from off on, or everything up to the end if size is -1, and passes them to fn in order. If r
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
