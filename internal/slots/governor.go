package slots

import (
	"sync/atomic"
	"time"
)

// governor chooses the limit of a gate by what the last change of the limit did to the throughput. All fields but bytes
// belong to the gate's mutex.
//
// The life of a limit, by phase:
//
//  1. settling: for settleTime after a change nothing is measured, since connections are still being made.
//  2. measuring: for at least measureTime, bytes are counted, and the ticks at which a worker waited for a slot.
//  3. At the end of the interval, decide judges the limit. If it changes, it settles again; otherwise the next interval
//     begins. An interval says nothing if a worker waited at few of its ticks, since the limit did not bind.
//
// The life of a governor, by mode:
//
//  1. growing: the limit doubles with each interval for as long as the throughput follows.
//  2. steady: growth no longer paid off. From then on the limit grows by a quarter, once every retryGrowth.
//  3. resting: the server asked for fewer requests, in any mode, or a request was one too many. The limit is halved, or
//     lowered by that request, and for throttleRest it does not grow. Then the governor is steady.
type governor struct {
	ceiling int
	bytes   atomic.Int64 // of bodies, received by all calls

	mode     mode
	nextTry  time.Time // if steady: no growth before; if resting: the end of the rest
	last     sample    // before the last change of the limit; zero: nothing to compare with
	calmedAt time.Time // when the limit was last halved

	phase   phase
	settled time.Time // if settling: when measuring may begin
	started time.Time // if measuring: the start of the interval
	counted int64     // bytes at the start of the interval
	wanting int       // ticks of the interval at which a worker waited for a slot
	ticks   int       // of the interval
}

// phase is the stage of a limit's life.
type phase uint8

const (
	settling phase = iota
	measuring
)

// mode is how a governor looks for a better limit.
type mode uint8

const (
	growing mode = iota
	steady
	resting
)

// sample is the throughput that was measured with a limit.
type sample struct {
	limit int
	rate  float64 // bytes per second
}

const (
	settleTime   = 200 * time.Millisecond // after a change: connections are made, windows open
	measureTime  = 300 * time.Millisecond
	staleTime    = 10 * measureTime // an interval this long includes times without any call
	retryGrowth  = 5 * time.Second  // between tries of a larger limit
	throttleRest = 10 * time.Second // no growth after the limit was lowered for a refusal
	calmTime     = time.Second      // refusals this close together count as one
)

// observe returns the new limit. It judges the limit once the interval is long enough. wanting says that a worker is waiting
// for a slot.
func (g *governor) observe(now time.Time, limit int, wanting bool) int {
	switch {
	case g.phase == settling && now.Before(g.settled):
		return limit
	case g.phase == settling, now.Sub(g.started) > staleTime:
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
	if !binding || rate == 0 || g.isResting(now) {
		return limit
	}
	if g.mode == resting {
		g.mode = steady
	}
	next := g.decide(now, sample{limit, rate})
	if next != limit {
		g.settle(now)
	}
	return next
}

// decide returns the limit that follows the one just measured.
func (g *governor) decide(now time.Time, got sample) int {
	if g.last.limit != 0 && got.limit > g.last.limit {
		// A share of the growth must show in the throughput, or the additional requests are useless.
		asked := float64(got.limit)/float64(g.last.limit) - 1
		gain := got.rate/g.last.rate - 1
		if gain < asked/8 {
			return g.stay(now, g.last)
		}
		if gain < asked/3 {
			return g.stay(now, got)
		}
	}
	g.last = got
	step := got.limit
	if g.mode == steady {
		if now.Before(g.nextTry) {
			return got.limit
		}
		step = max(2, got.limit/4)
	}
	g.nextTry = now.Add(retryGrowth)
	return min(got.limit+step, g.ceiling)
}

// stay ends growth at the limit of a sample, which it returns.
func (g *governor) stay(now time.Time, at sample) int {
	g.mode, g.last = steady, at
	g.nextTry = now.Add(retryGrowth)
	return at.limit
}

// throttled returns half of the limit, once for all requests that were in flight together. If a call has a lower bound of its
// own, fewer requests may be in flight than the limit allows. Then it returns half of their number, which has an effect.
func (g *governor) throttled(now time.Time, limit, inFlight int) int {
	if now.Sub(g.calmedAt) < calmTime {
		return limit
	}
	if inFlight > 1 {
		limit = min(limit, inFlight)
	}
	g.calmedAt = now
	g.rest(now)
	return max(1, limit/2)
}

// crowded returns the limit without one of the requests in flight, which was one too many.
func (g *governor) crowded(now time.Time, limit, inFlight int) int {
	g.rest(now)
	return max(1, min(limit, inFlight-1))
}

// rest keeps the limit from growing for throttleRest.
func (g *governor) rest(now time.Time) {
	g.mode, g.last = resting, sample{}
	g.nextTry = now.Add(throttleRest)
	g.settle(now)
}

// isResting reports whether the limit was lowered, for other reasons than its throughput, within the last throttleRest.
func (g *governor) isResting(now time.Time) bool { return g.mode == resting && now.Before(g.nextTry) }

// settle lets a change take effect before anything is measured.
func (g *governor) settle(now time.Time) {
	g.phase, g.settled = settling, now.Add(settleTime)
}

// measure begins an interval.
func (g *governor) measure(now time.Time) {
	g.phase, g.started, g.counted, g.wanting, g.ticks = measuring, now, g.bytes.Load(), 0, 0
}
