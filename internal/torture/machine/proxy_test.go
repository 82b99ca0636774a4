package machine_test

import (
	"path/filepath"
	"testing"

	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestProxyFromTheEnvironment runs in another process, since net/http reads the environment once. The server is the proxy:
// the name asked for does not exist.
func TestProxyFromTheEnvironment(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 1000)
	s.Put("bkt", "k", content)
	path := filepath.Join(t.TempDir(), "file")
	cmd := newChild(t, s, "download", path, "k")
	cmd.Env = append(cmd.Env, childEnv+"=http://oss.test", "HTTP_PROXY=http://"+s.Addr(), "http_proxy=http://"+s.Addr(), "NO_PROXY=", "no_proxy=")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, content)
	for _, r := range s.Requests() {
		if r.Host != "bkt.oss.test" {
			t.Errorf("the proxy was asked for %s", r.Host)
		}
	}
}
