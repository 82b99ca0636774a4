package ossv2

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"

	"github.com/ossdl/ossdl"
)

// dialTimeout is how long the dialer of ossdl.HTTPClient tries one address.
const dialTimeout = 10 * time.Second

// httpClientOf returns the client that makes the requests.
func httpClientOf(cfg *oss.Config) (*http.Client, error) {
	if oss.ToBool(cfg.EnabledRedirect) {
		return nil, errors.New("Config.EnabledRedirect is refused: a request with credentials must not be redirected; give the endpoint that answers")
	}
	if cfg.HttpClient != nil {
		return givenClient(cfg)
	}
	dial, err := dialerOf(cfg)
	if err != nil {
		return nil, err
	}
	proxy, err := proxyOf(cfg)
	if err != nil {
		return nil, err
	}
	if n := oss.ToInt(cfg.MaxConnections); n < 0 {
		return nil, fmt.Errorf("Config.MaxConnections %d: 1 or more connections are allowed, or 0 for any number", n)
	}
	return ossdl.HTTPClient(func(t *http.Transport) {
		t.Proxy = proxy
		t.MaxConnsPerHost = oss.ToInt(cfg.MaxConnections)
		if oss.ToBool(cfg.InsecureSkipVerify) {
			t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} // as asked for
		}
		dial(t)
	}), nil
}

// givenClient returns the client in a configuration. The fields that oss.NewClient ignores then are errors: silence would be
// worse, since a proxy would be bypassed, or a certificate verified that was not to be.
func givenClient(cfg *oss.Config) (*http.Client, error) {
	client, ok := cfg.HttpClient.(*http.Client)
	if !ok || client == nil {
		return nil, fmt.Errorf("Config.HttpClient of type %T: only an *http.Client that is not nil can be used", cfg.HttpClient)
	}
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"ConnectTimeout", cfg.ConnectTimeout != nil},
		{"ReadWriteTimeout", cfg.ReadWriteTimeout != nil},
		{"MaxConnections", cfg.MaxConnections != nil},
		{"InsecureSkipVerify", oss.ToBool(cfg.InsecureSkipVerify)},
		{"ProxyHost", cfg.ProxyHost != nil},
		{"ProxyFromEnvironment", oss.ToBool(cfg.ProxyFromEnvironment)},
		{"DownloadBandwidthlimit", cfg.DownloadBandwidthlimit != nil},
		{"BindAddress", cfg.BindAddress != nil},
	} {
		if field.set {
			return nil, fmt.Errorf("Config.%s has no effect together with HttpClient; omit it, and set up the client's transport or an option of ossdl", field.name)
		}
	}
	return client, nil
}

// dialerOf returns the change of a transport that makes it connect as configured.
func dialerOf(cfg *oss.Config) (func(*http.Transport), error) {
	connect := dialTimeout
	if d := cfg.ConnectTimeout; d != nil {
		if connect = *d; connect <= 0 {
			return nil, fmt.Errorf("Config.ConnectTimeout %v is not above 0", connect)
		}
	}
	if ip := cfg.BindAddress; ip != nil && ip.To16() == nil {
		return nil, fmt.Errorf("Config.BindAddress has %d bytes: it is not an IP address", len(ip))
	}
	return func(t *http.Transport) {
		if cfg.ConnectTimeout != nil {
			t.TLSHandshakeTimeout = connect
		}
		if cfg.BindAddress == nil && connect <= dialTimeout {
			t.DialContext = within(connect, t.DialContext)
			return
		}
		dialer := &net.Dialer{Timeout: connect, KeepAlive: 30 * time.Second}
		if cfg.BindAddress != nil {
			dialer.LocalAddr = &net.TCPAddr{IP: cfg.BindAddress}
		}
		t.DialContext = dialer.DialContext
	}, nil
}

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// within bounds how long dial takes.
func within(limit time.Duration, dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no connection within %v", limit))
		defer cancel()
		return dial(ctx, network, addr)
	}
}

// proxyOf returns the proxy that requests go through. A URL of one may hold a password, so no error quotes it.
func proxyOf(cfg *oss.Config) (func(*http.Request) (*url.URL, error), error) {
	if cfg.ProxyHost != nil {
		u, err := url.Parse(*cfg.ProxyHost)
		if err != nil || u.Host == "" {
			return nil, errors.New("Config.ProxyHost is not a URL such as http://proxy.example.com:3128")
		}
		switch u.Scheme {
		case "http", "https", "socks5", "socks5h":
			return http.ProxyURL(u), nil
		}
		return nil, fmt.Errorf("Config.ProxyHost has the scheme %q: http, https, socks5 and socks5h are allowed", u.Scheme)
	}
	if oss.ToBool(cfg.ProxyFromEnvironment) {
		return http.ProxyFromEnvironment, nil
	}
	return nil, nil
}
