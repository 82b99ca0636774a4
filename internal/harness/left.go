package harness

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// BackTo waits until there are no more goroutines and open files than these. Connections end on both sides in their own
// time.
func BackTo(t *testing.T, goroutines, files int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		g, f := runtime.NumGoroutine(), OpenFiles()
		if g <= goroutines && f <= files {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines and %d open files, there were %d and %d before", g, f, goroutines, files)
		}
	}
}

// OpenFiles is how many descriptors the process has; 0 where the system does not say.
func OpenFiles() int {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}
