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
	// Begin prepares the sink for size bytes, of which missing are still to come. It runs while the first body arrives.
	// No write comes before it has returned nil. Both are negative if the server does not say how many bytes there are.
	Begin(size, missing int64) error
}

// memory is a sink that is memory: what is still missing can be read to where it belongs. WriteAt comes all the same.
type memory interface {
	// Memory returns where the bytes from off to end are; nil if there is no such memory.
	Memory(off, end int64) []byte
}

// Load is what the size of the next request depends on.
type Load struct {
	Unfinished int64   // bytes that are missing or being fetched
	Known      bool    // the object is known, and so is its size
	Rate       float64 // bytes per second of one connection; 0: not known
	Limit      int     // requests that may be in flight now, of all calls
	Ceiling    int     // requests that this call can have in flight at most
	Room       int64   // bytes that the sink has room for; 0: no bound
}

// LeastRoomShare is the smallest share of a sink's room, in bytes.
const LeastRoomShare = 64 << 10

// RoomShare returns how many bytes of a sink's room one request may fill. All requests in flight must fit in, and one more,
// so that the connection that first completes its share need not wait for the others.
func (l Load) RoomShare() int64 {
	n := max(LeastRoomShare, l.Room/int64(min(l.Ceiling, l.Limit)+1))
	if n > BufferSize {
		n -= n % BufferSize
	}
	return n
}

// Want says which object a run is for.
type Want struct {
	ETag      string                   // given by the caller, or ""
	Version   string                   // given by the caller, or ""
	Earlier   *object.Facts            // the object that the claims in the map are of; nil: there are none
	Listed    *object.Facts            // what a listing said of the object, with ETag, time and size; nil: it was not listed
	Check     func(object.Facts) error // what else the caller knows of the object: an error if these are facts of another; nil: nothing
	Snapshot  bool                     // an Appendable object may grow: its bytes are those of the first answer, or of Earlier
	Empty     bool                     // the object is said to have no bytes: no range is asked for
	OneStream bool                     // the server accepts neither ranges nor conditions
}

// Stats are a call's counters. Several runs may share them.
type Stats struct {
	Downloaded, Resumed atomic.Int64 // bytes
	Requests, Retries   atomic.Int64
	InFlight            atomic.Int64
}

// Config is everything that an engine needs. It does not change during a run.
type Config struct {
	Source  Source
	Sink    Sink
	Disk    io.ReaderAt // the content of the sink, to compare claims with; nil: it cannot be read
	Parts   *parts.Map  // what is there already, and what is missing
	Gate    *slots.Gate
	Lane    *slots.Lane
	Buffers *Buffers

	Base        int64 // offset in the object of the sink's first byte
	Length      int64 // bytes asked for; -1: all from Base to the end
	Room        int64 // bytes that the sink can hold, see [parts.Map.SetHorizon]; 0: no bound
	MaxRequests int   // requests in flight, if the sink limits them further than the lane does; 0: it does not
	Want        Want

	Size       func(Load) int64                                 // bytes of the next request; called once for each
	Workers    func(left int64, ceiling int) int                // how many requests at once are useful for the bytes left
	RangeError func(s span.Span, attempts int, err error) error // makes the error of a range of the object that cannot be fetched; length -1: up to an unknown end
	Beside     []func(context.Context) error                    // run from when the sink is ready until all is done or ctx ends
	Retry      slots.Retry
	Stall      time.Duration // a request that delivers next to nothing for this long is ended
	// Watch inspects the requests of this engine along with those of others, and is running: then there is one request at a
	// time, in the goroutine that calls Run. That is for small objects, for which an engine's own goroutines cost more than all
	// else. Disk must be nil then, and Beside empty; the caller has begun the lane. nil: the engine has a watchdog of its own.
	Watch *Watchdog
	Stats *Stats
	Log   *slog.Logger
}

// Engine fetches what its map says is missing, from a source into a sink, for one call. Workers take parts, with a slot for
// each request, and a watchdog inspects the requests. All calls of the library use it; there is no other fetch loop.
type Engine struct {
	Config
	pin   *pin
	tries *Retrier
	dog   *Watchdog

	suspects suspects
	strain   strain

	began chan struct{} // closed once the first answer is accepted and the size is known
	ready chan struct{} // closed once the sink is ready

	checked chan struct{} // closed once the object is the one of which an earlier run left everything, or that run left less

	ciphertext   atomic.Bool   // see IsCiphertext
	billed       atomic.Bool   // each request costs what it asks for, even if another takes part of that over
	firstByte    atomic.Int64  // nanoseconds from a request to the first byte of its body, smoothed
	connRateBits atomic.Uint64 // see connRate
}

// New makes an engine. It makes no request before Run.
func New(config Config) *Engine {
	return &Engine{
		Config: config,
		pin:    newPin(config.Want, config.Source.Versions(), config.Log),
		tries: &Retrier{
			gate: config.Gate, lane: config.Lane, policy: config.Retry, log: config.Log, ready: config.Source.Ready,
			retried: func() { config.Stats.Retries.Add(1) },
		},
		dog:   newWatchdog(config.Stall, config.Watch),
		began: make(chan struct{}),
		ready: make(chan struct{}),

		checked: make(chan struct{}),
	}
}

// errFinished is the cause with which the context of the workers ends once every byte is done.
var errFinished = errors.New("all done")

// Run fetches until nothing is missing and every claim is verified. After an error, what was done stays done, and Run may be
// called again. Everything that Run started has ended when it returns.
func (e *Engine) Run(ctx context.Context) error {
	if e.Watch != nil {
		return e.runAlone(ctx)
	}
	end := e.Lane.Begin()
	defer end()
	stop := e.dog.Start(e.beat)
	defer stop()

	group, ctx := errgroup.WithContext(ctx)
	ctx, finish := context.WithCancelCause(ctx)
	defer finish(nil)
	ceiling := e.ceiling()
	const begin, proof, rangeCheck = 1, 1, 1
	group.SetLimit(ceiling + begin + proof + rangeCheck + len(e.Beside))

	worker := func() error { return e.work(ctx, finish) }
	e.startFirst(ctx, group, worker)
	if e.HasBegun() && cause(ctx) == nil { // an empty object may be done by now
		e.startRest(ctx, group, worker, ceiling)
	}
	err := group.Wait()
	if err == nil && !e.IsReady() { // an empty object was done as ctx ended
		err = context.Cause(ctx)
	}
	return err
}

// runAlone is Run with one worker, in this goroutine.
func (e *Engine) runAlone(ctx context.Context) error {
	if err := e.check(ctx); err != nil {
		return err
	}
	return e.work(ctx, func(error) {})
}

// startFirst starts one worker, and returns once the first answer is accepted or none will come.
func (e *Engine) startFirst(ctx context.Context, group *errgroup.Group, worker func() error) {
	group.Go(func() error {
		if err := e.check(ctx); err != nil {
			return err
		}
		return worker()
	})
	select {
	case <-e.began:
	case <-ctx.Done():
	}
}

// check is what comes before a run fetches anything: it closes checked, once.
func (e *Engine) check(ctx context.Context) error {
	if err := e.checkUnchanged(ctx); err != nil {
		return err
	}
	if !isClosed(e.checked) {
		close(e.checked)
	}
	return nil
}

// startRest starts what can only run once the object is known.
func (e *Engine) startRest(ctx context.Context, group *errgroup.Group, worker func() error, ceiling int) {
	group.Go(e.begin)
	if e.Disk != nil {
		group.Go(func() error { return e.Prove(ctx, func(n int64) { e.Stats.Resumed.Add(n) }) })
	}
	if e.pin.rangeSupport() == untried {
		group.Go(func() error { return e.checkRanges(ctx) })
	}
	for _, fn := range e.Beside {
		group.Go(func() error { return e.onceReady(ctx, fn) })
	}
	sums := e.Parts.Totals()
	for range e.Workers(sums.Size-sums.Done, ceiling) - 1 {
		group.Go(worker)
	}
}

// Facts returns the facts of the object, once an answer has fixed them.
func (e *Engine) Facts() (f object.Facts, fixed bool) { return e.pin.current() }

// IsCiphertext reports whether the bytes are those of an object that its writer has encrypted, and are not decrypted.
func (e *Engine) IsCiphertext() bool { return e.ciphertext.Load() }

// Outgrown reports whether an answer said that the object has more bytes than are wanted, because something was appended. Whether
// it is still the same object shows the CRC-64 of the whole.
func (e *Engine) Outgrown() bool { return e.pin.isOutgrown() }

// Total returns how many bytes there are to download in all. That is known from the first answer on or, if the server does not
// say how long the object is, at its end.
func (e *Engine) Total() (n int64, known bool) {
	size, fixed := e.pin.size()
	if !fixed || size == object.UnknownSize && e.Length < 0 || !e.HasBegun() {
		return 0, false
	}
	return e.Parts.Totals().Size, true
}

// Header returns the headers of the answer that fixed the object; nil: there is none yet. They must not be changed.
func (e *Engine) Header() http.Header { return e.pin.answerHeader() }

// Began returns a channel that is closed once the first answer is accepted and the size is known.
func (e *Engine) Began() <-chan struct{} { return e.began }

// HasBegun reports whether the channel that Began returns is closed.
func (e *Engine) HasBegun() bool { return isClosed(e.began) }

// IsReady reports whether the sink is ready: its Begin has returned nil.
func (e *Engine) IsReady() bool { return isClosed(e.ready) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// ceiling returns the most requests, and workers, that this call can have at once.
func (e *Engine) ceiling() int {
	if n := e.Lane.Ceiling(); e.MaxRequests <= 0 || n < e.MaxRequests {
		return n
	}
	return e.MaxRequests
}

// begin prepares the sink, once, while the first body arrives.
func (e *Engine) begin() error {
	if e.IsReady() {
		return nil
	}
	size, missing := int64(-1), int64(-1)
	if n, known := e.Total(); known {
		size, missing = n, n-e.Parts.Totals().Have
	}
	if err := e.Sink.Begin(size, missing); err != nil {
		return err
	}
	close(e.ready)
	return nil
}

// onceReady runs fn once the sink is ready.
func (e *Engine) onceReady(ctx context.Context, fn func(context.Context) error) error {
	select {
	case <-e.ready:
		return fn(ctx)
	case <-ctx.Done():
		return nil
	}
}

// work fetches parts until none is left, and then ends what waits for the others.
func (e *Engine) work(ctx context.Context, end context.CancelCauseFunc) error {
	for {
		finished, err := e.waitForWork(ctx)
		if err != nil {
			return err
		}
		if finished {
			select {
			case <-e.checked:
				end(errFinished)
				return nil
			case <-ctx.Done():
				return cause(ctx)
			}
		}
		p, err := e.fetch(ctx)
		if err != nil {
			end(err) // before the part is given back, or an idle worker would retry it
			if p != nil {
				e.Parts.GiveBack(p)
			}
			return err
		}
	}
}

// waitForWork returns once there is something to take, or everything is done.
func (e *Engine) waitForWork(ctx context.Context) (finished bool, err error) {
	for {
		available, changed := e.Parts.Wait(e.terms()) // before Finished, or the last byte could be missed
		finished := e.Parts.Finished()
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
func (e *Engine) take() *parts.Part {
	p := e.Parts.Take(func(unfinished int64) int64 { return e.dog.care.limit(e.Size(e.load(unfinished))) })
	if p == nil {
		p = e.Parts.TakeOver(e.terms())
	}
	return p
}

// cause returns why ctx has ended; nil if it has not, or only because everything is done.
func cause(ctx context.Context) error { return ignoring(context.Cause(ctx), errFinished) }

func ignoring(err, harmless error) error {
	if err == harmless {
		return nil
	}
	return err
}

func (e *Engine) load(unfinished int64) Load {
	_, known := e.pin.size()
	return Load{
		Unfinished: unfinished, Known: known, Rate: e.connRate(), Limit: e.Gate.Limit(), Ceiling: e.ceiling(), Room: e.Room,
	}
}

// RoomShare returns how many bytes of the sink's room one request may fill now.
func (e *Engine) RoomShare() int64 {
	return Load{Limit: e.Gate.Limit(), Ceiling: e.ceiling(), Room: e.Room}.RoomShare()
}

// terms returns what taking over a part must be worth now.
func (e *Engine) terms() parts.Terms {
	if e.Lane.Limited() || e.strain.high() || e.billed.Load() {
		return parts.Terms{} // all requests share the rate limit, or the processor: taking over would gain nothing, or costs money
	}
	tm := parts.Terms{Now: time.Now(), FirstByte: time.Duration(e.firstByte.Load()), Rate: e.connRate()}
	if e.Room > 0 {
		tm.Least = min(parts.MinGain, e.RoomShare()/4)
	}
	return tm
}

// connRate returns the smoothed speed of one connection in bytes per second; 0: not known yet.
func (e *Engine) connRate() float64 { return math.Float64frombits(e.connRateBits.Load()) }

// observeRate adds a measured speed of one connection to connRate. That falls slower than it rises: at the end only the slow
// connections are left, and a new one would be faster than they are.
func (e *Engine) observeRate(rate float64) {
	switch old := e.connRate(); {
	case old == 0:
	case rate < old:
		rate = old + (rate-old)/32
	default:
		rate = old + (rate-old)/4
	}
	e.connRateBits.Store(math.Float64bits(rate))
}

// observeFirstByte adds how long a request waited for the first byte of its body to the smoothed time. Heads say less: whatever
// stores a body on the way may pass on the head at once.
func (e *Engine) observeFirstByte(d time.Duration) {
	if old := time.Duration(e.firstByte.Load()); old > 0 {
		d = old + (d-old)/4
	}
	e.firstByte.Store(int64(d))
}
