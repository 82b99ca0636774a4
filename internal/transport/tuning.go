package transport

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
)

// tune lets functions of a caller change the transport of a new client. Then it sets what the client promises, whatever they
// did.
func tune(client *http.Client, changes []func(*http.Transport)) *http.Client {
	ours := client.Transport.(*Transport)
	t := ours.Transport
	for _, change := range changes {
		change(t)
	}
	keepToHTTP1(t)
	if t.DialContext != nil {
		t.DialContext = answersOf(t.DialContext)
		//lint:ignore SA1019 net/http still calls DialTLS, so it is the caller's
		if t.DialTLSContext == nil && t.DialTLS == nil {
			t.DialTLSContext, ours.shakes = handshaker{t}.dial, true
		}
	}
	t.DisableCompression = true
	t.MaxResponseHeaderBytes = headLimit
	if t.Proxy != nil {
		t.Proxy = learnProxy(t.Proxy)
	}
	t.OnProxyConnectResponse = checkProxy(t.OnProxyConnectResponse)
	return client
}

// ProxyError says that a proxy refused to connect to the server of a request.
type ProxyError struct {
	Status int
	Host   string // of the proxy, without user and password
}

func (e *ProxyError) Error() string {
	s := fmt.Sprintf("the proxy %s refused the connection: status %d %s", e.Host, e.Status, http.StatusText(e.Status))
	switch e.Status {
	case http.StatusProxyAuthRequired:
		s += "; user and password belong in the URL of the proxy, for example in HTTPS_PROXY"
	case http.StatusForbidden:
		s += "; allow the endpoint in the proxy, or add it to NO_PROXY"
	}
	return s
}

// Final reports whether the proxy would refuse the same request again. One that has let others through may only allow few
// connections.
func (e *ProxyError) Final(answered bool) bool {
	return e.Status/100 == 4 && e.Status != http.StatusRequestTimeout && e.Status != http.StatusTooManyRequests &&
		(!answered || e.Status == http.StatusProxyAuthRequired)
}

type proxyCheck = func(context.Context, *url.URL, *http.Request, *http.Response) error

// checkProxy makes a typed error of a proxy's refusal: that of net/http has neither its status nor its name. Another check
// comes first.
func checkProxy(other proxyCheck) proxyCheck {
	return func(ctx context.Context, proxy *url.URL, req *http.Request, resp *http.Response) error {
		if other != nil {
			if err := other(ctx, proxy, req, resp); err != nil {
				return err
			}
		}
		if resp.StatusCode != http.StatusOK {
			return &ProxyError{resp.StatusCode, proxy.Host}
		}
		return nil
	}
}

// keepToHTTP1 undoes each of the ways in which a transport is made to speak HTTP/2.
func keepToHTTP1(t *http.Transport) {
	t.Protocols = new(http.Protocols)
	t.Protocols.SetHTTP1(true)
	t.ForceAttemptHTTP2 = false
	t.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	if c := t.TLSClientConfig; c != nil && slices.Contains(c.NextProtos, "h2") {
		// A server that is offered h2 takes it, whatever Protocols says. The configuration may be in use elsewhere: copy it.
		t.TLSClientConfig = c.Clone()
		t.TLSClientConfig.NextProtos = slices.DeleteFunc(slices.Clone(c.NextProtos), func(name string) bool { return name == "h2" })
	}
}

// learnProxy adds the credentials for a proxy to the Secrets of a request. net/http adds them to the request only when it
// writes it, so [Transport] does not see them.
func learnProxy(proxy func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	return func(r *http.Request) (*url.URL, error) {
		u, err := proxy(r)
		if err != nil || u == nil || u.User == nil {
			return u, err
		}
		if s, ok := r.Context().Value(sentKey{}).(*Secrets); ok {
			password, _ := u.User.Password()
			s.add(password, base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)))
		}
		return u, nil
	}
}
