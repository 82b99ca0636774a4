package ossdl_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// reports collects the reports of a progress function. It has no lock: that calls never overlap is a promise, and is tested.
type reports struct {
	t       *testing.T
	total   int64                         // the range's
	takes   func(n int) time.Duration     // how long the n-th call takes; nil: no time
	look    func(p ossdl.Progress, n int) // what else to do with the n-th
	running atomic.Bool
	all     []ossdl.Progress
	at      []time.Time
}

func (r *reports) add(p ossdl.Progress) {
	if !r.running.CompareAndSwap(false, true) {
		r.t.Error("two calls at once")
		return
	}
	defer r.running.Store(false)
	r.all = append(r.all, p)
	r.at = append(r.at, time.Now())
	if r.look != nil {
		r.look(p, len(r.all))
	}
	if r.takes != nil {
		time.Sleep(r.takes(len(r.all)))
	}
}

func (r *reports) last() ossdl.Progress {
	r.t.Helper()
	if len(r.all) == 0 {
		r.t.Fatal("no report")
	}
	return r.all[len(r.all)-1]
}

// check holds the reports of one call, which has ended, against the rules for all.
func (r *reports) check(complete bool) {
	r.t.Helper()
	last := r.last()
	for i, p := range r.all {
		if i > 0 {
			before := r.all[i-1]
			if p.Done < before.Done || p.Retries < before.Retries || before.Total > 0 && p.Total != before.Total {
				r.t.Errorf("report %d of %d is %+v after %+v", i, len(r.all), p, before)
			}
		}
		if p.Total != 0 && p.Total != r.total || p.Done > p.Total || p.Resumed > p.Done || p.Remaining < -1 || p.BytesPerSecond < 0 {
			r.t.Errorf("report %d of %d of %d bytes is %+v", i, len(r.all), r.total, p)
		}
		if i < len(r.all)-1 && p.Total > 0 && p.Done == p.Total {
			r.t.Errorf("complete before the end: report %d of %d is %+v", i, len(r.all), p)
		}
		// Any second holds ten reports, and the last one.
		if n := i + 10; n < len(r.at)-1 && r.at[n].Sub(r.at[i]) < time.Second {
			r.t.Errorf("reports %d to %d, of %d, came in %v", i, n, len(r.at), r.at[n].Sub(r.at[i]))
		}
	}
	if (last.Done == last.Total) != complete || last.InFlight != 0 || complete && (last.Total != r.total || last.Remaining != 0) {
		r.t.Errorf("the last report is %+v; complete: %t", last, complete)
	}
}

const (
	progressSize = 8 << 20
	progressPart = 1 << 20
)

// reported is a bubble in which two requests deliver 4 MiB in some seconds.
func reported(t *testing.T, change func(*http.Request, *http.Response) error, opts ...ossdl.Option) *harness.BubbleClient {
	return harness.NewBubbleClient(t, progressSize, 64<<10, change, append([]ossdl.Option{ossdl.WithPartSize(progressPart), ossdl.WithConcurrency(2)}, opts...)...)
}

// TestProgressOfEachEntryPoint checks that reports come at most ten times a second and never two at once, however long the
// function takes, and say what is so.
func TestProgressOfEachEntryPoint(t *testing.T) {
	for _, entryPoint := range harness.EntryPoints {
		for name, c := range map[string]struct {
			takes func(int) time.Duration
			opts  []ossdl.Option
			total int64
		}{
			"quick":  {nil, nil, progressSize},
			"slow":   {func(int) time.Duration { return 350 * time.Millisecond }, nil, progressSize},
			"uneven": {func(n int) time.Duration { return time.Duration(n%3) * 95 * time.Millisecond }, nil, progressSize},
			"range":  {nil, []ossdl.Option{ossdl.WithRange(100, 5<<20)}, 5 << 20},
		} {
			t.Run(entryPoint+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := reported(t, nil)
					most := 0
					r := &reports{t: t, total: c.total, takes: c.takes, look: func(p ossdl.Progress, _ int) { most = max(most, p.InFlight) }}
					start := time.Now()
					res, err := b.Download(t, t.Context(), entryPoint, harness.BubblePath, append(c.opts, ossdl.WithProgress(r.add))...)
					if err != nil {
						t.Fatal(err)
					}
					r.check(true)
					if len(r.all) < 5 {
						t.Errorf("%d reports in %v", len(r.all), time.Since(start))
					}
					if most != 2 {
						t.Errorf("at most %d requests in flight, there were 2", most)
					}
					// 64 KiB come every 200 ms on each of two connections; between two requests nothing does.
					const rate = 2 * (64 << 10) / 0.2
					for i, p := range r.all[:len(r.all)-1] {
						left := float64(p.Total-p.Done) / rate
						switch {
						case p.Done == 0 && p.BytesPerSecond == 0: // nothing came yet
							if p.Remaining != -1 || i > 2 {
								t.Errorf("report %d: %+v", i, p)
							}
						case p.BytesPerSecond < rate/4 || p.BytesPerSecond > 1.5*rate:
							t.Errorf("report %d: %.0f bytes a second, they are %.0f", i, p.BytesPerSecond, rate)
						case p.Remaining.Seconds() < left/2 || p.Remaining.Seconds() > 4*left+1:
							t.Errorf("report %d: %v remain, it is some %.1f s", i, p.Remaining, left)
						}
					}
					if last := r.last(); last.Retries != res.Retries || last.Retries != 0 {
						t.Errorf("%d retries, the result has %d", last.Retries, res.Retries)
					}
					n := len(r.all)
					time.Sleep(time.Hour)
					if len(r.all) != n {
						t.Error("a report after the return")
					}
				})
			})
		}
	}
}

// TestProgressCountsRetries checks that each retry is in the reports once it was made, and the last report has the result's
// number.
func TestProgressCountsRetries(t *testing.T) {
	for _, entryPoint := range harness.EntryPoints {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			var lock atomic.Bool
			b := reported(t, func(r *http.Request, _ *http.Response) error {
				for !lock.CompareAndSwap(false, true) {
				}
				defer lock.Store(false)
				if n++; n%3 == 0 && n < 12 {
					return io.ErrUnexpectedEOF
				}
				return nil
			})
			r := &reports{t: t, total: progressSize}
			res, err := b.Download(t, t.Context(), entryPoint, harness.BubblePath, ossdl.WithProgress(r.add))
			if err != nil {
				t.Fatal(err)
			}
			r.check(true)
			if last := r.last(); last.Retries != 3 || res.Retries != 3 {
				t.Errorf("%s: %d retries in the last report, %d in the result, there were 3", entryPoint, last.Retries, res.Retries)
			}
			seen := map[int]bool{}
			for _, p := range r.all {
				seen[p.Retries] = true
			}
			if len(seen) < 3 {
				t.Errorf("%s: reports had %v retries", entryPoint, seen)
			}
		})
	}
}

// damaged is the body of an answer with one byte changed.
type damaged struct {
	io.ReadCloser
	done bool
}

func (d *damaged) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if n > 0 && !d.done {
		p[0] ^= 1
		d.done = true
	}
	return n, err
}

// TestProgressOfWhatIsFetchedTwice checks the reports of a download that comes damaged the first time. Done stays where it
// was until what is fetched again has come as far, and the end is reported once.
func TestProgressOfWhatIsFetchedTwice(t *testing.T) {
	for _, entryPoint := range []string{"Download", "DownloadURL", "DownloadTo"} { // a Reader has given the bytes away
		for _, mends := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				var n atomic.Int64
				b := reported(t, func(_ *http.Request, resp *http.Response) error {
					if n.Add(1) <= progressSize/progressPart || !mends {
						resp.Body = &damaged{ReadCloser: resp.Body}
					}
					return nil
				})
				r := &reports{t: t, total: progressSize}
				res, err := b.Download(t, t.Context(), entryPoint, harness.BubblePath, ossdl.WithProgress(r.add))
				if mends && err != nil || !mends && !errors.Is(err, ossdl.ErrChecksum) {
					t.Fatalf("%s: %v", entryPoint, err)
				}
				if res.DownloadedBytes != 2*progressSize {
					t.Errorf("%s: %d bytes came", entryPoint, res.DownloadedBytes)
				}
				r.check(mends)
			})
		}
	}
}

// TestLastReport checks that however a call ends that has made a request, one report says so, and it is not of an end that
// was not reached.
func TestLastReport(t *testing.T) {
	refused := errors.New("refused")
	for _, entryPoint := range harness.EntryPoints {
		for name, c := range map[string]struct {
			opts   []ossdl.Option
			change func(*http.Request, *http.Response) error
			want   error
			comes  bool // bytes do
		}{
			"nothing comes": {[]ossdl.Option{ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1})}, func(*http.Request, *http.Response) error { return refused }, refused, false},
			"not found": {nil, func(_ *http.Request, resp *http.Response) error {
				resp.StatusCode = http.StatusNotFound
				return nil
			}, ossdl.ErrNotFound, false},
			"past the end": {[]ossdl.Option{ossdl.WithRange(progressSize-1, 2)}, nil, ossdl.ErrRange, false},
			"wrong CRC-64": {nil, func(_ *http.Request, resp *http.Response) error {
				resp.Header.Set("X-Oss-Hash-Crc64ecma", "1")
				return nil
			}, ossdl.ErrChecksum, true},
			"interrupted": {nil, nil, context.DeadlineExceeded, true},
		} {
			t.Run(entryPoint+"/"+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					if c.want == context.DeadlineExceeded {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, 3*time.Second+time.Millisecond)
						defer cancel()
					}
					b := reported(t, c.change)
					r := &reports{t: t, total: progressSize}
					if c.want == ossdl.ErrRange {
						r.total = 2 // it is of the range that was asked for
					}
					_, err := b.Download(t, ctx, entryPoint, harness.BubblePath, append(c.opts, ossdl.WithProgress(r.add))...)
					if !errors.Is(err, c.want) {
						t.Fatal(err)
					}
					if last := r.last(); last.Total == 0 { // the size was never known
						if c.comes || len(r.all) != 1 || last.Done != 0 || last.InFlight != 0 || last.Remaining != -1 {
							t.Errorf("reports %+v", r.all)
						}
						return
					}
					r.check(false)
					if c.comes && len(r.all) < 5 {
						t.Errorf("%d reports", len(r.all))
					}
				})
			})
		}
	}
}

// TestProgressOfAnEmptyObject checks that there is nothing to come, and no time remains.
func TestProgressOfAnEmptyObject(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Bytes(nil))
	r := &reports{t: t}
	if _, err := harness.NewDownloader(t, s).Download(t.Context(), "bkt", "k", filepath.Join(t.TempDir(), "file"), ossdl.WithProgress(r.add)); err != nil {
		t.Fatal(err)
	}
	r.check(true)
}
