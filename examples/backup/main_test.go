package main

import (
	"os"
	"strings"
	"testing"
)

// TestMain also runs the process that restores and is killed, if the arguments are those of the program and not flags.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && !strings.HasPrefix(os.Args[1], "-") {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestDemo(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out strings.Builder
	err := run(t.Context(), nil, &out)
	t.Logf("%s", &out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Killed. There are", "were there already, 0 failed", "All 101 files are there"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestRefused(t *testing.T) {
	t.Setenv("OSS_ENDPOINT", "http://127.0.0.1:1")
	for _, c := range []struct {
		want string
		args []string
	}{
		{"usage", []string{"bucket"}},
		{"bucket name", []string{"B", "p/", t.TempDir()}},
		{"empty destination", []string{"bucket", "p/", ""}},
	} {
		if err := run(t.Context(), c.args, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}
