package torture_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossdl/ossdl/internal/harness"
)

// storing is a body on whose way something stores bytes before it forwards them: those from at on come after a wait, all at
// once.
type storing struct {
	*harness.ServiceBody
	at   int64
	wait time.Duration
	turn chan struct{} // nil: bodies do not wait for each other
	done bool
}

func (b *storing) Read(p []byte) (int, error) {
	if b.at > 0 {
		n, err := b.ServiceBody.Read(p[:min(int64(len(p)), b.at)])
		b.at -= int64(n)
		return n, err
	}
	if !b.done {
		if err := b.store(); err != nil {
			return 0, err
		}
		b.done = true
	}
	return b.ServiceBody.Read(p)
}

func (b *storing) store() error {
	if b.turn != nil {
		select {
		case b.turn <- struct{}{}:
		case <-b.Ctx.Done():
			return context.Cause(b.Ctx)
		}
		defer func() { <-b.turn }()
	}
	return harness.Pass(b.Ctx, b.wait)
}

// TestStoreAndForward checks that a download ends well, by default, if each body is stored on the way for longer than the stall
// timeout, or the end of each is. It is enough if one stream at a time works. Bursts do not make requests larger than what comes
// in time, and the end is not asked for again and again.
func TestStoreAndForward(t *testing.T) {
	const rate, held = 20 << 10, 8 << 10 // bytes per second; bytes
	whole := func(n int64) (int64, time.Duration) { return 0, time.Duration(n) * time.Second / rate }
	n := 0
	for name, c := range map[string]struct {
		store    func(n int64) (at int64, wait time.Duration)
		oneByOne bool
		most     int64 // bytes of a request, once it is known how long bodies take
		within   time.Duration
		requests int64
	}{
		"all of each body":           {whole, false, 2 << 20, 10 * time.Minute, 200},
		"all of each, one by one":    {whole, true, 2 << 20, 30 * time.Minute, 500},
		"the last bytes of each one": {func(n int64) (int64, time.Duration) { return max(0, n-held), 45 * time.Second }, false, 256 << 20, 15 * time.Minute, 400},
	} {
		for _, entryPoint := range harness.EntryPoints {
			if n++; harness.LeaveOut(n, 3) {
				continue
			}
			t.Run(entryPoint+"/"+name, func(t *testing.T) {
				harness.Tried.Add("cases from the field", 1)
				synctest.Test(t, func(t *testing.T) {
					var largest atomic.Int64
					var turn chan struct{}
					if c.oneByOne {
						turn = make(chan struct{}, 1)
					}
					begun := time.Now()
					b := harness.NewBubbleClient(t, 16<<20, 16<<20, func(_ *http.Request, resp *http.Response) error {
						n := resp.ContentLength
						if time.Since(begun) > time.Minute && n > largest.Load() {
							largest.Store(n)
						}
						at, wait := c.store(n)
						resp.Body = &storing{ServiceBody: resp.Body.(*harness.ServiceBody), at: at, wait: wait, turn: turn}
						return nil
					})
					_, err := b.Download(t, t.Context(), entryPoint, harness.BubblePath)
					took, requests := time.Since(begun), b.Service.Requests.Load()
					if err != nil {
						t.Fatalf("%v after %v, %d requests", err, took, requests)
					}
					if took > c.within || requests > c.requests {
						t.Errorf("took %v and %d requests, want at most %v and %d", took, requests, c.within, c.requests)
					}
					if got := largest.Load(); got > c.most {
						t.Errorf("asked for %d bytes at once, want at most %d", got, c.most)
					}
					t.Logf("%v, %d requests, at most %d bytes", took, requests, largest.Load())
				})
			})
		}
	}
}
