package torture_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"golang.org/x/sync/errgroup"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// flight counts the requests of a client from their start to the end of their bodies: what a bound on requests in flight
// bounds, whatever the server has noticed of it.
type flight struct {
	http.RoundTripper
	mu        sync.Mutex
	now, most int
}

func (f *flight) add(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now += n
	f.most = max(f.most, f.now)
}

func (f *flight) RoundTrip(r *http.Request) (*http.Response, error) {
	f.add(1)
	resp, err := f.RoundTripper.RoundTrip(r)
	if err != nil {
		f.add(-1)
		return nil, err
	}
	resp.Body = &flightBody{ReadCloser: resp.Body, end: sync.OnceFunc(func() { f.add(-1) })}
	return resp, nil
}

func (f *flight) inFlight() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *flight) CloseIdleConnections() {
	(&http.Client{Transport: f.RoundTripper}).CloseIdleConnections()
}

type flightBody struct {
	io.ReadCloser
	end func()
}

func (b *flightBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// TestUnderLoad makes many calls of one Downloader at once, through all its entry points, with one answer in twenty broken in
// one of many ways. Every file is right, the bound is kept at every moment, and nobody starves, also while some Readers are
// not read. The bound is held against what the client has in flight: to the server a request that was broken seems to go on
// until it has noticed.
func TestUnderLoad(t *testing.T) {
	const bound, part = 12, 32 << 10
	calls := 200
	if harness.Long() {
		calls = 2000
	}
	s := harness.NewServer(t)
	rng := rand.New(rand.NewPCG(1, 5))
	broken := 0
	s.OnRequest(func(r *osstest.Request) *osstest.Fault { // calls do not overlap
		if rng.IntN(20) > 0 {
			return nil
		}
		broken++
		at := rng.Int64N(part)
		switch rng.IntN(9) {
		case 0:
			return osstest.Inject().ResetAfter(at).Maybe() // a body may be shorter
		case 1:
			return osstest.Inject().CloseAfter(at).Maybe() // a body may be shorter
		case 2:
			return osstest.Inject().ResetBeforeHead()
		case 3:
			return osstest.Error(503, "ServiceUnavailable")
		case 4:
			return osstest.Error(500, "InternalError")
		case 5:
			return osstest.Inject().HTML(502)
		case 6:
			return osstest.Inject().CutHead(int(at % 100))
		case 7:
			return osstest.Inject().WrongContentRange(1).Maybe() // an answer with the whole object has none
		}
		return osstest.Inject().ShortBody(1).Maybe() // an object may be empty
	})
	hc := ossdl.HTTPClient()
	t.Cleanup(hc.CloseIdleConnections)
	counted := &flight{RoundTripper: hc.Transport}
	hc.Transport = counted
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ossdl.New(client, ossdl.WithConcurrency(bound), ossdl.WithPartSize(part), ossdl.WithHTTPClient(hc),
		ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 20, MinDelay: time.Millisecond, MaxDelay: 4 * time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	contents := make([]osstest.Content, calls)
	for i := range calls {
		contents[i] = osstest.Random(uint64(i), int64(i%8)*part+int64(i))
		s.Put("bkt", fmt.Sprint(i), contents[i])
	}
	tree := harness.Put(s, map[string]int64{"tree/a": 3*part + 1, "tree/b": 0, "tree/c/d": 5 * part, "tree/c/e": 7})
	s.Put("bkt", "unread", osstest.Random(9, 3<<20))
	var unread []*ossdl.Reader
	for range 3 {
		r, err := d.Open(t.Context(), "bkt", "unread", ossdl.WithReadAhead(ossdl.MinReadAhead))
		if err != nil {
			t.Fatal(err)
		}
		unread = append(unread, r)
	}
	var group errgroup.Group
	retries := make([]int, calls)
	for i := range calls {
		group.Go(func() error {
			res, err := underLoad(t, d, s, i, contents[i], filepath.Join(dir, fmt.Sprint(i)))
			if err == nil && (!res.Verified || res.Size != contents[i].Size()) {
				err = fmt.Errorf("call %d: %+v", i, res)
			}
			if res != nil {
				retries[i] = res.Retries
			}
			return err
		})
	}
	group.Go(func() error {
		res, err := d.DownloadPrefix(t.Context(), "bkt", "tree/", filepath.Join(dir, "tree"))
		if err == nil && res.Done != len(tree) {
			err = fmt.Errorf("%+v", res)
		}
		return err
	})
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	for _, r := range unread {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	for i := range calls {
		harness.CheckFile(t, filepath.Join(dir, fmt.Sprint(i)), contents[i])
	}
	for key, content := range tree {
		harness.CheckFile(t, filepath.Join(dir, key), content)
	}
	again := 0
	for _, n := range retries {
		again += n
	}
	t.Logf("%d calls, %d answers broken, %d retries, at most %d requests in flight", calls, broken, again, counted.most)
	if counted.most > bound {
		t.Errorf("%d requests in flight, the bound is %d", counted.most, bound)
	}
	if counted.now != 0 {
		t.Errorf("%d requests still in flight", counted.now)
	}
	if broken == 0 || again == 0 {
		t.Error("nothing was tested")
	}
}

// underLoad makes the i-th call, most of them a Download.
func underLoad(t *testing.T, d *ossdl.Downloader, s *osstest.Server, i int, c osstest.Content, path string) (*ossdl.Result, error) {
	switch key := fmt.Sprint(i); i % 20 {
	case 3:
		return d.DownloadURL(t.Context(), harness.Sign(t, s, oss.AuthV1, time.Hour, key), path)
	case 7:
		f, err := os.Create(path)
		if err != nil {
			return nil, err
		}
		res, err := d.DownloadTo(t.Context(), "bkt", key, f)
		return res, errors.Join(err, f.Close())
	case 11:
		r, err := d.Open(t.Context(), "bkt", key, ossdl.WithReadAhead(ossdl.MinReadAhead))
		if err != nil {
			return nil, err
		}
		got, err := io.ReadAll(r)
		return r.Result(), errors.Join(err, r.Close(), os.WriteFile(path, got, 0o644))
	default:
		return d.Download(t.Context(), "bkt", key, path)
	}
}
