package slots

import (
	"testing"
	"time"
)

// line is a network for the governor: each request gets perConn bytes per second, all together at most total.
type line struct{ perConn, total float64 }

// drive lets a gate's governor work on a line for some time, and returns the limit after each tick. waiting says that a worker
// always waits for a slot.
func (l line) drive(g *Gate, length time.Duration, waiting bool) (limits []int) {
	now := time.Unix(0, 0)
	const tick = 100 * time.Millisecond
	for t := time.Duration(0); t < length; t += tick {
		now = now.Add(tick)
		rate := min(float64(g.limit)*l.perConn, l.total)
		g.Received(int(rate * tick.Seconds()))
		g.limit = g.adapt.observe(now, g.limit, waiting)
		limits = append(limits, g.limit)
	}
	return limits
}

func most(limits []int) (n int) {
	for _, l := range limits {
		n = max(n, l)
	}
	return n
}

// TestGovernorFindsTheLine checks which limit a governor settles at, and how soon.
func TestGovernorFindsTheLine(t *testing.T) {
	const mb = 1e6
	for _, c := range []struct {
		name        string
		line        line
		waiting     bool
		least, most int // of the limit in the end
		within      int // ticks after which the line is full
	}{
		{"20 connections fill it", line{10 * mb, 200 * mb}, true, 20, 40, 15},
		{"64 are not enough", line{1 * mb, 1000 * mb}, true, adaptive, adaptive, 30},
		{"one connection fills it", line{100 * mb, 100 * mb}, true, 8, 10, 0},
		{"no worker waits for a slot", line{10 * mb, 200 * mb}, false, startConcurrency, startConcurrency, 0},
		{"nothing comes", line{0, 0}, true, startConcurrency, startConcurrency, 0},
	} {
		g := NewGate(0, adaptive)
		limits := c.line.drive(g, 30*time.Second, c.waiting)
		if last := limits[len(limits)-1]; last < c.least || last > c.most {
			t.Errorf("%s: the limit settled at %d, want %d to %d (%v)", c.name, last, c.least, c.most, limits)
		}
		if m := most(limits); m > adaptive {
			t.Errorf("%s: %d requests in flight, over the ceiling", c.name, m)
		}
		if c.within > 0 && limits[c.within] < c.least {
			t.Errorf("%s: %d after %d ticks, want %d", c.name, limits[c.within], c.within, c.least)
		}
	}
}

// TestGovernorSlowsDownWhenAsked checks that the limit is halved once for each burst of refusals, and recovers.
func TestGovernorSlowsDownWhenAsked(t *testing.T) {
	g := NewGate(16, adaptive)
	now := time.Unix(0, 0)
	for range 16 { // all that were in flight are refused together
		g.throttled(now)
	}
	if g.limit != 8 {
		t.Errorf("limit %d after one burst of refusals, want 8", g.limit)
	}
	for range 10 {
		now = now.Add(2 * time.Second)
		g.throttled(now)
	}
	if g.limit != 1 {
		t.Errorf("limit %d, want 1: never none at all", g.limit)
	}
	if limits := (line{1e6, 1e9}).drive(g, 5*time.Minute, true); limits[len(limits)-1] != 16 {
		t.Errorf("limit %d long after, want the 16 that were given", limits[len(limits)-1])
	}
}

// TestGovernorRests checks that after a refusal the limit does not grow for throttleRest, and then by a quarter at a time.
func TestGovernorRests(t *testing.T) {
	g := NewGate(0, adaptive)
	fast := line{1e6, 1e9} // no limit up to the ceiling fills it
	fast.drive(g, 30*time.Second, true)
	g.throttled(time.Unix(0, 0))
	limits := fast.drive(g, 11*time.Second, true)
	const rest = int(throttleRest / (100 * time.Millisecond)) // in ticks of drive
	if got := most(limits[:rest-1]); got != adaptive/2 {
		t.Errorf("limit %d during the rest, want %d", got, adaptive/2)
	}
	if got := limits[len(limits)-1]; got != adaptive/2+adaptive/8 {
		t.Errorf("limit %d after the rest, want %d", got, adaptive/2+adaptive/8)
	}
}
