package engine

import (
	"context"

	"github.com/ossdl/ossdl/internal/object"
)

// Source is where the bytes of one object come from. It makes single requests. Others decide what to ask for, what an
// answer means for the run, and whether to try again.
type Source interface {
	// Get makes one request. The answer is a 200 or 206 that fits the request, with its body unread. Anything else is an
	// error: a *statusError if the server refused, an *answerError if it sent something else than was asked for, an
	// *expiredError if ready must be called before the next request.
	Get(ctx context.Context, r object.Request) (*object.Answer, error)
	// Ready returns once a request can be made: after an *expiredError it waits until the caller has brought a new URL.
	// It must be called without a slot. Its error ends the run.
	Ready(ctx context.Context) error
	// Versions reports whether requests may carry a version ID.
	Versions() bool
}
