package ossdl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync/atomic"
)

// DownloadTo writes the object key of bucket to w, from w's offset 0 on; WithRange asks for a part of it. All that
// Download promises holds but one thing: nothing is resumed by a later call, and after an error w holds some of the bytes,
// not in order.
//
// WriteAt is called by several goroutines at once, with ranges that do not overlap, up to 256 KiB each, and no more once
// DownloadTo has returned. Every byte is written once, unless the whole has another CRC-64 than the service says: then all
// of them are written once more, and after a second mismatch the call fails with ErrChecksum. A w that holds something
// already keeps what lies behind the object's bytes. An error of WriteAt ends the call and is what errors.Is and errors.As
// find; a short write without one is io.ErrShortWrite. A panic in WriteAt is raised again in the caller's goroutine.
// WithChecksum reads the bytes back: it needs a w that is also an io.ReaderAt, for a file one that was opened for reading
// too. Closing or syncing w is the caller's business.
//
// The call ends with ctx, promptly. Result.Path is "". Errors: those of Download, without ErrInUse and ErrNoSpace.
func (d *Downloader) DownloadTo(ctx context.Context, bucket, key string, w io.WriterAt, opts ...Option) (*Result, error) {
	cfg, err := d.cfg.with(inDownloadTo, opts)
	if err != nil {
		return nil, fmt.Errorf("ossdl: download %s: %w", objectName(bucket, key), err)
	}
	to, err := newWriterSink(w, &cfg)
	if err != nil {
		return nil, fmt.Errorf("ossdl: download %s: %w", objectName(bucket, key), err)
	}
	src, err := d.bucketSource(bucket, key, &cfg)
	if err != nil {
		return nil, fmt.Errorf("ossdl: download %s: %w", objectName(bucket, key), err)
	}
	return d.newCall(src, cfg).toWriter(ctx, to)
}

// toWriter is the story of a download to a writer.
func (c *call) toWriter(ctx context.Context, to *writerSink) (*Result, error) {
	cfg, err := c.configure(to, nil)
	if err != nil {
		return c.result(ctx, "", err)
	}
	cfg.set.setVolatile()
	cfg.disk = to.read
	t := c.newTransfer(cfg)
	end := report(c.cfg.progress, c.look, c.stats.downloaded.Load)
	err = c.fetchVerified(ctx, t)
	end(err == nil)
	if p := to.panicked.Load(); p != nil { // whatever else has ended the call
		panic(p)
	}
	return c.result(ctx, "", err)
}

// writerSink writes to what the caller gave.
type writerSink struct {
	w    io.WriterAt
	read io.ReaderAt // the same, where it has to be read back; nil otherwise

	panicked atomic.Pointer[panicError]
}

func newWriterSink(w io.WriterAt, cfg *settings) (*writerSink, error) {
	if w == nil {
		return nil, errors.New("nil writer")
	}
	s := &writerSink{w: w}
	if cfg.newHash != nil {
		// Without a digest w is not read, even if it could be: a file may be open for writing alone.
		var ok bool
		if s.read, ok = w.(io.ReaderAt); !ok {
			return nil, fmt.Errorf("WithChecksum needs a writer that is also an io.ReaderAt, %T is not", w)
		}
	}
	return s, nil
}

func (s *writerSink) begin(int64, int64) error { return nil }

func (s *writerSink) WriteAt(b []byte, off int64) (n int, err error) {
	defer func() {
		if v := recover(); v != nil {
			p := &panicError{v, debug.Stack()}
			s.panicked.CompareAndSwap(nil, p)
			err = p
		}
	}()
	return s.w.WriteAt(b, off)
}

// panicError carries a panic of the caller's writer out of a worker: the caller may recover, and nothing of the call is
// left running.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string {
	return fmt.Sprintf("panic in WriteAt: %v\n\n%s", p.value, p.stack)
}

func (p *panicError) Unwrap() error {
	err, _ := p.value.(error)
	return err
}
