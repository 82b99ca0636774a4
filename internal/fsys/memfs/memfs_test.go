package memfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// TestLikeOS checks that random operations have the same outcome here and on the real file system: the kind of error, and
// everything that is visible.
func TestLikeOS(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the model is Linux")
	}
	operations := 0
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 0))
		real := &actor{fs: fsys.OS(), dir: t.TempDir(), symlink: os.Symlink, link: os.Link}
		mem := memfs.New(memfs.Config{})
		model := &actor{fs: mem, dir: "/", symlink: mem.Symlink, link: mem.Link}
		var log []string
		todo := []op{{kind: "mkdir", a: "d"}, {kind: "mkdir", a: "d/d"}}
		for len(todo) < 80 {
			todo = append(todo, randomOp(rng))
		}
		for _, op := range todo[2*rng.IntN(2):] {
			got, want := op.do(model), op.do(real)
			log = append(log, fmt.Sprintf("%v: %s", op, want))
			operations++
			if got != want {
				t.Fatalf("seed %d: %v: %s, on the real file system %s\n%s", seed, op, got, want, strings.Join(log, "\n"))
			}
		}
		for _, a := range []*actor{real, model} {
			for _, f := range a.open {
				if err := f.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
	t.Logf("%d operations", operations)
}

type actor struct {
	fs            fsys.FS
	dir           string
	open          []fsys.File
	symlink, link func(a, b string) error
}

func (a *actor) path(name string) string { return filepath.Join(a.dir, name) }

type op struct {
	kind       string
	a, b       string
	flag, file int
	off, size  int64
}

var names = []string{"a", "b", "c", "d", "d/a", "d/b", "d/d", "d/d/a", "a/x", "./d/../b"}

func randomOp(rng *rand.Rand) op {
	pick := func(from []string) string { return from[rng.IntN(len(from))] }
	kinds := []string{
		"open", "open", "open", "write", "write", "write", "read", "truncate", "reserve", "close", "stat", "lock",
		"lstat", "mkdir", "rename", "rename", "remove", "remove", "symlink", "link", "syncdir", "resolve", "content", "content",
	}
	flags := []int{
		os.O_RDONLY, os.O_RDWR, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_CREATE | os.O_EXCL,
		os.O_RDWR | os.O_TRUNC, os.O_RDWR | os.O_CREATE | os.O_TRUNC,
	}
	return op{
		kind: pick(kinds), a: pick(names), b: pick(names), flag: flags[rng.IntN(len(flags))], file: rng.IntN(100),
		off: rng.Int64N(3) * 4000, size: rng.Int64N(10_000),
	}
}

// do is what happened, in words.
func (o op) do(a *actor) string {
	var f fsys.File
	i := -1
	switch o.kind {
	case "write", "read", "truncate", "reserve", "close", "stat", "lock":
		if len(a.open) == 0 {
			return "no file"
		}
		i = o.file % len(a.open)
		f = a.open[i]
	}
	switch o.kind {
	case "open":
		f, err := a.fs.OpenFile(a.path(o.a), o.flag, 0o644)
		if err == nil {
			a.open = append(a.open, f)
		}
		return word(err)
	case "write":
		data := bytes.Repeat([]byte{byte('a' + o.size%26)}, int(o.size))
		n, err := f.WriteAt(data, o.off)
		return fmt.Sprint(n, word(err))
	case "read":
		data := make([]byte, o.size)
		n, err := f.ReadAt(data, o.off)
		return fmt.Sprintf("%d %s %x", n, word(err), sum(data[:n]))
	case "truncate":
		return word(f.Truncate(o.size))
	case "reserve":
		return word(f.Reserve(0, o.size))
	case "lock":
		return word(f.TryLock())
	case "close":
		a.open = slices.Delete(a.open, i, i+1)
		return word(f.Close())
	case "stat":
		return describe(f.Stat())
	case "lstat":
		return describe(a.fs.Lstat(a.path(o.a)))
	case "mkdir":
		return word(a.fs.Mkdir(a.path(o.a), 0o755))
	case "rename":
		return word(a.fs.Rename(a.path(o.a), a.path(o.b)))
	case "remove":
		return word(a.fs.Remove(a.path(o.a)))
	case "symlink":
		return word(a.symlink(o.b, a.path(o.a)))
	case "link":
		return word(a.link(a.path(o.a), a.path(o.b)))
	case "syncdir":
		return word(a.fs.SyncDir(a.path(o.a)))
	case "resolve":
		name, err := a.fs.Resolve(a.path(o.a))
		return strings.TrimPrefix(strings.TrimPrefix(name, a.dir), "/") + " " + word(err)
	case "content":
		data, err := fsys.ReadFile(a.fs, a.path(o.a), 1<<20)
		return fmt.Sprintf("%x %s", sum(data), word(err))
	}
	panic(o.kind)
}

func sum(data []byte) string { return fmt.Sprintf("%d:%x", len(data), hash(data)) }

func hash(data []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, b := range data {
		h = (h ^ uint64(b)) * 1099511628211
	}
	return h
}

func describe(fi fs.FileInfo, err error) string {
	if err != nil {
		return word(err)
	}
	size := fi.Size()
	links := fsys.Links(fi)
	if fi.IsDir() {
		size, links = 0, 0
	}
	return fmt.Sprintf("%v %d bytes %d links %s", fi.Mode(), size, links, fi.Name())
}

// word is an error without the name.
func word(err error) string {
	if err == nil {
		return "ok"
	}
	for _, cause := range []error{
		fsys.ErrNotRegular, fsys.ErrLocked, fs.ErrNotExist, syscall.ENOTEMPTY, fs.ErrExist, syscall.ENOTDIR, syscall.EISDIR,
		syscall.ELOOP, syscall.EINVAL, syscall.EPERM, syscall.EBADF,
	} {
		if errors.Is(err, cause) {
			return cause.Error()
		}
	}
	return "error"
}

// crashes calls fn with many states after a power loss now.
func crashes(f *memfs.FS, fn func(seed uint64, after *memfs.FS)) {
	for seed := range uint64(400) {
		fn(seed, f.Crash(rand.New(rand.NewPCG(seed, 1))))
	}
}

func TestCrashIsSeeded(t *testing.T) {
	f := memfs.New(memfs.Config{})
	for _, name := range []string{"/a", "/b", "/c", "/d"} {
		create(t, f, name, strings.Repeat(name, 10_000), false)
	}
	states := map[string]int{}
	crashes(f, func(seed uint64, after *memfs.FS) {
		states[state(t, after)]++
		again := f.Crash(rand.New(rand.NewPCG(seed, 1)))
		if state(t, after) != state(t, again) {
			t.Fatalf("seed %d: two states", seed)
		}
		// What a crash left is on the disk.
		if s := state(t, after.Crash(rand.New(rand.NewPCG(seed, 2)))); s != state(t, after) {
			t.Fatalf("seed %d: crashing again loses more", seed)
		}
	})
	if len(states) < 50 {
		t.Errorf("%d different states of 400", len(states))
	}
}

func TestCrashKeepsSynced(t *testing.T) {
	f := memfs.New(memfs.Config{})
	create(t, f, "/file", strings.Repeat("synced", 5000), true)
	if err := f.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	crashes(f, func(seed uint64, after *memfs.FS) {
		if got := content(t, after, "/file"); got != strings.Repeat("synced", 5000) {
			t.Fatalf("seed %d: %.40q", seed, got)
		}
	})
}

// TestCrashTearsWrites checks that each sector that was not synced may survive or not, and that the size may survive without
// the bytes.
func TestCrashTearsWrites(t *testing.T) {
	f := memfs.New(memfs.Config{})
	const size = 64 << 10
	file := create(t, f, "/file", strings.Repeat("1", size), true)
	if err := f.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	write(t, file, strings.Repeat("2", size), 0)
	write(t, file, strings.Repeat("3", size), 512*5)
	seen := map[string]int{}
	crashes(f, func(seed uint64, after *memfs.FS) {
		got := content(t, after, "/file")
		if len(got) < size || len(got) > size+512*5 {
			t.Fatalf("seed %d: %d bytes", seed, len(got))
		}
		kinds := map[string]bool{}
		for i := 0; i < len(got); i += 512 {
			sector := got[i:min(i+512, len(got))]
			if strings.Trim(sector, sector[:1]) != "" {
				t.Fatalf("seed %d: a sector of two minds at %d: %q", seed, i, sector)
			}
			switch c := sector[:1]; {
			case c == "\x00" && i < size, c == "1" && i >= size, c == "2" && i >= size, c == "3" && i < 512*5:
				t.Fatalf("seed %d: %q at %d", seed, c, i)
			default:
				kinds[c] = true
			}
		}
		switch {
		case len(kinds) > 2:
			seen["torn"]++
		case kinds["1"]:
			seen["old"]++
		}
		if kinds["\x00"] {
			seen["size without bytes"]++
		}
		if len(got) == size {
			seen["size dropped"]++
		}
		if kinds["3"] && !kinds["1"] && len(got) == size+512*5 {
			seen["all"]++
		}
	})
	t.Log(seen)
	for _, s := range []string{"torn", "old", "size without bytes", "size dropped", "all"} {
		if seen[s] == 0 {
			t.Errorf("%s: never seen", s)
		}
	}
}

// TestCrashTruncate checks that the old bytes return after a truncation that a crash forgets. After one that it keeps, none
// of them is left behind the end.
func TestCrashTruncate(t *testing.T) {
	f := memfs.New(memfs.Config{})
	file := create(t, f, "/file", "0123456789", true)
	if err := errors.Join(f.SyncDir("/"), file.Truncate(4), file.Truncate(8)); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	crashes(f, func(_ uint64, after *memfs.FS) { seen[content(t, after, "/file")]++ })
	want := []string{"0123", "0123\x00\x00\x00\x00", "0123456789"}
	if got := sortedKeys(seen); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func sortedKeys(m map[string]int) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// TestCrashRename checks that a rename survives or not, within a folder and between two. The file always has exactly one of
// its names.
func TestCrashRename(t *testing.T) {
	for _, to := range []string{"/to", "/dir/to"} {
		f := memfs.New(memfs.Config{})
		create(t, f, "/from", "new", true)
		if err := f.Mkdir("/dir", 0o755); err != nil {
			t.Fatal(err)
		}
		create(t, f, to, "old", true)
		if err := errors.Join(f.SyncDir("/"), f.SyncDir("/dir"), f.Rename("/from", to)); err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		crashes(f, func(seed uint64, after *memfs.FS) {
			switch before, renamed := content(t, after, "/from"), content(t, after, to); {
			case before == "new" && renamed == "old":
				seen["dropped"]++
			case before == "error" && renamed == "new":
				seen["kept"]++
			default:
				t.Fatalf("seed %d: %q and %q", seed, before, renamed)
			}
		})
		if len(seen) != 2 {
			t.Errorf("%s: %v", to, seen)
		}
	}
}

// TestCrashOrder checks that within a folder earlier operations survive before later ones. Other folders are independent.
// Syncing one makes durable what it depends on and nothing else.
func TestCrashOrder(t *testing.T) {
	f := memfs.New(memfs.Config{})
	if err := errors.Join(f.Mkdir("/one", 0o755), f.Mkdir("/two", 0o755), f.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/one/1", "/two/1", "/one/2", "/one/3", "/two/2"} {
		create(t, f, name, "", true)
	}
	apart := false
	crashes(f, func(seed uint64, after *memfs.FS) {
		names := after.Names()
		has := func(name string) bool { return slices.Contains(names, name) }
		if has("/one/3") && !has("/one/2") || has("/one/2") && !has("/one/1") || has("/two/2") && !has("/two/1") {
			t.Fatalf("seed %d: %v", seed, names)
		}
		apart = apart || has("/two/2") && !has("/one/1")
	})
	if !apart {
		t.Error("the folders are not independent")
	}

	if err := errors.Join(f.Rename("/one/3", "/two/3"), f.Rename("/one/2", "/one/4"), f.SyncDir("/two")); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	crashes(f, func(_ uint64, after *memfs.FS) { seen[fmt.Sprint(after.Names())]++ })
	want := []string{
		"[/one/ /one/1 /one/2 /two/ /two/1 /two/2 /two/3]",
		"[/one/ /one/1 /one/4 /two/ /two/1 /two/2 /two/3]",
	}
	if got := sortedKeys(seen); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestCrashRemove checks that a removed file that reappears has its content.
func TestCrashRemove(t *testing.T) {
	f := memfs.New(memfs.Config{Capacity: 1 << 20})
	create(t, f, "/file", "content", true)
	if err := errors.Join(f.SyncDir("/"), f.Remove("/file")); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	crashes(f, func(_ uint64, after *memfs.FS) {
		c := content(t, after, "/file")
		seen[c]++
		want := int64(1 << 20)
		if c == "content" {
			want -= 4096
		}
		if n, err := after.Free("/"); err != nil || n != want {
			t.Fatalf("%q, %d bytes free, %v; want %d", c, n, err, want)
		}
	})
	if got := sortedKeys(seen); !slices.Equal(got, []string{"content", "error"}) {
		t.Errorf("%q", got)
	}
}

// TestSyncIsExact checks truncating, growing and writing between two syncs: the second makes durable exactly what can be
// read.
func TestSyncIsExact(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 0))
		f := memfs.New(memfs.Config{})
		file := create(t, f, "/file", "", true)
		if err := f.SyncDir("/"); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			for range rng.IntN(5) {
				if size := rng.Int64N(20_000); rng.IntN(3) == 0 {
					if err := file.Truncate(size); err != nil {
						t.Fatal(err)
					}
				} else {
					write(t, file, strings.Repeat(string(rune('a'+rng.IntN(26))), int(rng.Int64N(9000))+1), size)
				}
			}
			if err := file.Sync(); err != nil {
				t.Fatal(err)
			}
			if got, want := content(t, f.Crash(rng), "/file"), content(t, f, "/file"); got != want {
				t.Fatalf("seed %d: %d bytes, want %d", seed, len(got), len(want))
			}
		}
	}
}

// TestFailedSyncLoses checks that what a failed sync lost stays lost, whatever is synced after it.
func TestFailedSyncLoses(t *testing.T) {
	f := memfs.New(memfs.Config{})
	file := create(t, f, "/file", strings.Repeat("1", 3*4096), true)
	if err := f.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	write(t, file, "lost", 0)
	write(t, file, "lost too", 4*4096)
	file.(interface{ LoseUnsynced() }).LoseUnsynced()
	write(t, file, "kept", 2*4096)
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := content(t, f, "/file"); !strings.HasPrefix(got, "lost") || !strings.HasSuffix(got, "lost too") {
		t.Error("it cannot be read any more")
	}
	crashes(f, func(seed uint64, after *memfs.FS) {
		got := content(t, after, "/file")
		want := strings.Repeat("1", 2*4096) + "kept" + strings.Repeat("1", 4092) + strings.Repeat("\x00", 4096+8)
		if got != want {
			t.Fatalf("seed %d: %d bytes %.10q, want %d", seed, len(got), got, len(want))
		}
	})
}

func TestKill(t *testing.T) {
	f := memfs.New(memfs.Config{})
	file := create(t, f, "/file", "written", false)
	if err := file.TryLock(); err != nil {
		t.Fatal(err)
	}
	after := f.Kill()
	if got := content(t, after, "/file"); got != "written" {
		t.Errorf("holds %q", got)
	}
	again, err := after.OpenFile("/file", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.TryLock(); err != nil {
		t.Errorf("the lock outlived its holder: %v", err)
	}
	// Nothing that the dead or the living do is seen by the other.
	write(t, file, "dead", 0)
	write(t, again, "alive", 2)
	if got := content(t, after, "/file"); got != "wralive" {
		t.Errorf("holds %q", got)
	}
	if got := content(t, f, "/file"); got != "deadten" {
		t.Errorf("the old one holds %q", got)
	}
	if err := file.TryLock(); err != nil {
		t.Error(err)
	}
	// A killed process's writes are no safer than they were.
	lost := false
	crashes(after, func(_ uint64, f *memfs.FS) { lost = lost || content(t, f, "/file") != "wralive" })
	if !lost {
		t.Error("killing synced the file")
	}
}

func TestCapacity(t *testing.T) {
	const page = 4096
	f := memfs.New(memfs.Config{Capacity: 10 * page})
	free := func(want int64) {
		t.Helper()
		if n, err := f.Free("/"); err != nil || n != want*page {
			t.Errorf("%d bytes free, %v; want %d pages", n, err, want)
		}
	}
	file := create(t, f, "/file", strings.Repeat("x", 4*page), false)
	free(6)
	write(t, file, "again", 17)
	free(6)
	n, err := file.WriteAt(make([]byte, 100*page), 2*page+100)
	if n != 8*page-100 || !errors.Is(err, syscall.ENOSPC) || !fsys.IsNoSpace(err) {
		t.Errorf("wrote %d, %v", n, err)
	}
	free(0)
	if n, err := file.WriteAt([]byte("x"), 10*page); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d, %v", n, err)
	}
	write(t, file, "within", 5*page) // what is there can be overwritten
	if err := file.Truncate(page + 1); err != nil {
		t.Fatal(err)
	}
	free(8)
	if err := file.Reserve(0, 11*page); !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	free(8)
	if err := file.Reserve(0, 5*page-7); err != nil {
		t.Fatal(err)
	}
	free(5)
	write(t, file, strings.Repeat("x", 5*page), 0)
	free(5)
	if err := file.Truncate(0); err != nil {
		t.Fatal(err)
	}
	free(10)
	write(t, file, "x", 7*page) // sparse
	free(9)
	if err := f.Remove("/file"); err != nil {
		t.Fatal(err)
	}
	free(9)
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	free(10)
	create(t, f, "/a", strings.Repeat("x", 3*page), false)
	file = create(t, f, "/b", strings.Repeat("x", 2*page), false)
	if err := errors.Join(file.Close(), f.Rename("/b", "/a")); err != nil {
		t.Fatal(err)
	}
	free(5) // /a is gone and still open
	f.SetCapacity(20 * page)
	free(15)
	f.SetCapacity(page)
	free(0)
	f.SetCapacity(0)
	if n, err := f.Free("/"); n != math.MaxInt64 || err != nil {
		t.Errorf("no limit: %d, %v", n, err)
	}
}

func TestMaxFileSize(t *testing.T) {
	f := memfs.New(memfs.Config{MaxFileSize: 100})
	file := create(t, f, "/file", "", false)
	if n, err := file.WriteAt(make([]byte, 10), 95); n != 5 || !errors.Is(err, syscall.EFBIG) {
		t.Errorf("wrote %d, %v", n, err)
	}
	for _, err := range []error{file.Truncate(101), file.Reserve(0, 101)} {
		if !errors.Is(err, syscall.EFBIG) {
			t.Error(err)
		}
	}
	if err := file.Truncate(100); err != nil {
		t.Error(err)
	}
}

// TestHugeSparseFile checks a file as large as the largest object of OSS: 48.8 TB, mostly holes.
func TestHugeSparseFile(t *testing.T) {
	const size = 48_800_000_000_000
	f := memfs.New(memfs.Config{Capacity: math.MaxInt64})
	file := create(t, f, "/file", "", false)
	if err := file.Reserve(0, size); err != nil {
		t.Fatal(err)
	}
	write(t, file, "the end", size-7)
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 20)
	if n, err := file.ReadAt(got, size-20); n != 20 || err != nil || string(got[13:]) != "the end" {
		t.Errorf("%q, %v", got, err)
	}
	if fi, err := file.Stat(); err != nil || fi.Size() != size {
		t.Errorf("%v, %v", fi.Size(), err)
	}
	if n, err := file.WriteAt([]byte("xx"), math.MaxInt64-1); n != 1 || !errors.Is(err, syscall.EFBIG) {
		t.Errorf("at the end of all numbers: %d, %v", n, err)
	}
}

// TestConcurrent checks that Crash and Kill may be called while other goroutines write.
func TestConcurrent(t *testing.T) {
	f := memfs.New(memfs.Config{Capacity: 1 << 30})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			name := fmt.Sprintf("/%d", i)
			file := create(t, f, name, "", false)
			for j := range 100 {
				write(t, file, strings.Repeat("x", 5000), int64(j*3000))
				if j%10 == 0 {
					if err := errors.Join(file.Sync(), f.SyncDir("/"), f.Rename(name, name+"x"), f.Rename(name+"x", name)); err != nil {
						t.Error(err)
					}
				}
			}
		})
		wg.Go(func() {
			for seed := range uint64(20) {
				after := f.Crash(rand.New(rand.NewPCG(seed, 0))).Kill()
				for _, name := range after.Names() {
					file, err := after.OpenFile(name, os.O_RDWR, 0)
					if err != nil {
						t.Error(err)
						continue
					}
					write(t, file, "after the crash", 10)
				}
			}
		})
	}
	wg.Wait()
}

// create makes an open file with the content, synced or not. Its name is not synced.
func create(t *testing.T, f fsys.FS, name, data string, sync bool) fsys.File {
	t.Helper()
	file, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, data, 0)
	if sync {
		if err := file.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

func write(t *testing.T, file fsys.File, data string, off int64) {
	t.Helper()
	if n, err := file.WriteAt([]byte(data), off); n != len(data) || err != nil {
		t.Errorf("wrote %d of %d bytes, %v", n, len(data), err)
	}
}

func content(t *testing.T, f fsys.FS, name string) string {
	t.Helper()
	data, err := fsys.ReadFile(f, name, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return "error"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// state is all there is, in short.
func state(t *testing.T, f *memfs.FS) string {
	t.Helper()
	var b strings.Builder
	for _, name := range f.Names() {
		fmt.Fprintf(&b, "%s=%s ", name, sum([]byte(content(t, f, name))))
	}
	return b.String()
}
