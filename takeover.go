package ossdl

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// terms are what taking over costs and must save.
type terms struct {
	now       time.Time
	firstByte time.Duration // from a request to its first byte
	rate      float64       // bytes per second that a new request will get; 0: not known
	least     int64         // bytes worth a request of their own; 0: minGainBytes
}

const (
	minGainTime  = 100 * time.Millisecond
	minGainBytes = 1 << 20
	longGain     = 2 * time.Second // worth a request for however few bytes: the last ones are waited for
)

// takeOver gives the caller a share of the range that would end last, so that the end is not one slow connection: cut
// where both end together, or all of it where little would stay. It returns nil where that would save too little.
func (s *set) takeOver(t terms) *part {
	s.mu.Lock()
	defer s.mu.Unlock()
	victim, cut := s.victim(t)
	if victim == nil {
		return nil
	}
	p := &part{span: span{cut, victim.end}, state: taken, pos: cut, held: cut}
	i := s.index(victim)
	abandon := victim.pace.abandon
	if cut == victim.off {
		// Nothing of it was done: the whole part changes hands.
		s.parts[i] = p
		victim.retire()
	} else {
		victim.end = cut
		s.parts = slices.Insert(s.parts, i+1, p)
		if victim.pos == victim.end {
			victim.state = done
			s.merge(i)
		}
	}
	if victim.pos == victim.end && victim.held == victim.pos && abandon != nil {
		abandon()
	}
	return p
}

// victim chooses the part to take over and where to cut it.
func (s *set) victim(t terms) (victim *part, cut int64) {
	if s.single || t.rate <= 0 {
		return nil, 0
	}
	var latest float64
	for _, p := range s.parts {
		if p.state != taken || p.held == p.end || p.held >= s.horizon {
			continue
		}
		if ends := p.ends(t); ends > latest {
			victim, latest = p, ends
		}
	}
	if victim == nil {
		return nil, 0
	}
	left := float64(victim.end - victim.held)
	start := t.firstByte.Seconds()
	rate := 0.0
	if !math.IsInf(latest, 1) {
		rate = left / latest
	}
	// Both end together where keep/rate = start + (left-keep)/t.rate.
	keep := (start + left/t.rate) * rate * t.rate / (rate + t.rate)
	if keep < left/8 {
		keep = 0
	}
	ends := start + (left-keep)/t.rate
	gain := max(4*start, minGainTime.Seconds())
	if latest-ends < gain {
		return nil, 0
	}
	if left-keep < float64(cmp.Or(t.least, minGainBytes)) && latest-ends < longGain.Seconds() {
		return nil, 0
	}
	if cut = victim.held + int64(keep); cut >= s.horizon {
		return nil, 0 // there is no room for what it would bring
	}
	return victim, cut
}

// ends is in how many seconds the part is expected to end.
func (p *part) ends(t terms) float64 {
	left := float64(p.end - p.held)
	if p.pace.rate > 0 {
		return left / p.pace.rate
	}
	// Nothing came yet. It is given a few times the usual wait before it counts as stuck.
	waited := t.now.Sub(p.pace.since)
	if p.pace.since.IsZero() || waited < patience(t.firstByte) {
		return t.firstByte.Seconds() + left/t.rate
	}
	return math.Inf(1)
}

// patience is how long a request may wait for its first byte before it counts as stuck, where others waited firstByte.
func patience(firstByte time.Duration) time.Duration { return 8*firstByte + time.Second }
