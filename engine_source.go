package ossdl

import "context"

// engineSource is where the bytes of one object come from. It makes single requests. Others decide what to ask for, what an
// answer means for the run, and whether to try again.
type engineSource interface {
	// get makes one request. The answer is a 200 or 206 that fits the request, with its body unread. Anything else is an
	// error: a *statusError if the server refused, an *answerError if it sent something else than was asked for, an
	// *expiredError if ready must be called before the next request.
	get(ctx context.Context, r request) (*answer, error)
	// ready returns once a request can be made: after an *expiredError it waits until the caller has brought a new URL.
	// It must be called without a slot. Its error ends the run.
	ready(ctx context.Context) error
	// versions reports whether requests may carry a version ID.
	versions() bool
}
