package engine

import (
	"context"

	"github.com/ossdl/ossdl/internal/object"
)

// Source is where the bytes of one object come from. It makes single requests. The engine decides what to ask for, what an
// answer means for the run, and whether to try again.
type Source interface {
	// Get makes one request. The answer is a 200 or 206 that fits the request, with its body unread. Anything else is an
	// error: an [*object.StatusError] if the server refused, an [*object.MismatchError] if it sent something other than what
	// was asked for, an [*object.ExpiredError] if Ready must be called before the next request.
	Get(ctx context.Context, r object.Request) (*object.Answer, error)
	// Ready returns once a request can be made: after an [*object.ExpiredError] it waits until there is a new URL. It must be
	// called without a slot. Its error ends the run.
	Ready(ctx context.Context) error
	// Versions reports whether requests may carry a version ID.
	Versions() bool
}
