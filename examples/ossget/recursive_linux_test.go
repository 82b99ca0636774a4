package main

import (
	"regexp"
	"strings"
	"testing"
)

// TestPrefixOnATerminal is one line for the whole.
func TestPrefixOnATerminal(t *testing.T) {
	s := newServer(t)
	putAll(s, "folder/", someFiles)
	screen := newScreen(t, 100)
	cmd := process(t, envOf(s), "-recursive", "oss://bucket/folder/", t.TempDir())
	cmd.Stderr = screen.tty
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	_ = screen.tty.Close()
	<-screen.ended
	text := screen.text()
	if want := regexp.MustCompile(`\rfolder +100%  \[=+\] +3\.1 MiB / 3\.1 MiB [^\n]*\nossget: .*: 4 done, 0 skipped, 0 failed; [^\n]*\n$`); !want.MatchString(text) {
		t.Errorf("screen: %q", text)
	}
	if n := strings.Count(text, "\n"); n != 2 {
		t.Errorf("%d lines: %q", n, text)
	}
}

// TestBrokenPipeUnderATerminal: what is left of the progress is a whole line, and nothing comes after it.
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
	_ = cmd.Run() // the exit code says how
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
