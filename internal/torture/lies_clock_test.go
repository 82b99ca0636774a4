package torture_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// The tests of this file are about time on the wire. They run in a synctest bubble, net/http's client and server included,
// over connections in memory: seconds pass at once, and exactly.

// pipeServer is the service behind a listener whose connections are pipes.
type pipeServer struct {
	harness.Service
	answer func(r *http.Request) *http.Response // instead of the service, where it is not nil

	mu        sync.Mutex
	asked     []askedFor
	conns     []net.Conn
	refused   int
	goneUntil time.Time
	crawling  int // connections that are still to bring a byte a second
	incoming  chan net.Conn
	closed    chan struct{}
}

type askedFor struct {
	at     time.Time
	which  string // Range, or the path of a listing
	status int
}

// newPipeServer serves until the test ends, to the client that it returns.
func newPipeServer(t *testing.T, content []byte) (*pipeServer, *http.Client) {
	t.Helper()
	s := &pipeServer{
		Service:  harness.Service{Objects: map[string][]byte{"k": content}, Piece: 64 << 10},
		incoming: make(chan net.Conn), closed: make(chan struct{}),
	}
	web := &http.Server{Handler: s}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := web.Serve(s); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	hc := ossdl.HTTPClient()
	transport := harness.TransportOf(hc)
	transport.Proxy = nil
	transport.DialContext = s.dial
	t.Cleanup(func() {
		hc.CloseIdleConnections()
		if err := web.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return s, hc
}

func (s *pipeServer) Accept() (net.Conn, error) {
	select {
	case c := <-s.incoming:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *pipeServer) Close() error { close(s.closed); return nil }

func (s *pipeServer) Addr() net.Addr { return &net.TCPAddr{} }

func (s *pipeServer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Now().Before(s.goneUntil) {
		s.refused++
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	here, there := net.Pipe()
	if s.crawling > 0 {
		s.crawling--
		there = crawlingConn{there, s.closed}
	}
	s.conns = append(s.conns, there)
	s.incoming <- there
	return here, nil
}

// crawlingConn brings a byte a second, from the head of the first answer on.
type crawlingConn struct {
	net.Conn
	closed <-chan struct{} // the server
}

func (c crawlingConn) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		select {
		case <-time.After(time.Second): // of the bubble
		case <-c.closed:
			return n, net.ErrClosed
		}
		var k int
		k, err = c.Conn.Write(p[n : n+1])
		n += k
	}
	return n, err
}

// goAway ends all connections, and takes none for a while.
func (s *pipeServer) goAway(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.goneUntil = time.Now().Add(d)
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

func (s *pipeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := askedFor{at: time.Now(), which: r.Header.Get("Range"), status: http.StatusOK}
	if r.URL.Path == "/" {
		a.which = "the listing"
	}
	var resp *http.Response
	if s.answer != nil {
		resp = s.answer(r)
	}
	if resp == nil {
		var err error
		if resp, err = s.Service.RoundTrip(r); err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	a.status = resp.StatusCode
	s.mu.Lock()
	s.asked = append(s.asked, a)
	s.mu.Unlock()
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(resp.StatusCode)
	_, err := io.Copy(w, resp.Body)
	if cerr := resp.Body.Close(); err != nil || cerr != nil {
		panic(http.ErrAbortHandler)
	}
}

// newPipeDownloader makes a Downloader whose files are in memory.
func newPipeDownloader(t *testing.T, hc *http.Client, opts ...ossdl.Option) *ossdl.Downloader {
	t.Helper()
	client, err := oss.New("http://service.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	disk := memfs.New(memfs.Config{})
	d, err := ossdl.New(client, append([]ossdl.Option{harness.WithFS(disk), ossdl.WithHTTPClient(hc)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestRetryAfterOnTheWire checks that the request that follows a refusal with Retry-After leaves no earlier than the server
// has asked, whatever was refused, and not much later.
func TestRetryAfterOnTheWire(t *testing.T) {
	const part = 64 << 10
	content := harness.Bytes(t, osstest.Random(1, 5*part))
	entryPoints := map[string]func(context.Context, *ossdl.Downloader) error{
		"Download": func(ctx context.Context, d *ossdl.Downloader) error {
			_, err := d.Download(ctx, "bkt", "k", "/file")
			return err
		},
		"DownloadURL": func(ctx context.Context, d *ossdl.Downloader) error {
			_, err := d.DownloadURL(ctx, "http://bkt.service.test/k", "/file")
			return err
		},
		"DownloadTo": func(ctx context.Context, d *ossdl.Downloader) error {
			_, err := d.DownloadTo(ctx, "bkt", "k", &harness.Memory{Content: make([]byte, len(content))})
			return err
		},
		"Open": func(ctx context.Context, d *ossdl.Downloader) error {
			r, err := d.Open(ctx, "bkt", "k")
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, r)
			return errors.Join(err, r.Close())
		},
	}
	for name, enter := range entryPoints {
		for _, status := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
			for _, form := range []string{"seconds", "date"} {
				for _, at := range []int{0, 2} {
					for _, workers := range []int{1, 4} {
						t.Run(fmt.Sprintf("%s, %d, %s, answer %d, %d workers", name, status, form, at, workers), func(t *testing.T) {
							synctest.Test(t, func(t *testing.T) {
								s, hc := newPipeServer(t, content)
								var n int
								var refused askedFor
								var until time.Time
								s.answer = func(r *http.Request) *http.Response {
									s.mu.Lock()
									defer s.mu.Unlock()
									if n++; n != at+1 {
										return nil
									}
									now := time.Now()
									after, value := now.Add(2*time.Second), "2"
									if form == "date" {
										after = now.Add(2500 * time.Millisecond).Truncate(time.Second)
										value = after.UTC().Format(http.TimeFormat)
									}
									refused, until = askedFor{now, r.Header.Get("Range"), status}, after
									return s.Service.Answer(r, status, nil, map[string]string{"Retry-After": value})
								}
								d := newPipeDownloader(t, hc, ossdl.WithPartSize(part), ossdl.WithConcurrency(workers))
								if err := enter(t.Context(), d); err != nil {
									t.Fatal(err)
								}
								s.mu.Lock()
								defer s.mu.Unlock()
								again := 0
								for _, a := range s.asked {
									if a.at.Before(refused.at) || a.status == status || workers > 1 && a.which != refused.which {
										continue // with one worker, the next request of all
									}
									if again++; again == 1 && (a.at.Before(until) || a.at.After(until.Add(time.Second))) {
										t.Errorf("refused %s at %v until %v, asked for %s at %v", refused.which, refused.at, until, a.which, a.at)
									}
								}
								if again == 0 {
									t.Errorf("not asked again: %+v of %+v", refused, s.asked)
								}
							})
						})
					}
				}
			}
		}
	}
}

// TestListenerGoneForSeconds checks that with the default policy a call outlives a listener that is gone for some seconds,
// before its first answer and in the middle, whatever its workers draw as delays.
func TestListenerGoneForSeconds(t *testing.T) {
	const part = 64 << 10
	content := harness.Bytes(t, osstest.Random(1, 20*part))
	rounds := 10
	if harness.Long() {
		rounds = 300
	}
	for _, at := range []int{0, 7} {
		t.Run(fmt.Sprintf("from request %d on", at), func(t *testing.T) {
			refused := 0
			for range rounds {
				synctest.Test(t, func(t *testing.T) {
					s, hc := newPipeServer(t, content)
					n := 0
					s.answer = func(*http.Request) *http.Response {
						s.mu.Lock()
						n++
						gone := n == at+1
						s.mu.Unlock()
						if gone {
							s.goAway(3 * time.Second)
							panic(http.ErrAbortHandler)
						}
						return nil
					}
					d := newPipeDownloader(t, hc, ossdl.WithPartSize(part))
					begun := time.Now()
					to := &harness.Memory{Content: make([]byte, len(content))}
					res, err := d.DownloadTo(t.Context(), "bkt", "k", to)
					if err != nil || string(to.Content) != string(content) {
						t.Fatalf("after %v: %v", time.Since(begun), err)
					}
					if time.Since(begun) < 3*time.Second || res.DownloadedBytes < int64(len(content)) || !res.Verified {
						t.Errorf("%+v", *res)
					}
					s.mu.Lock()
					refused += s.refused
					s.mu.Unlock()
				})
				if t.Failed() {
					return
				}
			}
			t.Logf("%d connections refused in %d rounds", refused, rounds)
			if refused < rounds {
				t.Error("nothing was tested")
			}
		})
	}
}

// TestHeadComesByteByByte checks that an answer of which a byte comes each second is given up after the stall timeout, its
// head too. On another connection the call goes on, and ends after its attempts if all are so, each of which may take twice as
// long as the one before.
func TestHeadComesByteByByte(t *testing.T) {
	const part, stall = 64 << 10, 30 * time.Second // the default
	content := harness.Bytes(t, osstest.Random(1, 3*part))
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("all connections %t", all), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, hc := newPipeServer(t, content)
				if s.crawling = 1; all {
					s.crawling = 1 << 20
				}
				d := newPipeDownloader(t, hc, ossdl.WithPartSize(part), ossdl.WithConcurrency(1), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: lieAttempts}))
				to := &harness.Memory{Content: make([]byte, len(content))}
				begun := time.Now()
				res, err := d.DownloadTo(t.Context(), "bkt", "k", to)
				took := time.Since(begun)
				if !all {
					if err != nil || string(to.Content) != string(content) || res.Retries != 1 || took < stall || took > 2*stall {
						t.Errorf("%v: %+v, %v", took, res, err)
					}
					return
				}
				var pe *ossdl.PartError
				if !errors.As(err, &pe) || pe.Attempts != lieAttempts || !harness.StalledOut(err) || res.DownloadedBytes != 0 || took > 2*(1+2+4)*stall {
					t.Errorf("%v: %+v, %v", took, res, err)
				}
			})
		})
	}
}
