package slots

import (
	"context"
	"math/rand/v2"
	"time"
)

// Retry says how often a request is repeated, and how long it waits before.
type Retry struct {
	Attempts           int           // in a row, without progress; 1: nothing is repeated
	MinDelay, MaxDelay time.Duration // bounds of the random waits
	MaxElapsed         time.Duration // how long nothing may progress before it is given up; 0: Attempts alone decide
}

// bound returns the longest wait after fails attempts in a row without progress.
func (r Retry) bound(fails int) time.Duration {
	bound := r.MinDelay
	for ; fails > 2 && 0 < bound && bound < r.MaxDelay; fails-- {
		if bound > r.MaxDelay/2 {
			return r.MaxDelay // doubled, it could overflow
		}
		bound *= 2
	}
	return min(bound, r.MaxDelay)
}

// Hint is what is known about the next request: what the server said, and how long its worker has left.
type Hint struct {
	After time.Duration // how long to wait; 0: it said nothing
	Slow  bool          // it asked for fewer requests, as with a 429 or 503
	Most  time.Duration // no wait is longer; 0: no bound of its own
}

// maxRetryAfter bounds how long a server may ask to wait.
const maxRetryAfter = time.Minute

// BackOff waits before the next attempt, after fails attempts in a row without progress. The first attempt after progress is
// made immediately. Later ones wait a random time with full jitter: between zero and a bound that doubles from r.MinDelay to
// r.MaxDelay.
//
// If the server asked for a longer wait, BackOff waits that long, up to a minute or r.MaxDelay. If the server asked for fewer
// requests, the gate's limit is lowered, and there is always a wait. No wait exceeds h.Most. If ctx ends, BackOff returns its cause.
func (g *Gate) BackOff(ctx context.Context, r Retry, fails int, h Hint) error {
	if h.Slow {
		g.throttled(time.Now())
		fails = max(fails, 2)
	}
	var wait time.Duration
	if fails >= 2 {
		wait = rand.N(max(r.bound(fails), 1))
	}
	wait = max(wait, min(h.After, max(maxRetryAfter, r.MaxDelay)))
	if h.Most > 0 {
		wait = min(wait, h.Most)
	}
	return Sleep(ctx, wait)
}

// Sleep waits for d, or for the end of ctx, whose cause it returns.
func Sleep(ctx context.Context, d time.Duration) error {
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
