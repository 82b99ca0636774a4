package torture_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
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
	n := 0
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
			if n++; harness.LeaveOut(n, 3) {
				continue
			}
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

// TestTrickleHasAnEnd checks that a download whose connections all trickle, each fast enough not to count as stalled, ends when the
// caller's time is up. If the trickles also break before they count as progress, MaxElapsed ends it.
func TestTrickleHasAnEnd(t *testing.T) {
	const (
		perSecond = 2 << 10
		bound     = time.Minute
	)
	piece := int(perSecond * harness.ServicePause / time.Second)
	n := 0
	for _, entrance := range harness.EntryPoints {
		for name, breaks := range map[string]int{"context": 0, "MaxElapsed": 10 * perSecond} {
			if n++; harness.LeaveOut(n, 3) {
				continue
			}
			t.Run(entrance+"/"+name, func(t *testing.T) {
				harness.Tried.Add("cases from the field", 1)
				synctest.Test(t, func(t *testing.T) {
					b := harness.NewBubbleClient(t, 16<<20, piece, func(_ *http.Request, resp *http.Response) error {
						if breaks > 0 {
							resp.Body = &breaking{resp.Body, breaks}
						}
						return nil
					})
					ctx, want := t.Context(), io.ErrUnexpectedEOF
					opts := []ossdl.Option{ossdl.WithRetry(ossdl.RetryPolicy{MaxElapsed: bound})}
					if breaks == 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, bound)
						defer cancel()
						opts, want = nil, context.DeadlineExceeded
					}
					begun := time.Now()
					res, err := b.Download(t, ctx, entrance, harness.BubblePath, opts...)
					took := time.Since(begun)
					// The last attempt may begin just before the end, and takes its time.
					if most := bound + 15*time.Second; !errors.Is(err, want) || took < bound || took > most || breaks == 0 && took > bound {
						t.Errorf("%v after %v; want %v after %v", err, took, want, bound)
					}
					if res == nil || res.Requests < 2 || breaks == 0 && (res.Retries > 0 || res.DownloadedBytes < perSecond*int64(bound/time.Second)) {
						t.Errorf("%+v; want several connections that trickled all the time", res)
					}
				})
			})
		}
	}
}

// TestRetriesUnderMaxElapsedPause checks that retries which are bounded by time alone pause like all others, in whatever way the
// attempts fail: an hour of them is some 700 requests.
func TestRetriesUnderMaxElapsedPause(t *testing.T) {
	elapsed := time.Hour
	switch {
	case testing.Short():
		elapsed /= 6
	case !harness.Long():
		elapsed /= 3
	}
	most := int64(elapsed / (3600 * time.Millisecond)) // the delays are 0 to 10 s, so some 700 an hour are expected
	refused := func(status int) func(*http.Request, *http.Response) error {
		return func(_ *http.Request, resp *http.Response) error {
			resp.Body.Close()
			resp.StatusCode, resp.Body, resp.ContentLength = status, http.NoBody, 0
			resp.Header.Del("Content-Length")
			return nil
		}
	}
	fails := func(err error) func(*http.Request, *http.Response) error {
		return func(*http.Request, *http.Response) error { return err }
	}
	n := 0
	for _, entrance := range harness.EntryPoints {
		for name, change := range map[string]func(*http.Request, *http.Response) error{
			"broken":               fails(io.ErrUnexpectedEOF),
			"connection refused":   fails(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}),
			"500":                  refused(http.StatusInternalServerError),
			"503":                  refused(http.StatusServiceUnavailable),
			"a byte in each body":  func(_ *http.Request, resp *http.Response) error { resp.Body = &breaking{resp.Body, 1}; return nil },
			"a byte as the answer": shortAnswer,
		} {
			if n++; harness.LeaveOut(n, 3) {
				continue
			}
			t.Run(entrance+"/"+name, func(t *testing.T) {
				harness.Tried.Add("cases from the field", 1)
				synctest.Test(t, func(t *testing.T) {
					b := harness.NewBubbleClient(t, 8*harness.ProgressUnit, harness.ProgressUnit, change,
						ossdl.WithPartSize(8*harness.ProgressUnit), ossdl.WithConcurrency(1))
					begun := time.Now()
					_, err := b.Download(t, t.Context(), entrance, harness.BubblePath, ossdl.WithRetry(ossdl.RetryPolicy{MaxElapsed: elapsed}))
					if took := time.Since(begun); err == nil || took < elapsed || took > elapsed+time.Minute {
						t.Errorf("%v after %v", err, took)
					}
					if n := b.Service.Requests.Load(); n > most || n < most/3 {
						t.Errorf("%d requests in %v, want %d to %d", n, elapsed, most/3, most)
					}
				})
			})
		}
	}
}

// shortAnswer makes an answer one of the first byte that was asked for.
func shortAnswer(_ *http.Request, resp *http.Response) error {
	var first, last, size int64
	if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size); err != nil {
		return err
	}
	resp.Header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, first, size))
	resp.Header.Set("Content-Length", "1")
	resp.ContentLength = 1
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, 1), resp.Body}
	return nil
}
