// Package object is the vocabulary of one GET of one object: it knows what is asked for, what the headers and statuses of
// HTTP and OSS mean, and what each failure is called. It must not know who sends a request or writes its bytes, nor
// connections, files, checkpoints, options or what other answers of the same run said. Its invariant: an [Answer] says
// which bytes it holds, and the first one that its [Request] asked for is among them, if the object has it.
package object

import (
	"sync/atomic"

	"github.com/ossdl/ossdl/internal/span"
)

// Identity names an object: by bucket and key, or by host and path of a URL. It holds no credentials.
type Identity struct {
	URL         bool // bucket is the host of the URL, key its path
	Bucket, Key string
}

// String returns the name for messages.
func (id Identity) String() string {
	if id.URL {
		return id.Bucket + id.Key
	}
	return "oss://" + id.Bucket + "/" + id.Key
}

// Request is one GET: which bytes of which version, and under which condition.
type Request struct {
	span.Span               // the bytes asked for, in the object
	Whole     bool          // send no Range header: the span starts at 0, and its end is not known
	IfMatch   string        // the ETag to send as If-Match; "": none
	VersionID string        // "": the current version
	Resent    *atomic.Int64 // counts the requests that the source sends for this one beyond the first
}

// String describes the bytes asked for.
func (r Request) String() string {
	if r.Whole {
		return "the whole object"
	}
	return r.Header()
}

// Kind says what sort of server must have sent an answer.
type Kind uint8

// The kinds of servers.
const (
	Plain Kind = iota // any web server
	OSS               // OSS: every answer has a request ID and identifies the object
)
