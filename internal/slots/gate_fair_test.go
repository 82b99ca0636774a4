package slots

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// turns watches the queue of a gate, to find a worker that was passed by others. Fairness is not a matter of time: a slot goes
// to the worker that waits longest, and at most one worker of each call waits. So no call is passed more than once by each of
// the others.
//
// observe is called for each request, which is once for each slot that was given out. A worker that is first seen at place n
// of the queue has its turn within n requests, and those of the workers that already had slots by then.
type turns struct {
	gate  *Gate
	slack int // requests by workers that had slots already

	mu      sync.Mutex
	made    int         // requests
	since   map[any]int // by waiter: requests made when it was first seen, and its place then
	longest int         // queue
	late    int         // requests by which the worst waiter exceeded its bound
}

func (w *turns) observe() {
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

// TestGateIsFairUnderLoad checks that no worker is passed by more requests than there were workers before it, with many calls
// of many workers that hold their slots for any time. It also checks that at most one worker of each call waits.
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
						w.observe()
						time.Sleep(time.Duration(own.IntN(5000)) * time.Microsecond)
						l.Release()
					}
				})
			}
		}
		group.Wait()
		if w.late > 0 || w.longest > calls || w.longest < bound {
			t.Errorf("a worker was passed by %d more requests than waited before it; at most %d waited", w.late, w.longest)
		}
	})
}

// TestGateIsFair checks that slots go to those that wait longest, and that a call with many workers waits for its turn like
// one with few.
func TestGateIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(4, 4)
		const calls, rounds = 50, 20
		var mu sync.Mutex
		var order []int // which call got a slot
		var group sync.WaitGroup
		for call := range calls {
			l := g.Lane(0)
			workers := 1
			if call == 0 {
				workers = 64
			}
			var left int
			for range workers {
				group.Go(func() {
					for {
						if err := l.Acquire(context.Background()); err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						order = append(order, call)
						left++
						enough := left >= rounds
						mu.Unlock()
						time.Sleep(time.Millisecond) // of the bubble: a request
						l.Release()
						if enough {
							return
						}
					}
				})
			}
			synctest.Wait() // the calls come one after the other
		}
		group.Wait()
		last := map[int]int{}
		for i, call := range order {
			if at, ok := last[call]; ok && i-at > calls+8 {
				t.Errorf("call %d waited while %d others had their turn", call, i-at)
			}
			last[call] = i
		}
		if len(last) != calls {
			t.Errorf("%d of %d calls had a turn", len(last), calls)
		}
	})
}
