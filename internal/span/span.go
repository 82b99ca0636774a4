// Package span knows what a range of bytes is: [Off, End). It must not know objects, requests or files, and it imports
// nothing of this module. Its invariant: ends are exclusive everywhere but in a Range header, which [Span.Header] formats.
package span

import "strconv"

// Span is a half-open range of bytes, [Off, End).
type Span struct{ Off, End int64 }

// Len returns the number of bytes in the span.
func (s Span) Len() int64 { return s.End - s.Off }

// Header formats the span as the value of a Range header, which includes the last byte.
func (s Span) Header() string {
	b := make([]byte, 0, 64) // for any two numbers, on the stack
	b = strconv.AppendInt(append(b, "bytes="...), s.Off, 10)
	return string(strconv.AppendInt(append(b, '-'), s.End-1, 10))
}
