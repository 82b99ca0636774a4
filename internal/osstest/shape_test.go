package osstest_test

import (
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

// timed downloads an object. It returns how long the head took, and how long the body took after it.
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

// timing is how long something took, and how long it takes by the schedule.
type timing struct{ got, want time.Duration }

// keepsSchedule checks that run never takes less than the schedule, and that it does not always take much more: a busy
// machine delays some of ten runs, a wrong schedule delays all.
func keepsSchedule(t *testing.T, run func() []timing) {
	t.Helper()
	var all []timing
	for range 10 {
		all = run()
		late := false
		for _, one := range all {
			if one.got < one.want*99/100 {
				t.Fatalf("took %v, the schedule is %v", one.got, one.want)
			}
			late = late || one.got >= one.want*2+200*time.Millisecond
		}
		if !late || t.Failed() {
			return
		}
	}
	t.Errorf("later than the schedule in ten runs, in the last: %v", all)
}

func TestConnRate(t *testing.T) {
	const rate, latency = 20_000_000, 30 * time.Millisecond
	keepsSchedule(t, func() []timing {
		s := publicServer(t, osstest.WithConnRate(rate), osstest.WithLatency(latency))
		s.Put("bkt", "big", osstest.Random(1, rate/2))
		const conns = 4
		var all [2 * conns]timing
		var wg sync.WaitGroup
		for i := range conns {
			wg.Go(func() {
				head, body := timed(t, s, "big")
				all[2*i], all[2*i+1] = timing{head, latency}, timing{head + body, latency + time.Second/2}
			})
		}
		wg.Wait()
		return all[:]
	})
}

func TestTotalRate(t *testing.T) {
	const rate = 40_000_000
	keepsSchedule(t, func() []timing {
		s := publicServer(t, osstest.WithTotalRate(rate))
		s.Put("bkt", "part", osstest.Random(1, rate/8))
		began := time.Now()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { timed(t, s, "part") })
		}
		wg.Wait()
		return []timing{{time.Since(began), time.Second / 2}}
	})
}

func TestConnShape(t *testing.T) {
	keepsSchedule(t, func() []timing {
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
		if asked.Load() != 2 {
			t.Errorf("the shape of %d connections was asked for, want 2", asked.Load())
		}
		return []timing{{head, 20 * time.Millisecond}, {head + body, 220 * time.Millisecond}}
	})
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
