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
