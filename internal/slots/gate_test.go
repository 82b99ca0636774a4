package slots

import (
	"context"
	"errors"
	"sync"
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

// TestCrowdedOut checks that a request that was one too many lowers the limit by itself, that this needs others that receive
// bytes, and that a gate that lost all but one slot counts failures again.
func TestCrowdedOut(t *testing.T) {
	now := time.Unix(0, 0)
	for _, c := range []struct {
		name     string
		began    int // in flight when the request began
		inFlight int
		received int
		want     Crowd
		limit    int
	}{
		{"alone", 1, 1, 100, Alone, 8},
		{"nobody received anything", 8, 8, 0, InCompany, 8},
		{"others did", 8, 8, 100, CrowdedOut, 7},
		{"others began later", 1, 8, 100, CrowdedOut, 7},
		{"others have ended", 6, 1, 100, CrowdedOut, 8},
		{"others have ended without a byte", 6, 1, 0, InCompany, 8},
		{"fewer in flight than allowed", 3, 3, 100, CrowdedOut, 2},
		{"two", 2, 2, 100, CrowdedOut, 1},
		{"the limit is lower already", 12, 12, 100, CrowdedOut, 8},
	} {
		g := NewGate(8, 8)
		for range c.inFlight {
			g.overdraw()
		}
		mark := g.Mark()
		g.Received(c.received)
		got, n := g.Crowded(now, mark, c.began)
		if got != c.want || n != max(c.began, c.inFlight) || g.Limit() != c.limit {
			t.Errorf("%s: %v with %d in flight and a limit of %d, want %v and %d", c.name, got, n, g.Limit(), c.want, c.limit)
		}
	}
	g := NewGate(1, 8)
	g.overdraw()
	g.overdraw()
	mark := g.Mark()
	g.Received(100)
	if got, _ := g.Crowded(now, mark, 1); got != InCompany || g.Limit() != 1 {
		t.Errorf("a limit of one: %v and a limit of %d, want %v and 1", got, g.Limit(), InCompany)
	}
	g = NewGate(64, 64)
	for range 64 {
		g.overdraw()
	}
	mark = g.Mark()
	g.Received(1)
	for range 60 { // refused at the same moment, and none has released its slot yet
		if got, _ := g.Crowded(now, mark, 1); got != CrowdedOut {
			t.Fatalf("one of several: %v, want %v", got, CrowdedOut)
		}
	}
	g = NewGate(64, 64)
	for range 64 {
		g.overdraw()
	}
	for range 60 { // refused together
		mark := g.Mark()
		g.Received(1)
		g.Crowded(now, mark, 1)
		g.release()
	}
	if g.Limit() != 4 {
		t.Errorf("limit %d after 60 of 64 were refused, want 4", g.Limit())
	}
	limits := line{1e6, 1e9}.drive(g, 9*time.Second, true)
	if got := most(limits); got != 4 {
		t.Errorf("limit %d within the rest, want 4", got)
	}
}

// TestVerdict checks what becomes of requests of which it was not known at first whether others fare better.
func TestVerdict(t *testing.T) {
	background := context.Background()
	for _, c := range []struct {
		name    string
		refused int // requests of four in flight, one after the other
		queue   int // requests that wait for a slot meanwhile, and get those of the refused
		then    func(*Gate)
		want    Crowd
		limit   int
	}{
		{"the others receive bytes", 1, 0, func(g *Gate) { g.Received(100) }, CrowdedOut, 3},
		{"two, and the others receive bytes", 2, 0, func(g *Gate) { g.Received(100) }, CrowdedOut, 2},
		{"others waited for the slot", 1, 3, func(g *Gate) { g.Received(100) }, CrowdedOut, 3},
		{"others waited for the slots of two", 2, 3, func(g *Gate) { g.Received(100) }, CrowdedOut, 3},
		{"fewer waited than were refused", 3, 1, func(g *Gate) { g.Received(100) }, CrowdedOut, 2},
		{"the others have ended", 1, 0, func(g *Gate) {
			g.Received(100)
			for range 3 {
				g.release()
			}
		}, CrowdedOut, 3},
		{"the others end without a byte", 1, 0, func(g *Gate) {
			for range 3 {
				g.release()
			}
		}, Alone, 4},
		{"nothing happens", 1, 0, func(*Gate) {}, InCompany, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(background)
				g := NewGate(4, 4)
				for range 4 {
					g.overdraw()
				}
				var waiting sync.WaitGroup
				for range c.queue {
					waiting.Go(func() { _ = g.acquire(ctx) })
				}
				synctest.Wait()
				mark := g.Mark()
				var among []int
				for range c.refused {
					crowd, n := g.Crowded(time.Now(), mark, 1)
					if crowd != InCompany {
						t.Errorf("at first %v, want %v", crowd, InCompany)
					}
					among = append(among, n)
					g.release()
				}
				for _, n := range among {
					waiting.Go(func() {
						if got, err := g.Verdict(ctx, mark, n); err != nil || got != c.want {
							t.Errorf("%v, %v, want %v", got, err, c.want)
						}
					})
				}
				synctest.Wait()
				c.then(g)
				g.Tick(time.Now())
				time.Sleep(2 * verdictTime) // of the bubble
				if g.Limit() != c.limit {
					t.Errorf("limit %d, want %d", g.Limit(), c.limit)
				}
				cancel()
				waiting.Wait()
			})
		})
	}
	t.Run("a limit of one", func(t *testing.T) {
		g := NewGate(1, 1)
		g.overdraw()
		g.Received(100)
		if got, err := g.Verdict(background, 0, 2); err != nil || got != InCompany || g.Limit() != 1 {
			t.Errorf("%v, %v and a limit of %d, want %v and 1", got, err, g.Limit(), InCompany)
		}
	})
	t.Run("ctx ends", func(t *testing.T) {
		g := NewGate(4, 4)
		g.overdraw()
		over := errors.New("over")
		ctx, cancel := context.WithCancelCause(background)
		cancel(over)
		if got, err := g.Verdict(ctx, g.Mark(), 2); !errors.Is(err, over) || got != InCompany {
			t.Errorf("%v, %v, want %v", got, err, over)
		}
	})
}
