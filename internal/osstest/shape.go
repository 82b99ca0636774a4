package osstest

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Shape is the line of one connection.
type Shape struct {
	Latency time.Duration // until the first byte of each answer
	Rate    int64         // body bytes a second; 0: as fast as it goes
}

// WithLatency delays the first byte of each answer.
func WithLatency(d time.Duration) Option { return func(c *config) { c.latency = d } }

// WithConnRate bounds each connection, by a schedule that makes up for late timers.
func WithConnRate(bytesPerSecond int64) Option { return func(c *config) { c.rate = bytesPerSecond } }

// WithTotalRate bounds all connections together, first come first served, a write at a time.
func WithTotalRate(bytesPerSecond int64) Option {
	return func(c *config) { c.totalRate = bytesPerSecond }
}

// WithConnShape gives each connection a line of its own, by its index in the order of accepting. It is asked before each
// answer, so that a line may change; a zero field means what WithLatency and WithConnRate say.
func WithConnShape(fn func(conn int) Shape) Option { return func(c *config) { c.shape = fn } }

// ResetEvery resets the connection after a random number of body bytes of each answer, from least to most, unless the
// body ends before.
func ResetEvery(least, most int64, seed uint64) Option {
	return func(c *config) {
		r := rand.New(rand.NewPCG(seed, 1))
		c.resetEvery = func() *Fault { return Inject().ResetAfter(least + r.Int64N(most-least+1)) }
	}
}

// pace is a schedule of writes at a rate.
type pace struct {
	mu   sync.Mutex
	next time.Time // when the bytes reserved so far have passed
}

// paceSlack is how late a schedule may be and still be caught up with. A longer pause is the client's: it earns nothing.
const paceSlack = 20 * time.Millisecond

// reserve returns when n bytes have passed, if they start now.
func (p *pace) reserve(now time.Time, n, rate int64) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next.Before(now.Add(-paceSlack)) {
		p.next = now
	}
	p.next = p.next.Add(time.Duration(float64(n) / float64(rate) * float64(time.Second)))
	return p.next
}

// startAt moves the schedule to begin no earlier than t.
func (p *pace) startAt(t time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next.Before(t) {
		p.next = t
	}
}

// pieceFor is how much to write at once at a rate: a few milliseconds' worth, 1 to 64 KiB.
func pieceFor(rate int64) int64 { return min(max(rate/200, 1<<10), 64<<10) }

func (s *Server) shapeOf(conn int) Shape {
	var sh Shape
	if s.cfg.shape != nil {
		sh = s.cfg.shape(conn)
	}
	if sh.Latency == 0 {
		sh.Latency = s.cfg.latency
	}
	if sh.Rate == 0 {
		sh.Rate = s.cfg.rate
	}
	return sh
}
