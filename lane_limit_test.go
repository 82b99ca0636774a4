package ossdl

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
)

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Time is the bubble's: a bucket that lets n bytes through in zero time has failed.
		l := newLimiter(1 << 20)
		tr := &lane{limits: []*rate.Limiter{l}}
		start := time.Now()
		for range 40 {
			if err := tr.throttle(t.Context(), tr.readLimit()); err != nil {
				t.Fatal(err)
			}
		}
		sent := float64(40 * tr.readLimit())
		if got := sent / (time.Since(start).Seconds() + float64(l.Burst())/(1<<20)); got > 1.01*(1<<20) {
			t.Errorf("%.0f bytes a second at a limit of %d", got, 1<<20)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := tr.throttle(ctx, tr.readLimit()); !errors.Is(err, context.Canceled) {
			t.Errorf("waited on in spite of %v", err)
		}
	})
}
