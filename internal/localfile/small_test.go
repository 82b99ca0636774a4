package localfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// process is a disk as one of several processes sees it: what the others claim is not known to it, and their locks are.
type process struct{ fsys.FS }

func (p *process) Key(name string) (any, error) {
	key, err := p.FS.Key(name)
	return [2]any{p, key}, err
}

// inWorkDir is a file whose working files are in a folder that others use as well.
func inWorkDir(disk fsys.FS, path string) Config {
	return Config{
		FS: disk, Log: slog.New(slog.DiscardHandler), Path: path, Folder: "/work", Base: "/work/" + strings.ReplaceAll(path[1:], "/", "-"),
		KeepPartial: true, IsCheckpoint: func([]byte) bool { return true },
	}
}

// openSmall takes a path for an object of the size.
func openSmall(t *testing.T, cfg Config, size int64) (*Small, error) {
	t.Helper()
	_, err := cfg.FS.Lstat(cfg.Path)
	return OpenSmall(t.Context(), cfg, NewBodies(), size, err == nil)
}

// fill makes the content that of the object, and stores it.
func (s *Small) fill(content string) error {
	if err := s.Begin(int64(len(content)), int64(len(content))); err != nil {
		return err
	}
	if _, err := s.WriteAt([]byte(content), 0); err != nil {
		return err
	}
	return s.Store(time.Unix(1e9, 0))
}

func mustHold(t *testing.T, disk fsys.FS, name, want string) {
	t.Helper()
	if got, err := fsys.ReadFile(disk, name, 1<<20); err != nil || string(got) != want {
		t.Errorf("%s has %q, %v; want %q", name, got, err, want)
	}
}

func mustHoldNothing(t *testing.T, disk *memfs.FS, but ...string) {
	t.Helper()
	if got := strings.Join(disk.Names(), " "); got != strings.Join(but, " ") {
		t.Errorf("left: %s, want %s", got, but)
	}
}

// bothWays runs a test as on a system that renames open files, and as on one that does not.
func bothWays(t *testing.T, test func(*testing.T)) {
	t.Helper()
	was := closesFirst
	defer func() { closesFirst = was }()
	for _, closesFirst = range []bool{false, true} {
		t.Run(fmt.Sprintf("closes first %t", closesFirst), test)
	}
}

// TestSmallExcludesOthers checks that small and other downloads of one file in several processes exclude each other, and that
// who comes too late harms nothing.
func TestSmallExcludesOthers(t *testing.T) { bothWays(t, testSmallExcludesOthers) }

func testSmallExcludesOthers(t *testing.T) {
	below := memfs.New(memfs.Config{})
	one, two := inWorkDir(&process{below}, "/file"), inWorkDir(&process{below}, "/file")
	first, err := openSmall(t, one, 4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openSmall(t, one, 4); !errors.Is(err, ErrInUse) {
		t.Errorf("twice in one process: %v", err)
	}
	if _, err := openSmall(t, two, 4); !errors.Is(err, ErrInUse) {
		t.Errorf("in two processes: %v", err)
	}
	large := newDestination(two)
	if _, err := large.Lock(); !errors.Is(err, ErrInUse) {
		t.Errorf("another download while the small one runs: %v", err)
	}
	if err := first.fill("good"); err != nil {
		t.Fatal(err)
	}
	c := NewCommitter(t.Context(), one)
	if err := c.Add(t.Context(), first, func(durable bool, err error) {
		if !durable || err != nil {
			t.Error(durable, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	c.Close()
	mustHold(t, below, "/file", "good")

	unlock, err := large.Lock()
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []Config{one, two} {
		if _, err := openSmall(t, cfg, 4); !errors.Is(err, ErrInUse) {
			t.Errorf("a small one while another download runs: %v", err)
		}
	}
	unlock()
	second, err := openSmall(t, two, 4)
	if err != nil {
		t.Fatal(err)
	}
	second.Abandon()
	mustHoldNothing(t, below, "/file", "/work/")
	mustHold(t, below, "/file", "good")
}

// TestSmallAmongMany hammers one path from several processes, and checks that never two have it, whatever kind they are.
func TestSmallAmongMany(t *testing.T) { bothWays(t, testSmallAmongMany) }

func testSmallAmongMany(t *testing.T) {
	below := memfs.New(memfs.Config{})
	var holders atomic.Int32
	alone := func() {
		if n := holders.Add(1); n != 1 {
			t.Errorf("%d have the path", n)
		}
		for range 3 {
			runtime.Gosched()
		}
	}
	var running sync.WaitGroup
	defer running.Wait()
	for i := range 6 {
		running.Go(func() {
			cfg := inWorkDir(&process{below}, "/file")
			for n := 0; n < 50 && !t.Failed(); {
				var s *Small
				unlock, err := func() {}, error(nil)
				if i == 0 {
					unlock, err = newDestination(cfg).Lock()
				} else {
					s, err = openSmall(t, cfg, 4)
				}
				if errors.Is(err, ErrInUse) {
					runtime.Gosched()
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				n++
				alone()
				if s != nil && n%3 > 0 {
					err = errors.Join(s.fill("good"), s.sync())
				}
				holders.Add(-1) // before the rename, after which the next one may come
				switch {
				case s == nil:
					unlock()
				case n%3 == 0:
					s.Abandon()
				default:
					if err := errors.Join(err, s.rename()); err != nil {
						t.Error(err)
					}
					s.end()
				}
			}
		})
	}
	running.Wait()
	mustHold(t, below, "/file", "good")
	mustHoldNothing(t, below, "/file", "/work/")
}

// TestSmallLeftByAKill checks that the working file of a call that was killed is replaced, by either kind of download, and
// never written into: it may have other names.
func TestSmallLeftByAKill(t *testing.T) { bothWays(t, testSmallLeftByAKill) }

func testSmallLeftByAKill(t *testing.T) {
	for _, kind := range []string{"small", "large", "tidy"} {
		disk := memfs.New(memfs.Config{})
		killed, err := openSmall(t, inWorkDir(&process{disk}, "/file"), 4)
		if err != nil {
			t.Fatal(err)
		}
		if err := killed.fill("left"); err != nil {
			t.Fatal(err)
		}
		disk = disk.Kill()
		if err := disk.Link("/work/file"+smallSuffix, "/other"); err != nil {
			t.Fatal(err)
		}
		cfg := inWorkDir(disk, "/file")
		switch kind {
		case "small":
			s, err := openSmall(t, cfg, 4)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(s.fill("good"), s.sync(), s.rename()); err != nil {
				t.Fatal(err)
			}
			s.end()
			mustHold(t, disk, "/file", "good")
			mustHoldNothing(t, disk, "/file", "/other", "/work/")
		case "large":
			unlock, err := newDestination(cfg).Lock()
			if err != nil {
				t.Fatal(err)
			}
			unlock()
			mustHoldNothing(t, disk, "/other", "/work/")
		case "tidy":
			if _, err := RemoveLeftovers(cfg); err != nil {
				t.Fatal(err)
			}
			mustHoldNothing(t, disk, "/other", "/work/")
		}
		mustHold(t, disk, "/other", "left")
	}
}

// TestSmallOfAnotherUser checks that a working file of another user is left alone.
func TestSmallOfAnotherUser(t *testing.T) {
	skipWithoutOwners(t)
	disk := memfs.New(memfs.Config{})
	disk.SetUser(1000)
	ownerFile(t, disk, "/work/file"+smallSuffix, "theirs", stranger)
	cfg := inWorkDir(disk, "/file")
	if _, err := openSmall(t, cfg, 4); !isTaken(err) {
		t.Errorf("small: %v", err)
	}
	if _, err := newDestination(cfg).Lock(); !isTaken(err) {
		t.Errorf("large: %v", err)
	}
	mustHold(t, disk, "/work/file"+smallSuffix, "theirs")
}

// TestPartOfAnotherUser checks that a partial file, a checkpoint and a lock of another user in the folder that many files share
// are neither adopted nor replaced.
func TestPartOfAnotherUser(t *testing.T) {
	skipWithoutOwners(t)
	for _, suffix := range []string{partSuffix, checkpointSuffix, lockSuffix} {
		disk := memfs.New(memfs.Config{})
		disk.SetUser(1000)
		ownerFile(t, disk, "/work/file"+suffix, "theirs", stranger)
		d := newDestination(inWorkDir(disk, "/file"))
		unlock, err := d.Lock()
		if err == nil {
			_, err = d.ReadCheckpoint()
			if errors.Is(err, fs.ErrNotExist) {
				var found bool
				if found, err = d.Adopt(4, true); found {
					t.Errorf("%s was adopted", suffix)
				}
				if berr := d.Begin(4, 4); !isTaken(berr) {
					t.Errorf("%s: begun: %v", suffix, berr)
				}
			}
			d.Abandon(Nothing)
			unlock()
		}
		if !isTaken(err) && !strings.Contains(fmt.Sprint(err), "user 4242") {
			t.Errorf("%s: %v", suffix, err)
		}
		mustHold(t, disk, "/work/file"+suffix, "theirs")
	}
}

// TestSmallWithoutSync checks that a file that cannot be synced is closed before its rename, and that nobody else gets the path
// although its lock ends with that.
func TestSmallWithoutSync(t *testing.T) {
	if closesFirst {
		t.Skip("the lock file is held all the time")
	}
	below := memfs.New(memfs.Config{NoSync: true})
	disk := faultfs.New(below)
	tried := 0
	disk.OnOp(func(o faultfs.Op) error {
		if o.Kind != faultfs.Rename {
			return nil
		}
		tried++
		other := inWorkDir(&process{below}, "/file")
		if _, err := openSmall(t, other, 4); !errors.Is(err, ErrInUse) {
			t.Errorf("small: %v", err)
		}
		if _, err := newDestination(other).Lock(); !errors.Is(err, ErrInUse) {
			t.Errorf("large: %v", err)
		}
		mustHold(t, below, "/work/file"+smallSuffix, "good")
		return nil
	})
	s, err := openSmall(t, inWorkDir(disk, "/file"), 4)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.fill("good"); err != nil {
		t.Fatal(err)
	}
	c := NewCommitter(t.Context(), inWorkDir(disk, "/file"))
	if err := c.Add(t.Context(), s, func(durable bool, err error) {
		if durable || err != nil {
			t.Error(durable, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if tried != 1 {
		t.Errorf("tried %d times", tried)
	}
	mustHold(t, below, "/file", "good")
	mustHoldNothing(t, below, "/file", "/work/")
}

// TestSmallReplaces checks that the new file gets no permission that the old one does not give, at no moment.
func TestSmallReplaces(t *testing.T) { bothWays(t, testSmallReplaces) }

func testSmallReplaces(t *testing.T) {
	below := memfs.New(memfs.Config{})
	ownerFile(t, below, "/file", "old", 0)
	if err := below.Chmod("/file", 0o510); err != nil {
		t.Fatal(err)
	}
	disk := faultfs.New(below)
	disk.OnOp(func(faultfs.Op) error {
		if fi, err := below.Lstat("/work/file" + smallSuffix); err == nil && fi.Mode().Perm()&^0o710 != 0 {
			t.Errorf("it has mode %v", fi.Mode())
		}
		return nil
	})
	s, err := openSmall(t, inWorkDir(disk, "/file"), 4)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.fill("good"), s.sync(), s.rename()); err != nil {
		t.Fatal(err)
	}
	s.end()
	mustHold(t, below, "/file", "good")
	if fi, err := below.Lstat("/file"); err != nil || fi.Mode().Perm() != 0o510 {
		t.Errorf("it has mode %v, %v", fi.Mode(), err)
	}
}

// TestSmallThatIsNot checks that an object that is larger than the memory for it, or of unknown size, is refused.
func TestSmallThatIsNot(t *testing.T) {
	disk := memfs.New(memfs.Config{})
	for _, size := range []int64{-1, 8<<10 + 1, MaxSmall + 1} {
		s, err := openSmall(t, inWorkDir(disk, "/file"), 8<<10)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Begin(size, size); !errors.Is(err, ErrNotSmall) {
			t.Errorf("%d bytes: %v", size, err)
		}
		s.Abandon()
	}
	s, err := openSmall(t, inWorkDir(disk, "/file"), 4)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Begin(4, 4); err != nil {
		t.Fatal(err)
	}
	if _, err := s.WriteAt([]byte("12345"), 0); !errors.Is(err, ErrNotSmall) {
		t.Error(err)
	}
	s.Abandon()
	mustHoldNothing(t, disk, "/work/")
}

// TestSmallMemory checks that the memory of a small object is where its bytes belong, and ends with them.
func TestSmallMemory(t *testing.T) {
	disk := memfs.New(memfs.Config{})
	s, err := openSmall(t, inWorkDir(disk, "/file"), 8)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Abandon()
	if got := s.Memory(0, 1); got != nil {
		t.Errorf("before its size is known: %d bytes", len(got))
	}
	if err := s.Begin(8, 8); err != nil {
		t.Fatal(err)
	}
	read := s.Memory(2, 8)
	if n := copy(read, "cdefgh"); n != 6 || s.Memory(0, 9) != nil || s.Memory(-1, 2) != nil {
		t.Errorf("%d bytes; one byte more: %d, one before: %d", n, len(s.Memory(0, 9)), len(s.Memory(-1, 2)))
	}
	if n, err := s.WriteAt(read, 2); n != 6 || err != nil {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
	if n, err := s.WriteAt([]byte("ab"), 0); n != 2 || err != nil || string(s.Body()) != "abcdefgh" {
		t.Errorf("wrote %d bytes, %v: %q", n, err, s.Body())
	}
}

// TestSmallSwapped checks that what another program puts at the name of the working file does not get the path, and is not
// removed.
func TestSmallSwapped(t *testing.T) {
	disk := memfs.New(memfs.Config{})
	s, err := openSmall(t, inWorkDir(disk, "/file"), 4)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.fill("good"), s.sync(), disk.Remove("/work/file"+smallSuffix)); err != nil {
		t.Fatal(err)
	}
	ownerFile(t, disk, "/work/file"+smallSuffix, "evil", 0)
	if err := s.rename(); err == nil {
		t.Error("it was renamed")
	}
	s.Abandon()
	mustHoldNothing(t, disk, "/work/", "/work/file"+smallSuffix)
}

func TestClassOf(t *testing.T) {
	for size, want := range map[int64]int{0: 0, 1: 0, 4096: 0, 4097: 1, 8192: 1, 8193: 2, MaxSmall/2 + 1: 8, MaxSmall: 8} {
		if got := classOf(size); got != want || int64(leastBody)<<got < size {
			t.Errorf("%d bytes: class %d, want %d", size, got, want)
		}
	}
	if leastBody<<(bodyClasses-1) != MaxSmall {
		t.Error("the largest class is not that of the largest object")
	}
}

// TestBodiesAreBounded checks that who finds no room waits, until some is given back or ctx ends.
func TestBodiesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBodies()
		var lent []*body
		for range bodiesRoom / MaxSmall {
			m, err := b.get(t.Context(), MaxSmall)
			if err != nil {
				t.Fatal(err)
			}
			lent = append(lent, m)
		}
		why := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		if _, err := b.get(ctx, 1); err != why {
			t.Error(err)
		}
		var got atomic.Bool
		go func() {
			m, err := b.get(t.Context(), MaxSmall)
			if err != nil {
				t.Error(err)
				return
			}
			got.Store(true)
			b.put(m)
		}()
		synctest.Wait()
		if got.Load() {
			t.Error("it was lent beyond the bound")
		}
		b.put(lent[0])
		synctest.Wait()
		if !got.Load() {
			t.Error("it was not lent after room was made")
		}
	})
}

// TestHeldIsBounded checks how many objects of a size may be without their paths, that one which ends lets in another, and
// that none is kept by a file that could not be opened.
func TestHeldIsBounded(t *testing.T) {
	for size, want := range map[int64]int{0: heldFiles, 1: heldFiles, 256 << 10: heldFiles, 256<<10 + 1: 256, MaxSmall: heldBytes / MaxSmall} {
		synctest.Test(t, func(t *testing.T) {
			b := NewBodies()
			var held atomic.Int32
			ctx, cancel := context.WithCancelCause(t.Context())
			ends := make(chan struct{})
			for range want + 10 {
				go func() {
					release, err := b.hold(ctx, size)
					if err != nil {
						return
					}
					held.Add(1)
					<-ends
					release()
				}()
			}
			synctest.Wait()
			if n := held.Load(); int(n) != want {
				t.Errorf("%d objects of %d bytes are held, want %d", n, size, want)
			}
			ends <- struct{}{}
			synctest.Wait()
			if n := held.Load(); int(n) != want+1 {
				t.Errorf("%d objects of %d bytes were held after one had ended, want %d", n, size, want+1)
			}
			why := errors.New("enough")
			cancel(why)
			if _, err := b.hold(ctx, size); err != why {
				t.Error(err)
			}
			close(ends)
		})
	}
	disk := faultfs.New(memfs.New(memfs.Config{}))
	var broken atomic.Bool
	disk.OnOp(func(o faultfs.Op) error {
		if o.Kind == faultfs.Open && broken.Load() {
			return syscall.EIO
		}
		return nil
	})
	b := NewBodies()
	for i := range 2 * heldFiles {
		broken.Store(i%2 > 0)
		s, err := OpenSmall(t.Context(), inWorkDir(disk, "/file"), b, 4, false)
		if broken.Load() != errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		if err == nil {
			s.Abandon()
		}
	}
	if !b.held.TryAcquire(heldBytes) {
		t.Error("what has ended is held")
	}
}

// batchOf hands n files to a committer, which counts them when they are done.
type batchOf struct {
	c      *Committer
	cfg    func(path string) Config
	bodies *Bodies
	mu     sync.Mutex
	ended  map[string]error
}

func newBatchOf(ctx context.Context, disk fsys.FS) *batchOf {
	cfg := func(path string) Config { return inWorkDir(disk, path) }
	return &batchOf{c: NewCommitter(ctx, cfg("/x")), cfg: cfg, bodies: NewBodies(), ended: map[string]error{}}
}

func (b *batchOf) add(ctx context.Context, path string) error {
	s, err := OpenSmall(ctx, b.cfg(path), b.bodies, 4, false)
	if err != nil {
		return err
	}
	if err = s.fill("good"); err == nil {
		err = b.c.Add(ctx, s, func(durable bool, err error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			if err == nil && !durable {
				err = errors.New("not durable")
			}
			b.ended[path] = err
		})
	}
	if err != nil {
		s.Abandon()
	}
	return err
}

// TestBatchInOrder checks that no file gets its path before all of the batch are synced, and that none counts before the
// folder is.
func TestBatchInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := faultfs.New(memfs.New(memfs.Config{}))
		b := newBatchOf(t.Context(), disk)
		const n = 40
		disk.OnOp(func(o faultfs.Op) error {
			synced, dirs := disk.Count(faultfs.Sync), disk.Count(faultfs.SyncDir)
			b.mu.Lock()
			defer b.mu.Unlock()
			if o.Kind == faultfs.Rename && synced != n || o.Kind == faultfs.SyncDir && disk.Count(faultfs.Rename) != n || len(b.ended) > 0 && dirs == 0 {
				t.Errorf("%v after %d syncs, %d of folders; %d have ended", o, synced, dirs, len(b.ended))
			}
			return nil
		})
		for i := range n {
			if err := b.add(t.Context(), fmt.Sprintf("/f%02d", i)); err != nil {
				t.Fatal(err)
			}
		}
		if len(b.ended) > 0 {
			t.Error("a batch began before its time")
		}
		b.c.Close()
		for path, err := range b.ended {
			if err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		if len(b.ended) != n || disk.Count(faultfs.SyncDir) != 1 {
			t.Errorf("%d have ended, %d syncs of folders", len(b.ended), disk.Count(faultfs.SyncDir))
		}
	})
}

// TestBatchesWait checks that one batch is collected while the other is committed, and that no file is opened that would have to
// wait for both.
func TestBatchesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		below := memfs.New(memfs.Config{})
		disk := faultfs.New(below)
		release := make(chan struct{})
		disk.OnOp(func(o faultfs.Op) error {
			if o.Kind == faultfs.SyncDir {
				<-release
			}
			return nil
		})
		b := newBatchOf(t.Context(), disk)
		var added atomic.Int32
		go func() {
			for i := range 3 * batchFiles {
				if err := b.add(t.Context(), fmt.Sprintf("/f%03d", i)); err != nil {
					t.Error(err)
				}
				added.Add(1)
			}
			b.c.Close()
		}()
		synctest.Wait()
		if n := added.Load(); n != heldFiles {
			t.Errorf("%d files were taken, want %d", n, heldFiles)
		}
		each := 1
		if closesFirst {
			each = 2 // with its lock
		}
		if n, want := len(below.Names()), 1+each*heldFiles+1; n != want { // the folder and the note
			t.Errorf("%d names, want %d: more files were opened", n, want)
		}
		close(release)
		<-b.c.ended
		if len(b.ended) != 3*batchFiles {
			t.Errorf("%d have ended", len(b.ended))
		}
	})
}

// TestBatchDoesNotWaitForMore checks that a batch begins after its time, however few files it has.
func TestBatchDoesNotWaitForMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatchOf(t.Context(), memfs.New(memfs.Config{}))
		if err := b.add(t.Context(), "/file"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(batchWait + 1)
		synctest.Wait()
		if len(b.ended) != 1 {
			t.Error("it waits")
		}
		b.c.Close()
	})
}

// TestBatchFailsAlone checks that a file whose step fails takes no other with it, gets no path, and leaves nothing.
func TestBatchFailsAlone(t *testing.T) { bothWays(t, testBatchFailsAlone) }

func testBatchFailsAlone(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Sync, faultfs.Rename, faultfs.Lstat} {
		below := memfs.New(memfs.Config{})
		bad := "/work/f3" + smallSuffix
		var begun atomic.Bool // Lstat: only the last look
		disk := faultfs.New(below)
		disk.OnOp(func(o faultfs.Op) error {
			if begun.Load() && o.Kind == kind && o.Name == bad {
				begun.Store(kind != faultfs.Lstat)
				return &fs.PathError{Op: string(kind), Path: o.Name, Err: syscall.EIO}
			}
			return nil
		})
		b := newBatchOf(t.Context(), disk)
		for i := range 8 {
			if err := b.add(t.Context(), fmt.Sprintf("/f%d", i)); err != nil {
				t.Fatal(err)
			}
		}
		begun.Store(true)
		b.c.Close()
		for i := range 8 {
			path := fmt.Sprintf("/f%d", i)
			err, ended := b.ended[path]
			if !ended || errors.Is(err, syscall.EIO) != (i == 3) || (err != nil) != (i == 3) {
				t.Errorf("%s: %s: %t, %v", kind, path, ended, err)
			}
			if _, err := below.Lstat(path); errors.Is(err, fs.ErrNotExist) != (i == 3) {
				t.Errorf("%s: %s: %v", kind, path, err)
			}
		}
		if names := strings.Join(below.Names(), " "); strings.Contains(names, "/work/f") || strings.Contains(names, noteSuffix) {
			t.Errorf("%s: left: %s", kind, names)
		}
	}
}

// TestBatchCanceled checks that what was added when the context ends gets its path, as far as the disk does it within finishTime.
// The rest is dropped, for the reason that the context gives.
func TestBatchCanceled(t *testing.T) { bothWays(t, testBatchCanceled) }

func testBatchCanceled(t *testing.T) {
	for _, slow := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) { batchCanceled(t, slow) })
	}
}

func batchCanceled(t *testing.T, slow bool) {
	below := memfs.New(memfs.Config{})
	disk := faultfs.New(below)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	var synced atomic.Int32
	disk.OnOp(func(o faultfs.Op) error {
		if o.Kind == faultfs.Sync && synced.Add(1) == 5 {
			cancel(why)
		}
		if o.Kind == faultfs.Sync && slow {
			time.Sleep(finishTime * 2 / 5)
		}
		return nil
	})
	b := newBatchOf(ctx, disk)
	const n = 100
	for i := range n {
		if err := b.add(t.Context(), fmt.Sprintf("/f%02d", i)); err != nil {
			t.Fatal(err)
		}
	}
	b.c.Close()
	named := 0
	for path, err := range b.ended {
		_, lerr := below.Lstat(path)
		switch {
		case err == nil:
			named++
			mustHold(t, below.Crash(rand.New(rand.NewPCG(uint64(1), 0))), path, "good")
		case err != why || !errors.Is(lerr, fs.ErrNotExist):
			t.Errorf("%s: %v; there: %v", path, err, lerr)
		}
	}
	if len(b.ended) != n || named < 3*syncers || (named == n) == slow {
		t.Errorf("%d have ended, %d of them have their path", len(b.ended), named)
	}
	if got := len(below.Names()); got != named+1 {
		t.Errorf("left: %s", below.Names())
	}
}

// TestLeftBatchIsSynced checks that the folders of a batch whose call was killed before it synced them are synced by the next
// call, and that those of a running call are left to that.
func TestLeftBatchIsSynced(t *testing.T) {
	below := memfs.New(memfs.Config{})
	disk := faultfs.New(below, faultfs.Plan{Kind: faultfs.SyncDir, Stop: true})
	if err := below.Mkdir("/work", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := below.SyncDir("/"); err != nil {
		t.Fatal(err)
	}
	b := newBatchOf(t.Context(), disk)
	// Relative, as within the folder of a prefix.
	cfg := b.cfg("/file")
	cfg.Path = "file"
	s, err := OpenSmall(t.Context(), cfg, b.bodies, 4, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.fill("good"); err != nil {
		t.Fatal(err)
	}
	if err := b.c.Add(t.Context(), s, func(bool, error) {}); err != nil {
		t.Fatal(err)
	}
	b.c.Close()

	if closesFirst { // the lock file that is held instead is left, too
		if err := below.Remove("/work/file.part.lock"); err != nil {
			t.Fatal(err)
		}
	}
	names, err := below.List("/work", 10)
	if err != nil || len(names) != 1 || !strings.HasSuffix(names[0], noteSuffix) {
		t.Fatal(names, err)
	}
	next := below.Kill()
	held, err := next.OpenFile("/work/"+names[0], os.O_RDWR, 0)
	if err == nil {
		err = held.TryLock()
	}
	if err != nil {
		t.Fatal(err)
	}
	running := faultfs.New(next)
	if unsynced, known := SyncLeftBatches(inWorkDir(running, "/x"), names); !known || len(unsynced) > 0 || running.Count(faultfs.SyncDir) > 0 {
		t.Error(unsynced)
	}
	mustHoldNothing(t, next, "/file", "/work/", "/work/"+names[0])
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if unsynced, known := SyncLeftBatches(inWorkDir(faultfs.New(next, faultfs.Plan{Kind: faultfs.SyncDir}), "/x"), names); !known || len(unsynced) != 1 || unsynced[0] != "." {
		t.Error(unsynced)
	}
	mustHoldNothing(t, next, "/file", "/work/", "/work/"+names[0]) // for the call after
	if unsynced, known := SyncLeftBatches(inWorkDir(next, "/x"), names); !known || len(unsynced) > 0 {
		t.Error(unsynced)
	}
	mustHoldNothing(t, next, "/file", "/work/")
	for seed := range uint64(8) {
		mustHold(t, next.Crash(rand.New(rand.NewPCG(uint64(seed), 0))), "/file", "good")
	}
}

// TestHostileNote checks that what is in a note cannot lead out of the folder.
func TestHostileNote(t *testing.T) {
	for _, text := range []string{`["/"]`, `["../x"]`, `["a/../../b"]`, `[1]`, "", "\x00\x00\x00", string(bytes.Repeat([]byte("["), 1<<16))} {
		below := memfs.New(memfs.Config{})
		ownerFile(t, below, "/work/n"+noteSuffix, text, 0)
		disk := faultfs.New(below)
		if unsynced, _ := SyncLeftBatches(inWorkDir(disk, "/x"), []string{"n" + noteSuffix}); len(unsynced) > 0 || disk.Count(faultfs.SyncDir) > 0 {
			t.Errorf("%.20q: %q, %d folders synced", text, unsynced, disk.Count(faultfs.SyncDir))
		}
		mustHoldNothing(t, below, "/work/")
	}
}
