package engine

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/ossdl/ossdl/internal/parts"
	"github.com/ossdl/ossdl/internal/slots"
)

// noSource is the source of an engine that makes no request.
type noSource struct{ Source }

func (noSource) Versions() bool { return false }

// watchedRequests lets the watchdog inspect requests for three seconds, one for each rate in bytes per second. With a rate of
// 0, nothing is received. It returns the errors that ended the requests.
func watchedRequests(firstByte time.Duration, limited bool, rates ...float64) (e *Engine, ended []error) {
	var limits []*rate.Limiter
	if limited {
		limits = append(limits, slots.NewLimiter(1<<20, BufferSize))
	}
	g := slots.NewGate(0, 64)
	e = New(Config{
		Source: noSource{}, Parts: parts.New(int64(len(rates)) << 30), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Gate: g, Lane: g.Lane(0, limits...), Stats: &Stats{}, Stall: 30 * time.Second,
	})
	e.firstByte.Store(int64(firstByte))
	ended = make([]error, len(rates))
	meters := make([]*Meter, len(rates))
	for i := range rates {
		p := e.Parts.Take(func(int64) int64 { return 1 << 30 })
		m := &Meter{watched: watched{p, true}, cancel: func(err error) { ended[i] = err }, start: time.Now(), stall: 30 * time.Second}
		e.Parts.SetPace(p, parts.Pace{Since: m.start})
		e.dog.add(m)
		m.waits()
		meters[i] = m
	}
	for range 30 {
		time.Sleep(tickTime)
		for i, m := range meters {
			if rates[i] > 0 {
				m.got(int(rates[i] * tickTime.Seconds()))
				m.waits()
			}
		}
		e.dog.endStalled()
		e.inspect()
	}
	return e, ended
}

// TestSlowConnectionIsReplaced checks that a connection is replaced only if it is far slower than the others.
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
		{"nothing came, and others were answered immediately", 10 * time.Millisecond, false, 0, errSlow},
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

// TestUsualSpeedOutlivesTheFast checks that the usual speed falls slowly once the fast connections are done: the slow one
// that is left says little about the speed of a new one.
func TestUsualSpeedOutlivesTheFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _ := watchedRequests(10*time.Millisecond, false, 20<<20, 20<<20, 20<<20, 100<<10)
		before := e.connRate()
		for _, m := range e.dog.snapshot() {
			e.dog.remove(m)
		}
		slow := &Meter{cancel: context.CancelCauseFunc(func(error) {}), start: time.Now()}
		e.dog.add(slow)
		for range 5 {
			time.Sleep(tickTime)
			slow.got(int(100 << 10 * tickTime.Seconds()))
			e.inspect()
		}
		if now := e.connRate(); now < before/2 {
			t.Errorf("half a second after the fast ended %.0f bytes per second are usual; it was %.0f", now, before)
		}
	})
}

// TestWatchdog checks that a request is ended once it has stalled for the timeout. It is left alone while bytes arrive, or
// while it waits for its own reader and not for the network.
func TestWatchdog(t *testing.T) {
	const stall = 2 * time.Second
	for _, c := range []struct {
		name  string
		bytes int  // that come each tick
		waits bool // for the network, and not for its reader
		ends  bool
	}{
		{"nothing comes", 0, true, true},
		{"next to nothing comes", 50, true, true},
		{"just enough comes", stallRate / 8, true, false},
		{"nobody reads", 0, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				beats := 0
				w := NewWatchdog(stall)
				stop := w.Start(func(time.Time) { beats++ })
				start := time.Now()
				err := w.Do(t.Context(), func(ctx context.Context, m *Meter) error {
					if w.InFlight() != 1 {
						t.Errorf("%d requests in flight, want 1", w.InFlight())
					}
					for range 100 {
						if !c.waits {
							m.got(0)
						}
						select {
						case <-time.After(tickTime):
						case <-ctx.Done():
							return context.Cause(ctx)
						}
						m.got(c.bytes)
						m.waits()
					}
					return nil
				})
				stop()
				took := time.Since(start)
				if errors.Is(err, errStalled) != c.ends || !c.ends && err != nil {
					t.Errorf("after %v: %v", took, err)
				}
				if c.ends && (took < stall || took > stall+stall/2) {
					t.Errorf("ended after %v", took)
				}
				if n := int(took / tickTime); beats < n-1 || beats > n+1 || w.InFlight() != 0 {
					t.Errorf("%d beats in %v, %d requests in flight", beats, took, w.InFlight())
				}
			})
		})
	}
	t.Run("an error of the sink says more", func(t *testing.T) {
		broken := errors.New("broken")
		err := NewWatchdog(stall).Do(t.Context(), func(_ context.Context, m *Meter) error {
			m.cancel(errSlow)
			return &sinkError{broken}
		})
		if !errors.Is(err, broken) {
			t.Error(err)
		}
	})
}
