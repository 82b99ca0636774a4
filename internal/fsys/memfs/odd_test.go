package memfs

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
)

func create(t *testing.T, f *FS, name string) error {
	t.Helper()
	file, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}

// TestMaxFiles checks that a disk without free inodes is full although it has room, and that a removal frees one.
func TestMaxFiles(t *testing.T) {
	f := New(Config{MaxFiles: 3, Capacity: 1 << 20})
	if err := errors.Join(create(t, f, "/a"), f.Mkdir("/dir", 0o755), f.Symlink("a", "/link"), f.Link("/a", "/dir/a")); err != nil {
		t.Fatal(err)
	}
	v, err := f.Volume("/")
	if err != nil || v.Files != 0 || v.Free <= 0 {
		t.Errorf("%+v, %v", v, err)
	}
	for op, err := range map[string]error{"open": create(t, f, "/b"), "mkdir": f.Mkdir("/b", 0o755), "symlink": f.Symlink("a", "/b")} {
		if !fsys.IsNoSpace(err) {
			t.Errorf("%s: %v", op, err)
		}
	}
	if err := errors.Join(f.Remove("/link"), create(t, f, "/b")); err != nil {
		t.Error(err)
	}
}

// TestMaxName checks the limit for names, for new ones of every kind.
func TestMaxName(t *testing.T) {
	f := New(Config{MaxName: 143})
	fits, long := "/"+strings.Repeat("n", 143), "/"+strings.Repeat("n", 144)
	if v, err := f.Volume("/"); err != nil || v.MaxName != 143 {
		t.Errorf("%+v, %v", v, err)
	}
	if err := create(t, f, fits); err != nil {
		t.Error(err)
	}
	for op, err := range map[string]error{
		"open": create(t, f, long), "mkdir": f.Mkdir(long, 0o755), "symlink": f.Symlink("a", long), "rename": f.Rename(fits, long),
	} {
		if !errors.Is(err, syscall.ENAMETOOLONG) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// TestNoSync checks that a disk that cannot sync makes nothing durable.
func TestNoSync(t *testing.T) {
	f := New(Config{NoSync: true, NoSyncDir: true})
	file, err := f.OpenFile("/file", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("content"), 0); err != nil {
		t.Fatal(err)
	}
	for op, err := range map[string]error{"sync": file.Sync(), "syncdir": f.SyncDir("/")} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v", op, err)
		}
	}
	lost := false
	for seed := range uint64(50) {
		lost = lost || len(f.Crash(rand.New(rand.NewPCG(seed, 0))).Names()) == 0
	}
	if !lost {
		t.Error("the name survived every power loss")
	}
	if n, err := New(Config{NoSizes: true}).Free("/"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Free without sizes = %d, %v", n, err)
	}
}

// TestMounts checks what cannot be renamed or removed, and that the next process has the same mounts.
func TestMounts(t *testing.T) {
	f := New(Config{})
	if err := errors.Join(f.Mkdir("/dir", 0o755), f.Mkdir("/dir/below", 0o755), create(t, f, "/file"), create(t, f, "/dir/below/file"), f.Mount("/dir"), create(t, f, "/dir/new")); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*FS{f, f.Kill()} {
		for _, r := range []struct {
			from, to string
			want     error
		}{
			{"/file", "/dir/file", syscall.EXDEV}, {"/dir/new", "/new", syscall.EXDEV}, {"/dir/below/file", "/file", syscall.EXDEV},
			{"/file", "/dir/below/file", syscall.EXDEV}, {"/dir", "/other", syscall.EBUSY}, {"/dir/new", "/dir/below/moved", nil},
		} {
			if err := f.Rename(r.from, r.to); !errors.Is(err, r.want) || (err == nil) != (r.want == nil) {
				t.Errorf("%s to %s: %v, want %v", r.from, r.to, err, r.want)
			}
		}
		if err := f.Remove("/dir"); !errors.Is(err, syscall.EBUSY) {
			t.Errorf("remove: %v", err)
		}
		if is, err := f.MountPoint("/dir"); !is || err != nil {
			t.Errorf("MountPoint = %t, %v", is, err)
		}
		if err := f.Rename("/dir/below/moved", "/dir/new"); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Mount("/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("mounting nothing: %v", err)
	}
}

// TestStickyFolder checks who may rename, replace and remove what is in a sticky folder, and that a killed process leaves
// the owners as they were.
func TestStickyFolder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no owners")
	}
	f := New(Config{})
	if err := errors.Join(f.Mkdir("/tmp", 0o777), f.Chmod("/tmp", 0o777|fs.ModeSticky), create(t, f, "/tmp/roots")); err != nil {
		t.Fatal(err)
	}
	f.SetUser(1000)
	if err := create(t, f, "/tmp/ours"); err != nil {
		t.Fatal(err)
	}
	for _, f := range []*FS{f, f.Kill(), f.Crash(rand.New(rand.NewPCG(1, 1)))} {
		if user, _ := f.User(); user != 1000 {
			t.Errorf("user %d", user)
		}
		if _, err := f.Lstat("/tmp/ours"); err != nil {
			continue // a power loss may have taken it
		}
		for op, err := range map[string]error{
			"remove": f.Remove("/tmp/roots"), "rename": f.Rename("/tmp/roots", "/tmp/moved"), "replace": f.Rename("/tmp/ours", "/tmp/roots"),
		} {
			if !errors.Is(err, syscall.EPERM) {
				t.Errorf("%s: %v", op, err)
			}
		}
		if err := f.Rename("/tmp/ours", "/tmp/moved"); err != nil {
			t.Error(err)
		}
		fi, err := f.Lstat("/tmp/moved")
		if err != nil {
			t.Fatal(err)
		}
		if owner, _ := fsys.Owner(fi); owner != 1000 {
			t.Errorf("owner %d", owner)
		}
		f.SetUser(0)
		if err := errors.Join(f.Rename("/tmp/moved", "/tmp/roots"), f.Remove("/tmp/roots")); err != nil {
			t.Errorf("root: %v", err)
		}
	}
}
