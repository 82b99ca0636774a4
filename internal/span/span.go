// Package span has the one type for a range of bytes, [Off, End). It knows nothing of objects, requests or files, and
// imports nothing of this module. Ends are exclusive everywhere; only the Range header, which Header formats, has an
// inclusive end.
package span

import "fmt"

// Span is a half-open range of bytes, [off, end).
type Span struct{ Off, End int64 }

// Len returns the number of bytes in the span.
func (s Span) Len() int64 { return s.End - s.Off }

// Header formats the span as the value of a Range header. It is the one place where an end is inclusive.
func (s Span) Header() string { return fmt.Sprintf("bytes=%d-%d", s.Off, s.End-1) }
