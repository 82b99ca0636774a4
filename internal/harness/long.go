package harness

import (
	"os"
)

// Long reports whether the long forms of the tests are to run.
func Long() bool { return os.Getenv("OSSDL_LONG") != "" }
