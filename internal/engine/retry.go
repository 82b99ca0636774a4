package engine

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/slots"
)

// streak is what a worker knows of its attempts at one thing since the last progress. It belongs to that worker alone.
//
// A failure goes one of three ways:
//
//  1. It was one request too many, while others received bytes: the gate lowers its limit, and the failure is not counted.
//  2. It is counted, and final says whether it is the last.
//  3. Otherwise the worker waits, and tries again.
//
// Progress starts a new streak.
type streak struct {
	fails   int       // in a row, without progress
	since   time.Time // when the first request began whose failure was counted, or else the latest one
	mark    int64     // of the gate: the bytes of all requests, at the start or the last failure
	among   int       // the most requests known to be in flight with the latest, that one included
	excused int       // failures that were not counted
}

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
	for s := r.begin(); ; {
		if err := r.acquire(ctx); err != nil {
			return 0, err
		}
		r.started(&s)
		err := once(ctx)
		crowd := slots.Alone
		if ctx.Err() == nil {
			crowd = r.crowded(&s, err)
		}
		r.lane.Release()
		switch {
		case err == nil:
			return 0, nil
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case r.expired(err):
			continue
		case crowd != slots.CrowdedOut:
			s.fails++
		}
		if crowd, ended := r.judge(ctx, &s, crowd, err); ended != nil {
			return 0, ended
		} else if r.final(err, s, crowd) {
			return s.fails, err
		}
		if err := r.wait(ctx, s, err, about...); err != nil {
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

// begin starts a streak.
func (r *Retrier) begin() streak { return streak{since: time.Now(), mark: r.gate.Mark()} }

// started notes that a request of the streak is made, with its slot. As long as no failure is counted, to wait for a slot is not
// a lack of progress: a request that was crowded out may wait until others are done.
func (r *Retrier) started(s *streak) {
	s.among = r.gate.InFlight()
	if s.fails == 0 {
		s.since = time.Now()
	}
}

// mostExcused bounds how many failures of a streak are not counted: one that fails more often has another reason. The gate cannot
// tell, since its limit grows again between failures that take long.
const mostExcused = 32

// crowded says whether a request that failed without an answer may have been one too many. It must be called before the slot
// is released.
func (r *Retrier) crowded(s *streak, err error) (crowd slots.Crowd) {
	if err != nil && tooMany(err) {
		crowd, s.among = r.gate.Crowded(time.Now(), s.mark, s.among)
	}
	s.mark = r.gate.Mark()
	if crowd == slots.CrowdedOut {
		if s.excused++; s.excused > mostExcused {
			return slots.Alone
		}
	}
	return crowd
}

// tooMany reports whether an error of a request without an answer is one with which too many requests fail. Some proxies
// accept them, and leave them without an answer.
func tooMany(err error) bool {
	if object.LeadsElsewhere(err) {
		return false
	}
	return errors.Is(err, errStalled) || errors.Is(err, errSlow) || object.CrowdedOut(err)
}

// final reports whether err ends the attempts of a streak. Where other requests are in flight, an error that may be that of one
// too many does not, even if it would otherwise be worth no further attempt.
func (r *Retrier) final(err error, s streak, crowd slots.Crowd) bool {
	var local *sinkError
	return errors.As(err, &local) || errors.Is(err, ErrStale) || errors.Is(err, object.ErrObjectChanged) || r.policy.Attempts == 1 ||
		crowd == slots.Alone && !object.Retryable(err) || crowd != slots.CrowdedOut && (s.fails >= r.most(err) || r.left(s) == 0)
}

// judge returns what is known of a failure that would end the attempts of a streak. In company it waits, without a slot, until more
// is known. If the request was one too many, it is not counted after all. If ctx ends, judge returns its cause.
func (r *Retrier) judge(ctx context.Context, s *streak, crowd slots.Crowd, failure error) (slots.Crowd, error) {
	if crowd != slots.InCompany || !r.final(failure, *s, crowd) || r.final(failure, *s, slots.CrowdedOut) || s.excused >= mostExcused {
		return crowd, nil
	}
	crowd, err := r.gate.Verdict(ctx, s.mark, s.among)
	if crowd == slots.CrowdedOut {
		s.fails = max(0, s.fails-1)
		s.excused++
		s.mark = r.gate.Mark()
	}
	return crowd, err
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

// pause waits like wait does, after an answer that is no failure but brings the part no further.
func (r *Retrier) pause(ctx context.Context, s streak) error {
	return r.gate.BackOff(ctx, r.policy, s.fails, slots.Hint{Most: max(1, r.left(s))})
}

// left returns how long a streak may still last without progress.
func (r *Retrier) left(s streak) time.Duration {
	if r.policy.MaxElapsed == 0 {
		return math.MaxInt64
	}
	return max(0, r.policy.MaxElapsed-time.Since(s.since))
}

// wait waits before the next attempt.
func (r *Retrier) wait(ctx context.Context, s streak, err error, about ...any) error {
	r.retried()
	r.log.Info("retrying after failed request", append(about, "withoutProgress", s.fails, "error", err)...)
	after, slow := object.SlowDown(err)
	return r.gate.BackOff(ctx, r.policy, s.fails, slots.Hint{After: after, Slow: slow, Most: max(1, r.left(s))})
}
