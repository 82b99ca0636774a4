package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
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

// TestAvoidedAddressComesLast checks that an address which gave a wrong answer is dialed if no other can be reached, and like the
// others after some minutes. The family that it is of comes first, since it works.
func TestAvoidedAddressComesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := []string{"10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2"}
		on := &dials{}
		d := newSpreadingDialer(on, all...)
		first := func() string {
			t.Helper()
			on.tried = nil
			if _, err := d.dial(t.Context(), "tcp", "oss.test:80"); err != nil {
				t.Fatal(err)
			}
			return on.tried[0]
		}
		if got := first(); got != "oss.test:80" {
			t.Errorf("dialed %s while none is avoided", got)
		}
		bad := Peer{netip.MustParseAddr("10.0.0.1"), d.known}
		if !bad.Avoid() {
			t.Fatal("no other address is known")
		}
		for range 8 {
			if got := first(); got != "10.0.0.2:80" {
				t.Errorf("dialed %s first", got)
			}
		}
		on.dead = []string{"fd00::1", "10.0.0.2", "fd00::2"}
		first()
		if got := on.tried[len(on.tried)-1]; len(on.tried) != 4 || got != "10.0.0.1:80" {
			t.Errorf("dialed %v", on.tried)
		}
		on.dead = nil
		if got := first(); got != "oss.test:80" {
			t.Errorf("dialed %s, although the only address that could be reached is avoided no more", got)
		}
		bad.Avoid()
		time.Sleep(avoidTime)
		if got := first(); got != "oss.test:80" {
			t.Errorf("dialed %s after %v", got, avoidTime)
		}
	})
}

// TestOneAddressIsLeft checks that the last address of a host is never avoided, nor one of a host that has no other.
func TestOneAddressIsLeft(t *testing.T) {
	known := newAddresses()
	ips := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")}
	known.found(ips)
	for i, ip := range ips {
		if got, want := (Peer{ip, known}).Avoid(), i < 2; got != want {
			t.Errorf("address %d: avoided %t, want %t", i, got, want)
		}
	}
	Peer{ips[0], known}.Trust()
	if !(Peer{ips[2], known}).Avoid() {
		t.Error("another one is trusted again")
	}
	alone := netip.MustParseAddr("10.0.1.1")
	known.found([]netip.Addr{alone})
	if (Peer{alone, known}).Avoid() || known.several(alone) {
		t.Error("the only address of a host is avoided")
	}
	for i := range 2 * maxKnown {
		known.found([]netip.Addr{netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}), alone})
	}
	if n := len(known.hosts); n > maxKnown+2 {
		t.Errorf("%d addresses are known", n)
	}
}
