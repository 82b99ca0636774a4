package osstest_test

import (
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

// timed downloads n bytes and returns how long the body took after the first byte.
func timed(t *testing.T, s *osstest.Server, key string) (head, body time.Duration) {
	t.Helper()
	began := time.Now()
	resp, err := s.HTTPClient().Get(s.URL("bkt", key))
	if err != nil {
		t.Error(err)
		return 0, 0
	}
	defer resp.Body.Close()
	head = time.Since(began)
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
	return head, time.Since(began) - head
}

// between reports whether a duration is what a schedule asks for: hardly less, and more only as far as a busy machine is
// to blame.
func between(got, want time.Duration) bool {
	return got >= want*99/100 && got < want*2+200*time.Millisecond
}

func TestConnRate(t *testing.T) {
	const rate, latency = 20_000_000, 30 * time.Millisecond
	s := publicServer(t, osstest.WithConnRate(rate), osstest.WithLatency(latency))
	s.Put("bkt", "big", osstest.Random(1, rate/2))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			head, body := timed(t, s, "big")
			if !between(head, latency) || !between(head+body, latency+time.Second/2) {
				t.Errorf("first byte after %v, last after %v; want %v and %v", head, head+body, latency, latency+time.Second/2)
			}
		})
	}
	wg.Wait()
}

func TestTotalRate(t *testing.T) {
	const rate = 40_000_000
	s := publicServer(t, osstest.WithTotalRate(rate))
	s.Put("bkt", "part", osstest.Random(1, rate/8))
	began := time.Now()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { timed(t, s, "part") })
	}
	wg.Wait()
	if took := time.Since(began); !between(took, time.Second/2) {
		t.Errorf("four together took %v, want %v", took, time.Second/2)
	}
}

func TestConnShape(t *testing.T) {
	var asked atomic.Int64
	s := publicServer(t, osstest.WithConnRate(20_000_000), osstest.WithConnShape(func(conn int) osstest.Shape {
		asked.Add(1)
		if conn == 1 {
			return osstest.Shape{Rate: 1_000_000, Latency: 20 * time.Millisecond}
		}
		return osstest.Shape{}
	}))
	s.Put("bkt", "part", osstest.Random(1, 200_000))
	// The first connection is held, so that the second request takes another.
	first, err := s.HTTPClient().Get(s.URL("bkt", "part"))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Body.Close()
	head, body := timed(t, s, "part")
	if !between(head, 20*time.Millisecond) || !between(head+body, 220*time.Millisecond) || asked.Load() != 2 {
		t.Errorf("the slow connection took %v and %v, asked %d times", head, body, asked.Load())
	}
}

func TestResetEvery(t *testing.T) {
	s := publicServer(t, osstest.ResetEvery(100, 600, 7))
	lengths := map[int]bool{}
	for range 20 {
		_, body, err := try(s, "GET", s.URL("bkt", "k"), nil)
		if err == nil || len(body) < 100 || len(body) > 600 {
			t.Fatalf("%d bytes, %v", len(body), err)
		}
		lengths[len(body)] = true
		if _, _, err := try(s, "GET", s.URL("bkt", "k"), map[string]string{"Range": "bytes=0-98"}); err != nil {
			t.Fatal(err)
		}
	}
	if len(lengths) < 10 {
		t.Errorf("%d different lengths", len(lengths))
	}
}
