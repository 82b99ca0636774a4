//go:build unix

package fsys_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// TestResolveStickyOwners checks the kernel's rule for links in sticky, world-writable folders with links of other users,
// whatever fs.protected_symlinks is set to here. Only root can make them.
func TestResolveStickyOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a link of another user")
	}
	const stranger = 12345
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(top)
	for _, dir := range []string{"elsewhere", "shared", "plain", "strangers"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	err = errors.Join(
		os.Chmod("shared", 0o777|fs.ModeSticky), os.Chmod("strangers", 0o777|fs.ModeSticky), os.Chown("strangers", stranger, -1),
		os.WriteFile("elsewhere/file", nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"shared", "plain", "strangers"} {
		for name, target := range map[string]string{
			"file": "../elsewhere/file", "new": "../elsewhere/new", "dir": "../elsewhere", "mine": "../elsewhere", "tofile": "mine/../" + dir + "/file",
		} {
			name = filepath.Join(dir, name)
			if err := os.Symlink(target, name); err != nil {
				t.Fatal(err)
			}
			if base := filepath.Base(name); base != "mine" && base != "tofile" {
				if err := os.Lchown(name, stranger, -1); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := os.Symlink("shared/dir", "way"); err != nil {
		t.Fatal(err)
	}
	root, err := fsys.OpenRoot(top)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, f := range []fsys.FS{fsys.OS(), fsys.Rooted(root)} {
		for name, link := range map[string]string{ // "": followed
			"plain/file": "", "plain/new": "", "plain/dir/file": "", "shared/mine/file": "",
			"strangers/file": "", "strangers/dir/file": "", // the folder's owner might as well have replaced the folder
			"shared/file": "shared/file", "shared/new": "shared/new", "shared/dir/file": "shared/dir", "shared/dir": "shared/dir",
			"shared/dir/": "shared/dir", "shared/dir/../elsewhere/file": "shared/dir",
			"shared/tofile": "shared/file", "way/file": "shared/dir", "way": "shared/dir",
		} {
			if f == fsys.OS() && !strings.HasSuffix(name, "file") {
				root, _, err := fsys.OpenFolder(name)
				if link == "" && err == nil {
					err = root.Close()
				}
				if refused := errors.Is(err, fsys.ErrForeignLink); refused != (link != "") {
					t.Errorf("OpenFolder(%s): %v", name, err)
				}
			}
			got, err := f.Resolve(name)
			if link == "" {
				if err != nil || !strings.Contains(got, "elsewhere") {
					t.Errorf("%T: Resolve(%s) = %s, %v", f, name, got, err)
				}
				continue
			}
			if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), link+":") || !strings.Contains(err.Error(), "12345") {
				t.Errorf("%T: Resolve(%s) = %s, %v; want a refusal that names %s and its owner", f, name, got, err, link)
			}
		}
	}
}

// TestResolveFromLinkedFolder checks that a relative path begins at the working folder itself. The kernel does not resolve
// the link through which a shell entered it.
func TestResolveFromLinkedFolder(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Join(top, "a", "b"), 0o755), os.Symlink("a/b", filepath.Join(top, "link"))); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(top, "link"))
	for name, want := range map[string]string{"new": "a/b/new", "../new": "a/new", "../b/../new": "a/new"} {
		if got, err := fsys.Resolve(name); err != nil || got != filepath.Join(top, want) {
			t.Errorf("Resolve(%s) = %s, %v; want %s", name, got, err, filepath.Join(top, want))
		}
	}
}

// TestOpenFolder checks that missing folders are made along a path as the kernel reads it, and that what is there is opened,
// also through links of one's own. The errors name what is in the way.
func TestOpenFolder(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(top)
	if err := errors.Join(
		os.MkdirAll("a/b", 0o755), os.Symlink("a/b", "link"), os.Symlink("a/none", "dangling"), os.Symlink("none/none", "lost"),
		os.Symlink("loop", "loop"), os.WriteFile("file", nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{
		"a": "a", "a/": "a", "link": "a/b", "link/": "a/b", "link/../c": "a/c", "link/d//e/.": "a/b/d/e", "new": "new",
		"x/y/../z": "x/z", "dangling": "a/none", ".": ".", top + "/deep/er": "deep/er",
	} {
		root, unsynced, err := fsys.OpenFolder(dir)
		if err := errors.Join(unsynced, err); err != nil {
			t.Errorf("%s: %v", dir, err)
			continue
		}
		opened, err := root.Stat(".")
		there, werr := os.Lstat(want)
		if err := errors.Join(err, werr, root.Close()); err != nil || !os.SameFile(opened, there) {
			t.Errorf("%s is not %s, %v", dir, want, err)
		}
	}
	for dir, cause := range map[string]error{
		"file": syscall.ENOTDIR, "file/new": syscall.ENOTDIR, "lost": fs.ErrNotExist, "loop": syscall.ELOOP, "loop/new": syscall.ELOOP,
	} {
		if root, _, err := fsys.OpenFolder(dir); !errors.Is(err, cause) {
			t.Errorf("%s: %v, %v; want %v", dir, root, err, cause)
		}
	}
}

// TestNameErrors checks that the error of a name that is too long has the limit, and that a name passes which is short enough
// when it is counted in bytes or in characters.
func TestNameErrors(t *testing.T) {
	disk := memfs.New(memfs.Config{MaxName: 143})
	for name, fits := range map[string]bool{
		"/short": true, strings.Repeat("n", 143): true, strings.Repeat("n", 144): false,
		strings.Repeat("网", 100): true, // 300 bytes, 100 characters
		strings.Repeat("网", 144): false,
	} {
		err := fsys.CheckName(disk, name)
		if fits != (err == nil) || !fits && (!errors.Is(err, syscall.ENAMETOOLONG) || !strings.Contains(err.Error(), "allows 143")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f := fsys.OS()
	dir := t.TempDir()
	v, err := f.Volume(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Lstat(filepath.Join(dir, strings.Repeat("n", v.MaxName+1)))
	if err := fsys.NameError(f, err); !errors.Is(err, syscall.ENAMETOOLONG) || !strings.Contains(err.Error(), "the file system allows") {
		t.Error(err)
	}
	_, err = f.Lstat(strings.Repeat("n/", 1<<13)) // no name is too long
	if got := fsys.NameError(f, err); got != err {
		t.Errorf("%v became %v", err, got)
	}
	if got := fsys.NameError(f, fs.ErrNotExist); got != fs.ErrNotExist {
		t.Errorf("became %v", got)
	}
}
