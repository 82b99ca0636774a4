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
//  2. measuring: for at least measureTime, bytes are counted, and the time for which a worker waited for a slot.
//  3. At the end of the interval, decide judges the limit. If it changes, it settles again; otherwise the next interval
//     begins. An interval says nothing if no worker waited for half of it, since the limit did not bind.
//
// Small requests end within a round trip, and half a second is long for them. So both phases may end early: settling once as
// many requests have ended as the limit allows, measuring once twice as many have, and quickTime has passed. Answers come in
// bursts then, one each round trip. So throughput is not what came per time, which depends on how many bursts the interval
// has, but what a request brought, times the limit, divided by the time that a request took. It can only raise the limit of
// a governor that is growing: if it says anything else, measuring goes on to its regular end.
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
	settled time.Time     // if settling: when measuring may begin
	started time.Time     // if measuring: the start of the interval
	counted int64         // bytes at the start of the interval
	wanting time.Duration // of the interval, in which a worker waited for a slot; without the wait in progress
	wanted  time.Time     // when the wait in progress began; zero: nobody waits
	ends    int           // requests that ended in the phase
	took    time.Duration // all of them together
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
	quickTime    = 50 * time.Millisecond // for an interval of small requests: in less, chance decides
	staleTime    = 10 * measureTime      // an interval this long includes times without any call
	retryGrowth  = 5 * time.Second       // between tries of a larger limit
	throttleRest = 10 * time.Second      // no growth after the limit was lowered for a refusal
	calmTime     = time.Second           // refusals this close together count as one
)

// wants notes whether a worker waits for a slot from now on.
func (g *governor) wants(now time.Time, waits bool) {
	switch {
	case !g.wanted.IsZero() && !waits:
		g.wanting += now.Sub(later(g.wanted, g.started))
		g.wanted = time.Time{}
	case g.wanted.IsZero() && waits:
		g.wanted = now
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// binding reports whether a worker waited for a slot for more than half of the interval, which ends now.
func (g *governor) binding(now time.Time) bool {
	wanting := g.wanting
	if !g.wanted.IsZero() {
		wanting += now.Sub(later(g.wanted, g.started))
	}
	return 2*wanting > now.Sub(g.started)
}

// observe returns the new limit. It judges the limit once the interval is long enough.
func (g *governor) observe(now time.Time, limit int) int {
	switch {
	case g.phase == settling && now.Before(g.settled):
		return limit
	case g.phase == settling, now.Sub(g.started) > staleTime:
		g.measure(now)
		return limit
	}
	elapsed := now.Sub(g.started)
	if elapsed < measureTime {
		return limit
	}
	rate := float64(g.bytes.Load()-g.counted) / elapsed.Seconds()
	binding := g.binding(now)
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

// ended returns the new limit after a request has ended, which took some time. It raises the limit if the requests are so
// small that they say enough before the interval is over.
func (g *governor) ended(now time.Time, limit int, took time.Duration) int {
	if g.mode != growing {
		return limit
	}
	g.ends++
	g.took += took
	elapsed := now.Sub(g.started)
	switch {
	case g.phase == settling && g.ends >= limit:
		g.measure(now)
		return limit
	case g.phase == settling, g.ends < 2*limit, elapsed < quickTime, elapsed > measureTime, g.took <= 0, !g.binding(now):
		return limit
	}
	got := sample{limit, float64(g.bytes.Load()-g.counted) / g.took.Seconds() * float64(limit)}
	if got.rate == 0 || g.last.limit != 0 && got.limit > g.last.limit && g.gain(got) < g.asked(got)/3 {
		return limit
	}
	next := g.decide(now, got)
	if next == limit {
		g.measure(now)
	} else {
		g.settle(now)
	}
	return next
}

// decide returns the limit that follows the one just measured.
func (g *governor) decide(now time.Time, got sample) int {
	if g.last.limit != 0 && got.limit > g.last.limit {
		// A share of the growth must show in the throughput, or the additional requests are useless.
		asked, gain := g.asked(got), g.gain(got)
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

// asked returns by which share the limit has grown since the last sample.
func (g *governor) asked(got sample) float64 { return float64(got.limit)/float64(g.last.limit) - 1 }

// gain returns by which share the throughput has.
func (g *governor) gain(got sample) float64 { return got.rate/g.last.rate - 1 }

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
	g.phase, g.settled, g.ends, g.took = settling, now.Add(settleTime), 0, 0
}

// measure begins an interval.
func (g *governor) measure(now time.Time) {
	g.phase, g.started, g.counted, g.wanting, g.ends, g.took = measuring, now, g.bytes.Load(), 0, 0, 0
}
