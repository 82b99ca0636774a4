package osstest

import (
	"time"

	fake "github.com/ossdl/ossdl/internal/osstest"
)

// Fault says what goes wrong with an answer. It is built by chaining steps, and all of them happen:
//
//	osstest.Error(503, "ServiceUnavailable").Header("Retry-After", "1")
//	osstest.Inject().Delay(time.Second).ResetAfter(100)
//
// Positions count bytes of the body of the answer, from 0. A step at a position that the body does not reach does not
// happen. A Fault can be used for many answers. Do not add steps to it while it is in use.
type Fault struct{ fake *fake.Fault }

// Inject returns a Fault without steps.
func Inject() *Fault { return &Fault{fake.Inject()} }

// Error returns a Fault that answers with an error of the service, for example 503 and ServiceUnavailable.
func Error(status int, code string) *Fault { return &Fault{fake.Error(status, code)} }

// Reply returns a Fault that answers with this body, for example with the login page of a proxy.
func Reply(status int, contentType, body string) *Fault {
	return &Fault{fake.Inject().Reply(status, contentType, body)}
}

// Status replaces the status code and nothing else.
func (f *Fault) Status(status int) *Fault { f.fake.Status(status); return f }

// Header sets a header field, such as ETag or Content-Range.
func (f *Fault) Header(name, value string) *Fault { f.fake.Header(name, value); return f }

// NoHeader removes a header field. If the answer does not have that field, the step does not happen.
func (f *Fault) NoHeader(name string) *Fault { f.fake.NoHeader(name); return f }

// IgnoreRange answers a request for a range with 200 and the whole object, as some proxies do.
func (f *Fault) IgnoreRange() *Fault { f.fake.IgnoreRange(); return f }

// FlipByte changes the byte at this position of the body.
func (f *Fault) FlipByte(at int64) *Fault { f.fake.FlipByte(at); return f }

// CloseAfter closes the connection after n bytes of the body, before Content-Length is reached.
func (f *Fault) CloseAfter(n int64) *Fault { f.fake.CloseAfter(n); return f }

// ResetAfter resets the connection after n bytes of the body.
func (f *Fault) ResetAfter(n int64) *Fault { f.fake.ResetAfter(n); return f }

// StallAfter sends nothing more after n bytes of the body, until the client gives up.
func (f *Fault) StallAfter(n int64) *Fault { f.fake.StallAfter(n); return f }

// Gate pauses after n bytes of the body until open is closed.
func (f *Fault) Gate(n int64, open <-chan struct{}) *Fault { f.fake.Gate(n, open); return f }

// ResetBeforeHead resets the connection instead of answering.
func (f *Fault) ResetBeforeHead() *Fault { f.fake.ResetBeforeHead(); return f }

// Delay waits before the first byte of the answer.
func (f *Fault) Delay(d time.Duration) *Fault { f.fake.Delay(d); return f }

// Rate limits the body, in bytes per second.
func (f *Fault) Rate(bytesPerSecond int64) *Fault { f.fake.Rate(bytesPerSecond); return f }

// Before calls fn before the answer is made. What fn does to the server, for example with [Server.Put] or
// [Server.ExpireToken], takes effect in the answer.
func (f *Fault) Before(fn func()) *Fault { f.fake.Before(fn); return f }

// Then calls fn when all but the last byte of the answer has been sent. What fn does to the server takes effect before
// the client can make its next request.
func (f *Fault) Then(fn func()) *Fault { f.fake.Then(fn); return f }

// Maybe allows that the fault never happens, so that [Server.Unfired] does not list it.
func (f *Fault) Maybe() *Fault { f.fake.Maybe(); return f }

// String returns the steps.
func (f *Fault) String() string { return f.fake.String() }

// Nth plans a fault for the n-th request for an object from now on. The first one is 0.
func (s *Server) Nth(n int, f *Fault) { s.fake.Nth(n, f.fake) }

// Once plans a fault for the first request for an object for which match returns true. The rules of [Server.OnRequest]
// hold for match.
func (s *Server) Once(match func(*Request) bool, f *Fault) {
	s.fake.Once(func(r *fake.Request) bool {
		asked := newRequest(r)
		return match(&asked)
	}, f.fake)
}

// OnRequest calls fn before each request for an object is answered. The fault that fn returns is applied to the answer;
// nil means none. Calls do not overlap and come in the order of the requests, so fn may count. It must not wait for another
// request. If OnRequest is called several times, all functions are called and their faults add up.
func (s *Server) OnRequest(fn func(*Request) *Fault) { s.fake.OnRequest(script(fn)) }

// OnList does for listings what [Server.OnRequest] does for objects.
func (s *Server) OnList(fn func(*Request) *Fault) { s.fake.OnList(script(fn)) }

func script(fn func(*Request) *Fault) func(*fake.Request) *fake.Fault {
	return func(r *fake.Request) *fake.Fault {
		asked := newRequest(r)
		if f := fn(&asked); f != nil {
			return f.fake
		}
		return nil
	}
}

// ClearFaults forgets all planned faults and all functions given to [Server.OnRequest] and [Server.OnList].
func (s *Server) ClearFaults() { s.fake.ClearFaults() }

// Unfired lists the planned faults that have not happened, or only in part. [NewServer] reports them when the test ends.
func (s *Server) Unfired() []string { return s.fake.Unfired() }
