package slots

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestBackOffIsFullJitter checks that the waits lie between zero and a bound that is MinDelay at first, doubles, and stays at
// MaxDelay, and that they fill that range. The first attempt after progress is made immediately.
func TestBackOffIsFullJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := Retry{Attempts: 100, MinDelay: 100 * time.Millisecond, MaxDelay: 700 * time.Millisecond}
		for fails, bound := range []time.Duration{1: 0, 2: r.MinDelay, 3: 2 * r.MinDelay, 4: 4 * r.MinDelay, 5: r.MaxDelay, 6: r.MaxDelay, 80: r.MaxDelay} {
			if bound == 0 && fails != 1 {
				continue
			}
			g := NewGate(1, 1)
			var waits []time.Duration
			for range 300 {
				begun := time.Now()
				if err := g.BackOff(t.Context(), r, fails, Hint{}); err != nil {
					t.Fatal(err)
				}
				waits = append(waits, time.Since(begun))
			}
			least, most := slices.Min(waits), slices.Max(waits)
			if most > bound || most < bound*9/10 || least > bound/10 {
				t.Errorf("attempt %d without progress: waits of %v to %v, want all of 0 to %v", fails, least, most, bound)
			}
		}
	})
}

// TestBackOffDoesNotOverflow checks that the bound of the waits never falls, however long the delays of a policy are.
func TestBackOffDoesNotOverflow(t *testing.T) {
	for _, r := range []Retry{
		{MinDelay: 3 * time.Hour, MaxDelay: math.MaxInt64},
		{MinDelay: math.MaxInt64 - 1, MaxDelay: math.MaxInt64},
		{MinDelay: 1, MaxDelay: math.MaxInt64},
		{MinDelay: time.Second, MaxDelay: time.Second},
		{},
	} {
		last := r.bound(2)
		if last != r.MinDelay {
			t.Errorf("%+v: the first bound is %v", r, last)
		}
		for fails := 3; fails < 1000; fails++ {
			bound := r.bound(fails)
			if bound < last || bound > r.MaxDelay {
				t.Fatalf("%+v: the bound is %v after %d attempts, %v before", r, bound, fails, last)
			}
			last = bound
		}
		if last != r.MaxDelay {
			t.Errorf("%+v: the last bound is %v", r, last)
		}
	}
}

// TestBackOffFollowsTheHint checks that the wait that a server asks for is kept, up to a bound, and that a server that asks
// for fewer requests gets fewer, after a wait.
func TestBackOffFollowsTheHint(t *testing.T) {
	policy := Retry{Attempts: 12, MinDelay: time.Millisecond, MaxDelay: time.Second}
	long := Retry{Attempts: 12, MinDelay: time.Millisecond, MaxDelay: 2 * time.Minute}
	for _, c := range []struct {
		name        string
		policy      Retry
		fails       int
		hint        Hint
		least, most time.Duration
		limit       int // of the gate afterwards
	}{
		{"no hint", policy, 1, Hint{}, 0, 0, 4},
		{"later", policy, 1, Hint{After: 7 * time.Second}, 7 * time.Second, 7 * time.Second, 4},
		{"an hour later", policy, 1, Hint{After: time.Hour}, time.Minute, time.Minute, 4},
		{"an hour later, with a policy that allows more", long, 1, Hint{After: time.Hour}, 2 * time.Minute, 2 * time.Minute, 4},
		{"an hour later, with a second left", policy, 1, Hint{After: time.Hour, Most: time.Second}, time.Second, time.Second, 4},
		{"fewer requests", policy, 1, Hint{Slow: true}, 0, time.Millisecond, 2},
		{"fewer requests, later", policy, 1, Hint{After: 7 * time.Second, Slow: true}, 7 * time.Second, 7 * time.Second, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			g := NewGate(4, 4)
			begun := time.Now()
			if err := g.BackOff(t.Context(), c.policy, c.fails, c.hint); err != nil {
				t.Fatal(err)
			}
			if waited := time.Since(begun); waited < c.least || waited > c.most {
				t.Errorf("%s: waited %v, want %v to %v", c.name, waited, c.least, c.most)
			}
			if got := g.Limit(); got != c.limit {
				t.Errorf("%s: limit %d, want %d", c.name, got, c.limit)
			}
		})
	}
}

// TestBackOffEndsWithItsContext checks that a wait ends immediately, with the cause of the context.
func TestBackOffEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mine := errors.New("mine")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, mine)
		defer cancel()
		begun := time.Now()
		err := NewGate(1, 1).BackOff(ctx, Retry{}, 1, Hint{After: time.Minute})
		if took := time.Since(begun); !errors.Is(err, mine) || took != time.Second {
			t.Errorf("%v after %v, want %v after a second", err, took, mine)
		}
	})
}

// TestDefaultPatience checks that with the library's default policy no worker gives up while a listener is gone for seconds,
// even if the most requests there can be are in flight.
func TestDefaultPatience(t *testing.T) {
	const adaptive = 64
	policy := Retry{Attempts: 12, MinDelay: 200 * time.Millisecond, MaxDelay: 10 * time.Second}
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		var workers sync.WaitGroup
		for range adaptive {
			workers.Go(func() {
				g := NewGate(0, adaptive)
				for fails := 1; fails < policy.Attempts; fails++ {
					if err := g.BackOff(t.Context(), policy, fails, Hint{}); err != nil {
						t.Error(err)
					}
				}
				if waited := time.Since(begun); waited < 4*time.Second {
					t.Errorf("gives up after %v", waited)
				}
			})
		}
		workers.Wait()
	})
}
