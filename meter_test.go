package ossdl

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// watchedRequests are requests that the monitor looks at, one for each rate in bytes per second; with a rate of 0 nothing
// has come yet. All are as old as the clock of the bubble says.
func watchedRequests(firstByte time.Duration, limited bool, rates ...float64) (t *transfer, ended []error) {
	d, err := New(nil)
	if err != nil {
		panic(err)
	}
	bound := int64(0)
	if limited {
		bound = 1 << 20
	}
	t = &transfer{
		set: newSet(int64(len(rates)) << 30), cfg: &d.cfg, log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		gate: d.gate, lane: d.newLane(0, bound), stats: &stats{}, meters: map[*meter]struct{}{},
	}
	t.firstByte.Store(int64(firstByte))
	ended = make([]error, len(rates))
	meters := make([]*meter, len(rates))
	for i := range rates {
		meters[i] = t.watch(t.set.take(func(int64) int64 { return 1 << 30 }), func(err error) { ended[i] = err }, true)
		meters[i].waits()
	}
	for range 30 {
		time.Sleep(tickTime)
		for i, m := range meters {
			if rates[i] > 0 {
				m.got(int(rates[i] * tickTime.Seconds()))
				m.waits()
			}
		}
		t.look()
	}
	return t, ended
}

func TestSlowConnectionIsReplaced(t *testing.T) {
	const usual = 20 << 20
	for _, c := range []struct {
		name      string
		firstByte time.Duration
		limited   bool
		last      float64
		want      error
	}{
		{"far below the others", 10 * time.Millisecond, false, usual / 20, errSlow},
		{"half of the others", 10 * time.Millisecond, false, usual / 2, nil},
		{"nothing came, and others were answered at once", 10 * time.Millisecond, false, 0, errSlow},
		{"nothing came, and others waited as long", 2 * time.Second, false, 0, nil},
		{"a rate limit lets requests take turns", 10 * time.Millisecond, true, usual / 20, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, ended := watchedRequests(c.firstByte, c.limited, usual, usual, usual, c.last)
				if got := ended[3]; !errors.Is(got, c.want) || c.want == nil && got != nil {
					t.Errorf("ended by %v, want %v", got, c.want)
				}
				if err := errors.Join(ended[:3]...); err != nil {
					t.Errorf("one at the usual speed was ended by %v", err)
				}
			})
		})
	}
}

// When the fast connections are done, what the slow one left brings is not what a new one would.
func TestUsualSpeedOutlivesTheFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr, _ := watchedRequests(10*time.Millisecond, false, 20<<20, 20<<20, 20<<20, 100<<10)
		before := tr.connPace()
		slow := &meter{part: &part{}, cancel: context.CancelCauseFunc(func(error) {}), start: time.Now()}
		tr.meters = map[*meter]struct{}{slow: {}}
		for range 5 {
			time.Sleep(tickTime)
			slow.got(int(100 << 10 * tickTime.Seconds()))
			tr.look()
		}
		if now := tr.connPace(); now < before/2 {
			t.Errorf("half a second after the fast ended %.0f bytes per second are usual; it was %.0f", now, before)
		}
	})
}
