package ossdl

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// lane is one call's way to the network: to the gate, within the bounds that the call has of its own. All requests of a
// call share it, also where they are for many objects.
type lane struct {
	gate   *gate
	own    chan struct{}   // holds a token for each request in flight; nil: no bound but the gate's
	turn   chan struct{}   // held by the one worker that queues at the gate
	limits []*rate.Limiter // of what is read
}

// newLane makes a lane with bounds given to the call; 0: none.
func (d *Downloader) newLane(concurrency int, bytesPerSecond int64) *lane {
	l := &lane{gate: d.gate, turn: make(chan struct{}, 1), limits: d.limits}
	if concurrency > 0 {
		l.own = make(chan struct{}, concurrency)
	}
	if bytesPerSecond > 0 {
		l.limits = append(l.limits[:len(l.limits):len(l.limits)], newLimiter(bytesPerSecond))
	}
	return l
}

// open says that a call makes requests now, until close is called.
func (l *lane) open() (close func()) { return l.gate.atLeast(time.Now(), cap(l.own)) }

// ceiling is the most requests that the call can have in flight.
func (l *lane) ceiling() int {
	switch {
	case l.own == nil:
		return l.gate.ceiling()
	case l.gate.given:
		return min(cap(l.own), l.gate.ceiling())
	}
	return cap(l.own)
}

// acquire waits for a slot.
func (l *lane) acquire(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // a request that is never sent would be counted
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

// queue waits at the gate, for which one worker of a call at a time does.
func (l *lane) queue(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-l.turn }()
	return l.gate.acquire(ctx)
}

func (l *lane) release() {
	l.gate.release()
	if l.own != nil {
		<-l.own
	}
}

// reenter takes a slot again for a request that goes on, and has one when it returns, whatever it returns: once ctx has
// ended, beyond the limit, for whoever gives it back at once.
func (l *lane) reenter(ctx context.Context) error {
	err := l.acquire(ctx)
	if err != nil {
		if l.own != nil {
			l.own <- struct{}{}
		}
		l.gate.overdraw()
	}
	return err
}

// limited reports whether a rate limit binds the requests together.
func (l *lane) limited() bool { return len(l.limits) > 0 }

// readLimit keeps single reads below what the rate limits let through at once.
func (l *lane) readLimit() int {
	n := bufferSize
	for _, limit := range l.limits {
		n = min(n, limit.Burst())
	}
	return n
}

// throttle waits until the rate limits allow the n bytes that were read.
func (l *lane) throttle(ctx context.Context, n int) error {
	for _, limit := range l.limits {
		r := limit.ReserveN(time.Now(), n)
		if err := sleep(ctx, r.Delay()); err != nil {
			r.Cancel()
			return err
		}
	}
	return nil
}

// newLimiter lets bursts through that are small against a second, so that the rate is even.
func newLimiter(bytesPerSecond int64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(bytesPerSecond), int(max(1, min(bufferSize, bytesPerSecond/8))))
}
