package ossdl

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/ossdl/ossdl/internal/engine"
)

const (
	firstPart = 8 << 20         // bytes of a request while the speed of a connection is not known
	minPart   = 1 << 20         // less is not worth a request of its own
	maxPart   = 256 << 20       // more saves nothing
	partTime  = 4 * time.Second // round trips do not show in a request that takes this long
)

// partSizer decides how an object is cut into parts: how many bytes each request asks for. It has no state.
type partSizer struct {
	fixed int64 // bytes of every part, as the caller asked; 0: chosen for each
}

// first returns how many bytes the first request asks for if nothing is there yet: the size of the object is not known. The
// bytes wanted begin at base in the object; length is how many they are, or -1 if they go to its end.
func (s partSizer) first(base, length int64) int64 {
	n := int64(firstPart)
	if s.fixed > 0 {
		n = s.fixed
	}
	if length > 0 {
		n = min(n, length)
	}
	return min(n, math.MaxInt64-base)
}

// next returns how many bytes the next request asks for.
func (s partSizer) next(l engine.Load) int64 {
	n := s.useful(l)
	if l.Room > 0 {
		n = min(n, l.RoomShare())
	}
	return n
}

// useful returns the size from which a request gains nothing by being larger. It is no more than an equal share of what is
// left: no worker should hold what others could fetch.
func (s partSizer) useful(l engine.Load) int64 {
	if s.fixed > 0 {
		return s.fixed
	}
	if !l.Known {
		return firstPart
	}
	want, requests := int64(firstPart), l.Limit
	switch {
	case l.Ceiling <= l.Limit: // the limit cannot grow: no further requests will compete
		want, requests = maxPart, l.Ceiling
	case l.Rate > 0:
		want = int64(min(l.Rate*partTime.Seconds(), maxPart))
	}
	share := (l.Unfinished + int64(requests) - 1) / int64(requests)
	want = max(minPart, min(want, share))
	return (want + minPart - 1) / minPart * minPart
}

// workers returns how many requests at once there is work for when so many bytes are left: at least one, at most ceiling.
func (s partSizer) workers(left int64, ceiling int) int {
	unit := int64(minPart)
	if s.fixed > 0 {
		unit = min(unit, s.fixed)
	}
	return int(max(1, min(int64(ceiling), (left+unit-1)/unit)))
}

// weight returns how much of the room for objects in flight an object takes: as much as the requests that it employs, but no
// more than a quarter of all, because at its end it employs few. So few large objects are in flight at once, and an
// interruption leaves few unfinished ones.
func weight(size, room int64) int64 {
	return max(1, min(size/firstPart, room/4))
}

// PartError says which bytes of which object could not be fetched, and why. [errors.As] finds it as a *PartError.
//
// A call returns the error that happened first. Errors that its cancellation causes in other parts are not reported.
type PartError struct {
	Bucket   string `json:"bucket"`   // as in [Result]
	Key      string `json:"key"`      // as in [Result]
	Offset   int64  `json:"offset"`   // of the first byte that is missing, in the object
	Size     int64  `json:"size"`     // bytes that were still to come; -1 if the server does not say how many
	Attempts int    `json:"attempts"` // requests made in a row without progress, the last included
	Err      error  `json:"error"`    // why the last of them failed
}

// Error returns the range, the number of attempts and the text of Err. It does not name the object: the error of the call does.
func (e *PartError) Error() string {
	if e.Size < 0 {
		return fmt.Sprintf("bytes from %d on, attempt %d: %v", e.Offset, e.Attempts, e.Err)
	}
	return fmt.Sprintf("bytes %d-%d, attempt %d: %v", e.Offset, e.Offset+e.Size-1, e.Attempts, e.Err)
}

// Unwrap returns Err.
func (e *PartError) Unwrap() error { return e.Err }

// MarshalJSON writes the names that the tags of the fields give, and the text of Err as error.
func (e *PartError) MarshalJSON() ([]byte, error) {
	type fields PartError
	return marshal(struct {
		*fields
		Err jsonError `json:"error"`
	}{(*fields)(e), jsonError{&e.Err}})
}

// UnmarshalJSON reads what MarshalJSON writes. Err is then an error with the same text, and [errors.Is] no longer finds what
// it wrapped.
func (e *PartError) UnmarshalJSON(b []byte) error {
	type fields PartError
	return json.Unmarshal(b, &struct {
		*fields
		Err jsonError `json:"error"`
	}{(*fields)(e), jsonError{&e.Err}})
}

// LogValue returns the text, so that a log line has the same kind of value for every error.
func (e *PartError) LogValue() slog.Value { return slog.StringValue(e.Error()) }
