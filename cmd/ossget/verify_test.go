package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestManifestAndVerify checks the way from a download with a manifest to comparisons with the bucket and with the manifest alone:
// exit codes, lines and JSON.
func TestManifestAndVerify(t *testing.T) {
	s := newServer(t)
	putAll(s, "folder/", someFiles)
	base := t.TempDir()
	dir, manifest := filepath.Join(base, "tree"), filepath.Join(base, "m.jsonl")
	if r := runHere(t.Context(), envOf(s), "-quiet", "-recursive", "-manifest", manifest, "-manifest-sha256", "oss://bucket/folder/", dir); r != (ran{}) {
		t.Fatalf("%+v", r)
	}
	text, err := os.ReadFile(manifest)
	if n := strings.Count(string(text), `"sha256":"`); err != nil || n != len(someFiles) {
		t.Errorf("%d lines with a SHA-256, %v\n%s", n, err, text)
	}
	service := []string{"-verify", "oss://bucket/folder/", dir}
	alone := []string{"-verify", "-manifest", manifest, dir}
	for _, args := range [][]string{service, alone} {
		s.ResetLog()
		env := envOf(s)
		if slices.Contains(args, manifest) {
			env = nil
		}
		r := runHere(t.Context(), env, args...)
		if want := "ossget: " + dir + ": 4 same, 0 missing, 0 differing, 0 extra; 3.1 MiB read in "; r.exit != 0 || r.stdout != "" || !strings.Contains(r.stderr, want) {
			t.Errorf("%v: %+v, want %q", args, r, want)
		}
		if n := len(s.Requests()); env == nil && n > 0 || env != nil && n != 5 {
			t.Errorf("%v: %d requests", args, n)
		}
	}

	// Every kind of difference.
	if err := os.WriteFile(filepath.Join(dir, "a.gz"), []byte("short"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "sub", "c.gz")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "sub", "extra"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{service, alone} {
		r := runHere(t.Context(), envOf(s), args...)
		lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
		slices.Sort(lines)
		if want := []string{"differing a.gz: size is 5, want 3145728", "extra sub/extra", "missing sub/c.gz"}; r.exit != 3 || !slices.Equal(lines, want) {
			t.Errorf("%v: %+v", args, r)
		}
		if want := "2 same, 1 missing, 1 differing, 1 extra; "; !strings.Contains(r.stderr, want) || !strings.HasSuffix(r.stderr, "; the folder differs\n") {
			t.Errorf("%v: %q", args, r.stderr)
		}
		r = runHere(t.Context(), envOf(s), append(args, "-json", "-quiet")...)
		kinds := map[ossdl.DifferenceKind]string{}
		var last verifyReport
		for line := range strings.Lines(r.stdout) {
			var d ossdl.Difference
			last = verifyReport{}
			if err := errors.Join(json.Unmarshal([]byte(line), &d), json.Unmarshal([]byte(line), &last)); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if d.Kind != "" {
				kinds[d.Kind] = d.Name
			}
		}
		if r.exit != 3 || len(kinds) != 3 || kinds["missing"] != "sub/c.gz" || kinds["extra"] != "sub/extra" || kinds["differing"] != "a.gz" ||
			last.Path != dir || last.Same != 2 || last.Missing+last.Differing+last.Extra != 3 || last.Failure == nil || last.Code != "Different" {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if r := runHere(t.Context(), envOf(s), append(service, "-quiet", "-include", "*.txt")...); r.exit != 0 || r.stdout != "" {
		t.Errorf("-include: %+v", r)
	}
}

// TestVerifyExitCodes checks that a comparison that could not be made has the exit code 1, and not that of a difference.
func TestVerifyExitCodes(t *testing.T) {
	s := newServer(t)
	putAll(s, "folder/", tree{"a": osstest.Random(1, 1000), "b": osstest.Random(2, 1000)})
	base := t.TempDir()
	dir, bad := filepath.Join(base, "tree"), filepath.Join(base, "bad")
	if r := runHere(t.Context(), envOf(s), "-quiet", "-recursive", "oss://bucket/folder/", dir); r.exit != 0 {
		t.Fatalf("%+v", r)
	}
	if err := os.WriteFile(bad, []byte("{}\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Key == "folder/a" {
			return osstest.Error(403, "AccessDenied")
		}
		return nil
	})
	for _, c := range []struct {
		args, says string
		exit       int
	}{
		{"-verify oss://bucket/folder/ " + dir, `"folder/a": `, 1},
		{"-verify oss://nobucket/folder/ " + dir, "", 1},
		{"-verify oss://bucket/folder/ " + filepath.Join(base, "none"), "none", 1},
		{"-verify -manifest " + bad + " " + dir, "line 1: ", 1},
		{"-verify -manifest " + filepath.Join(base, "none") + " " + dir, "none", 1},
		{"-verify -timeout 1ns oss://bucket/folder/ " + dir, "-timeout", 1},
	} {
		r := runHere(t.Context(), envOf(s), strings.Fields(c.args)...)
		if r.exit != c.exit || r.stdout != "" || !strings.Contains(r.stderr, c.says) {
			t.Errorf("%s: %+v", c.args, r)
		}
		r = runHere(t.Context(), envOf(s), append(strings.Fields(c.args), "-json")...)
		var line verifyReport
		if err := json.Unmarshal([]byte(r.stdout), &line); err != nil || line.Failure == nil || line.Code == "" || r.exit != c.exit {
			t.Errorf("%s: %+v, %v", c.args, r, err)
		}
	}
}

// TestVerifyBrokenPipe checks that differences that could not be printed are not taken for printed.
func TestVerifyBrokenPipe(t *testing.T) {
	s := newServer(t)
	putAll(s, "folder/", someFiles)
	var stderr strings.Builder
	code := run(t.Context(), []string{"-verify", "oss://bucket/folder/", t.TempDir()}, envOf(s).get, failingWriter{syscall.EPIPE}, &stderr)
	if code != exitBrokenPipe {
		t.Errorf("%d, %s", code, &stderr)
	}
	code = run(t.Context(), []string{"-verify", "oss://bucket/folder/", t.TempDir()}, envOf(s).get, failingWriter{syscall.ENOSPC}, &stderr)
	if code != exitFailed || !strings.Contains(stderr.String(), "standard output") {
		t.Errorf("%d, %s", code, &stderr)
	}
}

// failingWriter takes nothing.
type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// TestVerifyFlags checks which flags are refused with -manifest and -verify, by name and before any request.
func TestVerifyFlags(t *testing.T) {
	s := newServer(t)
	for args, want := range map[string]string{
		"-verify":                                                         "SOURCE is missing",
		"-verify oss://bucket/p/ -":                                       "-",
		"-verify https://host/x":                                          "a URL is of one object",
		"-verify -manifest m oss://bucket/p/":                             "the only operand",
		"-verify -manifest m oss://bucket/p/ dir":                         "the only operand",
		"-verify -files-from l oss://bucket/ dir":                         "exclude each other",
		"-verify -manifest-sha256 oss://bucket/p/":                        "-manifest-sha256 does not apply",
		"-manifest m oss://bucket/k":                                      "-manifest requires",
		"-recursive -manifest-sha256 oss://bucket/p/":                     "-manifest-sha256 requires --manifest",
		"-recursive -manifest= oss://bucket/p/":                           "empty",
		"-verify -sha256 " + strings.Repeat("0", 64) + " oss://bucket/p/": "-sha256 does not apply to --verify",
		"-verify -mkdir oss://bucket/p/":                                  "-mkdir does not apply to --verify",
		"-verify -part-size 1MiB oss://bucket/p/":                         "-part-size does not apply to --verify",
		"-verify -no-checkpoint oss://bucket/p/":                          "-no-checkpoint does not apply to --verify",
		"-verify -snapshot oss://bucket/p/":                               "-snapshot does not apply to --verify",
		"-verify -manifest m -endpoint http://h dir":                      "-endpoint does not apply to --verify with --manifest",
		"-verify -manifest m -shard 0/2 dir":                              "-shard does not apply to --verify with --manifest",
		"-verify -manifest m -retries 1 dir":                              "-retries does not apply to --verify with --manifest",
	} {
		if r := runHere(t.Context(), envOf(s), strings.Fields(args)...); r.exit != 2 || !strings.Contains(r.stderr, want) {
			t.Errorf("%s: %+v, want %q", args, r, want)
		}
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
}

// TestVerifyOfOddNames checks that a name that a terminal might act on is made printable.
func TestVerifyOfOddNames(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "p/a\x1b[31m\nb", osstest.Random(1, 10), osstest.LastModified(time.Unix(1_600_000_000, 0)))
	r := runHere(t.Context(), envOf(s), "-verify", "oss://bucket/p/", t.TempDir())
	if r.exit != 3 || strings.ContainsAny(r.stdout, "\x1b") || strings.Count(r.stdout, "\n") != 1 {
		t.Errorf("%+v", r)
	}
}
