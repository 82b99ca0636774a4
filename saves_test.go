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
	"github.com/ossdl/ossdl/internal/osstest"
)

// saves are the moments at which a checkpoint was put in place.
func saves(f *faultfs.FS) (n int) {
	for _, op := range f.Ops() {
		if op.Kind == faultfs.Rename && strings.HasSuffix(op.To, CheckpointSuffix) {
			n++
		}
	}
	return n
}

// TestSaveThatFails, each time, is logged once and ends nothing.
func TestSaveThatFails(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Open, faultfs.Write, faultfs.Sync, faultfs.Rename} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log records
				b := newBubble(t, 8<<20, 64<<10, nil, WithPartSize(1<<20), WithConcurrency(2), WithLogger(log.logger()))
				f := faultfs.New(b.disk, faultfs.Plan{Kind: kind, Name: CheckpointSuffix + fsys.TempSuffix, Forever: true})
				res, err := b.download(t, t.Context(), "Download", bubblePath, withFS(f))
				if err != nil || !res.Verified {
					t.Fatalf("%+v, %v", res, err)
				}
				tries := 0
				for _, op := range f.Ops() {
					if op.Kind == faultfs.Open && strings.HasSuffix(op.Name, CheckpointSuffix+fsys.TempSuffix) {
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

// TestNoSaveForWhatIsDoneAtOnce: an object that is done before the first save is due writes no checkpoint at all, one that
// takes longer does.
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
				if !c.saves && op.Kind == faultfs.Open && op.Flag&os.O_CREATE != 0 && strings.Contains(op.Name, CheckpointSuffix) {
					t.Errorf("%v for %d bytes", op, c.size)
				}
			}
		})
	}
}

// TestCheckpointDirNames: one name for each source and destination; another range of the same has the same name.
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

// TestCheckpointDirByAnotherName: a relative name and an absolute one are of the same folder, and so are two of the path.
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

// TestCheckpointDirIsShared by calls that begin at once and find no folder; one that is there keeps its mode.
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
