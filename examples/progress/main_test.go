package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
)

func TestDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out strings.Builder
	err := run(t.Context(), nil, &out)
	t.Logf("%s", &out)
	if err != nil {
		t.Fatal(err)
	}
	_, second, interrupted := strings.Cut(out.String(), "Interrupted.")
	if last := regexp.MustCompile(`\[#+=+\] 100% .* 0s left\n$`); !interrupted || !last.MatchString(second) {
		t.Error("the second bar is not of what was kept and what was fetched")
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestLine(t *testing.T) {
	for _, c := range []struct {
		p    ossdl.Progress
		want string
	}{
		{ossdl.Progress{Total: 1, Remaining: -1}, "[" + strings.Repeat(" ", 40) + "]   0%    0.0 MiB/s     ? left"},
		{ossdl.Progress{Done: 50, Total: 100, Resumed: 25, BytesPerSecond: 1 << 20, Remaining: 90 * time.Second},
			"[" + strings.Repeat("#", 10) + strings.Repeat("=", 10) + strings.Repeat(" ", 20) + "]  50%    1.0 MiB/s 1m30s left"},
		{ossdl.Progress{Done: 1 << 40, Total: 1 << 40}, "[" + strings.Repeat("=", 40) + "] 100%    0.0 MiB/s    0s left"},
	} {
		if got := line(c.p); got != c.want {
			t.Errorf("got\n%s, want\n%s", got, c.want)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Setenv("OSS_ENDPOINT", "http://127.0.0.1:1")
	for want, args := range map[string][]string{
		"usage":       {"bucket"},
		"bucket name": {"B", "key", "file"},
		"empty":       {"bucket", "key", ""},
	} {
		if err := run(t.Context(), args, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}
