// Package thaw restores objects of the archive classes: it decides when to ask for a restore, and when to look again. It knows the
// limits of the classes and the states of an object, and must not know how requests are made or retried, nor files. Its invariant:
// a restore is asked for only if the object was seen to be frozen, because it costs money.
package thaw

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/slots"
)

// Policy says how objects are restored. It has no zero fields but Tier.
type Policy struct {
	Days             int    // for which an object is restored
	Tier             string // how fast; "": what OSS takes by default
	PollMin, PollMax time.Duration
}

// Limits of the days, by OSS's page on RestoreObject.
const (
	MaxDays        = 365
	maxArchiveDays = 7 // of class Archive
)

// Tiers are the names that OSS has for the speeds of a restore, the fastest first.
var tiers = []string{"Expedited", "Standard", "Bulk"}

// Check returns an error unless some class can be restored like this.
func (p Policy) Check() error {
	switch {
	case p.Days < 1 || p.Days > MaxDays:
		return fmt.Errorf("Days is %d: 1 to %d are allowed, and up to %d for class Archive", p.Days, MaxDays, maxArchiveDays)
	case p.Tier != "" && !slices.Contains(tiers, p.Tier):
		return fmt.Errorf("tier %q: Expedited, Standard and Bulk are allowed", p.Tier)
	}
	return nil
}

// forClass returns the tier to ask for, or an error if objects of the class cannot be restored like this.
func (p Policy) forClass(class string) (tier string, err error) {
	switch {
	case class == object.Archive && p.Days > maxArchiveDays:
		return "", fmt.Errorf("Days is %d: class Archive allows 1 to %d", p.Days, maxArchiveDays)
	case class == object.DeepColdArchive && p.Tier == "Bulk":
		return "", errors.New("tier Bulk: class DeepColdArchive has Expedited and Standard")
	case class == object.Archive, class == "": // Archive has no tiers, and refuses a request that names one
		return "", nil
	}
	return p.Tier, nil
}

// Object is an object that may be frozen. Its methods make requests, and retry them.
type Object interface {
	// Look returns the state of the object. An error that wraps [object.ErrArchived] says that it cannot be read, and no more.
	Look(ctx context.Context) (object.ArchiveStatus, error)
	// Restore asks for a restore. It does so even if one is under way; begun is false then.
	Restore(ctx context.Context, days int, tier string) (begun bool, err error)
}

// maxAsked is how often a restore of one object is asked for. OSS keeps an object readable for a day at least, so one is enough
// unless an answer is wrong.
const maxAsked = 3

// Asked counts what was asked for an object.
type Asked struct {
	Times uint8 // that a restore was asked for
	Begun bool  // one of them was accepted
}

// Look looks at an object that was refused as frozen, and asks for its restore if it is. The state is Thawing after that.
func (p Policy) Look(ctx context.Context, o Object, asked *Asked) (object.ArchiveStatus, error) {
	f, err := look(ctx, o)
	if err != nil || f.State != object.Frozen {
		return f, err
	}
	if f.Class == "" && asked.Times > 0 { // all that is known is that it cannot be read yet
		f.State = object.Thawing
		return f, nil
	}
	return p.Ask(ctx, o, f, asked)
}

// look returns the state of an object. If the answers do not say it, the object counts as frozen: some CDNs refuse HEAD, and then
// only a GET can tell.
func look(ctx context.Context, o Object) (object.ArchiveStatus, error) {
	f, err := o.Look(ctx)
	if errors.Is(err, object.ErrArchived) {
		return object.ArchiveStatus{State: object.Frozen}, nil
	}
	return f, err
}

// Ask asks for the restore of an object that is frozen.
func (p Policy) Ask(ctx context.Context, o Object, f object.ArchiveStatus, asked *Asked) (object.ArchiveStatus, error) {
	tier, err := p.forClass(f.Class)
	if err == nil && asked.Times == maxAsked {
		err = fmt.Errorf("it is frozen again after %d restores", maxAsked)
	}
	if err != nil {
		return f, &object.PermanentError{Err: fmt.Errorf("%w: %w", object.ErrArchived, err)}
	}
	asked.Times++
	begun, err := o.Restore(ctx, p.Days, tier)
	if err != nil {
		return p.refused(ctx, o, f, err)
	}
	asked.Begun = asked.Begun || begun
	f.State = object.Thawing
	return f, nil
}

// refused decides about a restore that was refused. Another one may have begun meanwhile: how OSS refuses a slower tier then is not
// documented, so the state of the object decides.
func (p Policy) refused(ctx context.Context, o Object, f object.ArchiveStatus, refusal error) (object.ArchiveStatus, error) {
	var said *object.StatusError
	if !errors.As(refusal, &said) || object.Retryable(refusal) || said.Means() != nil {
		return f, refusal
	}
	now, err := look(ctx, o)
	if err == nil && now.State != object.Frozen {
		return now, nil
	}
	return f, refusal
}

// firstPause is the longest pause before the first look at an object that thaws.
const firstPause = time.Minute

// Pauses are the pauses between looks. They grow. The zero value is the beginning.
type Pauses struct{ last time.Duration }

// Next returns the next pause.
func (s *Pauses) Next(p Policy) time.Duration {
	if s.last == 0 {
		s.last = p.PollMin
		return min(p.PollMin, firstPause)
	}
	s.last = min(2*s.last, p.PollMax)
	return s.last
}

// maxRefused is how often in a row an object may be refused as frozen although its state says that it can be read.
const maxRefused = 3

// Thaw is the restore of one object.
type Thaw struct {
	Policy
	Object Object
	Log    *slog.Logger

	Asked   Asked
	refused int
}

// Wait returns once the object can be read, as far as its state says. It is to be called each time a GET was refused because the
// object is frozen; progress says that bytes have come since the last time. With an error it returns the state seen last.
func (t *Thaw) Wait(ctx context.Context, progress bool) (f object.ArchiveStatus, err error) {
	var pauses Pauses
	if progress {
		t.refused, t.Asked.Times = 0, 0
	}
	if t.refused++; t.refused > 1 { // state and answer differ: the next one must not follow at once
		if err := slots.Sleep(ctx, pauses.Next(t.Policy)); err != nil {
			return f, err
		}
	}
	for began := time.Now(); ; {
		f, err = t.Policy.Look(ctx, t.Object, &t.Asked)
		switch {
		case err != nil:
			return f, err
		case f.State != object.Thawing && t.refused > maxRefused:
			return f, &object.PermanentError{Err: fmt.Errorf("%w: it is refused although its state is: %v", object.ErrArchived, f)}
		case f.State != object.Thawing:
			t.Log.Info("object restored", "class", f.Class, "until", f.Until, "waited", time.Since(began))
			return f, nil
		}
		pause := pauses.Next(t.Policy)
		t.Log.Info("waiting for the restore", "class", f.Class, "next", pause)
		if err := slots.Sleep(ctx, pause); err != nil {
			return f, err
		}
	}
}
