package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
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
		_, _ = io.Copy(s, s.keyboard) // EIO once no process has the terminal open
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

// nothingQueued reports whether the kernel holds no bytes of the connections to an address: all that was sent has been read.
func nothingQueued(t *testing.T, addr string) bool {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line) // number, local address, remote address, state, tx_queue:rx_queue, …
		const established = "01"
		if len(f) > 4 && f[3] == established && strings.Contains(f[1]+" "+f[2]+" ", fmt.Sprintf(":%04X ", n)) && f[4] != "00000000:00000000" {
			return false
		}
	}
	return true
}

// TestCtrlCOnATerminal checks Ctrl-C once everything that the server sends has arrived. The first run keeps exactly that,
// and the second run requests only the rest.
func TestCtrlCOnATerminal(t *testing.T) {
	h := newHalf(t)
	s := newScreen(t, 100)
	defer func() {
		if t.Failed() {
			t.Logf("screen: %q\nrequests: %+v", s.text(), h.server.Requests())
		}
	}()
	cmd := process(t, envOf(h.server), h.args()...)
	var stdout bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.tty, &stdout, s.tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The last bytes wait in the buffers of the command, which the bar does not count: less than one of each connection.
	waitUntil(t, "what the server sends", func() bool { return h.server.Stats().Sent >= halfSent && nothingQueued(t, h.server.Addr()) })
	came := regexp.MustCompile(`1[56]\.\d MiB / 64\.0 MiB`)
	waitUntil(t, "a bar at a quarter", func() bool { return len(came.FindAllString(s.text(), 2)) == 2 })
	if _, err := s.keyboard.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code is checked below
	_ = s.tty.Close()
	<-s.ended
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
		t.Fatalf("exit code %d: %q", code, s.text())
	}
	if want := regexp.MustCompile(`\rdisk\.img +2[45]%  \[=+> +\]  +1[56]\.\d MiB / 64\.0 MiB `); !want.MatchString(s.text()) {
		t.Errorf("no bar: %q", s.text())
	}
	if want := "\r\nossget: interrupted; 16.4 MiB of the file are kept; the same command continues\r\n"; !strings.HasSuffix(s.text(), want) {
		t.Errorf("the end is not %q: %q", want, s.text())
	}
	for line := range strings.SplitSeq(s.text(), "\r") {
		if len(strings.TrimSuffix(line, "^C")) > 100 { // the terminal itself prints that
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

// TestSecondSignalEndsAtOnce checks that a second signal ends a command that cannot write its result, because the pipe is
// full and has no reader.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	h := newHalf(t)
	defer close(h.open)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	room, err := unix.FcntlInt(w.Fd(), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, room)); err != nil {
		t.Fatal(err)
	}
	cmd := process(t, envOf(h.server), h.args()...)
	s := &screen{}
	cmd.Stdout, cmd.Stderr = w, s
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the first answers", func() bool { return h.server.Stats().Sent >= halfSent })
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the state is checked below
		close(ended)
	}()
	interrupt := func() {
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
	}
	interrupt()
	waitUntil(t, "its word on standard error", func() bool { return strings.Contains(s.text(), "interrupted") })
	select {
	case <-ended:
		t.Fatalf("it ended with its result untold: %v", cmd.ProcessState)
	default:
	}
	interrupt()
	<-ended
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("ended by %v", cmd.ProcessState)
	}
}
