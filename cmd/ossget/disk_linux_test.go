package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/osstest"
)

// smallDisk is a folder with a file system of its own, of 8 MiB; grow makes that 64.
func smallDisk(t *testing.T) (dir string, grow func()) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("no tmpfs may be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir, func() {
		t.Helper()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDiskFull checks that the same command completes after a full disk gets more room, for an object and for a prefix.
func TestDiskFull(t *testing.T) {
	s := newServer(t)
	c := osstest.Random(1, 12*mib)
	s.Put("bucket", "key", c)
	dir, grow := smallDisk(t)
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	r := runHere(t.Context(), envOf(s), "-json", "oss://bucket/key", path)
	if got := outcomeOf(t, r); r.exit != exitFailed || got.Failure == nil || got.Code != "NoSpace" || !strings.Contains(r.stderr, "not enough disk space") {
		t.Errorf("%+v", r)
	}
	if got, err := os.ReadFile(path); string(got) != "old" {
		t.Errorf("the old file is %q, %v", got, err)
	}
	grow()
	if r := runHere(t.Context(), envOf(s), "oss://bucket/key", path); r.exit != 0 {
		t.Errorf("again: %+v", r)
	}
	sameAs(t, path, c)
	onlyFile(t, dir, "file")
}

func TestDiskFullUnderAPrefix(t *testing.T) {
	s := newServer(t)
	files := tree{"large": osstest.Random(1, 12*mib), "small": osstest.Random(2, 1000)}
	putAll(s, "folder/", files)
	dir, grow := smallDisk(t)
	args := []string{"-json", "-recursive", "oss://bucket/folder/", filepath.Join(dir, "new")}
	r := runHere(t.Context(), envOf(s), args...)
	if got := prefixLine(t, r); r.exit != exitFailed || got.Done != 1 || got.Failed != 1 || len(got.Failures) != 1 || got.Failures[0].Code != "NoSpace" {
		t.Errorf("%+v", r)
	}
	grow()
	r = runHere(t.Context(), envOf(s), args...)
	if got := prefixLine(t, r); r.exit != 0 || got.Done != 1 || got.Skipped != 1 {
		t.Errorf("again: %+v", r)
	}
	files.isIn(t, filepath.Join(dir, "new"))
}
