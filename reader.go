package ossdl

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/readahead"
)

// Reader reads an object in order while ranges of it are fetched ahead. [Downloader.Open] and [Downloader.OpenURL] make one.
// It must be closed. One goroutine may read at a time; Close, Size and Result may be called from any.
type Reader struct {
	c        *call
	engine   *engine.Engine
	ahead    *readahead.Buffer
	progress *reporter
	cancel   context.CancelCauseFunc // ends the fetching
	detach   func() bool             // from the context that Open was given

	fetched chan struct{} // closed once the fetching has ended
	failed  error         // how it ended; valid once fetched is closed

	reading sync.Mutex              // held while Read or WriteTo runs
	check   func() (verdict, error) // whether what was read is the object, once all of it was read

	decide sync.Once
	ended  chan struct{} // closed once ending is decided
	ending ending
}

// ending is how a Reader ended.
type ending struct {
	err error // what the last Read returns: io.EOF if everything is right
	res *Result
}

var (
	_ io.ReadCloser = (*Reader)(nil)
	_ io.WriterTo   = (*Reader)(nil)
)

// Open returns a [Reader] of the object key of bucket, or of the part of it that [WithRange] asks for.
//
// Ranges are fetched in parallel and read in order. The caller does not notice connections that break or stall. Open waits
// for the first answer. The Reader must be closed.
//
// # Memory
//
// The Reader holds up to [WithReadAhead] bytes. A slow consumer slows the fetching. While the memory is full no request is
// in flight, so other calls of the Downloader continue. With little memory for each connection, round trips make the stream
// slower: if n connections use the whole bandwidth, it needs n + 1 times what one of them delivers in a second to be as
// fast as a download to a file.
//
// # Verification
//
// The last Read returns [io.EOF] only if the whole has the service's CRC-64 and the digest of [WithChecksum]; otherwise it
// returns [ErrChecksum]. The bytes read until then are not verified.
//
// # Errors
//
// Open returns the errors that come instead of the first answer: [ErrNotFound], [ErrObjectChanged], [ErrRange], [ErrArchived],
// [ErrExpired] and the others that [Downloader.Download] names. Later errors come from Read, after the bytes before them. When
// ctx is done before the end, Read returns its error immediately. If Open fails there is no Result; the last report of
// [WithProgress] then says how many requests were made. WithProgress reports the bytes that were read.
func (d *Downloader) Open(ctx context.Context, bucket, key string, opts ...Option) (*Reader, error) {
	c, err := d.bucketCall(ctx, inOpen, "open", bucket, key, opts)
	if err != nil {
		return nil, err
	}
	return c.openReader(ctx)
}

// openReader starts the fetching and waits for the first answer.
func (c *call) openReader(ctx context.Context) (*Reader, error) {
	if err := c.findVersion(ctx); err != nil {
		err = c.withNames(ctx, "", err)
		c.panics.Raise(err)
		return nil, err
	}
	r, err := c.newReader()
	if err != nil {
		return nil, err
	}
	fetching, cancel := context.WithCancelCause(ctx)
	r.cancel = cancel
	c.panics.EndWith(cancel)
	r.progress = startReporter(c.cfg.progress, r.snapshot, c.stats.Downloaded.Load)
	go r.fetch(fetching)
	select {
	case <-r.engine.Began():
	case <-r.fetched:
	}
	r.detach = context.AfterFunc(ctx, func() { r.ahead.Abort(c.withNames(ctx, "", context.Cause(ctx))) })
	if !r.engine.HasBegun() {
		r.finish(verdict{}, r.failed)
		c.panics.Raise(r.failed)
		return nil, r.ending.err
	}
	if size := r.Size(); size >= 0 {
		r.ahead.SetSize(size)
	}
	return r, nil
}

// newReader makes a Reader, with an engine that fetches no more than there is room for.
func (c *call) newReader() (*Reader, error) {
	room, requests := c.divideReadAhead()
	r := &Reader{c: c, ahead: readahead.New(&c.d.buffers, room), fetched: make(chan struct{}), ended: make(chan struct{})}
	r.check = sync.OnceValues(r.verify)
	if c.newHash != nil {
		var err error
		if c.streamHash, err = c.makeHash(); err != nil {
			return nil, c.withNames(context.Background(), "", err)
		}
	}
	config, err := c.engineConfig(r.ahead, nil)
	if err != nil {
		return nil, err
	}
	config.Room, config.MaxRequests = room, requests
	config.Parts.SetVolatile()
	config.Parts.SetHorizon(room)
	r.engine = c.newEngine(config)
	r.ahead.Follow(r.engine.RoomShare, config.Parts.SetHorizon)
	return r, nil
}

// divideReadAhead limits the requests in flight so that their buffers take at most a quarter of the memory. room is how much is
// left for what was fetched and not read, in bytes.
func (c *call) divideReadAhead() (room int64, requests int) {
	requests = max(1, min(c.lane.Ceiling(), int(c.cfg.readAhead/(4*engine.BufferSize))))
	// One buffer more, because the room may begin and end within a block.
	return c.cfg.readAhead - int64(requests+1)*engine.BufferSize, requests
}

// fetch runs in parallel with the reading until everything is fetched, or nothing more can be.
func (r *Reader) fetch(ctx context.Context) {
	defer close(r.fetched)
	if err := r.c.run(ctx, r.engine); err != nil {
		r.failed = r.c.withNames(ctx, "", err)
		r.ahead.Fail(r.failed)
		return
	}
	r.ahead.SetSize(r.Size()) // which is known by now, if not earlier
}

// Read reads up to len(b) bytes, and at least one if b is not empty. It waits only for the first.
//
// After the last byte it returns [io.EOF] if the object is right, and [ErrChecksum] if it is not. After Close it returns
// [os.ErrClosed], and once the context given to Open is done, the error of that context. Other errors are those that ended the
// fetching; they come after the bytes before them. Each later Read returns the same error.
func (r *Reader) Read(b []byte) (n int, err error) {
	r.reading.Lock()
	defer r.reading.Unlock()
	if len(b) == 0 {
		return 0, nil
	}
	next, err := r.ahead.Next()
	for err == nil && len(next) > 0 {
		k := copy(b[n:], next)
		r.consumed(next[:k])
		if n += k; n == len(b) {
			return n, nil
		}
		next, err = r.ahead.TryNext()
	}
	if n > 0 {
		return n, nil // an error comes again
	}
	return 0, r.last(err)
}

// WriteTo writes everything up to the end to w, without another copy in memory. It returns nil if Read would return [io.EOF].
// A slow w slows the fetching.
func (r *Reader) WriteTo(w io.Writer) (n int64, err error) {
	r.reading.Lock()
	defer r.reading.Unlock()
	for {
		next, err := r.ahead.Next()
		if err != nil {
			if err = r.last(err); err == io.EOF {
				err = nil
			}
			return n, err
		}
		k, err := w.Write(next)
		n += int64(k)
		if err == nil && k < len(next) {
			err = io.ErrShortWrite
		}
		r.consumed(next[:k])
		if err != nil {
			return n, err
		}
	}
}

// consumed records that bytes were read. If the hash panics, the reading ends there: to give out the same bytes again would be
// wrong, and so would be a digest without them.
func (r *Reader) consumed(b []byte) {
	if h := r.c.streamHash; h != nil {
		if err := r.c.panics.Guard("the hash of WithChecksum", func() { h.Write(b) }); err != nil {
			err = r.c.withNames(context.Background(), "", err)
			r.ahead.Abort(err)
			_ = r.last(err) // each later Read returns it
		}
	}
	r.ahead.Drop(len(b))
}

// last returns the error of the last Read for the error that ended the reading.
func (r *Reader) last(err error) error {
	switch err {
	case readahead.ErrClosed:
		return fmt.Errorf("ossdl: read %s: %w", r.c.src, os.ErrClosed)
	case io.EOF:
		r.finish(r.check())
	default:
		r.finish(verdict{}, err)
	}
	r.c.panics.Raise(r.ending.err)
	return r.ending.err
}

// verify compares what was read with the object. It returns an error unless they are the same, as far as that can be known.
func (r *Reader) verify() (verdict, error) {
	<-r.fetched // which happens by itself, because all bytes came
	if r.failed != nil {
		return verdict{}, r.failed
	}
	v, err := r.c.verify(context.Background(), r.engine)
	if err == nil {
		err = v.mismatch
	}
	if err != nil {
		return verdict{}, r.c.withNames(context.Background(), "", err)
	}
	return v, nil
}

// finish decides how the Reader ended, unless that is decided already, and reports whether it did. A nil err means that
// everything is right.
func (r *Reader) finish(v verdict, err error) (decided bool) {
	r.decide.Do(func() {
		decided = true
		r.progress.end(err)
		r.detach()
		r.cancel(nil)
		r.c.verdict = v
		r.ending = ending{err, r.c.figures("")}
		if err == nil {
			r.ending.err = io.EOF
		}
		close(r.ended)
	})
	return decided
}

// Close ends the fetching, frees the memory, and returns once nothing of the Reader is running. A Read in progress and all
// later ones return [os.ErrClosed].
//
// Close returns nil, with one exception: if all bytes were read, they are wrong, and no Read has reported that, it returns
// [ErrChecksum]. It may be called more than once. It waits for the last progress report, so the function of [WithProgress]
// must not call it.
func (r *Reader) Close() error {
	unread := r.ahead.Close()
	if unread {
		r.cancel(os.ErrClosed)
	}
	<-r.fetched
	v, err := verdict{}, os.ErrClosed
	if !unread {
		v, err = r.check()
	}
	decided := r.finish(v, err)
	r.ahead.Free()
	r.c.panics.Raise(err)
	if unread || !decided {
		return nil
	}
	return err
}

// Size returns how many bytes there are to read in all. It is -1 as long as that is not known: until everything is fetched, if a
// web server does not say how many there are.
func (r *Reader) Size() int64 {
	if n, known := r.engine.Total(); known {
		return n
	}
	return -1
}

// Result returns what was done. It is nil until the Reader has ended: by [io.EOF], another error, or Close.
func (r *Reader) Result() *Result {
	select {
	case <-r.ended:
		return r.ending.res
	default:
		return nil
	}
}

// snapshot returns the state for a progress report.
func (r *Reader) snapshot() Progress {
	p := r.c.snapshot()
	p.Done = r.ahead.Position()
	return p
}
