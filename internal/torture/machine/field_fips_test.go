package machine_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestFIPSOnly checks that New refuses a client that signs with SHA-1 where the process allows only what FIPS 140 does.
func TestFIPSOnly(t *testing.T) {
	harness.Tried.Add("cases from the field", 1)
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 1000))
	cmd := newChild(t, s, "download", filepath.Join(t.TempDir(), "file"), "k")
	cmd.Env = append(cmd.Env, "GODEBUG=fips140=only")
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err == nil {
		t.Fatal("it succeeded")
	}
	if !strings.HasPrefix(said.String(), "ossdl: signatures of V1 use SHA-1") || strings.Contains(said.String(), "goroutine") {
		t.Errorf("it said:\n%s", said.String())
	}
}
