package bucket

import (
	"fmt"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// CheckClient returns an error that names an option of the SDK's client that has no effect, if there is one. With
// oss.HTTPClient the SDK ignores those that it reads only when it makes a transport itself (Conn.init and newTransport).
// Silence would be worse than an error: a proxy would be bypassed, or a certificate verified that was not to be.
func CheckClient(client *oss.Client) error {
	if client == nil || client.HTTPClient == nil {
		return nil
	}
	// The SDK chooses the defaults. Nothing of this client is used but its configuration.
	standard, err := oss.New("oss.invalid", "", "", oss.HTTPClient(client.HTTPClient))
	if err != nil {
		return err
	}
	if name, instead := deadOption(client.Config, standard.Config); name != "" {
		return fmt.Errorf("client option %s has no effect together with oss.HTTPClient; omit it and set %s", name, instead)
	}
	return nil
}

// deadOption names an option that made a configuration differ from the SDK's own, though nothing reads what it sets, and
// what to set instead. It returns "" if there is none.
func deadOption(c, standard *oss.Config) (name, instead string) {
	change := func(what string) string { return what + " in ossdl.HTTPClient(func(t *http.Transport) { … })" }
	switch {
	case c.IsAuthProxy:
		// The SDK would also send the proxy's password to the service, in a header of each request.
		return "oss.AuthProxy", change("t.Proxy = http.ProxyURL(u), with user and password in u,")
	case c.IsUseProxy:
		return "oss.Proxy", change("t.Proxy = http.ProxyURL(u)")
	case c.HTTPTimeout != standard.HTTPTimeout:
		return "oss.Timeout", change("WithStallTimeout, or t.DialContext and t.ResponseHeaderTimeout")
	case c.HTTPMaxConns != standard.HTTPMaxConns:
		return "oss.MaxConns", change("WithConcurrency, or t.MaxIdleConnsPerHost and t.MaxConnsPerHost")
	case c.InsecureSkipVerify != standard.InsecureSkipVerify:
		return "oss.InsecureSkipVerify", change("t.TLSClientConfig, with the service's own CA as RootCAs,")
	case c.LocalAddr != standard.LocalAddr:
		return "oss.SetLocalAddr", change("t.DialContext = (&net.Dialer{LocalAddr: a}).DialContext")
	case c.RedirectEnabled != standard.RedirectEnabled:
		return "oss.RedirectEnabled", "CheckRedirect of the http.Client"
	}
	return "", ""
}
