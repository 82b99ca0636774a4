package harness

import (
	"strings"
)

// IsOddAnswer reports whether err is of an answer that says success and is not what was asked for. Callers have no name for
// it: it is known by its words.
func IsOddAnswer(err error) bool {
	return err != nil && strings.Contains(err.Error(), "asked for ") && strings.Contains(err.Error(), ", got ")
}

// StalledOut reports whether err is of a request that brought too little for too long.
func StalledOut(err error) bool {
	return err != nil && strings.Contains(err.Error(), "stalled: under 1 KiB/s over the time-out")
}
