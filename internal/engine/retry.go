package engine

import (
	"context"
	"errors"
	"log/slog"

	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/slots"
)

// Retrier decides about retries, and repeats requests that failed. It serves requests for parts and all others.
type Retrier struct {
	Gate    *slots.Gate
	Lane    *slots.Lane
	Policy  slots.Retry
	Log     *slog.Logger
	Ready   func(context.Context) error // returns once a request can be made; nil: one always can
	Retried func()                      // is called before each retry that follows a failure
}

// acquire waits until a request can be made, and then for a slot.
func (r *Retrier) acquire(ctx context.Context) error {
	if r.Ready != nil {
		if err := r.Ready(ctx); err != nil {
			return err
		}
	}
	return r.Lane.Acquire(ctx)
}

// TryUntil calls once, with a slot, until it succeeds, its error is final or ctx ends. The pairs in about say in log lines
// what is asked for. When it gives up it returns the last error of once and the number of attempts that failed; with any
// other error that number is 0.
func (r *Retrier) TryUntil(ctx context.Context, once func(context.Context) error, about ...any) (attempts int, err error) {
	for fails := 0; ; {
		if err := r.acquire(ctx); err != nil {
			return 0, err
		}
		err := once(ctx)
		r.Lane.Release()
		switch {
		case err == nil:
			return 0, nil
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case r.expired(err):
			continue
		}
		if fails++; r.final(err, fails) {
			return fails, err
		}
		if err := r.wait(ctx, fails, err, about...); err != nil {
			return 0, err
		}
	}
}

// expired reports whether a request failed only because of what the next acquire waits for.
func (r *Retrier) expired(err error) bool {
	var expired *object.ExpiredError
	if r.Ready == nil || !errors.As(err, &expired) {
		return false
	}
	r.Log.Info("URL expired; asking for a new one", "error", err)
	return true
}

// final reports whether there is no further attempt after an error, the last of so many in a row without progress.
func (r *Retrier) final(err error, fails int) bool {
	var local *sinkError
	return errors.As(err, &local) || errors.Is(err, ErrStale) || errors.Is(err, object.ErrObjectChanged) ||
		r.Policy.Attempts == 1 || fails >= r.Policy.Attempts || !object.Retryable(err)
}

// wait waits before the next attempt.
func (r *Retrier) wait(ctx context.Context, fails int, err error, about ...any) error {
	r.Retried()
	r.Log.Info("retrying after failed request", append(about, "withoutProgress", fails, "error", err)...)
	after, slow := object.SlowDown(err)
	return r.Gate.BackOff(ctx, r.Policy, fails, slots.Hint{After: after, Slow: slow})
}
