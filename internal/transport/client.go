// Package transport makes the HTTP client, and keeps credentials out of what comes back: it knows connections, the addresses
// of a host, redirects, and which headers and parameters are credentials. It must not know objects, ranges, retries or who
// makes a request. Its
// invariant: no redirect of a request with credentials is followed, no body of a refusal is read without a bound, and what
// [Secrets] has cleaned holds none of the credentials of its request.
package transport

import (
	"context"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 50 * time.Second
	// ErrorBodyLimit bounds how much is read of the body of an answer that is not a success, in bytes.
	ErrorBodyLimit = 1 << 20
	// headLimit bounds the head of an answer, in bytes. One of OSS has a few KiB, and at most 8 KiB of metadata.
	headLimit = 256 << 10
)

// NewClient makes a client whose pool keeps conns connections to one host. It speaks HTTP/1.1, since HTTP/2 would put
// all ranges on one connection. A body has no time limit: its reader must watch for stalls. Each of changes may alter the
// transport, except for what the client promises; see tune.
func NewClient(conns int, changes ...func(*http.Transport)) *http.Client {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	d := &spreadingDialer{connect: dialer.DialContext, lookup: net.DefaultResolver.LookupIPAddr, known: newAddresses()}
	client := &http.Client{
		Transport: &Transport{dialer: d, Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           d.dial,
			TLSHandshakeTimeout:   handshakeTimeout,
			ExpectContinueTimeout: time.Second,
			MaxIdleConns:          2 * conns,
			MaxIdleConnsPerHost:   conns,
			IdleConnTimeout:       idleTimeout,
		}},
		CheckRedirect: checkRedirect,
	}
	return tune(client, changes)
}

// Transport limits the bodies of answers that are not a success, because the SDK reads them whole. If such a body breaks
// off, Transport ends it as if it were complete: the SDK would return the error and drop the status, which says more.
type Transport struct {
	*http.Transport
	dialer *spreadingDialer
	shakes bool // the TLS connections are those of a handshaker
}

// Clone copies the transport alone, and leaves TLS to it: a handshaker would go on with the settings of the first.
func (t *Transport) Clone() *http.Transport {
	c := t.Transport.Clone()
	if t.shakes {
		c.DialTLSContext = nil
	}
	return c
}

// SetNetwork replaces how names are looked up and addresses are connected to, for tests.
func (t *Transport) SetNetwork(lookup func(ctx context.Context, host string) ([]net.IPAddr, error), connect func(ctx context.Context, network, addr string) (net.Conn, error)) {
	t.dialer.lookup, t.dialer.connect = lookup, connect
}

// RoundTrip implements [http.RoundTripper].
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	learn(r)
	if isSignedWithoutKey(r) {
		return nil, ErrEmptyKey
	}
	resp, err := t.send(r)
	if err == nil && resp.StatusCode/100 != 2 && resp.Body != nil {
		resp.Body = errorBody{io.LimitReader(resp.Body, ErrorBodyLimit), resp.Body}
	}
	return resp, err
}

// send sends a request. An answer over TLS says so.
func (t *Transport) send(r *http.Request) (*http.Response, error) {
	if !t.shakes || r.URL == nil || r.URL.Scheme != "https" {
		return t.Transport.RoundTrip(r)
	}
	var secure secureAnswer
	resp, err := t.Transport.RoundTrip(secure.watch(r))
	if err == nil {
		secure.complete(resp, r)
	}
	return resp, err
}

// errorBody ends at the first error.
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
