package parts

import (
	"cmp"
	"slices"

	"github.com/ossdl/ossdl/internal/crc64"
)

// Claim is what a checkpoint says of a range: the first done of its size bytes are on disk and have this CRC-64.
type Claim struct {
	Off, Size, Done int64
	CRC             uint64
	Synced          bool // a sync of the data file has covered it
}

// MaxClaims is a limit for snapshot that keeps a checkpoint small, whatever the size of the object and of its parts.
const MaxClaims = 512

// Snapshot returns what may be claimed now, in at most limit claims, sorted by offset. If there is more to say, it joins
// neighbours into coarser claims, and then omits the smallest ones.
func (s *Map) Snapshot(limit int) []Claim {
	claims := s.claims()
	// Claims that may be lost with the power are joined last: one lost page costs all of the claim it lies in.
	claims = coarsen(claims, limit, bothSynced)
	claims = coarsen(claims, limit, anyTwo)
	return largest(claims, limit)
}

// claims returns one claim for each part of which bytes are done, or said to be done.
func (s *Map) claims() []Claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	var claims []Claim
	for _, p := range s.parts {
		if n := p.pos - p.Off; n > 0 {
			claims = append(claims, Claim{p.Off, p.Len(), n, p.CRC, p.synced})
		}
	}
	return claims
}

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
