package torture_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// The tests of this file are about a bucket that is reached over two endpoints: a first, then b.

const (
	fallbackSize = 1 << 20
	fallbackPart = 128 << 10
	isCharged    = "whose traffic is charged if it is public"
	notUsed      = "endpoint not used for this object"
	usedAgain    = "using the first endpoint again"
)

// fallbackRetry outlasts a first endpoint that dies while others of its answers are still being read.
var fallbackRetry = ossdl.RetryPolicy{Attempts: 8, MinDelay: time.Millisecond, MaxDelay: 2 * time.Millisecond}

// twoEndpoints are two servers with the same bucket "bkt".
type twoEndpoints struct {
	t       *testing.T
	a, b    *osstest.Server
	http    [2]*http.Client
	clients []*oss.Client
	log     harness.Records
	content osstest.Content // of "key"
	path    string
}

func newTwoEndpoints(t *testing.T, first ...osstest.Option) *twoEndpoints {
	t.Helper()
	harness.Tried.Add("cases from the field", 1)
	w := &twoEndpoints{
		t: t, a: harness.NewServer(t, first...), b: harness.NewServer(t), content: osstest.Random(1, fallbackSize),
		path: filepath.Join(t.TempDir(), "file"),
	}
	for i, s := range []*osstest.Server{w.a, w.b} {
		w.put(s, "key", w.content)
		w.http[i] = ossdl.HTTPClient()
		t.Cleanup(w.http[i].CloseIdleConnections)
		client, err := s.Client(oss.HTTPClient(w.http[i]))
		if err != nil {
			t.Fatal(err)
		}
		w.clients = append(w.clients, client)
	}
	return w
}

func (w *twoEndpoints) put(s *osstest.Server, key string, c osstest.Content) {
	s.Put("bkt", key, c, osstest.LastModified(time.Unix(1_600_000_000, 0)))
}

func (w *twoEndpoints) downloader(opts ...ossdl.Option) *ossdl.Downloader {
	w.t.Helper()
	d, err := ossdl.New(w.clients[0], append([]ossdl.Option{
		ossdl.WithFallback(w.clients[1]), ossdl.WithPartSize(fallbackPart), ossdl.WithConcurrency(1), ossdl.WithRetry(fallbackRetry),
		ossdl.WithLogger(w.log.Logger()),
	}, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// logged asks how many lines of the log have some words.
func (w *twoEndpoints) logged(words string, want int) {
	w.t.Helper()
	if n := strings.Count(w.log.String(), words); n != want {
		w.t.Errorf("%d lines have %q, want %d:\n%s", n, words, want, w.log.String())
	}
}

// from asks that a server has got a fault from some request on, counted from 0.
func from(s *osstest.Server, n int, fault func(r *osstest.Request) *osstest.Fault) {
	seen := 0
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if seen++; seen <= n {
			return nil
		}
		return fault(r)
	})
}

// fallbackCalls are the ways into the library, each for all objects of a bucket with "key" and small ones.
var fallbackCalls = map[string]func(w *twoEndpoints, d *ossdl.Downloader) error{
	"Download": func(w *twoEndpoints, d *ossdl.Downloader) error {
		res, err := d.Download(w.t.Context(), "bkt", "key", w.path)
		if err == nil {
			harness.CheckFile(w.t, w.path, w.content)
			if !res.Verified {
				w.t.Error("not verified")
			}
		}
		return err
	},
	"DownloadTo": func(w *twoEndpoints, d *ossdl.Downloader) error {
		m := &harness.Memory{Content: make([]byte, fallbackSize)}
		_, err := d.DownloadTo(w.t.Context(), "bkt", "key", m)
		if err == nil && !bytes.Equal(m.Content, harness.Bytes(w.t, w.content)) {
			w.t.Error("other bytes")
		}
		return err
	},
	"Open": func(w *twoEndpoints, d *ossdl.Downloader) error {
		r, err := d.Open(w.t.Context(), "bkt", "key")
		if err != nil {
			return err
		}
		got, err := io.ReadAll(r)
		if err == nil && !bytes.Equal(got, harness.Bytes(w.t, w.content)) {
			w.t.Error("other bytes")
		}
		return errors.Join(err, r.Close())
	},
	"DownloadPrefix": func(w *twoEndpoints, d *ossdl.Downloader) error {
		_, err := d.DownloadPrefix(w.t.Context(), "bkt", "", w.path)
		if err == nil {
			harness.CheckFile(w.t, filepath.Join(w.path, "key"), w.content)
		}
		return err
	},
	"DownloadObjects": func(w *twoEndpoints, d *ossdl.Downloader) error {
		_, err := d.DownloadObjects(w.t.Context(), "bkt", harness.List(ossdl.Object{Key: "key"}, ossdl.Object{Key: "small"}), w.path)
		if err == nil {
			harness.CheckFile(w.t, filepath.Join(w.path, "key"), w.content)
		}
		return err
	},
}

// TestFallbackInTheMiddle checks that each way into the library goes on at the second endpoint if the first one dies in the middle of
// a part, or was dead from the start, and fetches there what is missing.
func TestFallbackInTheMiddle(t *testing.T) {
	for name, call := range fallbackCalls {
		for _, workers := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s/%d", name, workers), func(t *testing.T) {
				w := newTwoEndpoints(t)
				w.put(w.a, "small", osstest.Random(2, 100))
				w.put(w.b, "small", osstest.Random(2, 100))
				w.a.Once(func(r *osstest.Request) bool { return r.Key == "key" && r.Start >= 3*fallbackPart }, osstest.Inject().At(5000, w.a.Down))
				if err := call(w, w.downloader(ossdl.WithConcurrency(workers))); err != nil {
					t.Fatal(err)
				}
				if len(w.a.Requests()) == 0 || len(w.b.Requests()) == 0 {
					t.Errorf("%d and %d requests", len(w.a.Requests()), len(w.b.Requests()))
				}
				if n := harness.Fetched(w.b); workers == 1 && n > fallbackSize-2*fallbackPart+100 { // nothing is taken over
					t.Errorf("%d bytes came from the second endpoint", n)
				}
				w.logged(isCharged, 1)
			})
		}
		t.Run(name+"/dead from the start", func(t *testing.T) {
			w := newTwoEndpoints(t)
			w.put(w.a, "small", osstest.Random(2, 100))
			w.put(w.b, "small", osstest.Random(2, 100))
			w.a.Down()
			if err := call(w, w.downloader()); err != nil {
				t.Fatal(err)
			}
			w.logged(isCharged, 1)
		})
	}
}

// TestFallbackOfComparisons checks that listings and HEADs of an audit, and of a comparison by CRC-64, go to the second endpoint, too.
func TestFallbackOfComparisons(t *testing.T) {
	w := newTwoEndpoints(t)
	if _, err := w.downloader().DownloadPrefix(t.Context(), "bkt", "", w.path); err != nil {
		t.Fatal(err)
	}
	w.a.Down()
	if _, err := w.downloader().VerifyPrefix(t.Context(), "bkt", "", w.path); err != nil {
		t.Error(err)
	}
	res, err := w.downloader().DownloadPrefix(t.Context(), "bkt", "", w.path, ossdl.WithCompareCRC64())
	if err != nil || res.Skipped != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	heads := 0
	for _, r := range w.b.Requests() {
		if r.Method == http.MethodHead {
			heads++
		}
	}
	if heads == 0 {
		t.Error("no HEAD went to the second endpoint")
	}
}

// TestFallbackAfterStatuses checks which answers of the first endpoint lead to the second one.
func TestFallbackAfterStatuses(t *testing.T) {
	for status, code := range map[int]string{
		502: "BadGateway", 503: "ServiceUnavailable", 504: "GatewayTimeout", // of the endpoint
		400: "InvalidArgument", 403: "AccessDenied", 404: "NoSuchKey", 408: "RequestTimeout", 412: "PreconditionFailed", 429: "TooManyRequests", 500: "InternalError", 501: "NotImplemented",
	} {
		for _, at := range []int{0, 3} {
			t.Run(fmt.Sprintf("%d/%d", status, at), func(t *testing.T) {
				w := newTwoEndpoints(t)
				from(w.a, at, func(*osstest.Request) *osstest.Fault { return osstest.Inject().Error(status, code) })
				res, err := w.downloader().Download(t.Context(), "bkt", "key", w.path)
				if status < 502 {
					if n := len(w.b.Requests()); err == nil || n > 0 {
						t.Errorf("%v; the second endpoint got %d requests", err, n)
					}
					w.logged(isCharged, 0)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				harness.CheckFile(t, w.path, w.content)
				if got := len(w.b.Requests()); got != fallbackSize/fallbackPart-at || res.Retries != 1 {
					t.Errorf("%d requests to the second endpoint, %d retries", got, res.Retries)
				}
				w.logged(isCharged, 1)
			})
		}
	}
}

// TestFallbackAfterFailures checks that each failure of the network leads to the second endpoint, but none of a body that brings
// something.
func TestFallbackAfterFailures(t *testing.T) {
	for name, c := range map[string]struct {
		fault func() *osstest.Fault
		stays bool
	}{
		"reset before the head":  {fault: func() *osstest.Fault { return osstest.Inject().ResetBeforeHead() }},
		"closed before the head": {fault: func() *osstest.Fault { return osstest.Inject().CloseBeforeHead() }},
		"no HTTP":                {fault: func() *osstest.Fault { return osstest.Inject().Raw([]byte("hello\r\n\r\n")) }},
		"cut early":              {fault: func() *osstest.Fault { return osstest.Inject().ResetAfter(1000) }},
		"closed early":           {fault: func() *osstest.Fault { return osstest.Inject().CloseAfter(0) }},
		"cut late":               {func() *osstest.Fault { return osstest.Inject().ResetAfter(70 << 10).Maybe() }, true},
		"no head":                {fault: func() *osstest.Fault { return osstest.Inject().HoldHeaders(nil) }},
		"no body":                {fault: func() *osstest.Fault { return osstest.Inject().StallAfter(0) }},
		"stalls late":            {fault: func() *osstest.Fault { return osstest.Inject().StallAfter(70 << 10) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTwoEndpoints(t)
			from(w.a, 0, func(r *osstest.Request) *osstest.Fault {
				if c.stays && r.End-r.Start <= 70<<10 {
					return nil
				}
				return c.fault()
			})
			if _, err := w.downloader(ossdl.WithStallTimeout(lieStall)).Download(t.Context(), "bkt", "key", w.path); err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, w.path, w.content)
			if n := len(w.b.Requests()); (n == 0) != c.stays {
				t.Errorf("%d requests to the second endpoint", n)
			}
		})
	}
}

// TestFallbackAfterFinalErrors checks that errors that are worth no retry lead to the second endpoint all the same, and end a call if
// both endpoints have them.
func TestFallbackAfterFinalErrors(t *testing.T) {
	unknown := func(_ context.Context, host string) ([]net.IPAddr, error) {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	t.Run("certificate", func(t *testing.T) {
		w := newTwoEndpoints(t, osstest.WithTLS()) // which its client does not trust
		if _, err := w.downloader().Download(t.Context(), "bkt", "key", w.path); err != nil {
			t.Fatal(err)
		}
		w.logged(isCharged, 1)
	})
	for _, both := range []bool{false, true} {
		t.Run(fmt.Sprintf("unknown host, both %t", both), func(t *testing.T) {
			w := newTwoEndpoints(t)
			for i := range w.clients {
				if i > 0 && !both {
					break
				}
				client, err := oss.New(fmt.Sprintf("http://%c.test", 'a'+i), osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(w.http[i]))
				if err != nil {
					t.Fatal(err)
				}
				harness.SetNetwork(w.http[i], unknown, new(net.Dialer).DialContext)
				w.clients[i] = client
			}
			_, err := w.downloader().Download(t.Context(), "bkt", "key", w.path)
			var dns *net.DNSError
			if both != errors.As(err, &dns) || !both && err != nil {
				t.Errorf("%v", err)
			}
			if n := strings.Count(w.log.String(), "retrying after failed request"); both && n > 3 {
				t.Errorf("%d retries", n)
			}
		})
	}
	t.Run("both refuse connections", func(t *testing.T) {
		w := newTwoEndpoints(t)
		w.a.Down()
		w.b.Down()
		_, err := w.downloader().Download(t.Context(), "bkt", "key", w.path)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v", err)
		}
		w.logged("retrying after failed request", fallbackRetry.Attempts-1)
		w.logged(isCharged, 1)
	})
	t.Run("one attempt", func(t *testing.T) {
		w := newTwoEndpoints(t)
		w.a.Down()
		d := w.downloader(ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}))
		if _, err := d.Download(t.Context(), "bkt", "key", w.path); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v", err)
		}
		if _, err := d.Download(t.Context(), "bkt", "key", w.path); err != nil {
			t.Error(err)
		}
	})
}

// TestFallbackWithAnotherObject checks that an endpoint that has an older object than the one that answered first, or none, is left
// alone: its bytes are never taken, and the first endpoint is asked again.
func TestFallbackWithAnotherObject(t *testing.T) {
	older := osstest.Random(9, fallbackSize)
	for name, second := range map[string]func(w *twoEndpoints){
		"older": func(w *twoEndpoints) { w.put(w.b, "key", older) },
		"older, without ETags": func(w *twoEndpoints) {
			w.put(w.b, "key", older)
			from(w.b, 0, func(*osstest.Request) *osstest.Fault { return osstest.Inject().NoETag() })
		},
		"older, of another size": func(w *twoEndpoints) {
			w.put(w.b, "key", osstest.Random(9, fallbackSize/2))
		},
		"none": func(w *twoEndpoints) { w.b.Delete("bkt", "key") },
		"forbidden": func(w *twoEndpoints) {
			from(w.b, 0, func(*osstest.Request) *osstest.Fault { return osstest.Error(403, "AccessDenied") })
		},
		"ignores ranges": func(w *twoEndpoints) {
			from(w.b, 0, func(*osstest.Request) *osstest.Fault { return osstest.Inject().IgnoreRange() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTwoEndpoints(t)
			second(w)
			noETag := strings.Contains(name, "without ETags")
			n := 0
			w.a.OnRequest(func(*osstest.Request) *osstest.Fault {
				switch n++; {
				case n == 3:
					return osstest.Error(503, "ServiceUnavailable")
				case noETag:
					return osstest.Inject().NoETag()
				}
				return nil
			})
			res, err := w.downloader().Download(t.Context(), "bkt", "key", w.path)
			if err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, w.path, w.content)
			if got := len(w.b.Requests()); got != 1 || res.Retries != 1 || !res.Verified {
				t.Errorf("%d requests to the second endpoint, result %+v", got, res)
			}
			w.logged(notUsed, 1)
		})
	}

	t.Run("the first one is gone", func(t *testing.T) {
		w := newTwoEndpoints(t)
		w.put(w.b, "key", older)
		harness.WriteFile(t, w.path, "old")
		w.a.Once(func(r *osstest.Request) bool { return r.Start >= 3*fallbackPart }, osstest.Inject().At(5000, w.a.Down))
		d := w.downloader()
		if _, err := d.Download(t.Context(), "bkt", "key", w.path); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("%v, want the error of the first endpoint", err)
		}
		if got, err := os.ReadFile(w.path); string(got) != "old" {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if err := w.a.Up(); err != nil {
			t.Fatal(err)
		}
		res, err := d.Download(t.Context(), "bkt", "key", w.path)
		if err != nil {
			t.Fatal(err)
		}
		harness.CheckFile(t, w.path, w.content)
		if res.ResumedBytes < 3*fallbackPart {
			t.Errorf("%d bytes were resumed", res.ResumedBytes)
		}
	})
	t.Run("the first one stays away", func(t *testing.T) {
		w := newTwoEndpoints(t)
		w.put(w.b, "key", older)
		w.a.Once(func(r *osstest.Request) bool { return r.Start >= 3*fallbackPart }, osstest.Inject().At(5000, w.a.Down))
		d := w.downloader()
		if _, err := d.Download(t.Context(), "bkt", "key", w.path); err == nil {
			t.Fatal("no error")
		}
		res, err := d.Download(t.Context(), "bkt", "key", w.path)
		if err != nil {
			t.Fatal(err)
		}
		harness.CheckFile(t, w.path, older) // whole, and nothing of the other
		if res.ResumedBytes != 0 || !res.Verified {
			t.Errorf("%+v", res)
		}
	})
	t.Run("replaced", func(t *testing.T) {
		w := newTwoEndpoints(t)
		from(w.a, 3, func(*osstest.Request) *osstest.Fault {
			return osstest.Inject().Before(func() { w.put(w.a, "key", older) })
		})
		_, err := w.downloader().Download(t.Context(), "bkt", "key", w.path)
		if !errors.Is(err, ossdl.ErrObjectChanged) || len(w.b.Requests()) > 0 {
			t.Errorf("%v, and %d requests to the second endpoint", err, len(w.b.Requests()))
		}
	})
}

// failingProvider has credentials for its first questions, and then an error that looks like one of the network.
type failingProvider struct {
	left atomic.Int64
}

func (p *failingProvider) GetAccessKeyID() string     { return osstest.AccessKeyID }
func (p *failingProvider) GetAccessKeySecret() string { return osstest.AccessKeySecret }
func (p *failingProvider) GetSecurityToken() string   { return "" }

func (p *failingProvider) GetCredentials() oss.Credentials { return p }

func (p *failingProvider) GetCredentialsE() (oss.Credentials, error) {
	if p.left.Add(-1) < 0 {
		return nil, &url.Error{Op: "Get", URL: "http://vault.test", Err: syscall.ECONNREFUSED}
	}
	return p, nil
}

// TestFallbackNotForCredentials checks that a request that could not be signed says nothing about the endpoint.
func TestFallbackNotForCredentials(t *testing.T) {
	w := newTwoEndpoints(t)
	p := &failingProvider{}
	p.left.Store(4) // the call and three requests
	var err error
	if w.clients[0], err = oss.New(w.a.Endpoint(), "", "", oss.HTTPClient(w.http[0]), oss.SetCredentialsProvider(p)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.downloader().Download(t.Context(), "bkt", "key", w.path); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v", err)
	}
	if a, b := len(w.a.Requests()), len(w.b.Requests()); a != 3 || b != 0 {
		t.Errorf("%d and %d requests", a, b)
	}
}

// panicking is a handler that panics at some line.
type panicking struct {
	slog.Handler
	at string
}

func (h panicking) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, h.at) {
		panic("no room for " + h.at)
	}
	return h.Handler.Handle(ctx, r)
}

func (h panicking) WithAttrs(attrs []slog.Attr) slog.Handler {
	return panicking{h.Handler.WithAttrs(attrs), h.at}
}

// TestFallbackLoggerPanics checks that a panic of the logger at a line about endpoints is raised in the caller's goroutine.
func TestFallbackLoggerPanics(t *testing.T) {
	for _, at := range []string{isCharged, notUsed} {
		w := newTwoEndpoints(t)
		w.b.Delete("bkt", "key")
		from(w.a, 2, func(*osstest.Request) *osstest.Fault { return osstest.Error(503, "ServiceUnavailable") })
		d := w.downloader(ossdl.WithLogger(slog.New(panicking{w.log.Logger().Handler(), at})))
		func() {
			defer func() {
				if v := recover(); !strings.Contains(fmt.Sprint(v), "no room for "+at) {
					t.Errorf("recovered %v", v)
				}
			}()
			_, err := d.Download(t.Context(), "bkt", "key", w.path)
			t.Errorf("no panic: %v", err)
		}()
	}
}

// TestFallbackHidesSecrets checks that neither errors nor the log have a credential of any endpoint, though both send them back.
func TestFallbackHidesSecrets(t *testing.T) {
	w := newTwoEndpoints(t)
	var mu sync.Mutex
	var secrets []string
	echo := func(status int) func(r *osstest.Request) *osstest.Fault {
		return func(r *osstest.Request) *osstest.Fault {
			auth := r.Header.Get("Authorization")
			mu.Lock()
			secrets = append(secrets, secretsOf(auth, "")...)
			mu.Unlock()
			return osstest.Inject().Error(status, "Odd", auth)
		}
	}
	from(w.a, 0, echo(503))
	from(w.b, 0, echo(403))
	_, err := w.downloader().Download(t.Context(), "bkt", "key", w.path)
	mu.Lock()
	defer mu.Unlock()
	if err == nil || len(secrets) < 4 {
		t.Fatalf("%v with %d secrets", err, len(secrets))
	}
	for _, secret := range secrets {
		if len(secret) >= 8 && (strings.Contains(err.Error(), secret) || strings.Contains(w.log.String(), secret)) {
			t.Errorf("%q is in the error or the log: %v\n%s", secret, err, w.log.String())
		}
	}
}

// endpointsInABubble are two endpoints of a bucket without a network, over which a Downloader reaches it.
type endpointsInABubble struct {
	a, b  *harness.Service
	state atomic.Int64 // of a
	d     *ossdl.Downloader
	log   harness.Records
}

// What the first endpoint does in a bubble.
const (
	works = iota
	refuses
	hangs
)

func newEndpointsInABubble(t *testing.T) *endpointsInABubble {
	t.Helper()
	w := &endpointsInABubble{}
	content := map[string][]byte{"k": harness.Bytes(t, osstest.Random(1, 4*harness.ProgressUnit))}
	w.a = &harness.Service{Objects: content, Piece: harness.ProgressUnit}
	w.b = &harness.Service{Objects: content, Piece: harness.ProgressUnit}
	var clients []*oss.Client
	for i, s := range []*harness.Service{w.a, w.b} {
		client, err := oss.New(fmt.Sprintf("http://%c.test", 'a'+i), osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(&http.Client{
			Transport: harness.RoundTrip(func(r *http.Request) (*http.Response, error) {
				if state := w.state.Load(); s == w.a && state != works {
					s.Requests.Add(1)
					if state == refuses {
						return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
					}
					<-r.Context().Done()
					return nil, r.Context().Err()
				}
				return s.RoundTrip(r)
			}),
		}))
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, client)
	}
	var err error
	if w.d, err = ossdl.New(clients[0], ossdl.WithFallback(clients[1]), ossdl.WithConcurrency(1), ossdl.WithLogger(w.log.Logger())); err != nil {
		t.Fatal(err)
	}
	return w
}

// asks downloads the object, and asks how many requests each endpoint gets for it, how many retries are reported, and how long it
// takes at most.
func (w *endpointsInABubble) asks(t *testing.T, a, b int64, retries int, most time.Duration) {
	t.Helper()
	w.a.Requests.Store(0)
	w.b.Requests.Store(0)
	began := time.Now()
	m := &harness.Memory{Content: make([]byte, 4*harness.ProgressUnit)}
	res, err := w.d.DownloadTo(t.Context(), "bkt", "k", m)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Content, w.a.Objects["k"]) {
		t.Error("other bytes")
	}
	if got := [2]int64{w.a.Requests.Load(), w.b.Requests.Load()}; got != [2]int64{a, b} || res.Retries != retries || res.Requests != int(a+b) {
		t.Errorf("requests %v, want %d and %d; %d retries, want %d; the result has %d requests", got, a, b, res.Retries, retries, res.Requests)
	}
	if took := time.Since(began); took > most {
		t.Errorf("it took %v, want at most %v", took, most)
	}
}

// TestFallbackStaysAndReturns checks that requests stay with the second endpoint, that the first one is tried again after pauses that
// grow, which costs no attempt and little time, and that all requests return to it once it works.
func TestFallbackStaysAndReturns(t *testing.T) {
	harness.Tried.Add("cases from the field", 1)
	synctest.Test(t, func(t *testing.T) {
		w := newEndpointsInABubble(t)
		const quick = 20 * harness.ServicePause
		w.asks(t, 1, 0, 0, quick)
		w.state.Store(refuses)
		w.asks(t, 1, 1, 1, quick)
		w.asks(t, 0, 1, 0, quick)
		time.Sleep(30 * time.Second)
		w.asks(t, 1, 1, 0, quick) // tried again
		time.Sleep(30 * time.Second)
		w.asks(t, 0, 1, 0, quick) // the next pause is a minute
		time.Sleep(30 * time.Second)
		w.asks(t, 1, 1, 0, quick)
		time.Sleep(2 * time.Minute)
		w.state.Store(hangs)
		w.asks(t, 1, 1, 0, quick+5*time.Second)
		for range 10 { // the pause grows to ten minutes
			time.Sleep(10 * time.Minute)
			w.asks(t, 1, 1, 0, quick+5*time.Second)
		}
		w.state.Store(works)
		w.asks(t, 0, 1, 0, quick)
		time.Sleep(10 * time.Minute)
		w.asks(t, 1, 0, 0, quick)
		w.asks(t, 1, 0, 0, quick)
		if charged, again := strings.Count(w.log.String(), isCharged), strings.Count(w.log.String(), usedAgain); charged != 1 || again != 1 {
			t.Errorf("%d and %d lines:\n%s", charged, again, w.log.String())
		}
		w.state.Store(refuses)
		w.asks(t, 1, 1, 1, quick)
		if charged := strings.Count(w.log.String(), isCharged); charged != 2 {
			t.Errorf("%d warnings:\n%s", charged, w.log.String())
		}
	})
}

// TestFallbackEveryNetworkEventFails fails each event of the connections to the first endpoint once, or it and all later ones, in fresh
// and resumed downloads. With a second endpoint each of them succeeds.
func TestFallbackEveryNetworkEventFails(t *testing.T) {
	for _, forever := range []bool{false, true} {
		for _, resumed := range []bool{false, true} {
			t.Run(fmt.Sprintf("forever %t, resumed %t", forever, resumed), func(t *testing.T) {
				t.Parallel()
				w := newTwoEndpoints(t)
				w.content = osstest.Random(3, wireSize)
				w.put(w.a, "key", w.content)
				w.put(w.b, "key", w.content)
				opts := []ossdl.Option{ossdl.WithPartSize(wirePart), ossdl.WithConcurrency(2)}
				if resumed {
					from(w.a, 2, func(*osstest.Request) *osstest.Fault { return osstest.Error(403, "AccessDenied") })
					if _, err := w.downloader(append(opts, ossdl.WithConcurrency(1))...).Download(t.Context(), "bkt", "key", w.path); err == nil {
						t.Fatal("no error")
					}
					w.a.ClearFaults()
					w.http[0].CloseIdleConnections()
				}
				left := folder(t, filepath.Dir(w.path))
				failed := 0
				for i, missed := 0, 0; missed < missesInARow; i++ {
					refill(t, filepath.Dir(w.path), left)
					wf := newWireFault(i, syscall.ECONNRESET)
					wf.forever = forever
					wf.into(harness.TransportOf(w.http[0]))
					res, err := w.downloader(opts...).Download(t.Context(), "bkt", "key", w.path)
					w.http[0].CloseIdleConnections()
					wf.end()
					if err != nil || !res.Verified || (res.ResumedBytes == 0) == resumed {
						t.Fatalf("event %d, of %s: %+v, %v", i, wf.failed(), res, err)
					}
					harness.CheckFile(t, w.path, w.content)
					if wf.failed() == "" {
						missed++
						continue
					}
					missed = 0
					failed++
					harness.Tried.Add("network events failed", 1)
				}
				if failed == 0 {
					t.Error("nothing was failed")
				}
			})
		}
	}
}
