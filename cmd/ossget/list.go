package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"unicode/utf8"

	"github.com/ossdl/ossdl"
)

// errBadList means that a line of the list is no key.
var errBadList = errors.New("not a key")

// maxLine is the length of the longest line that is read, in bytes. No key is nearly as long.
const maxLine = 64 << 10

// downloadList downloads the objects whose keys --files-from lists.
func (c command) downloadList(ctx context.Context, d *ossdl.Downloader, opts []ossdl.Option) (*ossdl.PrefixResult, error) {
	in := os.Stdin
	if c.filesFrom != stdoutName {
		f, err := os.Open(c.filesFrom)
		if err != nil {
			return nil, usageError{fmt.Errorf("--files-from: %w", err)}
		}
		defer f.Close()
		in = f
	}
	return d.DownloadObjects(ctx, c.source.bucket, listed(ctx, newKeyReader(in, c.filesFrom, c.nul)), c.dest, opts...)
}

// listed yields the objects whose keys are read, until ctx ends. A pipe may block its reader indefinitely, so that is left behind
// then.
func listed(ctx context.Context, r *keyReader) iter.Seq2[ossdl.Object, error] {
	type line struct {
		key string
		err error
	}
	return func(yield func(ossdl.Object, error) bool) {
		lines := make(chan line, 100)
		over := make(chan struct{})
		defer close(over)
		go func() {
			defer close(lines)
			for {
				key, err := r.next()
				if err == io.EOF {
					return
				}
				select {
				case lines <- line{key, err}:
				case <-over:
					return
				}
				if err != nil {
					return
				}
			}
		}()
		for {
			select {
			case l, more := <-lines:
				if !more || !yield(ossdl.Object{Key: l.key}, l.err) {
					return
				}
			case <-ctx.Done():
				yield(ossdl.Object{}, context.Cause(ctx))
				return
			}
		}
	}
}

// keyReader reads keys, one a line.
type keyReader struct {
	in   *bufio.Reader
	name string // of the list, for messages
	nul  bool   // keys end in a NUL and not in a line feed
	line int    // the number of the line that was read last
}

func newKeyReader(in io.Reader, name string, nul bool) *keyReader {
	if name == stdoutName {
		name = "standard input"
	}
	return &keyReader{in: bufio.NewReaderSize(in, maxLine), name: name, nul: nul}
}

// next returns the next key, or [io.EOF]. Empty lines are no keys. A line may end in CR LF, as on Windows, and the first may
// begin with a byte order mark; with NULs every byte counts.
func (r *keyReader) next() (string, error) {
	for {
		r.line++
		key, err := r.read()
		if err != nil && err != io.EOF {
			return "", fmt.Errorf("%s, line %d: %w", r.name, r.line, err)
		}
		switch {
		case len(key) > maxKey:
			return "", fmt.Errorf("%s, line %d: %w: it has %d bytes, a key has 1 to %d", r.name, r.line, errBadList, len(key), maxKey)
		case !utf8.Valid(key):
			return "", fmt.Errorf("%s, line %d: %w: %q is not UTF-8", r.name, r.line, errBadList, key)
		case len(key) > 0:
			return string(key), nil
		case err == io.EOF:
			return "", io.EOF
		}
	}
}

// read reads a line, without its end. The error is [io.EOF] if there is none behind it.
func (r *keyReader) read() ([]byte, error) {
	end := byte('\n')
	if r.nul {
		end = 0
	}
	key, err := r.in.ReadSlice(end)
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, fmt.Errorf("%w: it has more than %d bytes", errBadList, maxLine)
	}
	key = bytes.TrimSuffix(key, []byte{end})
	if r.nul {
		return key, err
	}
	if r.line == 1 {
		key = bytes.TrimPrefix(key, []byte("\ufeff"))
	}
	return bytes.TrimSuffix(key, []byte("\r")), err
}
