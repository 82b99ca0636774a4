package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ossdl/ossdl/osstest"
)

func TestDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out strings.Builder
	err := run(t.Context(), nil, &out)
	t.Logf("%s", &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 fetched, 0 there, 1 failed", "1 fetched, 2 there, 0 failed; 1 requests", "0 fetched, 3 there, 0 failed; 0 requests", `line 4: the name "../evil" leads out`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestRun checks the program itself, with its arguments and environment.
func TestRun(t *testing.T) {
	server := osstest.NewServer(t)
	server.CreateBucket("builds")
	server.Put("builds", "app", osstest.Bytes([]byte("text")))
	t.Setenv("OSS_ENDPOINT", server.Endpoint())
	t.Setenv("OSS_REGION", osstest.Region)
	t.Setenv("OSS_ACCESS_KEY_ID", osstest.AccessKeyID)
	t.Setenv("OSS_ACCESS_KEY_SECRET", osstest.AccessKeySecret)
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte("text")))
	for name, c := range map[string]struct{ line, want string }{
		"good":      {"bin/app " + sum + " oss://builds/app", ""},
		"no digest": {"app oss://builds/app", "line 1: expected NAME SHA256 SOURCE"},
		"no hex":    {"app xyz oss://builds/app", "line 1: SHA-256"},
		"short":     {"app ab oss://builds/app", "the SHA-256 has 1 byte"},
		"source":    {"app " + sum + " builds/app", "oss://BUCKET/KEY"},
		"outside":   {"/app " + sum + " oss://builds/app", "leads out of the folder"},
	} {
		top := t.TempDir()
		lock, dir := filepath.Join(top, "lock"), filepath.Join(top, "dir")
		if err := os.WriteFile(lock, []byte(c.line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := run(t.Context(), []string{lock, dir}, new(strings.Builder))
		text, _ := os.ReadFile(filepath.Join(dir, "bin", "app"))
		switch {
		case c.want == "" && (err != nil || string(text) != "text"):
			t.Errorf("%s: %v, %q", name, err, text)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || text != nil):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if err := run(t.Context(), []string{"lock"}, nil); err == nil || !strings.Contains(err.Error(), "usage") {
		t.Error(err)
	}
	if err := run(t.Context(), []string{filepath.Join(t.TempDir(), "absent"), "dir"}, nil); err == nil {
		t.Error("a lock file that is missing was read")
	}
}
