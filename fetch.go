package ossdl

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// progressUnit: a request that brought this many bytes, or all it was for, has made progress.
const progressUnit = 64 << 10

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
			if err := t.sized(clamp.size, clamp.origin); err != nil {
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
			if err := t.beforeRetry(ctx, left, fails, err); err != nil {
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

// beforeRetry waits before a range that failed is asked for once more.
func (t *transfer) beforeRetry(ctx context.Context, left span, fails int, err error) error {
	t.stats.retries.Add(1)
	t.log.Info("request failed, goes on", "offset", t.base+left.off, "bytes", left.len(), "withoutProgress", fails, "error", err)
	after, slow := slowDown(err)
	return t.gate.backOff(ctx, retry(t.cfg.retry), fails, hint{after, slow})
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
	var local *sinkError // says more than that the request was ended meanwhile
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.As(err, &local) {
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
			if a.partial {
				t.set.setSingle(false) // whatever a trial said
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
		if !errors.As(err, &status) || !status.gone() {
			return err
		}
		if _, fixed := t.pin.now(); !fixed && t.pin.earlier != nil {
			return fmt.Errorf("%w: %w", errStale, err)
		}
		return fmt.Errorf("%w: %w", refusal, err)
	}
	a.body.Close()
	return t.pin.probed(a.facts, refusal)
}

// firstAnswer lays the set out for the object that the pin is fixed to.
func (t *transfer) firstAnswer(r request, a *answer) error {
	if err := t.sized(a.size, a.origin); err != nil {
		return err
	}
	if known, none := t.pin.rangesKnown(); none || !known && a.size > 0 {
		t.set.setSingle(true)
	}
	close(t.began)
	return nil
}

// sized fits the set to the size of the object, as an answer has it.
func (t *transfer) sized(size int64, by origin) error {
	length := t.length
	if length < 0 {
		length = size - t.base
	}
	switch {
	case size == 0 && t.base == 0 && t.length < 0:
	case t.base >= size || length > size-t.base:
		return &permanentError{&findingError{ErrRange, fmt.Sprintf("offset %d, length %d of %d bytes", t.base, t.length, size), by}}
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
	last := span{f.size - 1 - t.base, f.size - t.base}
	for fails := 1; ; fails++ {
		err := t.askForRange(ctx, span{f.size - 1, f.size})
		var odd *answerError
		switch {
		case err == nil:
			t.set.setSingle(false)
			return nil
		case ctx.Err() != nil:
			return unlessFinished(ctx)
		case errors.Is(err, ErrObjectChanged):
			return t.partError(last, fails, err)
		case errors.As(err, &odd) && odd.size >= 0:
			t.pin.withoutRanges()
			t.log.Info("one stream: the server does not serve ranges", "error", err)
			return nil
		case t.expired(err):
			fails--
			continue
		case t.stop(err, fails):
			// The stream that runs is not disturbed: it goes on alone.
			t.log.Info("one stream: not known whether the server serves ranges", "error", err)
			return nil
		}
		if err := t.beforeRetry(ctx, last, fails, err); err != nil {
			return unlessFinished(ctx)
		}
	}
}

// askForRange makes one request whose answer is of no use but for being one.
func (t *transfer) askForRange(ctx context.Context, sp span) error {
	if err := t.acquire(ctx); err != nil {
		return err
	}
	defer t.lane.release()
	for again := true; again; {
		err := t.watched(ctx, &part{}, false, func(ctx context.Context, _ *meter) (err error) {
			again, err = t.askOnce(ctx, sp)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// askOnce makes a request for its answer alone. Again: what the pin learnt from a refusal makes another one worth while.
func (t *transfer) askOnce(ctx context.Context, sp span) (again bool, err error) {
	r := t.pin.request(sp)
	a, err := t.get(ctx, r)
	if err == nil {
		a.body.Close()
		_, err = t.pin.accept(r, a)
		return false, err
	}
	var status *statusError
	if !errors.As(err, &status) {
		return false, err // the whole object instead of a range is just what is to be found out
	}
	what, err := t.pin.refused(r, err)
	if what == probeIfMatch {
		err = t.probe(ctx, r, err)
	}
	return err == nil, err
}
