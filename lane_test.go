package ossdl

import (
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// rated is a bubble with a fast network for the tests of rate limits.
func rated(t *testing.T, opts ...Option) *bubble {
	return newBubble(t, ratedSize, BufferSize, nil, append([]Option{WithPartSize(256 << 10), WithConcurrency(8)}, opts...)...)
}

const (
	ratedSize = 4 << 20
	limitRate = 256 << 10 // bytes a second
)

// checkRate: n bytes in so long a time keep the limit, and use it. What comes at once is the burst; nothing else is free.
func checkRate(t *testing.T, what string, n, limit int64, took time.Duration) {
	t.Helper()
	burst := float64(Burst(limit))
	if least := (float64(n) - burst) / float64(limit); took.Seconds() < 0.999*least {
		t.Errorf("%s: %d bytes in %v, at %d a second they take %.3f s", what, n, took, limit, least)
	}
	if most := float64(n)/float64(limit) + 5; took.Seconds() > most {
		t.Errorf("%s: %d bytes in %v, at %d a second they take %.3f s at most", what, n, took, limit, most)
	}
}

// TestRateLimitOfEachEntrance, given to New, and given to the call; the lower one counts.
func TestRateLimitOfEachEntrance(t *testing.T) {
	for _, entrance := range oneEntrances {
		for name, c := range map[string]struct{ all, own []Option }{
			"New":            {[]Option{WithRateLimit(limitRate)}, nil},
			"call":           {nil, []Option{WithRateLimit(limitRate)}},
			"call below New": {[]Option{WithRateLimit(4 * limitRate)}, []Option{WithRateLimit(limitRate)}},
			"New below call": {[]Option{WithRateLimit(limitRate)}, []Option{WithRateLimit(4 * limitRate)}},
		} {
			t.Run(entrance+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := rated(t, c.all...)
					start := time.Now()
					if _, err := b.download(t, t.Context(), entrance, bubblePath, c.own...); err != nil {
						t.Fatal(err)
					}
					checkRate(t, entrance, b.s.sent.Load(), limitRate, time.Since(start))
				})
			})
		}
		t.Run(entrance+"/none", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := rated(t)
				start := time.Now()
				if _, err := b.download(t, t.Context(), entrance, bubblePath); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("%v without a limit: the network of these tests shows nothing", took)
				}
			})
		})
	}
}

// TestRateLimitOfAllCallsTogether: that of New is shared by calls of all entrances, while one call has a lower one of its own,
// and keeps it.
func TestRateLimitOfAllCallsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const own = limitRate / 16
		b := rated(t, WithRateLimit(limitRate))
		start := time.Now()
		var calls sync.WaitGroup
		var slow time.Duration
		for i, entrance := range oneEntrances {
			calls.Go(func() {
				if _, err := b.download(t, t.Context(), entrance, bubblePath+strconv.Itoa(i)); err != nil {
					t.Errorf("%s: %v", entrance, err)
				}
			})
		}
		var slowOne sync.WaitGroup
		slowOne.Go(func() {
			if _, err := b.download(t, t.Context(), "DownloadTo", "", WithRateLimit(own), WithRange(0, 1<<20)); err != nil {
				t.Error(err)
			}
			slow = time.Since(start)
		})
		calls.Wait()
		checkRate(t, "all calls", b.s.sent.Load(), limitRate, time.Since(start))
		slowOne.Wait()
		// It also waits for its share of the common limit, so only the lower bound is exact.
		if least := float64(1<<20-Burst(own)) / own; slow.Seconds() < 0.999*least {
			t.Errorf("the call with a limit of its own: %v, its bytes take %.3f s", slow, least)
		}
	})
}
