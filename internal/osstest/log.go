package osstest

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Request is one request as it came and as it was answered.
type Request struct {
	Seq    int // from 0, in the order of arrival; ResetLog starts again
	Conn   int // index of its connection, in the order of accepting
	Method string
	Host   string
	Bucket string
	Key    string
	Query  string // raw
	Header http.Header
	Range  string // the header
	// Start and End are the half-open range asked for, -1 where there is none or its form is another: bytes=5- has
	// Start 5 and End -1, bytes=-5 and no range have both -1.
	Start, End int64

	RequestID string // as answered
	Status    int    // 0: no answer was sent
	Response  http.Header
	Sent      int64  // bytes of the body given to the kernel; a client that goes away may not have got the last of them
	Fault     string // recipe of what was done to it, "" for an honest answer
	Started   time.Time
	Ended     time.Time // when the last byte was about to be written, or the answer broke; zero: under way
}

// Stats are the counters, from the start or ResetLog on.
type Stats struct {
	Requests    int
	Sent        int64 // body bytes
	MaxInFlight int
}

type requestLog struct {
	mu      sync.Mutex
	keep    bool
	entries []*entry
	seq     int
	flight  int
	most    int
	sent    *atomic.Int64 // of the requests since the last ResetLog
	changed chan struct{} // closed and replaced at each change
}

// entry is a request under way.
type entry struct {
	log  *requestLog
	r    Request // under log.mu
	left bool    // no longer in flight; under log.mu
	sent atomic.Int64
	sum  *atomic.Int64 // that of the log when the request came
}

func (l *requestLog) init(off bool) {
	l.keep, l.changed, l.sent = !off, make(chan struct{}), new(atomic.Int64)
}

// begin enters a request, which must not be changed after.
func (l *requestLog) begin(r *Request) *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Seq, r.Started = l.seq, time.Now()
	l.seq++
	l.flight++
	l.most = max(l.most, l.flight)
	e := &entry{log: l, r: *r, sum: l.sent}
	if l.keep {
		l.entries = append(l.entries, e)
	}
	l.note()
	return e
}

func (l *requestLog) note() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// add counts body bytes. They are counted before they are written, and taken back where the write fails: what a client
// has received is always in the log.
func (e *entry) add(n int64) {
	e.sent.Add(n)
	e.sum.Add(n)
}

// leave takes the request out of those in flight. It comes before the last byte is written: a client that has its answer
// may send the next request at once, and must not seem to have one too many.
func (e *entry) leave() {
	e.log.mu.Lock()
	defer e.log.mu.Unlock()
	e.leaveLocked()
}

func (e *entry) leaveLocked() {
	if !e.left {
		e.left, e.r.Ended = true, time.Now()
		e.log.flight--
		e.log.note()
	}
}

func (e *entry) edit(fn func(*Request)) {
	e.log.mu.Lock()
	defer e.log.mu.Unlock()
	fn(&e.r)
	e.log.note()
}

func (e *entry) end() {
	e.log.mu.Lock()
	defer e.log.mu.Unlock()
	e.leaveLocked()
}

// Requests is the log: every request since the start or ResetLog, in the order of arrival.
func (s *Server) Requests() []Request {
	l := &s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Request, len(l.entries))
	for i, e := range l.entries {
		out[i] = e.r
		out[i].Sent = e.sent.Load()
	}
	return out
}

// ResetLog empties the log and sets the counters to zero; MaxInFlight starts from what is in flight. What is still sent for earlier
// requests does not count.
func (s *Server) ResetLog() {
	l := &s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries, l.seq, l.most = nil, 0, l.flight
	l.sent = new(atomic.Int64)
}

// Stats returns the counters. They count without a log, too.
func (s *Server) Stats() Stats {
	l := &s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{Requests: l.seq, Sent: l.sent.Load(), MaxInFlight: l.most}
}

// InFlight is the number of requests being answered. A request counts until just before its last byte is written, so
// that a client never seems to have more of them than it has; one that a client gave up counts until the server notices.
func (s *Server) InFlight() int {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.flight
}

// MaxInFlight is the most there were at once.
func (s *Server) MaxInFlight() int { return s.Stats().MaxInFlight }

// askEvery is how often WaitFor asks for what changes without a note in the log: bytes are counted at every write, where a
// note would cost more than the write.
const askEvery = 2 * time.Millisecond

// WaitFor returns once cond holds, which is asked at each change of the log and every few milliseconds, or with the
// context's error.
func (s *Server) WaitFor(ctx context.Context, cond func() bool) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		s.log.mu.Lock()
		changed := s.log.changed
		s.log.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
