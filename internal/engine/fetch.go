package engine

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/parts"
	"github.com/ossdl/ossdl/internal/slots"
	"github.com/ossdl/ossdl/internal/span"
)

const (
	// progressUnit is how many bytes a request must deliver, or all that it asked for if that is less, to reset the count
	// of attempts.
	progressUnit = 64 << 10
	// maxReplaced bounds how often in a row a slow connection is replaced without progress.
	maxReplaced = 2
)

// fetch takes a part and fetches it, with as many requests as that needs. Each has a slot while it lasts. The part is nil if
// there was none to take.
func (e *Engine) fetch(ctx context.Context) (*parts.Part, error) {
	var p *parts.Part
	tries := e.tries.begin()
	slow := 0       // in a row, without progress
	var short int64 // bytes of answers with less than was asked for, since the last progress
	for {
		if err := e.tries.acquire(ctx); err != nil {
			return p, ignoring(err, errFinished)
		}
		e.tries.started(&tries)
		if p == nil {
			p = e.take()
		}
		got := e.attempt(ctx, p, slow < maxReplaced)
		crowd := slots.Alone
		if got.unanswered {
			crowd = e.tries.crowded(&tries, got.err)
		} else {
			tries.mark = e.Gate.Mark() // what this request received is not of others
		}
		e.Lane.Release()
		if got.silent && crowd != slots.CrowdedOut {
			e.Parts.Trim(p, e.dog.care.stalled(got.left.Len(), got.stall))
		}
		if short += got.short; got.progress || short >= progressUnit {
			tries, slow, short = e.tries.begin(), 0, 0
		}
		switch got.end {
		case allFetched:
			return p, nil
		case runEnded:
			return p, cause(ctx)
		case tooSlow:
			slow++
		case urlExpired: // the next acquire waits for a new one
		case answeredShort: // the rest is asked for. Counted, since a server may send next to nothing each time.
			if err := e.again(ctx, &tries, got, errShort); err != nil {
				return p, ignoring(err, errFinished)
			}
		case objectResized:
			// Counted, since a server may report another size each time.
			if err := e.again(ctx, &tries, got, got.err); err != nil {
				return p, ignoring(err, errFinished)
			}
			if err := e.fit(got.resized.size, got.resized.Origin); err != nil {
				return p, err
			}
		case requestFailed:
			if !got.progress && crowd != slots.CrowdedOut {
				tries.fails++
			}
			if crowd, err := e.tries.judge(ctx, &tries, crowd, got.err); err != nil {
				return p, ignoring(err, errFinished)
			} else if e.tries.final(got.err, tries, crowd) {
				return p, e.partError(got.left, tries.fails, got.err)
			}
			if err := e.tries.wait(ctx, tries, got.err, e.about(got.left)...); err != nil {
				return p, ignoring(err, errFinished)
			}
		}
	}
}

// unpaused is how many answers in a row may bring a part no further before there is a pause after each.
const unpaused = 4

// again counts an answer after which the rest of a part is asked for at once. A server that goes on like that is given a pause,
// and in the end an error.
func (e *Engine) again(ctx context.Context, tries *streak, got attemptResult, err error) error {
	if tries.fails++; tries.fails > e.Retry.Attempts || e.tries.left(*tries) == 0 {
		return e.partError(got.left, tries.fails, err)
	}
	if tries.fails <= unpaused {
		return nil
	}
	return e.tries.pause(ctx, *tries)
}

// attemptEnd is how an attempt ended.
type attemptEnd uint8

const (
	allFetched    attemptEnd = iota // nothing of the part is left to fetch
	runEnded                        // ctx is done
	tooSlow                         // the connection must be replaced
	urlExpired                      // the URL must be renewed
	answeredShort                   // the answer ended before the range, as it said
	objectResized                   // the object ends before the range does
	requestFailed
)

// errShort ends a part for which a server sends next to nothing in each answer.
var errShort = errors.New("each answer has only a few of the bytes asked for")

// attemptResult is what an attempt at a part achieved.
type attemptResult struct {
	end        attemptEnd
	progress   bool          // enough came to reset the count of attempts
	unanswered bool          // it failed without an answer, or stalled without a byte of it, and not because the run ended
	silent     bool          // it stalled without a byte
	short      int64         // bytes that came, if it was answered short
	stall      time.Duration // that it was given
	left       span.Span     // what is still to be fetched
	err        error
	resized    *clampError
}

// attempt makes one request for the rest of a part. A nil part has nothing left.
func (e *Engine) attempt(ctx context.Context, p *parts.Part, replaceable bool) attemptResult {
	if p == nil {
		return attemptResult{end: allFetched}
	}
	before := e.Parts.Rest(p)
	if before.Len() <= 0 {
		return attemptResult{end: allFetched}
	}
	m := &Meter{watched: watched{p, replaceable}}
	answered, err := e.fetchOnce(ctx, m, before)
	left := e.Parts.Rest(p)
	got := attemptResult{
		left: left, err: err, progress: left.Off-before.Off >= min(progressUnit, before.Len()),
		unanswered: (!answered || m.silent(err)) && ctx.Err() == nil, silent: m.silent(err), stall: m.stall,
	}
	switch {
	case left.Len() <= 0:
		got.end = allFetched
	case ctx.Err() != nil:
		got.end = runEnded
	case err == nil:
		got.end, got.short = answeredShort, left.Off-before.Off
	default:
		got.end, got.resized = e.failed(err)
	}
	return got
}

// failed says how an attempt ended whose request failed.
func (e *Engine) failed(err error) (attemptEnd, *clampError) {
	var resized *clampError
	switch {
	case errors.As(err, &resized):
		return objectResized, resized
	case errors.Is(err, errSlow):
		return tooSlow, nil
	case e.tries.expired(err):
		return urlExpired, nil
	}
	return requestFailed, nil
}

// fetchOnce makes one request for bytes of a part and writes what arrives. It reports whether there was an answer to read.
func (e *Engine) fetchOnce(ctx context.Context, m *Meter, sp span.Span) (answered bool, err error) {
	err = e.guard(ctx, m, func(ctx context.Context, m *Meter) error {
		r, a, err := e.open(ctx, span.Span{Off: e.Base + sp.Off, End: e.Base + sp.End})
		m.got(0)
		if err != nil {
			return err
		}
		answered = true
		if e.Watch != nil { // nobody else prepares the sink
			if err := e.begin(); err != nil {
				a.Body.Close()
				return &sinkError{err}
			}
		}
		return e.receive(ctx, m.part, r, a, m)
	})
	return answered, err
}

// tryUntil calls once until it succeeds, and otherwise returns the error of the range.
func (e *Engine) tryUntil(ctx context.Context, sp span.Span, once func(context.Context) error) error {
	attempts, err := e.tries.TryUntil(ctx, once, e.about(sp)...)
	if attempts > 0 {
		return e.partError(sp, attempts, err)
	}
	return err
}

// about returns the pairs that name a range in a log line.
func (e *Engine) about(sp span.Span) []any {
	sp = e.inObject(sp)
	return []any{"offset", sp.Off, "bytes", sp.Len()}
}

// partError adds its range to an error. Before the object is known there is no range to name, unless attempts ran out. An
// error of the sink is returned as it is.
func (e *Engine) partError(sp span.Span, attempts int, err error) error {
	var local *sinkError
	if errors.As(err, &local) {
		return local.err
	}
	if _, fixed := e.pin.size(); !fixed && !object.Retryable(err) || errors.Is(err, ErrStale) {
		return err
	}
	return e.RangeError(e.inObject(sp), max(1, attempts), err)
}

// inObject returns the span of the object that a span of the map is. Its length is -1 if nobody knows where the object ends.
func (e *Engine) inObject(sp span.Span) span.Span {
	sp = span.Span{Off: e.Base + sp.Off, End: e.Base + sp.End}
	if _, known := e.Total(); !known && e.HasBegun() {
		sp.End = sp.Off - 1
	}
	return sp
}

// unknownLength is how many bytes the map has as long as nobody knows how many there are. No object has that many.
const unknownLength = 1 << 62

// fitUnknown resizes the map to an object whose end is not known yet.
func (e *Engine) fitUnknown() {
	length := e.Length
	if length < 0 {
		length = min(unknownLength, math.MaxInt64-e.Base)
	}
	e.Parts.Resize(length)
}

// fit resizes the map to the size of the object, which an answer has reported.
func (e *Engine) fit(size int64, by object.Origin) error {
	length := e.Length
	if length < 0 {
		length = size - e.Base
	}
	switch {
	case size == 0 && e.Base == 0 && e.Length < 0:
	case e.Base >= size || length > size-e.Base:
		return outside(fmt.Sprintf("offset %d, length %d of %d bytes", e.Base, e.Length, size), by)
	}
	e.Parts.Resize(length)
	return nil
}

// outside returns the error of a range that is not within the object.
func outside(why string, by object.Origin) error {
	return &object.PermanentError{Err: &object.FindingError{Means: object.ErrRange, Why: why, Origin: by}}
}
