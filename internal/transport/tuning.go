package transport

import (
	"crypto/tls"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
)

// tune lets functions of a caller change the transport of a new client. Then it sets what the client promises, whatever they
// did.
func tune(client *http.Client, changes []func(*http.Transport)) *http.Client {
	t := client.Transport.(*Transport).Transport
	for _, change := range changes {
		change(t)
	}
	keepToHTTP1(t)
	t.DisableCompression = true
	t.MaxResponseHeaderBytes = headLimit
	if t.Proxy != nil {
		t.Proxy = learnProxy(t.Proxy)
	}
	return client
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
