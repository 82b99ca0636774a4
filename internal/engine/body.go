package engine

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/parts"
)

const (
	gatherTime = 50 * time.Millisecond // how long bytes may wait for more before they are written
	drainBytes = 256 << 10             // at most this much is read and dropped to keep a connection
)

// receive writes a body into the sink, as far as its bytes belong to the part.
func (t *Engine) receive(ctx context.Context, p *parts.Part, r object.Request, a *object.Answer, m *Meter) error {
	defer a.Body.Close()
	pos := t.Base + t.Parts.Rest(p).Off // in the object
	if !a.Partial {
		t.Parts.Extend(p, min(a.End-t.Base, t.Parts.Totals().Size))
		if err := t.skip(ctx, a, pos-a.Off, m); err != nil {
			return err
		}
	}
	buf := t.Buffers.Get()
	defer t.Buffers.Put(buf)
	for pos < a.End {
		n, err := t.gather(ctx, a.Body, buf[:min(int64(len(buf)), a.End-pos)], m)
		pos += int64(n)
		if n > 0 {
			whole, werr := t.store(ctx, p, buf[:n])
			if werr != nil {
				return werr
			}
			if whole {
				return t.drain(ctx, a, pos, err, m)
			}
		}
		if err == io.EOF && pos < a.End {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("body of %v: %w", r, object.WithoutURL(err))
		}
	}
	return nil
}

// store hashes and writes bytes at the part's position. It reports whether the part has all it needs.
func (t *Engine) store(ctx context.Context, p *parts.Part, b []byte) (whole bool, err error) {
	select {
	case <-t.ready: // checked first: bytes already received are kept even if the request was canceled
	default:
		select {
		case <-t.ready:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	for len(b) > 0 && !whole {
		own := t.Parts.Hold(p, len(b))
		if own.Room != nil {
			if err := t.waitForRoom(ctx, own.Room); err != nil {
				return false, err
			}
			continue
		}
		if own.Size == 0 {
			return true, nil
		}
		crc := crc64.Update(own.CRC, b[:own.Size])
		n, err := t.Sink.WriteAt(b[:own.Size], own.Off)
		if err == nil && n < own.Size {
			err = io.ErrShortWrite
		}
		if err != nil {
			if own.Size = min(n, own.Size); own.Size > 0 { // a full disk may have taken some of it
				t.Parts.Advance(p, own, crc64.Update(own.CRC, b[:own.Size]))
			}
			return false, &sinkError{err}
		}
		whole = t.Parts.Advance(p, own, crc)
		b = b[own.Size:]
	}
	return whole, nil
}

// waitForRoom waits, without the request's slot, until the horizon moves. A range that was taken lies before the horizon;
// only the body of a server without ranges reaches it.
func (t *Engine) waitForRoom(ctx context.Context, room <-chan struct{}) error {
	t.Lane.Release()
	select {
	case <-room:
	case <-ctx.Done():
	}
	return t.Lane.Reenter(ctx)
}

// sinkError marks an error of the caller's disk or writer, for which no retry helps.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// gather reads until the buffer is full or what it holds has waited long enough. That makes few large writes of many small
// reads: TLS hands out one record at a time.
func (t *Engine) gather(ctx context.Context, body io.Reader, buf []byte, m *Meter) (n int, err error) {
	var since time.Duration
	for n < len(buf) && err == nil {
		var k int
		limit := t.Lane.ReadLimit(len(buf) - n)
		m.Waits()
		k, err = body.Read(buf[n : n+limit])
		now := m.Got(k)
		n += k
		t.count(k)
		if lerr := t.Lane.Throttle(ctx, k); lerr != nil {
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

func (t *Engine) count(n int) {
	t.Stats.Downloaded.Add(int64(n))
	t.Gate.Received(n)
}

// skip reads and drops n bytes of a body.
func (t *Engine) skip(ctx context.Context, a *object.Answer, n int64, m *Meter) error {
	buf := t.Buffers.Get()
	defer t.Buffers.Put(buf)
	for n > 0 {
		k, err := t.gather(ctx, a.Body, buf[:min(n, int64(len(buf)))], m)
		n -= int64(k)
		if n > 0 && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("body: %w", object.WithoutURL(err))
		}
	}
	return nil
}

// drain reads the rest of a body whose part was cut short, if it is little, so that its connection can be used again.
func (t *Engine) drain(ctx context.Context, a *object.Answer, pos int64, err error, m *Meter) error {
	if left := a.End - pos; err == nil && left > 0 && left <= drainBytes {
		// The part is complete: an error only costs the connection.
		_ = t.skip(ctx, a, left, m)
	}
	return nil
}
