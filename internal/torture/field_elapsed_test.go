package torture_test

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
)

// TestMaxElapsedOnTheWire checks that with MaxElapsed a range without progress is retried for that long, however many attempts
// that takes, and that Attempts beside it still counts. Progress starts the time anew.
func TestMaxElapsedOnTheWire(t *testing.T) {
	const attempt = harness.ServicePause
	for _, entrance := range harness.EntryPoints {
		for name, c := range map[string]struct {
			policy      ossdl.RetryPolicy
			brings      int // bytes of each answer, before it breaks
			least, most time.Duration
			done        bool
		}{
			"an hour":           {ossdl.RetryPolicy{MaxElapsed: time.Hour}, 0, time.Hour, time.Hour + 2*attempt, false},
			"a second":          {ossdl.RetryPolicy{MaxElapsed: time.Second}, 0, time.Second, time.Second + 2*attempt, false},
			"three attempts":    {ossdl.RetryPolicy{Attempts: 3, MaxElapsed: time.Hour}, 0, 3 * attempt, 10 * time.Second, false},
			"one attempt":       {ossdl.RetryPolicy{Attempts: 1, MaxElapsed: time.Hour}, 0, attempt, attempt, false},
			"with progress":     {ossdl.RetryPolicy{MaxElapsed: 3 * attempt}, harness.ProgressUnit, 8 * attempt, time.Minute, true},
			"no time but tries": {ossdl.RetryPolicy{Attempts: 3, MaxElapsed: 1}, 0, attempt, attempt, false},
		} {
			t.Run(entrance+"/"+name, func(t *testing.T) {
				harness.Tried.Add("cases from the field", 1)
				synctest.Test(t, func(t *testing.T) {
					b := harness.NewBubbleClient(t, 8*harness.ProgressUnit, harness.ProgressUnit, func(_ *http.Request, resp *http.Response) error {
						if c.brings == 0 {
							return io.ErrUnexpectedEOF
						}
						resp.Body = &breaking{resp.Body, c.brings}
						return nil
					}, ossdl.WithPartSize(8*harness.ProgressUnit), ossdl.WithConcurrency(1))
					begun := time.Now()
					_, err := b.Download(t, t.Context(), entrance, harness.BubblePath, ossdl.WithRetry(c.policy))
					took := time.Since(begun)
					if (err == nil) != c.done || took < c.least || took > c.most {
						t.Errorf("%v after %v, want %v to %v", err, took, c.least, c.most)
					}
					if !c.done && !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("%v; want the last failure", err)
					}
				})
			})
		}
	}
}
