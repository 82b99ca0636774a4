package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// children are the processes that this one has started and not waited for.
func children(t *testing.T) (pids []string) {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(lists) == 0 {
		t.Skip("the system does not list children here")
	}
	for _, name := range lists {
		b, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) { // a thread that has ended
			t.Fatal(err)
		}
		pids = append(pids, strings.Fields(string(b))...)
	}
	return pids
}

// TestInterruptedDemoLeavesNoProcess checks that a demonstration that is interrupted leaves no process and no file.
func TestInterruptedDemoLeavesNoProcess(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	children(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- demo(ctx, io.Discard) }()
	for deadline := time.Now().Add(2 * time.Minute); len(children(t)) < shards; time.Sleep(time.Millisecond) {
		select {
		case err := <-ended:
			t.Fatalf("it ended before: %v", err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the pods were not started in time")
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if pids := children(t); len(pids) > 0 {
		t.Errorf("left behind: processes %v", pids)
	}
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
