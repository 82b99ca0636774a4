package tree

import (
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
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

// rootSquash is a mount on which the files of user 0 belong to another.
type rootSquash struct{ fsys.FS }

func (rootSquash) User() (uint32, bool) { return 0, true }

const nobody, stranger = 65534, 4242

// squashed returns a disk with a sticky folder, sub, of a user, and files in it: one of ours, where root is squashed, and one of
// a stranger.
func squashed(t *testing.T, of uint32) *memfs.FS {
	t.Helper()
	disk := memfs.New(memfs.Config{})
	disk.SetUser(nobody)
	err := errors.Join(disk.Mkdir("sub", 0o777), disk.Chmod("sub", 0o777|fs.ModeSticky), disk.Chown("sub", of), disk.Chown("/", 0))
	for _, name := range []string{"sub/ours", "sub/theirs"} {
		err = errors.Join(err, fsys.WriteFile(disk, name, nil, 0o666))
	}
	if err = errors.Join(err, disk.Chown("sub/theirs", stranger)); err != nil {
		t.Fatal(err)
	}
	return disk
}

// closedSub is a disk on which no file can be made in the folder sub.
type closedSub struct {
	fsys.FS
	err error
}

func (f closedSub) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	if filepath.Dir(name) == "sub" {
		return nil, &fs.PathError{Op: "open", Path: name, Err: f.err}
	}
	return f.FS.OpenFile(name, flag, perm)
}

// mustBePlanted checks which of the files of a squashed disk may be a stranger's.
func mustBePlanted(t *testing.T, f *Folder, want ...string) {
	t.Helper()
	var planted []string
	for _, name := range []string{"sub/ours", "sub/theirs"} {
		fi, err := f.File(name)
		if err != nil {
			t.Fatal(err)
		}
		is, err := f.Planted(name, fi)
		if err != nil {
			t.Error(err)
		}
		if is {
			planted = append(planted, name)
		}
	}
	if !slices.Equal(planted, want) {
		t.Errorf("planted: %q, want %q", planted, want)
	}
}

// TestPlantedWhereRootIsSquashed checks that files of our making are told from a stranger's by the owner that they get, and by the
// effective user where none can be made, or none may be and an earlier call has left nothing that tells.
func TestPlantedWhereRootIsSquashed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no owners")
	}
	log := slog.New(slog.DiscardHandler)
	open := func(disk fsys.FS) *Folder {
		f, err := Open(rootSquash{disk}, "/shared", log)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Close)
		return f
	}
	mustBePlanted(t, open(squashed(t, 0)), "sub/theirs")
	for _, refused := range []error{syscall.EACCES, syscall.EPERM, syscall.EROFS} {
		mustBePlanted(t, open(closedSub{squashed(t, 0), refused}), "sub/ours", "sub/theirs")
	}
	broken := open(closedSub{squashed(t, 0), syscall.EIO})
	fi, err := broken.File("sub/ours")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := broken.Planted("sub/ours", fi); !errors.Is(err, syscall.EIO) {
		t.Errorf("on a broken disk: %v", err)
	}

	// Who owns the sticky folder can replace what is in it anyway. On some mounts that is the owner of all files.
	mustBePlanted(t, open(closedSub{squashed(t, nobody), syscall.EACCES}), "sub/theirs")
	mustBePlanted(t, Look(rootSquash{squashed(t, nobody)}, "/shared", false, log), "sub/theirs")
	mustBePlanted(t, open(squashed(t, stranger)))
	disk := squashed(t, stranger) // who has made it in a sticky folder
	if err := disk.Chmod("/", 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	mustBePlanted(t, open(disk), "sub/theirs")

	disk = squashed(t, 0)
	mustBePlanted(t, Look(rootSquash{disk}, "/shared", false, log), "sub/ours", "sub/theirs")
	if err := disk.Mkdir(WorkDir, 0o700); err != nil {
		t.Fatal(err)
	}
	before := disk.Names()
	mustBePlanted(t, Look(rootSquash{disk}, "/shared", false, log), "sub/theirs")
	if after := disk.Names(); !slices.Equal(after, before) {
		t.Errorf("a look made files: %q", after)
	}
}
