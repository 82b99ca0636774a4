package engine

import (
	"math"
	"sync/atomic"
	"time"
)

// strain says whether the processor is what limits a run, rather than the network. If so, it is no fault of a connection that its
// request takes long, and another one would gain nothing. There are two signs of it, if there are more than a few requests:
//
//   - Bodies have come faster than they are read: whenever a request is read, there is a whole buffer of it.
//   - The looks come late, since others have the processors, and bytes still come as fast as they did. A request may then get no
//     turn for seconds, in this process or in a server on the same machine, and its speed says nothing.
type strain struct {
	whole, all atomic.Int64 // buffers that were to be filled since the last look: those that were at once, and all of them
	strained   atomic.Bool

	// Used by whoever looks.
	share float64 // of the whole ones, smoothed
	last  time.Time
	age   time.Duration // from the first look to the last
	bytes int64         // that had come at the last look
	late  float64       // seconds that looks come late, smoothed
	flow  float64       // bytes a second, smoothed
	usual float64       // the same, over a longer time
}

const (
	atOnce       = time.Millisecond       // a buffer that takes longer was waited for; no network fills one so fast on many connections
	leastBuffers = 16                     // say something
	shareHalf    = 150 * time.Millisecond // of the smoothed share

	lateLooks = 2 * time.Millisecond   // others have the processors; on an idle machine a tenth of that is usual
	lateHalf  = 500 * time.Millisecond // of how late looks come
	flowHalf  = 300 * time.Millisecond // of the flow, at least
	flowLate  = 8                      // the same, as a multiple of how late looks come: whoever has no turn gets no bytes
	usualHalf = 10                     // of the usual flow, as a multiple of the same
	flowShare = 4                      // a flow below this fraction of the usual one is not due to the processors
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

// look is what is seen of a run each tickTime.
type look struct {
	now                  time.Time
	late                 time.Duration // this look
	bytes                int64         // that have come
	inFlight, processors int
}

// observe looks at what has come since the last look. Few requests, as processors go, cannot be too many for them.
func (s *strain) observe(l look) {
	elapsed := l.now.Sub(s.last)
	if elapsed < tickTime/2 {
		return // the look before came late
	}
	first := s.last.IsZero()
	s.last = l.now
	share := 0.0
	if all, whole := s.all.Swap(0), s.whole.Swap(0); all >= leastBuffers {
		share = float64(whole) / float64(all)
	}
	s.share += (share - s.share) * weightOf(elapsed, shareHalf)
	if first {
		s.late, s.bytes = l.late.Seconds(), l.bytes
	} else {
		s.measure(l, elapsed)
	}
	busy := s.share > 0.5 || s.late > lateLooks.Seconds() && s.flow*flowShare >= s.usual
	s.strained.Store(busy && l.inFlight > 2*l.processors)
}

// measure smooths how late looks come, and how fast bytes do.
func (s *strain) measure(l look, elapsed time.Duration) {
	s.age += elapsed
	smooth := func(mean *float64, value float64, half time.Duration) {
		weight := max(weightOf(elapsed, half), elapsed.Seconds()/s.age.Seconds()) // at first it is the mean of all
		*mean += (value - *mean) * weight
	}
	rate := float64(l.bytes-s.bytes) / elapsed.Seconds()
	s.bytes = l.bytes
	smooth(&s.late, l.late.Seconds(), lateHalf)
	half := max(flowHalf, time.Duration(flowLate*s.late*float64(time.Second)))
	smooth(&s.flow, rate, half)
	smooth(&s.usual, rate, usualHalf*half)
}

// weightOf is how much a measurement over some time counts in a mean with this half-life.
func weightOf(elapsed, half time.Duration) float64 {
	return 1 - math.Exp2(-elapsed.Seconds()/half.Seconds())
}

// high reports whether the processor is the limit.
func (s *strain) high() bool { return s.strained.Load() }
