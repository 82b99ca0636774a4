package ossdl

import (
	"container/list"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// gate is the Downloader's bound on requests in flight: one slot per request, first come first served. Each call lets
// one of its workers at a time queue here, see lane, so that first come first served is fair between calls too, however
// many workers a call has. The limit moves between 1 and the ceiling as the governor says.
//
// Nothing in here runs by itself: the calls in progress report bytes and ticks.
type gate struct {
	mu    sync.Mutex
	limit int
	inUse int
	queue list.List // of chan struct{}, closed when the slot is the waiter's
	adapt governor
	given bool  // the ceiling is the caller's
	asked []int // what calls in progress asked for, each for itself
}

// startConcurrency is the adaptive bound before anything was measured.
const startConcurrency = 8

// newGate makes a gate for a number of requests that the caller gave, or, with 0, one that finds its own.
func newGate(given int) *gate {
	g := &gate{limit: startConcurrency}
	g.adapt.ceiling = AdaptiveConcurrency
	if given > 0 {
		g.limit, g.adapt.ceiling, g.given = given, given, true
	}
	return g
}

// acquire waits for a slot.
func (g *gate) acquire(ctx context.Context) error {
	g.mu.Lock()
	if g.inUse < g.limit && g.queue.Len() == 0 {
		g.inUse++
		g.mu.Unlock()
		return nil
	}
	ready := make(chan struct{})
	e := g.queue.PushBack(ready)
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
		g.admit()
	default:
		g.queue.Remove(e)
	}
	return context.Cause(ctx)
}

// overdraw takes a slot without waiting.
func (g *gate) overdraw() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inUse++
}

func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inUse--
	g.admit()
}

// admit hands free slots to those who wait longest. The mutex is held.
func (g *gate) admit() {
	for g.inUse < g.limit && g.queue.Len() > 0 {
		close(g.queue.Remove(g.queue.Front()).(chan struct{}))
		g.inUse++
	}
}

// atLeast raises a limit that nobody gave, until done is called, for a call that asked for n requests in flight. Where the
// server has just asked to slow down, only the ceiling is raised.
func (g *gate) atLeast(now time.Time, n int) (done func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.given || n == 0 {
		return func() {}
	}
	g.asked = append(g.asked, n)
	g.adapt.ceiling = max(g.adapt.ceiling, n)
	if !g.adapt.resting(now) {
		g.limit = max(g.limit, n)
		g.admit()
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		i := slices.Index(g.asked, n)
		g.asked = slices.Delete(g.asked, i, i+1)
		g.adapt.ceiling = AdaptiveConcurrency
		for _, n := range g.asked {
			g.adapt.ceiling = max(g.adapt.ceiling, n)
		}
		g.limit = min(g.limit, g.adapt.ceiling)
	}
}

func (g *gate) current() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.limit
}

// ceiling is the most the limit can become.
func (g *gate) ceiling() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.adapt.ceiling
}

// received counts body bytes.
func (g *gate) received(n int) {
	g.adapt.bytes.Add(int64(n))
}

// tick lets the governor judge what came since the last one. It may be called as often as one likes.
func (g *gate) tick(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = g.adapt.observe(now, g.limit, g.queue.Len() > 0)
	g.admit()
}

// throttled lowers the number of requests in flight after the server said 429 or 503 to one that has given its slot back.
func (g *gate) throttled(now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.limit = g.adapt.throttled(now, g.limit, g.inUse+1)
}

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = time.Minute

// backOff waits before the next attempt: not at all after progress, else with full jitter, and longer where the server
// asked for it.
func (g *gate) backOff(ctx context.Context, p RetryPolicy, fails int, err error) error {
	after, slow := slowDown(err)
	if slow {
		g.throttled(time.Now())
		fails = max(fails, 2)
	}
	var wait time.Duration
	if fails >= 2 {
		bound := min(p.MaxDelay, p.MinDelay<<min(fails-2, 20))
		wait = rand.N(max(bound, 1))
	}
	return sleep(ctx, max(wait, min(after, max(maxRetryAfter, p.MaxDelay))))
}

// sleep waits for d, or for the end of ctx, whose cause it returns.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
