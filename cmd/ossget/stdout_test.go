package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/osstest"
)

// all is the content as bytes.
func all(t *testing.T, c osstest.Content) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lastLine reads the line of -json of a run whose standard output is the object.
func lastLine(t *testing.T, r ran) (line report) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(r.stderr, "\n"), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &line); err != nil {
		t.Fatalf("%q: %v", r.stderr, err)
	}
	return line
}

func TestStandardOutput(t *testing.T) {
	s := newServer(t)
	c := osstest.Random(1, 20*mib)
	o := s.Put("bucket", "key", c)
	s.Put("bucket", "empty", osstest.Bytes(nil))
	t.Chdir(t.TempDir())

	// The first answer waits for a second request: ranges are fetched ahead.
	second := make(chan struct{})
	s.Nth(0, osstest.Inject().Gate(1000, second))
	s.Nth(1, osstest.Inject().Before(func() { close(second) }))
	r := runHere(t.Context(), envOf(s), "-json", "-part-size", "1MiB", "oss://bucket/key", "-")
	if r.exit != 0 || r.stdout != string(all(t, c)) {
		t.Fatalf("exit code %d, %d bytes: %s", r.exit, len(r.stdout), r.stderr)
	}
	if got := lastLine(t, r); got.Path != "-" || got.Size != c.Size() || got.ETag != o.ETag || !got.Verified || got.Failure != nil {
		t.Errorf("got %+v", got)
	}
	r = runHere(t.Context(), envOf(s), "-range", "1MiB:5", "oss://bucket/key", "-")
	if r.exit != 0 || r.stdout != string(all(t, c)[mib:mib+5]) || !strings.Contains(r.stderr, "not verified") {
		t.Errorf("-range: %+v", r)
	}
	if r := runHere(t.Context(), envOf(s), "-quiet", "oss://bucket/empty", "-"); r != (ran{}) {
		t.Errorf("empty: %+v", r)
	}
	onlyFile(t, ".", "")
}

func TestStandardOutputThatFails(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 3*mib))
	down := newServer(t)
	down.Down()
	e := envOf(s)
	away := envOf(down)

	for _, c := range []struct {
		name string
		env  env
		args []string
		exit int
		code string
	}{
		{"no object", e, []string{"oss://bucket/absent"}, 3, "NotFound"},
		{"digest", e, []string{"-concurrency", "1", "-sha256", strings.Repeat("00", 32), "oss://bucket/key"}, 3, "ChecksumMismatch"},
		{"nobody listens", away, []string{"-retries", "0", "oss://bucket/key"}, 1, "Failed"},
	} {
		r := runHere(t.Context(), c.env, append(c.args, "-", "-json")...)
		if got := lastLine(t, r); r.exit != c.exit || got.Failure == nil || got.Code != c.code || got.Path != "-" || got.Requests != 1 ||
			strings.Contains(r.stderr, "continues") || strings.Contains(r.stderr, "kept") {
			t.Errorf("%s: exit code %d, %s", c.name, r.exit, r.stderr)
		}
	}
	s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Error(503, "ServiceUnavailable") })
	if got := lastLine(t, runHere(t.Context(), e, "-retries", "1", "oss://bucket/key", "-", "-json")); got.Requests != 2 || got.Retries != 1 || got.Seconds <= 0 {
		t.Errorf("tried twice: %+v", got)
	}
	s.ClearFaults()

	flip := osstest.Inject().FlipObjectByte(5)
	s.OnRequest(func(*osstest.Request) *osstest.Fault { return flip })
	r := runHere(t.Context(), e, "-json", "oss://bucket/key", "-")
	if got := lastLine(t, r); r.exit != 3 || got.Failure == nil || got.Code != "ChecksumMismatch" || len(r.stdout) != 3*mib {
		t.Errorf("a wrong byte: exit code %d, %d bytes, %s", r.exit, len(r.stdout), r.stderr)
	}
	s.ClearFaults()

	var stderr bytes.Buffer
	full := writerFunc(func([]byte) (int, error) { return 0, syscall.ENOSPC })
	if exit := run(t.Context(), []string{"oss://bucket/key", "-"}, e.get, full, &stderr); exit != 1 ||
		!strings.Contains(stderr.String(), "standard output: "+syscall.ENOSPC.Error()) {
		t.Errorf("a full disk: exit code %d, %s", exit, stderr.String())
	}
}

// TestOutputThatCannotBeWritten checks that the command never ends with 0 if what it was to print, the object or the JSON, is
// not written, even if only the closing says so.
func TestOutputThatCannotBeWritten(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, mib))
	for name, args := range map[string][]string{
		"object": {"oss://bucket/key", "-"}, "empty object": {"oss://bucket/empty", "-"}, "JSON": {"-json", "oss://bucket/key", filepath.Join(t.TempDir(), "file")},
		"JSON of a prefix": {"-json", "-recursive", "oss://bucket", t.TempDir()}, "version": {"-version"}, "help": {"-h"},
	} {
		s.Put("bucket", "empty", osstest.Bytes(nil))
		for _, c := range []struct {
			err  error
			exit int
		}{{syscall.ENOSPC, exitFailed}, {syscall.EBADF, exitFailed}, {syscall.EPIPE, exitBrokenPipe}} {
			for _, out := range []io.Writer{failingOutput{onWrite: c.err}, failingOutput{onClose: c.err}} {
				if name == "empty object" && out == (failingOutput{onWrite: c.err}) {
					continue // nothing is written
				}
				var stderr bytes.Buffer
				if exit := run(t.Context(), args, envOf(s).get, out, &stderr); exit != c.exit {
					t.Errorf("%s, %+v: exit code %d: %s", name, out, exit, stderr.String())
				}
				if said := strings.Contains(stderr.String(), "standard output: "+c.err.Error()); said != (c.exit == exitFailed) {
					t.Errorf("%s, %+v: %q", name, out, stderr.String())
				}
			}
		}
	}
}

// failingOutput is a standard output that cannot be written or closed.
type failingOutput struct{ onWrite, onClose error }

func (f failingOutput) Write(b []byte) (int, error) {
	if f.onWrite != nil {
		return 0, f.onWrite
	}
	return len(b), nil
}

func (f failingOutput) Close() error { return f.onClose }

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestWrongUseOfStandardOutput(t *testing.T) {
	for flag, value := range map[string]string{"-checkpoint": "a", "-checkpoint-dir": "a", "-no-checkpoint": "", "-shard": "0/2", "-include": "x"} {
		args := []string{flag}
		if value != "" {
			args = append(args, value)
		}
		r := runHere(t.Context(), testEnv, append(args, "oss://bucket/key", "-")...)
		if r.exit != 2 || r.stdout != "" || !strings.Contains(r.stderr, flag+" ") {
			t.Errorf("%s: %+v", flag, r)
		}
	}
	r := runHere(t.Context(), testEnv, "-recursive", "oss://bucket/prefix/", "-")
	if r.exit != 2 || !strings.Contains(r.stderr, "DEST -") || !strings.Contains(r.stderr, "oss://bucket/key") {
		t.Errorf("-recursive: %+v", r)
	}
}

// TestPipeToTar checks `ossget oss://bucket/k.tar.gz - | tar xz`.
func TestPipeToTar(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("no tar here")
	}
	files := map[string]osstest.Content{"a": osstest.Random(1, 5*mib), "folder/b": osstest.Random(2, 3*mib), "empty": osstest.Bytes(nil)}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	for name, c := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: c.Size()}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(all(t, c)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	s.Put("bucket", "k.tar.gz", osstest.Bytes(packed.Bytes()))
	s.Nth(0, osstest.Inject().ResetAfter(100_000)) // tar does not notice it

	dir := t.TempDir()
	get := process(t, envOf(s), "-part-size", "1MiB", "oss://bucket/k.tar.gz", "-")
	untar := exec.CommandContext(t.Context(), "tar", "xz")
	untar.Dir = dir
	var stderr bytes.Buffer
	get.Stderr = &stderr
	connect(t, get, untar)
	if err := untar.Wait(); err != nil {
		t.Error("tar:", err)
	}
	if err := get.Wait(); err != nil {
		t.Error(err)
	}
	for name, c := range files {
		sameAs(t, filepath.Join(dir, name), c)
	}
	if !strings.Contains(stderr.String(), "ossget: -: ") || !strings.HasSuffix(stderr.String(), ", verified\n") {
		t.Errorf("standard error: %q", stderr.String())
	}
}

func pipe(t *testing.T) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

// connect starts both commands, with a pipe from one to the other.
func connect(t *testing.T, from, to *exec.Cmd) {
	t.Helper()
	r, w := pipe(t)
	from.Stdout, to.Stdin = w, r
	if err := errors.Join(from.Start(), to.Start(), r.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestBrokenPipeEndsQuietly(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 64*mib))
	for _, flags := range [][]string{nil, {"-json"}} {
		r, w := pipe(t)
		cmd := process(t, envOf(s), append(flags, "-quiet", "oss://bucket/key", "-")...)
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = w, &stderr
		if err := errors.Join(cmd.Start(), w.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // the exit code is checked below
		if code := cmd.ProcessState.ExitCode(); code != exitBrokenPipe {
			t.Errorf("exit code %d: %s", code, stderr.String())
		}
		if flags == nil && stderr.Len() > 0 {
			t.Errorf("not quiet: %q", stderr.String())
		}
		if flags != nil {
			if got := lastLine(t, ran{stderr: stderr.String()}); got.Failure == nil || got.Code != "BrokenPipe" {
				t.Errorf("got %q", stderr.String())
			}
		}
	}
	if sent := s.Stats().Sent; sent > 2*64*mib {
		t.Errorf("%d bytes were sent", sent)
	}
}

// TestTerminatedWhileNobodyReads checks that SIGTERM ends the command while its write into a full pipe blocks.
func TestTerminatedWhileNobodyReads(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent a signal there")
	}
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 8*mib))
	r, w := pipe(t)
	defer r.Close()
	cmd := process(t, envOf(s), "oss://bucket/key", "-")
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = w, &stderr
	if err := errors.Join(cmd.Start(), w.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code is checked below
	if code := cmd.ProcessState.ExitCode(); code != 143 || !strings.HasSuffix(stderr.String(), "ossget: interrupted\n") {
		t.Errorf("exit code %d: %q", code, stderr.String())
	}
}

// TestTimeoutWhileNobodyReads checks that -timeout ends a command whose standard output is a pipe that nobody reads.
func TestTimeoutWhileNobodyReads(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, mib))
	release := make(chan struct{})
	defer close(release)
	unread := writerFunc(func(b []byte) (int, error) { <-release; return len(b), nil })
	var stderr bytes.Buffer
	exit := run(t.Context(), []string{"-json", "-timeout", "1s", "oss://bucket/key", "-"}, envOf(s).get, unread, &stderr)
	if got := lastLine(t, ran{stderr: stderr.String()}); exit != exitFailed || got.Failure == nil || got.Code != "Timeout" ||
		!strings.Contains(stderr.String(), "not done after 1s (--timeout)") {
		t.Errorf("exit code %d: %s", exit, stderr.String())
	}
}
