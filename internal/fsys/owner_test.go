package fsys_test

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// TestReplacedMode checks that replacing a file never widens who may read and write it, and keeps an executable one.
func TestReplacedMode(t *testing.T) {
	for _, m := range []struct{ old, fresh, want fs.FileMode }{
		{0o600, 0o644, 0o600}, {0o644, 0o644, 0o644}, {0o666, 0o644, 0o644}, {0o640, 0o664, 0o640},
		{0o755, 0o644, 0o755}, {0o700, 0o644, 0o700}, {0o644, 0o600, 0o600}, {0o4755, 0o644, 0o755}, {0o444, 0o644, 0o444},
		{fs.ModeSetuid | 0o755, 0o644, 0o755},
	} {
		if got := fsys.ReplacedMode(m.old, m.fresh); got != m.want {
			t.Errorf("ReplacedMode(%v, %v) = %v, want %v", m.old, m.fresh, got, m.want)
		}
	}
}

// TestModeIn checks that working files in a sticky folder are accessible only to their owner.
func TestModeIn(t *testing.T) {
	f := memfs.New(memfs.Config{})
	for _, test := range []struct{ folder, perm, want fs.FileMode }{
		{0o755, 0o777, 0o777}, {0o777 | fs.ModeSticky, 0o777, 0o700}, {0o777 | fs.ModeSticky, 0o666, 0o600}, {0o777, 0o666, 0o666},
	} {
		if err := f.Chmod("/", test.folder); err != nil {
			t.Fatal(err)
		}
		fi, err := f.Lstat("/")
		if err != nil {
			t.Fatal(err)
		}
		if got := fsys.ModeIn(fi, test.perm); got != test.want {
			t.Errorf("in a folder %v: %v of %v, want %v", test.folder, got, test.perm, test.want)
		}
	}
}

// TestCheckReplaceable checks that a file that no rename can replace is detected beforehand, and that the error names its
// owner.
func TestCheckReplaceable(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no owners")
	}
	const we, other = 1000, 1001
	for _, test := range []struct {
		name         string
		user         uint32
		folder, file uint32 // owners
		mode         fs.FileMode
		mounted      bool
		cause        error
	}{
		{"our own file in /tmp", we, 0, we, 0o777 | fs.ModeSticky, false, nil},
		{"another's in /tmp", we, 0, other, 0o777 | fs.ModeSticky, false, syscall.EPERM},
		{"another's in a sticky folder of ours", we, we, other, 0o777 | fs.ModeSticky, false, nil},
		{"another's in a folder for all", we, 0, other, 0o777, false, nil},
		{"another's, for root", 0, other, other, 0o777 | fs.ModeSticky, false, nil},
		{"a mount point", we, we, we, 0o755, true, syscall.EBUSY},
		{"a mount point, for root", 0, 0, 0, 0o755, true, syscall.EBUSY},
	} {
		f := memfs.New(memfs.Config{})
		if err := f.Mkdir("/dir", 0o755); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, f, "/dir/file", oldContent)
		if err := errors.Join(f.Chmod("/dir", test.mode), f.Chown("/dir", test.folder), f.Chown("/dir/file", test.file)); err != nil {
			t.Fatal(err)
		}
		if test.mounted {
			if err := f.Mount("/dir/file"); err != nil {
				t.Fatal(err)
			}
		}
		f.SetUser(test.user)
		err := fsys.CheckReplaceable(f, "/dir/file")
		if !errors.Is(err, test.cause) || (err == nil) != (test.cause == nil) {
			t.Errorf("%s: %v, want %v", test.name, err, test.cause)
		}
		if test.cause != nil && !strings.Contains(err.Error(), "/dir/file") || test.cause == syscall.EPERM && !strings.Contains(err.Error(), "1001") {
			t.Errorf("%s: %v does not say whose file it is", test.name, err)
		}
		if test.cause == syscall.EPERM { // the same where nothing can be made to learn whose our files are
			again := fsys.CheckReplaceable(faultfs.New(f, faultfs.Plan{Kind: faultfs.Open, Err: syscall.EACCES}), "/dir/file")
			if again == nil || again.Error() != err.Error() {
				t.Errorf("%s, in a folder that is closed to us: %v, want %v", test.name, again, err)
			}
		}
		// And so it is.
		file, cerr := f.OpenFile("/dir/new", os.O_RDWR|os.O_CREATE, 0o600)
		if cerr != nil {
			t.Fatal(cerr)
		}
		if err := errors.Join(file.Close()); err != nil {
			t.Fatal(err)
		}
		if rerr := f.Rename("/dir/new", "/dir/file"); (rerr == nil) != (err == nil) || !errors.Is(rerr, test.cause) {
			t.Errorf("%s: the rename: %v, want %v", test.name, rerr, test.cause)
		}
	}
}

// TestOursOnOtherOwnersMount checks that files that we create count as ours on a mount that assigns all files to its own
// owner.
func TestOursOnOtherOwnersMount(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no owners")
	}
	below := memfs.New(memfs.Config{})
	below.SetUser(65534)
	mustWrite(t, below, "/squashed", "")
	mustWrite(t, below, "/theirs", "")
	if err := below.Chown("/theirs", 1001); err != nil {
		t.Fatal(err)
	}
	f := rootSquash{below}
	for name, want := range map[string]bool{"/squashed": true, "/theirs": false} {
		fi, err := f.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		if ours, err := fsys.Ours(f, "/", fi); ours != want || err != nil {
			t.Errorf("%s is ours: %t, %v", name, ours, err)
		}
	}
	if names := below.Names(); len(names) != 2 {
		t.Errorf("left %v", names)
	}
	full := faultfs.New(f, faultfs.Plan{Kind: faultfs.Open, Err: syscall.EACCES})
	fi, err := f.Lstat("/theirs")
	if err != nil {
		t.Fatal(err)
	}
	if ours, err := fsys.Ours(full, "/", fi); ours || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("where nothing can be made: %t, %v", ours, err)
	}
}

// rootSquash is a mount on which the files of user 0 belong to another.
type rootSquash struct{ fsys.FS }

func (rootSquash) User() (uint32, bool) { return 0, true }

// TestSetTimeRounds checks that SetTime returns the time as the file system stores it.
func TestSetTimeRounds(t *testing.T) {
	f := memfs.New(memfs.Config{TimeStep: 2 * time.Second})
	mustWrite(t, f, "/file", "")
	odd := time.Date(2020, 1, 2, 3, 4, 5, 6, time.UTC)
	if is, err := fsys.SetTime(f, "/file", odd); err != nil || !is.Equal(odd.Truncate(2*time.Second)) {
		t.Errorf("%v, %v", is, err)
	}
	for _, kind := range []faultfs.Kind{faultfs.Chtimes, faultfs.Lstat} {
		if _, err := fsys.SetTime(faultfs.New(f, faultfs.Plan{Kind: kind, Err: syscall.EPERM}), "/file", odd); !errors.Is(err, syscall.EPERM) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestWriteFileWithoutSync checks that WriteFile works on a file system that cannot sync.
func TestWriteFileWithoutSync(t *testing.T) {
	f := memfs.New(memfs.Config{NoSync: true, NoSyncDir: true})
	mustWrite(t, f, "/file", oldContent)
	if got := mustRead(t, f, "/file"); got != oldContent {
		t.Errorf("holds %q", got)
	}
}

// TestPlanted checks that only a file of another user than root and the folder's owner in a sticky folder may be a stranger's.
func TestPlanted(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no owners")
	}
	const we, other, third = 1000, 1001, 1002
	for _, test := range []struct {
		name             string
		user, file, over uint32 // over: the folder's owner
		mode             fs.FileMode
		want             bool
	}{
		{"our own in /tmp", we, we, 0, 0o777 | fs.ModeSticky, false},
		{"another's in /tmp", we, other, 0, 0o777 | fs.ModeSticky, true},
		{"root's in /tmp", we, 0, 0, 0o777 | fs.ModeSticky, false},
		{"another's in /tmp, for root", 0, other, 0, 0o777 | fs.ModeSticky, true},
		{"another's in our own sticky folder", we, other, we, 0o777 | fs.ModeSticky, true},
		{"another's in a group's sticky folder", we, other, third, 0o775 | fs.ModeSticky, true},
		{"its owner's in a group's sticky folder", we, other, other, 0o775 | fs.ModeSticky, false},
		{"its owner's in a sticky folder, for root", 0, other, other, 0o777 | fs.ModeSticky, false},
		{"root's in another's sticky folder", we, 0, other, 0o777 | fs.ModeSticky, false},
		{"another's in a group's folder", we, other, 0, 0o775, false},
	} {
		f := memfs.New(memfs.Config{})
		mustWrite(t, f, "/file", oldContent)
		if err := errors.Join(f.Chmod("/", test.mode), f.Chown("/", test.over), f.Chown("/file", test.file)); err != nil {
			t.Fatal(err)
		}
		f.SetUser(test.user)
		fi, err := f.Lstat("/file")
		if err != nil {
			t.Fatal(err)
		}
		if planted, err := fsys.Planted(f, "/", fi); planted != test.want || err != nil {
			t.Errorf("%s: %t, %v", test.name, planted, err)
		}
	}
	below := memfs.New(memfs.Config{})
	below.SetUser(65534)
	mustWrite(t, below, "/squashed", "")
	if err := errors.Join(below.Chmod("/", 0o777|fs.ModeSticky), below.Chown("/", 0)); err != nil {
		t.Fatal(err)
	}
	fi, err := below.Lstat("/squashed")
	if err != nil {
		t.Fatal(err)
	}
	if planted, err := fsys.Planted(rootSquash{below}, "/", fi); planted || err != nil {
		t.Errorf("a file of ours where root is squashed: %t, %v", planted, err)
	}
	// Where nothing can be made, which would tell, it is the effective user's or not.
	for cause, want := range map[error]error{syscall.EACCES: nil, syscall.EPERM: nil, syscall.EROFS: nil, syscall.EIO: syscall.EIO} {
		f := faultfs.New(rootSquash{below}, faultfs.Plan{Kind: faultfs.Open, Err: cause})
		if planted, err := fsys.Planted(f, "/", fi); planted != (want == nil) || !errors.Is(err, want) {
			t.Errorf("where root is squashed and making a file is %v: %t, %v", cause, planted, err)
		}
	}
}
