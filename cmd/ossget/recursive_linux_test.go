package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/ossdl/ossdl/cmd/ossget/internal/bar/vt"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestPrefixOnATerminal checks the screen while two objects are stalled. It has one line for the whole and one for each
// object, by its local name. In the end only the line for the whole is left.
func TestPrefixOnATerminal(t *testing.T) {
	s := newServer(t)
	const size, gate = 6 << 18, 5 << 18
	const evil = "sub/\x1b[2Jb"
	putAll(s, "folder/", tree{"a.img": osstest.Random(1, size), evil: osstest.Random(2, size), "c": osstest.Random(3, 2*mib)})
	open := make(chan struct{})
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Key == "folder/c" {
			return nil
		}
		return osstest.Inject().Gate(max(0, gate-max(0, r.Start)), open).Maybe() // a request that takes over the rest sends nothing
	})
	screen := newScreen(t, 100)
	cmd := process(t, envOf(s), "-recursive", "oss://bucket/folder/", t.TempDir())
	cmd.Env = append(cmd.Env, "TERM=xterm")
	cmd.Stderr = screen.tty
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	shown := func() (lines []string) {
		terminal := vt.New(100, 24)
		_, _ = terminal.Write([]byte(screen.text())) // it never fails
		if terminal.Unknown != nil {
			t.Errorf("not known to the terminal: %q", terminal.Unknown)
		}
		return terminal.Lines()
	}
	object := regexp.MustCompile(`^  (a\.img      |sub/\?\[2Jb) +[1-9]\d%  \[=+> +\] +1\.\d MiB / 1\.5 MiB$`)
	waitUntil(t, "a line for the whole and two for objects", func() bool {
		lines := shown()
		return len(lines) == 3 && strings.HasPrefix(lines[0], "folder ") && object.MatchString(lines[1]) && object.MatchString(lines[2]) &&
			lines[1] != lines[2]
	})
	close(open)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	_ = screen.tty.Close()
	<-screen.ended
	lines := shown()
	whole := regexp.MustCompile(`^folder +100%  \[=+\] +5\.0 MiB / 5\.0 MiB `)
	if end := strings.Join(lines[1:], ""); !whole.MatchString(lines[0]) || !strings.HasPrefix(end, "ossget: ") ||
		!strings.Contains(end, ": 3 done, 0 skipped, 0 failed; ") {
		t.Errorf("in the end: %q", lines)
	}
}

// TestBrokenPipeUnderATerminal checks that the progress ends with a whole line, and that nothing follows it.
func TestBrokenPipeUnderATerminal(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", someFiles["a.gz"])
	screen := newScreen(t, 100)
	r, w := pipe(t)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := process(t, envOf(s), "oss://bucket/key", "-")
	cmd.Stdout, cmd.Stderr = w, screen.tty
	_ = cmd.Run() // the exit code is checked below
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	_ = screen.tty.Close()
	<-screen.ended
	if code := cmd.ProcessState.ExitCode(); code != exitBrokenPipe {
		t.Errorf("exit code %d", code)
	}
	if text := screen.text(); strings.Contains(text, "ossget") || text != "" && !strings.HasSuffix(text, "\r\n") {
		t.Errorf("screen: %q", text)
	}
}
