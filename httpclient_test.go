package ossdl

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/osstest"
)

// transportOf is what HTTPClient has below its bound on error bodies.
func transportOf(t *testing.T, hc *http.Client) *http.Transport {
	t.Helper()
	tr, ok := hc.Transport.(*transport)
	if !ok {
		t.Fatalf("the transport is a %T", hc.Transport)
	}
	return tr.Transport
}

// TestHTTPClientKeepsToHTTP1: HTTP/2 would put all ranges on one connection, so it is not spoken to a server that offers it
// first.
func TestHTTPClientKeepsToHTTP1(t *testing.T) {
	s := newServer(t, osstest.WithTLS(), osstest.WithALPN("h2", "http/1.1"))
	content := osstest.Random(1, 4*testPart)
	s.Put("bkt", "k", content)
	hc := HTTPClient()
	t.Cleanup(hc.CloseIdleConnections)
	transportOf(t, hc).TLSClientConfig = &tls.Config{RootCAs: s.Roots()}
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
	tr := transportOf(t, HTTPClient())
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

// TestCheckRedirect holds the rule itself against requests of all kinds.
func TestCheckRedirect(t *testing.T) {
	request := func(u string, header http.Header) *http.Request {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		return &http.Request{URL: parsed, Header: header}
	}
	for _, name := range []string{"Authorization", "X-Oss-Security-Token"} {
		first := request("http://a.test/k", http.Header{name: {"v"}})
		if err := checkRedirect(request("http://a.test/l", http.Header{}), []*http.Request{first}); !errors.Is(err, http.ErrUseLastResponse) {
			t.Errorf("a redirect of a request with %s: %v", name, err)
		}
	}
	for _, c := range []struct {
		to   string
		keep bool // headers of OSS
	}{{"http://a.test/l", true}, {"https://b.test/k", false}, {"http://a.test:8080/k", false}} {
		next := request(c.to, http.Header{"X-Oss-Request-Payer": {"requester"}, "Referer": {"http://a.test/k?Signature=s"}, "Range": {"bytes=0-1"}})
		if err := checkRedirect(next, []*http.Request{request("http://a.test/k?Signature=s", http.Header{})}); err != nil {
			t.Errorf("%s: %v", c.to, err)
		}
		if (next.Header.Get("X-Oss-Request-Payer") != "") != c.keep || next.Header.Get("Referer") != "" || next.Header.Get("Range") == "" {
			t.Errorf("%s is asked with %v", c.to, next.Header)
		}
	}
	via := slices.Repeat([]*http.Request{request("http://a.test/k", http.Header{})}, maxRedirects)
	if err := checkRedirect(request("http://a.test/l", http.Header{}), via); !errors.Is(err, errRedirects) {
		t.Errorf("after %d redirects: %v", maxRedirects, err)
	}
}

// dials is a network of addresses that answer or not.
type dials struct {
	dead  []string // addresses
	tried []string
}

func (d *dials) connect(_ context.Context, _, addr string) (net.Conn, error) {
	d.tried = append(d.tried, addr)
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if slices.Contains(d.dead, host) {
		return nil, errors.New(host + " is dead")
	}
	return nil, nil
}

// newSpreadingDialer dials on the network, and finds the addresses for any name.
func newSpreadingDialer(on *dials, addresses ...string) *spreadingDialer {
	return &spreadingDialer{connect: on.connect, lookup: func(context.Context, string) (ips []net.IPAddr, err error) {
		for _, a := range addresses {
			ips = append(ips, net.IPAddr{IP: net.ParseIP(a)})
		}
		if ips == nil {
			err = &net.DNSError{Err: "no such host", IsNotFound: true}
		}
		return ips, err
	}}
}

func TestConnectionsSpreadOverTheAddresses(t *testing.T) {
	for _, all := range [][]string{{"10.0.0.1", "10.0.0.2", "10.0.0.3"}, {"fd00::1", "fd00::2"}} {
		on := &dials{}
		d := newSpreadingDialer(on, all...)
		for range 10 * len(all) {
			if _, err := d.dial(t.Context(), "tcp", "oss.test:80"); err != nil {
				t.Fatal(err)
			}
		}
		for _, a := range all {
			n := 0
			for _, tried := range on.tried {
				if tried == net.JoinHostPort(a, "80") {
					n++
				}
			}
			if n != 10 {
				t.Errorf("%d of %d connections go to %s", n, len(on.tried), a)
			}
		}
	}
}

func TestDeadAddressIsPassedOver(t *testing.T) {
	all := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}
	for dead := range 3 {
		on := &dials{dead: all[:dead+1]}
		d := newSpreadingDialer(on, all...)
		for range 6 {
			if on.tried = nil; dead == 2 {
				if _, err := d.dial(t.Context(), "tcp", "oss.test:80"); err == nil || len(on.tried) != 3 {
					t.Errorf("all are dead: %v after trying %v", err, on.tried)
				}
				continue
			}
			if _, err := d.dial(t.Context(), "tcp", "oss.test:80"); err != nil {
				t.Errorf("%v after trying %v", err, on.tried)
			}
			if n := len(on.tried); slices.Contains(on.tried[:n-1], on.tried[n-1]) || n > dead+2 {
				t.Errorf("tried %v", on.tried)
			}
		}
	}
	// A context that has ended makes no further attempt.
	ctx, cancel := context.WithCancel(t.Context())
	on := &dials{dead: all}
	d := newSpreadingDialer(on, all...)
	connect := d.connect
	d.connect = func(ctx context.Context, network, addr string) (net.Conn, error) {
		defer cancel()
		return connect(ctx, network, addr)
	}
	if _, err := d.dial(ctx, "tcp", "oss.test:80"); err == nil || len(on.tried) != 1 {
		t.Errorf("%v after trying %v", err, on.tried)
	}
}

// TestNamesLeftToTheDialer: where there is nothing to choose, or both families are there, the name itself is dialed, and an
// address is not looked up.
func TestNamesLeftToTheDialer(t *testing.T) {
	for _, c := range []struct {
		addr  string
		found []string
		want  string
	}{
		{"oss.test:80", []string{"10.0.0.1"}, "oss.test:80"},
		{"oss.test:80", []string{"10.0.0.1", "fd00::1"}, "oss.test:80"},
		{"127.0.0.1:80", nil, "127.0.0.1:80"},
		{"[::1]:80", nil, "[::1]:80"},
	} {
		on := &dials{}
		if _, err := newSpreadingDialer(on, c.found...).dial(t.Context(), "tcp", c.addr); err != nil || !slices.Equal(on.tried, []string{c.want}) {
			t.Errorf("%s at %v: %v after trying %v", c.addr, c.found, err, on.tried)
		}
	}
	var dns *net.DNSError
	if _, err := newSpreadingDialer(&dials{}).dial(t.Context(), "tcp", "oss.test:80"); !errors.As(err, &dns) {
		t.Errorf("a name without addresses: %v", err)
	}
}
