package slots

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// turns watches who waits at a gate. That nobody starves is not a matter of time: a slot goes to whoever waits longest, and
// of each call at most one worker waits, so that a call is passed at most once by each of the others. It is looked at
// whenever a request is made, which is once for each slot that was given out. Whoever waits then was seen at some place of
// the queue, some requests ago, and that many at most may have been before him, and those that had their slots by then and
// had not made their requests yet.
type turns struct {
	gate  *Gate
	slack int // slots that may be out, and requests that are made with a slot that made one before

	mu      sync.Mutex
	made    int
	since   map[any]int // requests made when a waiter was first seen, and his place then
	longest int         // queue
	late    int         // by how much the worst was passed by more than that
}

func (w *turns) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.made++
	waiting := map[any]int{}
	w.gate.mu.Lock()
	for e := w.gate.queue.Front(); e != nil; e = e.Next() {
		waiting[e.Value] = w.made + len(waiting)
	}
	w.gate.mu.Unlock()
	w.longest = max(w.longest, len(waiting))
	for waiter := range waiting {
		if turn, ok := w.since[waiter]; ok {
			waiting[waiter] = turn
			w.late = max(w.late, w.made-turn-w.slack)
		}
	}
	w.since = waiting
}

// TestGateIsFairUnderLoad checks that nobody is passed by more than waited before him, with many calls of many workers that
// hold their slots for any time, and that of each call at most one worker waits.
func TestGateIsFairUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound, calls = 12, 200
		g := NewGate(bound, bound)
		w := &turns{gate: g, slack: 2 * bound}
		rng := rand.New(rand.NewPCG(1, 5))
		var group sync.WaitGroup
		for range calls {
			l := g.Lane(0)
			for range 1 + rng.IntN(8) {
				rounds, seed := 1+rng.IntN(8), rng.Uint64()
				group.Go(func() {
					own := rand.New(rand.NewPCG(seed, 1))
					for range rounds {
						if err := l.Acquire(context.Background()); err != nil {
							t.Error(err)
							return
						}
						w.look()
						time.Sleep(time.Duration(own.IntN(5000)) * time.Microsecond)
						l.Release()
					}
				})
			}
		}
		group.Wait()
		if w.late > 0 || w.longest > calls || w.longest < bound {
			t.Errorf("somebody was passed by %d more than waited before him; at most %d waited", w.late, w.longest)
		}
	})
}
