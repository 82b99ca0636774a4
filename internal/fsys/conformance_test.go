package fsys_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/fstest"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

func TestConformance(t *testing.T) {
	for name, target := range map[string]func(*testing.T) fstest.Target{
		"OS":          osTarget,
		"Rooted":      rootedTarget,
		"RootedBelow": rootedBelowTarget,
		"Memory":      memTarget,
		"FaultsOS": func(t *testing.T) fstest.Target {
			g := osTarget(t)
			g.FS = faultfs.New(g.FS)
			return g
		},
		"FaultsMemory": func(t *testing.T) fstest.Target {
			g := memTarget(t)
			g.FS = faultfs.New(g.FS)
			return g
		},
		"MemoryPoor": func(t *testing.T) fstest.Target {
			g := memTarget(t)
			f := memfs.New(memfs.Config{
				NoReserve: true, NoLocks: true, Capacity: 64 << 20, MaxFileSize: 64 << 20, MaxFiles: 100, MaxName: 143, TimeStep: 2 * time.Second,
			})
			g.FS, g.Dir, g.Symlink, g.Link = f, "/", f.Symlink, f.Link
			if g.Chown != nil {
				g.Chown, g.Chmod = f.Chown, f.Chmod
			}
			g.Reserves, g.Locks = false, false
			return g
		},
	} {
		t.Run(name, func(t *testing.T) { fstest.Run(t, target) })
	}
}

func osTarget(t *testing.T) fstest.Target {
	g := fstest.Target{FS: fsys.OS(), Dir: t.TempDir(), Link: os.Link}
	g.Locks = runtime.GOOS == "linux" || runtime.GOOS == "darwin" || runtime.GOOS == "windows"
	if runtime.GOOS != "windows" { // where making one is a privilege
		g.Symlink = os.Symlink
	}
	if os.Geteuid() == 0 {
		g.Chown = func(name string, uid uint32) error { return os.Lchown(name, int(uid), -1) }
		g.Chmod = os.Chmod
	}
	return g
}

func rootedTarget(t *testing.T) fstest.Target {
	g := osTarget(t)
	dir := g.Dir
	root, err := fsys.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := root.Close(); err != nil {
			t.Error(err)
		}
	})
	g.FS, g.Dir = fsys.Rooted(root), "."
	g.Link = root.Link
	if g.Symlink != nil {
		g.Symlink = root.Symlink
	}
	if g.Chown != nil {
		g.Chown = func(name string, uid uint32) error { return root.Lchown(name, int(uid), -1) }
		g.Chmod = func(name string, mode fs.FileMode) error { return os.Chmod(filepath.Join(dir, name), mode) }
	}
	return g
}

func rootedBelowTarget(t *testing.T) fstest.Target {
	g := rootedTarget(t)
	g.Dir = "below"
	if err := g.FS.Mkdir(g.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return g
}

func memTarget(t *testing.T) fstest.Target {
	f := memfs.New(memfs.Config{})
	dir := string(filepath.Separator) + "dir"
	if err := f.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	g := fstest.Target{FS: f, Dir: dir, Symlink: f.Symlink, Link: f.Link, Reserves: true, Locks: true}
	if runtime.GOOS != "windows" { // where nobody owns anything, in memory neither
		g.Chown, g.Chmod = f.Chown, f.Chmod
	}
	return g
}
