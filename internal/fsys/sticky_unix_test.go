//go:build unix

package fsys_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
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
	root, err := os.OpenRoot(top)
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
