package slots

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// Lane is one call's share of the gate, within the bounds of the call itself. All requests of a call share it, even if they
// are for many objects.
type Lane struct {
	gate   *Gate
	own    chan struct{}   // holds a token for each request in flight; nil: only the gate limits them
	turn   chan struct{}   // held by the one worker that queues at the gate
	limits []*rate.Limiter // of the bytes read
}

// Lane returns a lane for a call with at most bound requests in flight; 0: as many as the gate allows. The call's reads keep
// within all the limits.
func (g *Gate) Lane(bound int, limits ...*rate.Limiter) *Lane {
	l := &Lane{gate: g, turn: make(chan struct{}, 1), limits: limits}
	if bound > 0 {
		l.own = make(chan struct{}, bound)
	}
	return l
}

// Begin declares that the call makes requests until end is called. Meanwhile an adaptive gate allows as many as the call
// has asked for.
func (l *Lane) Begin() (end func()) { return l.gate.atLeast(time.Now(), cap(l.own)) }

// Ceiling returns the most requests that the call can have in flight.
func (l *Lane) Ceiling() int {
	switch {
	case l.own == nil:
		return l.gate.ceiling()
	case l.gate.given:
		return min(cap(l.own), l.gate.ceiling())
	}
	return cap(l.own)
}

// Acquire waits for a slot, or for the end of ctx, whose cause it returns.
func (l *Lane) Acquire(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // with a slot the caller would count a request that is never sent
	}
	if l.own != nil {
		select {
		case l.own <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	err := l.queue(ctx)
	if err != nil && l.own != nil {
		<-l.own
	}
	return err
}

// queue waits at the gate. Only one worker of a call at a time does so.
func (l *Lane) queue(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-l.turn }()
	return l.gate.acquire(ctx)
}

// Release gives a slot back.
func (l *Lane) Release() {
	l.gate.release()
	if l.own != nil {
		<-l.own
	}
}

// Reenter takes a slot again for a request that continues. The caller has a slot when Reenter returns, even with an error:
// if ctx ends first, the slot may exceed the limit, since the caller releases it immediately.
func (l *Lane) Reenter(ctx context.Context) error {
	err := l.Acquire(ctx)
	if err != nil {
		if l.own != nil {
			l.own <- struct{}{}
		}
		l.gate.overdraw()
	}
	return err
}

// Limited reports whether a rate limit binds the requests together.
func (l *Lane) Limited() bool { return len(l.limits) > 0 }

// ReadLimit returns how many bytes a single read may ask for: most, or what the rate limits let through at once if that is
// less.
func (l *Lane) ReadLimit(most int) int {
	for _, limit := range l.limits {
		most = min(most, limit.Burst())
	}
	return most
}

// Throttle waits until the rate limits allow the n bytes that were read.
func (l *Lane) Throttle(ctx context.Context, n int) error {
	for _, limit := range l.limits {
		r := limit.ReserveN(time.Now(), n)
		if err := Sleep(ctx, r.Delay()); err != nil {
			r.Cancel()
			return err
		}
	}
	return nil
}

// NewLimiter returns a limiter of the bytes read. Its bursts are the bytes of an eighth of a second, so that the rate is
// even, and at most burst.
func NewLimiter(bytesPerSecond int64, burst int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(bytesPerSecond), int(max(1, min(int64(burst), bytesPerSecond/8))))
}
