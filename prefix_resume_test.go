package ossdl_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestPrefixInUse makes two calls for one folder at once: what one of them is at fails in the other, and comes whole.
func TestPrefixInUse(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 1000, "b": 1000})
	dir := t.TempDir()
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 2, 0, 0)
	all["held"] = osstest.Random(9, 100<<10)
	s.Put("bkt", "held", all["held"])
	open, holds := make(chan struct{}), make(chan struct{})
	s.Once(func(r *osstest.Request) bool { return r.Key == "held" }, osstest.Inject().At(1000, func() { close(holds) }).Gate(1000, open))
	var wg sync.WaitGroup
	defer wg.Wait()
	one, two := harness.NewDownloader(t, s), harness.NewDownloader(t, s)
	wg.Go(func() {
		res, err := one.DownloadPrefix(t.Context(), "bkt", "", dir)
		if err != nil || res.Done != 1 || res.Skipped != 2 {
			t.Errorf("first call: %+v, %v", res, err)
		}
		harness.CheckTree(t, dir, all)
	})
	<-holds
	res, err = two.DownloadPrefix(t.Context(), "bkt", "", dir)
	if !errors.Is(err, ossdl.ErrInUse) || res.Skipped != 2 || res.Failed != 1 || res.Failures[0].Key != "held" {
		t.Errorf("second call: %+v, %v", res, err)
	}
	close(open)
}

// TestPrefixManyCallsOneFolder makes many calls for one folder, over and over, each removing the folder of working files as
// it ends.
func TestPrefixManyCallsOneFolder(t *testing.T) {
	s := harness.NewServer(t)
	sizes := map[string]int64{}
	for i := range 8 {
		sizes[fmt.Sprintf("p%d/k", i)] = 100
	}
	all := harness.Put(s, sizes)
	dir := t.TempDir()
	d := harness.NewDownloader(t, s)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 10 {
				_ = os.Remove(filepath.Join(dir, fmt.Sprintf("p%d", i), "k"))
				if res, err := d.DownloadPrefix(t.Context(), "bkt", fmt.Sprintf("p%d", i), dir); err != nil || res.Done != 1 {
					t.Errorf("%+v, %v", res, err)
				}
			}
		})
	}
	wg.Wait()
	harness.CheckTree(t, dir, all)
}

// TestPrefixWorkDirRemovedByAnother does the same as TestPrefixManyCallsOneFolder, with the folder gone at the worst
// moments.
func TestPrefixWorkDirRemovedByAnother(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"k": 100})
	for _, moment := range []string{"lstat", "upper", "lock"} {
		dir := t.TempDir()
		f := &removingFS{moment: moment}
		removing := harness.WithFolderFS(func(r *os.Root) fsys.FS { f.FS = fsys.Rooted(r); return f })
		res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir, removing)
		harness.CheckCounts(t, res, err, 1, 0, 0)
		harness.CheckTree(t, dir, all)
		if !f.done {
			t.Errorf("%s did not happen", moment)
		}
	}
}

// removingFS removes the folder of working files, once.
type removingFS struct {
	fsys.FS
	moment string
	done   bool
}

func (f *removingFS) now(moment string) {
	if moment == f.moment && !f.done {
		f.done = f.FS.Remove(harness.WorkDir) == nil
	}
}

func (f *removingFS) Lstat(name string) (fs.FileInfo, error) {
	switch name {
	case harness.WorkDir:
		f.now("lstat")
	case strings.ToUpper(harness.WorkDir):
		f.now("upper")
	}
	return f.FS.Lstat(name)
}

func (f *removingFS) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	if strings.HasSuffix(name, harness.LockSuffix) {
		f.now("lock")
	}
	return f.FS.OpenFile(name, flag, perm)
}

// TestPrefixResumes checks that an interrupted call leaves whole files and working files, and the next one goes on, also
// inside large objects.
func TestPrefixResumes(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 1000, "large": 40 * harness.PartSize, "z": 1000})
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
	dir := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	n := 0
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Key == "large" {
			if n++; n == 20 {
				return osstest.Inject().Before(func() { cancel(why) }).HoldHeaders(nil)
			}
		}
		return nil
	})
	res, err := d.DownloadPrefix(ctx, "bkt", "", dir)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, why) || res == nil || res.Failed != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	if entries, err := os.ReadDir(filepath.Join(dir, harness.WorkDir)); err != nil || len(entries) != 2 {
		t.Errorf("working files: %v, %v", entries, err)
	}
	if harness.Exists(filepath.Join(dir, "large")) {
		t.Error("the unfinished object has its name")
	}
	s.ClearFaults()
	s.ResetLog()
	p := &harness.ProgressRecorder{T: t}
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithProgress(p.AddOfMany))
	if err != nil || res.Done+res.Skipped != 3 {
		t.Fatalf("%+v, %v", res, err)
	}
	var again int64
	for _, r := range s.Requests() {
		if r.Key == "large" {
			again += r.Sent
		}
	}
	if want := int64(40-19) * harness.PartSize; again != want || p.Last().Resumed < 19*harness.PartSize {
		t.Errorf("%d bytes of the large object fetched again, want %d; %+v", again, want, p.Last())
	}
	harness.CheckTree(t, dir, all)
}

// TestPrefixInterruptUntilDone cuts a call off at any request, again and again until it is done: no byte but those in
// flight comes twice.
func TestPrefixInterruptUntilDone(t *testing.T) {
	s := harness.NewServer(t)
	sizes := map[string]int64{}
	var total int64
	for i := range 30 {
		size := int64(i) * 3 << 10
		if i%10 == 9 {
			size = 20 * harness.PartSize
		}
		sizes[fmt.Sprintf("d%d/k%02d", i%3, i)] = size
		total += size
	}
	all := harness.Put(s, sizes)
	const workers = 4
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(workers))
	dir := t.TempDir()
	runs, done := 0, 0
	for ; runs < 200; runs++ {
		ctx, cancel := context.WithCancel(t.Context())
		s.Nth(5+runs%7, osstest.Inject().Before(cancel).HoldHeaders(nil).Maybe()) // the last run is not interrupted
		res, err := d.DownloadPrefix(ctx, "bkt", "", dir)
		cancel()
		s.ClearFaults()
		done += res.Done
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) || res.Failed != 0 {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	harness.CheckTree(t, dir, all)
	if done != len(all) {
		t.Errorf("%d objects brought, there are %d", done, len(all))
	}
	listings := int64(0)
	for _, r := range s.Requests() {
		if r.Key == "" {
			listings += r.Sent
		}
	}
	if sent, most := harness.Fetched(s)-listings, total+int64(runs)*workers*harness.PartSize; sent > most {
		t.Errorf("%d bytes sent for %d, in %d runs", sent, total, runs+1)
	}
	t.Logf("%d runs", runs+1)
}

func TestPrefixWithoutCheckpoint(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"large": 10 * harness.PartSize})
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}), ossdl.WithoutCheckpoint())
	dir := t.TempDir()
	s.Nth(5, osstest.Error(500, "InternalError"))
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 0, 0, 1)
	harness.CheckTree(t, dir, harness.Contents{})

	// What a call with a checkpoint left goes, too.
	s.ClearFaults()
	s.Nth(5, osstest.Error(500, "InternalError"))
	keeping := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}))
	res, err = keeping.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 0, 0, 1)
	if !harness.Exists(filepath.Join(dir, harness.WorkDir)) {
		t.Error("nothing was kept")
	}
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 1, 0, 0)
	harness.CheckTree(t, dir, all)
}

// TestPrefixTidiesUp checks that what a killed call left of a file that is there by now goes, unless another call is at it.
func TestPrefixTidiesUp(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"k": 1000})
	d := harness.NewDownloader(t, s, ossdl.WithCheckpointDir(filepath.Join(t.TempDir(), "unused")))
	dir := t.TempDir()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 1, 0, 0)
	work := filepath.Join(dir, harness.WorkDir)
	if err := os.Mkdir(work, 0o777); err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(dir, harness.WorkBase("k"))
	for _, suffix := range []string{harness.PartSuffix, harness.CheckpointSuffix, harness.CheckpointSuffix + fsys.TempSuffix, harness.LockSuffix} {
		harness.WriteFile(t, base+suffix, "{}")
	}
	harness.WriteFile(t, filepath.Join(work, "of another"), "")
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 0, 1, 0)
	if entries, err := os.ReadDir(work); err != nil || len(entries) != 1 || entries[0].Name() != "of another" {
		t.Errorf("left: %v, %v", entries, err)
	}
	if err := os.Remove(filepath.Join(work, "of another")); err != nil {
		t.Fatal(err)
	}
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 0, 1, 0)
	harness.CheckTree(t, dir, all)
}
