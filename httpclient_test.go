package ossdl

import (
	"crypto/tls"
	"errors"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/osstest"
)

// TestHTTPClientKeepsToHTTP1: HTTP/2 would put all ranges on one connection, so it is not spoken to a server that offers it
// first.
func TestHTTPClientKeepsToHTTP1(t *testing.T) {
	s := newServer(t, osstest.WithTLS(), osstest.WithALPN("h2", "http/1.1"))
	content := osstest.Random(1, 4*testPart)
	s.Put("bkt", "k", content)
	hc := HTTPClient()
	t.Cleanup(hc.CloseIdleConnections)
	TransportOf(hc).TLSClientConfig = &tls.Config{RootCAs: s.Roots()}
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(client, WithPartSize(testPart))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "file")
	if _, err := d.Download(t.Context(), "bkt", "k", path); err != nil {
		t.Error(err)
	}
	if _, err := d.DownloadURL(t.Context(), s.URL("bkt", "k"), path, WithHTTPClient(hc), WithRetry(RetryPolicy{Attempts: 1})); !errors.As(err, new(oss.ServiceError)) {
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

// TestPoolKeepsAConnectionForEachRequest: many more requests than connections, and of these as many as requests in flight.
func TestPoolKeepsAConnectionForEachRequest(t *testing.T) {
	const n, parts = 32, 400
	for _, entrance := range []string{"Download", "DownloadURL"} {
		t.Run(entrance, func(t *testing.T) {
			s := newServer(t)
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
			d := newDownloader(t, s, WithPartSize(1<<10), WithConcurrency(n))
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
			checkFile(t, path, content)
			if requests, conns := s.Stats().Requests, s.Conns(); requests != parts || conns != n {
				t.Errorf("%d connections for %d requests, %d of them at once", conns, requests, n)
			}
		})
	}
	tr := TransportOf(HTTPClient())
	if tr.MaxIdleConnsPerHost < MaxConcurrency || tr.MaxIdleConns < MaxConcurrency || tr.MaxConnsPerHost != 0 {
		t.Errorf("the pool keeps %d connections to a host, %d in all, and makes at most %d", tr.MaxIdleConnsPerHost, tr.MaxIdleConns, tr.MaxConnsPerHost)
	}
}

// TestProxyFromTheEnvironment runs in another process, since net/http reads the environment once. The server is the proxy:
// the name asked for does not exist.
func TestProxyFromTheEnvironment(t *testing.T) {
	s := newServer(t)
	content := osstest.Random(1, 1000)
	s.Put("bkt", "k", content)
	path := filepath.Join(t.TempDir(), "file")
	cmd := newChild(t, s, "download", path, "k")
	cmd.Env = append(cmd.Env, childEnv+"=http://oss.test", "HTTP_PROXY=http://"+s.Addr(), "http_proxy=http://"+s.Addr(), "NO_PROXY=", "no_proxy=")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	checkFile(t, path, content)
	for _, r := range s.Requests() {
		if r.Host != "bkt.oss.test" {
			t.Errorf("the proxy was asked for %s", r.Host)
		}
	}
}
