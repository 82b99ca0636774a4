package ossdl

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"sync"
)

// readAhead is the sink of a Reader: what was fetched and not read yet. It moves the horizon of the fetching as bytes are
// read, so that it never holds more than its room, and a block more where that begins and ends within one. Memory is taken
// block by block as it is needed.
type readAhead struct {
	pool  *sync.Pool      // of blocks
	room  int64           // bytes
	step  func() int64    // the horizon moves by this much at the least, or requests would be tiny
	moved func(end int64) // tells of a new horizon

	mu      sync.Mutex
	come    sync.Cond         // bytes, or the end
	blocks  map[int64]*[]byte // by offset / bufferSize
	pos     int64             // everything before it was read
	front   int64             // everything before it is here, or was
	beyond  []span            // what is here behind a gap: sorted, not touching
	horizon int64
	size    int64 // -1: not known yet
	failed  error // what comes after the bytes before front
	aborted error // what comes at once
}

// errClosed: the Reader was closed.
var errClosed = errors.New("closed")

func newReadAhead(pool *sync.Pool, room int64) *readAhead {
	a := &readAhead{pool: pool, room: room, blocks: map[int64]*[]byte{}, horizon: room, size: -1}
	a.come.L = &a.mu
	return a
}

func (a *readAhead) begin(int64, int64) error { return nil }

func (a *readAhead) setSize(size int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.size = size
	a.come.Broadcast()
}

// WriteAt takes bytes between pos and the horizon. Each is written once.
func (a *readAhead) WriteAt(b []byte, off int64) (int, error) {
	for done := 0; done < len(b); {
		at := off + int64(done)
		done += copy(a.block(at)[at%bufferSize:], b[done:])
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.add(span{off, off + int64(len(b))})
	return len(b), nil
}

// block returns the memory for the byte at off.
func (a *readAhead) block(off int64) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := a.blocks[off/bufferSize]
	if b == nil {
		b = a.pool.Get().(*[]byte)
		a.blocks[off/bufferSize] = b
	}
	return *b
}

// add notes what was written. The mutex is held.
func (a *readAhead) add(sp span) {
	i, _ := slices.BinarySearchFunc(a.beyond, sp.off, func(s span, off int64) int { return cmp.Compare(s.off, off) })
	if i > 0 && a.beyond[i-1].end == sp.off {
		i--
		a.beyond[i].end = sp.end
	} else {
		a.beyond = slices.Insert(a.beyond, i, sp)
	}
	if i+1 < len(a.beyond) && a.beyond[i+1].off == sp.end {
		a.beyond[i].end = a.beyond[i+1].end
		a.beyond = slices.Delete(a.beyond, i+1, i+2)
	}
	if a.beyond[0].off == a.front {
		a.front = a.beyond[0].end
		a.beyond = slices.Delete(a.beyond, 0, 1)
		a.come.Broadcast()
	}
}

// next returns bytes to read, which stay as they are until they are dropped. Where there are none it waits, or returns
// none. An error is io.EOF once all was read.
func (a *readAhead) next(wait bool) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		switch {
		case a.aborted != nil:
			return nil, a.aborted
		case a.pos < a.front:
			b := *a.blocks[a.pos/bufferSize]
			at := a.pos % bufferSize
			return b[at:min(bufferSize, at+a.front-a.pos)], nil
		case a.pos == a.size:
			return nil, io.EOF
		case a.failed != nil:
			return nil, a.failed
		case !wait:
			return nil, nil
		}
		a.come.Wait()
	}
}

// drop takes n bytes for read that next has returned.
func (a *readAhead) drop(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := a.pos / bufferSize
	a.pos += int64(n)
	if b := a.blocks[i]; b != nil && (a.pos/bufferSize > i || a.pos == a.size) {
		delete(a.blocks, i)
		a.pool.Put(b)
	}
	if end := a.pos + a.room; a.horizon < a.size && (end >= a.size || end-a.horizon >= a.step()) {
		a.horizon = end
		a.moved(end)
	}
}

func (a *readAhead) position() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pos
}

// fail says that no more bytes will come.
func (a *readAhead) fail(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failed = err
	a.come.Broadcast()
}

// abort ends the reading where it is. It reports whether there was more to read.
func (a *readAhead) abort(err error) (unread bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.aborted == nil || err == errClosed {
		a.aborted = err
	}
	a.come.Broadcast()
	return a.pos != a.size
}

// free lets go of the memory, once nobody writes any more. Somebody may still read a block.
func (a *readAhead) free() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.blocks = nil
}
