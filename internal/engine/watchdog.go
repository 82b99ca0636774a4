package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ossdl/ossdl/internal/parts"
	"github.com/ossdl/ossdl/internal/slots"
)

var (
	// ErrStalled ends a request that brought less than stallRate over the stall time-out.
	ErrStalled = errors.New("stalled: under 1 KiB/s over the time-out")
	// errSlow ends a request that was far slower than the others; the same range goes on over a new connection.
	errSlow = errors.New("connection far slower than the others")
	// errTaken ends a request whose range another worker has taken over completely.
	errTaken = errors.New("range taken over")
)

const (
	tickTime     = 100 * time.Millisecond // between inspections of the requests
	stallRate    = 1 << 10                // bytes per second below which a request counts as stalled
	slowShare    = 8                      // a connection below this fraction of the usual speed is replaced
	slowAge      = 2 * time.Second        // but not before this age
	rateHalfLife = time.Second            // of the smoothed speed of a request
)

// Watchdog ends requests that stall. It serves all requests of a call, also those for no object's bytes.
type Watchdog struct {
	stall  time.Duration
	mu     sync.Mutex
	meters map[*Meter]struct{} // of the requests in flight
}

func NewWatchdog(stall time.Duration) *Watchdog {
	return &Watchdog{stall: stall, meters: map[*Meter]struct{}{}}
}

// Start inspects the requests every tickTime until stop is called, and then calls beat. When stop returns, beat does not
// run any more.
func (w *Watchdog) Start(beat func(now time.Time)) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(tickTime)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case now := <-tick.C:
				w.endStalled()
				beat(now)
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

// Do makes a request, by fn, which the watchdog ends if it stalls. fn tells the meter when it waits for the network and
// what it got.
func (w *Watchdog) Do(ctx context.Context, fn func(context.Context, *Meter) error) error {
	return w.watch(ctx, &Meter{}, fn)
}

// watch is do with a meter that says more of the request.
func (w *Watchdog) watch(ctx context.Context, m *Meter, fn func(context.Context, *Meter) error) error {
	ctx, m.cancel = context.WithCancelCause(ctx)
	defer m.cancel(nil)
	m.start = time.Now()
	w.add(m)
	defer w.remove(m)
	m.Waits()
	err := fn(ctx, m)
	var local *sinkError // says more than that the request was ended meanwhile
	if why := context.Cause(ctx); err != nil && why != nil && !errors.As(err, &local) {
		return why
	}
	return err
}

func (w *Watchdog) add(m *Meter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.meters[m] = struct{}{}
}

func (w *Watchdog) remove(m *Meter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.meters, m)
}

// InFlight is the number of requests under way.
func (w *Watchdog) InFlight() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.meters)
}

func (w *Watchdog) snapshot() []*Meter {
	w.mu.Lock()
	defer w.mu.Unlock()
	meters := make([]*Meter, 0, len(w.meters))
	for m := range w.meters {
		meters = append(meters, m)
	}
	return meters
}

func (w *Watchdog) endStalled() {
	for _, m := range w.snapshot() {
		if m.stalled(w.stall) {
			m.cancel(fmt.Errorf("%w of %v", ErrStalled, w.stall))
		}
	}
}

// Meter measures one request: how many bytes came, and how long it waited for the network. The worker writes it without
// locks while the watchdog reads it.
type Meter struct {
	watched
	cancel   context.CancelCauseFunc
	start    time.Time
	bytes    atomic.Int64
	waited   atomic.Int64 // nanoseconds spent waiting, in waits that have ended
	since    atomic.Int64 // start of the wait under way, in nanoseconds since start, plus one; 0: none
	measured atomic.Bool  // the watchdog knows its rate

	// The watchdog's own.
	rate  float64 // smoothed, bytes per second
	at    time.Duration
	seen  int64
	marks []mark
}

// watched says what a request is for.
type watched struct {
	part        *parts.Part // nil: for no bytes of the set
	replaceable bool        // it may be ended for being slow
}

// mark is a point in a request's life: so many bytes after so much waiting.
type mark struct {
	waited time.Duration
	bytes  int64
}

func (m *Meter) age() time.Duration { return time.Since(m.start) }

// Waits begins a wait for the network.
func (m *Meter) Waits() { m.since.Store(int64(m.age()) + 1) }

// Got ends a wait that brought n bytes and returns the request's age.
func (m *Meter) Got(n int) time.Duration {
	now := m.age()
	if since := m.since.Swap(0); since > 0 {
		m.waited.Add(int64(now) - since + 1)
	}
	m.bytes.Add(int64(n))
	return now
}

// waitedSoFar includes the wait under way.
func (m *Meter) waitedSoFar(now time.Duration) time.Duration {
	w := m.waited.Load()
	if since := m.since.Load(); since > 0 {
		w += max(0, int64(now)-since+1)
	}
	return time.Duration(w)
}

// Reader reads a body that is not an object's within the rate limits of a lane, and measures it.
func (m *Meter) Reader(ctx context.Context, l *slots.Lane, body io.Reader) io.Reader {
	return &meteredReader{ctx, l, m, body}
}

type meteredReader struct {
	ctx  context.Context
	lane *slots.Lane
	m    *Meter
	body io.Reader
}

func (r *meteredReader) Read(b []byte) (int, error) {
	r.m.Waits()
	n, err := r.body.Read(b[:r.lane.ReadLimit(min(len(b), BufferSize))])
	r.m.Got(n)
	if lerr := r.lane.Throttle(r.ctx, n); lerr != nil {
		return n, lerr
	}
	return n, err
}

// measure updates the smoothed speed.
func (m *Meter) measure() {
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

// stalled reports whether the last limit of waiting brought less than stallRate.
func (m *Meter) stalled(limit time.Duration) bool {
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

// guard makes a request, by fn, under the watchdog, and tells the set how its part gets on. The engine makes no request
// without it.
func (t *Engine) guard(ctx context.Context, what watched, fn func(context.Context, *Meter) error) error {
	t.Stats.InFlight.Add(1)
	defer t.Stats.InFlight.Add(-1)
	return t.dog.watch(ctx, &Meter{watched: what}, func(ctx context.Context, m *Meter) error {
		if m.part != nil {
			t.Parts.SetPace(m.part, parts.Pace{Since: m.start, Abandon: func() { m.cancel(errTaken) }})
			defer t.settle(m)
		}
		return fn(ctx, m)
	})
}

// settle takes what there is to learn from a request for a part that has ended.
func (t *Engine) settle(m *Meter) {
	t.Parts.SetPace(m.part, parts.Pace{})
	if age, n := m.age(), m.bytes.Load(); n >= ProgressUnit && age > 0 && !m.measured.Load() {
		t.observeRate(float64(n) / age.Seconds()) // it was too short for the watchdog to have measured it
	}
}

// beat runs after each look of the watchdog. It lets idle workers and the gate look again, too.
func (t *Engine) beat(now time.Time) {
	t.inspect()
	t.Gate.Tick(now)
	t.Parts.Wake()
}

// inspect measures the requests and replaces those that are far slower than the others.
func (t *Engine) inspect() {
	meters := t.dog.snapshot()
	rates := make([]float64, 0, len(meters))
	for _, m := range meters {
		m.measure()
		if m.rate > 0 {
			rates = append(rates, m.rate)
			if m.part != nil {
				t.Parts.SetRate(m.part, m.rate)
			}
		}
	}
	if len(rates) == 0 {
		return
	}
	slices.Sort(rates)
	usual := rates[len(rates)/2]
	t.observeRate(usual)
	if len(rates) < 3 || t.Lane.Limited() { // if a rate limit makes requests take turns, none is slow
		return
	}
	for _, m := range meters {
		if m.replaceable && t.slow(m, usual) && t.worthReplacing(m, usual) {
			m.cancel(errSlow)
		}
	}
}

// slow reports whether a request is far below the usual speed. One that waits for its first byte is given a few times as
// long as others waited.
func (t *Engine) slow(m *Meter, usual float64) bool {
	age := slowAge
	if m.bytes.Load() == 0 {
		age = max(age, parts.Patience(time.Duration(t.firstByte.Load())))
	}
	return m.rate*slowShare < usual && m.age() > age
}

// worthReplacing reports whether a new connection at the usual speed would fetch the rest clearly sooner.
func (t *Engine) worthReplacing(m *Meter, usual float64) bool {
	left := float64(t.Parts.Rest(m.part).Len())
	return left/max(m.rate, 1) > left/usual+1
}
