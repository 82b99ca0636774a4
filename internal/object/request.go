// Package object is the vocabulary of one GET of one object: what is asked, what an answer means, and what each failure is
// called.
//
// It knows the headers and statuses of HTTP and OSS. It must not know who sends a request or writes its bytes, nor
// connections, files, checkpoints, options or what other answers of the same run said.
//
// Its invariant: an [answer] that was accepted holds exactly the bytes that its [request] asked for, as far as the object
// has them. Whether to try again is decided in one place, [retryable].
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

// Request is one GET.
type Request struct {
	span.Span               // the bytes asked for, in the object
	Whole     bool          // send no Range header: the span starts at 0, and its end is not known
	IfMatch   string        // the ETag to send as If-Match; "" for none
	VersionID string        // "" for the current version
	Resent    *atomic.Int64 // counts what the source sends for this request beyond the first
}

// String describes the bytes asked for.
func (r Request) String() string {
	if r.Whole {
		return "the whole object"
	}
	return r.Header()
}

// Kind is what is expected to have sent an answer.
type Kind uint8

const (
	Plain Kind = iota // any web server
	OSS               // OSS: every answer has a request ID and identifies the object
)
