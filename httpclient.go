package ossdl

import (
	"net/http"

	"github.com/ossdl/ossdl/internal/transport"
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
	return transport.NewClient(MaxConcurrency, changes...)
}
