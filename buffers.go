package ossdl

import "sync"

// bufferSize is the size of one read and one write, in bytes. A buffer of this size stays in the processor's second-level
// cache.
const bufferSize = 256 << 10

// buffers is a pool of buffers of bufferSize bytes. The zero value is ready for use; it is safe for concurrent use.
type buffers struct{ pool sync.Pool }

func (p *buffers) get() []byte {
	if b, ok := p.pool.Get().(*[bufferSize]byte); ok {
		return b[:]
	}
	return make([]byte, bufferSize)
}

// put returns a whole buffer that get has given. The pool holds pointers to arrays, so that no slice header is allocated.
func (p *buffers) put(b []byte) { p.pool.Put((*[bufferSize]byte)(b)) }
