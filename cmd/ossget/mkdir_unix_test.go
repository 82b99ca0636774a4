//go:build unix

package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ossdl/ossdl/internal/osstest"
)

// TestMkdirBehindForeignLink checks that -mkdir makes no folder behind another user's link in a folder that everybody may write
// to, whatever fs.protected_symlinks is set to here. Only root can make such a link.
func TestMkdirBehindForeignLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a link of another user")
	}
	const stranger = 4242
	s := newServer(t)
	s.Put("bucket", "key", osstest.Random(1, 1000))
	top := t.TempDir()
	shared, elsewhere := filepath.Join(top, "shared"), filepath.Join(top, "elsewhere")
	link := filepath.Join(shared, "link")
	if err := errors.Join(
		os.Mkdir(elsewhere, 0o755), os.Mkdir(shared, 0o755), os.Chmod(shared, 0o777|fs.ModeSticky),
		os.Symlink(elsewhere, link), os.Lchown(link, stranger, stranger),
	); err != nil {
		t.Fatal(err)
	}
	r := runHere(t.Context(), envOf(s), "-mkdir", "oss://bucket/key", filepath.Join(link, "new", "file"))
	if r.exit != exitHopeless || !strings.Contains(r.stderr, link) || !strings.Contains(r.stderr, "4242") || len(s.Requests()) > 0 {
		t.Errorf("%+v, %d requests; want a refusal that names the link and its owner", r, len(s.Requests()))
	}
	if there, err := os.ReadDir(elsewhere); err != nil || len(there) > 0 {
		t.Errorf("made behind the link: %v, %v", there, err)
	}
}
