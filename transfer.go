// Package engine downloads what a map of parts says is missing, from a source into a sink: in parallel ranges, with retries,
// and with every answer compared with the first. It knows requests and answers, parts, slots and time. It must not know the
// SDK, URLs, files, checkpoints, prefixes or options: those come as a Config. Its invariant: a byte counts as done only
// after the sink has taken it from an answer about the pinned object, or the disk was found to hold it.

package ossdl

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
)

// sink is where the bytes of one call go. Offset 0 is the first byte asked for.
type sink interface {
	io.WriterAt
	// begin prepares the sink for size bytes, of which missing are still to come. It runs in parallel with the first
	// request's body; no write comes before it has returned nil.
	begin(size, missing int64) error
}

// load is what the size of the next request depends on.
type load struct {
	unfinished int64   // bytes that are missing or being fetched
	known      bool    // the object is known, and so is its size
	rate       float64 // bytes per second of one connection; 0: not known
	limit      int     // requests that may be in flight now, of all calls
	ceiling    int     // requests that this call can have in flight at most
	room       int64   // bytes that the sink has room for; 0: for all
}

// leastRoomShare is the least that is asked for because of a lack of room, in bytes.
const leastRoomShare = 64 << 10

// roomShare is how much of a sink's room one request may fill. All requests in flight must fit in and one more, so that a
// connection that is done with its share first need not wait for the others.
func (l load) roomShare() int64 {
	n := max(leastRoomShare, l.room/int64(min(l.ceiling, l.limit)+1))
	if n > bufferSize {
		n -= n % bufferSize
	}
	return n
}

// wanted says which object a run is for.
type wanted struct {
	etag      string // given by the caller, or ""
	version   string // given by the caller, or ""
	earlier   *facts // the object that the claims in the set are of; nil: there are none
	empty     bool   // the object is said to have no bytes: no range is asked for
	oneStream bool   // the server takes neither ranges nor conditions
}

// stats are a call's counters. Several runs may share them.
type stats struct {
	downloaded, resumed atomic.Int64 // bytes
	requests, retries   atomic.Int64
	inFlight            atomic.Int64
}

// engineConfig is all that the engine is given. It does not change during a run.
type engineConfig struct {
	source  engineSource
	sink    sink
	disk    io.ReaderAt // the sink's content, to compare claims with; nil: it cannot be read
	set     *set        // what is there already, and what is missing
	gate    *gate
	lane    *lane
	buffers *buffers

	base        int64 // offset in the object of the sink's first byte
	length      int64 // bytes asked for; -1: all from base to the end
	room        int64 // bytes that the sink takes beyond those it has passed on, see set.setHorizon; 0: all
	maxRequests int   // requests in flight, if the sink bounds them further than the lane does; 0: it does not
	want        wanted

	size       func(load) int64                            // bytes of the next request; called once for each
	workers    func(left int64, ceiling int) int           // how many requests at once so many bytes are work for
	rangeError func(s span, attempts int, err error) error // the error of a range of the object that could not be fetched
	beside     []func(context.Context) error               // run from the sink's begin until all is done or ctx ends
	retry      retry
	stall      time.Duration // requests that bring next to nothing for this long are ended
	stats      *stats
	log        *slog.Logger
}

// transfer is the engine of one call. It fetches from a source into a sink what its set says is missing. Workers take
// ranges, with a slot for each request, and a watchdog looks at the requests. Entry points differ in source and sink and
// in what they do before and after; there is no other fetch loop.
type transfer struct {
	engineConfig
	pin   *pin
	tries retrier
	dog   *watchdog

	began chan struct{} // closed once the first answer is accepted and the size known
	ready chan struct{} // closed once the sink has begun

	firstByte    atomic.Int64  // nanoseconds from a request to its answer, smoothed
	connRateBits atomic.Uint64 // see connRate
}

func newEngine(config engineConfig) *transfer {
	return &transfer{
		engineConfig: config,
		pin:          newPin(config.want, config.source.versions(), config.log),
		tries: retrier{
			gate: config.gate, lane: config.lane, policy: config.retry, log: config.log, ready: config.source.ready,
			retried: func() { config.stats.retries.Add(1) },
		},
		dog:   newWatchdog(config.stall),
		began: make(chan struct{}),
		ready: make(chan struct{}),
	}
}

// errFinished ends what workers wait for once every byte is done.
var errFinished = errors.New("all done")

// run fetches until nothing is missing and no claim unproved. After an error what was done stays done, and run may be
// called again. Everything that it started has ended when it returns.
func (t *transfer) run(ctx context.Context) error {
	end := t.lane.begin()
	defer end()
	stop := t.dog.start(t.beat)
	defer stop()

	group, ctx := errgroup.WithContext(ctx)
	ctx, finish := context.WithCancelCause(ctx)
	defer finish(nil)
	ceiling := t.ceiling()
	const begin, proof, rangeCheck = 1, 1, 1
	group.SetLimit(ceiling + begin + proof + rangeCheck + len(t.beside))

	worker := func() error { return t.work(ctx, finish) }
	t.startFirst(ctx, group, worker)
	if t.hasBegun() && cause(ctx) == nil { // an empty object may be done by now
		t.startRest(ctx, group, worker, ceiling)
	}
	err := group.Wait()
	if err == nil && !t.isReady() { // an empty object was done as ctx ended
		err = context.Cause(ctx)
	}
	return err
}

// startFirst starts one worker, and returns once the first answer is accepted or none will come.
func (t *transfer) startFirst(ctx context.Context, group *errgroup.Group, worker func() error) {
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
func (t *transfer) startRest(ctx context.Context, group *errgroup.Group, worker func() error, ceiling int) {
	group.Go(t.begin)
	if t.disk != nil {
		group.Go(func() error { return t.prove(ctx, func(n int64) { t.stats.resumed.Add(n) }) })
	}
	if t.pin.rangeSupport() == untried {
		group.Go(func() error { return t.checkRanges(ctx) })
	}
	for _, fn := range t.beside {
		group.Go(func() error { return t.onceReady(ctx, fn) })
	}
	sums := t.set.totals()
	for range t.workers(sums.size-sums.done, ceiling) - 1 {
		group.Go(worker)
	}
}

// objectFacts are the facts of the object, once an answer has fixed them.
func (t *transfer) objectFacts() (f facts, fixed bool) { return t.pin.now() }

// firstHeader returns the headers of the answer that fixed the object; nil: there is none yet. They must not be changed.
func (t *transfer) firstHeader() http.Header { return t.pin.firstHeader() }

// begun is closed once the first answer is accepted and the size known.
func (t *transfer) begun() <-chan struct{} { return t.began }

func (t *transfer) isReady() bool  { return isClosed(t.ready) }
func (t *transfer) hasBegun() bool { return isClosed(t.began) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// ceiling is the most requests, and workers, that this call can have at once.
func (t *transfer) ceiling() int {
	if n := t.lane.ceiling(); t.maxRequests <= 0 || n < t.maxRequests {
		return n
	}
	return t.maxRequests
}

// begin prepares the sink, once, in parallel with the first body.
func (t *transfer) begin() error {
	if t.isReady() {
		return nil
	}
	sums := t.set.totals()
	if err := t.sink.begin(sums.size, sums.size-sums.have); err != nil {
		return err
	}
	close(t.ready)
	return nil
}

// onceReady runs fn once the sink has begun.
func (t *transfer) onceReady(ctx context.Context, fn func(context.Context) error) error {
	select {
	case <-t.ready:
		return fn(ctx)
	case <-ctx.Done():
		return nil
	}
}

// work fetches parts until none is left, and then ends what waits for the others.
func (t *transfer) work(ctx context.Context, end context.CancelCauseFunc) error {
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
				t.set.giveBack(p)
			}
			return err
		}
	}
}

// waitForWork returns once there is something to take, or everything is done.
func (t *transfer) waitForWork(ctx context.Context) (finished bool, err error) {
	for {
		available, changed := t.set.wait(t.terms()) // first: isFinished could become true in between unnoticed
		finished := t.set.isFinished()
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
func (t *transfer) take() *part {
	p := t.set.take(func(unfinished int64) int64 { return t.size(t.load(unfinished)) })
	if p == nil {
		p = t.set.takeOver(t.terms())
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

func (t *transfer) load(unfinished int64) load {
	_, known := t.pin.now()
	return load{
		unfinished: unfinished, known: known, rate: t.connRate(), limit: t.gate.current(), ceiling: t.ceiling(), room: t.room,
	}
}

// roomShare is how much of the sink's room one request may fill now.
func (t *transfer) roomShare() int64 {
	return load{limit: t.gate.current(), ceiling: t.ceiling(), room: t.room}.roomShare()
}

// terms are what taking over must be worth now.
func (t *transfer) terms() terms {
	if t.lane.limited() {
		return terms{} // all requests share the rate limit: taking over would gain nothing
	}
	tm := terms{now: time.Now(), firstByte: time.Duration(t.firstByte.Load()), rate: t.connRate()}
	if t.room > 0 {
		tm.least = min(minGainBytes, t.roomShare()/4)
	}
	return tm
}

// connRate is the smoothed speed of one connection in bytes per second; 0: not known yet.
func (t *transfer) connRate() float64 { return math.Float64frombits(t.connRateBits.Load()) }

// observeRate smooths a measured speed of one connection. The result falls slower than it rises: at the end the slow
// connections are left, and a new one would be faster than they are.
func (t *transfer) observeRate(rate float64) {
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
func (t *transfer) observeFirstByte(d time.Duration) {
	if old := time.Duration(t.firstByte.Load()); old > 0 {
		d = old + (d-old)/4
	}
	t.firstByte.Store(int64(d))
}
