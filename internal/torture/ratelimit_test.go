package torture_test

import (
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
)

// rated is a bubble with a fast network for the tests of rate limits.
func rated(t *testing.T, opts ...ossdl.Option) *harness.BubbleClient {
	return harness.NewBubbleClient(t, ratedSize, harness.BufferSize, nil, append([]ossdl.Option{ossdl.WithPartSize(256 << 10), ossdl.WithConcurrency(8)}, opts...)...)
}

const (
	ratedSize = 4 << 20
	limitRate = 256 << 10 // bytes a second
)

// checkRate: n bytes in so long a time keep the limit, and use it. What comes at once is the burst; nothing else is free.
func checkRate(t *testing.T, what string, n, limit int64, took time.Duration) {
	t.Helper()
	burst := float64(harness.Burst(limit))
	if least := (float64(n) - burst) / float64(limit); took.Seconds() < 0.999*least {
		t.Errorf("%s: %d bytes in %v, at %d a second they take %.3f s", what, n, took, limit, least)
	}
	if most := float64(n)/float64(limit) + 5; took.Seconds() > most {
		t.Errorf("%s: %d bytes in %v, at %d a second they take %.3f s at most", what, n, took, limit, most)
	}
}

// TestRateLimitOfEachEntryPoint checks the limit that is given to New and the one that is given to the call; the lower one
// counts.
func TestRateLimitOfEachEntryPoint(t *testing.T) {
	for _, entryPoint := range harness.EntryPoints {
		for name, c := range map[string]struct{ all, own []ossdl.Option }{
			"New":            {[]ossdl.Option{ossdl.WithRateLimit(limitRate)}, nil},
			"call":           {nil, []ossdl.Option{ossdl.WithRateLimit(limitRate)}},
			"call below New": {[]ossdl.Option{ossdl.WithRateLimit(4 * limitRate)}, []ossdl.Option{ossdl.WithRateLimit(limitRate)}},
			"New below call": {[]ossdl.Option{ossdl.WithRateLimit(limitRate)}, []ossdl.Option{ossdl.WithRateLimit(4 * limitRate)}},
		} {
			t.Run(entryPoint+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := rated(t, c.all...)
					start := time.Now()
					if _, err := b.Download(t, t.Context(), entryPoint, harness.BubblePath, c.own...); err != nil {
						t.Fatal(err)
					}
					checkRate(t, entryPoint, b.Service.Sent.Load(), limitRate, time.Since(start))
				})
			})
		}
		t.Run(entryPoint+"/none", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := rated(t)
				start := time.Now()
				if _, err := b.Download(t, t.Context(), entryPoint, harness.BubblePath); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("%v without a limit: the network of these tests shows nothing", took)
				}
			})
		})
	}
}

// TestRateLimitOfAllCallsTogether checks that that of New is shared by calls of all entry points, while one call has a lower
// one of its own, and keeps it.
func TestRateLimitOfAllCallsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const own = limitRate / 16
		b := rated(t, ossdl.WithRateLimit(limitRate))
		start := time.Now()
		var calls sync.WaitGroup
		var slow time.Duration
		for i, entryPoint := range harness.EntryPoints {
			calls.Go(func() {
				if _, err := b.Download(t, t.Context(), entryPoint, harness.BubblePath+strconv.Itoa(i)); err != nil {
					t.Errorf("%s: %v", entryPoint, err)
				}
			})
		}
		var slowOne sync.WaitGroup
		slowOne.Go(func() {
			if _, err := b.Download(t, t.Context(), "DownloadTo", "", ossdl.WithRateLimit(own), ossdl.WithRange(0, 1<<20)); err != nil {
				t.Error(err)
			}
			slow = time.Since(start)
		})
		calls.Wait()
		checkRate(t, "all calls", b.Service.Sent.Load(), limitRate, time.Since(start))
		slowOne.Wait()
		// It also waits for its share of the common limit, so only the lower bound is exact.
		if least := float64(1<<20-harness.Burst(own)) / own; slow.Seconds() < 0.999*least {
			t.Errorf("the call with a limit of its own: %v, its bytes take %.3f s", slow, least)
		}
	})
}
