package localfile

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// stranger is a user that the tests do not run as.
const stranger = 4242

func ownerDestination(t *testing.T, disk fsys.FS, opts func(*Config)) *Destination {
	t.Helper()
	cfg := Config{
		FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file", KeepPartial: true,
		IsCheckpoint: func(data []byte) bool {
			return strings.HasPrefix(string(data), "ours") || IsZeros(data) && len(data) <= CheckpointLimit
		},
	}
	if opts != nil {
		opts(&cfg)
	}
	d, err := Check(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func ownerFile(t *testing.T, disk *memfs.FS, name, content string, owner uint32) {
	t.Helper()
	if err := disk.Mkdir(filepath.Dir(name), 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	if err := fsys.WriteFile(disk, name, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := disk.Chown(name, owner); err != nil {
		t.Fatal(err)
	}
}

// beginAndCommit puts a file of four bytes at the path.
func beginAndCommit(d *Destination) error {
	if err := d.Begin(4, 4); err != nil {
		return err
	}
	_, err := d.Commit(4, time.Time{})
	return err
}

func skipWithoutOwners(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("files have no owners")
	}
}

// TestFolderOfAnotherUser checks that a working folder of another user, or one with anything of another user in it, is left
// alone, and the other name is used.
func TestFolderOfAnotherUser(t *testing.T) {
	skipWithoutOwners(t)
	w, other := filesIn(foldersOf("/file")[0]), foldersOf("/file")[1]
	for name, theirs := range map[string]string{"folder": w.folder, "data": w.data, "checkpoint": w.checkpoint, "lock": w.lock} {
		t.Run(name, func(t *testing.T) {
			disk := memfs.New(memfs.Config{})
			disk.SetUser(1000)
			for _, file := range []string{w.data, w.checkpoint, w.lock} {
				ownerFile(t, disk, file, "ours", 1000)
			}
			if err := disk.Chown(theirs, stranger); err != nil {
				t.Fatal(err)
			}
			d := ownerDestination(t, disk, nil)
			unlock, err := d.Lock()
			if err != nil {
				t.Fatal(err)
			}
			if d.work.folder != other {
				t.Errorf("the folder is %s", d.work.folder)
			}
			if _, err := d.ReadCheckpoint(); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a checkpoint was read: %v", err)
			}
			if err := d.Begin(4, 4); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Commit(4, time.Time{}); err != nil {
				t.Fatal(err)
			}
			unlock()
			if _, err := disk.Lstat(other); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the folder is left: %v", err)
			}
			for _, file := range []string{w.data, w.checkpoint, w.lock} {
				if got, err := fsys.ReadFile(disk, file, 100); string(got) != "ours" || err != nil {
					t.Errorf("%s is %q, %v", file, got, err)
				}
			}
		})
	}
}

// TestBothFoldersTaken checks that the error names both, and the owner.
func TestBothFoldersTaken(t *testing.T) {
	skipWithoutOwners(t)
	disk := memfs.New(memfs.Config{})
	disk.SetUser(1000)
	folders := foldersOf("/file")
	ownerFile(t, disk, folders[0]+"/mine", "", 1000)
	ownerFile(t, disk, folders[1], "", stranger)
	_, err := ownerDestination(t, disk, nil).Lock()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{folders[0], folders[1], `holds "mine"`, "user 4242", "remove"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in the error: %v", want, err)
		}
	}
}

// TestInUseInTheOtherFolder checks that a call which uses the other working folder is noticed, whichever folder the second call
// could have.
func TestInUseInTheOtherFolder(t *testing.T) {
	disk := memfs.New(memfs.Config{})
	for i, folder := range foldersOf("/file") {
		lock := filesIn(folder).lock
		if err := disk.Mkdir(folder, 0o777); err != nil {
			t.Fatal(err)
		}
		release, _, err := fsys.LockNamed(disk, lock, 0o666, `{"pid":77,"host":"elsewhere","start":"2026-01-02T03:04:05Z"}`)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 { // what is in it makes the second call use the other
			ownerFile(t, disk, folder+"/mine", "", 0)
		}
		_, err = ownerDestination(t, disk, nil).Lock()
		if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), `process 77 on "elsewhere" since 2026-01-02T03:04:05Z`) {
			t.Errorf("%s: %v", folder, err)
		}
		if err := release(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := errors.Join(disk.Remove(folder+"/mine"), disk.Remove(folder)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestForeignCheckpointFile checks that a file of WithCheckpoint that is another user's, or no checkpoint, is an error that names
// it, and stays.
func TestForeignCheckpointFile(t *testing.T) {
	skipWithoutOwners(t)
	for name, c := range map[string]struct {
		content string
		owner   uint32
		want    string
	}{
		"another user's": {"ours", stranger, "user 4242"},
		"no checkpoint":  {"{}", 1000, "not a checkpoint"},
		"disk image":     {strings.Repeat("\x00", 32<<10) + "\x01CD001", 1000, "not a checkpoint"},
		"empty image":    {strings.Repeat("\x00", CheckpointLimit+1), 1000, "not a checkpoint"},
		"torn one":       {strings.Repeat("\x00", CheckpointLimit), 1000, ""},
	} {
		t.Run(name, func(t *testing.T) {
			disk := memfs.New(memfs.Config{})
			disk.SetUser(1000)
			ownerFile(t, disk, "/cps/mine", c.content, c.owner)
			d := ownerDestination(t, disk, func(cfg *Config) { cfg.Checkpoint = "/cps/mine" })
			unlock, err := d.Lock()
			if err != nil {
				t.Fatal(err)
			}
			defer unlock()
			got, err := d.ReadCheckpoint()
			switch {
			case c.want == "" && (string(got) != c.content || err != nil):
				t.Errorf("%d bytes, %v", len(got), err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), "/cps/mine") || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v", err)
			}
		})
	}
}

// TestFileAtThePathOfAnotherUser checks that another user's file is not taken for a finished download.
func TestFileAtThePathOfAnotherUser(t *testing.T) {
	skipWithoutOwners(t)
	for _, owner := range []uint32{1000, stranger} {
		disk := memfs.New(memfs.Config{})
		disk.SetUser(1000)
		ownerFile(t, disk, "/file", "ours", owner)
		d := ownerDestination(t, disk, nil)
		if found, err := d.Adopt(4, true); found != (owner == 1000) || err != nil {
			t.Errorf("of user %d: %t, %v", owner, found, err)
		}
		d.Abandon(AsFound)
	}
}

// TestModesInAStickyFolder checks that nobody else may look into what is made in a folder that strangers share.
func TestModesInAStickyFolder(t *testing.T) {
	skipWithoutOwners(t)
	for _, c := range []struct {
		folder, work, checkpoint fs.FileMode
	}{{0o777 | fs.ModeSticky, 0o700, 0o600}, {0o777, 0o777, 0o666}} {
		disk := memfs.New(memfs.Config{})
		if err := disk.Chmod("/", c.folder); err != nil {
			t.Fatal(err)
		}
		d := ownerDestination(t, disk, nil)
		unlock, err := d.Lock()
		if err == nil {
			err = errors.Join(d.Begin(4, 4), d.Save([]byte("ours"), false))
		}
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]fs.FileMode{d.work.folder: c.work, d.checkpoint: c.checkpoint, d.work.lock: c.checkpoint} {
			if fi, err := disk.Lstat(name); err != nil || fi.Mode().Perm() != want {
				t.Errorf("in %v, %s has %v, want %v", c.folder, name, fi.Mode(), want)
			}
		}
		d.Abandon(Nothing)
		unlock()
	}
}

// TestModeOfAReplacedFile checks that a file which replaces another is not open to more people, not even while it is written,
// and stays executable.
func TestModeOfAReplacedFile(t *testing.T) {
	skipWithoutOwners(t)
	for old, want := range map[fs.FileMode][2]fs.FileMode{ // while it is written, and in the end
		0o600: {0o600, 0o600}, 0o640: {0o640, 0o640}, 0o755: {0o755, 0o755}, 0o666: {0o666, 0o666}, 0o444: {0o644, 0o444},
	} {
		disk := memfs.New(memfs.Config{})
		ownerFile(t, disk, "/file", "old", 0)
		if err := disk.Chmod("/file", old); err != nil {
			t.Fatal(err)
		}
		d := newDestination(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file", KeepPartial: true})
		unlock, err := d.Lock()
		if err == nil {
			err = d.Begin(4, 4)
		}
		if err != nil {
			t.Fatal(err)
		}
		if fi, err := disk.Lstat(d.work.data); err != nil || fi.Mode().Perm() != want[0] {
			t.Errorf("old %v: written with %v, %v; want %v", old, fi.Mode(), err, want[0])
		}
		if _, err := d.Commit(4, time.Time{}); err != nil {
			t.Fatal(err)
		}
		if fi, err := disk.Lstat("/file"); err != nil || fi.Mode().Perm() != want[1] {
			t.Errorf("old %v: has %v, %v; want %v", old, fi.Mode(), err, want[1])
		}
		unlock()
	}
}

// TestTwoDestinationsOfOneFolder checks that downloads to a path and to the name of its working folder do not meet.
func TestTwoDestinationsOfOneFolder(t *testing.T) {
	disk := memfs.New(memfs.Config{})
	at := func(path string) *Destination {
		return ownerDestination(t, disk, func(cfg *Config) { cfg.Path = path })
	}
	first := at("/file" + folderSuffix)
	unlockFirst, err := first.Lock()
	if err != nil {
		t.Fatal(err)
	}
	second := at("/file")
	unlockSecond, err := second.Lock()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []*Destination{first, second} {
		if err := beginAndCommit(d); err != nil {
			t.Error(err)
		}
	}
	unlockFirst()
	unlockSecond()
	if got := strings.Join(disk.Names(), " "); got != "/file /file.cp" {
		t.Errorf("there are %s", got)
	}

	// The other way round the name is a folder, for a while.
	disk = memfs.New(memfs.Config{})
	unlock, err := at("/file").Lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Check(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file.cp"}); !errors.Is(err, ErrInUse) {
		t.Errorf("%v", err)
	}
	unlock()
}

// TestRealOwners checks with real owners that what a stranger planted is left alone.
func TestRealOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	path := filepath.Join(t.TempDir(), "file")
	w := filesIn(foldersOf(path)[0])
	if err := errors.Join(os.Mkdir(w.folder, 0o777), os.WriteFile(w.data, []byte("evil"), 0o666), os.Chown(w.data, stranger, stranger)); err != nil {
		t.Fatal(err)
	}
	d := ownerDestination(t, fsys.OS(), func(cfg *Config) { cfg.Path = path })
	unlock, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if d.work.folder != foldersOf(path)[1] {
		t.Errorf("the folder is %s", d.work.folder)
	}
	unlock()
	if got, err := os.ReadFile(w.data); string(got) != "evil" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestFoldersBehindForeignLinks checks with real owners that neither the folder of the path nor that for checkpoints is made
// behind a stranger's link in a folder that everybody may write to, and that both are behind one's own.
func TestFoldersBehindForeignLinks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a link of another user")
	}
	for name, config := range map[string]func(way string) Config{
		"path":      func(way string) Config { return Config{Path: filepath.Join(way, "new", "file"), Mkdir: true} },
		"deep path": func(way string) Config { return Config{Path: filepath.Join(way, "new", "sub", "file"), Mkdir: true} },
		"checkpoints": func(way string) Config {
			return Config{Path: filepath.Join(way, "..", "..", "file"), CheckpointDir: filepath.Join(way, "new")}
		},
		"link itself": func(way string) Config {
			return Config{Path: filepath.Join(way, "..", "..", "file"), CheckpointDir: way + "-dangling"}
		},
	} {
		for _, owner := range []int{0, stranger} {
			top, err := filepath.EvalSymlinks(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			elsewhere, way := filepath.Join(top, "elsewhere"), filepath.Join(top, "shared", "link")
			if err := errors.Join(
				os.Mkdir(elsewhere, 0o755), os.Mkdir(filepath.Dir(way), 0o755), os.Chmod(filepath.Dir(way), 0o777|fs.ModeSticky),
				os.Symlink(elsewhere, way), os.Lchown(way, owner, owner),
				os.Symlink(filepath.Join(elsewhere, "new"), way+"-dangling"), os.Lchown(way+"-dangling", owner, owner),
			); err != nil {
				t.Fatal(err)
			}
			cfg := config(way)
			cfg.FS, cfg.Log, cfg.KeepPartial = fsys.OS(), slog.New(slog.DiscardHandler), true
			_, err = Check(cfg)
			_, made := os.Lstat(filepath.Join(elsewhere, "new"))
			switch {
			case owner == 0 && (err != nil || made != nil):
				t.Errorf("%s: one's own link: %v, %v", name, err, made)
			case owner != 0 && (!errors.Is(err, fsys.ErrForeignLink) || !strings.Contains(err.Error(), way)):
				t.Errorf("%s: %v; want a refusal that names the link", name, err)
			case owner != 0 && !errors.Is(made, fs.ErrNotExist):
				t.Errorf("%s: a folder was made behind the link: %v", name, made)
			}
		}
	}
}

// resolvedMkdir is a file system that refuses to make a folder by a name with links.
type resolvedMkdir struct{ fsys.FS }

func (f resolvedMkdir) Mkdir(name string, perm fs.FileMode) error {
	if real, err := f.Resolve(name); err != nil || real != name {
		return &fs.PathError{Op: "mkdir", Path: name, Err: errors.New("the kernel would follow links of this name")}
	}
	return f.FS.Mkdir(name, perm)
}

// TestFoldersAreMadeWithoutLinks checks that the names of folders to make are resolved first, which applies the rule for links.
func TestFoldersAreMadeWithoutLinks(t *testing.T) {
	disk := memfs.New(memfs.Config{})
	if err := errors.Join(disk.Mkdir("/dir", 0o777), disk.Symlink("dir", "/link")); err != nil {
		t.Fatal(err)
	}
	d := ownerDestination(t, resolvedMkdir{disk}, func(cfg *Config) {
		cfg.Path, cfg.Mkdir, cfg.CheckpointDir = "/link/a//b/file", true, "/link/checkpoints/"
	})
	if want := filepath.FromSlash("/dir/a/b/file"); d.Path() != want {
		t.Errorf("the path is %s, want %s", d.Path(), want)
	}
	if want := filepath.FromSlash("/dir/checkpoints"); filepath.Dir(d.CheckpointPath()) != want {
		t.Errorf("the checkpoint is %s, want it in %s", d.CheckpointPath(), want)
	}
	if fi, err := disk.Lstat("/dir/checkpoints"); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", fi, err)
	}
	if _, err := Check(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/none/file"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without Mkdir: %v", err)
	}
	_, err := Check(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/f", KeepPartial: true, CheckpointDir: "/none/cps"})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder for checkpoints without its parent: %v", err)
	}
}

// TestLongName checks that a name that leaves no room for a suffix has a working folder.
func TestLongName(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 255))
	d := ownerDestination(t, fsys.OS(), func(cfg *Config) { cfg.Path = path })
	unlock, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	if err := beginAndCommit(d); err != nil {
		t.Error(err)
	}
}

// TestPathThatNothingCanReplace checks that a file which no rename can replace is an error at once.
func TestPathThatNothingCanReplace(t *testing.T) {
	skipWithoutOwners(t)
	for want, prepare := range map[string]func(disk *memfs.FS) error{
		"mount point": func(disk *memfs.FS) error { return disk.Mount("/file") },
		"user 4242": func(disk *memfs.FS) error {
			disk.SetUser(1000)
			return errors.Join(disk.Chown("/", 0), disk.Chmod("/", 0o777|fs.ModeSticky), disk.Chown("/file", stranger))
		},
	} {
		disk := memfs.New(memfs.Config{})
		ownerFile(t, disk, "/file", "old", 0)
		if err := prepare(disk); err != nil {
			t.Fatal(err)
		}
		_, err := Check(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
