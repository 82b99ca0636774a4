package ossdl

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"testing"
)

// TestCheckRedirect holds the rule itself against requests of all kinds.
func TestCheckRedirect(t *testing.T) {
	request := func(u string, header http.Header) *http.Request {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		return &http.Request{URL: parsed, Header: header}
	}
	for _, name := range []string{"Authorization", "X-Oss-Security-Token"} {
		first := request("http://a.test/k", http.Header{name: {"v"}})
		if err := checkRedirect(request("http://a.test/l", http.Header{}), []*http.Request{first}); !errors.Is(err, http.ErrUseLastResponse) {
			t.Errorf("a redirect of a request with %s: %v", name, err)
		}
	}
	for _, c := range []struct {
		to   string
		keep bool // headers of OSS
	}{{"http://a.test/l", true}, {"https://b.test/k", false}, {"http://a.test:8080/k", false}} {
		next := request(c.to, http.Header{"X-Oss-Request-Payer": {"requester"}, "Referer": {"http://a.test/k?Signature=s"}, "Range": {"bytes=0-1"}})
		if err := checkRedirect(next, []*http.Request{request("http://a.test/k?Signature=s", http.Header{})}); err != nil {
			t.Errorf("%s: %v", c.to, err)
		}
		if (next.Header.Get("X-Oss-Request-Payer") != "") != c.keep || next.Header.Get("Referer") != "" || next.Header.Get("Range") == "" {
			t.Errorf("%s is asked with %v", c.to, next.Header)
		}
	}
	via := slices.Repeat([]*http.Request{request("http://a.test/k", http.Header{})}, maxRedirects)
	if err := checkRedirect(request("http://a.test/l", http.Header{}), via); !errors.Is(err, errRedirects) {
		t.Errorf("after %d redirects: %v", maxRedirects, err)
	}
}

// dials is a network of addresses that answer or not.
type dials struct {
	dead  []string // addresses
	tried []string
}

func (d *dials) connect(_ context.Context, _, addr string) (net.Conn, error) {
	d.tried = append(d.tried, addr)
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if slices.Contains(d.dead, host) {
		return nil, errors.New(host + " is dead")
	}
	return nil, nil
}

// newSpreadingDialer dials on the network, and finds the addresses for any name.
func newSpreadingDialer(on *dials, addresses ...string) *spreadingDialer {
	return &spreadingDialer{connect: on.connect, lookup: func(context.Context, string) (ips []net.IPAddr, err error) {
		for _, a := range addresses {
			ips = append(ips, net.IPAddr{IP: net.ParseIP(a)})
		}
		if ips == nil {
			err = &net.DNSError{Err: "no such host", IsNotFound: true}
		}
		return ips, err
	}}
}

func TestConnectionsSpreadOverTheAddresses(t *testing.T) {
	for _, all := range [][]string{{"10.0.0.1", "10.0.0.2", "10.0.0.3"}, {"fd00::1", "fd00::2"}} {
		on := &dials{}
		d := newSpreadingDialer(on, all...)
		for range 10 * len(all) {
			if _, err := d.dial(t.Context(), "tcp", "oss.test:80"); err != nil {
				t.Fatal(err)
			}
		}
		for _, a := range all {
			n := 0
			for _, tried := range on.tried {
				if tried == net.JoinHostPort(a, "80") {
					n++
				}
			}
			if n != 10 {
				t.Errorf("%d of %d connections go to %s", n, len(on.tried), a)
			}
		}
	}
}

func TestDeadAddressIsPassedOver(t *testing.T) {
	all := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}
	for dead := range 3 {
		on := &dials{dead: all[:dead+1]}
		d := newSpreadingDialer(on, all...)
		for range 6 {
			if on.tried = nil; dead == 2 {
				if _, err := d.dial(t.Context(), "tcp", "oss.test:80"); err == nil || len(on.tried) != 3 {
					t.Errorf("all are dead: %v after trying %v", err, on.tried)
				}
				continue
			}
			if _, err := d.dial(t.Context(), "tcp", "oss.test:80"); err != nil {
				t.Errorf("%v after trying %v", err, on.tried)
			}
			if n := len(on.tried); slices.Contains(on.tried[:n-1], on.tried[n-1]) || n > dead+2 {
				t.Errorf("tried %v", on.tried)
			}
		}
	}
	// A context that has ended makes no further attempt.
	ctx, cancel := context.WithCancel(t.Context())
	on := &dials{dead: all}
	d := newSpreadingDialer(on, all...)
	connect := d.connect
	d.connect = func(ctx context.Context, network, addr string) (net.Conn, error) {
		defer cancel()
		return connect(ctx, network, addr)
	}
	if _, err := d.dial(ctx, "tcp", "oss.test:80"); err == nil || len(on.tried) != 1 {
		t.Errorf("%v after trying %v", err, on.tried)
	}
}

// TestNamesLeftToTheDialer checks that where there is nothing to choose, or both families are there, the name itself is
// dialed, and an address is not looked up.
func TestNamesLeftToTheDialer(t *testing.T) {
	for _, c := range []struct {
		addr  string
		found []string
		want  string
	}{
		{"oss.test:80", []string{"10.0.0.1"}, "oss.test:80"},
		{"oss.test:80", []string{"10.0.0.1", "fd00::1"}, "oss.test:80"},
		{"127.0.0.1:80", nil, "127.0.0.1:80"},
		{"[::1]:80", nil, "[::1]:80"},
	} {
		on := &dials{}
		if _, err := newSpreadingDialer(on, c.found...).dial(t.Context(), "tcp", c.addr); err != nil || !slices.Equal(on.tried, []string{c.want}) {
			t.Errorf("%s at %v: %v after trying %v", c.addr, c.found, err, on.tried)
		}
	}
	var dns *net.DNSError
	if _, err := newSpreadingDialer(&dials{}).dial(t.Context(), "tcp", "oss.test:80"); !errors.As(err, &dns) {
		t.Errorf("a name without addresses: %v", err)
	}
}
