package ossdl

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/osstest"
)

// saves counts how often a checkpoint was put in place.
func saves(f *faultfs.FS) (n int) {
	for _, op := range f.Ops() {
		if op.Kind == faultfs.Rename && strings.HasSuffix(op.To, checkpointSuffix) {
			n++
		}
	}
	return n
}

// TestSaveThatFails checks that saves that fail, each of them, are logged once and do not stop the download.
func TestSaveThatFails(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Open, faultfs.Write, faultfs.Sync, faultfs.Rename} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log records
				b := newBubble(t, 8<<20, 64<<10, nil, WithPartSize(1<<20), WithConcurrency(2), WithLogger(log.logger()))
				f := faultfs.New(b.disk, faultfs.Plan{Kind: kind, Name: checkpointSuffix + fsys.TempSuffix, Forever: true})
				res, err := b.download(t, t.Context(), "Download", bubblePath, withFS(f))
				if err != nil || !res.Verified {
					t.Fatalf("%+v, %v", res, err)
				}
				tries := 0
				for _, op := range f.Ops() {
					if op.Kind == faultfs.Open && strings.HasSuffix(op.Name, checkpointSuffix+fsys.TempSuffix) {
						tries++
					}
				}
				if n := strings.Count(log.String(), "checkpoint not saved"); n != 1 || tries < 5 || !f.Fired() {
					t.Errorf("logged %d times after %d saves that failed\n%s", n, tries, log.String())
				}
				if got := strings.Join(b.disk.Names(), " "); got != "/dir/ /dir/file" {
					t.Errorf("left behind: %s", got)
				}
			})
		})
	}
}

// TestNoSaveForWhatIsDoneAtOnce checks that no checkpoint is written for an object that is done before the first save is
// due, and that one is for an object that takes longer.
func TestNoSaveForWhatIsDoneAtOnce(t *testing.T) {
	for _, c := range []struct {
		size  int64
		saves bool
	}{{100, false}, {256 << 10, false}, {2 << 20, true}} {
		synctest.Test(t, func(t *testing.T) {
			b := newBubble(t, c.size, 128<<10, nil, WithConcurrency(1))
			f := faultfs.New(b.disk)
			start := time.Now()
			if _, err := b.download(t, t.Context(), "Download", bubblePath, withFS(f)); err != nil {
				t.Fatal(err)
			}
			if n := saves(f); (n > 0) != c.saves {
				t.Errorf("%d saves of %d bytes, which took %v", n, c.size, time.Since(start))
			}
			for _, op := range f.Ops() {
				if !c.saves && op.Kind == faultfs.Open && op.Flag&os.O_CREATE != 0 && strings.Contains(op.Name, checkpointSuffix) {
					t.Errorf("%v for %d bytes", op, c.size)
				}
			}
		})
	}
}

// TestSaveCadence checks how often the checkpoint is saved while a gigabyte comes each second: at most twenty times a second,
// and for at most a twentieth of the time, however slow the disk is. With little to save a second passes between two saves.
func TestSaveCadence(t *testing.T) {
	for name, c := range map[string]struct {
		every       time.Duration // a MiB comes
		disk        time.Duration // a rename takes
		least, most int           // saves in ten seconds
	}{
		"fast line":               {time.Millisecond, 0, 100, 200},
		"slow line":               {250 * time.Millisecond, 0, 8, 11},
		"nothing comes":           {time.Hour, 0, 0, 0},
		"slow disk":               {time.Millisecond, 40 * time.Millisecond, 8, 13},
		"disk that is very slow":  {time.Millisecond, 200 * time.Millisecond, 2, 3},
		"slow disk and slow line": {250 * time.Millisecond, 40 * time.Millisecond, 7, 11},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := memfs.New(memfs.Config{})
				if err := disk.Mkdir("/dir", 0o755); err != nil {
					t.Fatal(err)
				}
				f := faultfs.New(disk)
				f.OnOp(func(op faultfs.Op) error {
					if op.Kind == faultfs.Rename {
						time.Sleep(c.disk)
					}
					return nil
				})
				cfg := defaults()
				parts := newSet(1 << 40)
				dst, err := checkDestination(destinationConfig{fs: f, log: cfg.log, path: bubblePath, keepPartial: true})
				if err != nil {
					t.Fatal(err)
				}
				k := newKeeper(dst, parts, identity{bucket: "b", key: "k"}, &cfg.object, cfg.log)
				k.run = begun{facts{size: 1 << 40, etag: `"e"`}}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				var line sync.WaitGroup
				line.Go(func() {
					for wait(ctx, c.every) == nil {
						p := parts.take(func(int64) int64 { return 1 << 20 })
						parts.advance(p, parts.hold(p, 1<<20), 0)
					}
				})
				if err := k.saves(ctx); err != nil {
					t.Error(err)
				}
				line.Wait()
				if n := saves(f); n < c.least || n > c.most {
					t.Errorf("%d saves in ten seconds, want %d to %d", n, c.least, c.most)
				}
			})
		})
	}
}

// TestCheckpointDirNames checks that each source and destination has a name of its own in the checkpoint folder, and that
// another range of the same has the same name.
func TestCheckpointDirNames(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("other", osstest.PublicRead())
	content := osstest.Random(1, 16*testPart)
	for _, bucket := range []string{"bkt", "other"} {
		for _, key := range []string{"k", "k2"} {
			s.Put(bucket, key, content)
		}
	}
	d := newDownloader(t, s, WithPartSize(testPart), WithConcurrency(1))
	t.Cleanup(d.CloseIdleConnections)
	dir, cps := t.TempDir(), filepath.Join(t.TempDir(), "cps")
	paths := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	n := 0
	interrupted := func(what string, more int, call func(ctx context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s.Nth(5, osstest.Inject().Before(cancel).HoldHeaders(nil))
		if err := call(ctx); err == nil {
			t.Fatalf("%s: not interrupted", what)
		}
		s.ClearFaults()
		s.ResetLog()
		n += more
		if entries, err := os.ReadDir(cps); err != nil || len(entries) != n {
			t.Errorf("%s: %d checkpoints, want %d (%v)", what, len(entries), n, err)
		}
	}
	for _, path := range paths {
		for _, bucket := range []string{"bkt", "other"} {
			for _, key := range []string{"k", "k2"} {
				interrupted(bucket+"/"+key, 1, func(ctx context.Context) error {
					_, err := d.Download(ctx, bucket, key, path, WithCheckpointDir(cps))
					return err
				})
			}
		}
		interrupted("URL", 1, func(ctx context.Context) error {
			_, err := d.DownloadURL(ctx, s.URL("other", "k"), path, WithCheckpointDir(cps))
			return err
		})
		interrupted("range", 0, func(ctx context.Context) error {
			_, err := d.Download(ctx, "bkt", "k", path, WithCheckpointDir(cps), WithRange(1, -1))
			return err
		})
	}
	// Each is of the last call to it alone: the range goes on.
	res, err := d.Download(t.Context(), "bkt", "k", paths[1], WithCheckpointDir(cps), WithRange(1, -1))
	if err != nil || res.ResumedBytes != 5*testPart {
		t.Errorf("%+v, %v", res, err)
	}
	if entries, err := os.ReadDir(cps); err != nil || len(entries) != n-1 {
		t.Errorf("%d checkpoints, want %d (%v)", len(entries), n-1, err)
	}
}

// TestCheckpointDirByAnotherName checks that a checkpoint is found again if the folder or the path is given by another name,
// relative or absolute.
func TestCheckpointDirByAnotherName(t *testing.T) {
	for _, c := range []struct{ path, dir, thenPath, thenDir string }{
		{"file", "cps", "file", "ABS/cps"},
		{"file", "ABS/cps", "file", "cps"},
		{"file", "cps", "ABS/file", "./cps"},
		{"ABS/file", "cps", "sub/../file", "sub/../cps"},
	} {
		s := newServer(t)
		content := osstest.Random(1, 16*testPart)
		s.Put("bkt", "k", content)
		d := newDownloader(t, s, WithPartSize(testPart), WithConcurrency(1))
		dir := t.TempDir()
		t.Chdir(dir)
		if err := os.Mkdir("sub", 0o755); err != nil {
			t.Fatal(err)
		}
		name := func(n string) string { return strings.Replace(n, "ABS", dir, 1) }
		interrupt(t, s, d, name(c.path), 5, WithCheckpointDir(name(c.dir)))
		res, err := d.Download(t.Context(), "bkt", "k", name(c.thenPath), WithCheckpointDir(name(c.thenDir)))
		if err != nil || res.ResumedBytes != 5*testPart {
			t.Errorf("%+v: %+v, %v", c, res, err)
		}
		checkFile(t, filepath.Join(dir, "file"), content)
		if entries, err := os.ReadDir("cps"); err != nil || len(entries) != 0 {
			t.Errorf("%+v: left are %v, %v", c, entries, err)
		}
	}
}

// TestCheckpointDirIsShared checks that calls can begin at the same time while the checkpoint folder is missing, and that a
// folder that exists keeps its mode.
func TestCheckpointDirIsShared(t *testing.T) {
	s := newServer(t)
	content := osstest.Random(1, 4*testPart)
	s.Put("bkt", "k", content)
	cps := filepath.Join(t.TempDir(), "cps")
	d := newDownloader(t, s, WithPartSize(testPart), WithCheckpointDir(cps))
	dir := t.TempDir()
	var calls sync.WaitGroup
	for i := range 20 {
		calls.Go(func() {
			if _, err := d.Download(t.Context(), "bkt", "k", filepath.Join(dir, strconv.Itoa(i))); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	for i := range 20 {
		checkFile(t, filepath.Join(dir, strconv.Itoa(i)), content)
	}
	if err := os.Chmod(cps, 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Download(t.Context(), "bkt", "k", filepath.Join(dir, "again")); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(cps); err != nil || len(entries) != 0 {
		t.Errorf("left are %v, %v", entries, err)
	}
	if fi, err := os.Stat(cps); err != nil || os.PathSeparator == '/' && fi.Mode().Perm() != 0o750 {
		t.Errorf("the caller's folder is %v now, %v", fi.Mode(), err)
	}
}

// begun is a run of an object that is known, into a destination that has begun.
type begun struct{ facts }

func (b begun) objectFacts() (facts, bool) { return b.facts, true }
func (begun) hasBegun() bool               { return true }
func (begun) isReady() bool                { return true }
