package callers_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"

	"github.com/ossdl/ossdl/internal/callers"
	"github.com/ossdl/ossdl/internal/engine"
)

// TestFirstPanicEndsTheCall checks that the first panic ends the context of the call, is raised once, and that what only listens is
// not called after it.
func TestFirstPanicEndsTheCall(t *testing.T) {
	var p callers.Panics
	ctx, done := p.During(t.Context())
	defer done()
	p.Raise(nil) // nothing to raise
	heard := 0
	listen := callers.Until(&p, "listener", func(int) { heard++ })
	listen(1)
	for _, v := range []string{"first", "second"} {
		if err := p.Guard("hash", func() { panic(v) }); err == nil {
			t.Fatal("no error")
		}
	}
	listen(2)
	var first *engine.Panic
	if cause := context.Cause(ctx); !errors.As(cause, &first) {
		t.Errorf("the call ended with %v", cause)
	}
	if heard != 1 {
		t.Errorf("the listener was called %d times, want once", heard)
	}
	if got := recovered(func() { p.Raise(nil) }); got != first {
		t.Errorf("raised %v, want %v", got, first)
	}
	if got := recovered(func() { p.Raise(nil) }); got != nil {
		t.Errorf("raised %v again", got)
	}
}

// TestPanicBeforeTheCall checks that a logger which panics before there is a context ends it as soon as there is one.
func TestPanicBeforeTheCall(t *testing.T) {
	var p callers.Panics
	p.Logger(slog.New(broken{})).Info("never written")
	ctx, done := p.During(t.Context())
	defer done()
	if ctx.Err() == nil {
		t.Error("the call goes on")
	}
}

// TestOneByOne checks that calls from many goroutines do not overlap.
func TestOneByOne(t *testing.T) {
	var p callers.Panics
	var inside, calls int
	fn := callers.OneByOne(&p, "listener", func(int) {
		inside++
		if inside != 1 {
			t.Errorf("%d calls at once", inside)
		}
		calls++
		inside--
	})
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { fn(1) })
	}
	all.Wait()
	if calls != 100 {
		t.Errorf("%d calls, want 100", calls)
	}
	if callers.Until[int](&p, "", nil) != nil || callers.OneByOne[int](&p, "", nil) != nil {
		t.Error("a function is made of nil")
	}
}

func recovered(fn func()) (v any) {
	defer func() { v = recover() }()
	fn()
	return nil
}

// broken is a handler whose methods panic.
type broken struct{ slog.Handler }
