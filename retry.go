package ossdl

import (
	"context"
	"errors"
	"log/slog"
)

// retrier decides about retries, and repeats requests that failed. It serves requests for parts and all others.
type retrier struct {
	gate    *gate
	lane    *lane
	policy  retry
	log     *slog.Logger
	ready   func(context.Context) error // returns once a request can be made; nil: one always can
	retried func()                      // is called before each retry that follows a failure
}

// acquire waits until a request can be made, and then for a slot.
func (r *retrier) acquire(ctx context.Context) error {
	if r.ready != nil {
		if err := r.ready(ctx); err != nil {
			return err
		}
	}
	return r.lane.acquire(ctx)
}

// tryUntil calls once, with a slot, until it succeeds, its error is final or ctx ends. The pairs in about say in log lines
// what is asked for. When it gives up it returns the last error of once and the number of attempts that failed; with any
// other error that number is 0.
func (r *retrier) tryUntil(ctx context.Context, once func(context.Context) error, about ...any) (attempts int, err error) {
	for fails := 0; ; {
		if err := r.acquire(ctx); err != nil {
			return 0, err
		}
		err := once(ctx)
		r.lane.release()
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
func (r *retrier) expired(err error) bool {
	var expired *expiredError
	if r.ready == nil || !errors.As(err, &expired) {
		return false
	}
	r.log.Info("URL expired; asking for a new one", "error", err)
	return true
}

// final reports whether there is no further attempt after an error, the last of so many in a row without progress.
func (r *retrier) final(err error, fails int) bool {
	var local *sinkError
	return errors.As(err, &local) || errors.Is(err, errStale) || errors.Is(err, ErrObjectChanged) ||
		r.policy.Attempts == 1 || fails >= r.policy.Attempts || !retryable(err)
}

// wait waits before the next attempt.
func (r *retrier) wait(ctx context.Context, fails int, err error, about ...any) error {
	r.retried()
	r.log.Info("retrying after failed request", append(about, "withoutProgress", fails, "error", err)...)
	after, slow := slowDown(err)
	return r.gate.backOff(ctx, r.policy, fails, hint{after, slow})
}
