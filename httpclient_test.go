package ossdl_test

import (
	"crypto/tls"
	"errors"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
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
	d, err := ossdl.New(client, ossdl.WithPartSize(harness.PartSize))
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
	for _, entrance := range []string{"Download", "DownloadURL"} {
		t.Run(entrance, func(t *testing.T) {
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
			var err error
			if entrance == "Download" {
				_, err = d.Download(t.Context(), "public", "k", path)
			} else {
				_, err = d.DownloadURL(t.Context(), s.URL("public", "k"), path)
			}
			if err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, path, content)
			if requests, conns := s.Stats().Requests, s.Conns(); requests != parts || conns != n {
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
