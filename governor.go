package ossdl

import (
	"sync/atomic"
	"time"
)

// governor chooses how many requests are in flight, from what the last change of that number brought. It doubles the
// number while the throughput follows, then stays, and tries a quarter more now and then. What brought nothing is taken
// back. All fields but bytes belong to the gate's mutex.
type governor struct {
	ceiling int
	bytes   atomic.Int64 // body bytes received by all calls

	settled time.Time // when measuring may begin after a change
	started time.Time // of the interval being measured; zero: none
	counted int64     // bytes at its start
	wanting int       // ticks of the interval in which somebody waited for a slot
	ticks   int

	best     float64   // bytes per second at the limit before the last change
	before   int       // that limit; 0: nothing measured yet
	steady   bool      // growth has ended
	nextTry  time.Time // when steady: the next try of a larger number
	calmedAt time.Time // when the server last asked to slow down
}

const (
	settleTime   = 200 * time.Millisecond // after a change: connections are made, windows open
	measureTime  = 300 * time.Millisecond
	retryGrowth  = 5 * time.Second  // between tries of a larger number
	throttleRest = 10 * time.Second // no growth after the server asked to slow down
)

// observe judges the interval once it is long enough and returns the new limit. Wanting: somebody waits for a slot; an
// interval in which the limit did not bind says nothing about it.
func (g *governor) observe(now time.Time, limit int, wanting bool) int {
	if now.Before(g.settled) {
		return limit
	}
	if g.started.IsZero() || now.Sub(g.started) > 10*measureTime { // nothing was measured, or nobody was here for long
		g.measure(now)
		return limit
	}
	g.ticks++
	if wanting {
		g.wanting++
	}
	elapsed := now.Sub(g.started)
	if elapsed < measureTime {
		return limit
	}
	rate := float64(g.bytes.Load()-g.counted) / elapsed.Seconds()
	binding := 2*g.wanting > g.ticks
	g.measure(now)
	if !binding || rate == 0 || g.resting(now) {
		return limit
	}
	next := g.decide(now, limit, rate)
	if next != limit {
		g.settle(now)
	}
	return next
}

func (g *governor) decide(now time.Time, limit int, rate float64) int {
	grown := g.before != 0 && limit > g.before
	if grown {
		// A share of the growth must show in the throughput, or the additional requests are of no use.
		asked := float64(limit)/float64(g.before) - 1
		gain := rate/g.best - 1
		if gain < asked/8 {
			back := g.before
			g.stay(now, back, g.best)
			return back
		}
		if gain < asked/3 {
			g.stay(now, limit, rate)
			return limit
		}
	}
	if g.steady && now.Before(g.nextTry) {
		g.best, g.before = rate, limit
		return limit
	}
	step := limit
	if g.steady {
		step = max(2, limit/4)
	}
	g.best, g.before = rate, limit
	g.nextTry = now.Add(retryGrowth)
	return min(limit+step, g.ceiling)
}

// stay ends growth at a limit.
func (g *governor) stay(now time.Time, limit int, rate float64) {
	g.steady, g.before, g.best = true, limit, rate
	g.nextTry = now.Add(retryGrowth)
}

// throttled halves the limit, once for the requests that were in flight together. Where fewer were in flight than the
// limit allows, as a call's own concurrency may have it, half of those: only that lowers anything.
func (g *governor) throttled(now time.Time, limit, inFlight int) int {
	if now.Sub(g.calmedAt) < time.Second {
		return limit
	}
	if inFlight > 1 {
		limit = min(limit, inFlight)
	}
	g.calmedAt = now
	g.steady, g.before = true, 0
	g.nextTry = now.Add(throttleRest)
	g.settle(now)
	return max(1, limit/2)
}

// resting reports whether the server has just asked to slow down.
func (g *governor) resting(now time.Time) bool { return now.Sub(g.calmedAt) < throttleRest }

// settle lets a change take effect before anything is measured.
func (g *governor) settle(now time.Time) {
	g.settled, g.started = now.Add(settleTime), time.Time{}
}

// measure begins an interval.
func (g *governor) measure(now time.Time) {
	g.started, g.counted, g.wanting, g.ticks = now, g.bytes.Load(), 0, 0
}
