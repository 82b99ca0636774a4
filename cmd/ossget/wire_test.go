package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

// refuseAfter answers n requests and refuses the others: with one at a time and without retries a download breaks there.
func refuseAfter(s *osstest.Server, n int) {
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Seq < n {
			return nil
		}
		return osstest.Error(503, "ServiceUnavailable")
	})
}

// brokenOff runs a download that breaks off after half of its 8 MiB.
func brokenOff(t *testing.T, args ...string) ran {
	t.Helper()
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 8*mib))
	refuseAfter(s, 4)
	r := runHere(t.Context(), envOf(s), append([]string{"-part-size", "1MiB", "-concurrency", "1", "-retries", "0", "oss://bucket/key"}, args...)...)
	if r.exit != exitFailed {
		t.Fatalf("%q: %+v", args, r)
	}
	return r
}

func TestVersionIDReachesTheWire(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("bucket", osstest.Versioning(osstest.Enabled))
	c := osstest.Random(1, 1000)
	old := s.Put("bucket", "key", c)
	s.Put("bucket", "key", osstest.Random(2, 1000))
	path := filepath.Join(t.TempDir(), "file")
	if r := runHere(t.Context(), envOf(s), "-version-id", old.VersionID, "oss://bucket/key", path); r.exit != 0 {
		t.Fatalf("%+v", r)
	}
	sameAs(t, path, c)
	if r := runHere(t.Context(), envOf(s), "-version-id", old.VersionID, "oss://bucket/key", "-"); r.exit != 0 || r.stdout != string(all(t, c)) {
		t.Errorf("standard output: exit code %d, %s", r.exit, r.stderr)
	}
}

// TestAsOf checks that --as-of downloads what was current then, one object and a prefix, and what it refuses.
func TestAsOf(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("bucket", osstest.Versioning(osstest.Enabled))
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := osstest.Random(1, 1000)
	s.Put("bucket", "p/key", c, osstest.LastModified(when))
	s.Put("bucket", "p/key", osstest.Random(2, 1000), osstest.LastModified(when.Add(time.Second)))
	s.Delete("bucket", "p/key")
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, text := range []string{"2026-01-02T03:04:05Z", "2026-01-02T11:04:05.9+08:00"} {
		if r := runHere(t.Context(), envOf(s), "-as-of", text, "oss://bucket/p/key", path); r.exit != 0 {
			t.Fatalf("%+v", r)
		}
		sameAs(t, path, c)
	}
	if r := runHere(t.Context(), envOf(s), "-as-of", "2026-01-02T03:04:05Z", "oss://bucket/p/key", "-"); r.exit != 0 || r.stdout != string(all(t, c)) {
		t.Errorf("standard output: exit code %d, %s", r.exit, r.stderr)
	}
	if r := runHere(t.Context(), envOf(s), "-as-of", "2026-01-02T03:04:05Z", "-recursive", "oss://bucket/p/", filepath.Join(dir, "all")); r.exit != 0 {
		t.Errorf("%+v", r)
	}
	sameAs(t, filepath.Join(dir, "all", "key"), c)
	if r := runHere(t.Context(), envOf(s), "-as-of", "2026-01-02T03:04:04Z", "oss://bucket/p/key", path); r.exit == 0 || !strings.Contains(r.stderr, "as of 2026-01-02T03:04:04Z") {
		t.Errorf("%+v", r)
	}
	s.ResetLog()
	for args, says := range map[string]string{
		"-as-of yesterday oss://bucket/p/key":                            "RFC 3339",
		"-as-of 2026-01-02 oss://bucket/p/key":                           "RFC 3339",
		"-as-of 2026-01-02T03:04:05Z -version-id v oss://bucket/p/key":   "exclude each other",
		"-as-of 2026-01-02T03:04:05Z -files-from list oss://bucket/":     "-as-of does not apply to a list of keys",
		"-as-of 2026-01-02T03:04:05Z https://h.example/k":                "-as-of does not apply to a URL",
		"-as-of 2026-01-02T03:04:05Z -verify -manifest m " + t.TempDir(): "-as-of does not apply to --verify with --manifest",
	} {
		if r := runHere(t.Context(), envOf(s), strings.Fields(args)...); r.exit != 2 || !strings.Contains(r.stderr, says) {
			t.Errorf("%s: %+v; want %q", args, r, says)
		}
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
}

// TestCheckpointIsWhereTheFlagsSay checks where the checkpoint of a download that broke off is, and how that is reported.
func TestCheckpointIsWhereTheFlagsSay(t *testing.T) {
	dir := t.TempDir()
	path, elsewhere := filepath.Join(dir, "file"), t.TempDir()
	const kept = "4.0 MiB of the file are kept; the same command continues"

	r := brokenOff(t, path)
	if onlyFile(t, filepath.Join(dir, "file.cp"), "checkpoint.json data"); !strings.Contains(r.stderr, kept) {
		t.Errorf("by default: %s", r.stderr)
	}
	dir = t.TempDir()
	r = brokenOff(t, "-checkpoint", filepath.Join(elsewhere, "mine"), filepath.Join(dir, "file"))
	if onlyFile(t, filepath.Join(dir, "file.cp"), "data"); !strings.Contains(r.stderr, kept) {
		t.Errorf("-checkpoint: %s", r.stderr)
	}
	onlyFile(t, elsewhere, "mine")

	dir, elsewhere = t.TempDir(), filepath.Join(t.TempDir(), "made")
	r = brokenOff(t, "-checkpoint-dir", elsewhere, filepath.Join(dir, "file"))
	if onlyFile(t, filepath.Join(dir, "file.cp"), "data"); !strings.Contains(r.stderr, kept) {
		t.Errorf("-checkpoint-dir: %s", r.stderr)
	}
	if left, err := os.ReadDir(elsewhere); err != nil || len(left) != 1 {
		t.Errorf("-checkpoint-dir: %v, %v", left, err)
	}

	dir = t.TempDir()
	r = brokenOff(t, "-no-checkpoint", filepath.Join(dir, "file"))
	if onlyFile(t, dir, ""); strings.Contains(r.stderr, "kept") || strings.Contains(r.stderr, "continues") {
		t.Errorf("-no-checkpoint: %s", r.stderr)
	}
}

// TestRateLimitHoldsTheDownloadBack checks that the limit applies to the bytes read. An eighth of a second's worth may pass
// in one burst. The rest takes its time, however fast everything else is.
func TestRateLimitHoldsTheDownloadBack(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, mib))
	r := runHere(t.Context(), envOf(s), "-json", "-rate-limit", "2MiB", "oss://bucket/key", t.TempDir())
	if got := outcomeOf(t, r); r.exit != 0 || got.Seconds < 0.375 {
		t.Errorf("1 MiB in %v s: %+v", got.Seconds, r)
	}
}

func TestStallTimeoutReachesTheDownload(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, mib))
	s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().StallAfter(0).Maybe() }) // a busy machine may stall before
	r := runHere(t.Context(), envOf(s), "-stall-timeout", "150ms", "-retries", "0", "oss://bucket/key", t.TempDir())
	if r.exit != exitFailed || !strings.Contains(r.stderr, "stalled") || !strings.Contains(r.stderr, "150ms") {
		t.Errorf("%+v", r)
	}
}

func TestRetriesAreCounted(t *testing.T) {
	for _, n := range []int{0, 1, 3} {
		s := newServer(t)
		s.Put("bucket", "key", osstest.Random(1, 1000))
		refuseAfter(s, 0)
		r := runHere(t.Context(), envOf(s), "-json", "-retries", fmt.Sprint(n), "oss://bucket/key", t.TempDir())
		if got := outcomeOf(t, r); r.exit != exitFailed || len(s.Requests()) != n+1 || got.Requests != n+1 || got.Retries != n {
			t.Errorf("-retries %d: %d requests; %+v", n, len(s.Requests()), r)
		}
	}
}

// TestNothingIsSaidToBeKeptOfAnotherObject checks that nothing is reported as kept if the object was replaced during the
// download, or has another digest than the given one.
func TestNothingIsSaidToBeKeptOfAnotherObject(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 8*mib))
	s.Nth(4, osstest.Inject().Before(func() { s.Put("bucket", "key", osstest.Random(2, 8*mib)) }))
	args := []string{"-json", "-part-size", "1MiB", "-concurrency", "1", "oss://bucket/key"}
	r := runHere(t.Context(), envOf(s), append(args, t.TempDir())...)
	if got := outcomeOf(t, r); r.exit != exitFailed || got.DownloadedBytes < 4*mib || !strings.Contains(got.Error, "object changed") {
		t.Errorf("replaced: %+v", r)
	}
	if strings.Contains(r.stderr, "kept") || strings.Contains(r.stderr, "continues") {
		t.Errorf("replaced: %s", r.stderr)
	}
	dir := t.TempDir()
	r = runHere(t.Context(), envOf(s), append(args, "-sha256", strings.Repeat("00", 32), dir)...)
	if r.exit != exitHopeless || strings.Contains(r.stderr, "kept") || strings.Contains(r.stderr, "continues") {
		t.Errorf("another digest: %+v", r)
	}
	onlyFile(t, dir, "")
}

// TestEscapesOfAKeyStayOffTheTerminal checks that escape sequences in a key do not reach the terminal.
func TestEscapesOfAKeyStayOffTheTerminal(t *testing.T) {
	s := newServer(t)
	const key = "a\x1b]0;title\x07\u009b2Jb"
	s.Put("bucket", key, osstest.Random(1, 1000))
	for _, source := range []string{"oss://bucket/" + key, "oss://bucket/absent" + key} {
		r := runHere(t.Context(), envOf(s), source, t.TempDir())
		if strings.ContainsAny(r.stderr, "\x1b\x07\u009b") || !strings.Contains(r.stderr, "a?]0;title??2Jb") {
			t.Errorf("%+q", r.stderr)
		}
	}
}

// TestNothingOfABodyReachesStandardError checks that bytes which a server sends behind the end of its answers are not printed.
// net/http logs the first of them.
func TestNothingOfABodyReachesStandardError(t *testing.T) {
	s := newServer(t)
	content := osstest.Random(1, 64*100<<10)
	s.Put("bucket", "key", content)
	s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().LongBody(100) })
	path := filepath.Join(t.TempDir(), "file")
	cmd := process(t, envOf(s), "--part-size", "100KiB", "--concurrency", "2", "oss://bucket/key", path)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	sameAs(t, path, content)
	if strings.Contains(stderr.String(), "nsolicited") {
		t.Errorf("standard error: %.200q", stderr.String())
	}
}

// TestBrokenPipeOnStandardErrorEndsNothing checks that a download continues if standard error has no reader any more, as in
// `ossget … 2>&1 | head -1`.
func TestBrokenPipeOnStandardErrorEndsNothing(t *testing.T) {
	s := newServer(t)
	c := osstest.Random(1, 8*mib)
	s.Put("bucket", "key", c)
	putAll(s, "folder/", someFiles)
	dir := t.TempDir()
	for _, args := range [][]string{
		{"oss://bucket/key", filepath.Join(dir, "file")},
		{"-recursive", "oss://bucket/folder/", filepath.Join(dir, "folder")},
	} {
		r, w := pipe(t)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		cmd := process(t, envOf(s), args...)
		cmd.Stdout, cmd.Stderr = w, w
		if err := errors.Join(cmd.Run(), w.Close()); err != nil {
			t.Errorf("%q: %v", args, err)
		}
	}
	sameAs(t, filepath.Join(dir, "file"), c)
	someFiles.isIn(t, filepath.Join(dir, "folder"))

	// Output that was requested on standard output and cannot be written there is a failure.
	r, w := pipe(t)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := process(t, envOf(s), "-json", "oss://bucket/key", filepath.Join(dir, "again"))
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &stderr
	_ = cmd.Run() // the exit code is checked below
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if code := cmd.ProcessState.ExitCode(); code != exitBrokenPipe || strings.Contains(stderr.String(), "pipe") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
	sameAs(t, filepath.Join(dir, "again"), c)
}

// TestTimeoutEndsTheCommand checks that -timeout ends a download of a server that trickles, with exit code 1 and what came
// kept, and that the same command then fetches only the rest. That includes a time that ends before there is any answer.
func TestTimeoutEndsTheCommand(t *testing.T) {
	s := newServer(t)
	content := osstest.Random(27, 3<<20)
	s.Put("bucket", "key", content)
	dir := t.TempDir()
	release := make(chan struct{})
	defer close(release)
	args := []string{"-json", "-part-size", "1MiB", "-concurrency", "1", "oss://bucket/key", dir}
	for _, c := range []struct {
		name string
		held *osstest.Fault
		kept int64
	}{
		{"before any answer", osstest.Inject().HoldHeaders(release), 0},
		{"in the middle of a body", osstest.Inject().Gate(512<<10, release), 512 << 10},
	} {
		s.Nth(0, c.held)
		r := runHere(t.Context(), envOf(s), append([]string{"-timeout", "1s"}, args...)...)
		if r.exit != exitFailed || !strings.Contains(r.stdout, `"code":"Timeout"`) || !strings.Contains(r.stderr, "not done after 1s (--timeout)") {
			t.Errorf("%s: code %d, %s%s", c.name, r.exit, r.stdout, r.stderr)
		}
		s.ClearFaults()
		s.ResetLog()
		if c.kept > 0 {
			if r := runHere(t.Context(), envOf(s), args...); r.exit != exitDone || !strings.Contains(r.stdout, fmt.Sprintf(`"resumedBytes":%d`, c.kept)) {
				t.Errorf("%s: resumed with code %d, %s%s", c.name, r.exit, r.stdout, r.stderr)
			}
		}
	}
}
