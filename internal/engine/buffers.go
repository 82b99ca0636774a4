package engine

import "sync"

// BufferSize is the size of one read and one write, in bytes. A buffer of this size stays in the processor's second-level
// cache.
const BufferSize = 256 << 10

// Buffers is a pool of buffers of bufferSize bytes. The zero value is ready for use; it is safe for concurrent use.
type Buffers struct{ pool sync.Pool }

func (p *Buffers) Get() []byte {
	if b, ok := p.pool.Get().(*[BufferSize]byte); ok {
		return b[:]
	}
	return make([]byte, BufferSize)
}

// Put returns a whole buffer that get has given. The pool holds pointers to arrays, so that no slice header is allocated.
func (p *Buffers) Put(b []byte) { p.pool.Put((*[BufferSize]byte)(b)) }
