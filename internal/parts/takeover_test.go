package parts

import (
	"math"
	"testing"
	"time"
)

// TestCutPoint checks how much stays with a request whose range is shared.
func TestCutPoint(t *testing.T) {
	for _, c := range []struct {
		name                       string
		left, rate, newRate, start float64
		keep                       float64
	}{
		{"equal rates: half", 100, 10, 10, 0, 50},
		{"half the rate: a third", 90, 5, 10, 0, 30},
		{"twice the rate: two thirds", 90, 10, 5, 0, 60},
		{"the new request starts late", 100, 10, 10, 2, 60},
		{"just over an eighth", 80, 10, 69, 0, 800.0 / 79},
		{"less than an eighth: nothing", 80, 10, 71, 0, 0},
		{"stuck: nothing", 100, 0, 10, 0, 0},
		{"stuck, and the new request starts late", 100, 0, 10, 60, 0},
		{"late enough to keep all", 100, 10, 10, 10, 100},
		{"nothing left", 0, 10, 10, 0, 0},
	} {
		keep := cutPoint(c.left, c.rate, c.newRate, c.start)
		if math.Abs(keep-c.keep) > 1e-9 {
			t.Errorf("%s: keeps %v of %v, want %v", c.name, keep, c.left, c.keep)
			continue
		}
		if keep == 0 {
			continue
		}
		if a, b := keep/c.rate, c.start+(c.left-keep)/c.newRate; math.Abs(a-b) > 1e-9 {
			t.Errorf("%s: they end after %v s and %v s, want together", c.name, a, b)
		}
	}
}

// TestWorthIt checks the seconds that a request must save, for how many bytes.
func TestWorthIt(t *testing.T) {
	const slow = 500 * time.Millisecond // to the first byte
	for _, c := range []struct {
		name         string
		saved, bytes float64
		terms        Terms
		want         bool
	}{
		{"enough of both", 0.1, MinGain, Terms{}, true},
		{"too little time", 0.099, 1 << 30, Terms{}, false},
		{"too few bytes", 1.999, MinGain - 1, Terms{}, false},
		{"few bytes, but seconds", 2, 1, Terms{}, true},
		{"four times a slow first byte", 2, MinGain, Terms{FirstByte: slow}, true},
		{"less than four times a slow first byte", 1.999, 1 << 30, Terms{FirstByte: slow}, false},
		{"long, and yet less than four first bytes", 3, 1 << 30, Terms{FirstByte: 2 * slow}, false},
		{"the caller takes fewer bytes", 0.1, 1 << 10, Terms{Least: 1 << 10}, true},
		{"fewer than the caller takes", 0.1, 1<<10 - 1, Terms{Least: 1 << 10}, false},
		{"a stuck request", math.Inf(1), 1, Terms{FirstByte: slow}, true},
		{"nothing saved", 0, 1 << 30, Terms{}, false},
		{"a loss", -1, 1 << 30, Terms{}, false},
	} {
		if got := worthIt(c.saved, c.bytes, c.terms); got != c.want {
			t.Errorf("%s: %v s saved with %v bytes: worth it %t, want %t", c.name, c.saved, c.bytes, got, c.want)
		}
	}
}

// TestMapTakeOver checks where a range is cut, and when it is not.
func TestMapTakeOver(t *testing.T) {
	now := time.Unix(1000, 0)
	usual := Terms{Now: now, FirstByte: 10 * time.Millisecond, Rate: 10 << 20}
	const mib = 1 << 20
	for _, c := range []struct {
		name   string
		length int64
		done   int // of the part, in MiB
		rate   float64
		terms  Terms
		cut    int64 // -1: not taken over
	}{
		{"equal speeds: half", 64 * mib, 0, 10 << 20, Terms{Now: now, Rate: 10 << 20}, 32 * mib},
		{"the victim keeps more while the other begins", 40 * mib, 0, 10 << 20, Terms{Now: now, FirstByte: time.Second, Rate: 10 << 20}, -1},
		{"slow victim keeps its share", 90 * mib, 0, 5 << 20, Terms{Now: now, Rate: 10 << 20}, 30 * mib},
		{"a share under an eighth: all of it", 64 * mib, 4, 1 << 20, usual, 4 * mib},
		{"little to save", mib, 0, 10 << 20, usual, -1},
		{"speed of a new connection unknown", 64 * mib, 0, 1 << 20, Terms{Now: now}, -1},
	} {
		m := New(c.length)
		p := m.Take(func(n int64) int64 { return n })
		for range c.done * 4 {
			m.Advance(p, m.Hold(p, writeSize), 0)
		}
		m.SetPace(p, Pace{Rate: c.rate, Since: now.Add(-time.Second)})
		got := m.TakeOver(c.terms)
		switch {
		case got == nil && c.cut >= 0:
			t.Errorf("%s: nothing taken over", c.name)
		case got != nil && got.Off != c.cut:
			t.Errorf("%s: cut at %d, want %d", c.name, got.Off, c.cut)
		}
		if err := m.check(nil); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestMapTakesOverAStuckPart checks that all of a range is taken over, and its request ended, once no byte has come for long.
func TestMapTakesOverAStuckPart(t *testing.T) {
	m := New(16 << 20)
	p := m.Take(func(n int64) int64 { return n })
	abandoned := false
	now := time.Unix(1000, 0)
	m.SetPace(p, Pace{Since: now, Abandon: func() { abandoned = true }})
	tm := Terms{Now: now.Add(time.Second), FirstByte: time.Millisecond, Rate: 10 << 20}
	if m.TakeOver(tm) == nil || abandoned {
		t.Error("a part whose request was just sent must lose a share, and not all")
	}
	tm.Now = now.Add(time.Minute)
	for m.TakeOver(tm) != nil && !abandoned {
	}
	if !abandoned {
		t.Error("the request that is stuck was not ended")
	}
	if n := m.Rest(p).Len(); n != 0 {
		t.Errorf("the victim still has %d bytes", n)
	}
	m.GiveBack(p)
	if err := m.check(nil); err != nil {
		t.Error(err)
	}
}

// TestMapTakesOverTheLastBytes checks that even a few bytes are taken over if that saves seconds, since the call waits for
// its last bytes.
func TestMapTakesOverTheLastBytes(t *testing.T) {
	now := time.Unix(1000, 0)
	for rate, want := range map[float64]bool{100 << 10: true, 400 << 10: false} {
		m := New(500 << 10)
		m.SetPace(m.Take(func(n int64) int64 { return n }), Pace{Rate: rate, Since: now})
		p := m.TakeOver(Terms{Now: now, FirstByte: 10 * time.Millisecond, Rate: 10 << 20})
		if got := p != nil; got != want {
			t.Errorf("at %.0f bytes per second: taken over %t, want %t", rate, got, want)
		}
	}
}

// TestMapTakesNothingOverBehindTheHorizon checks that bytes at or behind the horizon, for which there is no room yet, are not
// taken over.
func TestMapTakesNothingOverBehindTheHorizon(t *testing.T) {
	now := time.Unix(1000, 0)
	for horizon, want := range map[int64]bool{8 << 20: false, 40 << 20: true} {
		m := New(64 << 20)
		m.SetHorizon(horizon)
		p := m.Take(func(int64) int64 { return 1 << 20 })
		m.Extend(p, 64<<20) // by the body of a server that sent the whole object
		m.SetPace(p, Pace{Rate: 10 << 20, Since: now})
		if got := m.TakeOver(Terms{Now: now, Rate: 10 << 20}) != nil; got != want {
			t.Errorf("horizon at %d: taken over %t, want %t", horizon, got, want)
		}
	}
}

// TestMapTakesOverLessAndLessOften checks that bytes which come late on any connection do not change hands for ever: each time
// all of the rest does, the next request may wait twice as long, and the next gain must be twice as large.
func TestMapTakesOverLessAndLessOften(t *testing.T) {
	m := New(8 << 10)
	now := time.Unix(1000, 0)
	tm := Terms{Now: now, FirstByte: 100 * time.Millisecond, Rate: 1 << 20}
	m.SetPace(m.Take(func(n int64) int64 { return n }), Pace{Since: now})
	wait := Patience(tm.FirstByte)
	for turn := range 8 {
		tm.Now = now.Add(wait - 1)
		if m.TakeOver(tm) != nil {
			t.Fatalf("turn %d: taken over before %v", turn, wait)
		}
		tm.Now = now.Add(wait)
		p := m.TakeOver(tm)
		if p == nil {
			t.Fatalf("turn %d: not taken over after %v", turn, wait)
		}
		now = tm.Now
		m.SetPace(p, Pace{Since: now})
		wait *= 2
	}
	for _, c := range []struct {
		turns int
		rate  float64 // of the victim, which has 500 KiB left
		want  bool
	}{{0, 200 << 10, true}, {1, 200 << 10, false}, {1, 100 << 10, true}, {2, 100 << 10, false}, {2, 50 << 10, true}} {
		m := New(500 << 10)
		p := m.Take(func(n int64) int64 { return n })
		p.turns = c.turns
		m.SetPace(p, Pace{Rate: c.rate, Since: now})
		if got := m.TakeOver(Terms{Now: now, FirstByte: 10 * time.Millisecond, Rate: 10 << 20}) != nil; got != c.want {
			t.Errorf("after %d turns, at %.0f bytes per second: taken over %t, want %t", c.turns, c.rate, got, c.want)
		}
	}
}
