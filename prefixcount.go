package ossdl

import (
	"context"
	"maps"
	"slices"
)

// expect counts the size of an object that is not settled yet.
func (p *prefixRun) expect(size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes.total += size
}

func (p *prefixRun) begun(c *call, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[c] = size
}

// ended settles the bytes of a call, and its object if it is whole.
func (p *prefixRun) ended(c *call, size int64, err error) {
	now := c.look()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, c)
	p.bytes.received += c.stats.downloaded.Load()
	p.bytes.resumed += now.Resumed
	p.bytes.done += now.Done
	p.bytes.retries += now.Retries
	p.bytes.requests += now.Requests
	if now.Total > 0 || err == nil {
		p.bytes.total += now.Total - size // it is another object than was listed
	}
	if err == nil {
		p.res.Done++
		p.res.Bytes += now.Total
	}
}

func (p *prefixRun) skipped(o listed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.res.Skipped++
	p.bytes.done += o.size
	p.bytes.resumed += o.size
}

func (p *prefixRun) madeFolder() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.res.Done++
}

// cutOff notes that an object is unfinished because ctx ended, which is no failure of it.
func (p *prefixRun) cutOff(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = context.Cause(ctx)
}

func (p *prefixRun) failed(o listed, err error) {
	failure := KeyError{Key: o.key, Err: err}
	p.cfg.log.Error("object failed", "bucket", p.bucket.bucket, "key", o.key, "error", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.res.Failed++
	if p.first == nil {
		p.first = &failure
	}
	if len(p.res.Failures) < maxFailures {
		p.res.Failures = append(p.res.Failures, failure)
	}
}

// maxObjects bounds Progress.Objects.
const maxObjects = 8

// look is the state for a progress report.
func (p *prefixRun) look() Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := Progress{
		Done: p.bytes.done, Total: p.bytes.total, Resumed: p.bytes.resumed,
		Retries: p.bytes.retries, Requests: p.bytes.requests, InFlight: len(p.meters),
	}
	calls := slices.SortedFunc(maps.Keys(p.calls), func(a, b *call) int { return a.start.Compare(b.start) })
	for _, c := range calls {
		size, one := p.calls[c], c.look()
		sum.Done += one.Done
		sum.Resumed += one.Resumed
		sum.InFlight += one.InFlight
		sum.Retries += one.Retries
		sum.Requests += one.Requests
		if one.Total > 0 {
			sum.Total += one.Total - size
			size = one.Total
		}
		if len(sum.Objects) < maxObjects {
			sum.Objects = append(sum.Objects, ObjectProgress{Key: c.src.identity().key, Done: one.Done, Total: size})
		}
	}
	return sum
}

// received are the body bytes so far.
func (p *prefixRun) received() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.bytes.received
	for c := range p.calls {
		n += c.stats.downloaded.Load()
	}
	return n
}
