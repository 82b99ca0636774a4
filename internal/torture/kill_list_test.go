package torture_test

import (
	"bytes"
	"errors"
	"iter"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// listOf yields objects of "bkt", each with a file of the same name in dir.
func listOf(dir string, keys []string) iter.Seq2[ossdl.Item, error] {
	return func(yield func(ossdl.Item, error) bool) {
		for _, key := range keys {
			if !yield(ossdl.Item{Source: "oss://bkt/" + key, Path: filepath.Join(dir, key)}, nil) {
				return
			}
		}
	}
}

// TestListKilled checks that the process of a list may be killed in the middle, over and over. What has its name is whole at every
// moment, and the last run ends with nothing but the files.
func TestListKilled(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 1000, "b": 3 << 20, "c": 30 << 20, "d": 0, "e": 9 << 20})
	dir := t.TempDir()
	job := append([]string{"list", dir}, slices.Sorted(maps.Keys(all))...)
	left := false
	for i := range 4 { // each run asks five times at least
		asked := make(chan struct{})
		s.Nth(2+i%3, osstest.Inject().Before(func() { close(asked) }).HoldHeaders(nil))
		p := startChild(t, s, job...)
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
			path := filepath.Join(dir, key)
			if got, err := os.ReadFile(path); err == nil && !bytes.Equal(got, harness.Bytes(t, c)) {
				t.Fatalf("%s has %d bytes, which are not those of the object", key, len(got))
			}
			left = left || harness.Exists(path+".cp")
		}
	}
	if !left {
		t.Error("killed without leaving anything: not tested")
	}
	if err := startChild(t, s, job...).Wait(); err != nil {
		t.Fatal(err)
	}
	harness.CheckTree(t, dir, all)
}
