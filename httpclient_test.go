package ossdl_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/leaks"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestHTTPClientKeepsToHTTP1 checks that HTTP/2 is not spoken to a server that offers it first: it would put all ranges on
// one connection.
func TestHTTPClientKeepsToHTTP1(t *testing.T) {
	s := harness.NewServer(t, osstest.WithTLS(), osstest.WithALPN("h2", "http/1.1"))
	content := osstest.Random(1, 4*harness.PartSize)
	s.Put("bkt", "k", content)
	hc := ossdl.HTTPClient()
	t.Cleanup(hc.CloseIdleConnections)
	harness.TransportOf(hc).TLSClientConfig = &tls.Config{RootCAs: s.Roots()}
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ossdl.New(client, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1)) // no request takes over from another
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "file")
	if _, err := d.Download(t.Context(), "bkt", "k", path); err != nil {
		t.Error(err)
	}
	if _, err := d.DownloadURL(t.Context(), s.URL("bkt", "k"), path, ossdl.WithHTTPClient(hc), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1})); !errors.As(err, new(oss.ServiceError)) {
		t.Errorf("the bucket is private, yet: %v", err)
	}
	if len(s.Requests()) != 5 {
		t.Errorf("%d requests, want 5", len(s.Requests()))
	}
	for _, r := range s.Requests() {
		if r.Method != http.MethodGet {
			t.Errorf("the server was spoken to in %s", r.Method) // PRI begins HTTP/2
		}
	}
}

// TestPoolKeepsAConnectionForEachRequest checks that many requests share as many connections as requests are in flight.
func TestPoolKeepsAConnectionForEachRequest(t *testing.T) {
	const n, parts = 32, 400
	for _, entryPoint := range []string{"Download", "DownloadURL"} {
		t.Run(entryPoint, func(t *testing.T) {
			s := harness.NewServer(t)
			s.CreateBucket("public", osstest.PublicRead())
			content := osstest.Random(1, parts<<10)
			s.Put("public", "k", content)
			// The first n answers are held until all are asked for, so that no connection is free before there are n.
			open := make(chan struct{})
			s.OnRequest(func(r *osstest.Request) *osstest.Fault {
				switch {
				case r.Seq == 0:
					return osstest.Inject().Gate(0, open)
				case r.Seq < n-1:
					return osstest.Inject().HoldHeaders(open)
				case r.Seq == n-1:
					close(open)
				}
				return nil
			})
			d := harness.NewDownloader(t, s, ossdl.WithPartSize(1<<10), ossdl.WithConcurrency(n))
			t.Cleanup(d.CloseIdleConnections)
			path := filepath.Join(t.TempDir(), "file")
			begun := time.Now()
			var err error
			if entryPoint == "Download" {
				_, err = d.Download(t.Context(), "public", "k", path)
			} else {
				_, err = d.DownloadURL(t.Context(), s.URL("public", "k"), path)
			}
			if err != nil {
				t.Fatal(err)
			}
			taken := harness.TakenOver(s.Requests(), n, time.Since(begun))
			harness.CheckFile(t, path, content)
			// On a busy machine net/http gives up some connections: those whose request is not reported as written within
			// 50 ms of the answer's end. A pool of its default size would give up some 370.
			if requests, conns := s.Stats().Requests, s.Conns(); requests < parts || requests > parts+taken || conns < n || conns >= 2*n {
				t.Errorf("%d connections for %d requests, %d of them at once", conns, requests, n)
			}
		})
	}
	tr := harness.TransportOf(ossdl.HTTPClient())
	if tr.MaxIdleConnsPerHost < ossdl.MaxConcurrency || tr.MaxIdleConns < ossdl.MaxConcurrency || tr.MaxConnsPerHost != 0 {
		t.Errorf("the pool keeps %d connections to a host, %d in all, and makes at most %d", tr.MaxIdleConnsPerHost, tr.MaxIdleConns, tr.MaxConnsPerHost)
	}
}

// TestRedirectTakesHeadersOff checks that what is meant for OSS goes to OSS, and not to the other host that an unsigned
// request is redirected to. To the same host it stays.
func TestRedirectTakesHeadersOff(t *testing.T) {
	content := osstest.Random(1, 4*harness.PartSize)
	s, elsewhere := harness.NewServer(t), harness.NewServer(t)
	for _, one := range []*osstest.Server{s, elsewhere} {
		one.CreateBucket("bkt", osstest.PublicRead())
		one.Put("bkt", "there", content)
	}
	hc := ossdl.HTTPClient()
	t.Cleanup(hc.CloseIdleConnections)
	client, err := s.ClientFor("", "", oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ossdl.New(client, ossdl.WithPartSize(harness.PartSize), ossdl.WithRequestOptions(oss.RequestPayer(oss.Requester)))
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]*osstest.Server{"same host": s, "another host": elsewhere} {
		t.Run(name, func(t *testing.T) {
			s.ClearFaults()
			s.OnRequest(func(r *osstest.Request) *osstest.Fault {
				if r.Key == "here" {
					return osstest.Inject().Redirect(to.URL("bkt", "there"), 302)
				}
				return nil
			})
			s.ResetLog()
			path := filepath.Join(t.TempDir(), "file")
			if _, err := d.Download(t.Context(), "bkt", "here", path); err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, path, content)
			for _, r := range s.Requests() {
				if r.Header.Get("X-Oss-Request-Payer") != "requester" {
					t.Errorf("%s was asked for with %v", r.Key, r.Header)
				}
			}
			if n := len(elsewhere.Requests()); (n > 0) != (to == elsewhere) {
				t.Errorf("%d requests to the other host", n)
			}
			for _, r := range elsewhere.Requests() {
				for header := range r.Header {
					if harness.IsOSSHeader(header) || header == "Referer" {
						t.Errorf("%s: %q was sent on", header, r.Header.Get(header))
					}
				}
				if r.Range == "" {
					t.Error("the range was not")
				}
			}
		})
		elsewhere.ResetLog()
	}
}

// transportOf returns the transport below the one of HTTPClient that bounds error bodies, which embeds it.
func transportOf(t *testing.T, hc *http.Client) *http.Transport {
	t.Helper()
	tr, ok := reflect.ValueOf(hc.Transport).Elem().Field(0).Interface().(*http.Transport)
	if !ok {
		t.Fatalf("the transport is a %T", hc.Transport)
	}
	return tr
}

// tuned makes a client whose connections end with the test.
func tuned(t *testing.T, changes ...func(*http.Transport)) *http.Client {
	t.Helper()
	hc := ossdl.HTTPClient(changes...)
	t.Cleanup(hc.CloseIdleConnections)
	return hc
}

// downloadOver downloads an object of a bucket that anyone may read, with credentials and by URL, over one client.
func downloadOver(t *testing.T, s *osstest.Server, hc *http.Client) {
	t.Helper()
	content := osstest.Random(1, 4*harness.PartSize)
	s.CreateBucket("public", osstest.PublicRead())
	s.Put("public", "k", content)
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ossdl.New(client, ossdl.WithPartSize(harness.PartSize), ossdl.WithHTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "file")
	if _, err := d.Download(t.Context(), "public", "k", path); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, content)
	if _, err := d.DownloadURL(t.Context(), s.URL("public", "k"), path); err != nil {
		t.Fatal(err)
	}
}

// TestOwnCA checks that a client trusts the roots it was given, and no others.
func TestOwnCA(t *testing.T) {
	s := harness.NewServer(t, osstest.WithTLS())
	downloadOver(t, s, tuned(t, func(t *http.Transport) { t.TLSClientConfig = &tls.Config{RootCAs: s.Roots()} }))

	client, err := s.Client(oss.HTTPClient(tuned(t)))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ossdl.New(client)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Download(t.Context(), "public", "k", filepath.Join(t.TempDir(), "file")); !errors.As(err, new(*tls.CertificateVerificationError)) {
		t.Errorf("no roots were given, yet: %v", err)
	}
}

// TestClientCertificate checks that a client shows the certificate it was given to a server that asks for one.
func TestClientCertificate(t *testing.T) {
	var shown atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown.Store(int32(len(r.TLS.PeerCertificates)))
		w.Header().Set("Content-Length", "5")
		io.WriteString(w, "hello")
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	hc := tuned(t, func(t *http.Transport) {
		t.TLSClientConfig = &tls.Config{RootCAs: roots, Certificates: s.TLS.Certificates}
	})
	d := harness.NewURLDownloader(t, ossdl.WithHTTPClient(hc))
	if _, err := d.DownloadURL(t.Context(), s.URL+"/k", filepath.Join(t.TempDir(), "file")); err != nil || shown.Load() != 1 {
		t.Errorf("%d certificates were shown, %v", shown.Load(), err)
	}
}

// TestOwnProxy checks that requests go to the proxy that was set, and that its password is hidden even if it is sent back.
func TestOwnProxy(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 1000)
	s.Put("bkt", "k", content)
	proxy := &url.URL{Scheme: "http", Host: s.Addr(), User: url.UserPassword("user", testProxyWord)}
	hc := tuned(t, func(t *http.Transport) { t.Proxy = http.ProxyURL(proxy) })
	client, err := oss.New("http://oss.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ossdl.New(client)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "file")
	if _, err := d.Download(t.Context(), "bkt", "k", path); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, content)
	word := s.Requests()[0].Header.Get("Proxy-Authorization")
	if _, word, _ = strings.Cut(word, " "); word == "" || s.Requests()[0].Host != "bkt.oss.test" {
		t.Fatalf("the proxy was asked for %s with %v", s.Requests()[0].Host, s.Requests()[0].Header)
	}

	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		return osstest.Inject().Reply(http.StatusProxyAuthRequired, "application/xml",
			"<Error><Code>Denied</Code><Message>not "+r.Header.Get("Proxy-Authorization")+", not "+testProxyWord+"</Message></Error>")
	})
	_, err = d.Download(t.Context(), "bkt", "k", path)
	if err == nil || !strings.Contains(err.Error(), "not Basic "+"***"+", not "+"***") {
		t.Errorf("nothing was hidden: %v", err)
	}
	leaks.NoSecret(t, err, testProxyWord, word)
}

// TestNoProxy checks that the environment's proxy can be switched off.
func TestNoProxy(t *testing.T) {
	if tr := transportOf(t, ossdl.HTTPClient(func(t *http.Transport) { t.Proxy = nil })); tr.Proxy != nil {
		t.Error("there is a proxy")
	}
	if tr := transportOf(t, ossdl.HTTPClient()); tr.Proxy == nil {
		t.Error("there is no proxy")
	}
}

// TestOwnDialer checks that a dialer that was set makes the connections, and can call the one that it replaces.
func TestOwnDialer(t *testing.T) {
	for name, wraps := range map[string]bool{"replaced": false, "wrapped": true} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewServer(t)
			var dialed atomic.Int32
			downloadOver(t, s, tuned(t, func(t *http.Transport) {
				dial := t.DialContext
				if !wraps {
					dial = new(net.Dialer).DialContext
				}
				t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
					dialed.Add(1)
					return dial(ctx, network, addr)
				}
			}))
			// A connection that was dialed beside one that became free may be accepted after the download.
			harness.WaitFor(t, s, func() bool { return dialed.Load() > 0 && int(dialed.Load()) == s.Conns() })
		})
	}
}

// newHTTP2Server makes a server that speaks HTTP/2 to clients that offer it, and HTTP/1.1 to others. It answers with content.
func newHTTP2Server(t *testing.T, protocols *sync.Map, content string) (s *httptest.Server, trust *tls.Config) {
	t.Helper()
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocols.Store(r.Proto, true)
		w.Header().Set("ETag", `"0123456789abcdef"`)
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
}

// TestHTTP2CannotBeSwitchedOn checks each way in which a transport is made to speak HTTP/2, against a server that does. The
// caller's own configuration stays as it was.
func TestHTTP2CannotBeSwitchedOn(t *testing.T) {
	http2 := new(http.Protocols)
	http2.SetHTTP1(true)
	http2.SetHTTP2(true)
	for name, change := range map[string]func(*http.Transport){
		"nothing":           func(*http.Transport) {},
		"ForceAttemptHTTP2": func(t *http.Transport) { t.ForceAttemptHTTP2 = true },
		"Protocols":         func(t *http.Transport) { t.Protocols = http2 },
		"NextProtos":        func(t *http.Transport) { t.TLSClientConfig.NextProtos = []string{"h2", "http/1.1"} },
		"TLSNextProto": func(t *http.Transport) {
			t.TLSClientConfig.NextProtos = []string{"h2", "http/1.1"}
			t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{
				"h2": func(string, *tls.Conn) http.RoundTripper { return overHTTP2{} },
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var protocols sync.Map
			s, mine := newHTTP2Server(t, &protocols, strings.Repeat("x", 4*harness.PartSize))
			var given []string
			hc := tuned(t, func(t *http.Transport) {
				t.TLSClientConfig = mine
				change(t)
				given = slices.Clone(mine.NextProtos)
			})
			d := harness.NewURLDownloader(t, ossdl.WithHTTPClient(hc), ossdl.WithPartSize(harness.PartSize), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}))
			if _, err := d.DownloadURL(t.Context(), s.URL+"/k", filepath.Join(t.TempDir(), "file")); err != nil {
				t.Error(err)
			}
			for protocol := range protocols.Range {
				if protocol != "HTTP/1.1" {
					t.Errorf("the server was spoken to in %s", protocol)
				}
			}
			if !slices.Equal(mine.NextProtos, given) {
				t.Errorf("the caller's configuration offers %v, and did %v", mine.NextProtos, given)
			}
		})
	}
}

// TestHTTP2OfADialer checks that a DialTLSContext that negotiates HTTP/2 gets an error, not a single connection for all
// ranges.
func TestHTTP2OfADialer(t *testing.T) {
	var protocols sync.Map
	s, trust := newHTTP2Server(t, &protocols, "hello")
	trust.NextProtos = []string{"h2"}
	hc := tuned(t, func(t *http.Transport) {
		t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			return (&tls.Dialer{Config: trust}).DialContext(ctx, network, addr)
		}
		t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{
			"h2": func(string, *tls.Conn) http.RoundTripper { return overHTTP2{} },
		}
	})
	_, err := harness.NewURLDownloader(t, ossdl.WithHTTPClient(hc), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1})).
		DownloadURL(t.Context(), s.URL+"/k", filepath.Join(t.TempDir(), "file"))
	if err == nil || errors.Is(err, errOverHTTP2) {
		t.Error(err)
	}
}

// overHTTP2 must not be asked.
type overHTTP2 struct{}

var errOverHTTP2 = errors.New("a request over HTTP/2")

func (overHTTP2) RoundTrip(*http.Request) (*http.Response, error) { return nil, errOverHTTP2 }

// TestPromisesHoldWhateverIsChanged checks what a caller cannot change, and that the rest is the caller's.
func TestPromisesHoldWhateverIsChanged(t *testing.T) {
	var order []int
	hc := ossdl.HTTPClient(
		func(t *http.Transport) {
			order = append(order, 1)
			t.DisableCompression, t.MaxResponseHeaderBytes, t.MaxIdleConnsPerHost = false, 1<<40, 3
		},
		func(t *http.Transport) { order = append(order, t.MaxIdleConnsPerHost) },
	)
	tr := transportOf(t, hc)
	if !tr.DisableCompression || tr.MaxResponseHeaderBytes != 256<<10 || !tr.Protocols.HTTP1() || tr.Protocols.HTTP2() {
		t.Errorf("compression %v, head up to %d, protocols %v", !tr.DisableCompression, tr.MaxResponseHeaderBytes, tr.Protocols)
	}
	if tr.MaxIdleConnsPerHost != 3 || !slices.Equal(order, []int{1, 3}) || hc.CheckRedirect == nil || hc.Timeout != 0 {
		t.Errorf("%d connections, order %v, time-out %v", tr.MaxIdleConnsPerHost, order, hc.Timeout)
	}
	for range 2 { // a new transport each time
		if transportOf(t, ossdl.HTTPClient()).MaxIdleConnsPerHost != ossdl.MaxConcurrency {
			t.Error("a change is left behind")
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a nil function is taken")
		}
	}()
	ossdl.HTTPClient(nil)
}

// TestErrorBodyIsBoundedOverATunedTransport checks that the bound on the bodies of refusals lies above what a caller
// changes.
func TestErrorBodyIsBoundedOverATunedTransport(t *testing.T) {
	s := harness.NewServer(t)
	s.OnRequest(func(*osstest.Request) *osstest.Fault {
		return osstest.Inject().Reply(http.StatusForbidden, "text/plain", strings.Repeat("x", 1<<20+1000))
	})
	hc := tuned(t, func(t *http.Transport) { t.DialContext = new(net.Dialer).DialContext })
	resp, err := hc.Get(s.URL("bkt", "k"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 1<<20 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}
