package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ossdl/ossdl/internal/parts"
	"github.com/ossdl/ossdl/internal/slots"
)

var (
	// errStalled ends a request that received less than stallRate over the stall timeout.
	errStalled = errors.New("stalled: under 1 KiB/s over the time-out")
	// errSlow ends a request that was far slower than the others; the same range continues over a new connection.
	errSlow = errors.New("connection far slower than the others")
	// errTaken ends a request whose remaining bytes another worker has taken over.
	errTaken = errors.New("range taken over")
)

const (
	tickTime     = 100 * time.Millisecond // between inspections of the requests
	stallRate    = 1 << 10                // bytes per second below which a request counts as stalled
	slowShare    = 8                      // a connection below this fraction of the usual speed is replaced
	slowAge      = 2 * time.Second        // but not before this age
	rateHalfLife = time.Second            // of the smoothed speed of a request
	burstWait    = time.Second            // a first byte that takes longer may be that of a burst
)

// Watchdog ends requests that stall. It serves all requests of a call, including those that are not for the bytes of an
// object.
type Watchdog struct {
	care *caution
	*inFlight
}

// inFlight are the meters of the requests in flight. Several watchdogs may share them; one of those inspects them.
type inFlight struct {
	mu     sync.Mutex
	meters map[*Meter]struct{}
}

// NewWatchdog makes a Watchdog that ends a request once it has received next to nothing for stall, or for longer after others
// stalled without a byte; see caution. It does so from Start on.
func NewWatchdog(stall time.Duration) *Watchdog {
	return newWatchdog(stall, nil)
}

// newWatchdog is NewWatchdog with the requests of with, which inspects them; nil: with none.
func newWatchdog(stall time.Duration, with *Watchdog) *Watchdog {
	w := &Watchdog{care: newCaution(stall)}
	if with != nil {
		w.inFlight = with.inFlight
	} else {
		w.inFlight = &inFlight{meters: map[*Meter]struct{}{}}
	}
	return w
}

// Start inspects the requests every tickTime until stop is called, and calls beat after each inspection. Once stop has
// returned, beat does not run any more.
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

// Do calls fn to make a request, and cancels its context if the request stalls. fn must read a body through [Meter.Reader].
func (w *Watchdog) Do(ctx context.Context, fn func(context.Context, *Meter) error) error {
	return w.watch(ctx, &Meter{}, fn)
}

// watch is Do with a meter that says what the request is for.
func (w *Watchdog) watch(ctx context.Context, m *Meter, fn func(context.Context, *Meter) error) error {
	ctx, m.cancel = context.WithCancelCause(ctx)
	defer m.cancel(nil)
	m.start, m.stall = time.Now(), w.care.stall()
	w.add(m)
	defer w.remove(m)
	m.waits()
	err := fn(ctx, m)
	var local *sinkError // which says more than that the request was ended meanwhile
	if why := context.Cause(ctx); err != nil && why != nil && !errors.As(err, &local) {
		err = why
	}
	if m.part == nil && m.silent(err) {
		w.care.stalled(0, m.stall)
	}
	return err
}

// silent reports whether a request that ended with err has stalled without a byte of the body.
func (m *Meter) silent(err error) bool { return m.bytes.Load() == 0 && errors.Is(err, errStalled) }

func (w *inFlight) add(m *Meter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.meters[m] = struct{}{}
}

func (w *inFlight) remove(m *Meter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.meters, m)
}

// InFlight returns the number of requests in flight.
func (w *inFlight) InFlight() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.meters)
}

// snapshot returns the meters of the requests in flight.
func (w *inFlight) snapshot() []*Meter {
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
		if m.stalled(m.stall) {
			m.cancel(fmt.Errorf("%w of %v", errStalled, m.stall))
		}
	}
}

// Stalled reports whether a request was ended since it stalled, by its error or the cause of the end of its context.
func Stalled(err error) bool { return errors.Is(err, errStalled) }

// Meter measures one request: how many bytes it received, and how long it waited for the network. The request's goroutine
// writes it without locks while the watchdog reads it.
type Meter struct {
	watched
	cancel   context.CancelCauseFunc
	start    time.Time
	stall    time.Duration // without bytes, after which it is ended
	bytes    atomic.Int64
	waited   atomic.Int64 // nanoseconds spent waiting, in waits that have ended
	since    atomic.Int64 // when the wait in progress began, in nanoseconds since start, plus one; 0: there is none
	first    atomic.Int64 // age at the first byte of the body, in nanoseconds; 0: none has come
	measured atomic.Bool  // the watchdog knows its rate

	// Used by the watchdog alone.
	rate  float64       // smoothed, in bytes per second
	at    time.Duration // age when rate was last updated
	seen  int64         // bytes at that age
	marks []mark        // since the time for which a stall is judged
}

// watched says what a request is for.
type watched struct {
	part        *parts.Part // nil: it fetches no part
	replaceable bool        // it may be ended because it is slow
}

// mark says how many bytes a request had received after how much waiting.
type mark struct {
	waited time.Duration
	bytes  int64
}

func (m *Meter) age() time.Duration { return time.Since(m.start) }

// timeFor returns how long n more bytes take at the speed of those so far.
func (m *Meter) timeFor(n int64) time.Duration {
	took, came := m.age()-time.Duration(m.first.Load()), m.bytes.Load()
	return time.Duration(float64(took) * float64(n) / float64(max(1, came)))
}

// waits begins a wait for the network.
func (m *Meter) waits() { m.since.Store(int64(m.age()) + 1) }

// got ends a wait after which n bytes were received, and returns the age of the request.
func (m *Meter) got(n int) time.Duration {
	now := m.age()
	if since := m.since.Swap(0); since > 0 {
		m.waited.Add(int64(now) - since + 1)
	}
	m.bytes.Add(int64(n))
	return now
}

// waitedSoFar returns how long the request has waited, including the wait in progress.
func (m *Meter) waitedSoFar(now time.Duration) time.Duration {
	w := m.waited.Load()
	if since := m.since.Load(); since > 0 {
		w += max(0, int64(now)-since+1)
	}
	return time.Duration(w)
}

// Reader returns a reader of body that measures it and keeps within the rate limits of a lane. It is for bodies that are not
// the bytes of an object.
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
	r.m.waits()
	n, err := r.body.Read(b[:r.lane.ReadLimit(min(len(b), BufferSize))])
	r.m.got(n)
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

// learned returns the speed that says something about other requests. If the first byte took long, the others may come in one
// burst from whatever has stored them meanwhile: then it is the average.
func (m *Meter) learned() float64 {
	if time.Duration(m.first.Load()) > burstWait {
		return float64(m.seen) / m.at.Seconds()
	}
	return m.rate
}

// stalled reports whether the request received less than stallRate during the last limit of waiting.
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

// guard calls fn to make a request under the watchdog, and records the request's pace in the map. The engine makes no request
// without it.
func (e *Engine) guard(ctx context.Context, m *Meter, fn func(context.Context, *Meter) error) error {
	e.Stats.InFlight.Add(1)
	defer e.Stats.InFlight.Add(-1)
	return e.dog.watch(ctx, m, func(ctx context.Context, m *Meter) error {
		if m.part != nil {
			e.Parts.SetPace(m.part, parts.Pace{Since: m.start, Abandon: func() { m.cancel(errTaken) }})
			defer e.settle(m)
		}
		return fn(ctx, m)
	})
}

// settle records what there is to learn from a request for a part that has ended.
func (e *Engine) settle(m *Meter) {
	e.Parts.SetPace(m.part, parts.Pace{})
	e.dog.care.fetched(m.bytes.Load(), m.age())
	if age, n := m.age(), m.bytes.Load(); n >= progressUnit && age > 0 && !m.measured.Load() {
		e.observeRate(float64(n) / age.Seconds()) // it ended before the watchdog could measure it
	}
}

// beat runs after each inspection by the watchdog. It inspects the pace of the requests, and lets the gate and idle workers
// look again.
func (e *Engine) beat(now time.Time) {
	e.strain.observe(look{
		now: now, late: time.Since(now), bytes: e.Stats.Downloaded.Load(), inFlight: e.dog.InFlight(), processors: runtime.GOMAXPROCS(0),
	})
	e.inspect()
	e.Gate.Tick(now)
	e.Parts.Wake()
}

// inspect measures the requests and replaces those that are far slower than the others.
func (e *Engine) inspect() {
	meters := e.dog.snapshot()
	rates := make([]float64, 0, len(meters))
	for _, m := range meters {
		m.measure()
		if m.rate > 0 {
			rates = append(rates, m.learned())
			if m.part != nil {
				e.Parts.SetRate(m.part, m.rate)
			}
		}
	}
	if len(rates) == 0 {
		return
	}
	slices.Sort(rates)
	usual := rates[len(rates)/2]
	e.observeRate(usual)
	if len(rates) < 3 || e.Lane.Limited() || e.strain.high() { // if requests take turns, none is slow
		return
	}
	for _, m := range meters {
		if m.replaceable && e.slow(m, usual) && e.worthReplacing(m, usual) {
			m.cancel(errSlow)
		}
	}
}

// slow reports whether a request is far below the usual speed. Before its first byte it may take several times as long as
// others waited.
func (e *Engine) slow(m *Meter, usual float64) bool {
	age := slowAge
	if m.bytes.Load() == 0 {
		age = max(age, parts.Patience(time.Duration(e.firstByte.Load())))
	}
	return m.rate*slowShare < usual && m.age() > age
}

// worthReplacing reports whether a new connection at the usual speed would fetch the rest clearly sooner.
func (e *Engine) worthReplacing(m *Meter, usual float64) bool {
	left := float64(e.Parts.Rest(m.part).Len())
	return left/max(m.rate, 1) > left/usual+1
}
