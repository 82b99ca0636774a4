package ossdl

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ossdl/ossdl/internal/callers"
)

// DownloadTo writes the object key of bucket to w, beginning at w's offset 0; [WithRange] asks for a part of it.
//
// It is like [Downloader.Download], except that a later call cannot resume: after an error w holds some of the bytes, not in
// order. Result.Path is "".
//
// # The writer
//
// WriteAt is called by several goroutines at the same time. The ranges do not overlap and have up to 256 KiB each. It is not
// called after DownloadTo has returned. Each byte is written once, with one exception: if the CRC-64 of the whole is not the
// service's, everything is written once more, or once more for each of up to three addresses of the host that sent bytes. If it
// still differs, the call fails with [ErrChecksum]. If w already holds data, what lies beyond the object's bytes is kept.
//
// [WithChecksum] reads the bytes back, so it needs a w that is also an [io.ReaderAt]; a file must be opened for reading as
// well. Closing or syncing w is up to the caller.
//
// # Errors
//
// An error of WriteAt ends the call, and [errors.Is] and [errors.As] find it. A short write without an error is
// [io.ErrShortWrite]. A panic in WriteAt or ReadAt is raised again in the caller's goroutine. Other errors are those of
// Download, except [ErrInUse] and [ErrNoSpace]. DownloadTo returns promptly when ctx is done.
func (d *Downloader) DownloadTo(ctx context.Context, bucket, key string, w io.WriterAt, opts ...Option) (*Result, error) {
	c, err := d.bucketCall(ctx, inDownloadTo, "download", bucket, key, opts)
	if err != nil {
		return nil, err
	}
	to, err := newWriterSink(w, c.newHash != nil, c.panics)
	if err != nil {
		return nil, nameError("download", bucket, key, err)
	}
	return c.downloadToWriter(ctx, to)
}

// downloadToWriter downloads to a writer.
func (c *call) downloadToWriter(ctx context.Context, to *writerSink) (*Result, error) {
	ctx, done := c.panics.During(ctx)
	defer done()
	if err := c.findVersion(ctx); err != nil {
		c.panics.Raise(err)
		return c.result(ctx, "", err)
	}
	config, err := c.engineConfig(to, nil)
	if err != nil {
		return c.result(ctx, "", err)
	}
	config.Parts.SetVolatile()
	if to.read != nil {
		config.Disk = to
	}
	e := c.newEngine(config)
	progress := startReporter(c.cfg.progress, c.snapshot, c.stats.Downloaded.Load)
	c.verdict, err = c.fetchUntilVerified(ctx, e)
	progress.end(err)
	c.panics.Raise(err) // a panic has priority over any other error
	return c.result(ctx, "", err)
}

// writerSink is an [engine.Sink] that writes to the writer that the caller gave.
type writerSink struct {
	w      io.WriterAt
	read   io.ReaderAt     // w, if it must be read back; nil otherwise
	panics *callers.Panics // a panic of w ends the call
}

// newWriterSink returns a sink for w. It must be readable to compute a digest.
func newWriterSink(w io.WriterAt, digest bool, p *callers.Panics) (*writerSink, error) {
	if w == nil {
		return nil, errors.New("nil writer")
	}
	s := &writerSink{w: w, panics: p}
	if digest {
		// Without a digest w is not read, even if it has the method: a file may be open for writing only.
		var ok bool
		if s.read, ok = w.(io.ReaderAt); !ok {
			return nil, fmt.Errorf("WithChecksum needs a writer that is also an io.ReaderAt; %T is not", w)
		}
	}
	return s, nil
}

func (s *writerSink) Begin(int64, int64) error { return nil }

func (s *writerSink) WriteAt(b []byte, off int64) (n int, err error) {
	return s.use("WriteAt", s.w.WriteAt, b, off)
}

func (s *writerSink) ReadAt(b []byte, off int64) (n int, err error) {
	return s.use("ReadAt", s.read.ReadAt, b, off)
}

func (s *writerSink) use(what string, method func([]byte, int64) (int, error), b []byte, off int64) (n int, err error) {
	if perr := s.panics.Guard(what, func() { n, err = method(b, off) }); perr != nil {
		return 0, perr
	}
	return n, err
}
