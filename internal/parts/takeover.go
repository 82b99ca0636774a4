package parts

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/ossdl/ossdl/internal/span"
)

// Terms say what a new request costs, and so how much taking over a range must save.
type Terms struct {
	Now       time.Time
	FirstByte time.Duration // from a request to its first byte
	Rate      float64       // bytes per second that a new request will get; 0: not known
	Least     int64         // bytes that are worth a request of their own; 0: MinGain
}

// MinGain is how many bytes are worth a request of their own, unless [Terms] say otherwise.
const MinGain = 1 << 20

const (
	minGainTime = 100 * time.Millisecond // saving less is not worth a request
	longGain    = 2 * time.Second        // worth a request for any number of bytes: the call waits for its last ones
	maxTurns    = 10                     // of changes of hands that count
)

// Patience returns how long a request may wait for its first byte before it counts as stuck, if other requests waited
// firstByte.
func Patience(firstByte time.Duration) time.Duration { return 8*firstByte + time.Second }

// TakeOver gives the caller a share of the part that would end last, so that the call does not end with one slow connection.
// The part is cut so that both requests end together. If little would stay with the other request, all of the rest changes
// hands. TakeOver returns nil if that would save too little.
//
// Whatever holds back the last bytes, and not the connection, holds them back again. So each time that all of the rest changes
// hands, it must be worth twice as much the next time, and a request may wait twice as long for its first byte.
func (m *Map) TakeOver(t Terms) *Part {
	m.mu.Lock()
	defer m.mu.Unlock()
	victim, cut := m.victim(t)
	if victim == nil {
		return nil
	}
	p := &Part{Span: span.Span{Off: cut, End: victim.End}, state: partTaken, pos: cut, held: cut}
	if cut == victim.held {
		p.turns = min(victim.turns+1, maxTurns)
	}
	i := m.index(victim)
	abandon := victim.pace.Abandon
	if cut == victim.Off {
		// Nothing of it was done: the whole part changes hands.
		m.parts[i] = p
		victim.retire()
	} else {
		victim.End = cut
		m.parts = slices.Insert(m.parts, i+1, p)
		if victim.pos == victim.End {
			victim.state = partDone
			m.merge(i)
		}
	}
	if victim.pos == victim.End && victim.held == victim.pos && abandon != nil {
		abandon()
	}
	return p
}

// victim chooses the part to take over and where to cut it. It returns nil if no part is worth it. The mutex is held.
func (m *Map) victim(t Terms) (victim *Part, cut int64) {
	if m.single || t.Rate <= 0 {
		return nil, 0
	}
	victim, latest := m.lastToEnd(t)
	if victim == nil {
		return nil, 0
	}
	left := float64(victim.End - victim.held)
	rate := 0.0 // of the victim; 0 if it is stuck
	if !math.IsInf(latest, 1) {
		rate = left / latest
	}
	start := t.FirstByte.Seconds()
	keep := cutPoint(left, rate, t.Rate, start)
	ends := start + (left-keep)/t.Rate
	if !worthIt(math.Ldexp(latest-ends, -victim.turns), left-keep, t) {
		return nil, 0
	}
	if cut = victim.held + int64(keep); cut >= m.horizon {
		return nil, 0 // there is no room for the bytes behind the cut
	}
	return victim, cut
}

// lastToEnd returns the taken part that is expected to end last, and in how many seconds. It skips parts of which nothing can
// be taken over. The mutex is held.
func (m *Map) lastToEnd(t Terms) (last *Part, latest float64) {
	for _, p := range m.parts {
		if p.state != partTaken || p.held == p.End || p.held >= m.horizon {
			continue
		}
		if ends := p.ends(t); ends > latest {
			last, latest = p, ends
		}
	}
	return last, latest
}

// ends returns in how many seconds the part is expected to end; +Inf if its request is stuck.
func (p *Part) ends(t Terms) float64 {
	left := float64(p.End - p.held)
	if p.pace.Rate > 0 {
		return left / p.pace.Rate
	}
	// No byte has come yet. The request may take several times the usual wait before it counts as stuck.
	waited := t.Now.Sub(p.pace.Since)
	if p.pace.Since.IsZero() || waited < Patience(t.FirstByte)<<p.turns {
		return t.FirstByte.Seconds() + left/t.Rate
	}
	return math.Inf(1)
}

// cutPoint returns how many of the left bytes stay with a request that fetches rate bytes per second, if another request
// fetches the others at newRate, from start seconds from now on. Both end together if
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

// worthIt reports whether the seconds saved are worth a new request for so many bytes.
func worthIt(saved, bytes float64, t Terms) bool {
	if saved < max(4*t.FirstByte.Seconds(), minGainTime.Seconds()) {
		return false
	}
	return bytes >= float64(cmp.Or(t.Least, MinGain)) || saved >= longGain.Seconds()
}
