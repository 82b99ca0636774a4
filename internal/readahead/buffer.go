// Package readahead holds the bytes of an object that were fetched and not yet read. It knows blocks of memory, what of the
// object is in them, and who waits for it. It must not know requests, answers or checksums: it is a sink of the engine on
// one side and a queue for one reader on the other. Its invariant: no byte at or beyond the horizon is in memory, and the
// horizon is never further than the room ahead of what was read.
package readahead

import (
	"cmp"
	"errors"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/span"
)

// Buffer is an [engine.Sink] whose bytes are read in order. As bytes are read it moves the horizon of the fetching. So it
// never holds more than its room, and one block more because the room may begin and end within a block. Memory is taken
// from a pool block by block, as it is needed.
//
// One goroutine reads: it calls Next, TryNext and Drop. All other methods may be called from any goroutine.
type Buffer struct {
	pool  *engine.Buffers
	room  int64           // bytes
	step  func() int64    // the least by which the horizon moves, or requests would be tiny
	moved func(end int64) // is called with the new horizon

	mu      sync.Mutex
	changed sync.Cond        // there are bytes to read, or the end is known
	blocks  map[int64][]byte // by offset / engine.BufferSize
	pos     int64            // everything before it was read
	front   int64            // everything before it is here, or was read
	beyond  []span.Span      // what is here behind a gap: sorted, not adjacent
	horizon int64
	size    int64 // -1: not known yet
	stopped stop
}

var _ engine.Sink = (*Buffer)(nil)

// stop says why no more bytes are to be read.
type stop struct {
	err    error // nil: nothing stopped the reading
	atOnce bool  // even before the bytes that are here
}

// ErrClosed is what Next and TryNext return after Close.
var ErrClosed = errors.New("closed")

// New makes a Buffer with room for so many bytes. Follow must be called before anything is written.
func New(pool *engine.Buffers, room int64) *Buffer {
	b := &Buffer{pool: pool, room: room, blocks: map[int64][]byte{}, horizon: room, size: -1}
	b.changed.L = &b.mu
	return b
}

// Follow makes the Buffer call moved whenever the horizon has moved. It moves by at least step bytes, except at the end.
func (b *Buffer) Follow(step func() int64, moved func(end int64)) { b.step, b.moved = step, moved }

// Begin does nothing: memory is taken as bytes come. It implements [engine.Sink].
func (b *Buffer) Begin(int64, int64) error { return nil }

// SetSize sets how many bytes there are to read in all.
func (b *Buffer) SetSize(size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.size = size
	b.changed.Broadcast()
}

// WriteAt takes bytes before the horizon. Each must be written once. It never fails.
func (b *Buffer) WriteAt(p []byte, off int64) (int, error) {
	for done := 0; done < len(p); {
		at := off + int64(done)
		done += copy(b.blockAt(at)[at%engine.BufferSize:], p[done:])
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(span.Span{Off: off, End: off + int64(len(p))})
	return len(p), nil
}

// blockAt returns the block that holds the byte at off.
func (b *Buffer) blockAt(off int64) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	block := b.blocks[off/engine.BufferSize]
	if block == nil {
		block = b.pool.Get()
		b.blocks[off/engine.BufferSize] = block
	}
	return block
}

// add records what was written. The mutex must be held.
func (b *Buffer) add(sp span.Span) {
	i, _ := slices.BinarySearchFunc(b.beyond, sp.Off, func(s span.Span, off int64) int { return cmp.Compare(s.Off, off) })
	if i > 0 && b.beyond[i-1].End == sp.Off {
		i--
		b.beyond[i].End = sp.End
	} else {
		b.beyond = slices.Insert(b.beyond, i, sp)
	}
	if i+1 < len(b.beyond) && b.beyond[i+1].Off == sp.End {
		b.beyond[i].End = b.beyond[i+1].End
		b.beyond = slices.Delete(b.beyond, i+1, i+2)
	}
	if b.beyond[0].Off == b.front {
		b.front = b.beyond[0].End
		b.beyond = slices.Delete(b.beyond, 0, 1)
		b.changed.Broadcast()
	}
}

// Next returns bytes to read, which stay unchanged until they are dropped. It waits until there are some. Once all bytes were
// read it returns [io.EOF]. Other errors are those of Fail, Abort and Close.
func (b *Buffer) Next() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if p, err := b.ready(); len(p) > 0 || err != nil {
			return p, err
		}
		b.changed.Wait()
	}
}

// TryNext is like Next, but returns no bytes instead of waiting.
func (b *Buffer) TryNext() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ready()
}

// ready returns what there is to read: bytes, an error, or neither. The mutex must be held.
func (b *Buffer) ready() ([]byte, error) {
	switch {
	case b.stopped.atOnce:
		return nil, b.stopped.err
	case b.pos < b.front:
		block := b.blocks[b.pos/engine.BufferSize]
		at := b.pos % engine.BufferSize
		return block[at:min(engine.BufferSize, at+b.front-b.pos)], nil
	case b.pos == b.size:
		return nil, io.EOF
	}
	return nil, b.stopped.err
}

// Held returns how much memory is in use, in bytes, and the horizon: no byte at or beyond it is fetched yet.
func (b *Buffer) Held() (memory, horizon int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return int64(len(b.blocks)) * engine.BufferSize, b.horizon
}

// Drop marks the first n bytes that Next or TryNext returned as read.
func (b *Buffer) Drop(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := b.pos / engine.BufferSize
	b.pos += int64(n)
	if block := b.blocks[i]; block != nil && (b.pos/engine.BufferSize > i || b.pos == b.size) {
		delete(b.blocks, i)
		b.pool.Put(block)
	}
	end, size := b.pos+b.room, b.size
	if size < 0 {
		size = math.MaxInt64
	}
	if b.horizon < size && (end >= size || end-b.horizon >= b.step()) {
		b.horizon = end
		b.moved(end)
	}
}

// Position returns how many bytes were read.
func (b *Buffer) Position() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pos
}

// Fail says that no more bytes will be written. Those that are here can still be read; err comes after them.
func (b *Buffer) Fail(err error) { b.end(stop{err: err}) }

// Abort ends the reading where it is, with err.
func (b *Buffer) Abort(err error) { b.end(stop{err, true}) }

// Close ends the reading where it is, with [ErrClosed]. It reports whether there was more to read.
func (b *Buffer) Close() (unread bool) { return b.end(stop{ErrClosed, true}) }

// end stops the reading. Abort overrides Fail, and Close overrides both.
func (b *Buffer) end(s stop) (unread bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.stopped.atOnce || s.err == ErrClosed {
		b.stopped = s
	}
	b.changed.Broadcast()
	return b.pos != b.size
}

// Free releases the memory. Nothing may be written any more; the bytes that Next returned last may still be read.
func (b *Buffer) Free() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.blocks = nil
}
