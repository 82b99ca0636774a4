package ossdl

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
)

// Reader reads an object in order while ranges of it are fetched ahead; Open and OpenURL make one. One goroutine may read
// at a time; Close, Size and Result may be called from any.
type Reader struct {
	c     *call
	t     *transfer
	ahead *readAhead
	size  int64

	cancel  context.CancelCauseFunc
	fetched chan struct{}       // closed once nothing of the fetching runs any more
	failed  error               // how the fetching ended; read after fetched
	end     func(complete bool) // of the progress reports
	unhook  func() bool         // from the context that Open was given

	reading sync.Mutex // held by whoever reads

	once  sync.Once     // over the end
	over  chan struct{} // closed at the end, when what follows is set
	ended error         // what the last Read returns
	res   *Result
}

var (
	_ io.ReadCloser = (*Reader)(nil)
	_ io.WriterTo   = (*Reader)(nil)
)

// Open returns a reader of the object key of bucket, or of the part of it that WithRange asks for. Ranges are fetched in
// parallel, within WithReadAhead bytes of memory: a slow reader slows the fetching, and while the memory is full no
// request is in flight, so that other calls of the Downloader go on. With little memory for each connection, round trips
// show: where it takes n connections to fill the line, n + 1 times what one of them brings in a second make a stream as
// fast as a file.
//
// Bytes come in order, once each; connections that break or stall go unnoticed. The verdict comes with the last Read: it
// is io.EOF only if the whole has the service's CRC-64 and the digest of WithChecksum, and ErrChecksum otherwise. What was
// read until then is unproved. WithProgress reports the bytes read.
//
// Open waits for the first answer, and returns the errors that come instead of it: ErrNotFound, ErrObjectChanged,
// ErrRange, ErrArchived, ErrExpired and the others that Download names. Later ones come from Read, after the bytes before
// them. Without a Reader there is no Result: the last report of WithProgress says then how much was tried. When ctx is
// done before the end, Read returns its error at once. The Reader must be closed.
func (d *Downloader) Open(ctx context.Context, bucket, key string, opts ...Option) (*Reader, error) {
	cfg, err := d.cfg.with(inOpen, opts)
	if err != nil {
		return nil, fmt.Errorf("ossdl: open %s: %w", objectName(bucket, key), err)
	}
	src, err := d.bucketSource(bucket, key, &cfg)
	if err != nil {
		return nil, fmt.Errorf("ossdl: open %s: %w", objectName(bucket, key), err)
	}
	return d.newCall(src, cfg).toReader(ctx)
}

// toReader is the story of a stream up to the first answer; Read and Close tell the rest.
func (c *call) toReader(ctx context.Context) (*Reader, error) {
	room, requests := c.divideReadAhead()
	r := &Reader{c: c, ahead: newReadAhead(&c.d.buffers, room), fetched: make(chan struct{}), over: make(chan struct{})}
	if c.cfg.newHash != nil {
		c.passing = c.cfg.newHash()
	}
	cfg, err := c.configure(r.ahead, nil)
	if err != nil {
		return nil, err
	}
	cfg.room, cfg.maxRequests = room, requests
	cfg.set.setVolatile()
	cfg.set.setHorizon(room)
	r.t = c.newTransfer(cfg)
	r.ahead.step, r.ahead.moved = r.t.roomShare, cfg.set.setHorizon

	var fetching context.Context
	fetching, r.cancel = context.WithCancelCause(ctx)
	r.end = report(c.cfg.progress, r.look, c.stats.downloaded.Load)
	go r.fetch(fetching)
	select {
	case <-r.t.began:
	case <-r.fetched:
	}
	r.unhook = context.AfterFunc(ctx, func() { r.ahead.abort(c.named(ctx, "", context.Cause(ctx))) })
	if !r.t.hasBegun() {
		return nil, r.conclude(func() error { return r.failed })
	}
	r.size = r.t.set.totals().size
	r.ahead.setSize(r.size)
	return r, nil
}

// divideReadAhead bounds the requests so that their buffers take no more than a quarter of the memory, and returns how much
// is left for what was fetched and not read.
func (c *call) divideReadAhead() (room int64, requests int) {
	requests = max(1, min(c.lane.ceiling(), int(c.cfg.readAhead/(4*bufferSize))))
	return c.cfg.readAhead - int64(requests+1)*bufferSize, requests // and one, since room may begin and end within a block
}

// fetch runs beside the reading until all is fetched, or nothing more can be.
func (r *Reader) fetch(ctx context.Context) {
	defer close(r.fetched)
	if err := r.t.run(ctx); err != nil {
		r.failed = r.c.named(ctx, "", err)
		r.ahead.fail(r.failed)
	}
}

// Read reads up to len(b) bytes, at least one, waiting for the first alone. Errors: io.EOF after the last byte of an object
// that is right, ErrChecksum after that of one that is not, os.ErrClosed after Close, and what ended the fetching.
func (r *Reader) Read(b []byte) (n int, err error) {
	r.reading.Lock()
	defer r.reading.Unlock()
	for n < len(b) {
		next, err := r.ahead.next(n == 0)
		if n > 0 && len(next) == 0 {
			return n, nil
		}
		if err != nil {
			return 0, r.last(err)
		}
		k := copy(b[n:], next)
		r.read(next[:k])
		n += k
	}
	return n, nil
}

// WriteTo writes to w what there is to read, up to the end, without another copy. It returns nil where Read would return
// io.EOF. A slow w slows the fetching.
func (r *Reader) WriteTo(w io.Writer) (n int64, err error) {
	r.reading.Lock()
	defer r.reading.Unlock()
	for {
		next, err := r.ahead.next(true)
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
		r.read(next[:k])
		if err != nil {
			return n, err
		}
	}
}

// read is told of bytes that were read.
func (r *Reader) read(b []byte) {
	if r.c.passing != nil {
		r.c.passing.Write(b)
	}
	r.ahead.drop(len(b))
}

// last is the error of the last Read: the verdict, where all bytes were read.
func (r *Reader) last(err error) error {
	switch err {
	case io.EOF:
		return r.conclude(r.verdict)
	case errClosed:
		return fmt.Errorf("ossdl: read %s: %w", r.c.src, os.ErrClosed)
	}
	return r.conclude(func() error { return err })
}

// verdict says whether what was read is the object.
func (r *Reader) verdict() error {
	<-r.fetched // all bytes came, so that it ends by itself
	if r.failed != nil {
		return r.failed
	}
	wrong, _, err := r.c.verify(context.Background(), r.t)
	if err == nil {
		err = wrong
	}
	if err != nil {
		err = r.c.named(context.Background(), "", err)
	}
	return err
}

// conclude ends the Reader, once, with the outcome then. It returns what the last Read returns.
func (r *Reader) conclude(outcome func() error) error {
	r.once.Do(func() {
		err := outcome()
		r.end(err == nil)
		r.unhook()
		r.cancel(nil)
		r.res = r.c.figures("")
		if r.ended = err; err == nil {
			r.ended = io.EOF
		}
		close(r.over)
	})
	return r.ended
}

// Close ends the fetching, frees the memory, and returns when nothing of the Reader runs any more. A Read under way
// returns os.ErrClosed, as does each that follows. Close returns nil, but for one case: where all bytes were read, and no
// Read was left to say that they are wrong, it returns ErrChecksum. More than one Close does no harm. It waits for the last
// progress report, so the function of WithProgress must not call it.
func (r *Reader) Close() (err error) {
	unread := r.ahead.abort(errClosed)
	if unread {
		r.cancel(os.ErrClosed)
	}
	<-r.fetched
	r.conclude(func() error {
		if unread {
			return os.ErrClosed
		}
		err = r.verdict()
		return err
	})
	r.ahead.free()
	return err
}

// Size is how many bytes there are to read in all.
func (r *Reader) Size() int64 { return r.size }

// Result tells what was done. It is nil until the Reader has come to its end: by io.EOF, another error or Close.
func (r *Reader) Result() *Result {
	select {
	case <-r.over:
		return r.res
	default:
		return nil
	}
}

// look is the state for a progress report.
func (r *Reader) look() Progress {
	p := r.c.look()
	p.Done = r.ahead.position()
	return p
}
