package ossdl

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ossdl/ossdl/internal/crc64"
)

const (
	gatherTime = 50 * time.Millisecond // how long bytes may wait for more before they are written
	drainBytes = 256 << 10             // at most this much is read and dropped to keep a connection
)

// receive writes a body into the sink, as far as its bytes belong to the part.
func (t *transfer) receive(ctx context.Context, p *part, r request, a *answer, m *meter) error {
	defer a.body.Close()
	pos := t.base + t.set.rest(p).off // in the object
	if !a.partial {
		t.set.extend(p, min(a.end-t.base, t.set.totals().size))
		if err := t.skip(ctx, a, pos-a.off, m); err != nil {
			return err
		}
	}
	buf := t.buffers.get()
	defer t.buffers.put(buf)
	for pos < a.end {
		n, err := t.gather(ctx, a.body, buf[:min(int64(len(buf)), a.end-pos)], m)
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
	case <-t.ready: // checked first: bytes already received are kept even if the request was canceled
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
			if own.size = min(n, own.size); own.size > 0 { // a full disk may have taken some of it
				t.set.advance(p, own, crc64.Update(own.crc, b[:own.size]))
			}
			return false, &sinkError{err}
		}
		whole = t.set.advance(p, own, crc)
		b = b[own.size:]
	}
	return whole, nil
}

// waitForRoom waits, without the request's slot, until the horizon moves. A range that was taken lies before the horizon;
// only the body of a server without ranges reaches it.
func (t *transfer) waitForRoom(ctx context.Context, room <-chan struct{}) error {
	t.lane.release()
	select {
	case <-room:
	case <-ctx.Done():
	}
	return t.lane.reenter(ctx)
}

// sinkError marks an error of the caller's disk or writer, for which no retry helps.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// gather reads until the buffer is full or what it holds has waited long enough. That makes few large writes of many small
// reads: TLS hands out one record at a time.
func (t *transfer) gather(ctx context.Context, body io.Reader, buf []byte, m *meter) (n int, err error) {
	var since time.Duration
	for n < len(buf) && err == nil {
		var k int
		limit := t.lane.readLimit(len(buf) - n)
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

// skip reads and drops n bytes of a body.
func (t *transfer) skip(ctx context.Context, a *answer, n int64, m *meter) error {
	buf := t.buffers.get()
	defer t.buffers.put(buf)
	for n > 0 {
		k, err := t.gather(ctx, a.body, buf[:min(n, int64(len(buf)))], m)
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

// drain reads the rest of a body whose part was cut short, if it is little, so that its connection can be used again.
func (t *transfer) drain(ctx context.Context, a *answer, pos int64, err error, m *meter) error {
	if left := a.end - pos; err == nil && left > 0 && left <= drainBytes {
		// The part is complete: an error only costs the connection.
		_ = t.skip(ctx, a, left, m)
	}
	return nil
}
