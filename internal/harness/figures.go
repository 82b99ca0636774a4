package harness

import (
	"strings"
)

// Figures of the library that tests depend on. They are written down a second time here, so that a change is noticed.
const (
	BufferSize       = 256 << 10 // bytes of one read and one write
	ProgressUnit     = 64 << 10  // what a request must deliver to count as progress
	StartConcurrency = 8         // requests in flight at first, if the number adapts itself
	HeadLimit        = 256 << 10 // of the head of an answer, in bytes
	MaxEmptyPages    = 1000      // pages of a listing in a row without an object
)

// Burst is how many bytes may come at once under a limit of so many bytes a second.
func Burst(limit int64) int64 { return max(1, min(BufferSize, limit/8)) }

// IsOSSHeader reports whether a header is one of the service's own.
func IsOSSHeader(name string) bool {
	return len(name) > 6 && strings.EqualFold(name[:6], "X-Oss-")
}
