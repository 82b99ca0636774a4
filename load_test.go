package ossdl

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"golang.org/x/sync/errgroup"

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

type flightBody struct {
	io.ReadCloser
	end func()
}

func (b *flightBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// TestUnderLoad makes many calls of one Downloader at once, with one answer in twenty broken in one of many ways. Every
// file is right, the bound is kept at every moment, and nobody starves.
func TestUnderLoad(t *testing.T) {
	const bound, part = 12, 32 << 10
	calls := 200
	if long() {
		calls = 2000
	}
	s := newServer(t)
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
			return osstest.Inject().ResetAfter(at)
		case 1:
			return osstest.Inject().CloseAfter(at)
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
			return osstest.Inject().WrongContentRange(1)
		}
		return osstest.Inject().ShortBody(1)
	})
	hc := HTTPClient()
	t.Cleanup(hc.CloseIdleConnections)
	counted := &flight{RoundTripper: hc.Transport}
	hc.Transport = counted
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(client, WithConcurrency(bound), WithPartSize(part),
		WithRetry(RetryPolicy{Attempts: 20, MinDelay: time.Millisecond, MaxDelay: 4 * time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	contents := make([]osstest.Content, calls)
	for i := range calls {
		contents[i] = osstest.Random(uint64(i), int64(i%8)*part+int64(i))
		s.Put("bkt", fmt.Sprint(i), contents[i])
	}
	var group errgroup.Group
	retries := make([]int, calls)
	for i := range calls {
		group.Go(func() error {
			res, err := d.Download(t.Context(), "bkt", fmt.Sprint(i), filepath.Join(dir, fmt.Sprint(i)))
			if err == nil && !res.Verified {
				err = fmt.Errorf("call %d: %+v", i, res)
			}
			if res != nil {
				retries[i] = res.Retries
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	for i := range calls {
		checkFile(t, filepath.Join(dir, fmt.Sprint(i)), contents[i])
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

// TestGateIsFair: slots go to those who wait longest, and a call with many workers waits its turn like one with few.
func TestGateIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := New(nil, WithConcurrency(4))
		if err != nil {
			t.Fatal(err)
		}
		const calls, rounds = 50, 20
		var mu sync.Mutex
		var order []int // which call got a slot
		var group sync.WaitGroup
		for call := range calls {
			l := d.newLane(0, 0)
			workers := 1
			if call == 0 {
				workers = 64
			}
			var left int
			for range workers {
				group.Go(func() {
					for {
						if err := l.acquire(context.Background()); err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						order = append(order, call)
						left++
						enough := left >= rounds
						mu.Unlock()
						time.Sleep(time.Millisecond) // of the bubble: a request
						l.release()
						if enough {
							return
						}
					}
				})
			}
			synctest.Wait() // the calls come one after the other
		}
		group.Wait()
		last := map[int]int{}
		for i, call := range order {
			if at, ok := last[call]; ok && i-at > calls+8 {
				t.Errorf("call %d waited while %d others had their turn", call, i-at)
			}
			last[call] = i
		}
		if len(last) != calls {
			t.Errorf("%d of %d calls had a turn", len(last), calls)
		}
	})
}
