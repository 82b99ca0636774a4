package machine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestPrefixConcurrency checks that the requests in flight are bounded over all objects of the call, large and small, and
// the listing.
func TestPrefixConcurrency(t *testing.T) {
	s := harness.NewServer(t)
	sizes := map[string]int64{"large1": 3 << 20, "large2": 3 << 20}
	for i := range 40 {
		sizes[fmt.Sprintf("k%02d", i)] = 1000
	}
	all := harness.Put(s, sizes)
	// Two more pages, read while objects are in flight.
	s.SetVirtual("bkt", 2500, func(i int) (string, osstest.Content) { return fmt.Sprintf("x%04d", i), osstest.Bytes(nil) })
	slow := func(*osstest.Request) *osstest.Fault { return osstest.Inject().Delay(2 * time.Millisecond) }
	s.OnRequest(slow)
	s.OnList(slow)
	for name, c := range map[string]struct {
		of, call []ossdl.Option
		most     int
	}{
		"of the Downloader": {of: []ossdl.Option{ossdl.WithConcurrency(3)}, most: 3},
		"of the call":       {call: []ossdl.Option{ossdl.WithConcurrency(3)}, most: 3},
		"of both":           {of: []ossdl.Option{ossdl.WithConcurrency(2)}, call: []ossdl.Option{ossdl.WithConcurrency(5)}, most: 2},
		"one":               {call: []ossdl.Option{ossdl.WithConcurrency(1)}, most: 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := harness.NewDownloader(t, s, c.of...)
			s.ResetLog()
			dir := t.TempDir()
			res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, append(c.call, ossdl.WithPartSize(100<<10), ossdl.WithExclude("x*"))...)
			harness.CheckCounts(t, res, err, len(all), 0, 0)
			harness.CheckTree(t, dir, all)
			if got := s.MaxInFlight(); got != c.most {
				t.Errorf("%d requests in flight, want %d", got, c.most)
			}
		})
	}
}

func TestPrefixRateLimit(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a": 20 << 10, "b": 20 << 10, "c": 20 << 10, "d": 60 << 10})
	d := harness.NewDownloader(t, s)
	start := time.Now()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), ossdl.WithRateLimit(200<<10))
	harness.CheckCounts(t, res, err, 4, 0, 0)
	// 120 KiB, less an eighth of a second's worth that may come at once.
	if took := time.Since(start); took < 450*time.Millisecond {
		t.Errorf("120 KiB at 200 KiB/s took %v", took)
	}
	// The listing is read from the network, too.
	s.SetVirtual("bkt", 900, func(i int) (string, osstest.Content) { return fmt.Sprintf("x%04d", i), osstest.Bytes(nil) })
	s.ResetLog()
	start = time.Now()
	res, err = d.DownloadPrefix(t.Context(), "bkt", "x", t.TempDir(), ossdl.WithRateLimit(400<<10), ossdl.WithExclude("*"))
	harness.CheckCounts(t, res, err, 0, 0, 0)
	if n, took := s.Stats().Sent, time.Since(start); took < time.Duration(n-50<<10)*time.Second/(400<<10) {
		t.Errorf("a listing of %d bytes at 400 KiB/s took %v", n, took)
	}
}

// TestPrefixAdapts checks that the number of requests adapts itself although no object takes long enough to judge by.
func TestPrefixAdapts(t *testing.T) {
	s := harness.NewServer(t)
	sizes := map[string]int64{}
	for i := range 600 {
		sizes[fmt.Sprintf("k%04d", i)] = 100
	}
	harness.Put(s, sizes)
	// So long that the workers wait for slots and not for the disk, and that there is time for several measurements.
	s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().Delay(60 * time.Millisecond) })
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir())
	harness.CheckCounts(t, res, err, len(sizes), 0, 0)
	if n := s.MaxInFlight(); n <= harness.StartConcurrency || n > ossdl.AdaptiveConcurrency {
		t.Errorf("%d requests in flight at most", n)
	}
}

// quickService answers each request after three milliseconds, so that few of the looks that are taken each tenth of a second
// fall on the instant at which all requests end.
type quickService struct {
	harness.Service
	now, most atomic.Int64 // requests in flight
}

func (s *quickService) RoundTrip(r *http.Request) (*http.Response, error) {
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
	}
	if err := harness.Pass(r.Context(), 3*time.Millisecond); err != nil {
		return nil, err
	}
	if r.URL.Path == "/" {
		return s.List(r), nil
	}
	s.Requests.Add(1)
	resp := s.Answer(r, http.StatusPartialContent, nil, map[string]string{
		"Content-Range": "bytes 0-0/1", "ETag": `"E"`, "Last-Modified": harness.ServiceTime.Format(http.TimeFormat),
	})
	resp.Header.Set("Content-Length", "1")
	resp.Body = io.NopCloser(strings.NewReader("x"))
	return resp, nil
}

// TestPrefixAdaptsOnAFastLine checks that the number of requests adapts itself although no object takes as long as its own
// watchdog needs for a first look.
func TestPrefixAdaptsOnAFastLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &quickService{Service: harness.Service{Objects: map[string][]byte{}, Piece: 1 << 20}}
		for i := range 3000 {
			s.Objects[fmt.Sprintf("k%04d", i)] = []byte("x")
		}
		client, err := oss.New("http://service.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(&http.Client{Transport: s}))
		if err != nil {
			t.Fatal(err)
		}
		d, err := ossdl.New(client)
		if err != nil {
			t.Fatal(err)
		}
		disk := harness.WithFolderFS(func(*fsys.Root) fsys.FS { return memfs.New(memfs.Config{}) })
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), disk)
		harness.CheckCounts(t, res, err, len(s.Objects), 0, 0)
		if n := s.most.Load(); n <= harness.StartConcurrency || n > ossdl.AdaptiveConcurrency {
			t.Errorf("%d requests in flight at most", n)
		}
	})
}

// TestPrefixLeavesNothingRunning checks that neither goroutines nor files stay behind, however a call ends.
func TestPrefixLeavesNothingRunning(t *testing.T) {
	s := harness.NewServer(t)
	sizes := map[string]int64{}
	for i := range 50 {
		sizes[fmt.Sprintf("k%02d", i)] = 200 << 10
	}
	harness.Put(s, sizes)
	hc := ossdl.HTTPClient()
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ossdl.New(client)
	if err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for i := range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		s.Nth(10*i, osstest.Inject().At(100, cancel).StallAfter(100))
		if _, err := d.DownloadPrefix(ctx, "bkt", "", t.TempDir()); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		cancel()
		s.ClearFaults()
	}
	hc.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := s.WaitFor(ctx, func() bool { return s.InFlight() == 0 }); err != nil {
		t.Error(err)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+2 && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > before+2 {
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines, %d before\n%s", n, before, buf[:runtime.Stack(buf, true)])
	}
}

// heapInUse is what is reachable.
func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools hold goes with the second
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestPrefixMemory checks that many keys need no more memory than few: when all are listed no more is held than when a
// tenth of them was. Remembering a key would take 20 to 60 bytes, as in [tree.Names] when names are folded.
func TestPrefixMemory(t *testing.T) {
	n := 60_000
	if harness.Long() {
		n = 1_000_000
	}
	s := harness.NewServer(t, osstest.WithoutLog())
	s.SetVirtual("bkt", n, func(i int) (string, osstest.Content) {
		return fmt.Sprintf("d%04d/e%05d/k%07d", i/1000, i/100, i), osstest.Zeros(1)
	})
	last := (n + 999) / 1000
	var pages, early, late atomic.Int64
	s.OnList(func(*osstest.Request) *osstest.Fault {
		switch pages.Add(1) {
		case int64(last / 10):
			early.Store(heapInUse())
		case int64(last):
			late.Store(heapInUse())
		}
		return nil
	})
	// All keys are other shards': they get their names, and nothing is fetched.
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), ossdl.WithShard(0, math.MaxInt),
		harness.WithFolderFS(func(*fsys.Root) fsys.FS { return memfs.New(memfs.Config{}) })) // which does not fold names
	if err != nil || res.Done+res.Skipped+res.Failed > 0 || pages.Load() != int64(last) {
		t.Fatalf("%+v, %v; %d pages", res, err, pages.Load())
	}
	t.Logf("%d pages: %d bytes held after a tenth of them, %d after all", pages.Load(), early.Load(), late.Load())
	if grown, keys := late.Load()-early.Load(), int64(n*9/10); grown > keys*10 {
		t.Errorf("grown by %d bytes, %d a key", grown, grown/keys)
	}
}

// TestPrefixOpenFiles checks that files and sockets are bounded by what is in flight, and none stays open: what is
// forgotten is not closed by the collector here.
func TestPrefixOpenFiles(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	n := 1200
	if harness.Long() {
		n = 12_000
	}
	s := harness.NewServer(t, osstest.WithoutLog())
	s.SetVirtual("bkt", n, func(i int) (string, osstest.Content) {
		return fmt.Sprintf("d%04d/k%07d", i/100, i), osstest.Zeros(int64(i % 1000))
	})
	hc := ossdl.HTTPClient()
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	const requests = 4
	d, err := ossdl.New(client, ossdl.WithConcurrency(requests))
	if err != nil {
		t.Fatal(err)
	}
	goroutines, before := runtime.NumGoroutine(), harness.OpenFiles()
	var most atomic.Int64
	s.OnRequest(func(*osstest.Request) *osstest.Fault {
		most.Store(max(most.Load(), int64(harness.OpenFiles()-before)))
		return nil
	})
	for i := range 2 {
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir())
		if err != nil || res.Done != n {
			t.Fatalf("run %d: %+v, %v", i, res, err)
		}
	}
	// For each object in flight its file, a folder and a look at the lock; for each request both ends of its connection; and
	// the files that wait for their paths.
	inFlight := requests + requests/4 + 2
	if bound := int64(inFlight*6 + 2*requests + 10 + harness.HeldFiles); most.Load() > bound {
		t.Errorf("%d files and sockets were open, want %d or less", most.Load(), bound)
	}
	t.Logf("%d more files and sockets were open at most", most.Load())
	hc.CloseIdleConnections()
	harness.BackTo(t, goroutines, before)
}
