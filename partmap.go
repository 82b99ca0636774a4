package ossdl

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/ossdl/ossdl/internal/crc64"
)

// span is a half-open range of bytes, [off, end).
type span struct{ off, end int64 }

func (s span) len() int64 { return s.end - s.off }

// header formats the span as the value of a Range header: the one place where an end is inclusive.
func (s span) header() string { return fmt.Sprintf("bytes=%d-%d", s.off, s.end-1) }

type partState uint8

const (
	missing partState = iota // to be fetched
	taken                    // a worker fetches it
	claimed                  // the checkpoint says it is on disk
	proving                  // that claim is being checked
	done                     // written, or proved
)

func (s partState) String() string {
	return [...]string{"missing", "taken", "claimed", "proving", "done"}[s]
}

const (
	// mergeUnsynced bounds a done part whose bytes may not be on stable storage yet: after a power cut one lost page
	// costs at most this much to fetch again.
	mergeUnsynced = 8 << 20
	// mergeShare bounds a synced done part to this fraction of the object, so that a damaged disk costs a fraction
	// too, while the number of parts stays bounded whatever the size.
	mergeShare = 128
)

// part is a range of the set in one state. Its fields belong to the set's mutex.
type part struct {
	span
	state partState
	pos   int64  // bytes [off, pos) are done; it moves while taken, and is end while claimed, proving and done
	held  int64  // while taken: a write under way reaches up to here, and no cut falls below
	crc   uint64 // CRC-64 of [off, pos)

	synced  bool // while done: a sync of the data file has covered it
	syncing bool // while done: the sync under way covers it

	pace pace // while taken: how fast it is getting on
}

// pace is what a worker tells the set of a part it fetches, so that others can judge when it will be ready.
type pace struct {
	rate    float64   // bytes per second; 0: nothing came yet
	since   time.Time // when the request was sent
	abandon func()    // ends the request, for one whose bytes another has taken over
}

// set knows for each byte of the object which state it is in. Its parts tile [0, size): sorted, none empty, no gap and
// no overlap. All methods are safe for concurrent use; none does I/O.
type set struct {
	mu       sync.Mutex
	parts    []*part
	size     int64
	horizon  int64 // no byte at or beyond it is taken yet
	single   bool  // at most one part may be taken at a time, and none is shared
	volatile bool  // nothing of it outlives the call: done parts need no sync to be joined
	left     int64 // bytes not done
	have     int64 // bytes that need no request: done, claimed or proving, and the done prefix of taken parts
	changed  chan struct{}
}

func newSet(size int64) *set {
	s := &set{horizon: math.MaxInt64, changed: make(chan struct{})}
	s.grow(size)
	return s
}

// resize appends missing bytes up to size, or cuts those beyond it away: the first answer tells how long the object
// really is.
func (s *set) resize(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if size >= s.size {
		s.grow(size)
		s.notify()
		return
	}
	keep := s.parts[:0]
	for _, p := range s.parts {
		if p.off >= size {
			s.left -= p.len()
			p.retire()
			continue
		}
		if p.end > size {
			s.left -= p.end - size
			p.end = size
		}
		keep = append(keep, p)
	}
	s.parts, s.size = keep, size
	s.notify()
}

func (s *set) grow(size int64) {
	if size <= s.size {
		return
	}
	s.left += size - s.size
	if n := len(s.parts); n > 0 && s.parts[n-1].state == missing {
		s.parts[n-1].end = size
	} else {
		s.parts = append(s.parts, &part{span: span{s.size, size}, pos: s.size, held: s.size})
	}
	s.size = size
}

// extend lets a taken part run on through the missing bytes behind it, up to end: the body holds more than was asked.
func (s *set) extend(p *part, end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.state != taken {
		return // all of it was taken over
	}
	for i := s.index(p) + 1; i < len(s.parts) && p.end < end; {
		next := s.parts[i]
		if next.state != missing {
			return
		}
		if next.end > end {
			p.end, next.off, next.pos, next.held = end, end, end, end
			return
		}
		p.end = next.end
		s.parts = slices.Delete(s.parts, i, i+1)
	}
}

// claim marks missing bytes as done by an earlier run, by its word. The span must lie within one missing part.
func (s *set) claim(sp span, crc uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.find(sp.off)
	if !ok || sp.len() <= 0 || s.parts[i].state != missing || sp.end > s.parts[i].end {
		return fmt.Errorf("bytes [%d,%d) cannot be claimed", sp.off, sp.end)
	}
	p := s.carve(i, sp)
	p.state, p.pos, p.held, p.crc = claimed, p.end, p.end, crc
	s.have += p.len()
	return nil
}

// carve splits the missing part at index i so that one part is exactly sp, and returns that part.
func (s *set) carve(i int, sp span) *part {
	p := s.parts[i]
	if p.off < sp.off {
		head := &part{span: span{p.off, sp.off}, pos: p.off, held: p.off}
		s.parts = slices.Insert(s.parts, i, head)
		i++
	}
	if sp.end < p.end {
		tail := &part{span: span{sp.end, p.end}, pos: sp.end, held: sp.end}
		s.parts = slices.Insert(s.parts, i+1, tail)
	}
	p.span = sp
	p.pos, p.held = sp.off, sp.off
	return p
}

// take gives the caller the first missing bytes, at most want(bytes that are missing or taken) of them, or nil where
// nothing is missing below the horizon.
func (s *set) take(want func(unfinished int64) int64) *part {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.firstMissing()
	if i < 0 {
		return nil
	}
	p := s.parts[i]
	n := max(1, min(want(s.size-s.have), p.len(), s.horizon-p.off))
	p = s.carve(i, span{p.off, p.off + n})
	p.state, p.crc, p.pace = taken, 0, pace{}
	return p
}

func (s *set) firstMissing() int {
	for i, p := range s.parts {
		switch {
		case s.single && p.state == taken:
			return -1
		case p.state == missing && p.off < s.horizon:
			if s.single && slices.ContainsFunc(s.parts[i:], func(p *part) bool { return p.state == taken }) {
				return -1
			}
			return i
		}
	}
	return -1
}

// rest is what the worker still has to fetch of its part.
func (s *set) rest(p *part) span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return span{p.pos, p.end}
}

// held is what a worker may write: size bytes at off, which continue crc. A size of 0 means that the part has all it
// needs, or, where room is not nil, that it has come to the horizon: room is closed at the next change.
type held struct {
	off  int64
	size int
	crc  uint64
	room <-chan struct{}
}

// hold asks for the right to write n bytes at the part's position, and returns how many of them are still the worker's
// own, since a share of its range may have been taken over: no cut falls below them until advance or giveBack. Only a
// part that was extended can come to the horizon.
func (s *set) hold(p *part, n int) held {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := held{off: p.pos, size: int(min(int64(n), p.end-p.pos, max(0, s.horizon-p.pos))), crc: p.crc}
	if h.size == 0 && p.pos < p.end && n > 0 {
		h.room = s.changed
	}
	p.held = p.pos + int64(h.size)
	return h
}

// advance publishes what was held as done, after its write has returned, with the CRC-64 it has brought the part to. It
// reports whether the part, which becomes done with its last byte, has all it needs.
func (s *set) advance(p *part, h held, crc uint64) (whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.crc = crc
	p.pos += int64(h.size)
	p.held = p.pos
	s.left -= int64(h.size)
	s.have += int64(h.size)
	if p.pos == p.end {
		p.state = done
		s.merge(s.index(p))
		if s.left == 0 || s.single {
			s.notify()
		}
		return true
	}
	if p.pos-p.off >= mergeUnsynced {
		// The finished prefix becomes a part of its own, so that no claim grows beyond what a lost page may cost.
		head := &part{span: span{p.off, p.pos}, state: done, pos: p.pos, held: p.pos, crc: p.crc}
		i := s.index(p)
		p.off, p.crc = p.pos, 0
		s.parts = slices.Insert(s.parts, i, head)
		s.merge(i)
	}
	return false
}

// giveBack returns a taken part: what is done of it stays done, the rest is missing again. A part that is done
// already stays as it is.
func (s *set) giveBack(p *part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.state != taken {
		return
	}
	i := s.index(p)
	if p.pos == p.off {
		p.state, p.held = missing, p.pos
		s.joinMissing(i)
	} else {
		tail := &part{span: span{p.pos, p.end}, pos: p.pos, held: p.pos}
		p.end, p.held, p.state = p.pos, p.pos, done
		s.parts = slices.Insert(s.parts, i+1, tail)
		s.joinMissing(i + 1)
		s.merge(i)
	}
	s.notify()
}

// find returns the index of the part that holds the byte at off.
func (s *set) find(off int64) (int, bool) {
	return slices.BinarySearchFunc(s.parts, off, func(p *part, off int64) int {
		switch {
		case p.end <= off:
			return -1
		case p.off > off:
			return 1
		}
		return 0
	})
}

// index finds a part of the set.
func (s *set) index(p *part) int {
	i, _ := s.find(p.off)
	return i
}

// retire empties a part that has left the set while a worker still knows it: it will find nothing to do.
func (p *part) retire() {
	p.state, p.end, p.pos, p.held = done, p.off, p.off, p.off
}

// merge joins the done part at index i with its neighbours where the bounds allow.
func (s *set) merge(i int) {
	if i+1 < len(s.parts) && s.mergeable(s.parts[i], s.parts[i+1]) {
		s.join(i)
	}
	if i > 0 && s.mergeable(s.parts[i-1], s.parts[i]) {
		s.join(i - 1)
	}
}

func (s *set) mergeable(a, b *part) bool {
	if a.state != done || b.state != done || a.synced != b.synced {
		return false
	}
	bound := int64(mergeUnsynced)
	if a.synced || s.volatile {
		bound = max(bound, s.size/mergeShare)
	}
	return a.len()+b.len() <= bound
}

// join makes one part of the done parts at i and i+1.
func (s *set) join(i int) {
	a, b := s.parts[i], s.parts[i+1]
	a.crc = crc64.Combine(a.crc, b.crc, b.len())
	a.end, a.pos, a.held = b.end, b.end, b.end
	a.syncing = a.syncing && b.syncing
	s.parts = slices.Delete(s.parts, i+1, i+2)
}

// joinMissing joins the missing part at index i with missing neighbours.
func (s *set) joinMissing(i int) {
	if i+1 < len(s.parts) && s.parts[i+1].state == missing {
		s.parts[i].end = s.parts[i+1].end
		s.parts = slices.Delete(s.parts, i+1, i+2)
	}
	if i > 0 && s.parts[i-1].state == missing {
		s.parts[i-1].end = s.parts[i].end
		s.parts = slices.Delete(s.parts, i, i+1)
	}
}

// setPace records how a taken part gets on.
func (s *set) setPace(p *part, v pace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.state == taken {
		p.pace = v
	}
}

// setRate updates the measured speed of a taken part.
func (s *set) setRate(p *part, rate float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.pace.rate = rate
}

// work reports whether a call of take, or of takeOver with these terms, would give something now; finished, whether
// nothing is left to do at all; and a channel that is closed at the next change.
func (s *set) work(t terms) (some, finished bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left == 0 {
		return false, true, s.changed
	}
	some = s.firstMissing() >= 0
	if !some {
		victim, _ := s.victim(t)
		some = victim != nil
	}
	return some, false, s.changed
}

// notify wakes whoever waits for a change. The mutex is held.
func (s *set) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// wake makes waiters look again: time alone can make taking over worth while.
func (s *set) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notify()
}

// setHorizon moves the bound of what may be taken.
func (s *set) setHorizon(off int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if off > s.horizon || s.horizon == math.MaxInt64 {
		s.horizon = off
		s.notify()
	}
}

// setVolatile says that there is no disk to sync and no checkpoint to write: done parts are joined freely.
func (s *set) setVolatile() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.volatile = true
}

// setSingle keeps all but one worker away, for a server that does not know ranges.
func (s *set) setSingle(v bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.single != v {
		s.single = v
		s.notify()
	}
}

// nextClaim moves the next claimed part to proving and returns it, or nil.
func (s *set) nextClaim() *part {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if p.state == claimed {
			p.state = proving
			return p
		}
	}
	return nil
}

// proved ends a proof. A claim that holds is done; one that does not is missing.
func (s *set) proved(p *part, holds bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.index(p)
	if holds {
		p.state = done
		s.left -= p.len()
		s.merge(i)
		if s.left == 0 {
			s.notify()
		}
		return
	}
	s.have -= p.len()
	p.state, p.pos, p.held, p.crc = missing, p.off, p.off, 0
	s.joinMissing(i)
	s.notify()
}

// unprove makes a claim of every done part: they are to be compared with the disk.
func (s *set) unprove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if p.state == done {
			p.state, p.synced, p.syncing = claimed, false, false
			s.left += p.len()
		}
	}
}

// reset makes every byte missing.
func (s *set) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts, s.left, s.have = nil, 0, 0
	size := s.size
	s.size = 0
	s.grow(size)
	s.notify()
}

// beginSync marks what a sync that starts now will cover, and reports whether there is anything.
func (s *set) beginSync() (some bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		p.syncing = p.state == done && !p.synced
		some = some || p.syncing
	}
	return some
}

// endSync records that the sync has succeeded.
func (s *set) endSync() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if p.syncing {
			p.synced, p.syncing = p.state == done, false
		}
	}
	for i := 0; i+1 < len(s.parts); {
		if s.mergeable(s.parts[i], s.parts[i+1]) {
			s.join(i)
		} else {
			i++
		}
	}
}

// distrust gives up every byte that no sync has covered, those that an earlier run left among them. It is for the end of a
// run: workers must have given back.
func (s *set) distrust() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if p.state != missing && !p.synced {
			if p.state == done {
				s.left += p.len()
			}
			s.have -= p.len()
			p.state, p.pos, p.held, p.crc, p.syncing = missing, p.off, p.off, 0, false
		}
	}
	for i := len(s.parts) - 1; i > 0; i-- {
		if s.parts[i].state == missing {
			s.joinMissing(i)
		}
	}
}

// claim is what the checkpoint says of a range: the first done of its size bytes are on disk and have this CRC-64.
type claim struct {
	off, size, done int64
	crc             uint64
	synced          bool // a sync has covered it
}

// maxClaims bounds a checkpoint, whatever the size of the object and of its parts.
const maxClaims = 512

// snapshot is what may be claimed now, at most limit entries of it.
func (s *set) snapshot(limit int) []claim {
	s.mu.Lock()
	var claims []claim
	for _, p := range s.parts {
		if n := p.pos - p.off; n > 0 {
			claims = append(claims, claim{p.off, p.len(), n, p.crc, p.synced})
		}
	}
	s.mu.Unlock()
	// What may be lost with the power is joined last: one lost page would cost all of it.
	for _, unsynced := range []bool{false, true} {
		for bound := int64(2 * mergeUnsynced); len(claims) > limit && bound > 0; bound *= 2 {
			claims = coarser(claims, bound, unsynced)
		}
	}
	if len(claims) > limit {
		// More islands than entries: the smallest ones are the cheapest to fetch again.
		slices.SortFunc(claims, func(a, b claim) int { return cmp.Compare(b.done, a.done) })
		claims = claims[:limit]
		slices.SortFunc(claims, func(a, b claim) int { return cmp.Compare(a.off, b.off) })
	}
	return claims
}

// coarser joins neighbours that are done up to a bound, and where unsynced is false only those that are synced.
func coarser(claims []claim, bound int64, unsynced bool) []claim {
	out := claims[:1]
	for _, c := range claims[1:] {
		last := &out[len(out)-1]
		if last.done == last.size && last.off+last.size == c.off && last.size+c.done <= bound && (unsynced || last.synced && c.synced) {
			last.crc = crc64.Combine(last.crc, c.crc, c.done)
			last.done += c.done
			last.size += c.size
			last.synced = last.synced && c.synced
			continue
		}
		out = append(out, c)
	}
	return out
}

// totals are the set's sums.
type totals struct{ size, done, have int64 }

func (s *set) totals() totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	return totals{size: s.size, done: s.size - s.left, have: s.have}
}

// sum is the CRC-64 of the whole, once all is done.
func (s *set) sum() (crc uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		crc = crc64.Combine(crc, p.crc, p.len())
	}
	return crc
}
