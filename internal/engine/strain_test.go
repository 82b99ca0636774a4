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
			s.observe(now, c.inFlight, processors)
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
			s.observe(now, many, processors)
		}
		return &s, now
	}
	s, now := strained()
	for i := range 10 {
		now = now.Add(time.Millisecond)
		if s.observe(now, many, processors); !s.high() {
			t.Errorf("look %d, without an interval before it, ended it", i)
		}
	}
	for range 4 {
		now = now.Add(tickTime)
		s.observe(now, many, processors)
	}
	if s.high() {
		t.Error("nothing has come for 400 ms, and the processor is blamed")
	}
	s, now = strained()
	if s.observe(now.Add(tickTime), 2*processors, processors); s.high() {
		t.Error("few requests are too many for the processors")
	}
}
