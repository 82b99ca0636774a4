package ossdl

import (
	"cmp"
	"slices"

	"github.com/ossdl/ossdl/internal/crc64"
)

// claim is what a checkpoint says of a range: the first done of its size bytes are on disk and have this CRC-64.
type claim struct {
	off, size, done int64
	crc             uint64
	synced          bool // a sync of the data file has covered it
}

// maxClaims is a limit for snapshot that keeps a checkpoint small, whatever the size of the object and of its parts.
const maxClaims = 512

// snapshot returns what may be claimed now, in at most limit claims, sorted by offset. If there is more to say, it joins
// neighbours into coarser claims, and then omits the smallest ones.
func (s *set) snapshot(limit int) []claim {
	claims := s.claims()
	// Claims that may be lost with the power are joined last: one lost page costs all of the claim it lies in.
	claims = coarsen(claims, limit, bothSynced)
	claims = coarsen(claims, limit, anyTwo)
	return largest(claims, limit)
}

// claims returns one claim for each part of which bytes are done, or said to be done.
func (s *set) claims() []claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	var claims []claim
	for _, p := range s.parts {
		if n := p.pos - p.off; n > 0 {
			claims = append(claims, claim{p.off, p.len(), n, p.crc, p.synced})
		}
	}
	return claims
}

func bothSynced(a, b claim) bool { return a.synced && b.synced }

func anyTwo(_, _ claim) bool { return true }

// coarsen joins neighbours that may be joined, with a bound on their length that doubles until at most limit claims are
// left or the bound has no effect any more.
func coarsen(claims []claim, limit int, joinable func(a, b claim) bool) []claim {
	for bound := int64(2 * mergeUnsynced); len(claims) > limit && bound > 0; bound *= 2 {
		claims = joinNeighbours(claims, bound, joinable)
	}
	return claims
}

// joinNeighbours joins claims that touch, up to a length of bound, in one pass. It works in place.
func joinNeighbours(claims []claim, bound int64, joinable func(a, b claim) bool) []claim {
	out := claims[:1]
	for _, c := range claims[1:] {
		last := &out[len(out)-1]
		touch := last.done == last.size && last.off+last.size == c.off
		if !touch || last.size+c.done > bound || !joinable(*last, c) {
			out = append(out, c)
			continue
		}
		last.crc = crc64.Combine(last.crc, c.crc, c.done)
		last.done += c.done
		last.size += c.size
		last.synced = last.synced && c.synced
	}
	return out
}

// largest keeps the limit largest claims: the smallest are the cheapest to fetch again.
func largest(claims []claim, limit int) []claim {
	if len(claims) <= limit {
		return claims
	}
	slices.SortFunc(claims, func(a, b claim) int { return cmp.Compare(b.done, a.done) })
	claims = claims[:limit]
	slices.SortFunc(claims, func(a, b claim) int { return cmp.Compare(a.off, b.off) })
	return claims
}
