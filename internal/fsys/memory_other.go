//go:build !linux

package fsys

import (
	"math"
)

// Memory is how many bytes of memory this process may use together with its page cache. math.MaxInt64 if that is not known,
// as here.
func Memory() int64 { return math.MaxInt64 }
