package engine

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/span"
)

// send makes one request.
func (e *Engine) send(ctx context.Context, r object.Request) (*object.Answer, error) {
	e.Stats.Requests.Add(1)
	r.Resent = &e.Stats.Requests
	return e.Source.Get(ctx, r)
}

// open makes requests for a range until there is an answer that can be read, or an error that is left to the retries. What
// the pin learns from a refusal is applied immediately.
func (e *Engine) open(ctx context.Context, sp span.Span) (object.Request, *object.Answer, error) {
	whole := false
	var doubted object.Peer // its answer was of another object
	for {
		r := e.pin.requestFor(sp)
		r.Whole = r.Whole || whole
		a, err := e.send(ctx, r)
		if err == nil && e.pin.mustStream(r, a, e.wanted()) {
			a.Body.Close()
			e.Parts.SetSingle(true)
			continue
		}
		if err == nil {
			err = e.accept(r, a)
			switch {
			case err == nil:
				e.suspects.add(a.From)
			case doubted == nil && disputed(a, err):
				doubted = a.From
				continue
			case doubted != nil:
				doubted.Trust() // the other one agrees
			}
			return r, a, err
		}
		what, err := e.pin.refused(r, err)
		switch what {
		case giveUp:
			return r, nil, err
		case askWhole:
			whole = true
		case probeIfMatch:
			if err := e.checkCondition(ctx, r, err); err != nil {
				return r, nil, err
			}
		}
		if e.pin.rangeSupport() == unsupported {
			e.Parts.SetSingle(true)
		}
	}
}

// wanted returns the span of the object that is to be downloaded. Its end may lie beyond the object.
func (e *Engine) wanted() span.Span {
	if e.Length < 0 || e.Length > math.MaxInt64-e.Base {
		return span.Span{Off: e.Base, End: math.MaxInt64}
	}
	return span.Span{Off: e.Base, End: e.Base + e.Length}
}

// accept compares an answer with the pin. After an error its body is closed.
func (e *Engine) accept(r object.Request, a *object.Answer) error {
	first, err := e.pin.accept(r, a)
	if err == nil && first {
		err = e.firstAnswer(a)
	}
	if err != nil {
		a.Body.Close()
		return err
	}
	if a.Partial && !e.pin.isNameless() {
		e.Parts.SetSingle(false) // whatever checkRanges found
	}
	return nil
}

// firstAnswer fits the map to the object that the pin is now fixed to.
func (e *Engine) firstAnswer(a *object.Answer) error {
	if a.Size == object.UnknownSize {
		e.fitUnknown()
	} else if err := e.fit(a.Size, a.Origin); err != nil {
		return err
	}
	e.billed.Store(object.BilledByRange(a.Header))
	if a.Envelope == "" && object.IsEncrypted(a.Header) {
		e.ciphertext.Store(true)
		e.Log.Warn("object was encrypted by its writer; it is not decrypted")
	}
	if ranges := e.pin.rangeSupport(); ranges == unsupported || ranges == untried && a.Size > 0 {
		e.Parts.SetSingle(true)
	}
	close(e.began)
	return nil
}

// checkUnchanged asks for one byte if the run has nothing to fetch: everything is there from an earlier run, but the object
// may have changed since.
func (e *Engine) checkUnchanged(ctx context.Context) error {
	_, fixed := e.pin.size()
	if sums := e.Parts.Totals(); fixed || sums.Have < sums.Size {
		return nil
	}
	return e.tryUntil(ctx, span.Span{Off: 0, End: 1}, func(ctx context.Context) error {
		return e.guard(ctx, &Meter{}, func(ctx context.Context, m *Meter) error {
			_, a, err := e.open(ctx, span.Span{Off: e.Base, End: e.Base + 1})
			if err != nil {
				return err
			}
			if e.endUnsure(a) {
				err = e.checkWhole(ctx, a, m)
			}
			return errors.Join(err, a.Body.Close())
		})
	})
}

// checkCondition asks for one byte without a condition, to find out what a 412 means: a changed object, or a server that does
// not accept If-Match together with Range. OSS documents neither.
func (e *Engine) checkCondition(ctx context.Context, r object.Request, refusal error) error {
	r.Span, r.IfMatch, r.Whole = span.Span{Off: 0, End: 1}, "", false
	a, err := e.send(ctx, r)
	if err != nil {
		var status *object.StatusError
		if !errors.As(err, &status) || !status.Gone() {
			return err
		}
		if _, fixed := e.pin.size(); !fixed && e.Want.Earlier != nil {
			return fmt.Errorf("%w: %w", ErrStale, err)
		}
		return fmt.Errorf("%w: %w", refusal, err)
	}
	a.Body.Close()
	return e.pin.probed(r, a.Facts, refusal)
}

// leastForRanges is the size from which on it matters whether a server serves ranges, in bytes. A smaller object comes as one
// body anyway.
const leastForRanges = 1<<20 + 1

// checkRanges finds out whether a server serves ranges at all, after it has answered the first one with the whole object. If
// it does not, everything comes over one connection.
func (e *Engine) checkRanges(ctx context.Context) error {
	if e.Parts.Totals().Size < leastForRanges {
		return nil
	}
	f, _ := e.pin.current()
	last := span.Span{Off: f.Size - 1, End: f.Size}
	err := e.tryUntil(ctx, span.Span{Off: last.Off - e.Base, End: last.End - e.Base}, func(ctx context.Context) error {
		return e.checkRange(ctx, last)
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return cause(ctx)
	case errors.Is(err, object.ErrObjectChanged):
		return err
	}
	e.Log.Info("range support unknown; using one connection", "error", err) // the body in progress goes on
	return nil
}

// checkRange asks for a range until the answer shows whether the server serves ranges. What the pin learns from a refusal is
// applied immediately.
func (e *Engine) checkRange(ctx context.Context, sp span.Span) error {
	var doubted object.Peer // its answer was of another object
	for again := true; again; {
		err := e.guard(ctx, &Meter{}, func(ctx context.Context, _ *Meter) (err error) {
			again, err = e.checkRangeOnce(ctx, sp, &doubted)
			return err
		})
		if isWholeInstead(err) || errors.Is(err, errNotARange) {
			e.pin.withoutRanges()
			e.Log.Info("server does not serve ranges; using one connection", "error", err)
			return nil
		}
		if err != nil {
			return err
		}
	}
	e.Parts.SetSingle(false)
	return nil
}

// errNotARange says that the last byte of an object was asked for, and all of it was sent.
var errNotARange = errors.New("206 with the whole object")

// isWholeInstead reports whether an error is that of a range that was answered with the whole object.
func isWholeInstead(err error) bool {
	var odd *object.MismatchError
	if !errors.As(err, &odd) {
		return false
	}
	_, whole := odd.Whole()
	return whole
}

// checkRangeOnce makes one request. Its result again is true if the pin has learned from a refusal how to ask better, or if
// another address is to be asked, which happens once.
func (e *Engine) checkRangeOnce(ctx context.Context, sp span.Span, doubted *object.Peer) (again bool, err error) {
	r := e.pin.requestFor(sp)
	a, err := e.send(ctx, r)
	if err == nil {
		a.Body.Close()
		_, err = e.pin.accept(r, a)
		switch {
		case err == nil && a.Len() == a.Size:
			err = errNotARange
		case err == nil:
		case *doubted == nil && disputed(a, err):
			*doubted = a.From
			return true, nil
		case *doubted != nil:
			(*doubted).Trust() // the other one agrees
		}
		return false, err
	}
	var status *object.StatusError
	if !errors.As(err, &status) {
		return false, err // also isWholeInstead, which checkRange is about
	}
	what, err := e.pin.refused(r, err)
	if what == probeIfMatch {
		err = e.checkCondition(ctx, r, err)
	}
	return err == nil, err
}
