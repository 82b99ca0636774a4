package ossdl

import (
	"testing"
	"time"
)

// TestSpeedIsOfTheLastSeconds checks that what a download was like long ago is not in it.
func TestSpeedIsOfTheLastSeconds(t *testing.T) {
	var received int64
	now := time.Unix(0, 0)
	r := &reporter{snapshot: func() Progress { return Progress{Done: received, Total: 1 << 40} }, received: func() int64 { return received }, at: now}
	for _, c := range []struct {
		rate    int64
		seconds int
	}{{1 << 20, 60}, {100 << 10, 10}, {4 << 20, 10}, {0, 30}} {
		for range 10 * c.seconds {
			now = now.Add(reportTime)
			received += c.rate / 10
			r.last = r.next(now)
		}
		if got := r.last.BytesPerSecond; got < 0.75*float64(c.rate) || got > 1.5*float64(c.rate)+1000 {
			t.Errorf("%.0f bytes a second after %d s of %d", got, c.seconds, c.rate)
		}
	}
}
