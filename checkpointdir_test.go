package ossdl_test

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestCheckpointDirNames checks that each source and destination has one name, and another range of the same has the same
// name.
func TestCheckpointDirNames(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("other", osstest.PublicRead())
	content := osstest.Random(1, 16*harness.PartSize)
	for _, bucket := range []string{"bkt", "other"} {
		for _, key := range []string{"k", "k2"} {
			s.Put(bucket, key, content)
		}
	}
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
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
					_, err := d.Download(ctx, bucket, key, path, ossdl.WithCheckpointDir(cps))
					return err
				})
			}
		}
		interrupted("URL", 1, func(ctx context.Context) error {
			_, err := d.DownloadURL(ctx, s.URL("other", "k"), path, ossdl.WithCheckpointDir(cps))
			return err
		})
		interrupted("range", 0, func(ctx context.Context) error {
			_, err := d.Download(ctx, "bkt", "k", path, ossdl.WithCheckpointDir(cps), ossdl.WithRange(1, -1))
			return err
		})
	}
	// Each is of the last call to it alone: the range goes on.
	res, err := d.Download(t.Context(), "bkt", "k", paths[1], ossdl.WithCheckpointDir(cps), ossdl.WithRange(1, -1))
	if err != nil || res.ResumedBytes != 5*harness.PartSize {
		t.Errorf("%+v, %v", res, err)
	}
	if entries, err := os.ReadDir(cps); err != nil || len(entries) != n-1 {
		t.Errorf("%d checkpoints, want %d (%v)", len(entries), n-1, err)
	}
}

// TestCheckpointDirByAnotherName checks that a relative name and an absolute one are of the same folder, and so are two of
// the path.
func TestCheckpointDirByAnotherName(t *testing.T) {
	for _, c := range []struct{ path, dir, thenPath, thenDir string }{
		{"file", "cps", "file", "ABS/cps"},
		{"file", "ABS/cps", "file", "cps"},
		{"file", "cps", "ABS/file", "./cps"},
		{"ABS/file", "cps", "sub/../file", "sub/../cps"},
	} {
		s := harness.NewServer(t)
		content := osstest.Random(1, 16*harness.PartSize)
		s.Put("bkt", "k", content)
		d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
		dir := t.TempDir()
		t.Chdir(dir)
		if err := os.Mkdir("sub", 0o755); err != nil {
			t.Fatal(err)
		}
		name := func(n string) string { return strings.Replace(n, "ABS", dir, 1) }
		harness.Interrupt(t, s, d, name(c.path), 5, ossdl.WithCheckpointDir(name(c.dir)))
		res, err := d.Download(t.Context(), "bkt", "k", name(c.thenPath), ossdl.WithCheckpointDir(name(c.thenDir)))
		if err != nil || res.ResumedBytes != 5*harness.PartSize {
			t.Errorf("%+v: %+v, %v", c, res, err)
		}
		harness.CheckFile(t, filepath.Join(dir, "file"), content)
		if entries, err := os.ReadDir("cps"); err != nil || len(entries) != 0 {
			t.Errorf("%+v: left are %v, %v", c, entries, err)
		}
	}
}

// TestCheckpointDirIsShared by calls that begin at once and find no folder; one that is there keeps its mode.
func TestCheckpointDirIsShared(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 4*harness.PartSize)
	s.Put("bkt", "k", content)
	cps := filepath.Join(t.TempDir(), "cps")
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithCheckpointDir(cps))
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
		harness.CheckFile(t, filepath.Join(dir, strconv.Itoa(i)), content)
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
