package osstest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Fault is what is done to one answer. It is built of steps, which add up, in the order of their calls:
//
//	osstest.Inject().Header("Retry-After", "1").ResetAfter(100)
//	osstest.Error(503, "ServiceUnavailable").Delay(time.Second)
//
// Positions count bytes of the body as it is sent, from 0. A Fault may be used for any number of answers, but must not be
// built on while it is in use.
type Fault struct {
	steps []*step
	maybe bool // it need not happen
}

type step struct {
	recipe   string
	replaces bool // no honest answer is needed
	before   func()
	change   func(r *reply, q *query, fired func())
	fired    atomic.Bool
}

// Inject is a Fault that does nothing yet.
func Inject() *Fault { return new(Fault) }

// Error answers with an error document of the service.
func Error(status int, code string, message ...string) *Fault {
	return Inject().Error(status, code, message...)
}

// And adds the steps of other faults.
func (f *Fault) And(others ...*Fault) *Fault {
	for _, o := range others {
		if o != nil {
			f.steps = append(f.steps, o.steps...)
		}
	}
	return f
}

// Maybe says that this fault need not happen: Unfired does not name it. It is for one that a test plans for the case that
// what it is for comes about, which the order of things decides.
func (f *Fault) Maybe() *Fault {
	f.maybe = true
	return f
}

// String is the recipe.
func (f *Fault) String() string {
	var all []string
	for _, s := range f.steps {
		all = append(all, s.recipe)
	}
	return strings.Join(all, ".")
}

// Fired reports whether every step has happened at least once.
func (f *Fault) Fired() bool {
	for _, s := range f.steps {
		if !s.fired.Load() {
			return false
		}
	}
	return true
}

func (f *Fault) replaces() bool {
	return slices.ContainsFunc(f.steps, func(s *step) bool { return s.replaces })
}

func (f *Fault) prepare() {
	for _, s := range f.steps {
		if s.before != nil {
			s.before()
			s.fired.Store(true)
		}
	}
}

func (f *Fault) change(r *reply, q *query) {
	for _, s := range f.steps {
		if s.change != nil {
			s.change(r, q, func() { s.fired.Store(true) })
		}
	}
}

// edit adds a step that takes effect at once.
func (f *Fault) edit(recipe string, fn func(r *reply, q *query)) *Fault {
	return f.try(recipe, func(r *reply, q *query) bool { fn(r, q); return true })
}

// try adds a step that says itself whether it took effect.
func (f *Fault) try(recipe string, fn func(r *reply, q *query) bool) *Fault {
	f.steps = append(f.steps, &step{recipe: recipe, change: func(r *reply, q *query, fired func()) {
		if fn(r, q) {
			fired()
		}
	}})
	return f
}

// replace adds a step that stands for the whole answer.
func (f *Fault) replace(recipe string, fn func(r *reply, q *query)) *Fault {
	f.edit(recipe, func(r *reply, q *query) {
		r.header, r.declared, r.n, r.bodiless = http.Header{}, 0, 0, false
		fn(r, q)
	})
	f.steps[len(f.steps)-1].replaces = true
	return f
}

// at adds a step that happens when n bytes of the body are with the kernel.
func (f *Fault) at(recipe string, n int64, do func(*conn) error) *Fault {
	f.steps = append(f.steps, &step{recipe: recipe, change: func(r *reply, _ *query, fired func()) {
		r.events = append(r.events, event{n, func(c *conn) error { fired(); return do(c) }})
	}})
	return f
}

// head adds a step that happens before the first byte of the answer.
func (f *Fault) head(recipe string, do func(*conn) error) *Fault {
	return f.edit(recipe, func(r *reply, _ *query) { r.before = append(r.before, do) })
}

// Error answers with an error document of the service.
func (f *Fault) Error(status int, code string, message ...string) *Fault {
	return f.replace(fmt.Sprintf("Error(%d, %q)", status, code), func(r *reply, q *query) {
		text := strings.Join(append(message, "injected"), ": ")
		e := q.conn.s.errorReply(q, fail(status, code, text, "0099-00000001"))
		r.status, r.header, r.bodiless, r.declared = e.status, e.header, e.bodiless, e.declared
		r.body, r.off, r.n = e.body, e.off, e.n
	})
}

// Reply answers with this body, with the headers of the service.
func (f *Fault) Reply(status int, contentType, body string) *Fault {
	return f.replace(fmt.Sprintf("Reply(%d, %q)", status, contentType), func(r *reply, _ *query) {
		r.status = status
		r.header.Set("Content-Type", contentType)
		r.setBody(Bytes([]byte(body)), 0, int64(len(body)))
	})
}

// Empty answers with no body.
func (f *Fault) Empty(status int) *Fault {
	return f.replace(fmt.Sprintf("Empty(%d)", status), func(r *reply, _ *query) {
		r.status = status
		r.setBody(Bytes(nil), 0, 0)
	})
}

// HTML answers as a proxy in between, without a header of the service.
func (f *Fault) HTML(status int) *Fault {
	return f.page(fmt.Sprintf("HTML(%d)", status), status, "<html><body><h1>"+http.StatusText(status)+"</h1></body></html>\n")
}

// LoginPage answers 200 with a page, as the network of a hotel does.
func (f *Fault) LoginPage() *Fault {
	return f.page("LoginPage()", http.StatusOK, "<!DOCTYPE html><html><title>Sign in</title><form>Welcome</form></html>\n")
}

func (f *Fault) page(recipe string, status int, body string) *Fault {
	return f.replace(recipe, func(r *reply, q *query) {
		q.foreign = true
		r.status = status
		r.header.Set("Content-Type", "text/html; charset=utf-8")
		r.header.Set("Server", "proxy")
		r.setBody(Bytes([]byte(body)), 0, int64(len(body)))
	})
}

// Redirect answers with Location.
func (f *Fault) Redirect(url string, status int) *Fault {
	return f.replace(fmt.Sprintf("Redirect(%d)", status), func(r *reply, _ *query) {
		r.status = status
		r.header.Set("Location", url)
		r.setBody(Bytes(nil), 0, 0)
	})
}

// NotModified answers 304 to whatever was asked.
func (f *Fault) NotModified() *Fault {
	return f.replace("NotModified()", func(r *reply, _ *query) {
		r.status, r.bodiless, r.declared = http.StatusNotModified, true, undeclared
	})
}

// Raw writes these bytes instead of an answer and closes the connection.
func (f *Fault) Raw(b []byte) *Fault {
	return f.replace(fmt.Sprintf("Raw(%d bytes)", len(b)), func(r *reply, _ *query) {
		r.before = append(r.before, func(c *conn) error {
			if err := c.write(b); err != nil {
				return err
			}
			return errFinish
		})
	})
}

// Status changes the number and nothing else.
func (f *Fault) Status(status int) *Fault {
	return f.edit(fmt.Sprintf("Status(%d)", status), func(r *reply, _ *query) { r.status = status })
}

// Header sets a header field.
func (f *Fault) Header(name, value string) *Fault {
	return f.edit(fmt.Sprintf("Header(%q, %q)", name, value), func(r *reply, _ *query) { r.header.Set(name, value) })
}

// AddHeader adds a header field to those of the same name.
func (f *Fault) AddHeader(name, value string) *Fault {
	return f.edit(fmt.Sprintf("AddHeader(%q, %q)", name, value), func(r *reply, _ *query) { r.header.Add(name, value) })
}

// NoHeader removes a header field; it fires where there was one.
func (f *Fault) NoHeader(name string) *Fault {
	return f.try(fmt.Sprintf("NoHeader(%q)", name), func(r *reply, _ *query) bool {
		had := r.header.Get(name) != ""
		r.header.Del(name)
		return had
	})
}

// OtherETag sends etag, quotes included.
func (f *Fault) OtherETag(etag string) *Fault { return f.Header("ETag", etag) }

// NoETag sends none.
func (f *Fault) NoETag() *Fault { return f.NoHeader("ETag") }

// WeakETag sends W/ before the ETag.
func (f *Fault) WeakETag() *Fault {
	return f.try("WeakETag()", func(r *reply, _ *query) bool {
		etag := r.header.Get("Etag")
		r.header.Set("Etag", "W/"+etag)
		return etag != ""
	})
}

// CRC sends value as x-oss-hash-crc64ecma.
func (f *Fault) CRC(value string) *Fault { return f.Header("X-Oss-Hash-Crc64ecma", value) }

// NoCRC sends no x-oss-hash-crc64ecma.
func (f *Fault) NoCRC() *Fault { return f.NoHeader("X-Oss-Hash-Crc64ecma") }

// ContentRange sends value, "" for none, with a 206.
func (f *Fault) ContentRange(value string) *Fault {
	return f.onRange(fmt.Sprintf("ContentRange(%q)", value), func(_, _, _ int64) string { return value })
}

// WrongContentRange moves start and end of Content-Range by shift; the bytes stay.
func (f *Fault) WrongContentRange(shift int64) *Fault {
	return f.onRange(fmt.Sprintf("WrongContentRange(%d)", shift), func(start, end, total int64) string {
		return fmt.Sprintf("bytes %d-%d/%d", start+shift, end-1+shift, total)
	})
}

// WrongTotal adds to the total of Content-Range.
func (f *Fault) WrongTotal(more int64) *Fault {
	return f.onRange(fmt.Sprintf("WrongTotal(%d)", more), func(start, end, total int64) string {
		return fmt.Sprintf("bytes %d-%d/%d", start, end-1, total+more)
	})
}

func (f *Fault) onRange(recipe string, value func(start, end, total int64) string) *Fault {
	return f.try(recipe, func(r *reply, _ *query) bool {
		if r.header.Get("Content-Range") == "" {
			return false
		}
		if v := value(r.off, r.off+r.n, r.whole.Size()); v != "" {
			r.header.Set("Content-Range", v)
		} else {
			r.header.Del("Content-Range")
		}
		return true
	})
}

// IgnoreRange answers a range with 200 and the whole object.
func (f *Fault) IgnoreRange() *Fault {
	return f.try("IgnoreRange()", func(r *reply, _ *query) bool {
		if r.status != http.StatusPartialContent {
			return false
		}
		r.status = http.StatusOK
		r.header.Del("Content-Range")
		r.setBody(r.whole, 0, r.whole.Size())
		return true
	})
}

// OtherBytes sends the same range of another content: of an object that was replaced while the head stayed.
func (f *Fault) OtherBytes(c Content) *Fault {
	return f.try("OtherBytes()", func(r *reply, _ *query) bool {
		if r.off+r.n > c.Size() {
			return false
		}
		declared := r.declared
		r.setBody(c, r.off, r.n)
		r.declared = declared
		return true
	})
}

// GzipAnyway compresses the body without being asked, as some proxies do. Status, Content-Range and ETag stay.
func (f *Fault) GzipAnyway() *Fault {
	return f.edit("GzipAnyway()", func(r *reply, _ *query) {
		etag, ranges := r.header.Get("Etag"), r.header.Get("Accept-Ranges")
		r.gzip()
		r.header.Set("Etag", etag)
		r.header.Set("Accept-Ranges", ranges)
	})
}

// NoContentLength sends the body in chunks.
func (f *Fault) NoContentLength() *Fault {
	return f.edit("NoContentLength()", func(r *reply, _ *query) { r.declared = chunked })
}

// UntilClose sends the body without a length; the end of the connection is its end.
func (f *Fault) UntilClose() *Fault {
	return f.edit("UntilClose()", func(r *reply, _ *query) { r.declared = undeclared })
}

// ShortBody sends less bytes fewer than Content-Length says, then closes.
func (f *Fault) ShortBody(less int64) *Fault {
	return f.try(fmt.Sprintf("ShortBody(%d)", less), func(r *reply, _ *query) bool {
		if r.n < less {
			return false
		}
		r.n -= less
		return true
	})
}

// LongBody sends more zero bytes after the end that Content-Length says, then closes.
func (f *Fault) LongBody(more int64) *Fault {
	return f.edit(fmt.Sprintf("LongBody(%d)", more), func(r *reply, _ *query) {
		r.body = joined{r.body, r.off + r.n}
		r.n += more
	})
}

// joined is zeros from end on.
type joined struct {
	viewer
	end int64
}

func (j joined) view(off int64, scratch []byte) []byte {
	if off >= j.end {
		return zeroBlock[:]
	}
	v := j.viewer.view(off, scratch)
	return v[:min(int64(len(v)), j.end-off)]
}

// FlipByte changes the byte at this position of the body.
func (f *Fault) FlipByte(at int64) *Fault {
	f.steps = append(f.steps, &step{recipe: fmt.Sprintf("FlipByte(%d)", at), change: func(r *reply, _ *query, fired func()) {
		if r.body != nil {
			r.body = flipped{r.body, r.off + at, fired}
		}
	}})
	return f
}

// FlipObjectByte changes the byte at this offset of the object, in answers that hold it.
func (f *Fault) FlipObjectByte(at int64) *Fault {
	f.steps = append(f.steps, &step{recipe: fmt.Sprintf("FlipObjectByte(%d)", at), change: func(r *reply, _ *query, fired func()) {
		if r.body != nil {
			r.body = flipped{r.body, at, fired}
		}
	}})
	return f
}

type flipped struct {
	viewer
	at    int64
	fired func()
}

func (v flipped) view(off int64, scratch []byte) []byte {
	b := v.viewer.view(off, scratch)
	switch {
	case off < v.at:
		return b[:min(int64(len(b)), v.at-off)]
	case off > v.at:
		return b
	}
	v.fired()
	scratch[0] = b[0] ^ 0xff
	return scratch[:1]
}

// ResetAfter resets the connection after n bytes of the body. These bytes do reach the client if it reads on.
func (f *Fault) ResetAfter(n int64) *Fault {
	return f.at(fmt.Sprintf("ResetAfter(%d)", n), n, func(c *conn) error { c.drain(); return errReset })
}

// CloseAfter closes the connection cleanly after n bytes of the body.
func (f *Fault) CloseAfter(n int64) *Fault {
	return f.at(fmt.Sprintf("CloseAfter(%d)", n), n, func(*conn) error { return errFinish })
}

// StallAfter sends nothing more after n bytes of the body, until the client goes or the server closes.
func (f *Fault) StallAfter(n int64) *Fault {
	return f.at(fmt.Sprintf("StallAfter(%d)", n), n, func(c *conn) error { return c.pause(0, nil) })
}

// Gate holds the body after n bytes until open is closed, the client goes or the server closes.
func (f *Fault) Gate(n int64, open <-chan struct{}) *Fault {
	return f.at(fmt.Sprintf("Gate(%d)", n), n, func(c *conn) error { return c.pause(0, open) })
}

// At calls fn when n bytes of the body were sent.
func (f *Fault) At(n int64, fn func()) *Fault {
	return f.at(fmt.Sprintf("At(%d)", n), n, func(*conn) error { fn(); return nil })
}

// Before calls fn before the answer is made: what it does to the object is in the answer.
func (f *Fault) Before(fn func()) *Fault {
	f.steps = append(f.steps, &step{recipe: "Before()", before: fn})
	return f
}

// Then calls fn after the answer was made and all but its last byte was sent: a client that has the whole answer finds
// the work of fn done. It is called before the end of a broken answer, too.
func (f *Fault) Then(fn func()) *Fault {
	f.steps = append(f.steps, &step{recipe: "Then()", change: func(r *reply, _ *query, fired func()) {
		r.then = append(r.then, func() { fired(); fn() })
	}})
	return f
}

// Drip sends one byte at a time, with this pause between.
func (f *Fault) Drip(every time.Duration) *Fault {
	return f.edit(fmt.Sprintf("Drip(%v)", every), func(r *reply, _ *query) { r.drip = every })
}

// Rate bounds this answer's body, in bytes a second.
func (f *Fault) Rate(bytesPerSecond int64) *Fault {
	return f.edit(fmt.Sprintf("Rate(%d)", bytesPerSecond), func(r *reply, _ *query) { r.rate = bytesPerSecond })
}

// Delay waits before the head.
func (f *Fault) Delay(d time.Duration) *Fault {
	return f.head(fmt.Sprintf("Delay(%v)", d), func(c *conn) error { return c.pause(d, nil) })
}

// HoldHeaders sends nothing until open is closed (nil: never), the client goes or the server closes.
func (f *Fault) HoldHeaders(open <-chan struct{}) *Fault {
	return f.head("HoldHeaders()", func(c *conn) error { return c.pause(0, open) })
}

// ResetBeforeHead resets the connection instead of answering.
func (f *Fault) ResetBeforeHead() *Fault {
	return f.head("ResetBeforeHead()", func(*conn) error { return errReset })
}

// CloseBeforeHead closes the connection instead of answering.
func (f *Fault) CloseBeforeHead() *Fault {
	return f.head("CloseBeforeHead()", func(*conn) error { return errFinish })
}

// CutHead sends n bytes of the head and closes.
func (f *Fault) CutHead(n int) *Fault {
	return f.edit("CutHead("+strconv.Itoa(n)+")", func(r *reply, _ *query) { r.cutHead = n })
}

// CloseConn closes the connection after the whole answer, which says so.
func (f *Fault) CloseConn() *Fault {
	return f.edit("CloseConn()", func(r *reply, _ *query) { r.close = true })
}

// drain waits until the kernel has passed on what was written, so that a reset does not discard it.
func (c *conn) drain() {
	for deadline := time.Now().Add(5 * time.Second); unsent(c.tcp) > 0 && time.Now().Before(deadline); {
		if c.sleepUntil(time.Now().Add(100*time.Microsecond)) != nil {
			return
		}
	}
}

// faultPlan knows which request gets which fault.
type faultPlan struct {
	order   sync.Mutex // held while a request is entered: scripts run one at a time, in the order of Seq
	mu      sync.Mutex // over what follows
	scripts []func(*Request) *Fault
	lists   []func(*Request) *Fault
	planned []*plannedFault
	issued  map[*Fault]string // where each comes from
}

type plannedFault struct {
	match func(*Request) bool
	fault *Fault
	taken bool
}

// OnRequest adds a script: fn is called before each request for an object is answered, and returns what to do to the
// answer, or nil. Calls do not overlap and come in the order of r.Seq, so that fn may count. With several scripts all
// are called, and their faults add up. fn must not wait for a request, nor keep r.
func (s *Server) OnRequest(fn func(r *Request) *Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.scripts = append(s.faults.scripts, fn)
}

// OnList is OnRequest for listings.
func (s *Server) OnList(fn func(r *Request) *Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.lists = append(s.faults.lists, fn)
}

// Nth plans a fault for one request for an object: the n-th from now on, counted from 0.
func (s *Server) Nth(n int, f *Fault) {
	s.Once(func(*Request) bool { n--; return n == -1 }, f)
}

// Once plans a fault for the first request for an object that match accepts. match is called as a script is.
func (s *Server) Once(match func(*Request) bool, f *Fault) {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.planned = append(s.faults.planned, &plannedFault{match: match, fault: f})
	s.faults.issue(f, "planned")
}

// ClearFaults ends all scripts and plans. What has not fired by then stays in Unfired.
func (s *Server) ClearFaults() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.scripts, s.faults.lists, s.faults.planned = nil, nil, nil
}

// Unfired names every fault that was planned, or returned by a script, of which some step has not happened: a test that
// did not test what it says. Those that may stay out, by Maybe, are not named.
func (s *Server) Unfired() []string {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	var out []string
	for f, origin := range s.faults.issued {
		if f.maybe {
			continue
		}
		for _, st := range f.steps {
			if !st.fired.Load() {
				out = append(out, fmt.Sprintf("%s of %s (%s)", st.recipe, f, origin))
			}
		}
	}
	slices.Sort(out)
	return out
}

func (p *faultPlan) issue(f *Fault, origin string) {
	if p.issued == nil {
		p.issued = map[*Fault]string{}
	}
	if _, ok := p.issued[f]; !ok {
		p.issued[f] = origin
	}
}

// begin enters the request in the log and finds its fault.
func (p *faultPlan) begin(s *Server, r *Request) (*entry, *Fault) {
	p.order.Lock()
	defer p.order.Unlock()
	e := s.log.begin(r)
	p.mu.Lock()
	scripts, planned := p.scripts, p.planned
	if r.Key == "" {
		scripts, planned = p.lists, nil
	}
	p.mu.Unlock()

	var all []*Fault
	for _, pf := range planned {
		if !pf.taken && pf.match(r) {
			pf.taken = true
			all = append(all, pf.fault)
		}
	}
	for _, fn := range scripts {
		if f := fn(r); f != nil {
			all = append(all, f)
		}
	}
	p.mu.Lock()
	for _, f := range all {
		p.issue(f, fmt.Sprintf("request %d", r.Seq))
	}
	p.planned = slices.DeleteFunc(slices.Clone(p.planned), func(pf *plannedFault) bool { return pf.taken })
	p.mu.Unlock()
	if s.cfg.resetEvery != nil && r.Key != "" {
		all = append(all, s.cfg.resetEvery())
	}
	switch len(all) {
	case 0:
		return e, nil
	case 1:
		return e, all[0]
	}
	return e, Inject().And(all...)
}

// done forgets the faults that have fired.
func (p *faultPlan) done(f *Fault) {
	if f == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.issued, func(f *Fault, _ string) bool { return f.Fired() })
}
