// Package callers calls the functions that a caller of the library gave: hashes, loggers, writers, progress, refreshes. It knows what a
// panic of theirs does to a call. It must not know what the functions are for. Its invariant: wherever they panic, the call ends
// in good order, and the first panic is raised again in the caller's goroutine.
package callers

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/ossdl/ossdl/internal/engine"
)

// Panics keeps the panics of the caller's functions during a call. The zero value is ready for use.
type Panics struct {
	first atomic.Pointer[engine.Panic]
	end   context.CancelCauseFunc // of the call; set before anything is guarded, or nil
	muted atomic.Bool             // there was a panic: what only listens is no longer called

	raised atomic.Bool
}

// During returns the context for a call, which a panic ends. What follows the call must call done.
func (p *Panics) During(ctx context.Context) (during context.Context, done func()) {
	during, end := context.WithCancelCause(ctx)
	p.EndWith(end)
	return during, func() { end(nil) }
}

// EndWith says how a panic ends the call.
func (p *Panics) EndWith(end context.CancelCauseFunc) {
	p.end = end
	if first := p.first.Load(); first != nil { // a logger, before there was anything to end
		end(first)
	}
}

// Guard calls fn. Its panic ends the call, and is returned as an error.
func (p *Panics) Guard(what string, fn func()) error {
	err := engine.Guard(what, fn)
	p.Note(err)
	return err
}

// Note records the panic in an error, if there is one.
func (p *Panics) Note(err error) {
	if err == nil { // as after each write: errors.As would cost an allocation
		return
	}
	var panicked *engine.Panic
	if !errors.As(err, &panicked) {
		return
	}
	p.muted.Store(true)
	if p.first.CompareAndSwap(nil, panicked) && p.end != nil {
		p.end(err)
	}
}

// Raise panics, once, if there was a panic or err is one. It must be called in the caller's goroutine, when nothing of the
// call is left.
func (p *Panics) Raise(err error) {
	p.Note(err)
	if first := p.first.Load(); first != nil && p.raised.CompareAndSwap(false, true) {
		panic(first)
	}
}

// Until returns a function that calls fn, what, until there is a panic; nil if fn is.
func Until[T any](p *Panics, what string, fn func(T)) func(T) {
	if fn == nil {
		return nil
	}
	return func(v T) {
		if !p.muted.Load() {
			_ = p.Guard(what, func() { fn(v) }) // it has been noted
		}
	}
}

// OneByOne is [Until] for a fn that is never called concurrently.
func OneByOne[T any](p *Panics, what string, fn func(T)) func(T) {
	if fn == nil {
		return nil
	}
	fn = Until(p, what, fn)
	var one sync.Mutex
	return func(v T) {
		one.Lock()
		defer one.Unlock()
		fn(v)
	}
}

// Refresh returns a function that calls fn and returns its panic as an error; nil if fn is.
func (p *Panics) Refresh(fn func(context.Context) (string, error)) func(context.Context) (string, error) {
	if fn == nil {
		return nil
	}
	return func(ctx context.Context) (url string, err error) {
		if perr := p.Guard("the function of WithURLRefresh", func() { url, err = fn(ctx) }); perr != nil {
			return "", perr
		}
		return url, err
	}
}

// Logger returns a logger with the handler of l, which is used until it panics.
func (p *Panics) Logger(l *slog.Logger) *slog.Logger {
	if l.Handler() == slog.DiscardHandler {
		return l
	}
	return slog.New(guardedHandler{l.Handler(), p})
}

// guardedHandler is a handler of the caller.
type guardedHandler struct {
	h slog.Handler
	p *Panics
}

// use calls fn, a method of the handler, unless that has panicked.
func (g guardedHandler) use(fn func()) {
	if !g.p.muted.Load() {
		_ = g.p.Guard("the logger", fn) // it has been noted
	}
}

// Enabled implements [slog.Handler].
func (g guardedHandler) Enabled(ctx context.Context, level slog.Level) (enabled bool) {
	g.use(func() { enabled = g.h.Enabled(ctx, level) })
	return enabled
}

// Handle implements [slog.Handler].
func (g guardedHandler) Handle(ctx context.Context, r slog.Record) (err error) {
	g.use(func() { err = g.h.Handle(ctx, r) })
	return err
}

// WithAttrs implements [slog.Handler].
func (g guardedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	g.use(func() { g.h = g.h.WithAttrs(attrs) })
	return g
}

// WithGroup implements [slog.Handler].
func (g guardedHandler) WithGroup(name string) slog.Handler {
	g.use(func() { g.h = g.h.WithGroup(name) })
	return g
}
