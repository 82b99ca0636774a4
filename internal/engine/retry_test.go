package engine

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossdl/ossdl/internal/slots"
)

// TestMaxElapsedAmongOthers checks that MaxElapsed ends requests that always fail as one too many does, however much others
// receive. The limit is lowered by them, and grows again while they go on. The time runs from the first failure that is counted.
func TestMaxElapsedAmongOthers(t *testing.T) {
	const (
		patience = 5 * time.Minute
		attempt  = 5 * time.Second
		others   = 8
	)
	synctest.Test(t, func(t *testing.T) {
		g := slots.NewGate(0, 64)
		ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		running.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(tickTime)
				g.Tick(time.Now())
			}
		})
		for range others {
			running.Go(func() {
				lane := g.Lane(0)
				for lane.Acquire(ctx) == nil {
					for range 10 {
						time.Sleep(tickTime)
						g.Received(1 << 20)
					}
					lane.Release()
				}
			})
		}
		synctest.Wait()
		policy := slots.Retry{Attempts: math.MaxInt, MinDelay: time.Millisecond, MaxDelay: time.Second, MaxElapsed: patience}
		r := NewRetrier(g, g.Lane(0), policy, slog.New(slog.DiscardHandler), func() {})
		began := time.Now()
		_, err := r.TryUntil(ctx, func(context.Context) error { time.Sleep(attempt); return errStalled })
		if took := time.Since(began); !errors.Is(err, errStalled) || took < patience || took > 2*patience {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// TestOneTooManyBeforeTheOthersHaveBytes checks that a request that would be given up waits until it is known whether others fare
// better, whatever the policy. If they do, it is made again; if they end without a byte, or say nothing, it is given up.
func TestOneTooManyBeforeTheOthersHaveBytes(t *testing.T) {
	const soon = time.Second
	ended := errors.New("the context of the run")
	policies := map[string]slots.Retry{
		"two attempts": {Attempts: 2, MinDelay: time.Millisecond, MaxDelay: time.Millisecond},
		"little time":  {Attempts: math.MaxInt, MinDelay: time.Millisecond, MaxDelay: time.Millisecond, MaxElapsed: time.Millisecond},
	}
	for name, c := range map[string]struct {
		bytes, end, cancel bool // what becomes of the other request
		want               error
		after              time.Duration
	}{
		"it receives bytes":    {bytes: true, after: soon},
		"it ends without one":  {end: true, want: errStalled, after: soon},
		"it says nothing":      {want: errStalled, after: 10 * time.Second},
		"the context ends now": {cancel: true, want: ended, after: soon},
	} {
		for policy, p := range policies {
			t.Run(name+", "+policy, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := slots.NewGate(4, 0)
					lane := g.Lane(0)
					ctx, cancel := context.WithCancelCause(t.Context())
					if err := lane.Acquire(ctx); err != nil {
						t.Fatal(err)
					}
					time.AfterFunc(soon, func() {
						switch {
						case c.bytes:
							g.Received(1)
							time.AfterFunc(soon/4, lane.Release)
						case c.end:
							lane.Release()
						case c.cancel:
							cancel(ended)
						}
						g.Tick(time.Now())
					})
					began, refused := time.Now(), p.Attempts
					if p.MaxElapsed > 0 {
						refused = 1
					}
					r := NewRetrier(g, g.Lane(0), p, slog.New(slog.DiscardHandler), func() {})
					_, err := r.TryUntil(ctx, func(context.Context) error {
						if refused--; refused < 0 {
							return nil
						}
						time.Sleep(time.Duration(max(1, p.MaxElapsed)))
						return errStalled
					})
					took := time.Since(began)
					if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || took < c.after || took > c.after+soon/2 {
						t.Errorf("%v after %v, want %v", err, took, c.want)
					}
					if limit := g.Limit(); (limit < 4) != c.bytes {
						t.Errorf("the limit is %d", limit)
					}
					cancel(nil)
				})
			})
		}
	}
}

// TestExcusesAreBounded checks that failures of a request count in the end although others receive bytes all the time, and the limit
// grows again between its failures: each time there is a gate as it was at first.
func TestExcusesAreBounded(t *testing.T) {
	var s streak
	busy := func() *Retrier {
		g := slots.NewGate(4, 0)
		for range 2 {
			if err := g.Lane(0).Acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		s.mark = g.Mark()
		g.Received(1)
		return NewRetrier(g, nil, slots.Retry{Attempts: 3}, slog.New(slog.DiscardHandler), nil)
	}
	for n := range mostExcused {
		if got := busy().crowded(&s, errStalled); got != slots.CrowdedOut {
			t.Errorf("failure %d: %v, want %v", n+1, got, slots.CrowdedOut)
		}
	}
	s.fails, s.among = 3, 2 // it has failed for the last time
	if got, err := busy().judge(t.Context(), &s, slots.InCompany, errStalled); got != slots.InCompany || err != nil {
		t.Errorf("judged %v, %v, want %v", got, err, slots.InCompany)
	}
	if got := busy().crowded(&s, errStalled); got != slots.Alone {
		t.Errorf("then %v, want %v", got, slots.Alone)
	}
}
