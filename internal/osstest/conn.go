package osstest

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Values of reply.declared other than a length.
const (
	chunked    = -1 // Transfer-Encoding: chunked
	undeclared = -2 // no length; the end of the connection ends a body
)

// reply is an answer before it is written. Faults change it.
type reply struct {
	status   int
	header   http.Header
	body     viewer
	off, n   int64 // what is sent of body
	declared int64 // Content-Length
	bodiless bool  // a HEAD, a 304: no body whatever the head says
	close    bool  // close the connection after it
	rate     int64 // bytes a second of this answer alone; 0: no bound
	drip     time.Duration
	before   []func(*conn) error // before the head
	events   []event
	then     []func() // before the last byte
	whole    Content  // of which the body is a part
	cutHead  int      // > 0: so much of the head, then the end
	copying  bool     // views are only valid until the next one
}

// event happens when at bytes of the body have been given to the kernel. An error ends the answer and the connection.
type event struct {
	at int64
	do func(*conn) error
}

func newReply(status int) *reply {
	return &reply{status: status, header: http.Header{}}
}

func (r *reply) setBody(c Content, off, n int64) {
	v, ok := c.(viewer)
	if !ok {
		v, r.copying = &readerView{c: c}, true
	}
	r.body, r.off, r.n, r.declared, r.whole = v, off, n, n, c
}

// readerView makes views of a Content that has none.
type readerView struct {
	c   Content
	buf []byte
}

func (v *readerView) view(off int64, _ []byte) []byte {
	if v.buf == nil {
		v.buf = make([]byte, 256<<10)
	}
	n, err := v.c.ReadAt(v.buf, off)
	if n == 0 {
		panic(fmt.Sprintf("osstest: content cannot be read at %d: %v", off, err))
	}
	return v.buf[:n]
}

// Reasons to end a connection.
var (
	errGone    = errors.New("the client is gone")
	errClosing = errors.New("the server closes")
	errReset   = errors.New("reset by a fault")
	errFinish  = errors.New("closed by a fault")
)

// conn serves one connection.
type conn struct {
	s     *Server
	index int
	tcp   *net.TCPConn
	nc    net.Conn // tcp, or TLS on it
	br    *bufio.Reader
	pace  pace
	timer *time.Timer

	aborted   atomic.Bool
	entry     *entry // of the request under way
	continued bool   // 100 Continue was sent for it

	head    []byte
	chunkHd []byte
	bufs    net.Buffers
	scratch [8 * stampSize]byte
	flat    []byte // gathers views for TLS
}

func newConn(s *Server, index int, tcp *net.TCPConn) *conn {
	c := &conn{s: s, index: index, tcp: tcp, nc: tcp}
	if s.tls != nil {
		c.nc = tls.Server(tcp, s.tls)
	}
	c.br = bufio.NewReader(c.nc)
	return c
}

// abort resets the connection. It may be called from anywhere.
func (c *conn) abort() {
	c.aborted.Store(true)
	_ = c.tcp.SetLinger(0) // fails on a closed connection only
	_ = c.tcp.Close()
}

func (c *conn) serve() {
	defer func() {
		c.s.net.Lock()
		delete(c.s.net.conns, c)
		c.s.net.Unlock()
		if !c.aborted.Load() {
			_ = c.nc.Close()
		}
		if c.timer != nil {
			c.timer.Stop()
		}
	}()
	for {
		req, err := http.ReadRequest(c.br)
		if err != nil || c.isCut() {
			return
		}
		if !c.handle(req) || req.Close || !c.skipBody(req) {
			return
		}
	}
}

// isCut reports whether the connection has been reset. It waits for a Down or CutConns that is under way: otherwise a client that sees
// the first connection end could be answered on one that is still to be reset.
func (c *conn) isCut() bool {
	c.s.net.Lock()
	defer c.s.net.Unlock()
	return c.aborted.Load()
}

// maxSkipped is how much of a body that nobody wants is read.
const maxSkipped = 1 << 20

// skipBody reads what is left of the body of a request, and reports whether that is all of it: it stands before the next request.
func (c *conn) skipBody(req *http.Request) bool {
	if req.ContentLength == 0 {
		return true
	}
	if !c.continued && req.Header.Get("Expect") != "" {
		return false // it does not come
	}
	n, err := io.Copy(io.Discard, io.LimitReader(req.Body, maxSkipped))
	return err == nil && n < maxSkipped
}

// handle answers one request and reports whether the connection may be used again.
func (c *conn) handle(req *http.Request) bool {
	s := c.s
	q := s.parse(req)
	q.conn = c
	rec := &Request{
		Conn: c.index, Method: req.Method, Host: req.Host, Bucket: q.bucket, Key: q.key, Query: req.URL.RawQuery,
		Header: req.Header, Range: req.Header.Get("Range"), RequestID: q.requestID,
	}
	rec.Start, rec.End = askedRange(rec.Range)

	e, fault := s.faults.begin(s, rec)
	c.entry, c.continued = e, false
	defer func() {
		s.faults.done(fault)
		e.end()
		c.entry = nil
	}()
	if req.Method == "PRI" { // HTTP/2
		return false
	}

	r := s.reply(q, fault)
	// A refusal comes after the body, too: while that is still being sent, SDK v1 has a data race with itself (progress.go).
	c.skipBody(req)
	if fault != nil {
		e.edit(func(r *Request) { r.Fault = fault.String() })
		fault.change(r, q)
	}
	err := c.send(q, r)
	r.runThen()
	e.end()
	switch {
	case errors.Is(err, errReset):
		c.abort()
	case err == nil && !r.close && !q.close:
		return true
	}
	return false
}

// reply makes the honest answer, or none where the fault replaces it.
func (s *Server) reply(q *query, fault *Fault) *reply {
	if fault != nil {
		fault.prepare()
		if fault.replaces() {
			return newReply(http.StatusOK)
		}
	}
	r, e := s.answer(q)
	if e != nil {
		r = s.errorReply(q, e)
	}
	return r
}

// send writes the answer: shaped, with its events, counted.
func (c *conn) send(q *query, r *reply) error {
	s := c.s
	shape := s.shapeOf(c.index)
	began := time.Now()
	for _, fn := range r.before {
		if err := fn(c); err != nil {
			return err
		}
	}
	if q.method == http.MethodHead {
		r.bodiless = true
	}
	if r.bodiless {
		r.n = 0
	}
	if r.declared == undeclared && !r.bodiless {
		r.close = true
	}
	h := r.header
	if h.Get("X-Oss-Request-Id") == "" && !q.foreign {
		h.Set("X-Oss-Request-Id", q.requestID)
		h.Set("X-Oss-Server-Time", strconv.FormatInt(1+int64(time.Since(began)/time.Millisecond), 10))
	}
	if h.Get("Server") == "" {
		h.Set("Server", "AliyunOSS")
	}
	if h.Get("Date") == "" {
		h.Set("Date", httpTime(s.now()))
	}
	c.makeHead(q, r)
	c.entry.edit(func(e *Request) { e.Status, e.Response = r.status, h })

	if shape.Latency > 0 {
		c.pace.startAt(began.Add(shape.Latency))
		if err := c.sleepUntil(began.Add(shape.Latency)); err != nil {
			return err
		}
	}
	if r.cutHead > 0 {
		c.head = c.head[:min(r.cutHead, len(c.head))]
		r.events = append(r.events, event{0, func(*conn) error { return errFinish }})
	}
	if err := c.sendBody(r, shape); err != nil {
		return err
	}
	if r.declared >= 0 && r.declared != r.n && !r.bodiless {
		r.close = true // the client could not tell where the next answer begins
	}
	return nil
}

func (r *reply) runThen() {
	for _, fn := range r.then {
		fn()
	}
	r.then = nil
}

// makeHead puts status line and header fields into c.head.
func (c *conn) makeHead(q *query, r *reply) {
	b := c.head[:0]
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(r.status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(r.status)...)
	b = append(b, "\r\n"...)
	switch {
	case r.declared >= 0:
		r.header.Set("Content-Length", strconv.FormatInt(r.declared, 10))
	case r.declared == chunked:
		r.header.Set("Transfer-Encoding", "chunked")
	}
	if r.close || q.close {
		r.header.Set("Connection", "close")
	}
	names := make([]string, 0, len(r.header))
	for k := range r.header {
		names = append(names, k)
	}
	sort.Strings(names)
	for _, k := range names {
		for _, v := range r.header[k] {
			b = append(b, wireName(k)...)
			b = append(b, ": "...)
			b = append(b, v...)
			b = append(b, "\r\n"...)
		}
	}
	c.head = append(b, "\r\n"...)
}

// wireNames are those that most answers have.
var wireNames = map[string]string{
	"X-Oss-Hash-Crc64ecma": "x-oss-hash-crc64ecma",
	"X-Oss-Object-Type":    "x-oss-object-type",
	"X-Oss-Request-Id":     "x-oss-request-id",
	"X-Oss-Server-Time":    "x-oss-server-time",
	"X-Oss-Storage-Class":  "x-oss-storage-class",
}

// wireName spells a header as the service does.
func wireName(k string) string {
	switch {
	case k == "Etag":
		return "ETag"
	case strings.HasPrefix(k, "X-Oss-"):
		if known, ok := wireNames[k]; ok {
			return known
		}
		return strings.ToLower(k)
	case k == "Content-Md5":
		return "Content-MD5"
	}
	return k
}

const pieceSize = 1 << 20 // one write where no rate asks for less

// sendBody writes the head, which c.head holds, and the body.
func (c *conn) sendBody(r *reply, shape Shape) error {
	s, e := c.s, c.entry
	sort.SliceStable(r.events, func(i, j int) bool { return r.events[i].at < r.events[j].at })
	// Events beyond the end of the body never happen.
	events := r.events[:sort.Search(len(r.events), func(i int) bool { return r.events[i].at > r.n })]
	rate, total := shape.Rate, s.cfg.totalRate
	if r.rate > 0 && (rate == 0 || r.rate < rate) {
		rate = r.rate
	}
	piece := int64(pieceSize)
	if rate > 0 || total > 0 {
		if rate > 0 {
			piece = pieceFor(rate)
		}
		if total > 0 {
			piece = min(piece, pieceFor(total))
		}
	}
	if r.drip > 0 {
		piece = 1
	}
	head := c.head
	for pos := int64(0); ; {
		due := len(events) > 0 && events[0].at <= pos
		if head != nil && (due || pos == r.n || rate > 0 || total > 0 || r.drip > 0) {
			// The head travels with the first bytes of the body unless something stands between them.
			if pos == r.n && !due && r.declared != chunked {
				r.runThen()
				e.leave()
			}
			if err := c.write(head); err != nil {
				return err
			}
			head = nil
		}
		for ; len(events) > 0 && events[0].at <= pos; events = events[1:] {
			if err := events[0].do(c); err != nil {
				return err
			}
		}
		if pos == r.n {
			break
		}
		n := min(piece, r.n-pos)
		if r.then != nil {
			if r.n-pos == 1 {
				r.runThen()
			} else {
				n = min(n, r.n-1-pos)
			}
		}
		if len(events) > 0 && events[0].at < r.n {
			n = min(n, events[0].at-pos)
		}
		if rate > 0 {
			if err := c.sleepUntil(c.pace.reserve(time.Now(), n, rate)); err != nil {
				return err
			}
		}
		if total > 0 {
			if err := c.sleepUntil(s.total.reserve(time.Now(), n, total)); err != nil {
				return err
			}
		}
		if r.drip > 0 && pos > 0 {
			if err := c.pause(r.drip, nil); err != nil {
				return err
			}
		}
		sent, err := c.writePiece(head, r, pos, n, pos+n == r.n && len(events) == 0)
		if err != nil {
			return err
		}
		head = nil
		pos += sent
	}
	if r.declared == chunked && !r.bodiless {
		r.runThen()
		e.leave()
		return c.write([]byte("0\r\n\r\n"))
	}
	return nil
}

// writePiece writes the head, if there is one, and up to n bytes of the body from pos on.
func (c *conn) writePiece(head []byte, r *reply, pos, n int64, last bool) (int64, error) {
	bufs := c.bufs[:0]
	over := 0
	if len(head) > 0 {
		bufs = append(bufs, head)
		over = len(head)
	}
	at := len(bufs)
	if r.declared == chunked {
		bufs = append(bufs, nil) // the size of the chunk goes here
	}
	got := int64(0)
	scratch := c.scratch[:]
	for got < n && len(scratch) >= stampSize {
		v := r.body.view(r.off+pos+got, scratch[:stampSize])
		scratch = scratch[stampSize:]
		if int64(len(v)) > n-got {
			v = v[:n-got]
		}
		bufs = append(bufs, v)
		got += int64(len(v))
		if r.copying {
			break
		}
	}
	if r.declared == chunked {
		c.chunkHd = append(strconv.AppendInt(c.chunkHd[:0], got, 16), "\r\n"...)
		bufs[at] = c.chunkHd
		bufs = append(bufs, []byte("\r\n"))
		over += len(c.chunkHd)
		last = false // the end of the chunks comes after it
	}
	c.bufs = bufs
	if last && pos+got == r.n {
		c.entry.leave()
	}
	c.entry.add(got)
	wrote, err := c.writeAll(bufs)
	clear(c.bufs)
	if err != nil {
		done := min(max(wrote-int64(over), 0), got)
		c.entry.add(done - got)
		return done, err
	}
	return got, nil
}

// writeAll writes the buffers in one system call where the connection can.
func (c *conn) writeAll(bufs net.Buffers) (int64, error) {
	if len(bufs) == 1 {
		n, err := c.nc.Write(bufs[0])
		return int64(n), err
	}
	if c.nc == net.Conn(c.tcp) {
		return bufs.WriteTo(c.tcp)
	}
	c.flat = c.flat[:0]
	for _, b := range bufs {
		c.flat = append(c.flat, b...)
	}
	n, err := c.nc.Write(c.flat)
	return int64(n), err
}

func (c *conn) write(p []byte) error {
	_, err := c.nc.Write(p)
	return err
}

// sleepUntil sleeps, or returns early where the server closes.
func (c *conn) sleepUntil(t time.Time) error {
	d := time.Until(t)
	if d <= 0 {
		return nil
	}
	if c.timer == nil {
		c.timer = time.NewTimer(d)
	} else {
		c.timer.Reset(d)
	}
	select {
	case <-c.timer.C:
		return nil
	case <-c.s.done:
		return errClosing
	}
}

// pause waits for d (0: without end) or until release is closed, and returns an error where the client goes away or the
// server closes.
func (c *conn) pause(d time.Duration, release <-chan struct{}) error {
	var timeout <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timeout = t.C
	}
	gone := make(chan struct{})
	watch := make(chan struct{})
	go func() {
		defer close(watch)
		if _, err := c.br.Peek(1); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			close(gone)
		}
	}()
	defer func() {
		// Wakes the watcher; a read that was not cut short by it left its byte in the buffer.
		_ = c.tcp.SetReadDeadline(time.Unix(1, 0))
		<-watch
		_ = c.tcp.SetReadDeadline(time.Time{})
	}()
	select {
	case <-timeout:
	case <-release:
	case <-gone:
		return errGone
	case <-c.s.done:
		return errClosing
	}
	return nil
}

// query is a request with what was read from its URL.
type query struct {
	req       *http.Request
	conn      *conn
	method    string
	host      string
	bucket    string
	key       string
	values    []pair // of the query, decoded, in order
	requestID string
	user      *user
	close     bool
	foreign   bool // answered by something that is not the service
}

type pair struct{ key, value string }

func (s *Server) parse(req *http.Request) *query {
	q := &query{req: req, method: req.Method, host: req.Host, close: req.Close}
	q.requestID = fmt.Sprintf("%08X%016X", s.started.Unix(), s.serial.Add(1))
	for part := range strings.SplitSeq(req.URL.RawQuery, "&") {
		if part == "" {
			continue
		}
		k, v, _ := strings.Cut(part, "=")
		if dk, err := url.QueryUnescape(k); err == nil {
			k = dk
		}
		if dv, err := url.QueryUnescape(v); err == nil {
			v = dv
		}
		q.values = append(q.values, pair{k, v})
	}
	path := strings.TrimPrefix(req.URL.Path, "/")
	if b, ok := s.hostBucket(req.Host); ok {
		q.bucket, q.key = b, path
	} else {
		q.bucket, q.key, _ = strings.Cut(path, "/")
	}
	return q
}

// hostBucket is the bucket that the name of the host says: its first label, unless it is an address or a plain name.
func (s *Server) hostBucket(host string) (string, bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	s.mu.RLock()
	b, ok := s.cnames[host]
	s.mu.RUnlock()
	if ok {
		return b, true
	}
	if net.ParseIP(strings.Trim(host, "[]")) != nil {
		return "", false
	}
	b, _, ok = strings.Cut(host, ".")
	return b, ok
}

// value returns the first value of a query parameter and whether it is there.
func (q *query) value(key string) (string, bool) {
	for _, p := range q.values {
		if p.key == key {
			return p.value, true
		}
	}
	return "", false
}

func (q *query) get(key string) string {
	v, _ := q.value(key)
	return v
}

func (q *query) has(key string) bool {
	_, ok := q.value(key)
	return ok
}
