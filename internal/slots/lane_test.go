package slots

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestLaneCeiling checks the most requests that a call can have in flight: the call's own bound, and also the gate's, unless
// that is one that the call may raise.
func TestLaneCeiling(t *testing.T) {
	for _, c := range []struct{ given, own, want int }{
		{0, 0, 64}, {0, 3, 3}, {0, 100, 100}, {4, 0, 4}, {4, 3, 3}, {4, 100, 4},
	} {
		if got := NewGate(c.given, 64).Lane(c.own).Ceiling(); got != c.want {
			t.Errorf("gate of %d, lane of %d: ceiling %d, want %d", c.given, c.own, got, c.want)
		}
	}
}

// TestLaneBegin checks that a call raises an adaptive limit to its own bound, from begin to end.
func TestLaneBegin(t *testing.T) {
	g := NewGate(0, 64)
	end := g.Lane(100).Begin()
	if got := g.Limit(); got != 100 {
		t.Errorf("limit %d while a call is in progress that asked for 100", got)
	}
	end()
	if got := g.Limit(); got != 64 {
		t.Errorf("limit %d after that call, want 64", got)
	}
}

// TestLaneReenters checks that a request that continues has a slot again, even if its context has ended, and that all slots
// are returned.
func TestLaneReenters(t *testing.T) {
	g := NewGate(1, 1)
	lane, other := g.Lane(1), g.Lane(0)
	if err := lane.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	lane.Release()
	if err := other.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := lane.Reenter(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("err %v, want %v", err, context.Canceled)
	}
	if g.inUse != 2 {
		t.Errorf("%d slots in use, want one beyond the limit", g.inUse)
	}
	lane.Release()
	other.Release()
	if err := lane.Reenter(t.Context()); err != nil {
		t.Error(err)
	}
	lane.Release()
	if g.inUse != 0 || len(lane.own) != 0 {
		t.Errorf("%d slots in use, %d of them the lane's", g.inUse, len(lane.own))
	}
}

// TestLaneReadLimit checks that a read asks for no more than the smallest burst, or than it may.
func TestLaneReadLimit(t *testing.T) {
	const most = 256 << 10
	g := NewGate(1, 1)
	fast, slow := NewLimiter(1<<30, most), NewLimiter(1<<20, most)
	for _, c := range []struct {
		lane       *Lane
		most, want int
	}{
		{g.Lane(0), most, most},
		{g.Lane(0, fast), most, most},
		{g.Lane(0, slow), most, 128 << 10},
		{g.Lane(0, fast, slow), most, 128 << 10},
		{g.Lane(0, slow), 1000, 1000},
		{g.Lane(0, NewLimiter(1, most)), most, 1},
	} {
		if got := c.lane.ReadLimit(c.most); got != c.want {
			t.Errorf("%d limits, at most %d: read limit %d, want %d", len(c.lane.limits), c.most, got, c.want)
		}
	}
}

// TestLaneRateLimit checks that reads keep the limit, and that a wait ends with its context.
func TestLaneRateLimit(t *testing.T) {
	const most = 256 << 10 // bytes of a read
	synctest.Test(t, func(t *testing.T) {
		// The clock is the bubble's: bytes that pass in no time exceed the limit.
		l := NewLimiter(1<<20, most)
		lane := NewGate(1, 1).Lane(0, l)
		start := time.Now()
		for range 40 {
			if err := lane.Throttle(t.Context(), lane.ReadLimit(most)); err != nil {
				t.Fatal(err)
			}
		}
		sent := float64(40 * lane.ReadLimit(most))
		if got := sent / (time.Since(start).Seconds() + float64(l.Burst())/(1<<20)); got > 1.01*(1<<20) {
			t.Errorf("%.0f bytes a second at a limit of %d", got, 1<<20)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := lane.Throttle(ctx, lane.ReadLimit(most)); !errors.Is(err, context.Canceled) {
			t.Errorf("err %v after the context was canceled", err)
		}
	})
}
