package ossdl

import (
	"testing"
	"time"
)

// TestRetryPolicyFields checks that a field that is zero has its default, and one that is given stands, whatever that
// default is.
func TestRetryPolicyFields(t *testing.T) {
	for _, c := range []struct{ given, want RetryPolicy }{
		{RetryPolicy{}, RetryPolicy{12, 200 * time.Millisecond, 10 * time.Second}},
		{RetryPolicy{Attempts: 1}, RetryPolicy{1, 200 * time.Millisecond, 10 * time.Second}},
		{RetryPolicy{MinDelay: time.Second}, RetryPolicy{12, time.Second, 10 * time.Second}},
		{RetryPolicy{MinDelay: time.Minute}, RetryPolicy{12, time.Minute, time.Minute}},
		{RetryPolicy{MaxDelay: time.Minute}, RetryPolicy{12, 200 * time.Millisecond, time.Minute}},
		{RetryPolicy{MaxDelay: time.Millisecond}, RetryPolicy{12, time.Millisecond, time.Millisecond}},
		{RetryPolicy{5, 1, 1}, RetryPolicy{5, 1, 1}},
	} {
		cfg, err := defaults().with(inNew, []Option{WithRetry(RetryPolicy{3, 4, 5}), WithRetry(c.given)})
		if err != nil || cfg.retry != c.want {
			t.Errorf("%+v is %+v, want %+v (%v)", c.given, cfg.retry, c.want, err)
		}
	}
}
