package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/parts"
	"github.com/ossdl/ossdl/internal/span"
)

const (
	// ProgressUnit is how many bytes a request must deliver, or all it asked for if that is less, to reset the count of
	// attempts.
	ProgressUnit = 64 << 10
	// maxReplaced bounds how often in a row a slow connection is replaced by one that brings nothing either.
	maxReplaced = 2
)

// fetch takes a part and fetches it, over as many connections as it needs. Each has a slot while it lasts. The part is nil
// if there was none to take.
func (t *Engine) fetch(ctx context.Context) (*parts.Part, error) {
	var p *parts.Part
	var fails, slow int // in a row, without progress
	for {
		if err := t.tries.acquire(ctx); err != nil {
			return p, ignoring(err, errFinished)
		}
		if p == nil {
			p = t.take()
		}
		got := t.attempt(ctx, p, slow < maxReplaced)
		t.Lane.Release()
		if got.progress {
			fails, slow = 0, 0
		}
		switch got.end {
		case allFetched:
			return p, nil
		case runEnded:
			return p, cause(ctx)
		case tooSlow:
			slow++
		case keyExpired: // the next acquire waits for another one
		case objectResized:
			// A server may say so each time.
			if fails++; fails > t.Retry.Attempts {
				return p, t.partError(got.left, fails, got.err)
			}
			if err := t.fit(got.resized.size, got.resized.Origin); err != nil {
				return p, err
			}
		case requestFailed:
			if !got.progress {
				fails++
			}
			if t.tries.final(got.err, fails) {
				return p, t.partError(got.left, fails, got.err)
			}
			if err := t.tries.wait(ctx, fails, got.err, t.about(got.left)...); err != nil {
				return p, ignoring(err, errFinished)
			}
		}
	}
}

// attemptEnd is how an attempt ended.
type attemptEnd uint8

const (
	allFetched    attemptEnd = iota // nothing of the part is left to fetch
	runEnded                        // ctx is done
	tooSlow                         // the connection is to be replaced
	keyExpired                      // the URL is to be renewed
	objectResized                   // the object ends before the range does
	requestFailed
)

// attemptResult is what an attempt at a part achieved.
type attemptResult struct {
	end      attemptEnd
	progress bool      // enough came to begin counting attempts anew
	left     span.Span // what is still to be fetched
	err      error
	resized  *ClampError
}

// attempt makes one request for the rest of a part. Nil is done.
func (t *Engine) attempt(ctx context.Context, p *parts.Part, replaceable bool) attemptResult {
	if p == nil {
		return attemptResult{end: allFetched}
	}
	before := t.Parts.Rest(p)
	if before.Len() <= 0 {
		return attemptResult{end: allFetched}
	}
	err := t.request(ctx, watched{p, replaceable}, before)
	left := t.Parts.Rest(p)
	got := attemptResult{left: left, err: err, progress: left.Off-before.Off >= min(ProgressUnit, before.Len())}
	switch {
	case left.Len() <= 0:
		got.end = allFetched
	case ctx.Err() != nil:
		got.end = runEnded
	case errors.As(err, &got.resized):
		got.end = objectResized
	case errors.Is(err, errSlow):
		got.end = tooSlow
	case t.tries.expired(err):
		got.end = keyExpired
	default:
		got.end = requestFailed
	}
	return got
}

// request makes one request for bytes of a part and writes what comes.
func (t *Engine) request(ctx context.Context, what watched, sp span.Span) error {
	return t.guard(ctx, what, func(ctx context.Context, m *Meter) error {
		r, a, err := t.open(ctx, span.Span{Off: t.Base + sp.Off, End: t.Base + sp.End})
		m.Got(0)
		if err != nil {
			return err
		}
		t.observeFirstByte(m.age())
		return t.receive(ctx, m.part, r, a, m)
	})
}

// tryUntil makes the requests of once until one succeeds, with the error of a part if none does.
func (t *Engine) tryUntil(ctx context.Context, sp span.Span, once func(context.Context) error) error {
	attempts, err := t.tries.TryUntil(ctx, once, t.about(sp)...)
	if attempts > 0 {
		return t.partError(sp, attempts, err)
	}
	return err
}

// about says of which bytes a log line is.
func (t *Engine) about(sp span.Span) []any {
	return []any{"offset", t.Base + sp.Off, "bytes", sp.Len()}
}

// partError names the range of an error. Before the object is known there is no range to speak of, unless attempts ran out.
// Errors of the sink are about the sink.
func (t *Engine) partError(sp span.Span, attempts int, err error) error {
	var local *sinkError
	if errors.As(err, &local) {
		return local.err
	}
	if _, fixed := t.pin.current(); !fixed && !object.Retryable(err) || errors.Is(err, ErrStale) {
		return err
	}
	return t.RangeError(span.Span{Off: t.Base + sp.Off, End: t.Base + sp.End}, max(1, attempts), err)
}

// fit gives the set the size that the object has by an answer.
func (t *Engine) fit(size int64, by object.Origin) error {
	length := t.Length
	if length < 0 {
		length = size - t.Base
	}
	switch {
	case size == 0 && t.Base == 0 && t.Length < 0:
	case t.Base >= size || length > size-t.Base:
		return &object.PermanentError{Err: &object.FindingError{Means: object.ErrRange, Why: fmt.Sprintf("offset %d, length %d of %d bytes", t.Base, t.Length, size), Origin: by}}
	}
	t.Parts.Resize(length)
	return nil
}
