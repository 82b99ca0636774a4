package transport

import (
	"context"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"sync"
	"time"
)

const (
	// avoidTime is how long an address is avoided after it gave a wrong answer. By then it may have been mended, and the others
	// may be worse.
	avoidTime = 5 * time.Minute
	// maxKnown bounds how many addresses are known. A process may meet new ones for as long as it runs.
	maxKnown = 1024
	// maxUnused bounds how often a request goes to an avoided address again, since the pool has a connection to it that no request
	// has used. Such a one cannot be closed: net/http would not repeat the request.
	maxUnused = 8
)

// addresses knows which addresses belong to one host, and which of them are avoided.
type addresses struct {
	mu      sync.Mutex
	hosts   map[netip.Addr][]netip.Addr // the addresses of the same host at the last lookup, if there are several
	avoided map[netip.Addr]time.Time    // until when
}

func newAddresses() *addresses {
	return &addresses{hosts: map[netip.Addr][]netip.Addr{}, avoided: map[netip.Addr]time.Time{}}
}

// found records the addresses of a host. They must not be changed afterwards.
func (a *addresses) found(ips []netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.hosts) > maxKnown {
		clear(a.hosts)
		clear(a.avoided)
	}
	for _, ip := range ips {
		if len(ips) > 1 {
			a.hosts[ip] = ips
		} else {
			delete(a.hosts, ip)
		}
	}
}

// split returns the addresses that are not avoided, and those that are. If all are, none is.
func (a *addresses) split(ips []netip.Addr) (good, avoided []netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, ip := range ips {
		if a.isAvoided(ip) {
			avoided = append(avoided, ip)
		} else {
			good = append(good, ip)
		}
	}
	if len(good) == 0 {
		return avoided, nil
	}
	return good, avoided
}

// isAvoided reports whether an address is avoided. The mutex is held.
func (a *addresses) isAvoided(ip netip.Addr) bool {
	until, ok := a.avoided[ip]
	return ok && time.Now().Before(until)
}

// avoids reports whether an address is avoided.
func (a *addresses) avoids(ip netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.isAvoided(ip)
}

// several reports whether the host of an address has others.
func (a *addresses) several(ip netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hosts[ip] != nil
}

// avoid makes connections go to other addresses of the same host. It does nothing, and returns false, if none is left.
func (a *addresses) avoid(ip netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, other := range a.hosts[ip] {
		if other != ip && !a.isAvoided(other) {
			a.avoided[ip] = time.Now().Add(avoidTime)
			return true
		}
	}
	return false
}

// trust ends what avoid has begun.
func (a *addresses) trust(ip netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.avoided, ip)
}

// Peer is one of the addresses of a host that has several. Two of the same address are equal.
type Peer struct {
	ip    netip.Addr
	known *addresses
}

// Avoid makes the requests of the client go to other addresses of the host, for some minutes. It does nothing, and returns
// false, if none is left.
func (p Peer) Avoid() bool { return p.known.avoid(p.ip) }

// Trust ends what Avoid has begun.
func (p Peer) Trust() { p.known.trust(p.ip) }

// Trace finds out which address answers a request.
type Trace struct {
	ip    netip.Addr
	known *addresses
	hooks httptrace.ClientTrace
}

// Watch returns the context for a request that client is to make. If its transport is no [Transport], the trace finds nothing.
func (t *Trace) Watch(ctx context.Context, client *http.Client) context.Context {
	if client == nil {
		return ctx
	}
	ours, ok := client.Transport.(*Transport)
	if !ok {
		return ctx
	}
	t.known = ours.dialer.known
	t.hooks.GotConn = t.gotConn
	return httptrace.WithClientTrace(ctx, &t.hooks)
}

// gotConn records the address of the connection that a request gets. A connection from the pool to an address that is avoided is
// closed: net/http repeats the request, of which nothing was sent, over another one.
func (t *Trace) gotConn(info httptrace.GotConnInfo) {
	at, ok := info.Conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return
	}
	t.ip = at.AddrPort().Addr().Unmap()
	if info.Reused && t.known.avoids(t.ip) {
		_ = info.Conn.Close() // it is of no use any more, whether or not that fails
	}
}

// Peer returns the address that has answered. It is not ok if that is not known, or the only address of its host.
func (t *Trace) Peer() (p Peer, ok bool) {
	if t.known == nil || !t.known.several(t.ip) {
		return Peer{}, false
	}
	return Peer{t.ip, t.known}, true
}

// Elsewhere calls ask to make a request. If doubt reports that the error is no verdict, and the host has another address, ask is
// called once more, and its request goes there. The first address is avoided from then on, unless the second answer is no
// better.
func Elsewhere(ctx context.Context, client *http.Client, doubt func(error) bool, ask func(context.Context, *Trace) error) error {
	var t Trace
	err := ask(t.Watch(ctx, client), &t)
	if err == nil || !doubt(err) {
		return err
	}
	first, ok := t.Peer()
	if !ok || !first.Avoid() {
		return err
	}
	for range maxUnused {
		var again Trace
		err = ask(again.Watch(ctx, client), &again)
		if err == nil || !doubt(err) {
			return err
		}
		if again.ip != first.ip || !first.known.avoids(first.ip) {
			break
		}
	}
	first.Trust()
	return err
}
