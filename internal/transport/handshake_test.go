package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"slices"
	"testing"
	"time"
)

// newTLSServer makes a server with handler, and a configuration that trusts it.
func newTLSServer(t *testing.T, handler http.HandlerFunc) (*httptest.Server, *tls.Config) {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
}

// fetch gets a URL, and the events of the handshake.
func fetch(t *testing.T, client *http.Client, url string) (resp *http.Response, events []string, err error) {
	t.Helper()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		TLSHandshakeStart: func() { events = append(events, "start") },
		TLSHandshakeDone: func(s tls.ConnectionState, err error) {
			events = append(events, fmt.Sprint("done ", s.HandshakeComplete, " ", err != nil))
		},
		GotConn: func(info httptrace.GotConnInfo) { events = append(events, fmt.Sprint("reused ", info.Reused)) },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err = client.Do(req)
	if err != nil {
		return nil, events, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	if resp.Request != req {
		t.Error("the answer is to another request")
	}
	return resp, events, nil
}

// TestHandshakeIsAsOfNetHTTP checks that an answer and the hooks of its request say of TLS what net/http says, and that the
// settings of a caller hold.
func TestHandshakeIsAsOfNetHTTP(t *testing.T) {
	s, trust := newTLSServer(t, func(http.ResponseWriter, *http.Request) {})
	named := trust.Clone()
	named.ServerName = "example.com"
	wrong := trust.Clone()
	wrong.ServerName = "elsewhere.test"
	offers := trust.Clone()
	offers.NextProtos = []string{"http/1.1"}
	for name, config := range map[string]*tls.Config{"no name": trust, "a name": named, "a wrong name": wrong, "ALPN": offers, "no roots": nil} {
		t.Run(name, func(t *testing.T) {
			ours := NewClient(1, func(t *http.Transport) { t.TLSClientConfig = config })
			t.Cleanup(ours.CloseIdleConnections)
			theirs := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DialContext: new(net.Dialer).DialContext}}
			t.Cleanup(theirs.CloseIdleConnections)
			for range 2 { // the second time over the same connection
				got, events, err := fetch(t, ours, s.URL)
				want, wantEvents, wantErr := fetch(t, theirs, s.URL)
				if !slices.Equal(events, wantEvents) || fmt.Sprint(err) != fmt.Sprint(wantErr) || fmt.Sprintf("%T", errors.Unwrap(err)) != fmt.Sprintf("%T", errors.Unwrap(wantErr)) {
					t.Fatalf("%v %v, want %v %v", events, err, wantEvents, wantErr)
				}
				if err != nil {
					continue
				}
				if got.TLS == nil || got.TLS.ServerName != want.TLS.ServerName || got.TLS.Version != want.TLS.Version || !got.TLS.HandshakeComplete ||
					got.TLS.NegotiatedProtocol != want.TLS.NegotiatedProtocol || !got.TLS.PeerCertificates[0].Equal(want.TLS.PeerCertificates[0]) {
					t.Errorf("the answer says %+v of TLS, want %+v", got.TLS, want.TLS)
				}
			}
		})
	}
}

// TestSettingsAreReadForEachHandshake checks that a configuration that was set late holds, and that the one of a caller is not
// changed.
func TestSettingsAreReadForEachHandshake(t *testing.T) {
	s, trust := newTLSServer(t, func(http.ResponseWriter, *http.Request) {})
	client := NewClient(1)
	t.Cleanup(client.CloseIdleConnections)
	client.Transport.(*Transport).TLSClientConfig = trust
	if _, _, err := fetch(t, client, s.URL); err != nil {
		t.Error(err)
	}
	if trust.ServerName != "" || trust.NextProtos != nil {
		t.Errorf("the configuration is %+v", trust)
	}
}

// TestHandshakeEnds checks that a handshake ends with the time-out of the transport, and with the pool once its request was given
// up, with the errors of net/http.
func TestHandshakeEnds(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	client := NewClient(1, func(t *http.Transport) { t.TLSHandshakeTimeout = time.Millisecond })
	_, events, err := fetch(t, client, "https://"+silent.Addr().String())
	if timeout := (net.Error)(nil); !errors.As(err, &timeout) || !timeout.Timeout() || errors.Unwrap(err).Error() != "net/http: TLS handshake timeout" {
		t.Errorf("after a time-out: %v", err)
	}
	if !slices.Equal(events, []string{"start", "done false true"}) {
		t.Errorf("the hooks saw %v", events)
	}

	ctx, cancel := context.WithCancel(t.Context())
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{TLSHandshakeStart: cancel})
	left := make(chan struct{})
	client = NewClient(1, func(t *http.Transport) {
		t.TLSHandshakeTimeout = 0
		t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			return closing{c, left}, err
		}
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+silent.Addr().String(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err == nil {
		resp.Body.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after the context: %v", err)
	}
	client.CloseIdleConnections() // net/http keeps connecting for another request until then
	<-left
}

// closing tells that it is closed.
type closing struct {
	net.Conn
	closed chan struct{}
}

func (c closing) Close() error {
	select {
	case <-c.closed:
	default:
		close(c.closed)
	}
	return c.Conn.Close()
}

// TestTLSOfACaller checks that a dialer for TLS that the caller has set is used, and that a copy of a transport makes its own
// handshakes.
func TestTLSOfACaller(t *testing.T) {
	s, trust := newTLSServer(t, func(http.ResponseWriter, *http.Request) {})
	var dialed int
	dial := func(network, addr string) (net.Conn, error) {
		dialed++
		return tls.Dial(network, addr, trust)
	}
	for name, set := range map[string]func(*http.Transport){
		"DialTLSContext": func(t *http.Transport) {
			t.DialTLSContext = func(_ context.Context, network, addr string) (net.Conn, error) { return dial(network, addr) }
		},
		"DialTLS": func(t *http.Transport) { t.DialTLS = dial }, //lint:ignore SA1019 it is still called
	} {
		dialed = 0
		client := NewClient(1, set)
		t.Cleanup(client.CloseIdleConnections)
		if resp, _, err := fetch(t, client, s.URL); err != nil || dialed != 1 || resp.TLS == nil {
			t.Errorf("%s: dialed %d times, %v", name, dialed, err)
		}
		if c := client.Transport.(*Transport).Clone(); (c.DialTLSContext == nil) != (name == "DialTLS") {
			t.Errorf("%s: the copy has a dialer: %v", name, c.DialTLSContext != nil)
		}
	}

	copied := NewClient(1).Transport.(*Transport).Clone()
	copied.TLSClientConfig = trust
	t.Cleanup(copied.CloseIdleConnections)
	if resp, _, err := fetch(t, &http.Client{Transport: copied}, s.URL); err != nil || resp.TLS == nil {
		t.Errorf("over a copy: %v", err)
	}
}

// TestPlainServerOverTLS checks that the error for a server without TLS is that of net/http.
func TestPlainServerOverTLS(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	_, _, err := fetch(t, NewClient(1), "https://"+s.Listener.Addr().String())
	if !errors.Is(err, http.ErrSchemeMismatch) {
		t.Error(err)
	}
}

// TestHTTPSProxy checks that requests pass a proxy that is spoken to over TLS: it is the server of the first handshake, and
// the server of the request that of the second.
func TestHTTPSProxy(t *testing.T) {
	hello := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }
	s, trust := newTLSServer(t, hello)
	asked := make(chan string, 4)
	proxy, trustProxy := newTLSServer(t, func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.RequestURI
		if r.Method != http.MethodConnect {
			hello(w, r)
			return
		}
		to, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		// Before the answer: afterwards the server might have read what the client sends next.
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			_, _ = io.Copy(to, c) // until the client ends
			to.Close()
		}()
		_, _ = io.Copy(c, to)
		c.Close()
	})
	if !trustProxy.RootCAs.Equal(trust.RootCAs) {
		t.Fatal("the servers have different roots")
	}
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := NewClient(1, func(t *http.Transport) { t.Proxy, t.TLSClientConfig = http.ProxyURL(at), trust })
	for _, u := range []string{"http://example.com/a", "https://example.com/b"} {
		if resp, _, err := fetch(t, client, u); err != nil || resp.ContentLength != 5 || (resp.TLS != nil) != (resp.Request.URL.Scheme == "https") {
			t.Errorf("%s: %+v, %v", u, resp, err)
		}
	}
	client.CloseIdleConnections()
	for _, want := range []string{"GET http://example.com/a", "CONNECT example.com:443"} {
		if got := <-asked; got != want {
			t.Errorf("the proxy was asked for %q, want %q", got, want)
		}
	}
}

// TestBytesBehindAnAnswerOverTLS checks that bytes behind an answer end a connection over TLS, and are not printed.
func TestBytesBehindAnAnswerOverTLS(t *testing.T) {
	var printed bytes.Buffer // the log package writes to it under a lock
	before := log.Writer()
	log.SetOutput(&printed)
	t.Cleanup(func() { log.SetOutput(before) })
	for _, answer := range []string{"Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"} {
		ended := make(chan error, 1)
		s, trust := newTLSServer(t, func(w http.ResponseWriter, _ *http.Request) {
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			rw.WriteString("HTTP/1.1 200 OK\r\n" + answer + "more of the object")
			rw.Flush()
			_, err = rw.Read(make([]byte, 1))
			ended <- err
		})
		client := NewClient(1, func(t *http.Transport) { t.TLSClientConfig = trust })
		if _, _, err := fetch(t, client, s.URL); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != io.EOF {
			t.Errorf("the connection was used again: %v", err)
		}
	}
	if printed.Len() > 0 {
		t.Errorf("printed: %s", &printed)
	}
}
