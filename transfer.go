package ossdl

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ossdl/ossdl/internal/crc64"
)

// A sink is where the bytes of one call go. Offset 0 is the first byte asked for.
type sink interface {
	io.WriterAt
	// begin is told how many bytes there will be, and how many of them are still to come. It runs beside the first
	// request's body, and no write comes before it has returned nil.
	begin(size, missing int64) error
}

// transfer is the engine of one call: it fetches from a source into a sink what its set says is missing. Workers take
// ranges, and with each request ask the gate for a slot; a monitor watches the requests. Entrances differ in source, sink
// and what they do before and after; there is no other fetch loop.
type transfer struct {
	src     source
	sink    sink
	set     *set
	pin     *pin
	cfg     *settings
	most    int // requests in flight that are of use; 0: as many as are allowed
	log     *slog.Logger
	gate    *gate
	lane    *lane
	buffers *sync.Pool

	base   int64                         // offset in the object of the sink's first byte
	length int64                         // bytes asked for; -1: to the end
	room   int64                         // bytes the sink takes beyond those it got rid of, see set.horizon; 0: all
	disk   io.ReaderAt                   // what the sink holds, for proofs; nil: it cannot be read
	beside []func(context.Context) error // what else runs from the first answer until all is done

	began chan struct{} // closed once the first answer is accepted and the size known
	ready chan struct{} // closed once the sink has begun

	mu     sync.Mutex
	meters map[*meter]struct{}

	firstByte atomic.Int64  // nanoseconds from a request to its answer, smoothed
	pace      atomic.Uint64 // bytes per second of one connection, smoothed, as float bits
	stats     *stats
}

// stats are a call's counters.
type stats struct {
	downloaded, resumed atomic.Int64
	requests, retries   atomic.Int64
	inFlight            atomic.Int64
}

// errFinished ends what workers wait for once every byte is done.
var errFinished = errors.New("all done")

// run fetches until nothing is missing and no claim unproved. After an error what was done stays done, and run may be
// called again. Whatever it started has ended when it returns.
func (t *transfer) run(ctx context.Context) error {
	defer t.lane.open()()
	group, ctx := errgroup.WithContext(ctx)
	ctx, finish := context.WithCancelCause(ctx)
	defer finish(nil)
	group.SetLimit(t.ceiling() + 3 + len(t.beside)) // workers; the sink's begin, the proof, the trial of ranges; the rest

	var monitor sync.WaitGroup
	stopMonitor := make(chan struct{})
	monitor.Go(func() { t.monitor(stopMonitor) })

	worker := func() error {
		err := t.work(ctx, finish)
		if _, finished, _ := t.set.work(terms{}); err == nil && finished {
			finish(errFinished)
		}
		return err
	}
	group.Go(func() error {
		if err := t.confirm(ctx); err != nil {
			return err
		}
		return worker()
	})
	select {
	case <-t.began:
	case <-ctx.Done():
	}
	if t.hasBegun() && unlessFinished(ctx) == nil { // an empty object may be done by now
		group.Go(t.begin)
		if t.disk != nil {
			group.Go(func() error { return t.prove(ctx, func(n int64) { t.stats.resumed.Add(n) }) })
		}
		if known, _ := t.pin.rangesKnown(); !known {
			group.Go(func() error { return t.tryRange(ctx) })
		}
		for _, fn := range t.beside {
			group.Go(func() error { return fn(ctx) })
		}
		for range t.workers() - 1 {
			group.Go(worker)
		}
	}
	err := group.Wait()
	close(stopMonitor)
	monitor.Wait()
	if err == nil && !t.isReady() { // an empty object was done as ctx ended
		err = context.Cause(ctx)
	}
	return err
}

func (t *transfer) isReady() bool {
	select {
	case <-t.ready:
		return true
	default:
		return false
	}
}

func (t *transfer) hasBegun() bool {
	select {
	case <-t.began:
		return true
	default:
		return false
	}
}

// ceiling is the most workers this call can have.
func (t *transfer) ceiling() int {
	if t.most > 0 {
		return t.most
	}
	if t.cfg.concurrency > 0 {
		return t.cfg.concurrency
	}
	return t.gate.ceiling()
}

// workers is how many of them there is work for.
func (t *transfer) workers() int {
	unit := int64(minPiece)
	if t.cfg.partSize > 0 {
		unit = min(unit, t.cfg.partSize)
	}
	sums := t.set.totals()
	left := sums.size - sums.done
	return int(max(1, min(int64(t.ceiling()), (left+unit-1)/unit)))
}

// confirm asks for one byte where the first request of a run would have nothing to fetch: what an earlier run left is
// all there, but the object may have changed since.
func (t *transfer) confirm(ctx context.Context) error {
	_, fixed := t.pin.now()
	if sums := t.set.totals(); fixed || sums.have < sums.size {
		return nil
	}
	for fails := 1; ; fails++ {
		if err := t.acquire(ctx); err != nil {
			return err
		}
		err := t.watched(ctx, &part{}, false, func(ctx context.Context, _ *meter) error {
			_, a, err := t.ask(ctx, span{t.base, t.base + 1})
			if err == nil {
				err = a.body.Close()
			}
			return err
		})
		t.lane.release()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if t.expired(err) {
			fails--
			continue
		}
		if t.stop(err, fails) {
			return t.partError(span{0, 1}, fails, err)
		}
		if err := t.beforeRetry(ctx, span{0, 1}, fails, err); err != nil {
			return err
		}
	}
}

// begin readies the sink, once, beside the first body.
func (t *transfer) begin() error {
	select {
	case <-t.ready:
		return nil
	default:
	}
	sums := t.set.totals()
	if err := t.sink.begin(sums.size, sums.size-sums.have); err != nil {
		return err
	}
	close(t.ready)
	return nil
}

// onceReady runs fn once the sink has begun.
func (t *transfer) onceReady(fn func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-t.ready:
			return fn(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// work fetches ranges until there are none left. A range that failed for good is everybody's end before it is given back: an
// idle worker would ask for it once more.
func (t *transfer) work(ctx context.Context, end context.CancelCauseFunc) error {
	for {
		p, err := t.next(ctx)
		if p == nil || err != nil {
			return err
		}
		if err := t.fetch(ctx, p); err != nil {
			end(err)
			t.set.giveBack(p)
			return err
		}
	}
}

// next waits for a range to fetch and takes it together with a slot. It returns nil once all is done.
func (t *transfer) next(ctx context.Context) (*part, error) {
	for {
		some, finished, changed := t.set.work(t.terms())
		if finished {
			return nil, nil
		}
		if !some {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return nil, unlessFinished(ctx)
			}
		}
		if err := t.acquire(ctx); err != nil {
			return nil, unless(errFinished, err)
		}
		p := t.set.take(t.pieceSize)
		if p == nil {
			p = t.set.takeOver(t.terms())
		}
		if p != nil {
			return p, nil
		}
		t.lane.release()
	}
}

func unlessFinished(ctx context.Context) error { return unless(errFinished, context.Cause(ctx)) }

func unless(but, err error) error {
	if err == but {
		return nil
	}
	return err
}

// acquire waits until the source can be asked, and then for a slot.
func (t *transfer) acquire(ctx context.Context) error {
	if err := t.src.ready(ctx); err != nil {
		return err
	}
	return t.lane.acquire(ctx)
}

// expired reports whether a request failed for want of what the next acquire will wait for.
func (t *transfer) expired(err error) bool {
	var expired *expiredError
	if !errors.As(err, &expired) {
		return false
	}
	t.log.Info("expired, to be renewed", "error", err)
	return true
}

const (
	firstPiece = 8 << 20         // while the speed of a connection is not known
	minPiece   = 1 << 20         // less is not worth a request of its own
	maxPiece   = 256 << 20       // more saves nothing
	pieceTime  = 4 * time.Second // a request this long does not show its round trip
)

// pieceSize is how much the next request asks for, where that many bytes are missing or being fetched.
func (t *transfer) pieceSize(unfinished int64) int64 {
	n := t.usefulSize(unfinished)
	if t.room > 0 {
		n = min(n, t.roomShare())
	}
	return n
}

// leastRoomShare is, in bytes, the least that is asked for because of a lack of room.
const leastRoomShare = 64 << 10

// roomShare is how much of a sink's room a request may fill: all that are in flight must fit in, and one more, so that a
// connection that is done with its share before the others need not wait for them.
func (t *transfer) roomShare() int64 {
	n := max(leastRoomShare, t.room/int64(min(t.ceiling(), t.gate.current())+1))
	if n > bufferSize {
		n -= n % bufferSize
	}
	return n
}

// usefulSize is as long a request as is useful, but no more than an equal share, so that nobody holds what others could
// fetch.
func (t *transfer) usefulSize(unfinished int64) int64 {
	if t.cfg.partSize > 0 {
		return t.cfg.partSize
	}
	if _, fixed := t.pin.now(); !fixed {
		return firstPiece // the size may be unknown as yet
	}
	want := int64(firstPiece)
	requests := t.gate.current()
	if pace := t.connPace(); t.ceiling() <= requests {
		want, requests = maxPiece, t.ceiling() // no others will come and want their share
	} else if pace > 0 {
		want = int64(min(pace*pieceTime.Seconds(), maxPiece))
	}
	share := (unfinished + int64(requests) - 1) / int64(requests)
	want = max(minPiece, min(want, share))
	return (want + minPiece - 1) / minPiece * minPiece
}

func (t *transfer) connPace() float64 { return math.Float64frombits(t.pace.Load()) }

// observe smooths a measured speed of one connection. It falls slower than it rises: at the end the connections that are
// left are the slow ones, and what they bring is not what a new one would.
func (t *transfer) observe(rate float64) {
	switch old := t.connPace(); {
	case old == 0:
	case rate < old:
		rate = old + (rate-old)/32
	default:
		rate = old + (rate-old)/4
	}
	t.pace.Store(math.Float64bits(rate))
}

func (t *transfer) terms() terms {
	if t.lane.limited() {
		return terms{} // all requests share the rate limit: taking over would bring nothing
	}
	tm := terms{now: time.Now(), firstByte: time.Duration(t.firstByte.Load()), rate: t.connPace()}
	if t.room > 0 {
		tm.least = min(minGainBytes, t.roomShare()/4)
	}
	return tm
}

// prove compares the claimed ranges with the disk. One that differs is missing.
func (t *transfer) prove(ctx context.Context, held func(bytes int64)) error {
	for p := t.set.nextClaim(); p != nil; p = t.set.nextClaim() {
		sp := p.span // the part may be joined to another once it is proved
		crc, err := t.sum(ctx, sp)
		if ctx.Err() != nil {
			return unlessFinished(ctx)
		}
		holds := err == nil && crc == p.crc
		if !holds {
			t.log.Warn("what is on disk is not what was recorded; it is fetched again", "offset", sp.off, "bytes", sp.len(), "error", err)
		}
		t.set.proved(p, holds)
		if holds {
			held(sp.len())
		}
	}
	return nil
}

// sum is the CRC-64 of a range on disk.
func (t *transfer) sum(ctx context.Context, sp span) (crc uint64, err error) {
	buf := t.buffers.Get().(*[]byte)
	defer t.buffers.Put(buf)
	for sp.len() > 0 && ctx.Err() == nil {
		b := (*buf)[:min(int64(len(*buf)), sp.len())]
		n, err := t.disk.ReadAt(b, sp.off)
		crc = crc64.Update(crc, b[:n])
		sp.off += int64(n)
		if err != nil && sp.len() > 0 {
			return 0, err
		}
	}
	return crc, ctx.Err()
}
