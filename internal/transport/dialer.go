package transport

import (
	"context"
	"net"
	"sync/atomic"
)

// spreadingDialer starts each connection at the next of the host's addresses, and tries the others if one fails.
type spreadingDialer struct {
	connect func(ctx context.Context, network, addr string) (net.Conn, error)
	lookup  func(ctx context.Context, host string) ([]net.IPAddr, error)
	next    atomic.Uint32
}

func (d *spreadingDialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || net.ParseIP(host) != nil {
		return d.connect(ctx, network, addr)
	}
	ips, err := d.lookup(ctx, host)
	if err != nil {
		return nil, err
	}
	if !sameFamily(ips) {
		// With both families net's dialer does better: it tries them in parallel and takes the one that works.
		return d.connect(ctx, network, addr)
	}
	start := int(d.next.Add(1) % uint32(len(ips)))
	for i := range ips {
		var c net.Conn
		ip := ips[(start+i)%len(ips)]
		if c, err = d.connect(ctx, network, net.JoinHostPort(ip.String(), port)); err == nil || ctx.Err() != nil {
			return c, err
		}
	}
	return nil, err
}

// sameFamily reports whether there are several addresses and all are IPv4, or all IPv6.
func sameFamily(ips []net.IPAddr) bool {
	v4 := 0
	for _, ip := range ips {
		if ip.IP.To4() != nil {
			v4++
		}
	}
	return len(ips) > 1 && (v4 == 0 || v4 == len(ips))
}
