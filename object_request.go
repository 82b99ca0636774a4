// Package object is the vocabulary of one GET of one object: what is asked, what an answer means, and what each failure is
// called.
//
// It knows the headers and statuses of HTTP and OSS. It must not know who sends a request or writes its bytes, nor
// connections, files, checkpoints, options or what other answers of the same run said.
//
// Its invariant: an [answer] that was accepted holds exactly the bytes that its [request] asked for, as far as the object
// has them. Whether to try again is decided in one place, [retryable].

package ossdl

import "sync/atomic"

// identity names an object: by bucket and key, or by host and path of a URL. It holds no credentials.
type identity struct {
	url         bool // bucket is the host of the URL, key its path
	bucket, key string
}

// String returns the name for messages.
func (id identity) String() string {
	if id.url {
		return id.bucket + id.key
	}
	return "oss://" + id.bucket + "/" + id.key
}

// request is one GET.
type request struct {
	span                    // the bytes asked for, in the object
	whole     bool          // send no Range header: the span starts at 0, and its end is not known
	ifMatch   string        // the ETag to send as If-Match; "" for none
	versionID string        // "" for the current version
	again     *atomic.Int64 // counts what the source sends for this request beyond the first
}

// String describes the bytes asked for.
func (r request) String() string {
	if r.whole {
		return "the whole object"
	}
	return r.header()
}

// kind is what is expected to have sent an answer.
type kind uint8

const (
	kindPlain kind = iota // any web server
	kindOSS               // OSS: every answer has a request ID and identifies the object
)
