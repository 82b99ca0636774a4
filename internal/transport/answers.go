package transport

import (
	"bytes"
	"context"
	"crypto/tls"
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
	secure *tls.ConnectionState // after the handshake; nil without TLS

	// Only Read uses what follows.
	head    head
	left    int64 // of the body, in bytes
	endless bool  // the length of the last body is unknown
	chunks  chunks
	served  bool // there was an answer
	ended   bool // bytes came that belong to no answer
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
	case c.chunks.open:
		return c.chunked(p[:n]), err
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
		c.expect.Store(expectNothing)
		var form bodyForm
		c.left, form = was.body(expect)
		c.endless = form == bodyUnknown
		c.chunks.open = form == bodyChunks
		switch form {
		case bodyUnknown:
			return len(p)
		case bodyChunks:
			return n + c.chunked(p[n:])
		}
		if rest := int64(len(p) - n); rest > c.left {
			p, c.ended = p[:n+int(c.left)], true
		}
		c.left -= int64(len(p) - n)
		return len(p)
	}
	return len(p)
}

// chunked returns how many of the bytes belong to a body in chunks. They begin in it.
func (c *answersConn) chunked(p []byte) int {
	for n := 0; n < len(p); {
		n += c.chunks.read(p[n:])
		if c.chunks.odd {
			c.chunks, c.endless = chunks{}, true
			return len(p)
		}
		if c.chunks.open {
			continue
		}
		c.chunks = chunks{}
		c.ended = n < len(p)
		return n
	}
	return len(p)
}

// chunks is where in a body in chunks its reader is. net/http takes no chunks that chunks does not, and fails at others.
type chunks struct {
	open    bool
	odd     bool  // this is no chunk
	left    int64 // of a chunk and the end of the line behind it, in bytes
	size    int64 // what the line before a chunk says so far
	digits  int   // how many it has
	said    bool  // the rest of the line is no size
	trailer head  // of the last chunk; it has lines once that was read
}

// maxChunk is the size of the largest chunk whose end is looked for.
const maxChunk = 1<<59 - 1

// read takes bytes up to the end of a line or a chunk, or of the body. It returns how many.
func (c *chunks) read(p []byte) int {
	switch {
	case c.left > 0:
		n := min(c.left, int64(len(p)))
		c.left -= n
		return int(n)
	case c.trailer.lines > 0:
		n, whole := c.trailer.read(p)
		c.open = !whole
		return n
	}
	for i, b := range p {
		switch digit := hexDigit(b); {
		case b == '\n':
			c.endLine()
			return i + 1
		case c.said:
		case digit >= 0 && c.size <= maxChunk>>4:
			c.size = c.size<<4 | int64(digit)
			c.digits++
		case digit >= 0:
			c.odd = true
			return i
		default:
			c.said = true
		}
	}
	return len(p)
}

// endLine takes the line before a chunk.
func (c *chunks) endLine() {
	switch {
	case c.digits == 0:
		c.odd = true
	case c.size == 0:
		c.trailer.lines = 1 // what follows is like a head without its first line
	default:
		c.left = c.size + int64(len("\r\n"))
	}
	c.size, c.digits, c.said = 0, 0, false
}

// hexDigit returns the value of a digit, or -1.
func hexDigit(b byte) int {
	switch {
	case '0' <= b && b <= '9':
		return int(b - '0')
	case 'a' <= b|0x20 && b|0x20 <= 'f':
		return int(b|0x20-'a') + 10
	}
	return -1
}

// head is what is known of the head of an answer.
type head struct {
	line    [lineKept]byte // the beginning of the line that is being read
	kept    int            // how much of it there is
	cut     bool           // it was longer
	lines   int
	status  int
	old     bool  // it is of HTTP/1.0 or before
	chunks  bool  // the body comes in chunks
	lengths bool  // there is a Content-Length
	length  int64 // what it says
	telling bool  // the line before tells how long the body is
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
		h.odd = h.odd || h.telling // it continues the line before
	default:
		h.readField(line)
	}
	h.lines++
	h.kept, h.cut = 0, false
	return false
}

// readStatus reads the first line, in the forms that net/http takes.
func (h *head) readStatus(line []byte) {
	protocol, rest, _ := bytes.Cut(line, []byte(" "))
	code, _, _ := bytes.Cut(bytes.TrimLeft(rest, " "), []byte(" "))
	major, minor, ok := http.ParseHTTPVersion(string(protocol))
	status, err := strconv.Atoi(string(code))
	h.status, h.old = status, major == 0 || major == 1 && minor == 0
	h.odd = !ok || len(code) != len("200") || err != nil
}

// readField reads another line.
func (h *head) readField(line []byte) {
	h.telling = false
	if line[0]|0x20 != 't' && line[0]|0x20 != 'c' { // neither of the two
		return
	}
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.Trim(value, " \t")
	h.telling = true
	switch {
	case bytes.EqualFold(name, []byte("Transfer-Encoding")):
		if h.old {
			break // net/http ignores it
		}
		h.odd = h.odd || h.chunks || h.cut || !bytes.EqualFold(value, []byte("chunked"))
		h.chunks = true
	case bytes.EqualFold(name, []byte("Content-Length")):
		n, err := strconv.ParseUint(string(value), 10, 63)
		h.odd = h.odd || h.cut || err != nil || h.lengths && h.length != int64(n)
		h.length, h.lengths = int64(n), true
	default:
		h.telling = false
	}
}

// bodyForm says what is known of the end of a body.
type bodyForm int

const (
	bodyUnknown bodyForm = iota
	bodyLength
	bodyChunks
)

// body returns the form of the body, and the length in bytes if it is bodyLength.
func (h *head) body(expect int32) (length int64, form bodyForm) {
	switch {
	case h.odd:
		return 0, bodyUnknown
	case expect == expectHead, h.status == http.StatusNoContent, h.status == http.StatusNotModified:
		return 0, bodyLength
	case h.chunks:
		return 0, bodyChunks
	case h.lengths:
		return h.length, bodyLength
	}
	return 0, bodyUnknown
}
