//go:build linux || darwin

package machine_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// asNobody is a job of a process without privileges: permissions do not bind root.
func asNobody(job ...string) []string {
	if os.Geteuid() != 0 {
		return job
	}
	return append([]string{"limit", "user", "65534"}, job...)
}

// TestNoPermission checks that what may not be written, or read, is found before any request, and the error names it.
func TestNoPermission(t *testing.T) {
	for name, c := range map[string]struct {
		suffix string // of the file whose mode is
		mode   os.FileMode
		folder os.FileMode
		ok     bool
	}{
		"nothing is wrong":        {"", 0o666, 0o777, true},
		"the path may be read":    {"", 0o444, 0o777, false},
		"the path may do nothing": {"", 0, 0o777, false},
		"so may the checkpoint":   {harness.CheckpointSuffix, 0, 0o777, false},
		"nor the folder":          {"", 0o666, 0o555, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, path, content := harness.Interrupted(t)
			harness.WriteFile(t, path, "old")
			for _, dir := range []string{filepath.Dir(path), filepath.Dir(filepath.Dir(path))} {
				if err := os.Chmod(dir, 0o755); err != nil { // the way to the folder is open to all
					t.Fatal(err)
				}
			}
			for _, suffix := range []string{harness.FolderSuffix, "", harness.PartSuffix, harness.CheckpointSuffix} {
				if os.Geteuid() == 0 {
					if err := os.Chown(path+suffix, 65534, 65534); err != nil { // the one that asNobody is
						t.Fatal(err)
					}
				}
				if suffix == harness.FolderSuffix {
					continue
				}
				if err := os.Chmod(path+suffix, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(path+c.suffix, c.mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Dir(path), c.folder); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
					t.Error(err)
				}
			})
			var said bytes.Buffer
			cmd := newChild(t, s, asNobody("download", path, "k")...)
			cmd.Stderr = &said
			err := cmd.Run()
			if c.ok {
				if err != nil {
					t.Fatalf("%v: %s", err, said.String())
				}
				harness.CheckFile(t, path, content)
				return
			}
			what := path + c.suffix
			if c.folder != 0o777 {
				what = filepath.Dir(path)
			}
			if err == nil || !strings.Contains(said.String(), what+":") || !strings.Contains(said.String(), syscall.EACCES.Error()) {
				t.Errorf("%v, %q; want an error that names %s", err, said.String(), what)
			}
			if n := len(s.Requests()); n != 0 {
				t.Errorf("%d requests were made", n)
			}
			if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path+c.suffix, 0o666); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); string(got) != "old" {
				t.Errorf("the old file is %q, %v", got, err)
			}
			// Once it is permitted, what was interrupted goes on.
			if out, err := newChild(t, s, asNobody("download", path, "k")...).Output(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			harness.CheckFile(t, path, content)
			if n := harness.Fetched(s); n != 11*harness.PartSize {
				t.Errorf("%d bytes sent, want %d", n, 11*harness.PartSize)
			}
		})
	}
}

// TestPipeAtThePath checks that nobody writes into a pipe at the path, and nobody waits for its reader.
func TestPipeAtThePath(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("public", osstest.PublicRead())
	s.Put("public", "k", osstest.Random(1, 1000))
	d := harness.NewDownloader(t, s)
	path := filepath.Join(t.TempDir(), "file")
	if err := syscall.Mkfifo(path, 0o644); err != nil {
		t.Fatal(err)
	}
	link := path + ".link"
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{path, link} {
		if res, err := d.Download(t.Context(), "public", "k", to); res != nil || err == nil || !strings.Contains(err.Error(), path+" is not a regular file") {
			t.Errorf("%+v, %v", res, err)
		}
		if res, err := d.DownloadURL(t.Context(), s.URL("public", "k"), to); res != nil || err == nil || !strings.Contains(err.Error(), path+" is not a regular file") {
			t.Errorf("%+v, %v", res, err)
		}
	}
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
	harness.NoLeftovers(t, path)
}
