package parts

import (
	"cmp"
	"slices"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/span"
)

// Claim is what a checkpoint says about a range: its first Done bytes of Size are on disk and have this CRC-64.
type Claim struct {
	Off, Size, Done int64
	CRC             uint64
	Synced          bool // a sync of the data file has covered it
}

// MaxClaims is a limit for [Map.Snapshot] that keeps a checkpoint small for any size of the object and of its parts.
const MaxClaims = 512

// Snapshot returns what may be claimed now, in at most limit claims, sorted by offset. If there are more, it joins neighbours
// into coarser claims, and then omits the smallest ones.
func (m *Map) Snapshot(limit int) []Claim { return atMost(limit, m.claims(false)) }

// SafeSnapshot is Snapshot, but has the claims of ClaimWithin instead of one that they lie in, until that is proved.
func (m *Map) SafeSnapshot(limit int) []Claim { return atMost(limit, m.claims(true)) }

// atMost returns at most limit claims that stand for these.
func atMost(limit int, claims []Claim) []Claim {
	// Claims that no sync has covered are joined last: one page lost with the power costs the whole claim that it lies in.
	claims = coarsen(claims, limit, bothSynced)
	claims = coarsen(claims, limit, anyTwo)
	return largest(claims, limit)
}

// claims returns one claim for each part that has bytes that are done or claimed, or, if safe, those of ClaimWithin for a part that has
// such and is not proved.
func (m *Map) claims(safe bool) []Claim {
	m.mu.Lock()
	defer m.mu.Unlock()
	var claims []Claim
	for _, p := range m.parts {
		var within []Claim
		if safe && (p.state == partClaimed || p.state == partProving) {
			within = m.olderIn(p.Span)
		}
		switch {
		case within != nil:
			claims = append(claims, within...)
		case p.pos > p.Off:
			claims = append(claims, p.claim())
		}
	}
	return claims
}

// olderIn returns what ClaimWithin recorded within sp. The mutex is held.
func (m *Map) olderIn(sp span.Span) (within []Claim) {
	for _, c := range m.older {
		if c.isIn(sp) {
			within = append(within, c)
		}
	}
	return within
}

// isIn reports whether all bytes of the claim lie within sp.
func (c Claim) isIn(sp span.Span) bool { return sp.Off <= c.Off && c.Off+c.Done <= sp.End }

func (p *Part) claim() Claim { return Claim{p.Off, p.Len(), p.pos - p.Off, p.crc, p.synced} }

func bothSynced(a, b Claim) bool { return a.Synced && b.Synced }

func anyTwo(_, _ Claim) bool { return true }

// coarsen joins neighbours that may be joined, with a bound on their length that doubles until at most limit claims are
// left or the bound has no effect any more.
func coarsen(claims []Claim, limit int, joinable func(a, b Claim) bool) []Claim {
	for bound := int64(2 * mergeUnsynced); len(claims) > limit && bound > 0; bound *= 2 {
		claims = joinNeighbours(claims, bound, joinable)
	}
	return claims
}

// joinNeighbours joins claims that touch, up to a length of bound, in one pass. It works in place.
func joinNeighbours(claims []Claim, bound int64, joinable func(a, b Claim) bool) []Claim {
	out := claims[:1]
	for _, c := range claims[1:] {
		last := &out[len(out)-1]
		touch := last.Done == last.Size && last.Off+last.Size == c.Off
		if !touch || last.Size+c.Done > bound || !joinable(*last, c) {
			out = append(out, c)
			continue
		}
		last.CRC = crc64.Combine(last.CRC, c.CRC, c.Done)
		last.Done += c.Done
		last.Size += c.Size
		last.Synced = last.Synced && c.Synced
	}
	return out
}

// largest keeps the limit largest claims: the smallest are the cheapest to fetch again.
func largest(claims []Claim, limit int) []Claim {
	if len(claims) <= limit {
		return claims
	}
	slices.SortFunc(claims, func(a, b Claim) int { return cmp.Compare(b.Done, a.Done) })
	claims = claims[:limit]
	slices.SortFunc(claims, func(a, b Claim) int { return cmp.Compare(a.Off, b.Off) })
	return claims
}
