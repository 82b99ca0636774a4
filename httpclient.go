package ossdl

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 50 * time.Second
	// errorBodyLimit bounds what is read of the body of an answer that is no success.
	errorBodyLimit = 1 << 20
	// headLimit bounds the head of an answer, in bytes. That of OSS has some KiB, with 8 KiB of metadata.
	headLimit = 256 << 10
)

// HTTPClient makes an HTTP client for ranges: give it to the SDK's client with oss.HTTPClient. Make one and use it for all:
// every client has a pool of connections of its own.
//
//   - Its pool keeps a connection for each request in flight, and spreads them over the addresses of the endpoint.
//   - It speaks HTTP/1.1 only, since HTTP/2 would put all ranges on one connection, and asks for no compression.
//   - Proxies come from the environment. Dialing and the TLS handshake end after 10 s each. A body has no time limit; see
//     [WithStallTimeout].
//   - A redirect is followed only for a request without credentials. Headers of OSS are dropped if it leads to another host.
//   - The header of an answer, and the body of one that is not a success, are bounded.
//   - Errors do not show the credentials of a request, even if a server sends them back.
//
// The functions change the transport before it is used; they are called in order. A nil function panics. Set there what the
// SDK's options cannot set beside oss.HTTPClient:
//
//	ossdl.HTTPClient(func(t *http.Transport) {
//		t.Proxy = http.ProxyURL(proxy)
//		t.TLSClientConfig = &tls.Config{RootCAs: roots, Certificates: certificates}
//		t.DialContext = (&net.Dialer{Timeout: 10 * time.Second, LocalAddr: local}).DialContext
//	})
//
// HTTP/1.1, no compression and the bounds hold whatever they set. With a DialContext of their own, connections are no
// longer spread over the addresses, unless it calls the one that it found there; Dial, which is deprecated, has no effect.
// A DialTLSContext must negotiate HTTP/1.1. A smaller pool than the default costs handshakes.
func HTTPClient(changes ...func(*http.Transport)) *http.Client {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	d := &spreadingDialer{connect: dialer.DialContext, lookup: net.DefaultResolver.LookupIPAddr}
	client := &http.Client{
		Transport: &transport{&http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           d.dial,
			TLSHandshakeTimeout:   handshakeTimeout,
			ExpectContinueTimeout: time.Second,
			MaxIdleConns:          2 * MaxConcurrency,
			MaxIdleConnsPerHost:   MaxConcurrency,
			IdleConnTimeout:       idleTimeout,
		}},
		CheckRedirect: checkRedirect,
	}
	return tune(client, changes)
}

// maxRedirects is what net/http follows.
const maxRedirects = 10

var errRedirects = fmt.Errorf("more than %d redirects", maxRedirects)

// checkRedirect follows no redirect of a credentialed request, and takes headers of OSS off the others.
func checkRedirect(next *http.Request, via []*http.Request) error {
	first := via[0]
	if first.Header.Get("Authorization") != "" || first.Header.Get("x-oss-security-token") != "" {
		return http.ErrUseLastResponse
	}
	if len(via) >= maxRedirects {
		return errRedirects
	}
	if next.URL.Host != first.URL.Host {
		for name := range next.Header {
			if isOSSHeader(name) {
				next.Header.Del(name)
			}
		}
	}
	// The address just left may hold a signature in its query.
	next.Header.Del("Referer")
	return nil
}

func isOSSHeader(name string) bool {
	return len(name) > 6 && http.CanonicalHeaderKey(name[:6]) == "X-Oss-"
}

// transport bounds the bodies of answers that are no success: the SDK reads them whole. It also ends one where it
// cannot be read on, since the SDK would return that error and drop the status, which says more.
type transport struct{ *http.Transport }

func (b *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	learn(r)
	resp, err := b.Transport.RoundTrip(r)
	if err == nil && resp.StatusCode/100 != 2 && resp.Body != nil {
		resp.Body = errorBody{io.LimitReader(resp.Body, errorBodyLimit), resp.Body}
	}
	return resp, err
}

type errorBody struct {
	io.Reader
	io.Closer
}

func (b errorBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

// spreadingDialer starts each connection at another of the host's addresses, and tries the others where one fails.
type spreadingDialer struct {
	connect func(ctx context.Context, network, addr string) (net.Conn, error)
	lookup  func(ctx context.Context, host string) ([]net.IPAddr, error)
	next    atomic.Uint32
}

func (d *spreadingDialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || net.ParseIP(host) != nil {
		return d.connect(ctx, network, addr)
	}
	ips, err := d.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	if !sameFamily(ips) {
		// Both families: which of them works is better found by the dialer, which tries them side by side.
		return d.connect(ctx, network, addr)
	}
	start := int(d.next.Add(1) % uint32(len(ips)))
	for i := range ips {
		var c net.Conn
		ip := ips[(start+i)%len(ips)]
		if c, err = d.connect(ctx, network, net.JoinHostPort(ip.String(), port)); err == nil || ctx.Err() != nil {
			return c, err
		}
	}
	return nil, err
}

// sameFamily reports whether there are several addresses and all are IPv4, or all IPv6.
func sameFamily(ips []net.IPAddr) bool {
	v4 := 0
	for _, ip := range ips {
		if ip.IP.To4() != nil {
			v4++
		}
	}
	return len(ips) > 1 && (v4 == 0 || v4 == len(ips))
}
