package harness

import (
	"slices"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

// seemsSlow is how long a request for a small range goes on, at least, before its range is taken over: until the engine measures
// its speed. If next to nothing has come by then, it seems to need seconds.
const seemsSlow = 100 * time.Millisecond

// TakenOver returns how many requests of a call may have been made because an honest answer seemed to be slow: an idle
// worker takes over the range of a request that lags far behind the others. That is not a mistake, but on a machine that is
// too busy it comes without being asked for, and has one more request for the same bytes. took is how long the call took.
// A call that was over before anything could seem slow has no such requests, and one of w workers cannot have more than w.
func TakenOver(requests []osstest.Request, workers int, took time.Duration) (n int) {
	if took < seemsSlow {
		return 0
	}
	for i, r := range requests {
		if slices.ContainsFunc(requests[:i], overlaps(r)) {
			n++
		}
	}
	return min(n, workers)
}

// TakenOverBytes returns how many bytes of such a call may have come twice: those of each range that was taken over.
func TakenOverBytes(requests []osstest.Request, took time.Duration) (n int64) {
	if took < seemsSlow {
		return 0
	}
	for i, r := range requests {
		if slices.ContainsFunc(requests[:i], overlaps(r)) {
			n += r.End - r.Start
		}
	}
	return n
}

// overlaps returns a function that reports whether an earlier request was for the first byte of r, too, and was answered
// honestly.
func overlaps(r osstest.Request) func(osstest.Request) bool {
	return func(earlier osstest.Request) bool {
		return earlier.Fault == "" && earlier.Status == 206 && earlier.Start <= r.Start && r.Start < earlier.End
	}
}
