package ossdl

import (
	"context"
	"fmt"
	"sync/atomic"
)

// A source is where the bytes of one object come from. It makes single requests: what to ask for, what an answer means
// for the run, and whether to try again are decided by others.
type source interface {
	// get makes one request. The answer is a 200 or 206 that fits the request by itself, its body unread; anything else is
	// an error: *statusError where the server refused, *answerError where what it sent is not what was asked for.
	get(ctx context.Context, r request) (*answer, error)
	// identity names the object in the checkpoint, without credentials.
	identity() identity
	// String names it in messages.
	fmt.Stringer
	// versions reports whether requests may carry a version ID.
	versions() bool
	// ready returns once a request can be made: after an *expiredError it waits for what the caller has to bring. Whoever
	// calls it holds no slot. An error ends the run.
	ready(ctx context.Context) error
}

// expiredError: requests cannot be made as they were, and ready will wait until they can be made again.
type expiredError struct{ err error }

func (e *expiredError) Error() string { return e.err.Error() }
func (e *expiredError) Unwrap() error { return e.err }

// identity is what a source is called: bucket and key, or host and path of a URL.
type identity struct {
	url         bool
	bucket, key string
}

// request is one GET.
type request struct {
	span             // the bytes asked for, in the object
	whole     bool   // no Range header: the span is from 0, and its end unknown
	ifMatch   string // an ETag, or none
	versionID string
	again     *atomic.Int64 // counts what the source sends for it beyond once
}

func (r request) String() string {
	if r.whole {
		return "the whole object"
	}
	return r.header()
}
