// Package engine downloads what a map of parts says is missing, from a source into a sink: in parallel ranges, with retries,
// and with every answer compared with the first. It knows requests and answers, parts, slots and time. It must not know the
// SDK, URLs, files, checkpoints, prefixes or options: those come as a Config. Its invariant: a byte counts as done only
// after the sink has taken it from an answer about the pinned object, or the disk was found to hold it.
package engine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/parts"
	"github.com/ossdl/ossdl/internal/slots"
	"github.com/ossdl/ossdl/internal/span"
)

// Sink is where the bytes of one call go. Offset 0 is the first byte asked for.
type Sink interface {
	io.WriterAt
	// Begin prepares the sink for size bytes, of which missing are still to come. It runs in parallel with the first
	// request's body; no write comes before it has returned nil.
	Begin(size, missing int64) error
}

// Load is what the size of the next request depends on.
type Load struct {
	Unfinished int64   // bytes that are missing or being fetched
	Known      bool    // the object is known, and so is its size
	Rate       float64 // bytes per second of one connection; 0: not known
	Limit      int     // requests that may be in flight now, of all calls
	Ceiling    int     // requests that this call can have in flight at most
	Room       int64   // bytes that the sink has room for; 0: for all
}

// LeastRoomShare is the least that is asked for because of a lack of room, in bytes.
const LeastRoomShare = 64 << 10

// RoomShare is how much of a sink's room one request may fill. All requests in flight must fit in and one more, so that a
// connection that is done with its share first need not wait for the others.
func (l Load) RoomShare() int64 {
	n := max(LeastRoomShare, l.Room/int64(min(l.Ceiling, l.Limit)+1))
	if n > BufferSize {
		n -= n % BufferSize
	}
	return n
}

// Want says which object a run is for.
type Want struct {
	ETag      string        // given by the caller, or ""
	Version   string        // given by the caller, or ""
	Earlier   *object.Facts // the object that the claims in the set are of; nil: there are none
	Empty     bool          // the object is said to have no bytes: no range is asked for
	OneStream bool          // the server takes neither ranges nor conditions
}

// Stats are a call's counters. Several runs may share them.
type Stats struct {
	Downloaded, Resumed atomic.Int64 // bytes
	Requests, Retries   atomic.Int64
	InFlight            atomic.Int64
}

// Config is all that the engine is given. It does not change during a run.
type Config struct {
	Source  Source
	Sink    Sink
	Disk    io.ReaderAt // the sink's content, to compare claims with; nil: it cannot be read
	Parts   *parts.Map  // what is there already, and what is missing
	Gate    *slots.Gate
	Lane    *slots.Lane
	Buffers *Buffers

	Base        int64 // offset in the object of the sink's first byte
	Length      int64 // bytes asked for; -1: all from base to the end
	Room        int64 // bytes that the sink takes beyond those it has passed on, see set.setHorizon; 0: all
	MaxRequests int   // requests in flight, if the sink bounds them further than the lane does; 0: it does not
	Want        Want

	Size       func(Load) int64                                 // bytes of the next request; called once for each
	Workers    func(left int64, ceiling int) int                // how many requests at once so many bytes are work for
	RangeError func(s span.Span, attempts int, err error) error // the error of a range of the object that could not be fetched
	Beside     []func(context.Context) error                    // run from the sink's begin until all is done or ctx ends
	Retry      slots.Retry
	Stall      time.Duration // requests that bring next to nothing for this long are ended
	Stats      *Stats
	Log        *slog.Logger
}

// Engine is the engine of one call. It fetches from a source into a sink what its set says is missing. Workers take
// ranges, with a slot for each request, and a watchdog looks at the requests. Entry points differ in source and sink and
// in what they do before and after; there is no other fetch loop.
type Engine struct {
	Config
	pin   *pin
	tries Retrier
	dog   *Watchdog

	began chan struct{} // closed once the first answer is accepted and the size known
	ready chan struct{} // closed once the sink has begun

	firstByte    atomic.Int64  // nanoseconds from a request to its answer, smoothed
	connRateBits atomic.Uint64 // see connRate
}

func New(config Config) *Engine {
	return &Engine{
		Config: config,
		pin:    newPin(config.Want, config.Source.Versions(), config.Log),
		tries: Retrier{
			Gate: config.Gate, Lane: config.Lane, Policy: config.Retry, Log: config.Log, Ready: config.Source.Ready,
			Retried: func() { config.Stats.Retries.Add(1) },
		},
		dog:   NewWatchdog(config.Stall),
		began: make(chan struct{}),
		ready: make(chan struct{}),
	}
}

// errFinished ends what workers wait for once every byte is done.
var errFinished = errors.New("all done")

// Run fetches until nothing is missing and no claim unproved. After an error what was done stays done, and run may be
// called again. Everything that it started has ended when it returns.
func (t *Engine) Run(ctx context.Context) error {
	end := t.Lane.Begin()
	defer end()
	stop := t.dog.Start(t.beat)
	defer stop()

	group, ctx := errgroup.WithContext(ctx)
	ctx, finish := context.WithCancelCause(ctx)
	defer finish(nil)
	ceiling := t.ceiling()
	const begin, proof, rangeCheck = 1, 1, 1
	group.SetLimit(ceiling + begin + proof + rangeCheck + len(t.Beside))

	worker := func() error { return t.work(ctx, finish) }
	t.startFirst(ctx, group, worker)
	if t.HasBegun() && cause(ctx) == nil { // an empty object may be done by now
		t.startRest(ctx, group, worker, ceiling)
	}
	err := group.Wait()
	if err == nil && !t.IsReady() { // an empty object was done as ctx ended
		err = context.Cause(ctx)
	}
	return err
}

// startFirst starts one worker, and returns once the first answer is accepted or none will come.
func (t *Engine) startFirst(ctx context.Context, group *errgroup.Group, worker func() error) {
	group.Go(func() error {
		if err := t.checkUnchanged(ctx); err != nil {
			return err
		}
		return worker()
	})
	select {
	case <-t.began:
	case <-ctx.Done():
	}
}

// startRest starts what can only run once the object is known.
func (t *Engine) startRest(ctx context.Context, group *errgroup.Group, worker func() error, ceiling int) {
	group.Go(t.begin)
	if t.Disk != nil {
		group.Go(func() error { return t.Prove(ctx, func(n int64) { t.Stats.Resumed.Add(n) }) })
	}
	if t.pin.rangeSupport() == untried {
		group.Go(func() error { return t.checkRanges(ctx) })
	}
	for _, fn := range t.Beside {
		group.Go(func() error { return t.onceReady(ctx, fn) })
	}
	sums := t.Parts.Totals()
	for range t.Workers(sums.Size-sums.Done, ceiling) - 1 {
		group.Go(worker)
	}
}

// Facts are the facts of the object, once an answer has fixed them.
func (t *Engine) Facts() (f object.Facts, fixed bool) { return t.pin.current() }

// Header returns the headers of the answer that fixed the object; nil: there is none yet. They must not be changed.
func (t *Engine) Header() http.Header { return t.pin.answerHeader() }

// Began is closed once the first answer is accepted and the size known.
func (t *Engine) Began() <-chan struct{} { return t.began }

func (t *Engine) IsReady() bool  { return isClosed(t.ready) }
func (t *Engine) HasBegun() bool { return isClosed(t.began) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// ceiling is the most requests, and workers, that this call can have at once.
func (t *Engine) ceiling() int {
	if n := t.Lane.Ceiling(); t.MaxRequests <= 0 || n < t.MaxRequests {
		return n
	}
	return t.MaxRequests
}

// begin prepares the sink, once, in parallel with the first body.
func (t *Engine) begin() error {
	if t.IsReady() {
		return nil
	}
	sums := t.Parts.Totals()
	if err := t.Sink.Begin(sums.Size, sums.Size-sums.Have); err != nil {
		return err
	}
	close(t.ready)
	return nil
}

// onceReady runs fn once the sink has begun.
func (t *Engine) onceReady(ctx context.Context, fn func(context.Context) error) error {
	select {
	case <-t.ready:
		return fn(ctx)
	case <-ctx.Done():
		return nil
	}
}

// work fetches parts until none is left, and then ends what waits for the others.
func (t *Engine) work(ctx context.Context, end context.CancelCauseFunc) error {
	for {
		finished, err := t.waitForWork(ctx)
		if err != nil {
			return err
		}
		if finished {
			end(errFinished)
			return nil
		}
		p, err := t.fetch(ctx)
		if err != nil {
			end(err) // before the part is given back, or an idle worker would retry it
			if p != nil {
				t.Parts.GiveBack(p)
			}
			return err
		}
	}
}

// waitForWork returns once there is something to take, or everything is done.
func (t *Engine) waitForWork(ctx context.Context) (finished bool, err error) {
	for {
		available, changed := t.Parts.Wait(t.terms()) // first: isFinished could become true in between unnoticed
		finished := t.Parts.Finished()
		if available || finished {
			return finished, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return true, cause(ctx)
		}
	}
}

// take gives a worker that has a slot a part to fetch: missing bytes, or a share of what another worker is fetching. It
// returns nil if there is none.
func (t *Engine) take() *parts.Part {
	p := t.Parts.Take(func(unfinished int64) int64 { return t.Size(t.load(unfinished)) })
	if p == nil {
		p = t.Parts.TakeOver(t.terms())
	}
	return p
}

// cause is why ctx has ended; nil if it has not, or only because everything is done.
func cause(ctx context.Context) error { return ignoring(context.Cause(ctx), errFinished) }

func ignoring(err, harmless error) error {
	if err == harmless {
		return nil
	}
	return err
}

func (t *Engine) load(unfinished int64) Load {
	_, known := t.pin.current()
	return Load{
		Unfinished: unfinished, Known: known, Rate: t.connRate(), Limit: t.Gate.Limit(), Ceiling: t.ceiling(), Room: t.Room,
	}
}

// RoomShare is how much of the sink's room one request may fill now.
func (t *Engine) RoomShare() int64 {
	return Load{Limit: t.Gate.Limit(), Ceiling: t.ceiling(), Room: t.Room}.RoomShare()
}

// terms are what taking over must be worth now.
func (t *Engine) terms() parts.Terms {
	if t.Lane.Limited() {
		return parts.Terms{} // all requests share the rate limit: taking over would gain nothing
	}
	tm := parts.Terms{Now: time.Now(), FirstByte: time.Duration(t.firstByte.Load()), Rate: t.connRate()}
	if t.Room > 0 {
		tm.Least = min(parts.MinGain, t.RoomShare()/4)
	}
	return tm
}

// connRate is the smoothed speed of one connection in bytes per second; 0: not known yet.
func (t *Engine) connRate() float64 { return math.Float64frombits(t.connRateBits.Load()) }

// observeRate smooths a measured speed of one connection. The result falls slower than it rises: at the end the slow
// connections are left, and a new one would be faster than they are.
func (t *Engine) observeRate(rate float64) {
	switch old := t.connRate(); {
	case old == 0:
	case rate < old:
		rate = old + (rate-old)/32
	default:
		rate = old + (rate-old)/4
	}
	t.connRateBits.Store(math.Float64bits(rate))
}

// observeFirstByte smooths how long a request waited for its answer.
func (t *Engine) observeFirstByte(d time.Duration) {
	if old := time.Duration(t.firstByte.Load()); old > 0 {
		d = old + (d-old)/4
	}
	t.firstByte.Store(int64(d))
}
