package slots

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// line is a network for the governor: each request gets perConn bytes per second, all together at most total.
type line struct{ perConn, total float64 }

// drive lets a gate's governor work on a line for some time, and returns the limit after each tick. waiting says that a worker
// always waits for a slot.
func (l line) drive(g *Gate, length time.Duration, waiting bool) (limits []int) {
	now := time.Unix(0, 0)
	g.adapt.wants(now, waiting)
	const tick = 100 * time.Millisecond
	for t := time.Duration(0); t < length; t += tick {
		now = now.Add(tick)
		rate := min(float64(g.limit)*l.perConn, l.total)
		g.Received(int(rate * tick.Seconds()))
		g.limit = g.adapt.observe(now, g.limit)
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

// smallRequests lets 82 workers make n requests of 16 KiB through a gate, as those of a prefix. takes says how long one takes, by
// the number in flight. It returns the largest limit, and how long all of it took.
func smallRequests(t *testing.T, g *Gate, n int64, takes func(inFlight int64) time.Duration) (largest int, length time.Duration) {
	start, lane := time.Now(), g.Lane(0)
	var made, inFlight, running atomic.Int64
	for range 82 {
		running.Add(1)
		go func() {
			defer running.Add(-1)
			for made.Add(1) <= n {
				if err := lane.Acquire(t.Context()); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(takes(inFlight.Add(1)))
				inFlight.Add(-1)
				g.Received(16 << 10)
				lane.Release()
			}
		}()
	}
	for running.Load() > 0 {
		time.Sleep(10 * time.Millisecond)
		if now := time.Now(); now.Sub(start)%(100*time.Millisecond) == 0 {
			g.Tick(now)
		}
		largest = max(largest, g.Limit())
	}
	return largest, time.Since(start)
}

// TestGovernorClimbsInRoundTrips checks that small requests get as many slots as help them within some round trips, and that those
// that do not help are not kept.
func TestGovernorClimbsInRoundTrips(t *testing.T) {
	const trip = 30 * time.Millisecond
	for name, c := range map[string]struct {
		takes       func(inFlight int64) time.Duration
		ideal       time.Duration // of 5,000 requests
		least, most int           // the limit in the end
		largest     int           // at any time
	}{
		"a line without an end": {
			func(int64) time.Duration { return trip },
			5000 / 64 * trip, 64, 64, 64,
		},
		"the same, and no request as long as another": {
			func(int64) time.Duration { return trip/2 + rand.N(trip) },
			5000 / 64 * trip, 64, 64, 64,
		},
		"a line that 16 fill": {
			func(n int64) time.Duration { return max(trip, trip*time.Duration(n)/16) },
			5000 / 16 * trip, 16, 32, 32,
		},
		"processors that 8 keep busy": {
			func(n int64) time.Duration { return trip * time.Duration(n) / 8 },
			5000 / 8 * trip, 8, 10, 16,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewGate(0, adaptive)
				largest, length := smallRequests(t, g, 5000, c.takes)
				if l := g.Limit(); l < c.least || l > c.most || largest > c.largest {
					t.Errorf("limit %d in the end and %d at most; want %d to %d, and %d", l, largest, c.least, c.most, c.largest)
				}
				if length > c.ideal*115/100 {
					t.Errorf("5,000 requests took %v, which could be done in %v", length, c.ideal)
				}
			})
		})
	}
}

// TestGovernorSmallRequestsRest checks that small requests do not make a limit grow again that was lowered for a refusal.
func TestGovernorSmallRequestsRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(0, adaptive)
		smallRequests(t, g, 2000, func(int64) time.Duration { return 30 * time.Millisecond })
		g.throttled(time.Now())
		most, _ := smallRequests(t, g, 5000, func(int64) time.Duration { return 30 * time.Millisecond })
		if most != adaptive/2 {
			t.Errorf("limit %d within some seconds after a refusal, want %d", most, adaptive/2)
		}
	})
}
