package ossdl

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/ossdl/ossdl/internal/engine"
)

// panics keeps the panics of functions that the caller gave: of a hash, a logger, a writer, progress or a refresh. Wherever
// they happen, the call ends in good order, and the first is raised again in the caller's goroutine.
type panics struct {
	first atomic.Pointer[engine.Panic]
	end   context.CancelCauseFunc // of the call; set before anything is guarded, or nil
	muted atomic.Bool             // there was a panic: what only listens is no longer called

	raised atomic.Bool
}

// during returns the context for a call, which a panic ends. What follows the call must call done.
func (p *panics) during(ctx context.Context) (during context.Context, done func()) {
	during, end := context.WithCancelCause(ctx)
	p.endWith(end)
	return during, func() { end(nil) }
}

// endWith says how a panic ends the call.
func (p *panics) endWith(end context.CancelCauseFunc) {
	p.end = end
	if first := p.first.Load(); first != nil { // a logger, before there was anything to end
		end(first)
	}
}

// guard calls fn. Its panic ends the call, and is returned as an error.
func (p *panics) guard(what string, fn func()) error {
	err := engine.Guard(what, fn)
	p.note(err)
	return err
}

// note records the panic in an error, if there is one.
func (p *panics) note(err error) {
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

// raise panics, once, if there was a panic or err is one. It must be called in the caller's goroutine, when nothing of the
// call is left.
func (p *panics) raise(err error) {
	p.note(err)
	if first := p.first.Load(); first != nil && p.raised.CompareAndSwap(false, true) {
		panic(first)
	}
}

// progress returns a function that calls fn until that panics; nil if fn is.
func (p *panics) progress(fn func(Progress)) func(Progress) {
	if fn == nil {
		return nil
	}
	return func(now Progress) {
		if !p.muted.Load() {
			_ = p.guard("the function of WithProgress", func() { fn(now) }) // it has been noted
		}
	}
}

// oneByOne returns a function that calls fn, what, until there is a panic, never concurrently; nil if fn is.
func oneByOne[T any](p *panics, what string, fn func(T)) func(T) {
	if fn == nil {
		return nil
	}
	var one sync.Mutex
	return func(v T) {
		one.Lock()
		defer one.Unlock()
		if !p.muted.Load() {
			_ = p.guard(what, func() { fn(v) }) // it has been noted
		}
	}
}

// refresh returns a function that calls fn and returns its panic as an error; nil if fn is.
func (p *panics) refresh(fn func(context.Context) (string, error)) func(context.Context) (string, error) {
	if fn == nil {
		return nil
	}
	return func(ctx context.Context) (url string, err error) {
		if perr := p.guard("the function of WithURLRefresh", func() { url, err = fn(ctx) }); perr != nil {
			return "", perr
		}
		return url, err
	}
}

// logger returns a logger with the handler of l, which is used until it panics.
func (p *panics) logger(l *slog.Logger) *slog.Logger {
	if l.Handler() == slog.DiscardHandler {
		return l
	}
	return slog.New(guardedHandler{l.Handler(), p})
}

// guardedHandler is a handler of the caller.
type guardedHandler struct {
	h slog.Handler
	p *panics
}

// use calls fn, a method of the handler, unless that has panicked.
func (g guardedHandler) use(fn func()) {
	if !g.p.muted.Load() {
		_ = g.p.guard("the logger", fn) // it has been noted
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
