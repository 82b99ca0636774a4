package faultfs_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// all does every operation, in the order of faultfs.Kinds as far as that makes sense, and returns the errors by kind.
func all(f fsys.FS) map[faultfs.Kind]error {
	errs := make(map[faultfs.Kind]error)
	file, err := f.OpenFile("/file", os.O_RDWR|os.O_CREATE, 0o600)
	errs[faultfs.Open] = err
	if err == nil {
		_, errs[faultfs.Write] = file.WriteAt([]byte("0123456789"), 0)
		_, errs[faultfs.Read] = file.ReadAt(make([]byte, 4), 0)
		_, errs[faultfs.Stat] = file.Stat()
		errs[faultfs.Truncate] = file.Truncate(6)
		errs[faultfs.Reserve] = file.Reserve(0, 20)
		errs[faultfs.Sync] = file.Sync()
		errs[faultfs.Lock] = file.TryLock()
		errs[faultfs.Close] = file.Close()
	}
	_, errs[faultfs.Lstat] = f.Lstat("/file")
	errs[faultfs.Chtimes] = f.Chtimes("/file", time.Unix(1, 0))
	_, errs[faultfs.Resolve] = f.Resolve("/file")
	_, errs[faultfs.Free] = f.Free("/")
	errs[faultfs.Writable] = f.Writable("/")
	errs[faultfs.Mkdir] = f.Mkdir("/dir", 0o755)
	_, errs[faultfs.List] = f.List("/dir", 1)
	errs[faultfs.SyncDir] = f.SyncDir("/")
	errs[faultfs.Rename] = f.Rename("/file", "/moved")
	errs[faultfs.Remove] = f.Remove("/dir")
	return errs
}

func TestCounts(t *testing.T) {
	f := faultfs.New(memfs.New(memfs.Config{}))
	for kind, err := range all(f) {
		if err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if n := f.Count(); n != len(faultfs.Kinds()) || len(f.Ops()) != n {
		t.Errorf("%d operations, %d listed; want %d", n, len(f.Ops()), len(faultfs.Kinds()))
	}
	for _, kind := range faultfs.Kinds() {
		if n := f.Count(kind); n != 1 {
			t.Errorf("%s: %d", kind, n)
		}
	}
	if n := f.Count(faultfs.Open, faultfs.Close); n != 2 {
		t.Errorf("two kinds: %d", n)
	}
	if !f.Fired() {
		t.Error("no plan, and not all have fired")
	}
	var listed []string
	for _, op := range f.Ops() {
		listed = append(listed, op.String())
	}
	for _, want := range []string{"1 write /file [0,10)", "5 reserve /file 20", "17 rename /file to /moved"} {
		if !slices.Contains(listed, want) {
			t.Errorf("%q is not in %q", want, listed)
		}
	}
}

// TestEachKindFails checks that each kind fails alone, as the contract of fsys requires, and only once.
func TestEachKindFails(t *testing.T) {
	for _, kind := range faultfs.Kinds() {
		f := faultfs.New(memfs.New(memfs.Config{}), faultfs.Plan{Kind: kind, Err: syscall.EDQUOT})
		for k, err := range all(f) {
			if k != kind && errors.Is(err, syscall.EDQUOT) {
				t.Errorf("%v: %s: %v", f, k, err)
			}
			if k != kind {
				continue
			}
			_, path := errors.AsType[*fs.PathError](err)
			_, link := errors.AsType[*os.LinkError](err)
			if !errors.Is(err, syscall.EDQUOT) || !(path || link && kind == faultfs.Rename) || !strings.Contains(err.Error(), "/") {
				t.Errorf("%v: %v", f, err)
			}
		}
		if !f.Fired() {
			t.Errorf("%v", f)
		}
		if kind != faultfs.Open && kind != faultfs.Rename {
			continue
		}
		for k, err := range all(f) {
			if err != nil {
				t.Errorf("%v: %s the second time: %v", f, k, err)
			}
		}
	}
}

func TestAtNameForever(t *testing.T) {
	below := memfs.New(memfs.Config{})
	f := faultfs.New(below,
		faultfs.Plan{At: 1, Kind: faultfs.Mkdir, Name: "x", Err: syscall.EIO},
		faultfs.Plan{At: 2, Name: "y", Err: syscall.EROFS, Forever: true},
	)
	for _, step := range []struct {
		name string
		err  error
	}{
		{"/1x", nil}, {"/1y", nil}, {"/2", nil}, {"/2x", syscall.EIO}, {"/3x", nil}, {"/2y", nil}, {"/3y", syscall.EROFS},
		{"/4y", syscall.EROFS}, {"/4", nil},
	} {
		if err := f.Mkdir(step.name, 0o755); !errors.Is(err, step.err) || err == nil && step.err != nil {
			t.Errorf("%s: %v, want %v", step.name, err, step.err)
		}
	}
	if err := f.Rename("/4", "/5y"); !errors.Is(err, syscall.EROFS) {
		t.Errorf("rename to the name: %v", err)
	}
	want := "faultfs.Plan{At: 1, Kind: \"mkdir\", Name: \"x\", Err: syscall.Errno(5)} /* input/output error */, fired at 3 mkdir /2x\n"
	if got := f.String(); syscall.EIO == 5 && !strings.HasPrefix(got, want) {
		t.Errorf("%s\nwant %s", got, want)
	}
	if f.Count() != 10 {
		t.Errorf("%d operations", f.Count())
	}
}

func TestShortAndDone(t *testing.T) {
	below := memfs.New(memfs.Config{})
	for _, test := range []struct {
		plan faultfs.Plan
		n    int
		want string
	}{
		{faultfs.Plan{Kind: faultfs.Write}, 0, ""},
		{faultfs.Plan{Kind: faultfs.Write, Short: true}, 2, "01"},
		{faultfs.Plan{Kind: faultfs.Write, Short: true, Stop: true}, 2, "01"},
		{faultfs.Plan{Kind: faultfs.Write, Done: true}, 0, "01234"},
	} {
		f := faultfs.New(below, test.plan)
		file, err := f.OpenFile("/file", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		cause := error(syscall.EIO)
		if test.plan.Stop {
			cause = faultfs.ErrStopped
		}
		n, err := file.WriteAt([]byte("01234"), 0)
		if n != test.n || !errors.Is(err, cause) {
			t.Errorf("%v: %d, %v", f, n, err)
		}
		if got, err := fsys.ReadFile(below, "/file", 10); err != nil || string(got) != test.want {
			t.Errorf("%v: holds %q, %v; want %q", f, got, err, test.want)
		}
		file.Close()
	}
	f := faultfs.New(below, faultfs.Plan{Kind: faultfs.Rename, Done: true})
	if err := f.Rename("/file", "/moved"); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	if names := below.Names(); !slices.Equal(names, []string{"/moved"}) {
		t.Errorf("%v", names)
	}
}

// TestStop checks that after a stop nothing reaches the file system, except that open files are closed.
func TestStop(t *testing.T) {
	total := len(faultfs.Kinds())
	for i := range total {
		below := memfs.New(memfs.Config{})
		watch := faultfs.New(below)
		f := faultfs.New(watch, faultfs.Plan{At: i, Stop: true})
		all(f)
		if !f.Fired() {
			t.Fatal(f)
		}
		closes := watch.Count(faultfs.Close)
		if want := min(i, 1); closes != want {
			t.Errorf("%v: closed %d files, want %d", f, closes, want)
		}
		most := i
		if i > 0 && i <= 8 { // stopped while the file was open
			most++
		}
		if n := watch.Count(); n > most {
			t.Errorf("%v: %d operations reached the file system:\n%v", f, n, watch.Ops())
		}
		for kind, err := range all(f) {
			if !errors.Is(err, faultfs.ErrStopped) {
				t.Errorf("%v: then %s: %v", f, kind, err)
			}
		}
	}
	f := faultfs.New(memfs.New(memfs.Config{}))
	f.Stop()
	if _, err := f.Lstat("/"); !errors.Is(err, faultfs.ErrStopped) {
		t.Error(err)
	}
}

// TestCloseCloses checks that a failing Close leaves no open file.
func TestCloseCloses(t *testing.T) {
	below := memfs.New(memfs.Config{})
	for _, plan := range []faultfs.Plan{{Kind: faultfs.Close}, {Kind: faultfs.Close, Stop: true}} {
		f := faultfs.New(below, plan)
		file, err := f.OpenFile("/file", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := file.TryLock(); err != nil {
			t.Fatalf("%v: the last one is still open: %v", f, err)
		}
		if err := file.Close(); err == nil {
			t.Errorf("%v: no error", f)
		}
	}
}

// TestFailedSyncLoses checks that a sync that fails on memfs loses bytes, and that one of which only the answer is lost does
// not.
func TestFailedSyncLoses(t *testing.T) {
	for _, done := range []bool{false, true} {
		below := memfs.New(memfs.Config{})
		f := faultfs.New(below, faultfs.Plan{Kind: faultfs.Sync, Done: done})
		file, err := f.OpenFile("/file", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteAt([]byte("bytes"), 0); err != nil {
			t.Fatal(err)
		}
		if err := file.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("%v: %v", f, err)
		}
		if err := errors.Join(file.Sync(), file.Close(), f.SyncDir("/")); err != nil {
			t.Fatal(err)
		}
		want := map[bool]string{false: "\x00\x00\x00\x00\x00", true: "bytes"}[done]
		after := below.Crash(rand.New(rand.NewPCG(1, 1)))
		if got, err := fsys.ReadFile(after, "/file", 10); err != nil || string(got) != want {
			t.Errorf("%v: %q, %v; want %q", f, got, err, want)
		}
	}
}

func TestOnOp(t *testing.T) {
	below := memfs.New(memfs.Config{})
	f := faultfs.New(below, faultfs.Plan{Kind: faultfs.Mkdir, Name: "planned"})
	cause := errors.New("from the test")
	var seen []faultfs.Kind
	f.OnOp(func(op faultfs.Op) error {
		seen = append(seen, op.Kind)
		if op.Kind == faultfs.Remove {
			return cause
		}
		_ = f.Count() // no lock is held
		return below.Mkdir("/hook", 0o755)
	})
	if err := f.Mkdir("/dir", 0o755); err != nil {
		t.Error(err)
	}
	if err := f.Remove("/dir"); !errors.Is(err, cause) {
		t.Error(err)
	}
	if err := f.Mkdir("/planned", 0o755); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	if !slices.Equal(seen, []faultfs.Kind{faultfs.Mkdir, faultfs.Remove}) {
		t.Errorf("%v", seen)
	}
	if names := below.Names(); !slices.Equal(names, []string{"/dir/", "/hook/"}) {
		t.Errorf("%v", names)
	}
}

// TestConcurrent checks that operation i is one operation even if many begin at the same time.
func TestConcurrent(t *testing.T) {
	f := faultfs.New(memfs.New(memfs.Config{}), faultfs.Plan{At: 500})
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := 0
	for range 10 {
		wg.Go(func() {
			for range 100 {
				if err := f.Writable("/"); err != nil {
					mu.Lock()
					failed++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if failed != 1 || !f.Fired() || f.Count() != 1000 {
		t.Errorf("%d failed; %v", failed, f)
	}
	for i, op := range f.Ops() {
		if op.Index != i {
			t.Fatalf("operation %d is listed at %d", op.Index, i)
		}
	}
}

// TestHints checks that the operations which only help are counted and failed like others.
func TestHints(t *testing.T) {
	for _, kind := range faultfs.Hints() {
		f := faultfs.New(memfs.New(memfs.Config{}), faultfs.Plan{Kind: kind})
		file, err := f.OpenFile("/file", os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_, verr := f.Volume("/")
		_, merr := f.MountPoint("/file")
		for of, err := range map[faultfs.Kind]error{
			faultfs.Volume: verr, faultfs.MountPoint: merr, faultfs.Chmod: file.Chmod(0o644), faultfs.Chown: file.Chown(-1, -1), faultfs.WriteBack: file.WriteBack(0, 1), faultfs.DropCache: file.DropCache(0, 1),
		} {
			if errors.Is(err, syscall.EIO) != (of == kind) || of == kind && !strings.Contains(err.Error(), "/") {
				t.Errorf("%s planned, %s: %v", kind, of, err)
			}
		}
		if !f.Fired() || f.Count(kind) != 1 {
			t.Errorf("%v", f)
		}
	}
}

// TestDropCacheLoses checks that a write-back that failed makes Sync fail, now and at the next call.
func TestDropCacheLoses(t *testing.T) {
	below := memfs.New(memfs.Config{})
	f := faultfs.New(below, faultfs.Plan{Kind: faultfs.DropCache})
	file, err := f.OpenFile("/file", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("content"), 0); err != nil {
		t.Fatal(err)
	}
	if err := file.DropCache(0, 7); !errors.Is(err, syscall.EIO) {
		t.Errorf("DropCache: %v", err)
	}
	if err := file.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the next Sync: %v", err)
	}
	if err := errors.Join(file.Sync(), f.SyncDir("/")); err != nil {
		t.Errorf("the Sync after that: %v", err)
	}
	got, err := fsys.ReadFile(below.Crash(rand.New(rand.NewPCG(1, 1))), "/file", 100)
	if err != nil || string(got) == "content" {
		t.Errorf("the bytes that were lost: %q, %v", got, err)
	}
}
