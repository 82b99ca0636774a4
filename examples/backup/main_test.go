package main

import (
	"os"
	"strings"
	"testing"
)

// TestMain also runs the process that restores and is killed, if the arguments are those of the program and not flags.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && !strings.HasPrefix(os.Args[1], "-") || len(os.Args) == 5 && (os.Args[1] == "-mirror" || os.Args[1] == "-thaw") ||
		len(os.Args) == 6 && os.Args[1] == "-as-of" {
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
	for _, want := range []string{
		"Killed. There are", "were there already, 0 failed", "All 101 files are there", "101 files are as they were restored; 0 are missing",
		"differing: files/03/doc-003 CRC-64 is", "missing: files/04/doc-004", "extra: files/a copy of mine",
		"99 files are as they were restored; 1 are missing, 1 differ, 1 are extra",
		"2 files restored, 99 were there already", "1 files deleted that the backup does not have",
		"Killed while objects thaw", "All 4 files are there, and each archived object was asked for once",
		"All 3 files are there, as they were yesterday",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(out.String(), "There are 0 files") {
		t.Error("the restore was killed before it had put a file in place")
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
		{"no such file", []string{"-verify", t.TempDir()}},
		{"usage", []string{"-as-of"}},
		{"yesterday", []string{"-as-of", "yesterday", "bucket", "p/", t.TempDir()}},
	} {
		if err := run(t.Context(), c.args, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}
