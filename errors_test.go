package ossdl

import (
	"net/http"
	"strings"

	"github.com/ossdl/ossdl/internal/testhook"
)

// isOddAnswer reports whether err is of an answer that says success and is not what was asked for. Callers have no name for
// it: it is known by its words.
func isOddAnswer(err error) bool {
	return err != nil && strings.Contains(err.Error(), "asked for ") && strings.Contains(err.Error(), ", got ")
}

// stalledOut reports whether err is of a request that brought too little for too long.
func stalledOut(err error) bool {
	return err != nil && strings.Contains(err.Error(), "stalled: under 1 KiB/s over the time-out")
}

// TransportOf is the transport below a client that the library has made.
func TransportOf(c *http.Client) *http.Transport {
	return testhook.Transport.(func(*http.Client) *http.Transport)(c)
}
