package harness

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
)

// CountsEnv names the file that a test run appends its counts to, by its absolute path: `go test` shows nothing of what
// a package prints that has passed.
const CountsEnv = "OSSDL_COUNTS"

// Tried is how often the tests of this package have done what they are there for: operations failed, crash points and so
// on. TestMain hands them out.
var Tried = counters{n: map[string]int64{}}

type counters struct {
	mu sync.Mutex
	n  map[string]int64
}

// Add counts n more of something.
func (c *counters) Add(what string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[what] += n
}

// Count is how many were counted so far.
func (c *counters) Count(what string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[what]
}

// String is a line for each count.
func (c *counters) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var lines strings.Builder
	for _, what := range slices.Sorted(maps.Keys(c.n)) {
		fmt.Fprintf(&lines, "%s: %d\n", what, c.n[what])
	}
	return lines.String()
}

// AppendTo adds the counts to a file.
func (c *counters) AppendTo(name string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(c.String()); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
