package engine

import "sync"

// BufferSize is the most bytes of one read or write. A buffer of this size stays in the processor's second-level cache.
const BufferSize = 256 << 10

// Buffers is a pool of buffers of BufferSize bytes. The zero value is ready for use; it is safe for concurrent use.
type Buffers struct{ pool sync.Pool }

// Get returns a buffer of BufferSize bytes, with any content.
func (p *Buffers) Get() []byte {
	if b, ok := p.pool.Get().(*[BufferSize]byte); ok {
		return b[:]
	}
	return make([]byte, BufferSize)
}

// Put takes back a whole buffer that Get has returned. The pool holds pointers to arrays, so that no slice header is allocated.
func (p *Buffers) Put(b []byte) { p.pool.Put((*[BufferSize]byte)(b)) }
