package torture_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
)

// attempts are the moments at which requests arrive.
type attempts struct {
	mu sync.Mutex
	at []time.Time
}

func (a *attempts) arrive() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, time.Now())
	return len(a.at)
}

// breaking is a body that ends in an error after so many bytes.
type breaking struct {
	io.ReadCloser
	left int
}

func (b *breaking) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// TestAttemptsOnTheWire: so many requests are made for a range that brings nothing, and no more; where each brings a little,
// as many as it takes, except with Attempts 1, which tries nothing again.
func TestAttemptsOnTheWire(t *testing.T) {
	for _, entryPoint := range harness.EntryPoints {
		for name, c := range map[string]struct {
			opts     []ossdl.Option
			brings   int // bytes of each answer, before it breaks
			every    int // only each so many-th does, others bring nothing
			requests int
			fails    int // in a row without progress, 0: it succeeds
		}{
			"default":                       {nil, 0, 1, 12, 12},
			"zero fields":                   {[]ossdl.Option{ossdl.WithRetry(ossdl.RetryPolicy{MaxDelay: time.Second})}, 0, 1, 12, 12},
			"3":                             {[]ossdl.Option{ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 3})}, 0, 1, 3, 3},
			"1":                             {[]ossdl.Option{ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1})}, 0, 1, 1, 1},
			"1, with progress":              {[]ossdl.Option{ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1})}, harness.ProgressUnit, 1, 1, 1},
			"2, with progress":              {[]ossdl.Option{ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 2})}, harness.ProgressUnit, 1, 8, 0},
			"3, with less progress":         {[]ossdl.Option{ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 3})}, harness.ProgressUnit - 1, 1, 3, 3},
			"2, with progress now and then": {[]ossdl.Option{ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 2})}, harness.ProgressUnit, 2, 16, 0},
		} {
			t.Run(entryPoint+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var seen attempts
					b := harness.NewBubbleClient(t, 8*harness.ProgressUnit, harness.ProgressUnit, func(_ *http.Request, resp *http.Response) error {
						if n := seen.arrive(); c.brings == 0 || n%c.every != 0 {
							return io.ErrUnexpectedEOF
						}
						resp.Body = &breaking{resp.Body, c.brings}
						return nil
					}, ossdl.WithPartSize(8*harness.ProgressUnit), ossdl.WithConcurrency(1))
					res, err := b.Download(t, t.Context(), entryPoint, harness.BubblePath, c.opts...)
					var part *ossdl.PartError
					switch {
					case c.fails == 0 && err != nil:
						t.Error(err)
					case c.fails > 0 && (!errors.As(err, &part) || part.Attempts != c.fails || !errors.Is(err, io.ErrUnexpectedEOF)):
						t.Errorf("%v; want a PartError of %d attempts", err, c.fails)
					}
					if len(seen.at) != c.requests {
						t.Errorf("%d requests, want %d", len(seen.at), c.requests)
					}
					if res != nil && (res.Requests != c.requests || res.Retries != c.requests-1) {
						t.Errorf("the result has %d requests and %d retries", res.Requests, res.Retries)
					}
					// A request takes its time on the wire; what is more was waited for.
					bound := time.Duration(0)
					for i := 1; i < len(seen.at) && c.brings == 0 && c.opts == nil; i++ {
						if gap := seen.at[i].Sub(seen.at[i-1]) - harness.ServicePause; gap < 0 || gap > bound {
							t.Errorf("attempt %d came after a wait of %v, want 0 to %v", i+1, gap, bound)
						}
						bound = min(10*time.Second, max(200*time.Millisecond, 2*bound))
					}
				})
			})
		}
	}
}

// crowded is a bubble in which the requests in flight are counted.
func crowded(t *testing.T, opts ...ossdl.Option) (*harness.BubbleClient, *flight) {
	b := harness.NewBubbleClient(t, 2<<20, 1<<10, nil, append([]ossdl.Option{ossdl.WithPartSize(2 << 10)}, opts...)...)
	f := &flight{RoundTripper: b.HTTP.Transport}
	b.HTTP.Transport = f
	return b, f
}

// TestOneCallsConcurrencyIsItsOwn checks that a call that asks for many requests gets them, and the next, which asks for
// none, stays below the adaptive ceiling. One that asks for fewer has fewer.
func TestOneCallsConcurrencyIsItsOwn(t *testing.T) {
	for _, entryPoint := range harness.EntryPoints {
		t.Run(entryPoint, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, f := crowded(t)
				for i, c := range []struct {
					calls int // at once
					opts  []ossdl.Option
					least int
					most  int
				}{
					{1, []ossdl.Option{ossdl.WithConcurrency(200)}, ossdl.AdaptiveConcurrency + 1, 200},
					{3, nil, 2, ossdl.AdaptiveConcurrency},
					{1, []ossdl.Option{ossdl.WithConcurrency(3)}, 3, 3},
					{1, nil, 4, ossdl.AdaptiveConcurrency},
				} {
					f.most = 0
					if entryPoint == "Open" {
						c.opts = append(c.opts, ossdl.WithReadAhead(256<<20)) // buffers of so many take more than it has by default
					}
					var calls sync.WaitGroup
					for n := range c.calls {
						calls.Go(func() {
							if _, err := b.Download(t, t.Context(), entryPoint, harness.BubblePath+fmt.Sprint(i, n), c.opts...); err != nil {
								t.Error(err)
							}
						})
					}
					calls.Wait()
					if f.most < c.least || f.most > c.most {
						t.Errorf("call %d had %d requests in flight, want %d to %d", i, f.most, c.least, c.most)
					}
				}
			})
		})
	}
}

// TestCallsOfAllEntryPointsShareTheBound of New, which a call's own may not exceed.
func TestCallsOfAllEntryPointsShareTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound = 5
		b, f := crowded(t, ossdl.WithConcurrency(bound))
		var calls sync.WaitGroup
		for i := range 10 {
			var opts []ossdl.Option
			if i%2 == 0 {
				opts = append(opts, ossdl.WithConcurrency(50))
			}
			calls.Go(func() {
				if _, err := b.Download(t, t.Context(), harness.EntryPoints[i%4], harness.BubblePath+fmt.Sprint(i), opts...); err != nil {
					t.Error(err)
				}
			})
		}
		calls.Wait()
		if f.most != bound || f.now != 0 {
			t.Errorf("%d requests in flight at most, want %d; %d are left", f.most, bound, f.now)
		}
	})
}
