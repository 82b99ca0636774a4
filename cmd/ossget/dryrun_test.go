package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

// TestDryRunPrints checks the lines of a dry run, as text and as JSON, and that nothing is made.
func TestDryRunPrints(t *testing.T) {
	s := newServer(t)
	when := time.Unix(1_600_000_000, 0)
	there := osstest.Random(1, 1000)
	s.Put("bucket", "p/there", there, osstest.LastModified(when))
	s.Put("bucket", "p/new\x1b[1m", osstest.Random(2, 2048), osstest.LastModified(when))
	s.Put("bucket", "p/folder/", osstest.Bytes(nil), osstest.LastModified(when))
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	content, err := io.ReadAll(io.NewSectionReader(there, 0, there.Size()))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("there"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path("there"), when, when); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("extra"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"-recursive", "-delete", "5", "-dry-run", "oss://bucket/p/", dir}
	r := runHere(t.Context(), envOf(s), args...)
	lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	slices.Sort(lines)
	want := []string{
		"would delete " + path("extra"), "would download " + path("new") + "?[1m (2.0 KiB)", "would make folder " + path("folder"), "would skip " + path("there"),
	}
	if r.exit != 0 || !slices.Equal(lines, want) {
		t.Errorf("%+v\nwant %q", r, want)
	}
	if want := "ossget: " + dir + ": dry run: 2 to download (2.0 KiB), 1 to skip, 0 failed, 1 without a key to delete; requests: 1\n"; r.stderr != want {
		t.Errorf("standard error %q, want %q", r.stderr, want)
	}

	r = runHere(t.Context(), envOf(s), append(args, "-json", "-quiet")...)
	lines = strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if r.exit != 0 || len(lines) != 5 || r.stderr != "" {
		t.Fatalf("%+v", r)
	}
	var got []string
	for _, line := range lines[:4] {
		var o struct{ Status, Name string }
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		got = append(got, o.Status+" "+o.Name)
	}
	slices.Sort(got)
	if want := []string{"skipped there", "would delete extra", "would download folder/", "would download new\x1b[1m"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if last := prefixLine(t, ran{stdout: lines[4] + "\n"}); !last.DryRun || last.Done != 2 || last.Deleted != 1 || last.Bytes != 2048 {
		t.Errorf("%+v", last)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestDryRunWithoutReader checks that a dry run ends when nobody reads it.
func TestDryRunWithoutReader(t *testing.T) {
	s := newServer(t)
	s.SetVirtual("bucket", 5000, func(i int) (string, osstest.Content) { return fmt.Sprintf("k%04d", i), osstest.Bytes(nil) })
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd := process(t, envOf(s), "-recursive", "-dry-run", "oss://bucket/", t.TempDir())
	cmd.Stdout = w
	err = cmd.Run()
	w.Close()
	if cmd.ProcessState.ExitCode() != exitBrokenPipe {
		t.Errorf("exit code %d, %v", cmd.ProcessState.ExitCode(), err)
	}
}

// TestDeleteFlag checks that -delete makes a mirror, and that it deletes nothing beyond its bound.
func TestDeleteFlag(t *testing.T) {
	s := newServer(t)
	putAll(s, "p/", someFiles)
	dir := t.TempDir()
	for _, name := range []string{"x", "y"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := runHere(t.Context(), envOf(s), "-json", "-recursive", "-delete=1", "oss://bucket/p/", dir)
	if got := prefixLine(t, r); r.exit != 1 || got.Done != 4 || got.Deleted != 0 || got.Code != "Failed" || !strings.Contains(got.Error, "2 files have no key") {
		t.Errorf("%+v", r)
	}
	r = runHere(t.Context(), envOf(s), "-json", "-recursive", "-delete=2", "oss://bucket/p/", dir)
	if got := prefixLine(t, r); r.exit != 0 || got.Skipped != 4 || got.Deleted != 2 || !strings.Contains(r.stderr, "; 2 without a key deleted") {
		t.Errorf("%+v", r)
	}
	someFiles.isIn(t, dir)

	list := filepath.Join(t.TempDir(), "list")
	for _, args := range [][]string{
		{"-delete", "1", "oss://bucket/key"}, {"-delete", "-1", "-recursive", "oss://bucket/p/"}, {"-delete", "1", "-files-from", list, "oss://bucket/"},
		{"-dry-run", "oss://bucket/key"}, {"-dry-run", s.URL("bucket", "p/a.gz")}, {"-delete", "1", "-shard", "0/2", "-recursive", "oss://bucket/p/"},
		{"-delete", "1", "-until", "p/x", "-recursive", "oss://bucket/p/"},
	} {
		if r := runHere(t.Context(), envOf(s), args...); r.exit != 2 || !strings.HasPrefix(r.stderr, "ossget: ") {
			t.Errorf("%q: %+v", args, r)
		}
	}
}
