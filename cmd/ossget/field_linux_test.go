package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/osstest"
)

// TestDestinationThatNothingCanReplace checks that a destination that no rename can replace ends the command before any request,
// with the exit code that says that it will fail again.
func TestDestinationThatNothingCanReplace(t *testing.T) {
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 1000))
	t.Run("mount point", func(t *testing.T) {
		dir := t.TempDir()
		path, other := filepath.Join(dir, "key"), filepath.Join(dir, "other")
		if err := errors.Join(os.WriteFile(path, []byte("old"), 0o600), os.WriteFile(other, []byte("mounted"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount(other, path, "", syscall.MS_BIND, ""); err != nil {
			t.Skip("nothing may be mounted here: ", err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		r := runHere(t.Context(), envOf(s), "-json", "oss://bucket/key", path)
		if got := outcomeOf(t, r); r.exit != exitHopeless || got.Failure == nil || got.Code != "Local" || !strings.Contains(r.stderr, "mount point") {
			t.Errorf("%+v", r)
		}
	})
	t.Run("another user's file in a sticky folder", func(t *testing.T) {
		if os.Geteuid() != 0 {
			t.Skip("only root can be another user")
		}
		ossget := built(t)
		dir := t.TempDir()
		for _, name := range []string{dir, filepath.Dir(dir), filepath.Dir(ossget), filepath.Dir(filepath.Dir(ossget)), ossget} {
			if err := os.Chmod(name, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, "key")
		if err := errors.Join(os.WriteFile(path, []byte("old"), 0o600), os.Chmod(path, 0o666), os.Chown(path, 1001, 1001),
			os.Chmod(dir, 0o777|fs.ModeSticky)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), ossget, "oss://bucket/key", path)
		for name, value := range envOf(s) {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1002, Gid: 1002}}
		var said bytes.Buffer
		cmd.Stderr = &said
		_ = cmd.Run() // the exit code says how
		if code := cmd.ProcessState.ExitCode(); code != exitHopeless || !strings.Contains(said.String(), "user 1001") {
			t.Errorf("exit code %d: %s", code, said.String())
		}
	})
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}
