package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

const path = "/m"

// put makes a file.
func put(t *testing.T, f fsys.FS, name, content string) {
	t.Helper()
	file, err := f.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err == nil {
		_, err = file.WriteAt([]byte(content), 0)
	}
	if err == nil {
		err = errors.Join(file.Sync(), file.Close(), f.SyncDir("/"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// get returns the content of a file; "" if there is none.
func get(t *testing.T, f fsys.FS, name string) string {
	t.Helper()
	data, err := fsys.ReadFile(f, name, 64<<20)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

// someLines are more than the writer collects before it writes.
func someLines(n int) (lines []Line) {
	for i := range n {
		lines = append(lines, Line{
			Name: fmt.Sprintf("a folder/%d\n\u2028\"\\<&>", i), Key: fmt.Sprint("key", i), Size: int64(i) << 40, ETag: `"E"`, Version: "v",
			CRC64: ^uint64(i), LastModified: time.Unix(int64(i), 0).UTC(), SHA256: strings.Repeat("0f", 32),
		})
	}
	return lines
}

// write writes lines as a call does. It returns what Commit returns.
func write(f fsys.FS, lines []Line) (unsynced, err error) {
	w, err := Create(f, path)
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		w.Add(l)
	}
	return w.Commit()
}

// read returns the lines of a manifest.
func read(t *testing.T, text string) (lines []Line) {
	t.Helper()
	for l, err := range Read(strings.NewReader(text)) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l.Line)
	}
	return lines
}

// TestLinesComeBack checks that what was written is read again, each name in one line, and that manifests can be concatenated.
func TestLinesComeBack(t *testing.T) {
	f := memfs.New(memfs.Config{})
	lines := someLines(1000)
	if _, err := write(f, lines); err != nil {
		t.Fatal(err)
	}
	text := get(t, f, path)
	if n := strings.Count(text, "\n"); n != len(lines) {
		t.Errorf("%d lines, want %d", n, len(lines))
	}
	if got := read(t, text+text); !slices.Equal(got, append(lines, lines...)) {
		t.Errorf("%d lines came back", len(got))
	}
	if names := f.Names(); !slices.Equal(names, []string{path}) {
		t.Errorf("left: %v", names)
	}
}

const oldManifest = `{"name":"old","key":"k","size":1,"crc64":"2"}` + "\n"

// TestEachFault fails each operation of a writer, once and in every way: the path has the old manifest or the whole new one, the
// error names the cause, and the next writer succeeds and leaves nothing else.
func TestEachFault(t *testing.T) {
	tried := 0
	lines := someLines(600)
	whole := memfs.New(memfs.Config{})
	if _, err := write(whole, lines); err != nil {
		t.Fatal(err)
	}
	want := get(t, whole, path)
	for _, shape := range []faultfs.Plan{{}, {Short: true}, {Done: true}, {Forever: true}, {Stop: true}} {
		for i := 0; ; i++ {
			below := memfs.New(memfs.Config{})
			put(t, below, path, oldManifest)
			plan := shape
			plan.At, plan.Err = i, syscall.EIO
			f := faultfs.New(below, plan)
			unsynced, err := write(f, lines)
			if !f.Fired() {
				if err != nil {
					t.Fatalf("%v without a fault", err)
				}
				break
			}
			tried++
			if got := get(t, below, path); got != oldManifest && got != want {
				t.Fatalf("%v: %.200q", f, got)
			} else if err == nil && got != want {
				t.Fatalf("%v: no error, and the old manifest", f)
			} else if unsynced != nil && got != want {
				t.Fatalf("%v: not synced, and the old manifest: %v", f, unsynced)
			}
			after := below.Kill()
			if _, err := write(after, lines); err != nil || get(t, after, path) != want {
				t.Fatalf("after %v: %v", f, err)
			}
			if names := after.Names(); !slices.Equal(names, []string{path}) {
				t.Errorf("after %v: left: %v", f, names)
			}
		}
	}
	t.Logf("%d faults", tried)
	if tried < 50 {
		t.Error("too few faults were tried")
	}
}

// foldersFS cannot sync folders.
type foldersFS struct {
	fsys.FS
	err error
}

func (f foldersFS) SyncDir(string) error { return f.err }

// TestFolderThatCannotBeSynced checks that this is no error once the manifest is in place, unless it is not at the path.
func TestFolderThatCannotBeSynced(t *testing.T) {
	lines := someLines(3)
	for _, test := range []struct {
		err, unsynced, want error
	}{
		{syscall.EIO, syscall.EIO, nil},
		{syscall.EPERM, syscall.EPERM, nil},
		{syscall.EACCES, syscall.EACCES, nil},
		{errors.ErrUnsupported, nil, nil},
		{fsys.ErrMoved, nil, fsys.ErrMoved},
	} {
		f := memfs.New(memfs.Config{})
		put(t, f, path, oldManifest)
		unsynced, err := write(foldersFS{f, test.err}, lines)
		if unsynced != test.unsynced || !errors.Is(err, test.want) {
			t.Errorf("%v: %v, %v", test.err, unsynced, err)
		}
		if names, n := f.Names(), len(read(t, get(t, f, path))); n != len(lines) || !slices.Equal(names, []string{path}) {
			t.Errorf("%v: %d lines; there are %v", test.err, n, names)
		}
	}
}

// TestEachCrash loses power after each operation of a writer: the path has the old manifest or the whole new one, the new one for
// certain after Commit, and the next writer succeeds.
func TestEachCrash(t *testing.T) {
	lines := someLines(600)
	whole := memfs.New(memfs.Config{})
	if _, err := write(whole, lines); err != nil {
		t.Fatal(err)
	}
	want := get(t, whole, path)
	seen := map[string]int{}
	for i := 0; ; i++ {
		below := memfs.New(memfs.Config{})
		put(t, below, path, oldManifest)
		f := faultfs.New(below, faultfs.Plan{At: i, Stop: true})
		unsynced, err := write(f, lines)
		for seed := range uint64(20) {
			disk := below.Crash(rand.New(rand.NewPCG(seed, uint64(i))))
			switch got := get(t, disk, path); {
			case got == want:
				seen["new"]++
			case got == oldManifest && (err != nil || unsynced != nil):
				seen["old"]++
			default:
				t.Fatalf("operation %d, seed %d, %v: %.200q", i, seed, err, got)
			}
			if _, err := write(disk, lines); err != nil || get(t, disk, path) != want {
				t.Fatalf("after operation %d, seed %d: %v", i, seed, err)
			}
		}
		if !f.Fired() {
			break
		}
	}
	t.Logf("crashes: %v", seen)
	if seen["new"] == 0 || seen["old"] == 0 {
		t.Error("one of the two was never there")
	}
}

// TestWhatIsNotReplaced checks that what is no manifest stays, and what others own, and that two writers exclude each other.
func TestWhatIsNotReplaced(t *testing.T) {
	for content, allowed := range map[string]bool{"": true, oldManifest: true, "{}\n": false, `{"nam`: false, "\x00": false, "some text": false} {
		f := memfs.New(memfs.Config{})
		put(t, f, path, content)
		_, err := write(f, someLines(1))
		if (err == nil) != allowed || !allowed && (get(t, f, path) != content || len(f.Names()) != 1) {
			t.Errorf("%q: %v, %q", content, err, f.Names())
		}
	}
	f := memfs.New(memfs.Config{})
	f.SetUser(1000)
	put(t, f, path+tempSuffix, "of another user")
	if err := f.Chown(path+tempSuffix, 4242); err != nil {
		t.Fatal(err)
	}
	if _, err := write(f, nil); err == nil || !strings.Contains(err.Error(), path+tempSuffix) {
		t.Error(err)
	}
	if get(t, f, path+tempSuffix) != "of another user" {
		t.Error("the file of another user was touched")
	}

	f = memfs.New(memfs.Config{})
	w, err := Create(f, path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(f, path); !errors.Is(err, fsys.ErrLocked) {
		t.Errorf("the second writer: %v", err)
	}
	w.Add(Line{Name: "a"})
	if err := w.Discard(); err != nil || len(f.Names()) != 0 {
		t.Errorf("%v, left: %v", err, f.Names())
	}
	if _, err := write(f, nil); err != nil || get(t, f, path) != "" {
		t.Error(err)
	}
}

// TestManifestModes checks that the mode of a manifest that is replaced is not widened.
func TestManifestModes(t *testing.T) {
	f := memfs.New(memfs.Config{})
	put(t, f, path, oldManifest)
	if err := f.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := write(f, someLines(1)); err != nil {
		t.Fatal(err)
	}
	if fi, err := f.Lstat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

// FuzzRead checks that any bytes are lines or an error with a number, and that lines which are read are the same when written.
func FuzzRead(f *testing.F) {
	for _, text := range []string{oldManifest, oldManifest + "\n", oldManifest[:20], `{"name":"a","size":9,"crc64":"18446744073709551615","sha256":""}` + "\n", "\xff\n", "[]\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var lines []Line
		for l, err := range Read(strings.NewReader(text)) {
			if err != nil {
				if !strings.HasPrefix(err.Error(), fmt.Sprintf("line %d: ", len(lines)+1)) {
					t.Errorf("%q: %v after %d lines", text, err, len(lines))
				}
				return
			}
			if l.N != len(lines)+1 {
				t.Errorf("%q: line %d, want %d", text, l.N, len(lines)+1)
			}
			lines = append(lines, l.Line)
		}
		disk := memfs.New(memfs.Config{})
		if _, err := write(disk, lines); err != nil {
			t.Skip(err) // a time that JSON cannot hold
		}
		for i, l := range read(t, get(t, disk, path)) {
			if !l.LastModified.Equal(lines[i].LastModified) {
				t.Errorf("%v became %v", lines[i].LastModified, l.LastModified)
			}
			l.LastModified = lines[i].LastModified
			if l != lines[i] {
				t.Errorf("%+v became %+v", lines[i], l)
			}
		}
	})
}
