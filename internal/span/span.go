// Package span knows what a range of bytes is: [Off, End). It must not know objects, requests or files, and it imports
// nothing of this module. Its invariant: ends are exclusive everywhere but in a Range header, which [Span.Header] formats.
package span

import "fmt"

// Span is a half-open range of bytes, [Off, End).
type Span struct{ Off, End int64 }

// Len returns the number of bytes in the span.
func (s Span) Len() int64 { return s.End - s.Off }

// Header formats the span as the value of a Range header, which includes the last byte.
func (s Span) Header() string { return fmt.Sprintf("bytes=%d-%d", s.Off, s.End-1) }
