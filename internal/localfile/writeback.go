package localfile

import (
	"context"
	"sync"

	"github.com/ossdl/ossdl/internal/fsys"
)

const (
	// batchSize is how many bytes are handed to the disk at once. Up to three batches are on their way: one that comes, one
	// whose writing has begun, and one that is waited for.
	batchSize = 64 << 20
	// batchStep is how much of a batch is handed over between two looks at the context.
	batchStep = 4 << 20
)

// writeBack knows which bytes of a file were written and not yet handed to the disk.
type writeBack struct {
	batch   int64 // bytes; 0: nothing is handed over
	missing int64 // bytes that are still to be written
	drops   bool  // the file is too large for the cache, so its pages may as well go now

	mu      sync.Mutex
	spans   []extent      // written since the last batch
	size    int64         // of them, in bytes
	due     chan struct{} // has an element if there is a batch to be handed over
	taken   chan struct{} // closed once it is; nil: nobody hands over, so nobody waits
	earlier []extent      // the last batch, whose writing has begun; only for whoever hands over
}

// extent is a range of a file in bytes.
type extent struct{ off, end int64 }

// begin prepares for a file of size bytes, of which missing are still to be written.
func (w *writeBack) begin(size, missing int64) {
	w.batch, w.missing = batchSize, missing
	w.due = make(chan struct{}, 1)
	if missing > w.batch {
		w.drops = size > fsys.Memory()/2
	}
}

// wrote notes that n bytes at off were written. It waits while a whole batch has come that was not handed over.
func (w *writeBack) wrote(off, n int64) {
	if w.missing <= w.batch {
		return
	}
	w.mu.Lock()
	w.add(extent{off, off + n})
	taken := w.taken
	full := w.size >= w.batch
	w.mu.Unlock()
	if !full || taken == nil {
		return
	}
	select {
	case w.due <- struct{}{}:
	default:
	}
	<-taken
}

// add appends an extent, or makes one longer that ends where it begins.
func (w *writeBack) add(e extent) {
	w.size += e.end - e.off
	for i := range w.spans {
		if w.spans[i].end == e.off {
			w.spans[i].end = e.end
			return
		}
	}
	w.spans = append(w.spans, e)
}

// start has writes wait for whoever hands over, from now on.
func (w *writeBack) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.taken = make(chan struct{})
}

// take returns what was written since it was called last, and lets those go on that wait; nil: it is less than a batch.
func (w *writeBack) take() []extent {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.size < w.batch {
		return nil
	}
	spans := w.spans
	w.spans, w.size = nil, 0
	close(w.taken)
	w.taken = make(chan struct{})
	return spans
}

// stop lets those go on that wait, and nobody wait any more.
func (w *writeBack) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.taken)
	w.taken = nil
}

// writeBack hands over batch after batch, until ctx is done. First it has the writing of a batch begin, and then it waits for
// the batch before, whose writing has had its time.
func (p *partial) writeBack(ctx context.Context) error {
	w := &p.back
	if w.missing <= w.batch {
		return nil
	}
	w.start()
	defer w.stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.due:
		}
		spans := w.take()
		if spans == nil {
			continue
		}
		// A hint; if it fails, the next sync says why.
		_ = inSteps(ctx, spans, p.file.WriteBack)
		if w.drops {
			if err := inSteps(ctx, w.earlier, p.file.DropCache); err != nil {
				p.failedSync.Store(true)
				return err
			}
		}
		w.earlier = spans
	}
}

// inSteps calls fn for all of the extents, a step at a time, until ctx is done.
func inSteps(ctx context.Context, extents []extent, fn func(off, size int64) error) error {
	for _, e := range extents {
		for off := e.off; off < e.end && ctx.Err() == nil; off += batchStep {
			if err := fn(off, min(batchStep, e.end-off)); err != nil {
				return err
			}
		}
	}
	return nil
}
