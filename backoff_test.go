package ossdl

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// impatient is a policy that hardly waits.
var impatient = RetryPolicy{Attempts: 3, MinDelay: time.Millisecond, MaxDelay: 2 * time.Millisecond}

// TestBackOffIsFullJitter checks that the waits lie between zero and a bound that is MinDelay at first, doubles, and stays
// at MaxDelay, and they fill that room. The first attempt after progress is made at once.
func TestBackOffIsFullJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := RetryPolicy{Attempts: 100, MinDelay: 100 * time.Millisecond, MaxDelay: 700 * time.Millisecond}
		for fails, bound := range []time.Duration{1: 0, 2: p.MinDelay, 3: 2 * p.MinDelay, 4: 4 * p.MinDelay, 5: p.MaxDelay, 6: p.MaxDelay, 80: p.MaxDelay} {
			if bound == 0 && fails != 1 {
				continue
			}
			g := newGate(1)
			var waits []time.Duration
			for range 300 {
				begun := time.Now()
				if err := g.backOff(t.Context(), p, fails, io.ErrUnexpectedEOF); err != nil {
					t.Fatal(err)
				}
				waits = append(waits, time.Since(begun))
			}
			least, most := slices.Min(waits), slices.Max(waits)
			if most > bound || most < bound*9/10 || least > bound/10 {
				t.Errorf("attempt %d without progress: waits of %v to %v, want all of 0 to %v", fails, least, most, bound)
			}
		}
	})
}

// TestRetryAfter checks that what a server asks for in Retry-After is waited for, up to a minute; other refusals wait with
// jitter. The clock is the bubble's.
func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		status      int
		after       string
		policy      RetryPolicy
		fails       int
		least, most time.Duration
	}{
		{503, "7", impatient, 1, 7 * time.Second, 7 * time.Second},
		{429, "7", impatient, 1, 7 * time.Second, 7 * time.Second},
		{500, "7", impatient, 1, 7 * time.Second, 7 * time.Second},
		{503, "date", impatient, 1, 8 * time.Second, 9 * time.Second},
		{503, "3600", impatient, 1, time.Minute, time.Minute},
		{503, "3600", RetryPolicy{Attempts: 3, MinDelay: 1, MaxDelay: 2 * time.Minute}, 1, 2 * time.Minute, 2 * time.Minute},
		{503, "0", impatient, 1, 0, 2 * time.Millisecond},
		{503, "soon", impatient, 1, 0, 2 * time.Millisecond},
		{503, "", defaultRetry, 1, 0, 400 * time.Millisecond}, // never at once
		{503, "", defaultRetry, 3, 0, 800 * time.Millisecond},
		{500, "", defaultRetry, 1, 0, 0},
		{500, "", defaultRetry, 2, 0, 400 * time.Millisecond},
		{500, "", defaultRetry, 9, 0, 10 * time.Second},
	} {
		t.Run(fmt.Sprintf("%d, Retry-After %q, attempt %d", c.status, c.after, c.fails), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				h := http.Header{}
				if c.after == "date" {
					c.after = begun.Add(9 * time.Second).UTC().Format(http.TimeFormat)
				}
				if c.after != "" {
					h.Set("Retry-After", c.after)
				}
				if err := newGate(4).backOff(t.Context(), c.policy, c.fails, newStatusError(c.status, h, oss.ServiceError{})); err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(begun); waited < c.least || waited > c.most {
					t.Errorf("waited %v, want %v to %v", waited, c.least, c.most)
				}
			})
		})
	}
}

// TestDefaultPatience checks that by default no worker gives up while a listener is gone for seconds, however many there are.
func TestDefaultPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		var workers sync.WaitGroup
		for range AdaptiveConcurrency {
			workers.Go(func() {
				g := newGate(0)
				for fails := 1; fails < defaultRetry.Attempts; fails++ {
					if err := g.backOff(t.Context(), defaultRetry, fails, syscall.ECONNREFUSED); err != nil {
						t.Error(err)
					}
				}
				if waited := time.Since(begun); waited < 4*time.Second {
					t.Errorf("given up after %v", waited)
				}
			})
		}
		workers.Wait()
	})
}
