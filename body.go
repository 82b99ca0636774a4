package ossdl

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/ossdl/ossdl/internal/crc64"
)

const (
	bufferSize = 256 << 10             // bytes of one read and one write: they stay in the processor's second cache
	gatherTime = 50 * time.Millisecond // how long what was read may wait for more before it is written
	drainBytes = 256 << 10             // at most this much is read for nothing to keep a connection
)

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
