package ossdl

import (
	"context"

	"github.com/ossdl/ossdl/internal/engine"
)

// ask makes a request for something else than an object's bytes: a listing or a HEAD. It follows the same rules: the request
// takes a slot, is given up if it stalls, and is retried. What is asked for is named in log lines.
func (p *prefixRun) ask(ctx context.Context, what string, request func(context.Context, *engine.Meter) error) error {
	_, err := p.tries.TryUntil(ctx, func(ctx context.Context) error {
		p.countRequest()
		return p.dog.Do(ctx, request)
	}, "request", what)
	return err
}

func (p *prefixRun) countRequest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = true
	p.sums.requests++
}

func (p *prefixRun) countRetry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sums.retries++
}
