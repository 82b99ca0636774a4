package readahead

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/span"
)

// Buffer is the sink of a Reader. It holds the bytes that were fetched and not read yet. As bytes are read it moves the
// horizon of the fetching, so that it never holds more than its room, and one block more since the room may begin and end
// within a block. Memory is taken from a pool block by block, as it is needed.
//
// One goroutine reads: it calls next, tryNext and drop. Everything else may be called from any.
type Buffer struct {
	pool  Blocks
	room  int64           // bytes
	step  func() int64    // the least the horizon moves by, or requests would be tiny
	moved func(end int64) // is told the new horizon

	mu      sync.Mutex
	changed sync.Cond        // there are bytes to read, or the end is known
	blocks  map[int64][]byte // by offset / bufferSize
	pos     int64            // everything before it was read
	front   int64            // everything before it is here, or was read
	beyond  []span.Span      // what is here behind a gap: sorted, not adjacent
	horizon int64
	size    int64 // -1: not known yet
	stopped stop
}

// Blocks is a pool of blocks of bufferSize bytes.
type Blocks interface {
	Get() []byte
	Put([]byte)
}

// stop says why no more bytes are to be read.
type stop struct {
	err    error // nil: nothing stopped the reading
	atOnce bool  // also before the bytes that are here
}

// ErrClosed is what next returns after close.
var ErrClosed = errors.New("closed")

// New makes a window of room bytes. follow must be called before anything is written.
func New(pool Blocks, room int64) *Buffer {
	a := &Buffer{pool: pool, room: room, blocks: map[int64][]byte{}, horizon: room, size: -1}
	a.changed.L = &a.mu
	return a
}

// Follow sets who is told that the horizon has moved. It moves by at least step bytes at a time, except at the end.
func (a *Buffer) Follow(step func() int64, moved func(end int64)) { a.step, a.moved = step, moved }

func (a *Buffer) Begin(int64, int64) error { return nil }

// SetSize says how many bytes there are to read in all.
func (a *Buffer) SetSize(size int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.size = size
	a.changed.Broadcast()
}

// WriteAt takes bytes before the horizon. Each must be written once.
func (a *Buffer) WriteAt(b []byte, off int64) (int, error) {
	for done := 0; done < len(b); {
		at := off + int64(done)
		done += copy(a.blockAt(at)[at%engine.BufferSize:], b[done:])
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.add(span.Span{Off: off, End: off + int64(len(b))})
	return len(b), nil
}

// blockAt returns the block that holds the byte at off.
func (a *Buffer) blockAt(off int64) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.blocks[off/engine.BufferSize]
	if b == nil {
		b = a.pool.Get()
		a.blocks[off/engine.BufferSize] = b
	}
	return b
}

// add records what was written. The mutex must be held.
func (a *Buffer) add(sp span.Span) {
	i, _ := slices.BinarySearchFunc(a.beyond, sp.Off, func(s span.Span, off int64) int { return cmp.Compare(s.Off, off) })
	if i > 0 && a.beyond[i-1].End == sp.Off {
		i--
		a.beyond[i].End = sp.End
	} else {
		a.beyond = slices.Insert(a.beyond, i, sp)
	}
	if i+1 < len(a.beyond) && a.beyond[i+1].Off == sp.End {
		a.beyond[i].End = a.beyond[i+1].End
		a.beyond = slices.Delete(a.beyond, i+1, i+2)
	}
	if a.beyond[0].Off == a.front {
		a.front = a.beyond[0].End
		a.beyond = slices.Delete(a.beyond, 0, 1)
		a.changed.Broadcast()
	}
}

// Next returns bytes to read, which stay unchanged until they are dropped. It waits until there are some. Once all bytes were
// read it returns io.EOF.
func (a *Buffer) Next() ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		if b, err := a.ready(); len(b) > 0 || err != nil {
			return b, err
		}
		a.changed.Wait()
	}
}

// TryNext is like next, but returns no bytes instead of waiting.
func (a *Buffer) TryNext() ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ready()
}

// ready returns what there is to read: bytes, an error, or neither. The mutex must be held.
func (a *Buffer) ready() ([]byte, error) {
	switch {
	case a.stopped.atOnce:
		return nil, a.stopped.err
	case a.pos < a.front:
		b := a.blocks[a.pos/engine.BufferSize]
		at := a.pos % engine.BufferSize
		return b[at:min(engine.BufferSize, at+a.front-a.pos)], nil
	case a.pos == a.size:
		return nil, io.EOF
	}
	return nil, a.stopped.err
}

// Held returns how much memory is in use, in bytes, and the horizon: no byte at or beyond it is taken yet.
func (a *Buffer) Held() (memory, horizon int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return int64(len(a.blocks)) * engine.BufferSize, a.horizon
}

// Drop marks as read the first n bytes that next or tryNext returned.
func (a *Buffer) Drop(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := a.pos / engine.BufferSize
	a.pos += int64(n)
	if b := a.blocks[i]; b != nil && (a.pos/engine.BufferSize > i || a.pos == a.size) {
		delete(a.blocks, i)
		a.pool.Put(b)
	}
	if end := a.pos + a.room; a.horizon < a.size && (end >= a.size || end-a.horizon >= a.step()) {
		a.horizon = end
		a.moved(end)
	}
}

// Position returns how many bytes were read.
func (a *Buffer) Position() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pos
}

// Fail says that no more bytes will be written. Those that are here can still be read; err comes after them.
func (a *Buffer) Fail(err error) { a.end(stop{err: err}) }

// Abort ends the reading where it is, with err. It reports whether there was more to read.
func (a *Buffer) Abort(err error) (unread bool) { return a.end(stop{err, true}) }

// Close ends the reading where it is, with errClosed. It reports whether there was more to read.
func (a *Buffer) Close() (unread bool) { return a.end(stop{ErrClosed, true}) }

// end stops the reading. An abort overrides a failure, and close overrides both.
func (a *Buffer) end(s stop) (unread bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.stopped.atOnce || s.err == ErrClosed {
		a.stopped = s
	}
	a.changed.Broadcast()
	return a.pos != a.size
}

// Free releases the memory. Nothing may be written any more; a block may still be read.
func (a *Buffer) Free() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.blocks = nil
}
