package ossdl

import "net/http"

// HTTPClient makes an HTTP client for ranges. Give it to the SDK's client with oss.HTTPClient. Each call makes a client
// with a pool of its own: use one for all.
//
// Its pool keeps a connection for each request in flight, and spreads the connections over the addresses of the endpoint.
// It speaks HTTP/1.1, since HTTP/2 would put all ranges on one connection. Proxies come from the environment. Dialing and
// the TLS handshake end after 10 s each; a body has no time limit of its own, see [WithStallTimeout].
//
// A redirect is followed only if the request carries no credentials. If it leads to another host, headers of OSS are
// removed first.
func HTTPClient() *http.Client { return newHTTPClient(MaxConcurrency) }
