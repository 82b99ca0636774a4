package harness

import (
	"io"
)

// OnlyReader hides WriteTo.
type OnlyReader struct{ io.Reader }
