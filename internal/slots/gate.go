// Package slots knows when a request may be made, how long it waits after a failure, and how fast bodies are read. It must
// not know what the requests are for: no URL, no error, no range and no file. Its invariant: a slot is given out only below
// the limit, to the caller that has waited longest; [Lane.Reenter] alone may exceed the limit, for a caller that is ending.
package slots

import (
	"container/list"
	"context"
	"slices"
	"sync"
	"time"
)

// Gate limits the requests in flight of all calls together: one slot for each, first come, first served. Only one worker of a
// call at a time queues here (see [Lane]), so that calls with many workers have no advantage over calls with few. The limit
// moves between 1 and a ceiling, as the governor decides.
//
// A Gate runs no goroutine: the calls in progress report bytes and ticks.
type Gate struct {
	adaptive int  // the ceiling while no call asks for more
	given    bool // the ceiling was given, and calls cannot raise it

	mu    sync.Mutex
	limit int
	inUse int
	taken []time.Time // when the slots in use were taken, the longest ago first
	queue list.List   // of chan struct{}, closed when the slot is the waiter's
	adapt governor
	asked []int         // what each call in progress asked for
	news  chan struct{} // closed at the next tick or end of a request; nil: nobody waits for it
}

// startConcurrency is the first limit of a gate that finds its own, until something has been measured.
const startConcurrency = 8

// NewGate returns a gate for given requests in flight. If given is 0, the gate finds a limit itself, up to adaptive.
func NewGate(given, adaptive int) *Gate {
	g := &Gate{limit: startConcurrency, adaptive: adaptive}
	if given > 0 {
		g.limit, g.adaptive, g.given = given, given, true
	}
	g.adapt.ceiling = g.adaptive
	return g
}

// acquire waits for a slot, or for the end of ctx, whose cause it returns.
func (g *Gate) acquire(ctx context.Context) error {
	g.mu.Lock()
	if g.inUse < g.limit && g.queue.Len() == 0 {
		g.take(time.Now())
		g.mu.Unlock()
		return nil
	}
	ready := make(chan struct{})
	e := g.queue.PushBack(ready)
	g.adapt.wants(time.Now(), true)
	g.mu.Unlock()
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-ready: // the slot came at the same moment
		g.inUse--
		g.taken = g.taken[:len(g.taken)-1] // the last one: it was not used
		g.admit()
	default:
		g.queue.Remove(e)
		g.adapt.wants(time.Now(), g.queue.Len() > 0)
	}
	return context.Cause(ctx)
}

// overdraw takes a slot without waiting, even if none is free.
func (g *Gate) overdraw() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.take(time.Now())
}

// release gives a slot back, whose request has ended.
func (g *Gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.limit = g.adapt.ended(now, g.limit, now.Sub(g.giveBack()))
	g.admit()
	g.tell()
}

// take counts a slot that is taken. The mutex is held.
func (g *Gate) take(now time.Time) {
	g.inUse++
	g.taken = append(g.taken, now)
}

// giveBack counts a slot that is given back. It returns when the slot was taken that has been in use longest: which of them is given
// back makes no difference on the average. The mutex is held.
func (g *Gate) giveBack() (taken time.Time) {
	g.inUse--
	taken = g.taken[0]
	g.taken = slices.Delete(g.taken, 0, 1)
	return taken
}

// admit gives free slots to those that have waited longest. The mutex is held.
func (g *Gate) admit() {
	if g.queue.Len() == 0 {
		return
	}
	now := time.Now()
	for g.inUse < g.limit && g.queue.Len() > 0 {
		close(g.queue.Remove(g.queue.Front()).(chan struct{}))
		g.take(now)
	}
	g.adapt.wants(now, g.queue.Len() > 0)
}

// atLeast raises an adaptive limit to n, for a call that asked for n requests in flight, until done is called. An n of 0 asks
// for nothing. While the server wants fewer requests, only the ceiling is raised.
func (g *Gate) atLeast(now time.Time, n int) (done func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.given || n == 0 {
		return func() {}
	}
	g.asked = append(g.asked, n)
	g.adapt.ceiling = max(g.adapt.ceiling, n)
	if !g.adapt.isResting(now) {
		g.limit = max(g.limit, n)
		g.admit()
	}
	return func() { g.noLonger(n) }
}

// noLonger ends what atLeast(n) began.
func (g *Gate) noLonger(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.asked, n)
	g.asked = slices.Delete(g.asked, i, i+1)
	g.adapt.ceiling = g.adaptive
	for _, n := range g.asked {
		g.adapt.ceiling = max(g.adapt.ceiling, n)
	}
	g.limit = min(g.limit, g.adapt.ceiling)
}

// Limit returns the current limit.
func (g *Gate) Limit() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limit
}

// ceiling returns the most that the limit can become.
func (g *Gate) ceiling() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.adapt.ceiling
}

// Received counts n bytes of a body.
func (g *Gate) Received(n int) {
	g.adapt.bytes.Add(int64(n))
}

// Tick lets the governor judge the bytes received since the last tick. It may be called at any rate.
func (g *Gate) Tick(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = g.adapt.observe(now, g.limit)
	g.admit()
	g.tell()
}

// tell wakes those that wait for news. The mutex is held.
func (g *Gate) tell() {
	if g.news != nil {
		close(g.news)
		g.news = nil
	}
}

// Mark returns the bytes received so far, by all calls. It is for Crowded.
func (g *Gate) Mark() int64 { return g.adapt.bytes.Load() }

// Crowd says whether a request that failed may have been one too many.
type Crowd uint8

const (
	Alone      Crowd = iota // no other request was in flight
	InCompany               // others were, but whether they fare better is not known yet
	CrowdedOut              // others received bytes meanwhile; the limit is lower now, unless they have all ended
)

// InFlight returns how many requests are in flight.
func (g *Gate) InFlight() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.inUse
}

// Crowded is for a request that failed before it was answered, as one too many fails at a proxy that accepts only so many
// connections. It must be called before the slot is released. The bytes of others are those since the mark. The number is that of
// the requests in flight when this one began, itself included: others may have ended since. The number now is returned if it is
// larger.
//
// If the request was crowded out, Crowded lowers the limit by that request, and the failure counts against nobody. If several
// are refused at the same moment, the limit may be below what is in flight already; that is the same refusal. If all others have
// ended, how many were one too many is not known, and the limit stays. Each other such failure lowers the limit, so a request
// that always fails is soon alone, and then its failures count.
func (g *Gate) Crowded(now time.Time, mark int64, inFlight int) (Crowd, int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	inFlight = max(inFlight, g.inUse)
	switch {
	case inFlight < 2:
		return Alone, inFlight
	case g.inUse < 2 && g.adapt.bytes.Load() != mark:
		return CrowdedOut, inFlight
	}
	return g.judge(now, mark, inFlight), inFlight
}

// judge lowers the limit if others have received bytes since the mark. The mutex is held.
func (g *Gate) judge(now time.Time, mark int64, inFlight int) Crowd {
	if g.adapt.bytes.Load() == mark || g.limit == 1 { // at 1 nothing is left to lower, so there must be another reason
		return InCompany
	}
	g.limit = g.adapt.crowded(now, g.limit, inFlight)
	return CrowdedOut
}

// verdictTime bounds how long Verdict waits. Requests in flight may wait for the one that failed, as those for a writer do.
const verdictTime = 10 * time.Second

// Verdict is for a failure of which Crowded did not know yet whether others fare better; the number is the one that it returned.
// The request has released its slot, and others may have taken it or ended since. Verdict waits until they have received bytes
// since the mark, or none is in flight, and then judges as Crowded does. If ctx ends, it returns its cause.
func (g *Gate) Verdict(ctx context.Context, mark int64, inFlight int) (Crowd, error) {
	late := time.NewTimer(verdictTime)
	defer late.Stop()
	for {
		g.mu.Lock()
		crowd := g.judge(time.Now(), mark, inFlight)
		switch {
		case crowd == CrowdedOut:
			g.mu.Unlock()
			return CrowdedOut, nil
		case g.inUse == 0:
			g.mu.Unlock()
			return Alone, nil
		case g.limit == 1: // bytes of others would change nothing
			g.mu.Unlock()
			return InCompany, nil
		case g.news == nil:
			g.news = make(chan struct{})
		}
		news := g.news
		g.mu.Unlock()
		select {
		case <-news:
		case <-late.C:
			return InCompany, nil
		case <-ctx.Done():
			return InCompany, context.Cause(ctx)
		}
	}
}

// throttled lowers the limit after the server asked for fewer requests. The refused request has released its slot.
func (g *Gate) throttled(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = g.adapt.throttled(now, g.limit, g.inUse+1)
}
