package ossdl

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/slots"
)

// impatient is a policy that hardly waits.
var impatient = RetryPolicy{Attempts: 3, MinDelay: time.Millisecond, MaxDelay: 2 * time.Millisecond}

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
				after, slow := object.SlowDown(object.NewStatusError(c.status, h, oss.ServiceError{}))
				if err := slots.NewGate(4, 4).BackOff(t.Context(), slots.Retry(c.policy), c.fails, slots.Hint{After: after, Slow: slow}); err != nil {
					t.Fatal(err)
				}
				if waited := time.Since(begun); waited < c.least || waited > c.most {
					t.Errorf("waited %v, want %v to %v", waited, c.least, c.most)
				}
			})
		})
	}
}
