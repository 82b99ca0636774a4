package localfile

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	"github.com/ossdl/ossdl/internal/fsys"
)

const (
	// batchSize is how many bytes are handed to the disk at once. Up to three batches are on their way: one that comes, one
	// whose writing has begun, and one that is waited for.
	batchSize = 64 << 20
	// leastBatch is the size of the smallest batch: that of the largest write. A file with no more is left to its sync at the end.
	leastBatch = 256 << 10
	// batchStep is how much of a batch is handed over between two looks at the context.
	batchStep = 4 << 20
)

// Backlog knows how much is being written to all files of a Downloader at once. If that is too much for the memory, they share
// one batch, and writes wait for the disk. The zero value is ready for use.
type Backlog struct {
	bytes  atomic.Int64 // that the open files had still to get; of one of unknown size, those that it has got
	files  atomic.Int64 // that are open
	once   sync.Once
	memory int64 // of the process and its page cache, once it is known
}

// tight reports whether the bytes may be too many for the page cache, so that the pages may as well go once they are written.
func (b *Backlog) tight() bool { return b.bytes.Load() > b.total()/4 }

// batch returns how many bytes of one file make a batch.
func (b *Backlog) batch() int64 {
	if !b.tight() {
		return batchSize
	}
	return max(leastBatch, min(batchSize, b.total()/16)/max(1, b.files.Load()))
}

// total is how much memory there is.
func (b *Backlog) total() int64 {
	b.once.Do(func() {
		if b.memory == 0 {
			b.memory = fsys.Memory()
		}
	})
	return b.memory
}

// writeBack knows which bytes of a file were written and not yet handed to the disk.
type writeBack struct {
	backlog *Backlog // nil: nothing is handed over
	missing int64    // bytes that are still to be written
	counted int64    // in the backlog; only under mu

	mu      sync.Mutex
	spans   []extent      // written since the last batch
	size    int64         // of them, in bytes
	full    bool          // they are a batch, for which someone may wait
	due     chan struct{} // has an element if there is a batch to be handed over
	taken   chan struct{} // closed once it is; nil: nobody hands over, so nobody waits
	earlier []extent      // the last batch, whose writing has begun; only for whoever hands over
}

// extent is a range of a file in bytes.
type extent struct{ off, end int64 }

// begin prepares for a file of which so many bytes are still to be written; math.MaxInt64 if that is not known.
func (w *writeBack) begin(b *Backlog, missing int64) {
	w.backlog, w.missing = b, missing
	w.due = make(chan struct{}, 1)
	b.files.Add(1)
	if missing < math.MaxInt64 {
		w.counted = missing
		b.bytes.Add(missing)
	}
}

// end takes the file out of the backlog: it is synced, or given up.
func (w *writeBack) end() {
	if w.backlog == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.backlog.files.Add(-1)
	w.backlog.bytes.Add(-w.counted)
	w.backlog, w.counted = nil, 0
}

// little reports whether all that comes is left to the sync at the end.
func (w *writeBack) little() bool { return w.backlog == nil || w.missing <= leastBatch }

// wrote notes that n bytes at off were written. It waits while a whole batch has come that was not handed over.
func (w *writeBack) wrote(off, n int64) {
	if w.little() {
		return
	}
	w.mu.Lock()
	w.add(extent{off, off + n})
	if w.missing == math.MaxInt64 {
		w.counted += n
		w.backlog.bytes.Add(n)
	}
	w.full = w.full || w.size >= w.backlog.batch()
	full, taken := w.full, w.taken
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
	if !w.full {
		return nil
	}
	spans := w.spans
	w.spans, w.size, w.full = nil, 0, false
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

// writeBack hands over batch after batch, until ctx is done. First it has the writing of a batch begin. If memory is tight, it then
// waits for the batch before, whose writing has had its time.
func (p *partial) writeBack(ctx context.Context) error {
	w, b := &p.back, p.d.backlog
	if w.little() {
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
		if b.tight() {
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
