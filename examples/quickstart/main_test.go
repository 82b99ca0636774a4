package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain also runs the process that downloads and is killed.
func TestMain(m *testing.M) {
	if len(os.Args) == 4 && os.Args[1] == "download" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestQuickstart(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	err = demo(t.Context(), out, 96<<20, 64<<20)
	text, _ := os.ReadFile(out.Name())
	t.Logf("%s", text)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Killed at", "kept from the killed process", "as the object's", "Done in"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
