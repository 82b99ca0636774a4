package ossdl

import (
	"context"
	"errors"
	"fmt"
)

// send makes one request.
func (t *transfer) send(ctx context.Context, r request) (*answer, error) {
	t.stats.requests.Add(1)
	r.again = &t.stats.requests
	return t.source.get(ctx, r)
}

// open makes requests for a range until there is an answer that can be read, or an error that retries are for. What the pin
// learns from a refusal is tried at once.
func (t *transfer) open(ctx context.Context, sp span) (request, *answer, error) {
	whole := false
	for {
		r := t.pin.request(sp)
		r.whole = r.whole || whole
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
			t.set.setSingle(true)
		}
	}
}

// accept compares an answer with the pin. After an error its body is closed.
func (t *transfer) accept(r request, a *answer) error {
	first, err := t.pin.accept(r, a)
	if err == nil && first {
		err = t.firstAnswer(a)
	}
	if err != nil {
		a.body.Close()
		return err
	}
	if a.partial {
		t.set.setSingle(false) // whatever checkRanges found
	}
	return nil
}

// firstAnswer lays the set out for the object that the pin is fixed to.
func (t *transfer) firstAnswer(a *answer) error {
	if err := t.fit(a.size, a.origin); err != nil {
		return err
	}
	if ranges := t.pin.rangeSupport(); ranges == unsupported || ranges == untried && a.size > 0 {
		t.set.setSingle(true)
	}
	close(t.began)
	return nil
}

// checkUnchanged asks for one byte if the first request of a run would have nothing to fetch: all is there from an earlier
// run, but the object may have changed since.
func (t *transfer) checkUnchanged(ctx context.Context) error {
	_, fixed := t.pin.now()
	if sums := t.set.totals(); fixed || sums.have < sums.size {
		return nil
	}
	return t.tryUntil(ctx, span{0, 1}, func(ctx context.Context) error {
		return t.guard(ctx, watched{}, func(ctx context.Context, _ *meter) error {
			_, a, err := t.open(ctx, span{t.base, t.base + 1})
			if err == nil {
				err = a.body.Close()
			}
			return err
		})
	})
}

// checkCondition asks for one byte without a condition, to learn what a 412 means: a changed object, or a server that takes
// no If-Match together with Range. OSS documents neither.
func (t *transfer) checkCondition(ctx context.Context, r request, refusal error) error {
	r.span, r.ifMatch, r.whole = span{0, 1}, "", false
	a, err := t.send(ctx, r)
	if err != nil {
		var status *statusError
		if !errors.As(err, &status) || !status.gone() {
			return err
		}
		if _, fixed := t.pin.now(); !fixed && t.want.earlier != nil {
			return fmt.Errorf("%w: %w", errStale, err)
		}
		return fmt.Errorf("%w: %w", refusal, err)
	}
	a.body.Close()
	return t.pin.probed(a.facts, refusal)
}

// leastForRanges is the size from which it matters whether a server serves ranges, in bytes: less comes as one body anyway.
const leastForRanges = 1<<20 + 1

// checkRanges finds out whether a server serves ranges at all, after it has answered the first one with the whole object.
// If not, one stream brings everything.
func (t *transfer) checkRanges(ctx context.Context) error {
	if t.set.totals().size < leastForRanges {
		return nil
	}
	f, _ := t.pin.now()
	last := span{f.size - 1, f.size}
	err := t.tryUntil(ctx, span{last.off - t.base, last.end - t.base}, func(ctx context.Context) error {
		return t.checkRange(ctx, last)
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return cause(ctx)
	case errors.Is(err, ErrObjectChanged):
		return err
	}
	t.log.Info("range support unknown; using one connection", "error", err) // the stream under way is left alone
	return nil
}

// checkRange asks for a range until the answer says whether the server serves ranges. What the pin learns from a refusal is
// tried at once.
func (t *transfer) checkRange(ctx context.Context, sp span) error {
	for again := true; again; {
		err := t.guard(ctx, watched{}, func(ctx context.Context, _ *meter) (err error) {
			again, err = t.checkRangeOnce(ctx, sp)
			return err
		})
		var odd *answerError
		if errors.As(err, &odd) && odd.size >= 0 {
			t.pin.withoutRanges()
			t.log.Info("server does not serve ranges; using one connection", "error", err)
			return nil
		}
		if err != nil {
			return err
		}
	}
	t.set.setSingle(false)
	return nil
}

// checkRangeOnce makes one request. Again means that the pin has learnt from a refusal how to ask better.
func (t *transfer) checkRangeOnce(ctx context.Context, sp span) (again bool, err error) {
	r := t.pin.request(sp)
	a, err := t.send(ctx, r)
	if err == nil {
		a.body.Close()
		_, err = t.pin.accept(r, a)
		return false, err
	}
	var status *statusError
	if !errors.As(err, &status) {
		return false, err // also the whole object instead of a range, which is what is to be found out
	}
	what, err := t.pin.refused(r, err)
	if what == probeIfMatch {
		err = t.checkCondition(ctx, r, err)
	}
	return err == nil, err
}
