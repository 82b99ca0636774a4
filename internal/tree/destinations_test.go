package tree

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
)

// TestDestinations checks which paths are told to be one file, or to lie below one another, and that nothing is made for that.
func TestDestinations(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege")
	}
	top := t.TempDir()
	for _, dir := range []string{"a", "b", "a/old.cp"} {
		if err := os.Mkdir(filepath.Join(top, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"link": "a", "a/file": "../b/target", "dangling": "none", "work": "a/old.cp"} {
		if err := os.Symlink(filepath.FromSlash(target), filepath.Join(top, filepath.FromSlash(link))); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		folds         bool
		first, second string
		want          error
	}{
		{false, "a/x", "a/y", nil},
		{false, "a/x", "b/x", nil},
		{false, "a/x", "a/x", errTwin},
		{false, "a/x", "a/./x", errTwin},
		{false, "a/x", "b/../a/x", errTwin},
		{false, "a/x", "link/x", errTwin},
		{false, "link/x", "a/x", errTwin},
		{false, "a/file", "b/target", errTwin},
		{false, "a/file", "b/other", nil},
		{false, "a/new/x", "link/new/x", errTwin},
		{false, "a/new/x", "a/new/y", nil},
		{false, "a/new", "a/new/x", errBelow},
		{false, "a/new/deep/x", "a/new", errBelow},
		{false, "a/new/deep/x", "a/new/deep", errBelow},
		{false, "a/X", "a/x", nil},
		{true, "b/X", "b/x", errTwin},
		{true, "b/New/x", "b/nEW/X", errTwin},
		{true, "b/New", "b/nEW/X", errBelow},
		{false, "dangling/x", "dangling/x", errTwin},
		{false, "a/x", "a/x.cp/data", errInner},
		{false, "a/x.cp/data", "a/x", errInner},
		{false, "a/new/x", "link/new/x.cp/lock", errInner},
		{false, "a/old", "a/old.cp/data", errInner},
		{false, "a/old.cp/data", "link/old", errInner},
		{false, "a/old", "work/data", errInner},
		{false, "a/file", "b/target.cp/data", errInner},
		{true, "b/x", "b/X.CP/data", errInner},
		{false, "a/x", "a/.ossdl-0123456789abcdef.cp/data", errInner},
		{false, "a/x", "a/y.cp/data", nil},
		{false, "a/x", "a/x.cp", nil},
		{false, "a/x", "a/.cp/data", nil},
	} {
		d := NewDestinations(fsys.OS(), test.folds)
		if err := d.Add(filepath.Join(top, "a") + "/../" + test.first); err != nil {
			t.Errorf("%s: %v", test.first, err)
		}
		if err := d.Add(top + "/" + test.second); !errors.Is(err, test.want) {
			t.Errorf("%s, then %s (folds %t): %v, want %v", test.first, test.second, test.folds, err, test.want)
		}
	}
	if n, err := os.ReadDir(filepath.Join(top, "b")); err != nil || len(n) != 0 {
		t.Errorf("made: %v %v", n, err)
	}
}

// TestDestinationsOfRelativePaths checks that a path and its absolute form are one.
func TestDestinationsOfRelativePaths(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	d := NewDestinations(fsys.OS(), false)
	if err := d.Add("x"); err != nil {
		t.Fatal(err)
	}
	if err := d.Add(filepath.Join(dir, "x")); !errors.Is(err, errTwin) {
		t.Error(err)
	}
	if err := d.Add(filepath.Join("new", "..", "x")); !errors.Is(err, errTwin) {
		t.Error(err)
	}
}
