package machine_test

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestPrefixKilled checks that a process may be killed in the middle, over and over. What has its name is whole at every
// moment, and the last run, in a folder with all that the others left, ends with nothing but the files.
func TestPrefixKilled(t *testing.T) {
	s := harness.NewServer(t)
	sizes := map[string]int64{}
	for i := range 60 {
		sizes[fmt.Sprintf("d%d/k%02d", i%3, i)] = int64(i) * 2 << 10
	}
	sizes["large"] = 30 << 20
	all := harness.Put(s, sizes)
	dir := t.TempDir()
	for i := range 4 {
		asked := make(chan struct{})
		s.Nth(5+3*i, osstest.Inject().Before(func() { close(asked) }).HoldHeaders(nil))
		p := startChild(t, s, "prefix", dir)
		<-asked
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		var ended *exec.ExitError
		if err := p.Wait(); !errors.As(err, &ended) {
			t.Fatalf("the process that was killed ended with %v", err)
		}
		s.ClearFaults()
		for key, c := range all {
			path := filepath.Join(dir, filepath.FromSlash(key))
			if harness.Exists(path) {
				harness.CheckFile(t, path, c)
			}
		}
	}
	if !harness.Exists(filepath.Join(dir, harness.WorkDir)) {
		t.Error("killed without leaving anything: not tested")
	}
	if err := startChild(t, s, "prefix", dir).Wait(); err != nil {
		t.Fatal(err)
	}
	harness.CheckTree(t, dir, all)
}
