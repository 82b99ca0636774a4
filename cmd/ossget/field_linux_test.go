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
		dir := t.TempDir()
		for _, name := range []string{dir, filepath.Dir(dir)} {
			if err := os.Chmod(name, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, "key")
		if err := errors.Join(os.WriteFile(path, []byte("old"), 0o600), os.Chmod(path, 0o666), os.Chown(path, 1001, 1001),
			os.Chmod(dir, 0o777|fs.ModeSticky)); err != nil {
			t.Fatal(err)
		}
		if code, said := asUser(t, s, 1002, "oss://bucket/key", path); code != exitHopeless || !strings.Contains(said, "user 1001") {
			t.Errorf("exit code %d: %s", code, said)
		}
	})
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

// asUser runs the command as another user, and returns its exit code and what it said. Only root can.
func asUser(t *testing.T, s *osstest.Server, user uint32, args ...string) (code int, said string) {
	t.Helper()
	ossget := built(t)
	for _, name := range []string{filepath.Dir(ossget), filepath.Dir(filepath.Dir(ossget)), ossget} {
		if err := os.Chmod(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), ossget, args...)
	for name, value := range envOf(s) {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	_ = cmd.Run() // the exit code says how
	return cmd.ProcessState.ExitCode(), stderr.String()
}

// TestMetadataOwnerIsForRoot checks that another user than root who asks for the owner in the metadata gets an error that says so, before
// any request.
func TestMetadataOwnerIsForRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 1000), osstest.Meta("uid", "1002"))
	code, said := asUser(t, s, 1002, "-metadata", "mode,owner", "oss://bucket/key", "/tmp/ossget-metadata-owner")
	if n := len(s.Requests()); code != exitHopeless || !strings.Contains(said, "MetadataOwner is for root alone") || n != 0 {
		t.Errorf("exit code %d, %d requests: %s", code, n, said)
	}
	path := filepath.Join(t.TempDir(), "key")
	if r := runHere(t.Context(), envOf(s), "-metadata", "mode,owner", "oss://bucket/key", path); r.exit != 0 {
		t.Fatalf("%+v", r)
	}
	if fi, err := os.Stat(path); err != nil || fi.Sys().(*syscall.Stat_t).Uid != 1002 {
		t.Errorf("%v, %v", fi, err)
	}
}
