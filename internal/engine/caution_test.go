package engine

import (
	"testing"
	"time"
)

// TestCaution checks how much the next request asks for, and how long it may take, after some that stalled or succeeded.
func TestCaution(t *testing.T) {
	const mib = 1 << 20
	type event struct {
		stalled, fetched int64 // bytes
		within           time.Duration
	}
	for _, c := range []struct {
		name   string
		events []event
		limit  int64 // of a request that would ask for 256 MiB
		stall  time.Duration
	}{
		{"nothing happened", nil, 256 * mib, 30 * time.Second},
		{"one stalled", []event{{stalled: 8 * mib}}, 2 * mib, time.Minute},
		{"one after the other", []event{{stalled: 8 * mib}, {stalled: 2 * mib}, {stalled: 512 << 10}}, 128 << 10, 2 * time.Minute},
		{"never less than makes progress", []event{{stalled: 100 << 10}}, progressUnit, time.Minute},
		{"a small one says nothing about size", []event{{stalled: 8 << 10}}, 256 * mib, time.Minute},
		{"no object at all", []event{{}}, 256 * mib, time.Minute},
		{"fast enough to grow", []event{{stalled: 8 * mib}, {fetched: 2 * mib, within: 7 * time.Second}}, 4 * mib, time.Minute},
		{"not fast enough", []event{{stalled: 8 * mib}, {fetched: 2 * mib, within: 8 * time.Second}}, 2 * mib, time.Minute},
		{"too small to say", []event{{stalled: 8 * mib}, {fetched: 2*mib - 1, within: time.Second}}, 2 * mib, time.Minute},
	} {
		care := newCaution(30 * time.Second)
		for _, e := range c.events {
			if e.fetched > 0 {
				care.fetched(e.fetched, e.within)
			} else {
				care.stalled(e.stalled, care.stall())
			}
		}
		if got, stall := care.limit(256*mib), care.stall(); got != c.limit || stall != c.stall {
			t.Errorf("%s: at most %d bytes, stall timeout %v; want %d, %v", c.name, got, stall, c.limit, c.stall)
		}
	}
	together := newCaution(30 * time.Second)
	for range 8 {
		together.stalled(8*mib, 30*time.Second)
	}
	if got := together.limit(256 * mib); got != 2*mib || together.stall() != time.Minute {
		t.Errorf("eight that stalled together: at most %d bytes, stall timeout %v", got, together.stall())
	}
}
