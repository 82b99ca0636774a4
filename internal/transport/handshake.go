package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
)

// A handshaker makes the TLS connections of a transport, as net/http would. But the transport gets connections that hand over
// the bytes of answers alone: what net/http encrypts itself, it reads and prints as it comes.
type handshaker struct {
	transport *http.Transport
}

// dial connects and makes a handshake. The settings are read for each connection, as net/http does.
func (h handshaker) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	plain, err := h.transport.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if plain == nil {
		return nil, errors.New("DialContext returned no connection and no error")
	}
	if c, ok := plain.(*answersConn); ok {
		plain = c.Conn // answers are told from the rest where they can be read
	}
	config := new(tls.Config)
	if given := h.transport.TLSClientConfig; given != nil {
		config = given.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	conn := tls.Client(plain, config)
	state, err := h.shake(ctx, conn)
	if err != nil {
		_ = plain.Close() // the handshake has failed, whatever closing says
		return nil, err
	}
	return &answersConn{Conn: conn, secure: state}, nil
}

// shake makes the handshake, and calls the hooks that the context has for it.
func (h handshaker) shake(ctx context.Context, conn *tls.Conn) (*tls.ConnectionState, error) {
	hooks := httptrace.ContextClientTrace(ctx)
	if hooks == nil {
		hooks = &httptrace.ClientTrace{}
	}
	bounded := ctx
	if d := h.transport.TLSHandshakeTimeout; d != 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	if hooks.TLSHandshakeStart != nil {
		hooks.TLSHandshakeStart()
	}
	err := conn.HandshakeContext(bounded)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = handshakeTimeoutError{}
	}
	var state tls.ConnectionState
	if err == nil {
		state = conn.ConnectionState()
	}
	if hooks.TLSHandshakeDone != nil {
		hooks.TLSHandshakeDone(state, err)
	}
	return &state, err
}

// handshakeTimeoutError is the error of net/http for the same.
type handshakeTimeoutError struct{}

func (handshakeTimeoutError) Error() string   { return "net/http: TLS handshake timeout" }
func (handshakeTimeoutError) Timeout() bool   { return true }
func (handshakeTimeoutError) Temporary() bool { return true }

// secureAnswer sets the TLS field of the answer to a request, which net/http leaves empty for connections of a handshaker.
type secureAnswer struct {
	hooks httptrace.ClientTrace
	conn  net.Conn // the last that the request was sent over
}

// watch returns the request to send in place of r.
func (a *secureAnswer) watch(r *http.Request) *http.Request {
	a.hooks.GotConn = func(info httptrace.GotConnInfo) { a.conn = info.Conn }
	return r.WithContext(httptrace.WithClientTrace(r.Context(), &a.hooks))
}

// complete makes of the answer to the watched request the one to r.
func (a *secureAnswer) complete(resp *http.Response, r *http.Request) {
	resp.Request = r
	if c, ok := a.conn.(*answersConn); ok && resp.TLS == nil {
		resp.TLS = c.secure
	}
}
