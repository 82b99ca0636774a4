package ossdl

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/bucket"
	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/osstest"
	"github.com/ossdl/ossdl/internal/slots"
)

// plainDownloader has a server with the empty bucket "bkt". It is for tests that look inside: what they need to see is of this
// package, so that they cannot use the harness.
func plainDownloader(t *testing.T, opts ...Option) (*Downloader, *osstest.Server) {
	t.Helper()
	s, err := osstest.New()
	if err != nil {
		t.Fatal(err)
	}
	hc := HTTPClient()
	t.Cleanup(func() {
		hc.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	s.CreateBucket("bkt")
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(client, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return d, s
}

// TestPrefixProgressOfTheOldest checks that of ten objects in flight the eight that were begun first are reported, in that
// order, even if they began in the same instant.
func TestPrefixProgressOfTheOldest(t *testing.T) {
	d, _ := plainDownloader(t)
	p, err := d.newPrefixCall(t.Context(), "bkt", "", t.TempDir(), defaults())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range int64(10) {
		src, err := p.bucket.Object(fmt.Sprint("k", i))
		if err != nil {
			t.Fatal(err)
		}
		c := d.newCallIn(p.lane, src, p.cfg, p.panics)
		c.start = began // a clock may be slow
		p.begun(&item{entry: entry{Entry: bucket.Entry{Size: i}}}, c)
	}
	got := p.snapshot().Objects
	for i := range int64(maxObjects) {
		if want := (ObjectProgress{Key: fmt.Sprint("k", i), Total: i}); len(got) != maxObjects || got[i] != want {
			t.Fatalf("got %+v, want %+v at %d", got, want, i)
		}
	}
}

// TestListSharesItsLane checks that the requests for all items of a list share one bound, that of the call.
func TestListSharesItsLane(t *testing.T) {
	d, _ := plainDownloader(t)
	cfg, err := d.settings(inDownloadAll, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := d.newListCall(cfg)
	err = l.read(t.Context(), func(yield func(Item, error) bool) {
		_ = yield(Item{Source: "oss://bkt/a", Path: "a"}, nil) && yield(Item{Source: "https://h.test/b", Path: "b"}, nil)
	})
	if err == nil {
		err = l.reachBuckets(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range l.items {
		if c, err := l.newCall(it); err != nil || c.lane != l.lane || c.panics != l.panics {
			t.Errorf("%s: a lane or a record of panics of its own, %v", it.name(), err)
		}
	}
}

// TestWithoutCheckpointPartsAreJoined checks that parts are joined without a checkpoint. No sync says then what may be
// joined, and nothing is to be lost. Otherwise there would be a part for every 8 MiB in the end, however large the object.
func TestWithoutCheckpointPartsAreJoined(t *testing.T) {
	d, s := plainDownloader(t, WithoutCheckpoint())
	s.Put("bkt", "k", osstest.Random(1, 1000))
	c, err := d.bucketCall(t.Context(), inDownload, "download", "bkt", "k", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.downloadToFile(t.Context(), filepath.Join(t.TempDir(), "file")); err != nil {
		t.Fatal(err)
	}
	if !c.engine.Parts.Volatile() {
		t.Error("done parts wait for a sync that never comes")
	}
}

// TestReaderHoldsNoMoreThanItsMemory checks that blocks and buffers stay within the read-ahead, however many connections
// there are, while nothing is read.
func TestReaderHoldsNoMoreThanItsMemory(t *testing.T) {
	const ahead = 4 << 20
	for _, conns := range []int{1, 4, 64} {
		d, s := plainDownloader(t, WithReadAhead(ahead), WithConcurrency(conns))
		s.Put("bkt", "k", osstest.Zeros(1<<40))
		r, err := d.Open(t.Context(), "bkt", "k")
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 3<<20)
		for range 10 {
			if _, err := io.ReadFull(r, b); err != nil {
				t.Fatal(err)
			}
		}
		for deadline := time.Now().Add(2 * time.Minute); ; runtime.Gosched() {
			memory, horizon := r.ahead.Held()
			if done := r.engine.Parts.Totals().Done; s.InFlight() > 0 || done < horizon {
				if time.Now().After(deadline) {
					t.Fatalf("%d requests in flight, %d bytes of %d", s.InFlight(), done, horizon)
				}
				continue
			}
			if memory += int64(min(conns, ahead/(4*engine.BufferSize)) * engine.BufferSize); memory > ahead {
				t.Errorf("%d connections: %d bytes held", conns, memory)
			}
			break
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestObjectHeaderIsACopy checks that a caller may change the headers of a result: nothing of the engine changes with them.
func TestObjectHeaderIsACopy(t *testing.T) {
	answer := http.Header{"X-Oss-Meta-Colour": {"blue"}, "Etag": {`"e"`}}
	h := objectHeader(answer, 100)
	h["X-Oss-Meta-Colour"][0] = "red"
	h.Del("Etag")
	if answer.Get("X-Oss-Meta-Colour") != "blue" || answer.Get("Etag") == "" {
		t.Errorf("%v", answer)
	}
}

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

// TestRetryPolicyFields checks that a field that is zero has its default, and one that is given stands, whatever that
// default is.
func TestRetryPolicyFields(t *testing.T) {
	for _, c := range []struct{ given, want RetryPolicy }{
		{RetryPolicy{}, RetryPolicy{12, 200 * time.Millisecond, 10 * time.Second, 0}},
		{RetryPolicy{Attempts: 1}, RetryPolicy{1, 200 * time.Millisecond, 10 * time.Second, 0}},
		{RetryPolicy{MinDelay: time.Second}, RetryPolicy{12, time.Second, 10 * time.Second, 0}},
		{RetryPolicy{MinDelay: time.Minute}, RetryPolicy{12, time.Minute, time.Minute, 0}},
		{RetryPolicy{MaxDelay: time.Minute}, RetryPolicy{12, 200 * time.Millisecond, time.Minute, 0}},
		{RetryPolicy{MaxDelay: time.Millisecond}, RetryPolicy{12, time.Millisecond, time.Millisecond, 0}},
		{RetryPolicy{5, 1, 1, 1}, RetryPolicy{5, 1, 1, 1}},
		{RetryPolicy{MaxElapsed: time.Hour}, RetryPolicy{math.MaxInt, 200 * time.Millisecond, 10 * time.Second, time.Hour}},
		{RetryPolicy{Attempts: 5, MaxElapsed: time.Hour}, RetryPolicy{5, 200 * time.Millisecond, 10 * time.Second, time.Hour}},
	} {
		cfg, err := defaults().with(inNew, []Option{WithRetry(RetryPolicy{3, 4, 5, 6}), WithRetry(c.given)})
		if err != nil || cfg.retry != c.want {
			t.Errorf("%+v is %+v, want %+v (%v)", c.given, cfg.retry, c.want, err)
		}
	}
}

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
		{503, "99999999999999999999", impatient, 1, time.Minute, time.Minute},
		{503, "-99999999999999999999", impatient, 1, 0, 2 * time.Millisecond},
		{503, "server's date", impatient, 1, 9 * time.Second, 9 * time.Second},
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
				if c.after == "server's date" { // the server's clock is an hour behind
					theirs := begun.Add(-time.Hour).UTC()
					h.Set("Date", theirs.Format(http.TimeFormat))
					c.after = theirs.Add(9 * time.Second).Format(http.TimeFormat)
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
