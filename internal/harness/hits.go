package harness

import (
	"flag"
	"strings"
	"sync"
	"testing"
)

// MissesInARow is how many plans in a row must find nothing to fail before a loop ends: what runs at the same time has not the
// same number of operations each time.
const MissesInARow = 3

// Hits counts by name what a loop has failed, so that a name which is missing fails the test. The zero value has none.
type Hits struct {
	mu sync.Mutex
	n  map[string]int
}

func (h *Hits) Add(names ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n == nil {
		h.n = map[string]int{}
	}
	for _, name := range names {
		h.n[name]++
	}
}

// Check wants each name to have been hit, unless the command line chose some of the subtests.
func (h *Hits) Check(t *testing.T, names ...string) {
	t.Helper()
	t.Log(h.n)
	if strings.Contains(flag.Lookup("test.run").Value.String(), "/") {
		return
	}
	for _, name := range names {
		if h.n[name] == 0 {
			t.Errorf("%s was never failed", name)
		}
	}
}
