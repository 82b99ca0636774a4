package ossdl

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/slots"
	"github.com/ossdl/ossdl/internal/thaw"
)

// This file has what calls with [WithRestore] do with archived objects: one that is downloaded alone, and those of a prefix. How a
// restore is asked for and waited for is in internal/thaw.

// run fetches what is missing. An object that is frozen is restored meanwhile, if the caller wants that; nothing else of the call
// is running as long as it thaws.
func (c *call) run(ctx context.Context, e *engine.Engine) error {
	src, ok := c.stored().(frozenSource)
	t := &thaw.Thaw{Object: &frozenCall{c, src}, Log: c.cfg.log}
	if c.cfg.restore != nil {
		t.Policy = c.cfg.restore.thaw()
	}
	for had := int64(0); ; {
		err := e.Run(ctx)
		switch {
		case c.parks || !errors.Is(err, ErrArchived):
			return err
		case !ok:
			return archived(object.ArchiveStatus{}, err)
		}
		if c.cfg.restore == nil {
			f, _ := t.Object.Look(ctx)
			return archived(f, err)
		}
		c.thawing.Store(true) // for progress
		has := c.stats.Downloaded.Load()
		f, terr := t.Wait(ctx, has > had)
		had = has
		c.thawing.Store(false)
		c.restored.Store(t.Asked.Begun)
		if terr != nil {
			return archived(f, terr)
		}
	}
}

// stored is the source of the object as it is stored.
func (c *call) stored() source {
	if c.sealed != nil {
		return c.sealed.Inner
	}
	return c.src
}

// frozenSource is a source whose object may have to be restored.
type frozenSource interface {
	Head(ctx context.Context, version string) (object.Facts, error)
	Restore(ctx context.Context, version string, days int, tier string) (begun bool, err error)
}

// frozenCall makes the requests for the restore of a call's object.
type frozenCall struct {
	c   *call
	src frozenSource
}

// Look implements [thaw.Object].
func (f *frozenCall) Look(ctx context.Context) (status object.ArchiveStatus, err error) {
	err = f.c.ask(ctx, "HEAD", func(ctx context.Context) error {
		facts, err := f.src.Head(ctx, f.c.versionID)
		status = facts.ArchiveStatus
		return err
	})
	return status, err
}

// Restore implements [thaw.Object].
func (f *frozenCall) Restore(ctx context.Context, days int, tier string) (begun bool, err error) {
	f.c.cfg.log.Info("asking for the restore", "days", days, "tier", tier)
	err = f.c.ask(ctx, "restore", func(ctx context.Context) (err error) {
		begun, err = f.src.Restore(ctx, f.c.versionID, days, tier)
		return err
	})
	if err != nil {
		err = fmt.Errorf("restore: %w", err)
	}
	return begun, err
}

// restoring is what a call needs to restore objects.
type restoring struct {
	policy thaw.Policy
	queue  *thaw.Queue[*item]
	pace   *rate.Limiter // of what is asked for
	ready  chan readable
	apart  errgroup.Group // looks at objects that are, or may be, frozen

	mu     sync.Mutex
	direct *bool // the bucket lets objects of class Archive be read directly; nil: not known
}

// readable is an object that can be read.
type readable struct {
	o       *item
	missing bool
}

const (
	restoresPerSecond = 100     // what OSS takes of DeepColdArchive without a queue (page on limits)
	restoresAtOnce    = 16      // objects that are looked at apart
	readAheadObjects  = 100_000 // readable objects that wait for room while the listing is read
)

// errThaws says that an object thaws, or is elsewhere in the call, and is not settled.
var errThaws = errors.New("the object thaws")

// dispatchRestoring is dispatch for a call that restores objects. Those that are frozen are asked for as they are listed, and wait
// in a queue until they can be read. The others wait for room in begin apart from that, so that they do not hold up the listing.
func (p *prefixCall) dispatchRestoring(ctx context.Context, groups iter.Seq2[[]entry, error], begin func(o *item, missing bool) error) error {
	r := &restoring{policy: p.cfg.restore.thaw(), pace: rate.NewLimiter(restoresPerSecond, restoresPerSecond), ready: make(chan readable, readAheadObjects)}
	r.queue = thaw.NewQueue(r.policy, p.lookAgain, func(o *item) { _ = p.hand(ctx, readable{o, false}) })
	r.apart.SetLimit(restoresAtOnce)
	p.mu.Lock()
	p.restoring = r
	p.mu.Unlock()
	var downloads, thawing sync.WaitGroup
	downloads.Go(func() {
		for next := range r.ready {
			if err := begin(next.o, next.missing); err != nil {
				p.cutOff(ctx)
				r.queue.Release()
			}
		}
	})
	thawing.Go(func() {
		if err := r.queue.Run(ctx); err != nil {
			p.cutOff(ctx)
		}
	})
	err := p.lookAtAll(ctx, groups, func(o *item, missing bool) error { return p.admit(ctx, o, missing) })
	_ = r.apart.Wait() // its functions return no errors
	r.queue.Close()
	thawing.Wait()
	close(r.ready)
	downloads.Wait()
	p.leftThawing(r.queue.Len())
	return err
}

// admit begins with an object: apart if it is frozen, or may be, and in the order of the others if it is not.
func (p *prefixCall) admit(ctx context.Context, o *item, missing bool) error {
	p.restoring.queue.Hold()
	if o.given == nil && (o.ArchiveStatus.State == object.NotArchived || o.ArchiveStatus.State == object.Restored) {
		return p.hand(ctx, readable{o, missing})
	}
	o.restore.apart = true
	p.restoring.apart.Go(func() error {
		p.fetchObject(ctx, o, missing)
		return nil
	})
	return nil
}

// hand lets an object be downloaded when there is room. The error is that of the context.
func (p *prefixCall) hand(ctx context.Context, next readable) error {
	select {
	case p.restoring.ready <- next:
		return nil
	case <-ctx.Done():
		p.cutOff(ctx)
		p.restoring.queue.Release()
		return context.Cause(ctx)
	}
}

// restoreFirst asks for the restore of an object that is frozen, and lets it wait until it can be read. The error is errThaws
// then, or if another goroutine has to download the object. It is nil if the object can be downloaded.
func (p *prefixCall) restoreFirst(ctx context.Context, o *item) error {
	apart := o.restore.apart
	o.restore.apart = false
	frozen, err := p.isFrozen(ctx, o)
	switch {
	case err != nil:
		return err
	case frozen:
		return p.thaw(ctx, o)
	case p.cfg.startsOnly():
		return errHandedOver // to a later call
	case apart:
		_ = p.hand(ctx, readable{o, false}) // which has counted it if ctx is done
		return errThaws
	}
	return nil
}

// isFrozen reports whether an object cannot be read before it is restored. Of one that was not listed, it asks for the class.
func (p *prefixCall) isFrozen(ctx context.Context, o *item) (bool, error) {
	if o.given != nil && o.found == nil {
		_, err := p.head(ctx, o)
		if errors.Is(err, ErrArchived) { // HEAD was refused, and then the first byte
			o.ArchiveStatus = object.ArchiveStatus{State: object.Frozen}
		} else if err != nil {
			return false, err
		}
	}
	switch {
	case o.ArchiveStatus.State == object.NotArchived || o.ArchiveStatus.State == object.Restored:
		return false, nil
	case o.ArchiveStatus.State == object.Thawing || o.ArchiveStatus.Class != object.Archive:
		return true, nil
	}
	direct, err := p.readsDirectly(ctx, o)
	return !direct, err
}

// readsDirectly reports whether the bucket lets objects of class Archive be read without a restore. No header says so: the first
// byte of the first such object is asked for.
func (p *prefixCall) readsDirectly(ctx context.Context, o *item) (bool, error) {
	r := p.restoring
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.direct != nil {
		return *r.direct, nil
	}
	err := p.askAbout(ctx, o, "first byte", func(ctx context.Context) error {
		return p.bucket.Readable(ctx, o.Key, o.version())
	})
	if err != nil && !errors.Is(err, ErrArchived) {
		return false, err
	}
	direct := err == nil
	r.direct = &direct
	return direct, nil
}

// thaw asks for the restore of an object unless it is under way, and lets it wait. If the call only asks, it is settled.
func (p *prefixCall) thaw(ctx context.Context, o *item) error {
	if o.ArchiveStatus.State == object.Frozen {
		f, err := p.restoring.policy.Ask(ctx, &frozenItem{p, o}, o.ArchiveStatus, &o.restore.asked)
		if o.ArchiveStatus = f; err != nil {
			return archived(f, err)
		}
	}
	if o.ArchiveStatus.State == object.Thawing && p.cfg.startsOnly() {
		p.leftThawing(1)
		p.settled(o, ObjectRestoring, false, nil)
		return errHandedOver // to a later call
	}
	p.restoring.queue.Add(o)
	return errThaws
}

// lookAgain looks at an object that thaws.
func (p *prefixCall) lookAgain(ctx context.Context, o *item) thaw.Outcome {
	f, err := p.restoring.policy.Look(ctx, &frozenItem{p, o}, &o.restore.asked)
	switch o.ArchiveStatus = f; {
	case ctx.Err() != nil:
		return thaw.StillThawing
	case err != nil:
		p.settle(ctx, o, archived(f, err))
		return thaw.Settled
	case f.State == object.Thawing:
		return thaw.StillThawing
	}
	p.cfg.log.Debug("object restored", "bucket", p.bucket.Name(), "key", o.Key, "class", f.Class, "until", f.Until)
	o.ArchiveStatus.State = object.Restored
	if o.given == nil {
		o.found = nil // which takes more memory than all else
	}
	return thaw.Ready
}

// leftThawing counts objects that still thaw at the end of the call.
func (p *prefixCall) leftThawing(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.res.Restoring += n
}

// frozenItem makes the requests for the restore of an object.
type frozenItem struct {
	p *prefixCall
	o *item
}

// Look implements [thaw.Object].
func (f *frozenItem) Look(ctx context.Context) (object.ArchiveStatus, error) {
	facts, err := f.p.headBy(ctx, f.o, f.p.bucket.HeadArchived)
	return facts.ArchiveStatus, err
}

// Restore implements [thaw.Object].
func (f *frozenItem) Restore(ctx context.Context, days int, tier string) (begun bool, err error) {
	p := f.p
	if err := slots.Sleep(ctx, p.restoring.pace.Reserve().Delay()); err != nil {
		return false, err
	}
	p.cfg.log.Info("asking for the restore", "bucket", p.bucket.Name(), "key", f.o.Key, "class", f.o.ArchiveStatus.Class, "days", days, "tier", tier)
	err = p.askAbout(ctx, f.o, "restore", func(ctx context.Context) (err error) {
		begun, err = p.bucket.Restore(ctx, f.o.Key, f.o.version(), days, tier)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("restore: %w", err)
	}
	if begun {
		p.mu.Lock()
		p.res.Restored++
		p.mu.Unlock()
	}
	return begun, nil
}
