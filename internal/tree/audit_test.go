package tree

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// lowerFS is case-insensitive below one of its folders, where all names are stored in lower case.
type lowerFS struct {
	fsys.FS
	under string // "": everywhere
}

func (f lowerFS) name(name string) string {
	under := filepath.FromSlash(f.under)
	if !strings.HasPrefix(name, under) {
		return name
	}
	return under + strings.ToLower(name[len(under):])
}

func (f lowerFS) Lstat(name string) (fs.FileInfo, error) { return f.FS.Lstat(f.name(name)) }

func (f lowerFS) List(dir string, most int) ([]string, error) { return f.FS.List(f.name(dir), most) }

// auditTree makes empty files, with the folders above them.
func auditTree(t *testing.T, f fsys.FS, names ...string) {
	t.Helper()
	for _, name := range names {
		for i := range len(name) {
			if name[i] == '/' {
				if err := f.Mkdir(name[:i], 0o777); err != nil && !os.IsExist(err) {
					t.Fatal(err)
				}
			}
		}
		if strings.HasSuffix(name, "/") {
			continue
		}
		file, err := f.OpenFile(filepath.FromSlash(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		if err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAuditCase checks that a file is found by any spelling where the file system takes them for the same, and nowhere else: at the
// top, below one folder, or not at all. Then it is not left over. The second of two names of one file is told apart.
func TestAuditCase(t *testing.T) {
	for _, c := range []struct {
		name    string
		folds   bool
		under   string
		asked   []string
		missing []string // of those
		second  []string // of those: their file is another's
		others  []string
	}{
		{"case-sensitive", false, "", []string{"a", "sub/B", "sub/c", "sub/deep/d"}, []string{"sub/B"}, nil, []string{"sub/b", "x", "z/Z"}},
		{"everywhere", true, "", []string{"A", "Sub/B", "sUB/c", "sub/DEEP/d", "a"}, nil, []string{"a"}, []string{"x", "z/z"}},
		{"digits first", true, "", []string{"1", "Sub/B", "SUB/c", "sub/Deep/D"}, []string{"1"}, nil, []string{"a", "x", "z/z"}},
		{"below a folder", true, "sub/", []string{"A", "a", "sub/B", "sub/C", "sub/Deep/D", "sub/c"}, []string{"A"}, []string{"sub/c"}, []string{"x", "z/Z"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := memfs.New(memfs.Config{})
			z := "z/Z"
			if c.folds && c.under == "" {
				z = "z/z"
			}
			auditTree(t, disk, "a", "sub/b", "sub/c", "sub/deep/d", "x", z, ".ossdl/left", "empty/")
			var f fsys.FS = disk
			if c.folds {
				f = lowerFS{disk, c.under}
			}
			a := NewAudit(f)
			for _, name := range c.asked {
				fi, why, err := a.File(name)
				if err != nil || (fi == nil) != slices.Contains(c.missing, name) || strings.Contains(why, "another name") != slices.Contains(c.second, name) {
					t.Errorf("%s: %v, %q, %v", name, fi, why, err)
				}
			}
			var others []string
			if err := a.Others(t.Context(), func(name string) { others = append(others, name) }); err != nil || !slices.Equal(others, c.others) {
				t.Errorf("left over %q, %v; want %q", others, err, c.others)
			}
		})
	}
}

// TestAuditManyFolders checks an audit of more folders than are remembered.
func TestAuditManyFolders(t *testing.T) {
	disk := memfs.New(memfs.Config{})
	var names []string
	for i := range maxKnown + 200 {
		names = append(names, path.Join("f"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+strings.Repeat("y", i/26), "File"))
	}
	auditTree(t, disk, names...)
	auditTree(t, disk, "Extra")
	a := NewAudit(disk)
	for range 2 {
		for _, name := range names {
			if fi, why, err := a.File(name); fi == nil || why != "" || err != nil {
				t.Fatalf("%s: %v, %q, %v", name, fi, why, err)
			}
		}
	}
	if there, why, err := a.Folder(path.Dir(names[0])); !there || why != "" || err != nil {
		t.Errorf("%t, %q, %v", there, why, err)
	}
	var others []string
	if err := a.Others(t.Context(), func(name string) { others = append(others, name) }); err != nil || !slices.Equal(others, []string{"Extra"}) {
		t.Errorf("left over %q, %v", others, err)
	}
}

// TestAuditWorkDirs checks which folders with the name of the one for working files are left out: the one at the top, and that of
// a mount.
func TestAuditWorkDirs(t *testing.T) {
	disk := memfs.New(memfs.Config{})
	auditTree(t, disk, ".ossdl/a", "plain/.ossdl/b", "mnt/", "mnt2/")
	if err := disk.Mount("/mnt"); err != nil {
		t.Fatal(err)
	}
	auditTree(t, disk, "mnt/.ossdl/c", "mnt/sub/.ossdl/d")
	var others []string
	err := NewAudit(disk).Others(t.Context(), func(name string) { others = append(others, name) })
	if want := []string{"mnt/sub/.ossdl/d", "plain/.ossdl/b"}; err != nil || !slices.Equal(others, want) {
		t.Errorf("left over %q, %v; want %q", others, err, want)
	}
}
