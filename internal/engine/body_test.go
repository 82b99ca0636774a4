package engine

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/parts"
	"github.com/ossdl/ossdl/internal/slots"
	"github.com/ossdl/ossdl/internal/span"
)

// pacedBody brings bytes at a rate, and ends with its context.
type pacedBody struct {
	ctx  context.Context
	rate float64 // bytes per second; 0: none come
	left int64
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), 4<<10, b.left)
	var came <-chan time.Time
	if b.rate > 0 {
		came = time.After(time.Duration(float64(n) / b.rate * float64(time.Second)))
	}
	select {
	case <-came:
		b.left -= n
		return int(n), nil
	case <-b.ctx.Done():
		return 0, context.Cause(b.ctx)
	}
}

func (b *pacedBody) Close() error { return nil }

// TestDrainOnlyIfFaster checks that the rest of a body that others have taken over is read only if that takes less time than a new
// connection, and never for longer.
func TestDrainOnlyIfFaster(t *testing.T) {
	const came = 1 << 20
	for name, c := range map[string]struct {
		left      int64
		firstByte time.Duration
		rate      float64 // before the end of the part
		then      float64 // after it
		drained   bool    // wholly
		most      time.Duration
	}{
		"fast":                      {200 << 10, 50 * time.Millisecond, 10 << 20, 10 << 20, true, 50 * time.Millisecond},
		"slow":                      {200 << 10, 50 * time.Millisecond, 100 << 10, 100 << 10, false, 0},
		"slow, and a little":        {4 << 10, 50 * time.Millisecond, 100 << 10, 100 << 10, true, 50 * time.Millisecond},
		"far away":                  {200 << 10, 400 * time.Millisecond, 1 << 20, 1 << 20, true, 400 * time.Millisecond},
		"too much":                  {drainBytes + 1, time.Second, 1 << 30, 1 << 30, false, 0},
		"near":                      {200 << 10, time.Microsecond, 100 << 20, 100 << 20, true, leastSetup},
		"stuck now":                 {200 << 10, 50 * time.Millisecond, 10 << 20, 0, false, 50 * time.Millisecond},
		"stuck, with a slow server": {200 << 10, time.Minute, 10 << 20, 0, false, mostSetup},
		"slower now":                {200 << 10, 50 * time.Millisecond, 10 << 20, 1 << 20, false, 50 * time.Millisecond},
		"slow, with a slow server":  {200 << 10, time.Minute, 100 << 10, 100 << 10, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := slots.NewGate(0, 64)
				e := New(Config{
					Source: noSource{}, Parts: parts.New(4 << 20), Log: slog.New(slog.DiscardHandler),
					Gate: g, Lane: g.Lane(0), Buffers: &Buffers{}, Stats: &Stats{}, Stall: 30 * time.Second,
				})
				body := &pacedBody{rate: c.rate, left: came + c.left}
				var took time.Duration
				err := e.dog.Do(t.Context(), func(ctx context.Context, m *Meter) error {
					body.ctx = ctx
					a := &object.Answer{Body: body, Span: span.Span{End: came + c.left}}
					if err := e.skip(ctx, a, came, m, func([]byte) {}); err != nil {
						return err
					}
					body.rate = c.then
					e.firstByte.Store(int64(c.firstByte))
					began := time.Now()
					defer func() { took = time.Since(began) }()
					return e.drain(ctx, a, came, nil, m)
				})
				if err != nil || (body.left == 0) != c.drained || took > c.most || c.most == 0 && body.left != c.left {
					t.Errorf("%v; %d of %d bytes are left after %v", err, body.left, c.left, took)
				}
			})
		})
	}
}
