package engine

import (
	"testing"
	"time"
)

// TestStrain checks when the processor counts as what limits a run.
func TestStrain(t *testing.T) {
	const processors, many = 4, 9
	whole := func(s *strain) { s.gathered(BufferSize, BufferSize, atOnce-1) }
	for _, c := range []struct {
		name     string
		gather   func(s *strain) // in each interval
		inFlight int
		want     bool
	}{
		{"whole buffers at once", func(s *strain) {
			for range 20 {
				whole(s)
			}
		}, many, true},
		{"most of them", func(s *strain) {
			for range 14 {
				whole(s)
			}
			for range 6 {
				s.gathered(BufferSize/2, BufferSize, gatherTime)
			}
		}, many, true},
		{"by few requests", func(s *strain) {
			for range 20 {
				whole(s)
			}
		}, 2 * processors, false},
		{"whole buffers that were waited for", func(s *strain) {
			for range 20 {
				s.gathered(BufferSize, BufferSize, atOnce)
			}
		}, many, false},
		{"a half of each at once", func(s *strain) {
			for range 20 {
				s.gathered(BufferSize/2, BufferSize, 0)
			}
		}, many, false},
		{"the ends of parts at once", func(s *strain) {
			for range 20 {
				s.gathered(10, 10, 0)
			}
		}, many, false},
		{"too few to say", func(s *strain) {
			for range leastBuffers - 1 {
				whole(s)
			}
		}, many, false},
		{"nothing", func(*strain) {}, many, false},
	} {
		var s strain
		now := time.Unix(0, 0)
		for range 10 {
			c.gather(&s)
			now = now.Add(tickTime)
			s.observe(look{now: now, inFlight: c.inFlight, processors: processors})
		}
		if s.high() != c.want {
			t.Errorf("%s: strained %t", c.name, s.high())
		}
	}
}

// TestStrainEnds checks that requests that have come to a standstill are not excused for long, that looks which come late and close
// together do not count twice, and that few requests end it at once.
func TestStrainEnds(t *testing.T) {
	const processors, many = 4, 9
	strained := func() (*strain, time.Time) {
		var s strain
		now := time.Unix(0, 0)
		for range 10 {
			for range 100 {
				s.gathered(BufferSize, BufferSize, 0)
			}
			now = now.Add(tickTime)
			s.observe(look{now: now, inFlight: many, processors: processors})
		}
		return &s, now
	}
	s, now := strained()
	for i := range 10 {
		now = now.Add(time.Millisecond)
		if s.observe(look{now: now, inFlight: many, processors: processors}); !s.high() {
			t.Errorf("look %d, without an interval before it, ended it", i)
		}
	}
	for range 4 {
		now = now.Add(tickTime)
		s.observe(look{now: now, inFlight: many, processors: processors})
	}
	if s.high() {
		t.Error("nothing has come for 400 ms, and the processor is blamed")
	}
	s, now = strained()
	if s.observe(look{now: now.Add(tickTime), inFlight: 2 * processors, processors: processors}); s.high() {
		t.Error("few requests are too many for the processors")
	}
}

// TestStrainOfOthers checks when other processes count as what limits a run, by how late the looks come.
func TestStrainOfOthers(t *testing.T) {
	const processors, many = 4, 9
	const late = 3 * lateLooks
	steady := func(int) int64 { return 10 << 20 }
	for _, c := range []struct {
		name     string
		late     func(i int) time.Duration
		bytes    func(i int) int64 // that come before a look
		inFlight int
		want     bool
	}{
		{"looks come late", func(int) time.Duration { return late }, steady, many, true},
		{"one in four does", func(i int) time.Duration {
			if i%4 == 3 {
				return 8 * late
			}
			return 0
		}, steady, many, true},
		{"looks come in time", func(int) time.Duration { return lateLooks / 2 }, steady, many, false},
		{"few requests", func(int) time.Duration { return late }, steady, 2 * processors, false},
		{"bytes come in bursts", func(int) time.Duration { return late }, func(i int) int64 {
			if i%5 == 0 {
				return 50 << 20
			}
			return 0
		}, many, true},
		{"fewer bytes come, as the connections allow", func(int) time.Duration { return late }, func(i int) int64 {
			if i > 10 {
				return 512 << 10
			}
			return 10 << 20
		}, many, false},
		{"none come any more", func(int) time.Duration { return late }, func(i int) int64 {
			if i > 10 {
				return 0
			}
			return 10 << 20
		}, many, false},
		{"looks came late long ago", func(i int) time.Duration {
			if i < 10 {
				return late
			}
			return 0
		}, steady, many, false},
	} {
		var s strain
		l := look{now: time.Unix(0, 0), inFlight: c.inFlight, processors: processors}
		for i := range 40 {
			l.now, l.late, l.bytes = l.now.Add(tickTime), c.late(i), l.bytes+c.bytes(i)
			s.observe(l)
		}
		if s.high() != c.want {
			t.Errorf("%s: strained %t", c.name, s.high())
		}
	}
}
