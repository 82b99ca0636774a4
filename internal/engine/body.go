package engine

import (
	"context"
	"errors"
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

	// A new connection takes some round trips, and so about as long as a first byte. It takes at least the time of a handshake,
	// and at most this: a first byte that comes later waits for the server.
	leastSetup = 10 * time.Millisecond
	mostSetup  = 500 * time.Millisecond
)

// receive writes those bytes of a body that belong to the part into the sink. It returns nil, too, if the body has ended before
// the part, as its answer said.
func (e *Engine) receive(ctx context.Context, p *parts.Part, r object.Request, a *object.Answer, m *Meter) error {
	defer a.Body.Close()
	pos := e.Base + e.Parts.Rest(p).Off // in the object
	if !a.Partial || e.pin.isNameless() {
		// There will be no request for another range.
		e.Parts.Extend(p, min(a.End-e.Base, e.Parts.Totals().Size))
	}
	if a.Off < pos {
		err := e.skipTo(ctx, a, pos, m)
		if errors.Is(err, errEnded) && a.Size == object.UnknownSize && pos == e.Base { // nothing has come yet
			err = outside(fmt.Sprintf("the object ends before offset %d", e.Base), a.Origin)
		}
		if err != nil {
			return err
		}
	}
	var pooled []byte
	defer func() {
		if pooled != nil {
			e.Buffers.Put(pooled)
		}
	}()
	unsure := e.endUnsure(a)
	for pos < a.End {
		end := a.End
		if unsure {
			end = min(end, max(pos+1, e.Base+e.Parts.Rest(p).End)) // what follows is compared
		}
		buf := e.memoryAt(p, pos)
		if buf == nil {
			if pooled == nil {
				pooled = e.Buffers.Get()
			}
			buf = pooled
		}
		n, err := e.gather(ctx, a.Body, buf[:min(int64(len(buf)), end-pos)], m)
		pos += int64(n)
		if unsure && (err == io.EOF || pos == end) {
			if err = e.checkRest(ctx, a, pos, err, m); err != nil { // before the last byte is done, and with it perhaps the run
				return err
			}
			err = io.EOF
		}
		if n > 0 {
			whole, werr := e.store(ctx, p, buf[:n])
			if werr != nil {
				return werr
			}
			if whole {
				return e.drain(ctx, a, pos, err, m)
			}
		}
		if err == io.EOF && a.Size == object.UnknownSize {
			return e.endsAt(pos, a.Origin)
		}
		if err == io.EOF && pos < a.End {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("body of %v: %w", r, object.WithoutURL(err))
		}
	}
	if size, _ := e.pin.size(); size == object.UnknownSize && e.Parts.Rest(p).Len() > 0 {
		return e.endsAt(pos, a.Origin) // this answer says the length
	}
	return nil
}

// memoryAt returns the memory of the sink for the next bytes of the part, which begin at pos in the object. It is nil if the sink
// has none, or another worker could take over what is being read.
func (e *Engine) memoryAt(p *parts.Part, pos int64) []byte {
	s, ok := e.Sink.(memory)
	if !ok || e.Watch == nil {
		return nil
	}
	rest := e.Parts.Rest(p)
	if rest.Off != pos-e.Base || rest.Len() <= 0 {
		return nil
	}
	return s.Memory(rest.Off, min(rest.End, rest.Off+BufferSize))
}

// endUnsure reports whether an answer may be of an object that has another end than the one known: it does not say its length, and
// nothing in it identifies the bytes.
func (e *Engine) endUnsure(a *object.Answer) bool {
	if !a.NoLength || a.Size == object.UnknownSize {
		return false
	}
	f, _ := e.pin.current()
	return !f.Strong()
}

// checkRest reads what follows pos in a body for which endUnsure is true, unless some of it is still to be fetched by another
// request, which checks it then. What is done must be the same, and the body must end where the object is known to. err is that of
// the read up to pos.
func (e *Engine) checkRest(ctx context.Context, a *object.Answer, pos int64, err error, m *Meter) error {
	size := e.Parts.Totals().Size
	want, done := e.Parts.SumFrom(pos - e.Base)
	switch {
	case err != nil && err != io.EOF:
		return fmt.Errorf("body: %w", object.WithoutURL(err))
	case err == io.EOF && pos < a.End:
		return e.another(fmt.Sprintf("the body ends at %d of %d bytes", pos, a.End), a.Origin)
	case err == io.EOF || !done:
		return nil
	}
	got := uint64(0)
	err = e.skip(ctx, a, e.Base+size-pos, m, func(b []byte) { got = crc64.Update(got, b) })
	switch {
	case errors.Is(err, errEnded):
		return e.another(fmt.Sprintf("the body ends before %d bytes", a.End), a.Origin)
	case err != nil:
		return err
	case got != want:
		return e.another("the bytes that follow are not the same", a.Origin)
	case e.Base+size < a.End: // a range was asked for, whatever is behind it
		return nil
	}
	switch err := e.skip(ctx, a, 1, m, func([]byte) {}); {
	case err == nil:
		return e.another(fmt.Sprintf("the body goes on after %d bytes", a.End), a.Origin)
	case !errors.Is(err, errEnded):
		return err
	}
	return nil
}

// checkWhole is checkRest for a run that has nothing to fetch.
func (e *Engine) checkWhole(ctx context.Context, a *object.Answer, m *Meter) error {
	err := e.skip(ctx, a, e.Base-a.Off, m, func([]byte) {})
	if errors.Is(err, errEnded) {
		return e.another(fmt.Sprintf("the body ends before offset %d", e.Base), a.Origin)
	}
	if err != nil {
		return err
	}
	return e.checkRest(ctx, a, e.Base, nil, m)
}

// another returns the error of an answer that is of another object than the one known, although nothing in its headers says so.
func (e *Engine) another(why string, by object.Origin) error {
	if e.Want.Earlier != nil {
		return fmt.Errorf("%w: %s", ErrStale, why)
	}
	return changed(why, by)
}

// endsAt records that the object ends at pos, as a body of unknown length has shown that was the whole object.
func (e *Engine) endsAt(pos int64, by object.Origin) error {
	if err := e.fit(pos, by); err != nil {
		return err
	}
	e.pin.learnSize(pos)
	return nil
}

// store hashes and writes bytes at the part's position. It reports whether the part has all it needs.
func (e *Engine) store(ctx context.Context, p *parts.Part, b []byte) (whole bool, err error) {
	select {
	case <-e.ready: // checked first: bytes already received are kept even if the request was canceled
	default:
		select {
		case <-e.ready:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	for len(b) > 0 && !whole {
		own := e.Parts.Hold(p, len(b))
		if own.Room != nil {
			if err := e.waitForRoom(ctx, own.Room); err != nil {
				return false, err
			}
			continue
		}
		if own.Size == 0 {
			return true, nil
		}
		crc := crc64.Update(own.CRC, b[:own.Size])
		n, err := e.Sink.WriteAt(b[:own.Size], own.Off)
		if err == nil && n < own.Size {
			err = io.ErrShortWrite
		}
		if err != nil {
			if own.Size = min(n, own.Size); own.Size > 0 { // a full disk may have accepted some of it
				e.Parts.Advance(p, own, crc64.Update(own.CRC, b[:own.Size]))
			}
			return false, &sinkError{err}
		}
		whole = e.Parts.Advance(p, own, crc)
		b = b[own.Size:]
	}
	return whole, nil
}

// waitForRoom waits, without the slot of the request, until the horizon moves. Parts are taken below the horizon, so only
// the body of a server without ranges reaches it.
func (e *Engine) waitForRoom(ctx context.Context, room <-chan struct{}) error {
	e.Lane.Release()
	select {
	case <-room:
	case <-ctx.Done():
	}
	return e.Lane.Reenter(ctx)
}

// sinkError marks an error of the caller's disk or writer, for which no retry helps.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// gather reads until the buffer is full or its bytes have waited for gatherTime. That turns many small reads into few large
// writes: TLS returns one record at a time.
func (e *Engine) gather(ctx context.Context, body io.Reader, buf []byte, m *Meter) (n int, err error) {
	begun := m.age()
	n, err = e.fill(ctx, body, buf, m)
	e.strain.gathered(n, len(buf), m.age()-begun)
	return n, err
}

// fill is gather.
func (e *Engine) fill(ctx context.Context, body io.Reader, buf []byte, m *Meter) (n int, err error) {
	var since time.Duration
	for n < len(buf) && err == nil {
		var k int
		limit := e.Lane.ReadLimit(len(buf) - n)
		m.waits()
		k, err = body.Read(buf[n : n+limit])
		now := m.got(k)
		if k > 0 && m.first.Load() == 0 {
			m.first.Store(int64(now))
			e.observeFirstByte(now)
		}
		n += k
		e.count(k)
		if lerr := e.Lane.Throttle(ctx, k); lerr != nil {
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

func (e *Engine) count(n int) {
	e.Stats.Downloaded.Add(int64(n))
	e.Gate.Received(n)
}

// skipTo reads the bytes of a body up to pos, which are done already. If nothing identifies the object, or no more than a time
// or a weak ETag without a size in this answer, they must be the same as before: only then is what follows of the same object.
func (e *Engine) skipTo(ctx context.Context, a *object.Answer, pos int64, m *Meter) error {
	if f, _ := e.pin.current(); f.Strong() || !f.Nameless() && f.Size != object.UnknownSize && !a.NoLength {
		return e.skip(ctx, a, pos-a.Off, m, func([]byte) {})
	}
	if err := e.skip(ctx, a, e.Base-a.Off, m, func([]byte) {}); err != nil {
		return err
	}
	got := uint64(0)
	err := e.skip(ctx, a, pos-max(a.Off, e.Base), m, func(b []byte) { got = crc64.Update(got, b) })
	if errors.Is(err, errEnded) && e.endUnsure(a) {
		return e.another(fmt.Sprintf("the body ends before %d bytes", pos), a.Origin)
	}
	if err != nil {
		return err
	}
	if want, done := e.Parts.SumTo(pos - e.Base); !done || got != want {
		return e.another("the bytes before the break are not the same", a.Origin)
	}
	return nil
}

// errEnded says that a body has ended before the bytes that were wanted of it.
var errEnded = fmt.Errorf("it has ended: %w", io.ErrUnexpectedEOF)

// skip reads n bytes of a body and passes them to see.
func (e *Engine) skip(ctx context.Context, a *object.Answer, n int64, m *Meter, see func([]byte)) error {
	buf := e.Buffers.Get()
	defer e.Buffers.Put(buf)
	for n > 0 {
		k, err := e.gather(ctx, a.Body, buf[:min(n, int64(len(buf)))], m)
		n -= int64(k)
		see(buf[:k])
		if n > 0 && err != nil {
			if err == io.EOF {
				err = errEnded
			}
			return fmt.Errorf("body: %w", object.WithoutURL(err))
		}
	}
	return nil
}

// drain reads the rest of a body whose part was cut short, so that its connection can be reused, if that is little, and comes
// sooner than a new connection would. If it does not come as soon as the bytes before let expect, the connection is given up.
func (e *Engine) drain(ctx context.Context, a *object.Answer, pos int64, err error, m *Meter) error {
	left := a.End - pos
	setup := min(max(leastSetup, time.Duration(e.firstByte.Load())), mostSetup)
	if err != nil || left <= 0 || left > drainBytes || m.timeFor(left) > setup {
		return nil
	}
	giveUp := time.AfterFunc(setup, func() { m.cancel(errTaken) })
	defer giveUp.Stop()
	// The part is complete: an error only costs the connection.
	_ = e.skip(ctx, a, left, m, func([]byte) {})
	return nil
}
