package ossdl

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// terms say what a new request costs, and so what taking over a range must save.
type terms struct {
	now       time.Time
	firstByte time.Duration // from a request to its first byte
	rate      float64       // bytes per second that a new request will get; 0: not known
	least     int64         // bytes that are worth a request of their own; 0: minGainBytes
}

const (
	minGainTime  = 100 * time.Millisecond
	minGainBytes = 1 << 20
	longGain     = 2 * time.Second // worth a request for any number of bytes: the call waits for its last ones
)

// patience returns how long a request may wait for its first byte before it counts as stuck, if other requests waited
// firstByte.
func patience(firstByte time.Duration) time.Duration { return 8*firstByte + time.Second }

// takeOver gives the caller a share of the range that would end last, so that the call does not end with one slow
// connection. The range is cut where both requests end together. If little would stay with the other request, all of the
// range changes hands. takeOver returns nil if that would save too little.
func (s *set) takeOver(t terms) *part {
	s.mu.Lock()
	defer s.mu.Unlock()
	victim, cut := s.victim(t)
	if victim == nil {
		return nil
	}
	p := &part{span: span{cut, victim.end}, state: partTaken, pos: cut, held: cut}
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
			victim.state = partDone
			s.merge(i)
		}
	}
	if victim.pos == victim.end && victim.held == victim.pos && abandon != nil {
		abandon()
	}
	return p
}

// victim chooses the part to take over and where to cut it. It returns nil if no part is worth it. The mutex is held.
func (s *set) victim(t terms) (victim *part, cut int64) {
	if s.single || t.rate <= 0 {
		return nil, 0
	}
	victim, latest := s.lastToEnd(t)
	if victim == nil {
		return nil, 0
	}
	left := float64(victim.end - victim.held)
	rate := 0.0 // of the victim; 0 if it is stuck
	if !math.IsInf(latest, 1) {
		rate = left / latest
	}
	start := t.firstByte.Seconds()
	keep := cutPoint(left, rate, t.rate, start)
	ends := start + (left-keep)/t.rate
	if !worthIt(latest-ends, left-keep, t) {
		return nil, 0
	}
	if cut = victim.held + int64(keep); cut >= s.horizon {
		return nil, 0 // there is no room for the bytes behind the cut
	}
	return victim, cut
}

// lastToEnd returns the taken part that is expected to end last, and in how many seconds. It passes over parts of which
// nothing can be taken. The mutex is held.
func (s *set) lastToEnd(t terms) (last *part, latest float64) {
	for _, p := range s.parts {
		if p.state != partTaken || p.held == p.end || p.held >= s.horizon {
			continue
		}
		if ends := p.ends(t); ends > latest {
			last, latest = p, ends
		}
	}
	return last, latest
}

// ends returns in how many seconds the part is expected to end; +Inf if its request is stuck.
func (p *part) ends(t terms) float64 {
	left := float64(p.end - p.held)
	if p.pace.rate > 0 {
		return left / p.pace.rate
	}
	// No byte has come yet. The request is given a few times the usual wait before it counts as stuck.
	waited := t.now.Sub(p.pace.since)
	if p.pace.since.IsZero() || waited < patience(t.firstByte) {
		return t.firstByte.Seconds() + left/t.rate
	}
	return math.Inf(1)
}

// cutPoint returns how many of the left bytes stay with a request that fetches rate bytes per second, if another one
// takes the rest at newRate, start seconds from now. Both end together where
//
//	keep/rate = start + (left-keep)/newRate
//
// A share of less than an eighth is not worth a connection: then nothing stays.
func cutPoint(left, rate, newRate, start float64) (keep float64) {
	keep = (start + left/newRate) * rate * newRate / (rate + newRate)
	if keep < left/8 {
		return 0
	}
	return keep
}

// worthIt reports whether a new request for so many bytes is worth the seconds that it saves.
func worthIt(saved, bytes float64, t terms) bool {
	if saved < max(4*t.firstByte.Seconds(), minGainTime.Seconds()) {
		return false
	}
	return bytes >= float64(cmp.Or(t.least, minGainBytes)) || saved >= longGain.Seconds()
}
