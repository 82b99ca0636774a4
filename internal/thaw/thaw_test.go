package thaw

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/object"
)

var policy = Policy{Days: 1, PollMin: 20 * time.Second, PollMax: 10 * time.Minute}

// TestCheck checks which policies are refused before anything is known of an object, and which for its class.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		days             int
		tier             string
		bad              string            // of any class; "": it is allowed
		classes, refused map[string]string // the tiers that are sent, and the errors
	}{
		{0, "", "Days is 0: 1 to 365", nil, nil},
		{366, "", "Days is 366: 1 to 365", nil, nil},
		{1, "standard", `tier "standard": Expedited, Standard and Bulk`, nil, nil},
		{7, "Bulk", "", map[string]string{"Archive": "", "ColdArchive": "Bulk", "": ""}, map[string]string{"DeepColdArchive": "Expedited and Standard"}},
		{8, "Expedited", "", map[string]string{"ColdArchive": "Expedited", "DeepColdArchive": "Expedited"}, map[string]string{"Archive": "1 to 7"}},
		{365, "", "", map[string]string{"ColdArchive": "", "DeepColdArchive": ""}, map[string]string{"Archive": "1 to 7"}},
	} {
		p := Policy{Days: c.days, Tier: c.tier}
		err := p.Check()
		if (err != nil) != (c.bad != "") || err != nil && !strings.Contains(err.Error(), c.bad) {
			t.Errorf("%+v: %v", p, err)
		}
		for class, want := range c.classes {
			if tier, err := p.forClass(class); err != nil || tier != want {
				t.Errorf("%+v, %s: %q, %v", p, class, tier, err)
			}
		}
		for class, want := range c.refused {
			if _, err := p.forClass(class); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v, %s: %v", p, class, err)
			}
		}
	}
}

// TestPauses checks that the first pause is a minute at most, and that the others double up to their limit.
func TestPauses(t *testing.T) {
	for _, c := range []struct {
		least, most time.Duration
		want        []time.Duration
	}{
		{20 * time.Second, 3 * time.Minute, []time.Duration{20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 3 * time.Minute, 3 * time.Minute}},
		{time.Hour, time.Hour, []time.Duration{time.Minute, time.Hour, time.Hour}},
	} {
		var pauses Pauses
		for i, want := range c.want {
			if got := pauses.Next(Policy{PollMin: c.least, PollMax: c.most}); got != want {
				t.Errorf("pause %d is %v, want %v", i, got, want)
			}
		}
	}
}

// fakeObject answers looks in order; the last answer stays.
type fakeObject struct {
	looks []any // of type object.ArchiveStatus or error
	asked []any // of type bool or error
	n, m  int
}

func (f *fakeObject) Look(context.Context) (object.ArchiveStatus, error) {
	is := f.looks[min(f.n, len(f.looks)-1)]
	f.n++
	if err, ok := is.(error); ok {
		return object.ArchiveStatus{}, err
	}
	return is.(object.ArchiveStatus), nil
}

func (f *fakeObject) Restore(context.Context, int, string) (bool, error) {
	is := f.asked[min(f.m, len(f.asked)-1)]
	f.m++
	if err, ok := is.(error); ok {
		return false, err
	}
	return is.(bool), nil
}

// TestLook checks when a restore is asked for, and how its refusal is understood.
func TestLook(t *testing.T) {
	cold := func(s object.RestoreState) object.ArchiveStatus {
		return object.ArchiveStatus{Class: object.ColdArchive, State: s}
	}
	network := errors.New("no network")
	refusal := object.NewStatusError(400, nil, refusedBy("OperationNotSupported"))
	for name, c := range map[string]struct {
		object fakeObject
		before uint8 // how often it was asked for
		want   object.RestoreState
		asks   int
		err    error
	}{
		"frozen":                     {fakeObject{looks: []any{cold(object.Frozen)}, asked: []any{true}}, 0, object.Thawing, 1, nil},
		"thawing":                    {fakeObject{looks: []any{cold(object.Thawing)}}, 0, object.Thawing, 0, nil},
		"restored":                   {fakeObject{looks: []any{cold(object.Restored)}}, 0, object.Restored, 0, nil},
		"frozen again":               {fakeObject{looks: []any{cold(object.Frozen)}, asked: []any{true}}, 2, object.Thawing, 1, nil},
		"frozen for ever":            {fakeObject{looks: []any{cold(object.Frozen)}}, 3, object.Frozen, 0, object.ErrArchived},
		"cannot be read":             {fakeObject{looks: []any{object.ErrArchived}, asked: []any{true}}, 0, object.Thawing, 1, nil},
		"still cannot be read":       {fakeObject{looks: []any{object.ErrArchived}}, 1, object.Thawing, 0, nil},
		"no network":                 {fakeObject{looks: []any{network}}, 0, object.NotArchived, 0, network},
		"no network for the restore": {fakeObject{looks: []any{cold(object.Frozen)}, asked: []any{network}}, 0, object.Frozen, 1, network},
		"refused":                    {fakeObject{looks: []any{cold(object.Frozen)}, asked: []any{refusal}}, 0, object.Frozen, 1, refusal},
		"refused: it thaws":          {fakeObject{looks: []any{cold(object.Frozen), cold(object.Thawing)}, asked: []any{refusal}}, 0, object.Thawing, 1, nil},
		"refused: it is restored":    {fakeObject{looks: []any{cold(object.Frozen), cold(object.Restored)}, asked: []any{refusal}}, 0, object.Restored, 1, nil},
	} {
		asked := Asked{Times: c.before}
		f, err := policy.Look(t.Context(), &c.object, &asked)
		if f.State != c.want || !errors.Is(err, c.err) || c.object.m != c.asks {
			t.Errorf("%s: %v, %v, asked %d times; want %v, %v, %d", name, f, err, c.object.m, c.want, c.err, c.asks)
		}
	}
}

// parkedItem is an object that thaws until a time.
type parkedItem struct {
	id    int
	ready time.Duration
	looks int
}

// TestQueue checks that each object becomes ready once, soon after its time, in whatever order they thaw, and that the queue ends
// when all are released.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 3000
		began := time.Now()
		var q *Queue[*parkedItem]
		var ready []*parkedItem
		q = NewQueue(policy, func(_ context.Context, o *parkedItem) Outcome {
			o.looks++
			switch {
			case time.Since(began) < o.ready:
				return StillThawing
			case o.id%10 == 0:
				return Settled
			}
			return Ready
		}, func(o *parkedItem) {
			if late := time.Since(began) - o.ready; late > time.Hour {
				t.Errorf("object %d is %v late", o.id, late)
			}
			ready = append(ready, o)
			q.Release()
		})
		for i := range n {
			q.Hold()
			q.Add(&parkedItem{id: i, ready: time.Duration(i*7919%n) * time.Hour / 1000})
		}
		q.Close()
		if err := q.Run(t.Context()); err != nil || q.Len() != 0 || len(ready) != n-n/10 {
			t.Errorf("%v, %d left, %d ready", err, q.Len(), len(ready))
		}
		slices.SortFunc(ready, func(a, b *parkedItem) int { return a.id - b.id })
		if len(slices.Compact(ready)) != n-n/10 {
			t.Error("an object became ready twice")
		}
	})
}

// TestQueueRound checks that a round ends after many looks in vain, and that the next one goes on behind them.
func TestQueueRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, perRound = 2*maxIdle + 100, (maxIdle + atOnce - 1) / atOnce * atOnce
		looked := make([]int, n)
		q := NewQueue(policy, func(_ context.Context, i int) Outcome {
			looked[i]++
			return StillThawing
		}, func(int) {})
		for i := range n {
			q.Hold()
			q.Add(i)
		}
		ctx, cancel := context.WithTimeout(t.Context(), policy.PollMin+time.Second)
		defer cancel()
		if err := q.Run(ctx); !errors.Is(err, context.DeadlineExceeded) || q.Len() != n {
			t.Error(err, q.Len())
		}
		check := func(rounds int) {
			t.Helper()
			for i, times := range looked {
				if want := map[bool]int{true: 1}[i < rounds*perRound]; times != want {
					t.Fatalf("object %d was looked at %d times in %d rounds, want %d", i, times, rounds, want)
				}
			}
		}
		check(1)
		ctx, cancel = context.WithTimeout(t.Context(), policy.PollMin+time.Second)
		defer cancel()
		_ = q.Run(ctx) // it ends with ctx
		check(2)
	})
}

// TestQueueLooksSoon checks that an object that is added while the pauses are long is looked at within a minute.
func TestQueueLooksSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q *Queue[string]
		var mu sync.Mutex
		first := map[string]time.Time{}
		q = NewQueue(policy, func(_ context.Context, o string) Outcome {
			mu.Lock()
			defer mu.Unlock()
			if first[o].IsZero() {
				first[o] = time.Now()
			}
			return StillThawing
		}, func(string) {})
		for range 2 {
			q.Hold()
		}
		q.Add("old")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Hour)
		defer cancel()
		var added time.Time
		time.AfterFunc(2*time.Hour+time.Second, func() {
			added = time.Now()
			q.Add("new")
		})
		_ = q.Run(ctx) // it ends with ctx
		if wait := first["new"].Sub(added); first["new"].IsZero() || wait > firstPause {
			t.Errorf("looked at after %v", wait)
		}
	})
}

func refusedBy(code string) (se oss.ServiceError) {
	se.Code, se.StatusCode = code, 400
	se.Message = fmt.Sprint("refused by ", code)
	return se
}
