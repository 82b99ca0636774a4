package fsys_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/fstest"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

const (
	oldContent = "the old content, which is longer"
	newContent = "the new content"
)

// TestWriteFileFaults checks WriteFile while each of its operations fails once, in every way. The name has the old content
// or the new, the error names the cause, no temporary is left, and the next run without faults succeeds.
func TestWriteFileFaults(t *testing.T) {
	tried := 0
	for _, leftover := range []bool{false, true} {
		for _, cause := range []error{syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EACCES} {
			for _, shape := range []faultfs.Plan{{}, {Short: true}, {Done: true}, {Forever: true}} {
				for i := 0; ; i++ {
					plan := shape
					plan.At, plan.Err = i, cause
					if !writeFileFault(t, plan, leftover) {
						break
					}
					tried++
				}
			}
		}
	}
	t.Logf("%d faults", tried)
}

// writeFileFault reports whether the fault fired.
func writeFileFault(t *testing.T, plan faultfs.Plan, leftover bool) bool {
	t.Helper()
	below := memfs.New(memfs.Config{})
	mustWrite(t, below, "/file", oldContent)
	if leftover {
		mustWrite(t, below, "/file"+fsys.TempSuffix, "half of someth")
	}
	f := faultfs.New(below, plan)
	err := fsys.WriteFile(f, "/file", []byte(newContent), 0o600)
	if !f.Fired() {
		if err != nil {
			t.Fatalf("%v: error %v without a fault", f, err)
		}
		return false
	}
	if !errors.Is(err, plan.Err) || !strings.ContainsAny(err.Error(), `/\`) {
		t.Errorf("%v: error %v", f, err)
	}
	got := mustRead(t, below, "/file")
	op := f.Ops()[plan.At]
	replaced := op.Kind == faultfs.SyncDir || op.Kind == faultfs.Rename && plan.Done
	if want := map[bool]string{false: oldContent, true: newContent}[replaced]; got != want {
		t.Errorf("%v: holds %q, want %q", f, got, want)
	}
	// Where removing fails too, or where the open claims to have made nothing, the next run tidies up.
	if !plan.Forever && !plan.Done && !leftover && len(below.Names()) != 1 {
		t.Errorf("%v: left %v", f, below.Names())
	}
	if err := fsys.WriteFile(below, "/file", []byte(newContent), 0o600); err != nil {
		t.Errorf("%v: then %v", f, err)
	}
	if got := mustRead(t, below, "/file"); got != newContent || len(below.Names()) != 1 {
		t.Errorf("%v: then %q and %v", f, got, below.Names())
	}
	return true
}

// TestWriteFileCrash checks a loss of power at every operation of WriteFile. The disk keeps any of the bytes that were not
// synced.
func TestWriteFileCrash(t *testing.T) {
	const seeds = 1500
	points, states := 0, map[string]int{}
	for i := 0; ; i++ {
		below := durable(t, oldContent)
		f := faultfs.New(below, faultfs.Plan{At: i, Stop: true})
		err := fsys.WriteFile(f, "/file", []byte(newContent), 0o600)
		for seed := range uint64(seeds) {
			after := below.Crash(rand.New(rand.NewPCG(seed, uint64(i))))
			got := mustRead(t, after, "/file")
			if got != newContent && (got != oldContent || err == nil) {
				t.Fatalf("%v, seed %d: returned %v, holds %q", f, seed, err, got)
			}
			states[got]++
			points++
			if seed%100 == 0 { // what a crash left does not stand in the way
				if err := fsys.WriteFile(after, "/file", []byte("third"), 0o600); err != nil {
					t.Fatalf("%v, seed %d: then %v", f, seed, err)
				}
				if got := mustRead(t, after, "/file"); got != "third" || len(after.Names()) != 1 {
					t.Fatalf("%v, seed %d: then %q and %v", f, seed, got, after.Names())
				}
			}
		}
		if !f.Fired() {
			break
		}
		if !errors.Is(err, faultfs.ErrStopped) {
			t.Errorf("%v: error %v", f, err)
		}
	}
	t.Logf("%d crashes: %v", points, states)
	if len(states) != 2 {
		t.Error("the crashes do not reach both states")
	}
}

// TestCrashesFindMissingSyncs checks that the same crashes detect a WriteFile that omits a sync. Otherwise the test above
// proves nothing.
func TestCrashesFindMissingSyncs(t *testing.T) {
	for _, left := range []faultfs.Kind{faultfs.Sync, faultfs.SyncDir} {
		wrong := map[string]int{}
		for seed := range uint64(500) {
			below := durable(t, oldContent)
			if err := fsys.WriteFile(forgetful{below, left}, "/file", []byte(newContent), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := mustRead(t, below.Crash(rand.New(rand.NewPCG(seed, 0))), "/file"); got != newContent {
				wrong[got]++
			}
		}
		t.Logf("without %s: %v", left, wrong)
		if len(wrong) == 0 {
			t.Errorf("a WriteFile without %s passes", left)
		}
	}
}

// forgetful says yes to one kind of sync and does nothing.
type forgetful struct {
	fsys.FS
	left faultfs.Kind
}

func (f forgetful) SyncDir(name string) error {
	if f.left == faultfs.SyncDir {
		return nil
	}
	return f.FS.SyncDir(name)
}

func (f forgetful) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	file, err := f.FS.OpenFile(name, flag, perm)
	if err == nil && f.left == faultfs.Sync {
		file = forgetfulFile{file}
	}
	return file, err
}

type forgetfulFile struct{ fsys.File }

func (forgetfulFile) Sync() error { return nil }

// TestWriteFileKill checks that a process killed at any operation leaves the old content or the new, and nothing that
// disturbs the next process.
func TestWriteFileKill(t *testing.T) {
	for i := 0; ; i++ {
		below := memfs.New(memfs.Config{})
		mustWrite(t, below, "/file", oldContent)
		f := faultfs.New(below, faultfs.Plan{At: i, Stop: true, Short: true})
		_ = fsys.WriteFile(f, "/file", []byte(newContent), 0o600) // it did not live to see the error
		after := below.Kill()
		if got := mustRead(t, after, "/file"); got != oldContent && got != newContent {
			t.Errorf("%v: holds %q", f, got)
		}
		if err := fsys.WriteFile(after, "/file", []byte("third"), 0o600); err != nil || len(after.Names()) != 1 {
			t.Errorf("%v: then %v, %v", f, err, after.Names())
		}
		if !f.Fired() {
			break
		}
	}
}

// TestWriteFileLongNames checks that a file is replaced whose name is as long as the file system allows, on a real one and with the
// limit of eCryptfs. A process killed at any operation leaves nothing that the next one does not remove.
func TestWriteFileLongNames(t *testing.T) {
	for n := 130; n <= 143; n++ {
		name := "/" + strings.Repeat("n", n)
		for i := 0; ; i++ {
			below := memfs.New(memfs.Config{MaxName: 143})
			f := faultfs.New(below, faultfs.Plan{At: i, Stop: true, Short: true})
			err := fsys.WriteFile(f, name, []byte(newContent), 0o600)
			after := below.Kill()
			left := after.Names()
			if err := fsys.WriteFile(after, name, []byte("third"), 0o600); err != nil || len(after.Names()) != 1 || mustRead(t, after, name) != "third" {
				t.Fatalf("%d bytes, %v: %v left, then %v, %v", n, f, left, err, after.Names())
			}
			if !f.Fired() {
				if err != nil {
					t.Fatalf("%d bytes: %v", n, err)
				}
				break
			}
		}
	}
	dir := t.TempDir()
	v, err := fsys.OS().Volume(dir)
	if err != nil {
		t.Fatal(err)
	}
	for n := max(v.MaxName-15, 1); n <= v.MaxName; n++ {
		name := filepath.Join(dir, strings.Repeat("n", n))
		for _, left := range []bool{false, true} { // by a process that was killed
			if left {
				if err := os.WriteFile(fsys.TempName(name), []byte("half of someth"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := fsys.WriteFile(fsys.OS(), name, []byte(newContent), 0o600); err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			if got := mustRead(t, fsys.OS(), name); got != newContent {
				t.Errorf("%d bytes: %q", n, got)
			}
			if there, err := os.ReadDir(dir); err != nil || len(there) != 1 {
				t.Errorf("%d bytes: %v, %v", n, there, err)
			}
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := fsys.WriteFile(fsys.OS(), filepath.Join(dir, strings.Repeat("n", v.MaxName+1)), nil, 0o600); err == nil {
		t.Error("a name that is too long was written")
	}
	if there, err := os.ReadDir(dir); err != nil || len(there) > 0 {
		t.Errorf("a name that is too long left %v, %v", there, err)
	}
}

// TestWriteFilePlantedTemporary checks that a temporary that someone planted is removed and not written through.
func TestWriteFilePlantedTemporary(t *testing.T) {
	dir := t.TempDir()
	name, victim := filepath.Join(dir, "file"), filepath.Join(dir, "victim")
	temp := name + fsys.TempSuffix
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	plants := map[string]func() error{
		"file":      func() error { return os.WriteFile(temp, []byte("left"), 0o400) },
		"hard link": func() error { return os.Link(victim, temp) },
		"link":      func() error { return fstest.Symlink("victim", temp) },
		"dangling":  func() error { return fstest.Symlink("new", temp) },
	}
	for kind, plant := range special {
		plants[kind] = func() error { return plant(temp) }
	}
	for kind, plant := range plants {
		if err := plant(); err != nil {
			t.Logf("%s: %v", kind, err)
			continue
		}
		if err := fsys.WriteFile(fsys.OS(), name, []byte(kind), 0o600); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if got := mustRead(t, fsys.OS(), name); got != kind {
			t.Errorf("%s: holds %q", kind, got)
		}
	}
	if err := os.Mkdir(temp, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := fsys.WriteFile(fsys.OS(), name, nil, 0o600); !errors.Is(err, fsys.ErrNotRegular) || !strings.Contains(err.Error(), temp) {
		t.Errorf("folder: %v", err)
	}
	if got := mustRead(t, fsys.OS(), victim); got != "precious" {
		t.Errorf("the victim holds %q", got)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "file")
	mustWrite(t, fsys.OS(), name, "12345")
	for _, test := range []struct {
		limit int64
		err   error
	}{{math.MaxInt64, nil}, {6, nil}, {5, nil}, {4, fsys.ErrTooLarge}, {0, fsys.ErrTooLarge}} {
		got, err := fsys.ReadFile(fsys.OS(), name, test.limit)
		if !errors.Is(err, test.err) || err == nil && string(got) != "12345" || err != nil && got != nil {
			t.Errorf("limit %d: %q, %v", test.limit, got, err)
		}
	}
	if _, err := fsys.ReadFile(fsys.OS(), filepath.Join(dir, "none"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	for kind, plant := range special {
		name := filepath.Join(dir, kind)
		if err := plant(name); err != nil {
			t.Logf("%s: %v", kind, err)
			continue
		}
		if _, err := fsys.ReadFile(fsys.OS(), name, 1); !errors.Is(err, fsys.ErrNotRegular) || !strings.Contains(err.Error(), kind) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestReadFileSparse checks that a sparse file of a terabyte needs no more memory than the limit.
func TestReadFileSparse(t *testing.T) {
	f := memfs.New(memfs.Config{})
	file, err := f.OpenFile("/file", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Truncate(1<<40), file.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := fsys.ReadFile(f, "/file", 64<<10); !errors.Is(err, fsys.ErrTooLarge) {
		t.Error(err)
	}
}

func TestReadFileFaults(t *testing.T) {
	below := memfs.New(memfs.Config{})
	mustWrite(t, below, "/file", oldContent)
	for i := 0; ; i++ {
		f := faultfs.New(below, faultfs.Plan{At: i})
		got, err := fsys.ReadFile(f, "/file", 1000)
		if !f.Fired() {
			if err != nil || string(got) != oldContent {
				t.Errorf("%q, %v", got, err)
			}
			break
		}
		if !errors.Is(err, syscall.EIO) || got != nil {
			t.Errorf("%v: %q, %v", f, got, err)
		}
	}
}

// durable is a file system whose /file is certain to be on the disk.
func durable(t *testing.T, content string) *memfs.FS {
	t.Helper()
	f := memfs.New(memfs.Config{})
	mustWrite(t, f, "/file", content)
	return f
}

func mustWrite(t *testing.T, f fsys.FS, name, content string) {
	t.Helper()
	if err := fsys.WriteFile(f, name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mustRead(t *testing.T, f fsys.FS, name string) string {
	t.Helper()
	data, err := fsys.ReadFile(f, name, 1<<20)
	if err != nil {
		return fmt.Sprint("error: ", err)
	}
	return string(data)
}
