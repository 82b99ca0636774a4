package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// screen is a terminal: what was written to it, and a keyboard.
type screen struct {
	keyboard *os.File
	tty      *os.File
	mu       sync.Mutex
	written  bytes.Buffer
	ended    chan struct{}
}

func newScreen(t *testing.T, columns uint16) *screen {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("no terminals here: ", err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{keyboard: os.NewFile(uintptr(fd), "ptmx"), tty: tty, ended: make(chan struct{})}
	t.Cleanup(func() { _ = s.tty.Close(); _ = s.keyboard.Close() })
	go func() {
		defer close(s.ended)
		_, _ = io.Copy(s, s.keyboard) // EIO once nobody has the terminal open
	}()
	return s
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written.Write(p)
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.written.String()
}

// TestCtrlCOnATerminal presses it when the bar says that all that was sent is there: then the second run must ask for
// the rest and nothing else.
func TestCtrlCOnATerminal(t *testing.T) {
	h := newHalf(t)
	s := newScreen(t, 100)
	cmd := process(t, envOf(h.server), h.args()...)
	var stdout bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.tty, &stdout, s.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "a bar at a quarter", func() bool { return strings.Contains(s.text(), "16.0 MiB / 64.0 MiB") })
	if _, err := s.keyboard.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code says how
	_ = s.tty.Close()
	<-s.ended
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
		t.Fatalf("exit code %d: %q", code, s.text())
	}
	if want := regexp.MustCompile(`\rdisk\.img +25%  \[=+> +\]  +16\.0 MiB / 64\.0 MiB `); !want.MatchString(s.text()) {
		t.Errorf("no bar: %q", s.text())
	}
	if want := "\r\nossget: interrupted; 16.0 MiB are kept; the same command continues\r\n"; !strings.HasSuffix(s.text(), want) {
		t.Errorf("the end is not %q: %q", want, s.text())
	}
	for line := range strings.SplitSeq(s.text(), "\r") {
		if len(strings.TrimSuffix(line, "^C")) > 100 { // which the terminal shows itself
			t.Errorf("wider than the terminal: %q", line)
		}
	}

	got, requests := h.finish(t)
	if got.ResumedBytes != halfSent || got.DownloadedBytes != halfSize-halfSent {
		t.Errorf("resumed %d, downloaded %d", got.ResumedBytes, got.DownloadedBytes)
	}
	var sent int64
	for _, r := range requests {
		sent += r.Sent
	}
	if sent != halfSize-halfSent {
		t.Errorf("the second run was sent %d bytes, %d were missing", sent, halfSize-halfSent)
	}
}
