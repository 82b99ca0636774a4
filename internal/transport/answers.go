package transport

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
)

// What the requests of a connection let its reader expect.
const (
	expectNothing int32 = iota // since the head of the last answer, no request was sent
	expectBody
	expectHead // an answer without a body, whatever its head says
	expectAll  // this connection is a tunnel, or no request was understood
)

// lineKept is how much is kept of a line of a head, in bytes. A Content-Length that net/http accepts fits.
const lineKept = 64

// answersConn is a connection that hands over the bytes of answers alone. If others come, it ends. net/http would print them with
// the log package, and they may be content of an object, after the end of a body that is too long.
//
// It reads the heads of answers for the length of the body, since net/http does not say where a body ends before it has read on.
// If it does not understand a head, it hands over everything until the next request.
type answersConn struct {
	net.Conn
	expect atomic.Int32

	// Only Read uses what follows.
	head    head
	left    int64 // of the body, in bytes
	endless bool  // the length of the last body is unknown
	served  bool  // there was an answer
	ended   bool  // bytes came that belong to no answer
}

// answersOf makes dial return connections that hand over the bytes of answers alone.
func answersOf(dial func(ctx context.Context, network, addr string) (net.Conn, error)) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil || c == nil {
			return c, err
		}
		return &answersConn{Conn: c}, nil
	}
}

// Write notes the request, before the answer to it can come.
func (c *answersConn) Write(p []byte) (int, error) {
	if c.expect.Load() == expectNothing {
		c.expect.Store(expected(p))
	}
	return c.Conn.Write(p)
}

// expected returns what the request that starts with p lets its sender expect.
func expected(p []byte) int32 {
	switch {
	case len(p) == 0:
		return expectNothing
	case p[0] < 'A' || p[0] > 'Z' || bytes.HasPrefix(p, []byte("CONNECT ")):
		return expectAll // TLS, SOCKS, or what will be a tunnel
	case bytes.HasPrefix(p, []byte("HEAD ")):
		return expectHead
	}
	return expectBody
}

// Read implements [io.Reader]. It returns [io.EOF] if bytes come that belong to no answer, as if the server had closed the
// connection: net/http then sends a request that has no answer over another one.
func (c *answersConn) Read(p []byte) (int, error) {
	if c.left > 0 {
		n, err := c.Conn.Read(p[:min(int64(len(p)), c.left)])
		c.left -= int64(n)
		return n, err
	}
	if c.ended {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(p)
	if n == 0 {
		return n, err
	}
	switch expect := c.expect.Load(); {
	case expect == expectAll, expect == expectNothing && c.endless:
		return n, err
	case expect == expectNothing, c.served && !c.head.mayBegin(p[:n]):
		c.ended = true
		return 0, io.EOF
	default:
		return c.answer(p[:n], expect), err
	}
}

// answer returns how many of the bytes belong to an answer. They begin in its head.
func (c *answersConn) answer(p []byte, expect int32) int {
	for n := 0; n < len(p); {
		used, whole := c.head.read(p[n:])
		n += used
		if !whole {
			break
		}
		was := c.head
		c.head = head{}
		if was.status == http.StatusSwitchingProtocols {
			c.expect.Store(expectAll)
			break
		}
		if was.status/100 == 1 && !was.odd {
			continue // another head follows
		}
		c.served = true
		c.left, c.endless = was.body(expect)
		c.expect.Store(expectNothing)
		if c.endless {
			break
		}
		if rest := int64(len(p) - n); rest > c.left {
			p, c.ended = p[:n+int(c.left)], true
		}
		c.left -= int64(len(p) - n)
		return len(p)
	}
	return len(p)
}

// head is what is known of the head of an answer.
type head struct {
	line    [lineKept]byte // the beginning of the line that is being read
	kept    int            // how much of it there is
	cut     bool           // it was longer
	lines   int
	status  int
	length  int64 // what Content-Length says
	lengths int   // how often it does
	odd     bool  // the length of the body cannot be known from here
}

// mayBegin reports whether p can be the next bytes of a head.
func (h *head) mayBegin(p []byte) bool {
	const begin = "HTTP/"
	if h.lines > 0 || h.kept >= len(begin) {
		return true
	}
	n := min(len(p), len(begin)-h.kept)
	return string(p[:n]) == begin[h.kept:h.kept+n]
}

// read takes bytes up to the end of the head. It returns how many, and whether the head is whole.
func (h *head) read(p []byte) (n int, whole bool) {
	for n < len(p) {
		end := bytes.IndexByte(p[n:], '\n')
		if end < 0 {
			h.keep(p[n:])
			return len(p), false
		}
		h.keep(p[n : n+end])
		n += end + 1
		if h.endLine() {
			return n, true
		}
	}
	return n, false
}

// keep adds to the line.
func (h *head) keep(p []byte) {
	n := copy(h.line[h.kept:], p)
	h.kept += n
	h.cut = h.cut || n < len(p)
}

// endLine takes the line, and reports whether it is the empty one that ends a head.
func (h *head) endLine() bool {
	line := bytes.TrimSuffix(h.line[:h.kept], []byte("\r"))
	switch {
	case h.lines == 0:
		h.readStatus(line)
	case len(line) == 0:
		return true
	case line[0] == ' ' || line[0] == '\t':
		h.odd = true // it continues the line before
	default:
		h.readField(line)
	}
	h.lines++
	h.kept, h.cut = 0, false
	return false
}

// readStatus reads the first line.
func (h *head) readStatus(line []byte) {
	const before, digits = len("HTTP/1.1 "), 3
	if len(line) < before+digits || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		h.odd = true
		return
	}
	status, err := strconv.Atoi(string(line[before : before+digits]))
	h.status, h.odd = status, err != nil
}

// readField reads another line.
func (h *head) readField(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	switch {
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		h.odd = true
	case bytes.EqualFold(name, []byte("Content-Length")):
		n, err := strconv.ParseUint(string(bytes.Trim(value, " \t")), 10, 63)
		h.length = int64(n)
		h.lengths++
		h.odd = h.odd || err != nil || h.cut
	}
}

// body returns the length of the body in bytes, unless that is unknown.
func (h *head) body(expect int32) (length int64, unknown bool) {
	switch {
	case expect == expectHead, h.status == http.StatusNoContent, h.status == http.StatusNotModified:
		return 0, h.odd
	case h.odd, h.lengths != 1:
		return 0, true
	}
	return h.length, false
}
