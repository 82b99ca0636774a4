package thaw

import (
	"context"
	"sync"
	"time"
)

// Outcome is what a look at an object of a queue has shown.
type Outcome uint8

// The outcomes.
const (
	StillThawing Outcome = iota
	Ready                // it can be read
	Settled              // there is nothing more to do for it
)

const (
	// maxIdle is how many looks in a row may find an object that still thaws before a round ends. The next round goes on behind
	// them. So a round of a million objects of which none is ready costs no million requests.
	maxIdle = 1000
	// atOnce is how many looks are made at the same time.
	atOnce = 16
)

// Queue holds the objects of one call that thaw, in the order in which they were added. A queue ends by itself: once it is closed
// and no object is held any more.
type Queue[T any] struct {
	policy Policy
	look   func(context.Context, T) Outcome
	ready  func(T)

	mu      sync.Mutex
	parked  []T
	looked  int           // of them are being looked at, and are no longer in parked
	held    int           // objects that may still be added
	closed  bool          // no further ones will be held
	changed chan struct{} // has a token after a change that Run waits for
}

// NewQueue makes a queue. look finds out how far an object is, and ready takes over those that can be read.
func NewQueue[T any](p Policy, look func(context.Context, T) Outcome, ready func(T)) *Queue[T] {
	return &Queue[T]{policy: p, look: look, ready: ready, changed: make(chan struct{}, 1)}
}

// Hold declares that an object may be added, now or later, until Release is called for it.
func (q *Queue[T]) Hold() { q.change(func() { q.held++ }) }

// Release declares that an object will not be added any more.
func (q *Queue[T]) Release() { q.change(func() { q.held-- }) }

// Close declares that no further objects will be held.
func (q *Queue[T]) Close() { q.change(func() { q.closed = true }) }

// Add adds an object that thaws.
func (q *Queue[T]) Add(o T) { q.change(func() { q.parked = append(q.parked, o) }) }

// Len returns how many objects thaw.
func (q *Queue[T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.parked) + q.looked
}

func (q *Queue[T]) change(fn func()) {
	q.mu.Lock()
	fn()
	q.mu.Unlock()
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// state returns how many objects there are to look at, and whether there will be no more.
func (q *Queue[T]) state() (parked int, ended bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.parked), q.closed && q.held == 0
}

// Run looks at the objects, with pauses that grow as long as none is ready and none is added. It returns once the queue has ended,
// or at the end of ctx, whose cause it returns.
func (q *Queue[T]) Run(ctx context.Context) error {
	var pauses Pauses
	var next time.Time // of the next round; zero: none is planned
	known := 0         // objects when it was planned
	for {
		parked, ended := q.state()
		switch {
		case ended:
			return nil
		case parked == 0:
			next = time.Time{}
		case next.IsZero() || parked > known && next.After(time.Now().Add(firstPause)): // the first look comes soon
			pauses = Pauses{}
			next = time.Now().Add(pauses.Next(q.policy))
		}
		known = parked
		due, err := q.until(ctx, next)
		if err != nil {
			return err
		}
		if !due {
			continue
		}
		if q.round(ctx) {
			pauses = Pauses{}
		}
		next = time.Now().Add(pauses.Next(q.policy))
		known, _ = q.state()
	}
}

// until waits for a time, which is due then, or for a change. A zero time does not come.
func (q *Queue[T]) until(ctx context.Context, at time.Time) (due bool, err error) {
	var timer <-chan time.Time
	if !at.IsZero() {
		t := time.NewTimer(time.Until(at))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
		return true, nil
	case <-q.changed:
		return false, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// round looks at each object once, in order, until too many in a row still thaw. It reports whether any did not.
func (q *Queue[T]) round(ctx context.Context) (moved bool) {
	left, _ := q.state()
	for idle := 0; left > 0 && idle < maxIdle && ctx.Err() == nil; {
		batch := q.take(min(left, atOnce))
		left -= len(batch)
		outcomes := make([]Outcome, len(batch))
		var looking sync.WaitGroup
		for i, o := range batch {
			looking.Go(func() { outcomes[i] = q.look(ctx, o) })
		}
		looking.Wait()
		for i, o := range batch {
			switch q.ended(o, outcomes[i]); outcomes[i] {
			case StillThawing:
				idle++
			case Ready:
				moved, idle = true, 0
				q.ready(o)
			case Settled:
				moved = true
				q.Release()
			}
		}
	}
	return moved
}

// take takes the first n objects out of the queue, to look at them.
func (q *Queue[T]) take(n int) []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch := append([]T(nil), q.parked[:n]...)
	clear(q.parked[:n])
	q.parked = q.parked[n:]
	q.looked += n
	return batch
}

// ended ends a look at an object, which goes to the end of the queue if it still thaws.
func (q *Queue[T]) ended(o T, is Outcome) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.looked--
	if is == StillThawing {
		q.parked = append(q.parked, o)
	}
}
