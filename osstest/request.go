package osstest

import (
	"net/http"

	fake "github.com/ossdl/ossdl/internal/osstest"
)

// Request is a request that the server received, with what became of it.
type Request struct {
	Method string
	Bucket string
	Key    string // empty for a listing
	Query  string // as it was sent
	Header http.Header

	// Start and End are the range of bytes that was asked for, without the byte at End. A number that the request does
	// not give is -1: bytes=5- has Start 5 and End -1. Both are -1 without a range.
	Start, End int64

	Status    int    // of the answer; 0 while there is none
	RequestID string // x-oss-request-id of the answer
	Sent      int64  // bytes of the body that were sent
	Fault     string // the fault that was applied, as Fault.String returns it; empty if there was none
}

func newRequest(r *fake.Request) Request {
	return Request{
		Method: r.Method, Bucket: r.Bucket, Key: r.Key, Query: r.Query, Header: r.Header, Start: r.Start, End: r.End,
		Status: r.Status, RequestID: r.RequestID, Sent: r.Sent, Fault: r.Fault,
	}
}

// Requests returns all requests since the start or [Server.ResetLog], in the order in which they came.
func (s *Server) Requests() []Request {
	all := s.fake.Requests()
	out := make([]Request, len(all))
	for i := range all {
		out[i] = newRequest(&all[i])
	}
	return out
}

// ResetLog forgets the requests so far and sets [Server.Sent] to 0.
func (s *Server) ResetLog() { s.fake.ResetLog() }
