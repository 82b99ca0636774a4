package ossdl

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"
)

var (
	// errSlow: a request was far below the others; the same range goes on over a new connection.
	errSlow = errors.New("connection far slower than the others")
	// errTaken: another worker has all of the range.
	errTaken = errors.New("range taken over")
)

const (
	tickTime     = 100 * time.Millisecond // between looks at how requests get on
	stallRate    = 1 << 10                // bytes per second below which a request counts as stalled
	slowShare    = 8                      // a connection below this fraction of the usual is replaced
	slowAge      = 2 * time.Second        // but not before this age
	rateHalfLife = time.Second            // of the smoothed speed of a request
)

// meter watches one request: how many bytes came, and how long it waited for the network. The worker writes it without
// locks; the monitor reads it.
type meter struct {
	part        *part
	cancel      context.CancelCauseFunc
	start       time.Time
	replaceable bool // it may be ended for being slow
	bytes       atomic.Int64
	waited      atomic.Int64 // nanoseconds spent waiting, in waits that have ended
	since       atomic.Int64 // start of the wait under way, in nanoseconds since start, plus one; 0: none
	measured    atomic.Bool  // the monitor knows its rate

	// The monitor's own.
	rate  float64 // smoothed, bytes per second
	at    time.Duration
	seen  int64
	marks []mark
}

// mark is a point in a request's life: so many bytes after so much waiting.
type mark struct {
	waited time.Duration
	bytes  int64
}

func (m *meter) age() time.Duration { return time.Since(m.start) }

func (m *meter) waits() { m.since.Store(int64(m.age()) + 1) }

// got ends a wait that brought n bytes and returns the request's age.
func (m *meter) got(n int) time.Duration {
	now := m.age()
	if since := m.since.Swap(0); since > 0 {
		m.waited.Add(int64(now) - since + 1)
	}
	m.bytes.Add(int64(n))
	return now
}

// waitedSoFar includes the wait under way.
func (m *meter) waitedSoFar(now time.Duration) time.Duration {
	w := m.waited.Load()
	if since := m.since.Load(); since > 0 {
		w += max(0, int64(now)-since+1)
	}
	return time.Duration(w)
}

// watch registers a request with the monitor and tells the set of it.
func (t *transfer) watch(p *part, cancel context.CancelCauseFunc, replaceable bool) *meter {
	m := &meter{part: p, cancel: cancel, start: time.Now(), replaceable: replaceable}
	t.stats.inFlight.Add(1)
	t.set.setPace(p, pace{since: m.start, abandon: func() { cancel(errTaken) }})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.meters[m] = struct{}{}
	return m
}

func (t *transfer) unwatch(m *meter) {
	t.stats.inFlight.Add(-1)
	t.set.setPace(m.part, pace{})
	if age, n := m.age(), m.bytes.Load(); n >= progressUnit && age > 0 && !m.measured.Load() {
		t.observe(float64(n) / age.Seconds()) // too short for the monitor to have seen
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.meters, m)
}

// monitor looks at the requests now and then until stop is closed: it measures, ends those that stall, replaces those
// that are far slower than the others, and lets idle workers and the gate look again.
func (t *transfer) monitor(stop <-chan struct{}) {
	tick := time.NewTicker(tickTime)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-tick.C:
			t.look()
			t.gate.tick(now)
			t.set.wake()
		}
	}
}

func (t *transfer) look() {
	t.mu.Lock()
	meters := make([]*meter, 0, len(t.meters))
	for m := range t.meters {
		meters = append(meters, m)
	}
	t.mu.Unlock()
	rates := make([]float64, 0, len(meters))
	for _, m := range meters {
		m.measure()
		if m.rate > 0 {
			t.set.setRate(m.part, m.rate)
			rates = append(rates, m.rate)
		}
		if m.stalled(t.cfg.stall) {
			m.cancel(fmt.Errorf("%w of %v", errStalled, t.cfg.stall))
		}
	}
	if len(rates) == 0 {
		return
	}
	slices.Sort(rates)
	usual := rates[len(rates)/2]
	t.observe(usual)
	if len(rates) < 3 || t.lane.limited() { // where a rate limit makes requests take turns, none is slow
		return
	}
	for _, m := range meters {
		if m.replaceable && t.slow(m, usual) && t.worthReplacing(m, usual) {
			m.cancel(errSlow)
		}
	}
}

// slow reports whether a request is far below the usual speed. One that waits for its first byte is given a few times
// what others waited.
func (t *transfer) slow(m *meter, usual float64) bool {
	age := slowAge
	if m.bytes.Load() == 0 {
		age = max(age, patience(time.Duration(t.firstByte.Load())))
	}
	return m.rate*slowShare < usual && m.age() > age
}

// errStalled: a request brought less than 1 KiB/s over the stall time-out.
var errStalled = errors.New("stalled: under 1 KiB/s over the time-out")

// measure updates the smoothed speed.
func (m *meter) measure() {
	now, n := m.age(), m.bytes.Load()
	elapsed := (now - m.at).Seconds()
	if elapsed <= 0 || n == 0 {
		return
	}
	rate := float64(n-m.seen) / elapsed
	if m.rate == 0 {
		m.rate = rate
		m.measured.Store(true)
	} else {
		m.rate += (rate - m.rate) * (1 - math.Exp2(-elapsed/rateHalfLife.Seconds()))
	}
	m.at, m.seen = now, n
}

// stalled reports whether the last limit of waiting brought under stallRate.
func (m *meter) stalled(limit time.Duration) bool {
	now := mark{m.waitedSoFar(m.age()), m.bytes.Load()}
	if n := len(m.marks); n == 0 || now.waited-m.marks[n-1].waited >= limit/16 {
		m.marks = append(m.marks, now)
	}
	for len(m.marks) > 1 && now.waited-m.marks[1].waited >= limit {
		m.marks = m.marks[1:]
	}
	over := now.waited - m.marks[0].waited
	return over >= limit && float64(now.bytes-m.marks[0].bytes) < stallRate*over.Seconds()
}

// worthReplacing reports whether a new connection at the usual speed would bring the rest clearly sooner.
func (t *transfer) worthReplacing(m *meter, usual float64) bool {
	left := float64(t.set.rest(m.part).len())
	return left/max(m.rate, 1) > left/usual+1
}
