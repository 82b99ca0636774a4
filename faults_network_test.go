package ossdl

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/osstest"
)

// wireFault counts what a client does with its connections, and fails one of these events. A connection that has failed
// stays broken.
type wireFault struct {
	at  int
	err error

	mu   sync.Mutex
	gone *sync.Cond // a connection
	n    int
	hit  string // what failed
	open int    // connections, those being dialed among them
	over bool   // no more are dialed
}

func newWireFault(at int, err error) *wireFault {
	w := &wireFault{at: at, err: err}
	w.gone = sync.NewCond(&w.mu)
	return w
}

// next counts an event and returns how it fails, or nil.
func (w *wireFault) next(what string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	if w.n-1 != w.at {
		return nil
	}
	w.hit = what
	return &net.OpError{Op: what, Net: "tcp", Err: w.err}
}

// failed is what has failed, or "".
func (w *wireFault) failed() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hit
}

// dial is DialContext of a transport.
func (w *wireFault) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	if w.over {
		w.mu.Unlock()
		return nil, net.ErrClosed
	}
	w.open++
	w.mu.Unlock()
	err := w.next("dial")
	var c net.Conn
	if err == nil {
		c, err = new(net.Dialer).DialContext(ctx, network, addr)
	}
	if err != nil {
		w.left()
		return nil, err
	}
	return &wireConn{Conn: c, w: w}, nil
}

func (w *wireFault) left() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open--
	w.gone.Broadcast()
}

// end waits until all connections are gone. A transport may dial for a request that has ended meanwhile.
func (w *wireFault) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.over = true; w.open > 0; {
		w.gone.Wait()
	}
}

// wireConn stays broken once it has failed.
type wireConn struct {
	net.Conn
	w      *wireFault
	closed sync.Once
	mu     sync.Mutex
	broken error
}

// fails returns how the next event fails, or nil.
func (c *wireConn) fails(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken == nil {
		if c.broken = c.w.next(what); c.broken != nil {
			c.Conn.Close()
		}
	}
	return c.broken
}

func (c *wireConn) Read(p []byte) (int, error) { return c.do("read", c.Conn.Read, p) }

func (c *wireConn) Write(p []byte) (int, error) { return c.do("write", c.Conn.Write, p) }

func (c *wireConn) do(what string, op func([]byte) (int, error), p []byte) (n int, err error) {
	if err = c.fails(what); err == nil {
		n, err = op(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && c.broken != nil {
		err = c.broken // also of what was under way when it broke
	}
	if errors.Is(err, io.EOF) {
		err = io.EOF // bare, as a connection says it
	}
	return n, err
}

func (c *wireConn) Close() error {
	err := errors.Join(c.fails("close"), c.Conn.Close())
	c.closed.Do(c.w.left)
	return err
}

const (
	wirePart = 6 << 10
	wireSize = 5*wirePart + 77
)

// TestEveryNetworkEventFails fails event i of a download on the wire, for every i: a dial, a read or write of the TLS
// handshake, of requests, headers and bodies, a close. With retries the file is right, and no byte comes twice; without,
// the error names the cause, and the next call fetches the rest.
func TestEveryNetworkEventFails(t *testing.T) {
	var mu sync.Mutex
	kinds := map[string]int{}
	t.Cleanup(func() {
		total := 0
		for _, n := range kinds {
			total += n
		}
		t.Logf("network events failed: %d, %v", total, kinds)
	})
	for scheme, opts := range map[string][]osstest.Option{"http": nil, "https": {osstest.WithTLS()}} {
		s := newServer(t, opts...)
		s.Put("bkt", "k", osstest.Random(5, wireSize))
		for _, cause := range []error{syscall.ECONNRESET, syscall.EPIPE, os.ErrDeadlineExceeded, io.EOF} {
			for _, attempts := range []int{3, 1} {
				t.Run(fmt.Sprintf("%s, %v, %d attempts", scheme, cause, attempts), func(t *testing.T) {
					t.Parallel()
					for i := 0; ; i++ {
						w := newWireFault(i, cause)
						w.download(t, s, attempts)
						what := w.failed()
						if t.Failed() {
							t.Fatalf("event %d, a %s", i, what)
						}
						if what == "" {
							break
						}
						mu.Lock()
						kinds[what]++
						mu.Unlock()
					}
				})
			}
		}
	}
}

func (w *wireFault) download(t *testing.T, s *osstest.Server, attempts int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	res, err := w.once(t, s, path, attempts)
	switch {
	case err == nil:
		if res.DownloadedBytes != wireSize {
			t.Errorf("%d bytes downloaded, want %d", res.DownloadedBytes, wireSize)
		}
	case attempts > 1 || w.failed() == "":
		t.Error(err)
	case !errors.Is(err, w.err) && !(w.err == io.EOF && (errors.Is(err, io.ErrUnexpectedEOF) ||
		strings.Contains(err.Error(), "server closed idle connection"))): // net/http's word for an end before any answer
		t.Errorf("the error does not name the cause: %v", err)
	default:
		came := int64(0)
		if res != nil {
			came = res.DownloadedBytes
		}
		res, err = newWireFault(-1, nil).once(t, s, path, attempts)
		// What came before there was a partial file to write it to is lost.
		if err != nil || res.ResumedBytes != came && res.ResumedBytes != 0 || res.DownloadedBytes != wireSize-res.ResumedBytes {
			t.Errorf("after %d bytes: %+v, %v", came, res, err)
		}
	}
	checkFile(t, path, osstest.Random(5, wireSize))
}

// once is one call, and the end of its connections.
func (w *wireFault) once(t *testing.T, s *osstest.Server, path string, attempts int) (*Result, error) {
	t.Helper()
	hc := HTTPClient()
	transport := hc.Transport.(*boundedErrors).Transport
	transport.DialContext = w.dial
	transport.TLSClientConfig = &tls.Config{RootCAs: s.Roots()}
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(client, WithPartSize(wirePart), WithConcurrency(2),
		WithRetry(RetryPolicy{Attempts: attempts, MinDelay: time.Millisecond, MaxDelay: time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	res, err := d.Download(t.Context(), "bkt", "k", path)
	hc.CloseIdleConnections()
	w.end()
	return res, err
}
