package transport

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
)

// dials is a network of addresses, some of which do not answer.
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

// newSpreadingDialer makes a dialer on the network that finds the same addresses for any name.
func newSpreadingDialer(on *dials, addresses ...string) *spreadingDialer {
	return &spreadingDialer{known: newAddresses(), connect: on.connect, lookup: func(context.Context, string) (ips []net.IPAddr, err error) {
		for _, a := range addresses {
			ips = append(ips, net.IPAddr{IP: net.ParseIP(a)})
		}
		if ips == nil {
			err = &net.DNSError{Err: "no such host", IsNotFound: true}
		}
		return ips, err
	}}
}

// TestConnectionsSpreadOverTheAddresses checks that each address of a host gets the same number of connections.
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

// TestDeadAddressIsPassedOver checks that a connection is made as long as one address answers, and that each is tried once.
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
	// Once the context has ended there is no further attempt.
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

// TestNamesLeftToTheDialer checks that the name itself is dialed if it has a single address or those of both families, and
// that an address is not looked up.
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
