package ossdl

import "context"

// ask makes a request for something else than an object's bytes: a listing or a HEAD. It follows the same rules: the request
// takes a slot, is given up if it stalls, and is retried. What is asked for is named in log lines.
func (p *prefixRun) ask(ctx context.Context, what string, request func(context.Context, *meter) error) error {
	_, err := p.tries.tryUntil(ctx, func(ctx context.Context) error {
		p.countRequest()
		return p.dog.do(ctx, request)
	}, "request", what)
	return err
}

func (p *prefixRun) countRequest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = true
	p.bytes.requests++
}

func (p *prefixRun) countRetry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes.retries++
}
