package ossdl

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// ask makes a request for something else than an object's bytes: a listing or a HEAD. It follows the same rules: the
// request takes a slot, is given up if it stalls, and is retried.
func (p *prefixRun) ask(ctx context.Context, what string, request func(context.Context, *meter) error) error {
	for fails := 1; ; fails++ {
		err := p.askOnce(ctx, request)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case fails >= p.cfg.retry.Attempts || !retryable(err):
			return err
		}
		p.mu.Lock()
		p.bytes.retries++
		p.mu.Unlock()
		p.cfg.log.Info("retrying after failed request", "request", what, "withoutProgress", fails, "error", err)
		after, slow := slowDown(err)
		if err := p.d.gate.backOff(ctx, retry(p.cfg.retry), fails, hint{after, slow}); err != nil {
			return err
		}
	}
}

// askOnce makes one request.
func (p *prefixRun) askOnce(ctx context.Context, request func(context.Context, *meter) error) error {
	if err := p.lane.acquire(ctx); err != nil {
		return err
	}
	defer p.lane.release()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m := &meter{cancel: cancel, start: time.Now()}
	p.mu.Lock()
	p.asked = true
	p.bytes.requests++
	p.meters[m] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.meters, m)
	}()
	m.waits()
	err := request(ctx, m)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// metered reads a body within the rate limits, and reports its progress to the meter.
type metered struct {
	ctx  context.Context
	lane *lane
	m    *meter
	from io.Reader
}

func (r *metered) Read(b []byte) (int, error) {
	r.m.waits()
	n, err := r.from.Read(b[:r.lane.readLimit(min(len(b), bufferSize))])
	r.m.got(n)
	if lerr := r.lane.throttle(r.ctx, n); lerr != nil {
		return n, lerr
	}
	return n, err
}

// watch ends requests that stall, until stop is called. It also lets the gate measure the whole call.
func (p *prefixRun) watch() (stop func()) {
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		tick := time.NewTicker(tickTime)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case now := <-tick.C:
				p.d.gate.tick(now) // small objects end before their own monitors have looked
				p.mu.Lock()
				for m := range p.meters {
					if m.stalled(p.cfg.stall) {
						m.cancel(fmt.Errorf("%w of %v", errStalled, p.cfg.stall))
					}
				}
				p.mu.Unlock()
			}
		}
	})
	return func() {
		close(done)
		ended.Wait()
	}
}
