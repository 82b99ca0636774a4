package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/span"
)

// send makes one request.
func (t *Engine) send(ctx context.Context, r object.Request) (*object.Answer, error) {
	t.Stats.Requests.Add(1)
	r.Resent = &t.Stats.Requests
	return t.Source.Get(ctx, r)
}

// open makes requests for a range until there is an answer that can be read, or an error that retries are for. What the pin
// learns from a refusal is tried at once.
func (t *Engine) open(ctx context.Context, sp span.Span) (object.Request, *object.Answer, error) {
	whole := false
	for {
		r := t.pin.request(sp)
		r.Whole = r.Whole || whole
		a, err := t.send(ctx, r)
		if err == nil {
			return r, a, t.accept(r, a)
		}
		what, err := t.pin.refused(r, err)
		switch what {
		case giveUp:
			return r, nil, err
		case askWhole:
			whole = true
		case probeIfMatch:
			if err := t.checkCondition(ctx, r, err); err != nil {
				return r, nil, err
			}
		}
		if t.pin.rangeSupport() == unsupported {
			t.Parts.SetSingle(true)
		}
	}
}

// accept compares an answer with the pin. After an error its body is closed.
func (t *Engine) accept(r object.Request, a *object.Answer) error {
	first, err := t.pin.accept(r, a)
	if err == nil && first {
		err = t.firstAnswer(a)
	}
	if err != nil {
		a.Body.Close()
		return err
	}
	if a.Partial {
		t.Parts.SetSingle(false) // whatever checkRanges found
	}
	return nil
}

// firstAnswer lays the set out for the object that the pin is fixed to.
func (t *Engine) firstAnswer(a *object.Answer) error {
	if err := t.fit(a.Size, a.Origin); err != nil {
		return err
	}
	if ranges := t.pin.rangeSupport(); ranges == unsupported || ranges == untried && a.Size > 0 {
		t.Parts.SetSingle(true)
	}
	close(t.began)
	return nil
}

// checkUnchanged asks for one byte if the first request of a run would have nothing to fetch: all is there from an earlier
// run, but the object may have changed since.
func (t *Engine) checkUnchanged(ctx context.Context) error {
	_, fixed := t.pin.current()
	if sums := t.Parts.Totals(); fixed || sums.Have < sums.Size {
		return nil
	}
	return t.tryUntil(ctx, span.Span{Off: 0, End: 1}, func(ctx context.Context) error {
		return t.guard(ctx, watched{}, func(ctx context.Context, _ *Meter) error {
			_, a, err := t.open(ctx, span.Span{Off: t.Base, End: t.Base + 1})
			if err == nil {
				err = a.Body.Close()
			}
			return err
		})
	})
}

// checkCondition asks for one byte without a condition, to learn what a 412 means: a changed object, or a server that takes
// no If-Match together with Range. OSS documents neither.
func (t *Engine) checkCondition(ctx context.Context, r object.Request, refusal error) error {
	r.Span, r.IfMatch, r.Whole = span.Span{Off: 0, End: 1}, "", false
	a, err := t.send(ctx, r)
	if err != nil {
		var status *object.StatusError
		if !errors.As(err, &status) || !status.Gone() {
			return err
		}
		if _, fixed := t.pin.current(); !fixed && t.Want.Earlier != nil {
			return fmt.Errorf("%w: %w", ErrStale, err)
		}
		return fmt.Errorf("%w: %w", refusal, err)
	}
	a.Body.Close()
	return t.pin.probed(a.Facts, refusal)
}

// leastForRanges is the size from which it matters whether a server serves ranges, in bytes: less comes as one body anyway.
const leastForRanges = 1<<20 + 1

// checkRanges finds out whether a server serves ranges at all, after it has answered the first one with the whole object.
// If not, one stream brings everything.
func (t *Engine) checkRanges(ctx context.Context) error {
	if t.Parts.Totals().Size < leastForRanges {
		return nil
	}
	f, _ := t.pin.current()
	last := span.Span{Off: f.Size - 1, End: f.Size}
	err := t.tryUntil(ctx, span.Span{Off: last.Off - t.Base, End: last.End - t.Base}, func(ctx context.Context) error {
		return t.checkRange(ctx, last)
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return cause(ctx)
	case errors.Is(err, object.ErrObjectChanged):
		return err
	}
	t.Log.Info("range support unknown; using one connection", "error", err) // the stream under way is left alone
	return nil
}

// checkRange asks for a range until the answer says whether the server serves ranges. What the pin learns from a refusal is
// tried at once.
func (t *Engine) checkRange(ctx context.Context, sp span.Span) error {
	for again := true; again; {
		err := t.guard(ctx, watched{}, func(ctx context.Context, _ *Meter) (err error) {
			again, err = t.checkRangeOnce(ctx, sp)
			return err
		})
		var odd *object.MismatchError
		if errors.As(err, &odd) && odd.Size >= 0 {
			t.pin.withoutRanges()
			t.Log.Info("server does not serve ranges; using one connection", "error", err)
			return nil
		}
		if err != nil {
			return err
		}
	}
	t.Parts.SetSingle(false)
	return nil
}

// checkRangeOnce makes one request. Again means that the pin has learnt from a refusal how to ask better.
func (t *Engine) checkRangeOnce(ctx context.Context, sp span.Span) (again bool, err error) {
	r := t.pin.request(sp)
	a, err := t.send(ctx, r)
	if err == nil {
		a.Body.Close()
		_, err = t.pin.accept(r, a)
		return false, err
	}
	var status *object.StatusError
	if !errors.As(err, &status) {
		return false, err // also the whole object instead of a range, which is what is to be found out
	}
	what, err := t.pin.refused(r, err)
	if what == probeIfMatch {
		err = t.checkCondition(ctx, r, err)
	}
	return err == nil, err
}
