package slots

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// adaptive is the ceiling of a gate that finds its own limit.
const adaptive = 64

// TestGateIsFirstComeFirstServed checks the order in which slots are given out, even if one of the waiting workers gives up.
func TestGateIsFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(1, adaptive)
		if err := g.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		var order []int
		ctx, cancel := context.WithCancelCause(t.Context())
		mine := errors.New("mine")
		for i := range 5 {
			go func() {
				c := t.Context()
				if i == 2 {
					c = ctx
				}
				if err := g.acquire(c); err != nil {
					if i != 2 || !errors.Is(err, mine) {
						t.Errorf("waiter %d: %v", i, err)
					}
					return
				}
				order = append(order, i)
				g.release()
			}()
			synctest.Wait()
		}
		cancel(mine)
		synctest.Wait()
		g.release()
		synctest.Wait()
		if len(order) != 4 || order[0] != 0 || order[1] != 1 || order[2] != 3 || order[3] != 4 {
			t.Errorf("served in the order %v", order)
		}
		if g.inUse != 0 || g.queue.Len() != 0 {
			t.Errorf("%d slots in use, %d waiters", g.inUse, g.queue.Len())
		}
	})
}

// TestGateGivesACanceledSlotBack checks that no slot is lost if it is given out at the moment at which the context ends.
func TestGateGivesACanceledSlotBack(t *testing.T) {
	for range 2000 {
		g := NewGate(1, adaptive)
		if err := g.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan error)
		go func() { got <- g.acquire(ctx) }()
		go cancel()
		g.release()
		if err := <-got; err == nil {
			g.release()
		}
		cancel()
		if g.inUse != 0 || g.queue.Len() != 0 {
			t.Fatalf("%d slots in use, %d waiters", g.inUse, g.queue.Len())
		}
	}
}

// TestGateAtLeast checks how calls that ask for a number of requests raise the limit of all, and for how long.
func TestGateAtLeast(t *testing.T) {
	now := time.Now()
	g := NewGate(0, adaptive)
	small, large := g.atLeast(now, 80), g.atLeast(now, 100)
	if g.limit != 100 || g.ceiling() != 100 {
		t.Errorf("limit %d, ceiling %d for a call that asked for 100", g.limit, g.ceiling())
	}
	large()
	if g.limit != 80 || g.ceiling() != 80 {
		t.Errorf("limit %d, ceiling %d, the call that goes on asked for 80", g.limit, g.ceiling())
	}
	small()
	if g.limit != adaptive || g.ceiling() != adaptive {
		t.Errorf("limit %d, ceiling %d, and no call asks for more than it may have by itself", g.limit, g.ceiling())
	}

	g.throttled(now)
	lowered := g.limit
	done := g.atLeast(now.Add(time.Second), 100)
	if g.limit != lowered {
		t.Errorf("limit %d a second after the server asked to slow down to %d", g.limit, lowered)
	}
	done()

	g = NewGate(4, adaptive)
	defer g.atLeast(now, 100)()
	if g.limit != 4 {
		t.Errorf("limit %d, the Downloader was given 4", g.limit)
	}
}
