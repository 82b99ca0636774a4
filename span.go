// Package span has the one type for a range of bytes, [Off, End). It knows nothing of objects, requests or files, and
// imports nothing of this module. Ends are exclusive everywhere; only the Range header, which Header formats, has an
// inclusive end.

package ossdl

import "fmt"

// span is a half-open range of bytes, [off, end).
type span struct{ off, end int64 }

// len returns the number of bytes in the span.
func (s span) len() int64 { return s.end - s.off }

// header formats the span as the value of a Range header. It is the one place where an end is inclusive.
func (s span) header() string { return fmt.Sprintf("bytes=%d-%d", s.off, s.end-1) }
