package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/ossdl/ossdl"
)

// errBrokenPipe means that the reader of standard output has closed it.
var errBrokenPipe = errors.New("standard output: the reader has closed it")

// stream writes the object or the URL to standard output, in order. The result is nil if there was no answer.
func (c command) stream(ctx context.Context, d *ossdl.Downloader, stdout io.Writer, opts []ossdl.Option) (*ossdl.Result, error) {
	r, err := c.open(ctx, d, opts)
	if err != nil {
		return nil, err
	}
	out := &sink{w: stdout}
	written := make(chan error, 1)
	go func() {
		_, err := r.WriteTo(out)
		written <- out.explain(err)
	}()
	select {
	case err = <-written:
	case <-ctx.Done():
		err = context.Cause(ctx) // a pipe without a reader may block its writer indefinitely
	}
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		out.err = closeOutput(stdout)
		err = out.explain(nil)
	}
	res := r.Result()
	res.Path = stdoutName
	return res, err
}

func (c command) open(ctx context.Context, d *ossdl.Downloader, opts []ossdl.Option) (*ossdl.Reader, error) {
	if c.url != "" {
		return d.OpenURL(ctx, c.url, opts...)
	}
	return d.Open(ctx, c.source.bucket, c.source.key, opts...)
}

// closeOutput closes standard output: some file systems report only then that they have no room.
func closeOutput(w io.Writer) error {
	if c, ok := w.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// holdBrokenPipe makes a broken pipe an error of the write until the returned function is called. By default the signal
// would end the process in the middle of a line. It would also end a download when only its progress output is closed.
func holdBrokenPipe() (release func()) {
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	return func() { signal.Stop(pipes) }
}

// sink records the errors of standard output, to distinguish them from those of the download.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(b []byte) (n int, err error) {
	n, err = s.w.Write(b)
	s.err = err
	return n, err
}

// explain returns the error to report for a copy: that of the writer, if there is one.
func (s *sink) explain(err error) error {
	switch {
	case s.err == nil:
		return err
	case isBrokenPipe(s.err):
		return errBrokenPipe
	}
	return fmt.Errorf("standard output: %w", s.err)
}

func isBrokenPipe(err error) bool {
	if errors.Is(err, syscall.EPIPE) {
		return true
	}
	const brokenPipe, noData = syscall.Errno(109), syscall.Errno(232) // ERROR_BROKEN_PIPE and ERROR_NO_DATA
	return runtime.GOOS == "windows" && (errors.Is(err, brokenPipe) || errors.Is(err, noData))
}
