package tree

import (
	"io/fs"
	"log/slog"
	"runtime"
	"strings"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// TestWorkDirOfAnotherUser checks that working files are not put where another user could change them, and that in a sticky
// folder nobody else may look into theirs.
func TestWorkDirOfAnotherUser(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no owners")
	}
	disk := memfs.New(memfs.Config{})
	disk.SetUser(1000)
	if err := disk.Mkdir(WorkDir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := disk.Chown(WorkDir, 4242); err != nil {
		t.Fatal(err)
	}
	_, err := Open(disk, "/shared", slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "/shared/"+WorkDir) || !strings.Contains(err.Error(), "user 4242") {
		t.Errorf("%v", err)
	}

	disk = memfs.New(memfs.Config{})
	if err := disk.Chmod("/", 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	f, err := Open(disk, "/shared", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if fi, err := disk.Lstat(WorkDir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}
