package transport

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
)

// spreadingDialer starts each connection at the next of the host's addresses, and tries the others if one fails. Addresses that
// are avoided come last.
type spreadingDialer struct {
	connect func(ctx context.Context, network, addr string) (net.Conn, error)
	lookup  func(ctx context.Context, host string) ([]net.IPAddr, error)
	known   *addresses
	next    atomic.Uint32
}

func (d *spreadingDialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || net.ParseIP(host) != nil {
		return d.connect(ctx, network, addr)
	}
	found, err := d.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	ips := plainAddresses(found)
	d.known.found(ips)
	good, avoided := d.known.split(ips)
	if len(avoided) == 0 && !sameFamily(ips) {
		// With both families net's dialer does better: it tries them in parallel and takes the one that works.
		return d.connect(ctx, network, addr)
	}
	for _, ip := range d.order(good, avoided) {
		var c net.Conn
		if c, err = d.connect(ctx, network, net.JoinHostPort(ip.String(), port)); err == nil {
			d.known.trust(ip) // if it was avoided, no other can be reached
			return c, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// order returns the addresses in the order in which they are tried. Those of the family of an avoided address come first, since
// that family is known to work.
func (d *spreadingDialer) order(good, avoided []netip.Addr) []netip.Addr {
	start := int(d.next.Add(1) % uint32(len(good)))
	order := slices.Concat(good[start:], good[:start])
	if len(avoided) > 0 {
		slices.SortStableFunc(order, func(a, b netip.Addr) int {
			switch family := avoided[0].Is4(); {
			case a.Is4() == b.Is4():
				return 0
			case a.Is4() == family:
				return -1
			}
			return 1
		})
	}
	return append(order, avoided...)
}

// plainAddresses returns the addresses of a lookup in the form that a connection has them.
func plainAddresses(found []net.IPAddr) []netip.Addr {
	ips := make([]netip.Addr, 0, len(found))
	for _, a := range found {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			ips = append(ips, ip.Unmap().WithZone(a.Zone))
		}
	}
	return ips
}

// sameFamily reports whether there are several addresses and all are IPv4, or all IPv6.
func sameFamily(ips []netip.Addr) bool {
	v4 := 0
	for _, ip := range ips {
		if ip.Is4() {
			v4++
		}
	}
	return len(ips) > 1 && (v4 == 0 || v4 == len(ips))
}
