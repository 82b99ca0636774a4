package harness

import (
	"fmt"
	"os"
	"runtime/debug"
	"testing"
)

// RunScenarios runs the tests of a package of scenarios, appends what they have tried to the file that CountsEnv names, and is
// the exit code. Little is kept by them and much is made anew: collected as often as usual, garbage would take a third of
// the time.
func RunScenarios(m *testing.M) int {
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(1 << 30)
	code := m.Run()
	if name := os.Getenv(CountsEnv); name != "" {
		if err := Tried.AppendTo(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}
