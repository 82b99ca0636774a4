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
	gate    *slots.Gate
	lane    *slots.Lane
	policy  slots.Retry
	log     *slog.Logger
	ready   func(context.Context) error // returns once a request can be made; nil: one always can
	retried func()                      // called before each retry that follows a failure
}

// NewRetrier makes a Retrier for requests that are always ready to be made, with slots of lane, which is one of gate. It
// calls retried before each retry.
func NewRetrier(gate *slots.Gate, lane *slots.Lane, policy slots.Retry, log *slog.Logger, retried func()) *Retrier {
	return &Retrier{gate: gate, lane: lane, policy: policy, log: log, retried: retried}
}

// acquire waits until a request can be made, and then for a slot.
func (r *Retrier) acquire(ctx context.Context) error {
	if r.ready != nil {
		if err := r.ready(ctx); err != nil {
			return err
		}
	}
	return r.lane.Acquire(ctx)
}

// TryUntil calls once, with a slot, until it succeeds, its error is final or ctx ends. The pairs in about say in log lines
// what is requested. When TryUntil gives up, it returns the last error of once and the number of attempts that failed. With
// any other error that number is 0.
func (r *Retrier) TryUntil(ctx context.Context, once func(context.Context) error, about ...any) (attempts int, err error) {
	for fails := 0; ; {
		if err := r.acquire(ctx); err != nil {
			return 0, err
		}
		err := once(ctx)
		r.lane.Release()
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

// expired reports whether a request failed only because its URL has expired: the next acquire waits for a new one.
func (r *Retrier) expired(err error) bool {
	var expired *object.ExpiredError
	if r.ready == nil || !errors.As(err, &expired) {
		return false
	}
	r.log.Info("URL expired; asking for a new one", "error", err)
	return true
}

// final reports whether err ends the attempts. It is the last of fails failures in a row without progress.
func (r *Retrier) final(err error, fails int) bool {
	var local *sinkError
	return errors.As(err, &local) || errors.Is(err, ErrStale) || errors.Is(err, object.ErrObjectChanged) ||
		r.policy.Attempts == 1 || fails >= r.most(err) || !object.Retryable(err)
}

// mostUnknown is how many times in a row a host may be unknown. Other failures of DNS are not bounded by it.
const mostUnknown = 3

// most returns how many failures in a row end the attempts, if err is the last of them.
func (r *Retrier) most(err error) int {
	if object.UnknownHost(err) {
		return min(mostUnknown, r.policy.Attempts)
	}
	return r.policy.Attempts
}

// wait waits before the next attempt.
func (r *Retrier) wait(ctx context.Context, fails int, err error, about ...any) error {
	r.retried()
	r.log.Info("retrying after failed request", append(about, "withoutProgress", fails, "error", err)...)
	after, slow := object.SlowDown(err)
	return r.gate.BackOff(ctx, r.policy, fails, slots.Hint{After: after, Slow: slow})
}
