//go:build linux || darwin

package machine_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// setLimit bounds what this process may use, or as whom it may do so.
func setLimit(name, value string) error {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return err
	}
	// The runtime ends the process where it finds no descriptor for its own poller, so that must be there before.
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	if err := errors.Join(r.Close(), w.Close()); err != nil {
		return err
	}
	switch name {
	case "user":
		return syscall.Setuid(int(n))
	case "group":
		return errors.Join(syscall.Setgroups([]int{int(n)}), syscall.Setgid(int(n)))
	}
	which := map[string]int{"file size": syscall.RLIMIT_FSIZE, "files": syscall.RLIMIT_NOFILE}
	return syscall.Setrlimit(which[name], &syscall.Rlimit{Cur: n, Max: n})
}

// TestFileSizeLimit downloads what a limit of the system has no room for: the old file stays, and without the limit the
// download completes.
func TestFileSizeLimit(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 3<<20)
	s.Put("bkt", "k", content)
	for _, entryPoint := range childEntryPoints {
		t.Run(entryPoint, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "k")
			harness.WriteFile(t, path, "old")
			var said bytes.Buffer
			cmd := newChild(t, s, "limit", "file size", strconv.Itoa(2<<20), "enter", entryPoint, path, "k")
			cmd.Stderr = &said
			if err := cmd.Run(); err == nil || !strings.Contains(said.String(), syscall.EFBIG.Error()) {
				t.Errorf("%v, %q", err, said.String())
			}
			if got, err := os.ReadFile(path); string(got) != "old" {
				t.Errorf("the old file is %q, %v", got, err)
			}
			if err := newChild(t, s, "enter", entryPoint, path, "k").Run(); err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, path, content)
		})
	}
}

// TestNoDescriptorsLeft downloads with ever fewer files that may be open: the file is right, or the error names the cause.
func TestNoDescriptorsLeft(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 1<<20)
	s.Put("bkt", "k", content)
	for _, entryPoint := range childEntryPoints {
		t.Run(entryPoint, func(t *testing.T) {
			right, wrong := 0, 0
			for files := 30; files > 3; files-- {
				if entryPoint != "Download" && files > 12 && !harness.Long() {
					files -= 2
				}
				path := filepath.Join(t.TempDir(), "k")
				var said bytes.Buffer
				cmd := newChild(t, s, "limit", "files", strconv.Itoa(files), "enter", entryPoint, path, "k")
				cmd.Stderr = &said
				if err := cmd.Run(); err == nil {
					right++
					harness.CheckFile(t, path, content)
					continue
				}
				wrong++
				if !strings.Contains(said.String(), syscall.EMFILE.Error()) {
					t.Errorf("%d files: %.500q", files, said.String())
				}
				if harness.Exists(path) {
					t.Errorf("%d files: something is at the path", files)
				}
				if err := newChild(t, s, "enter", entryPoint, path, "k").Run(); err != nil {
					t.Errorf("%d files, and then enough: %v", files, err)
				}
				harness.CheckFile(t, path, content)
			}
			t.Logf("%d downloads had enough files, %d had not", right, wrong)
			if right == 0 || wrong == 0 {
				t.Error("nothing was tested")
			}
		})
	}
}
