package tree

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
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
		{false, "b/x", "b/X.CP/data", errInner}, // an empty folder does not show how it treats names
		{false, "b/X.cp/data", "b/x", errInner},
		{false, "a/x", "a/.ossdl-0123456789abcdef.cp/data", errInner},
		{false, "a/x", "a/y.cp/data", nil},
		{false, "a/x", "a/x.cp", nil},
		{false, "a/x", "a/.cp/data", nil},
	} {
		d := NewDestinations(fsys.OS(), test.folds)
		if _, err := d.Add(filepath.Join(top, "a") + "/../" + test.first); err != nil {
			t.Errorf("%s: %v", test.first, err)
		}
		if _, err := d.Add(top + "/" + test.second); !errors.Is(err, test.want) {
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
	if _, err := d.Add("x"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Add(filepath.Join(dir, "x")); !errors.Is(err, errTwin) {
		t.Error(err)
	}
	if _, err := d.Add(filepath.Join("new", "..", "x")); !errors.Is(err, errTwin) {
		t.Error(err)
	}
}

// aliasFS has other names for some files below a folder: with from in the place of to.
type aliasFS struct {
	fsys.FS
	top, from, to string
}

func (f aliasFS) name(name string) string {
	below, found := strings.CutPrefix(name, f.top)
	if !found {
		return name
	}
	return f.top + strings.ReplaceAll(below, f.from, f.to)
}

func (f aliasFS) Lstat(name string) (fs.FileInfo, error) { return f.FS.Lstat(f.name(name)) }

// TestDestinationsPlace checks that a file is refused if one that was placed before turns out to be the same one.
func TestDestinationsPlace(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the file system may have aliases of its own")
	}
	const composed, decomposed = "\u00e9", "e\u0301"
	for _, test := range []struct {
		from, to      string // aliases
		first, second string
		linked        bool // the user has made the second a link to the first
		want          error
	}{
		{"A", "a", "A.txt", "a.txt", false, errTaken},
		{"A", "a", "a.txt", "A.txt", false, errTaken},
		{"\u00c4", "\u00e4", "\u00c4", "\u00e4", false, errTaken},
		{"New", "new", "New/x", "new/x", false, errTaken},
		{decomposed, composed, composed, decomposed, false, errTaken},
		{"A", "a", "A.txt", "b.txt", false, nil},
		{"none", "none", "A.txt", "a.txt", false, nil},
		{"none", "none", "A.txt", "a.txt", true, nil},
	} {
		top := t.TempDir()
		f := aliasFS{fsys.OS(), top, test.from, test.to}
		at := func(name string) string { return filepath.Join(top, filepath.FromSlash(name)) }
		d := NewDestinations(f, false)
		var turns [2]Turn
		for i, name := range []string{test.first, test.second} {
			var err error
			if turns[i], err = d.Add(at(name)); err != nil {
				t.Fatal(name, err)
			}
		}
		file := f.name(at(test.first))
		if err := d.Place(turns[0], at(test.first), func() error {
			return errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, nil, 0o600))
		}); err != nil {
			t.Fatal(test.first, err)
		}
		if test.linked {
			if err := os.Link(file, at(test.second)); err != nil {
				t.Fatal(err)
			}
		}
		called := false
		err := d.Place(turns[1], at(test.second), func() error { called = true; return nil })
		if called != (test.want == nil) || !errors.Is(err, test.want) || (test.want != nil) != errors.Is(err, ErrCollision) {
			t.Errorf("%q, then %q: %v, want %v", test.first, test.second, err, test.want)
		}
	}
}

// TestDestinationsTurns checks that paths that differ only by case have one turn, and that a file that did not get its place leaves that
// to the next one.
func TestDestinationsTurns(t *testing.T) {
	top := t.TempDir()
	d := NewDestinations(fsys.OS(), false)
	turns := map[string]Turn{}
	for _, name := range []string{"A.txt", "a.TXT", "b.txt"} {
		var err error
		if turns[name], err = d.Add(filepath.Join(top, name)); err != nil {
			t.Fatal(err)
		}
	}
	if turns["A.txt"] != turns["a.TXT"] || turns["A.txt"] == turns["b.txt"] {
		t.Errorf("turns %v", turns)
	}
	failed := errors.New("failed")
	for name, want := range map[string]error{"A.txt": failed, "a.TXT": nil} {
		if err := d.Place(turns[name], filepath.Join(top, name), func() error { return want }); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
}
