package ossdl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
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

const (
	bufferSize   = 256 << 10              // bytes of one read and one write: they stay in the processor's second cache
	gatherTime   = 50 * time.Millisecond  // how long what was read may wait for more before it is written
	progressUnit = 64 << 10               // a request that brought this much, or all it was for, has made progress
	drainBytes   = 256 << 10              // at most this much is read for nothing to keep a connection
	tickTime     = 100 * time.Millisecond // between looks at how requests get on
)

// transfer is the engine of one call: it fetches from a source into a sink what its set says is missing. Workers take
// ranges, and with each request ask the gate for a slot; a monitor watches the requests. Entrances differ in source, sink
// and what they do before and after; there is no other fetch loop.
type transfer struct {
	src     source
	sink    sink
	set     *set
	pin     *pin
	cfg     *settings
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
	group, ctx := errgroup.WithContext(ctx)
	ctx, finish := context.WithCancelCause(ctx)
	defer finish(nil)
	group.SetLimit(t.ceiling() + 3 + len(t.beside)) // workers; the sink's begin, the proof, the trial of ranges; the rest

	var monitor sync.WaitGroup
	stopMonitor := make(chan struct{})
	monitor.Go(func() { t.monitor(stopMonitor) })

	worker := func() error {
		err := t.work(ctx)
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
		t.stats.retries.Add(1)
		if err := t.backOff(ctx, fails, err); err != nil {
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

// work fetches ranges until there are none left.
func (t *transfer) work(ctx context.Context) error {
	for {
		p, err := t.next(ctx)
		if p == nil || err != nil {
			return err
		}
		if err := t.fetch(ctx, p); err != nil {
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

// observe smooths a measured speed of one connection.
func (t *transfer) observe(rate float64) {
	if old := t.connPace(); old > 0 {
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

// fetch brings a part's range, on as many connections as it needs. It holds a slot when called and none afterwards.
func (t *transfer) fetch(ctx context.Context, p *part) error {
	var fails, slow int
	for {
		before := t.set.rest(p)
		if before.len() <= 0 {
			t.lane.release()
			return nil
		}
		err := t.request(ctx, p, before, slow < maxReplaced)
		t.lane.release()
		left := t.set.rest(p)
		if left.len() <= 0 {
			return nil
		}
		if ctx.Err() != nil {
			return unlessFinished(ctx)
		}
		progress := left.off-before.off >= min(progressUnit, before.len())
		if progress {
			fails, slow = 0, 0
		}
		var clamp *clampError
		switch {
		case errors.As(err, &clamp) && fails < t.cfg.retry.Attempts:
			fails++ // a server may say so each time
			if err := t.sized(clamp.size); err != nil {
				return err
			}
		case errors.Is(err, errSlow):
			slow++
		case t.expired(err):
		default:
			if !progress {
				fails++
			}
			if t.stop(err, fails) {
				return t.partError(left, fails, err)
			}
			t.stats.retries.Add(1)
			t.log.Info("request failed, goes on", "offset", t.base+left.off, "bytes", left.len(), "withoutProgress", fails, "error", err)
			if err := t.backOff(ctx, fails, err); err != nil {
				return unlessFinished(ctx)
			}
		}
		if err := t.acquire(ctx); err != nil {
			return unless(errFinished, err)
		}
	}
}

// stop decides whether a range that failed is tried again.
func (t *transfer) stop(err error, fails int) bool {
	var local *sinkError
	return errors.As(err, &local) || errors.Is(err, errStale) || errors.Is(err, ErrObjectChanged) ||
		t.cfg.retry.Attempts == 1 || fails >= t.cfg.retry.Attempts || !retryable(err)
}

// partError names the range of an error. Before the object is known there is no range to speak of, unless attempts ran
// out; and errors of the sink are about the sink.
func (t *transfer) partError(left span, fails int, err error) error {
	var local *sinkError
	if errors.As(err, &local) {
		return local.err
	}
	if _, fixed := t.pin.now(); !fixed && !retryable(err) || errors.Is(err, errStale) {
		return err
	}
	id := t.src.identity()
	return &PartError{Bucket: id.bucket, Key: id.key, Offset: t.base + left.off, Size: left.len(), Attempts: max(1, fails), Err: err}
}

// maxRetryAfter bounds what a server may ask for.
const maxRetryAfter = time.Minute

// backOff waits before the next attempt: not at all after progress, else with full jitter, and longer where the server
// asked for it.
func (t *transfer) backOff(ctx context.Context, fails int, err error) error {
	return t.gate.backOff(ctx, t.cfg.retry, fails, err)
}

func (g *gate) backOff(ctx context.Context, p RetryPolicy, fails int, err error) error {
	after, slow := slowDown(err)
	if slow {
		g.throttled(time.Now())
		fails = max(fails, 2)
	}
	var wait time.Duration
	if fails >= 2 {
		bound := min(p.MaxDelay, p.MinDelay<<min(fails-1, 20))
		wait = rand.N(max(bound, 1))
	}
	return sleep(ctx, max(wait, min(after, max(maxRetryAfter, p.MaxDelay))))
}

// sleep waits for d, or for the end of ctx, whose cause it returns.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// maxReplaced bounds how often in a row a slow connection is replaced by one that brings nothing either.
const maxReplaced = 2

// request makes one request for the rest of a part and writes what comes.
func (t *transfer) request(ctx context.Context, p *part, sp span, replaceable bool) error {
	return t.watched(ctx, p, replaceable, func(ctx context.Context, m *meter) error {
		r, a, err := t.ask(ctx, span{t.base + sp.off, t.base + sp.end})
		m.got(0)
		if err != nil {
			return err
		}
		t.smoothFirstByte(m.age())
		return t.receive(ctx, p, r, a, m)
	})
}

// watched makes a request, by fn, that the monitor ends where it stalls: no request is made without it. It is for p, or
// for an empty part where nothing of the set is fetched.
func (t *transfer) watched(ctx context.Context, p *part, replaceable bool, fn func(context.Context, *meter) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m := t.watch(p, cancel, replaceable)
	defer t.unwatch(m)
	m.waits()
	err := fn(ctx, m)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

func (t *transfer) smoothFirstByte(d time.Duration) {
	if old := time.Duration(t.firstByte.Load()); old > 0 {
		d = old + (d-old)/4
	}
	t.firstByte.Store(int64(d))
}

// ask makes a request until its answer can be used or is an error to be retried: what the pin learns from a refusal is
// tried at once.
func (t *transfer) ask(ctx context.Context, sp span) (request, *answer, error) {
	whole := false
	for {
		r := t.pin.request(sp)
		r.whole = r.whole || whole
		a, err := t.get(ctx, r)
		if err == nil {
			first, err := t.pin.accept(r, a)
			if err == nil && first {
				err = t.firstAnswer(r, a)
			}
			if err != nil {
				a.body.Close()
				return r, nil, err
			}
			return r, a, nil
		}
		what, err := t.pin.refused(r, err)
		switch what {
		case giveUp:
			return r, nil, err
		case askWhole:
			whole = true
		case probeIfMatch:
			if err := t.probe(ctx, r, err); err != nil {
				return r, nil, err
			}
		}
		if _, none := t.pin.rangesKnown(); none {
			t.set.setSingle(true)
		}
	}
}

func (t *transfer) get(ctx context.Context, r request) (*answer, error) {
	t.stats.requests.Add(1)
	r.again = &t.stats.requests
	return t.src.get(ctx, r)
}

// probe asks for one byte without condition, to learn whether a 412 means a changed object or a server that takes no
// If-Match together with Range, which OSS documents for neither.
func (t *transfer) probe(ctx context.Context, r request, refusal error) error {
	r.span, r.ifMatch, r.whole = span{0, 1}, "", false
	a, err := t.get(ctx, r)
	if err != nil {
		var status *statusError
		if _, fixed := t.pin.now(); errors.As(err, &status) && status.means != nil {
			if !fixed && t.pin.earlier != nil {
				return fmt.Errorf("%w: %w", errStale, err)
			}
			return fmt.Errorf("%w: %w", refusal, err)
		}
		return err
	}
	a.body.Close()
	return t.pin.probed(a.facts, refusal)
}

// firstAnswer lays the set out for the object that the pin is fixed to.
func (t *transfer) firstAnswer(r request, a *answer) error {
	if err := t.sized(a.size); err != nil {
		return &permanentError{err}
	}
	if known, none := t.pin.rangesKnown(); none || !known && a.size > 0 {
		t.set.setSingle(true)
	}
	close(t.began)
	return nil
}

// sized fits the set to the size of the object.
func (t *transfer) sized(size int64) error {
	length := t.length
	if length < 0 {
		length = size - t.base
	}
	switch {
	case size == 0 && t.base == 0 && t.length < 0:
	case t.base >= size || length > size-t.base:
		return &permanentError{fmt.Errorf("%w: offset %d, length %d of %d bytes", ErrRange, t.base, t.length, size)}
	}
	t.set.resize(length)
	return nil
}

// tryRange finds out whether a server that answered the first range with the whole object knows ranges at all: if not,
// one stream brings everything.
func (t *transfer) tryRange(ctx context.Context) error {
	f, _ := t.pin.now()
	if t.set.totals().size <= minPiece {
		return nil // it comes as one body in any case
	}
	if err := t.acquire(ctx); err != nil {
		return unless(errFinished, err)
	}
	r := t.pin.request(span{f.size - 1, f.size})
	err := t.watched(ctx, &part{}, false, func(ctx context.Context, _ *meter) error {
		a, err := t.get(ctx, r)
		if err == nil {
			a.body.Close()
			_, err = t.pin.accept(r, a)
		}
		return err
	})
	t.lane.release()
	if t.expired(err) {
		return t.tryRange(ctx)
	}
	if err == nil {
		t.set.setSingle(false)
		return nil
	}
	if ctx.Err() != nil {
		return unlessFinished(ctx)
	}
	var odd *answerError
	if errors.As(err, &odd) && odd.size >= 0 {
		t.pin.withoutRanges()
	}
	// Whatever else it was, the stream that runs is not disturbed: it goes on alone.
	t.log.Info("one stream: the server does not serve ranges", "error", err)
	return nil
}

// receive writes a body into the sink, as far as its bytes are the part's own.
func (t *transfer) receive(ctx context.Context, p *part, r request, a *answer, m *meter) error {
	defer a.body.Close()
	pos := t.base + t.set.rest(p).off // in the object
	if !a.partial {
		t.set.extend(p, min(a.end-t.base, t.set.totals().size))
		if err := t.skip(ctx, a, pos-a.off, m); err != nil {
			return err
		}
	}
	buf := t.buffers.Get().(*[]byte)
	defer t.buffers.Put(buf)
	for pos < a.end {
		n, err := t.gather(ctx, a.body, (*buf)[:min(int64(len(*buf)), a.end-pos)], m)
		pos += int64(n)
		if n > 0 {
			whole, werr := t.store(ctx, p, (*buf)[:n])
			if werr != nil {
				return werr
			}
			if whole {
				return t.drain(ctx, a, pos, err, m)
			}
		}
		if err == io.EOF && pos < a.end {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("body of %v: %w", r, withoutURL(err))
		}
	}
	return nil
}

// store hashes and writes bytes at the part's position. It reports whether the part has all it needs.
func (t *transfer) store(ctx context.Context, p *part, b []byte) (whole bool, err error) {
	select {
	case <-t.ready: // first: what has come is not given up because the request was
	default:
		select {
		case <-t.ready:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	for len(b) > 0 && !whole {
		own := t.set.hold(p, len(b))
		if own.room != nil {
			if err := t.waitForRoom(ctx, own.room); err != nil {
				return false, err
			}
			continue
		}
		if own.size == 0 {
			return true, nil
		}
		crc := crc64.Update(own.crc, b[:own.size])
		n, err := t.sink.WriteAt(b[:own.size], own.off)
		if err == nil && n < own.size {
			err = io.ErrShortWrite
		}
		if err != nil {
			if own.size = min(n, own.size); own.size > 0 { // a disk that is full took what it could
				t.set.advance(p, own, crc64.Update(own.crc, b[:own.size]))
			}
			return false, &sinkError{err}
		}
		whole = t.set.advance(p, own, crc)
		b = b[own.size:]
	}
	return whole, nil
}

// waitForRoom waits for the horizon to move, without the request's slot. A range that was taken lies before the horizon;
// only the body of a server without ranges comes to it.
func (t *transfer) waitForRoom(ctx context.Context, room <-chan struct{}) error {
	t.lane.release()
	select {
	case <-room:
	case <-ctx.Done():
	}
	return t.lane.reenter(ctx)
}

// sinkError marks an error of the caller's disk or writer, which no other request can mend.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// gather reads until the buffer is full or what it holds has waited long enough: few large writes instead of many small
// ones, also where TLS hands out a record at a time.
func (t *transfer) gather(ctx context.Context, body io.Reader, buf []byte, m *meter) (n int, err error) {
	var since time.Duration
	for n < len(buf) && err == nil {
		var k int
		limit := min(len(buf)-n, t.lane.readLimit())
		m.waits()
		k, err = body.Read(buf[n : n+limit])
		now := m.got(k)
		n += k
		t.count(k)
		if lerr := t.lane.throttle(ctx, k); lerr != nil {
			return n, lerr
		}
		if since == 0 {
			since = now
		} else if now-since > gatherTime {
			break
		}
	}
	return n, err
}

func (t *transfer) count(n int) {
	t.stats.downloaded.Add(int64(n))
	t.gate.received(n)
}

// skip reads bytes that are not wanted, in front of the part in a body that could not start where asked.
func (t *transfer) skip(ctx context.Context, a *answer, n int64, m *meter) error {
	buf := t.buffers.Get().(*[]byte)
	defer t.buffers.Put(buf)
	for n > 0 {
		k, err := t.gather(ctx, a.body, (*buf)[:min(n, int64(len(*buf)))], m)
		n -= int64(k)
		if n > 0 && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("body: %w", withoutURL(err))
		}
	}
	return nil
}

// drain reads the little that may be left of a body whose part was cut, so that its connection can be used again.
func (t *transfer) drain(ctx context.Context, a *answer, pos int64, err error, m *meter) error {
	if left := a.end - pos; err == nil && left > 0 && left <= drainBytes {
		// The part is whole: an error costs the connection and nothing else.
		_ = t.skip(ctx, a, left, m)
	}
	return nil
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
		if holds {
			held(sp.len())
		} else {
			t.log.Warn("what is on disk is not what was recorded; it is fetched again", "offset", sp.off, "bytes", sp.len(), "error", err)
		}
		t.set.proved(p, holds)
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
