package engine

import (
	"math"
	"sync/atomic"
	"time"
)

// strain says whether the processor is what limits a run, rather than the network. Then bodies have come faster than they are
// read: whenever a request is read, there is a whole buffer of it. If so, it is no fault of a connection that its request takes
// long, and another one would gain nothing.
type strain struct {
	whole, all atomic.Int64 // buffers that were to be filled since the last look: those that were at once, and all of them
	strained   atomic.Bool

	// Used by whoever looks.
	share float64 // of the whole ones, smoothed
	last  time.Time
}

const (
	atOnce       = time.Millisecond       // a buffer that takes longer was waited for; no network fills one so fast on many connections
	leastBuffers = 16                     // say something
	shareHalf    = 150 * time.Millisecond // of the smoothed share
)

// gathered notes that n bytes of a buffer of this size were filled, in so much time.
func (s *strain) gathered(n, size int, took time.Duration) {
	if size != BufferSize {
		return // the end of a part: a little is there sooner
	}
	s.all.Add(1)
	if n == size && took < atOnce {
		s.whole.Add(1)
	}
}

// observe looks at the buffers since the last look. Few requests, as processors go, cannot be too many for them.
func (s *strain) observe(now time.Time, inFlight, processors int) {
	elapsed := now.Sub(s.last)
	if elapsed < tickTime/2 {
		return // the look before came late
	}
	s.last = now
	share := 0.0
	if all, whole := s.all.Swap(0), s.whole.Swap(0); all >= leastBuffers {
		share = float64(whole) / float64(all)
	}
	s.share += (share - s.share) * (1 - math.Exp2(-elapsed.Seconds()/shareHalf.Seconds()))
	s.strained.Store(s.share > 0.5 && inFlight > 2*processors)
}

// high reports whether the processor is the limit.
func (s *strain) high() bool { return s.strained.Load() }
