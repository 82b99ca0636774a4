package harness

import (
	"io"
	"sync"
)

// Memory is a writer that notes what is written where, and how many do so at once.
type Memory struct {
	mu       sync.Mutex
	Content  []byte
	now, max int
	Largest  int
	Written  int64
	OnWrite  func(off int64) error
}

// WriteAt implements io.WriterAt.
func (m *Memory) WriteAt(b []byte, off int64) (int, error) {
	m.mu.Lock()
	m.now++
	m.max = max(m.max, m.now)
	m.Largest = max(m.Largest, len(b))
	m.Written += int64(len(b))
	fn := m.OnWrite
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.now--
		m.mu.Unlock()
	}()
	if fn != nil {
		if err := fn(off); err != nil {
			return 0, err
		}
	}
	return copy(m.Content[off:], b), nil
}

// ReadableMemory is a memory that can be read back.
type ReadableMemory struct{ Memory }

// ReadAt implements io.ReaderAt.
func (m *ReadableMemory) ReadAt(b []byte, off int64) (int, error) {
	if n := copy(b, m.Content[off:]); n < len(b) {
		return n, io.EOF
	}
	return len(b), nil
}
