package machine_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// smallObjects are n objects of the size, in some folders.
func smallObjects(n int, size int64) map[string]int64 {
	sizes := map[string]int64{}
	for i := range n {
		sizes[fmt.Sprintf("d%d/k%04d", i%7, i)] = size
	}
	return sizes
}

// TestBatchCanceledInTheMiddle checks that a call that is canceled while a batch is synced counts as done what has its path, leaves
// no other file and no working file, and that the next call brings the rest.
func TestBatchCanceledInTheMiddle(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, smallObjects(2500, 100)) // more than three calls can have under way
	dir := t.TempDir()
	for round := range 3 {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough")
		disk := harness.WithFolderFS(func(r *fsys.Root) fsys.FS {
			f := faultfs.New(fsys.Rooted(r))
			var synced atomic.Int32
			f.OnOp(func(o faultfs.Op) error {
				if o.Kind == faultfs.Sync && synced.Add(1) == int32(10+20*round) {
					cancel(why)
				}
				return nil
			})
			return f
		})
		before := treeOf(t, dir, all)
		res, err := harness.NewDownloader(t, s).DownloadPrefix(ctx, "bkt", "", dir, disk)
		if !errors.Is(err, why) || res == nil || res.Failed > 0 {
			t.Fatalf("%+v, %v", res, err)
		}
		if there := treeOf(t, dir, all); there != before+res.Done || res.Done == 0 {
			t.Errorf("%d files, %d before, %+v", there, before, *res)
		}
		if harness.Exists(filepath.Join(dir, harness.WorkDir)) {
			t.Errorf("working files are left")
		}
	}
	before := treeOf(t, dir, all)
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, len(all)-before, before, 0)
	harness.CheckTree(t, dir, all)
}

// treeOf returns how many of the files are there, and fails the test if one is not whole.
func treeOf(t *testing.T, dir string, all harness.Contents) (n int) {
	t.Helper()
	for name, c := range all {
		if path := filepath.Join(dir, filepath.FromSlash(name)); harness.Exists(path) {
			harness.CheckFile(t, path, c)
			n++
		}
	}
	return n
}

// TestFolderMovedAway checks that a file whose folder was moved away while it was written fails, small or in parts: it is not at its
// path. The next call makes the folder again and brings it.
func TestFolderMovedAway(t *testing.T) {
	for name, size := range map[string]int64{"small": 100, "in parts": 10 * harness.PartSize} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewServer(t)
			all := harness.Put(s, map[string]int64{"d/k": size, "e/k": 100})
			dir := t.TempDir()
			disk := harness.WithFolderFS(func(r *fsys.Root) fsys.FS {
				f := faultfs.New(fsys.Rooted(r))
				f.OnOp(func(o faultfs.Op) error {
					if o.Kind == faultfs.Rename && filepath.ToSlash(o.To) == "d/k" {
						return os.Rename(filepath.Join(dir, "d"), filepath.Join(dir, "moved"))
					}
					return nil
				})
				return f
			})
			d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize))
			res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, disk)
			harness.CheckCounts(t, res, err, 1, 0, 1)
			if runtime.GOOS != "windows" && !errors.Is(err, fsys.ErrMoved) && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v", err)
			}
			if err := os.RemoveAll(filepath.Join(dir, "moved")); err != nil {
				t.Fatal(err)
			}
			res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
			harness.CheckCounts(t, res, err, 1, 1, 0)
			harness.CheckTree(t, dir, all)
		})
	}
}

// TestBatchOnAFullDisk checks that a disk that is full in the middle of a batch fails the objects for which there is no room, by
// name and with the reason, that those for which there is room are done, and that nothing else is left.
func TestBatchOnAFullDisk(t *testing.T) {
	s := harness.NewServer(t)
	const size, room = 16 << 10, 25
	all := harness.Put(s, smallObjects(60, size))
	disk := memfs.New(memfs.Config{Capacity: room*size + 8<<10})
	on := harness.WithFolderFS(func(*fsys.Root) fsys.FS { return disk })
	d := harness.NewDownloader(t, s)
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), on)
	if !errors.Is(err, ossdl.ErrNoSpace) || res.Done == 0 || res.Done > room || res.Done+res.Failed != len(all) {
		t.Fatalf("%+v, %v", res, err)
	}
	for _, f := range res.Failures {
		if !errors.Is(f.Err, ossdl.ErrNoSpace) || !strings.Contains(f.Err.Error(), "are missing") {
			t.Errorf("%s: %v", f.Key, f.Err)
		}
	}
	files := 0
	for _, name := range disk.Names() {
		if strings.HasSuffix(name, "/") {
			continue
		}
		files++
		if !strings.Contains(name, "/k") {
			t.Errorf("left: %s", name)
		}
	}
	if files != res.Done {
		t.Errorf("%d files, %d done", files, res.Done)
	}
	disk.SetCapacity(0)
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), on)
	harness.CheckCounts(t, res, err, len(all)-files, files, 0)
}

// TestSmallIsNoLongerSmall checks that an object that has another size when it is fetched than when it was listed comes whole, be
// it more than the memory for it, more than any, or less.
func TestSmallIsNoLongerSmall(t *testing.T) {
	for _, c := range []struct{ listed, then int64 }{
		{1000, 3 << 20}, {1000, 5000}, {1000, 4096}, {1 << 20, 1<<20 + 1}, {1 << 20, 10}, {3 << 20, 10}, {10, 0},
	} {
		s := harness.NewServer(t)
		s.Put("bkt", "a/k", osstest.Random(1, c.listed))
		content := osstest.Random(2, c.then)
		s.OnList(func(*osstest.Request) *osstest.Fault {
			return osstest.Inject().Then(func() { s.Put("bkt", "a/k", content) })
		})
		dir := t.TempDir()
		p := &harness.ProgressRecorder{T: t}
		res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithProgress(p.AddOfMany))
		harness.CheckCounts(t, res, err, 1, 0, 0)
		harness.CheckTree(t, dir, harness.Contents{"a/k": content})
		if last := p.Last(); res.Bytes != c.then || last.Total != c.then || last.Done != c.then {
			t.Errorf("%+v: %d bytes, %+v", c, res.Bytes, last)
		}
	}
}

// TestSmallChangesUnderWay checks that a small object that is replaced between two requests for it fails as changed, and that its
// path keeps what it had.
func TestSmallChangesUnderWay(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 10, "k": 500 << 10, "z": 10})
	dir := t.TempDir()
	harness.WriteFile(t, filepath.Join(dir, "k"), "old")
	s.Once(func(r *osstest.Request) bool { return r.Key == "k" }, osstest.Inject().ResetAfter(100<<10).Then(func() {
		s.Put("bkt", "k", osstest.Random(9, 500<<10))
	}))
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 2, 0, 1)
	if !errors.Is(err, ossdl.ErrObjectChanged) || res.Failures[0].Key != "k" {
		t.Error(err)
	}
	harness.CheckFile(t, filepath.Join(dir, "a"), all["a"])
	harness.CheckFile(t, filepath.Join(dir, "k"), osstest.Bytes([]byte("old")))
	if harness.Exists(filepath.Join(dir, harness.WorkDir)) {
		t.Error("working files are left")
	}
}

// TestSmallWithAWrongByte checks that a body that does not have the checksum of its object is fetched again before anything is
// written.
func TestSmallWithAWrongByte(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"k": 100 << 10})
	s.Once(func(r *osstest.Request) bool { return r.Key == "k" }, osstest.Inject().FlipByte(50<<10))
	dir := t.TempDir()
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 1, 0, 0)
	harness.CheckTree(t, dir, all)
	if left := s.Unfired(); len(left) > 0 {
		t.Errorf("not tested: %q", left)
	}
	s.Delete("bkt", "k")
	s.Put("bkt", "k", osstest.Random(5, 100<<10))
	s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().FlipByte(1) })
	res, err = harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 0, 0, 1)
	if !errors.Is(err, ossdl.ErrChecksum) {
		t.Error(err)
	}
	harness.CheckTree(t, dir, all)
}

// TestSmallInTwoProcesses checks that a small object that one process downloads is in use for every other, whether that takes it
// for small or not, and that the file is that of the first.
func TestSmallInTwoProcesses(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 100, "held": 100})
	hold := func() (asked, open chan struct{}) {
		asked, open = make(chan struct{}), make(chan struct{})
		s.Once(func(r *osstest.Request) bool { return r.Key == "held" }, osstest.Inject().Before(func() { close(asked) }).HoldHeaders(open))
		return asked, open
	}
	inParts := ossdl.WithPartSize(50)

	dir := t.TempDir()
	asked, open := hold()
	p := startChild(t, s, "prefix", dir)
	<-asked
	for _, opts := range [][]ossdl.Option{nil, {inParts}} {
		res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "held", dir, opts...)
		harness.CheckCounts(t, res, err, 0, 0, 1)
		if !errors.Is(err, ossdl.ErrInUse) {
			t.Error(err)
		}
	}
	close(open)
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	harness.CheckTree(t, dir, all)

	for _, opts := range [][]ossdl.Option{nil, {inParts}} {
		dir := t.TempDir()
		asked, open := hold()
		done := make(chan error)
		go func() {
			_, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "held", dir, opts...)
			done <- err
		}()
		<-asked
		before := len(s.Requests())
		var refused *exec.ExitError
		if err := startChild(t, s, "prefix", dir).Wait(); !errors.As(err, &refused) {
			t.Errorf("the other process: %v", err)
		}
		for _, r := range s.Requests()[before:] {
			if r.Key == "held" {
				t.Error("the other process asked for the object")
			}
		}
		close(open)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		harness.CheckTree(t, dir, all)
	}
}

// TestHeldFilesAreBounded checks that no more small objects are asked for than may be without their paths, however many requests
// there may be and however long the disk takes, and that all come once it goes on.
func TestHeldFilesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &quickService{Service: harness.Service{Objects: map[string][]byte{}, Piece: 1 << 20}}
		for i := range harness.HeldFiles + 150 {
			s.Objects[fmt.Sprintf("k%04d", i)] = []byte("x")
		}
		client, err := oss.New("http://service.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(&http.Client{Transport: s}))
		if err != nil {
			t.Fatal(err)
		}
		d, err := ossdl.New(client, ossdl.WithConcurrency(ossdl.AdaptiveConcurrency))
		if err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		stuck := harness.WithFolderFS(func(r *fsys.Root) fsys.FS {
			f := faultfs.New(fsys.Rooted(r))
			f.OnOp(func(o faultfs.Op) error {
				if o.Kind == faultfs.Sync {
					<-release
				}
				return nil
			})
			return f
		})
		var res *ossdl.PrefixResult
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			res, err = d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), stuck)
		}()
		time.Sleep(time.Minute)
		if n := s.Requests.Load(); n != harness.HeldFiles {
			t.Errorf("%d objects were asked for, want %d", n, harness.HeldFiles)
		}
		close(release)
		<-ended
		harness.CheckCounts(t, res, err, len(s.Objects), 0, 0)
	})
}

// TestKilledInABatch checks that a process that is killed at any moment loses one batch at most, what was in flight included. The
// next process fetches nothing else again.
func TestKilledInABatch(t *testing.T) {
	s := harness.NewServer(t)
	const n = 2000
	all := harness.Put(s, smallObjects(n, 500))
	dir := t.TempDir()
	kept := 0
	for _, at := range []int{300, 500, 700} {
		s.ResetLog()
		asked := make(chan struct{})
		s.Nth(at, osstest.Inject().Before(func() { close(asked) }).HoldHeaders(nil))
		p := startChild(t, s, "prefix", dir)
		<-asked
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		var ended *exec.ExitError
		if err := p.Wait(); !errors.As(err, &ended) {
			t.Fatalf("the process that was killed ended with %v", err)
		}
		harness.Tried.Add("processes killed", 1)
		s.ClearFaults()
		fetched := 0
		for _, r := range s.Requests() {
			if r.Key != "" {
				fetched++
			}
		}
		now := treeOf(t, dir, all)
		lost := kept + fetched - now
		if lost > harness.HeldFiles {
			t.Errorf("%d of %d that were asked for are lost", lost, fetched)
		}
		harness.Tried.Add("objects of batches lost to kills", int64(lost))
		kept = now
	}
	if kept < 300 {
		t.Errorf("%d files are kept: little was tested", kept)
	}
	s.ResetLog()
	if err := startChild(t, s, "prefix", dir).Wait(); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Requests() {
		if r.Key != "" {
			kept++
		}
	}
	if kept != n {
		t.Errorf("the last process asked for %d more than were missing", kept-n)
	}
	harness.CheckTree(t, dir, all)
}
