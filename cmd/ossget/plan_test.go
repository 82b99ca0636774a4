package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/ossdl/ossdl/internal/osstest"
)

// TestPlan checks the lines of plan, for people and for programs.
func TestPlan(t *testing.T) {
	s := newServer(t)
	for i := range 8 {
		s.Put("bucket", fmt.Sprintf("p/%d", i), osstest.Bytes([]byte("x")))
	}
	r := runHere(t.Context(), envOf(s), "plan", "-shards", "3", "oss://bucket/p/")
	want := "--recursive --until 'p/2'\n--recursive --start-after 'p/2' --until 'p/4'\n--recursive --start-after 'p/4'\n"
	if r.exit != exitDone || r.stdout != want || r.stderr != "ossget: oss://bucket/p/: 3 ranges\n" {
		t.Errorf("exit code %d, %q, %q", r.exit, r.stdout, r.stderr)
	}
	r = runHere(t.Context(), envOf(s), "plan", "-json", "-quiet", "-shards=2", "oss://bucket/p/")
	lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if len(lines) != 3 || lines[0] != `{"index":0,"after":"","until":"p/3","share":0.5}` || lines[1] != `{"index":1,"after":"p/3","until":"","share":0.5}` ||
		!strings.HasPrefix(lines[2], `{"bucket":"bucket","prefix":"p/","ranges":2,`) || r.stderr != "" {
		t.Errorf("%q, %q", lines, r.stderr)
	}
	r = runHere(t.Context(), envOf(s), "plan", "-shards", "3", "oss://bucket/none/")
	if r.exit != exitDone || r.stdout != "--recursive\n" {
		t.Errorf("no keys: exit code %d, %q", r.exit, r.stdout)
	}
	r = runHere(t.Context(), envOf(s), "plan", "-json", "-shards", "3", "oss://absent/p/")
	if r.exit != exitHopeless || !strings.Contains(r.stdout, `"code":"NotFound"`) {
		t.Errorf("no such bucket: exit code %d, %q", r.exit, r.stdout)
	}
	for _, args := range [][]string{
		{"plan", "oss://bucket/"}, {"plan", "-shards", "0", "oss://bucket/"}, {"plan", "-shards", "10001", "oss://bucket/"}, {"plan", "-shards", "2"},
		{"plan", "-shards", "2", "oss://bucket/", "dir"}, {"plan", "-shards", "2", "bucket"}, {"plan", "-shards", "2", "-include", "x", "oss://bucket/"}, {"-shards", "2", "oss://bucket/k"},
	} {
		if r := runHere(t.Context(), envOf(s), args...); r.exit != exitUsage || r.stdout != "" {
			t.Errorf("%q: exit code %d", args, r.exit)
		}
	}
	if exit := run(t.Context(), []string{"plan", "-shards", "2", "oss://bucket/"}, envOf(s).get, broken{}, new(strings.Builder)); exit != exitFailed {
		t.Errorf("a disk that is full: exit code %d", exit)
	}
}

// TestPlanCoversNastyKeys checks that workers that get their flags through a shell download each key once, whatever keys are like.
func TestPlanCoversNastyKeys(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash: ", err)
	}
	s := newServer(t)
	keys := []string{"p/'", "p/\"$HOME`id`", "p/\\", "p/\\n", "p/a\nb", "p/\x01\x7f'\\", "p/照片", "p/😀 x", "p/-", "p/--until", "p/*?[a]", "p/!!", "p/#", "p/~", "p/1\r9", "p/\t0"}
	for _, key := range keys {
		s.Put("bucket", key, osstest.Bytes([]byte("x")))
	}
	slices.Sort(keys)
	r := runHere(t.Context(), envOf(s), "plan", "-shards", "100", "oss://bucket/p/")
	lines := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	if len(lines) != len(keys) {
		t.Fatalf("%d lines for %d keys: %q", len(lines), len(keys), r.stdout)
	}
	for i, line := range lines {
		out, err := exec.CommandContext(t.Context(), bash, "-c", "printf '%s\\0' "+line).Output()
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		args := append(strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"), "-dry-run", "-json", "oss://bucket/p/", t.TempDir())
		r := runHere(t.Context(), envOf(s), args...)
		var would struct{ Key string }
		first, _, _ := strings.Cut(r.stdout, "\n")
		if err := json.Unmarshal([]byte(first), &would); err != nil || would.Key != keys[i] || strings.Count(r.stdout, "\n") != 2 {
			t.Errorf("%s: %q, %v, want %q", line, r.stdout, err, keys[i])
		}
	}
}
