// Package parts records the state of each byte of one object: missing, being fetched, claimed by a checkpoint, being
// verified, or done. It knows nothing of requests, files, checkpoint documents or contexts: it does no I/O, and it never
// blocks for longer than its mutex. Its invariant: the parts of a Map tile [0, size) without gap or overlap, and the CRC-64
// of each part is that of its done bytes.
package parts

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/span"
)

type partState uint8

const (
	partMissing partState = iota // to be fetched
	partTaken                    // a worker is fetching it
	partClaimed                  // a checkpoint says that it is on disk
	partProving                  // that claim is being verified
	partDone                     // written, or verified
)

func (s partState) String() string {
	return [...]string{"missing", "taken", "claimed", "proving", "done"}[s]
}

const (
	// mergeUnsynced is the most bytes in a done part that may not be on stable storage yet. If a page is lost with the
	// power, at most this much must be fetched again.
	mergeUnsynced = 8 << 20
	// mergeShare bounds a synced done part to one part in so many of the object. So damage on the disk costs no more than
	// that, and the number of parts is bounded for any size of object.
	mergeShare = 128
)

// Part is a range in one state. Its fields belong to the mutex of its map, with one exception: the range and the CRC-64 of
// a part that nextClaim returned do not change until proved is called.
type Part struct {
	span.Span
	state partState
	pos   int64  // bytes [off, pos) are done; it moves while taken, and is end while claimed, proving or done
	held  int64  // while taken: a write in progress ends here, and no cut falls below
	CRC   uint64 // CRC-64 of [off, pos)

	synced  bool // while done: a sync of the data file has covered it
	syncing bool // while done: the sync in progress covers it

	pace Pace // while taken
}

// Pace is how fast a worker is fetching its part. Other workers judge by it when the part will be done.
type Pace struct {
	Rate    float64   // bytes per second; 0: no byte has come yet
	Since   time.Time // when the request was sent
	Abandon func()    // ends the request once another worker has taken over all its bytes
}

// Map records the state of each byte of an object. All methods are safe for concurrent use; none does I/O.
//
// A byte goes through these states:
//
//  1. It is missing.
//  2. A worker takes the range it lies in, by take or takeOver.
//  3. The worker holds some bytes, writes them and advances: they are done. What it gives back is missing again.
//
// Bytes that an earlier run left are claimed instead. nextClaim gives a claimed range out to be compared with the disk;
// proved makes it done, or missing.
type Map struct {
	mu       sync.Mutex
	parts    []*Part // tile [0, size): sorted, none empty, no gap and no overlap
	size     int64
	horizon  int64         // no byte at or beyond it may be taken yet
	single   bool          // at most one part may be taken at a time, and none is shared
	volatile bool          // nothing outlives the call: done parts can be joined without a sync
	left     int64         // bytes not done
	have     int64         // bytes that need no request: done, claimed or proving, and the done prefix of taken parts
	changed  chan struct{} // closed, and replaced, at the next change that a worker may wait for
}

// New returns a map of size missing bytes.
func New(size int64) *Map {
	s := &Map{horizon: math.MaxInt64, changed: make(chan struct{})}
	s.grow(size)
	return s
}

// Resize appends missing bytes up to size, or removes the bytes beyond it. It is for the first answer, which says how long
// the object really is.
func (s *Map) Resize(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if size >= s.size {
		s.grow(size)
		s.notify()
		return
	}
	keep := s.parts[:0]
	for _, p := range s.parts {
		if p.Off >= size {
			s.left -= p.Len()
			p.retire()
			continue
		}
		if p.End > size {
			s.left -= p.End - size
			p.End = size
		}
		keep = append(keep, p)
	}
	s.parts, s.size = keep, size
	s.notify()
}

// Extend lets a taken part grow into the missing bytes behind it, up to end. It is for a body that holds more than was
// asked for.
func (s *Map) Extend(p *Part, end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.state != partTaken {
		return // another worker took over all of it
	}
	for i := s.index(p) + 1; i < len(s.parts) && p.End < end; {
		next := s.parts[i]
		if next.state != partMissing {
			return
		}
		if next.End > end {
			p.End, next.Off, next.pos, next.held = end, end, end, end
			return
		}
		p.End = next.End
		s.parts = slices.Delete(s.parts, i, i+1)
	}
}

// Claim records that an earlier run says these bytes are on disk, with this CRC-64. The span must lie within one missing
// part.
func (s *Map) Claim(sp span.Span, crc uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.find(sp.Off)
	if !ok || sp.Len() <= 0 || s.parts[i].state != partMissing || sp.End > s.parts[i].End {
		return fmt.Errorf("bytes [%d,%d) cannot be claimed", sp.Off, sp.End)
	}
	p := s.carve(i, sp)
	p.state, p.pos, p.held, p.CRC = partClaimed, p.End, p.End, crc
	s.have += p.Len()
	return nil
}

// Take gives the caller a part with the first missing bytes. It has at most want(unfinished) bytes, where unfinished counts
// the bytes that are missing or taken and not done. take returns nil if nothing is missing below the horizon.
func (s *Map) Take(want func(unfinished int64) int64) *Part {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.firstMissing()
	if i < 0 {
		return nil
	}
	p := s.parts[i]
	n := max(1, min(want(s.size-s.have), p.Len(), s.horizon-p.Off))
	p = s.carve(i, span.Span{Off: p.Off, End: p.Off + n})
	p.state, p.CRC, p.pace = partTaken, 0, Pace{}
	return p
}

// Rest returns the range that the worker still has to fetch of its part.
func (s *Map) Rest(p *Part) span.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	return span.Span{Off: p.pos, End: p.End}
}

// Held is what a worker may write: size bytes at off, which continue crc. A size of 0 means that the part has all its
// bytes or, if room is not nil, that the part has reached the horizon. room is closed at the next change.
type Held struct {
	Off  int64
	Size int
	CRC  uint64
	Room <-chan struct{}
}

// Hold asks for the right to write n bytes at the part's position. It grants those that are still the worker's own, since
// another worker may have taken over a share of the range. No cut falls below them until advance or giveBack. Only a part
// that was extended can reach the horizon.
func (s *Map) Hold(p *Part, n int) Held {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := Held{Off: p.pos, Size: int(min(int64(n), p.End-p.pos, max(0, s.horizon-p.pos))), CRC: p.CRC}
	if h.Size == 0 && p.pos < p.End && n > 0 {
		h.Room = s.changed
	}
	p.held = p.pos + int64(h.Size)
	return h
}

// Advance makes the held bytes done. It must be called after their write has returned, with the CRC-64 of the part up to
// their end. It reports whether the part has all its bytes; then the whole part is done.
func (s *Map) Advance(p *Part, h Held, crc uint64) (whole bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.CRC = crc
	p.pos += int64(h.Size)
	p.held = p.pos
	s.left -= int64(h.Size)
	s.have += int64(h.Size)
	if p.pos == p.End {
		p.state = partDone
		s.merge(s.index(p))
		if s.left == 0 || s.single {
			s.notify()
		}
		return true
	}
	if p.pos-p.Off >= mergeUnsynced {
		// The done prefix becomes a part of its own, so that no claim grows beyond what a lost page may cost.
		head := &Part{Span: span.Span{Off: p.Off, End: p.pos}, state: partDone, pos: p.pos, held: p.pos, CRC: p.CRC}
		i := s.index(p)
		p.Off, p.CRC = p.pos, 0
		s.parts = slices.Insert(s.parts, i, head)
		s.merge(i)
	}
	return false
}

// GiveBack ends a worker's hold of its part: the done bytes stay done, the others are missing again. A part that is done
// already stays as it is.
func (s *Map) GiveBack(p *Part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.state != partTaken {
		return
	}
	i := s.index(p)
	if p.pos == p.Off {
		p.state, p.held = partMissing, p.pos
		s.joinMissing(i)
	} else {
		tail := &Part{Span: span.Span{Off: p.pos, End: p.End}, pos: p.pos, held: p.pos}
		p.End, p.held, p.state = p.pos, p.pos, partDone
		s.parts = slices.Insert(s.parts, i+1, tail)
		s.joinMissing(i + 1)
		s.merge(i)
	}
	s.notify()
}

// SetPace records how fast a taken part is being fetched.
func (s *Map) SetPace(p *Part, v Pace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.state == partTaken {
		p.pace = v
	}
}

// SetRate updates the measured speed of a taken part.
func (s *Map) SetRate(p *Part, rate float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.pace.Rate = rate
}

// Finished reports whether every byte is done.
func (s *Map) Finished() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.left == 0
}

// Wait reports whether take, or takeOver with these terms, has a part to give now. If not, changed is closed when it is
// worth asking again. The last byte is such a change, so a caller that asks isFinished after wait, and not before, cannot
// miss the end.
func (s *Map) Wait(t Terms) (available bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.firstMissing() >= 0 {
		return true, s.changed
	}
	victim, _ := s.victim(t)
	return victim != nil, s.changed
}

// Wake makes waiters ask again: taking over can become worth it merely because time has passed.
func (s *Map) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notify()
}

// SetHorizon sets the offset from which on no byte may be taken yet. Later calls only move it forward.
func (s *Map) SetHorizon(off int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if off > s.horizon || s.horizon == math.MaxInt64 {
		s.horizon = off
		s.notify()
	}
}

// SetVolatile declares that there is no file to sync and no checkpoint to write, so that done parts are joined freely.
func (s *Map) SetVolatile() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.volatile = true
}

// Volatile reports whether setVolatile was called.
func (s *Map) Volatile() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.volatile
}

// SetSingle allows at most one taken part at a time, for a server that does not serve ranges.
func (s *Map) SetSingle(v bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.single != v {
		s.single = v
		s.notify()
	}
}

// NextClaim returns the next claimed part, to be compared with the disk, or nil if there is none. proved must follow.
func (s *Map) NextClaim() *Part {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if p.state == partClaimed {
			p.state = partProving
			return p
		}
	}
	return nil
}

// Proved ends the verification of a part from nextClaim. If the claim holds its bytes are done, else they are missing.
func (s *Map) Proved(p *Part, holds bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.index(p)
	if holds {
		p.state = partDone
		s.left -= p.Len()
		s.merge(i)
		if s.left == 0 {
			s.notify()
		}
		return
	}
	s.have -= p.Len()
	p.state, p.pos, p.held, p.CRC = partMissing, p.Off, p.Off, 0
	s.joinMissing(i)
	s.notify()
}

// Unprove turns every done part into a claim, so that all is compared with the disk again.
func (s *Map) Unprove() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if p.state == partDone {
			p.state, p.synced, p.syncing = partClaimed, false, false
			s.left += p.Len()
		}
	}
}

// Reset makes every byte missing.
func (s *Map) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts, s.left, s.have = nil, 0, 0
	size := s.size
	s.size = 0
	s.grow(size)
	s.notify()
}

// BeginSync marks the parts that a sync starting now will cover, and reports whether there are any.
func (s *Map) BeginSync() (some bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		p.syncing = p.state == partDone && !p.synced
		some = some || p.syncing
	}
	return some
}

// EndSync records that the sync succeeded. It must not be called for a sync that failed.
func (s *Map) EndSync() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if p.syncing {
			p.synced, p.syncing = p.state == partDone, false
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

// Distrust makes every byte missing that no sync has covered, including the claims of an earlier run. It is for the end of
// a run: all workers must have given back their parts.
func (s *Map) Distrust() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		if p.state != partMissing && !p.synced {
			if p.state == partDone {
				s.left += p.Len()
			}
			s.have -= p.Len()
			p.state, p.pos, p.held, p.CRC, p.syncing = partMissing, p.Off, p.Off, 0, false
		}
	}
	for i := len(s.parts) - 1; i > 0; i-- {
		if s.parts[i].state == partMissing {
			s.joinMissing(i)
		}
	}
}

// Totals are sums over all parts, in bytes.
type Totals struct {
	Size int64
	Done int64 // written, or verified
	Have int64 // need no request: done, or claimed
}

// Totals returns the sums as they are now.
func (s *Map) Totals() Totals {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Totals{Size: s.size, Done: s.size - s.left, Have: s.have}
}

// Sum returns the CRC-64 of the whole. It is of use once every byte is done.
func (s *Map) Sum() (crc uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.parts {
		crc = crc64.Combine(crc, p.CRC, p.Len())
	}
	return crc
}

// grow appends missing bytes up to size. The mutex is held.
func (s *Map) grow(size int64) {
	if size <= s.size {
		return
	}
	s.left += size - s.size
	if n := len(s.parts); n > 0 && s.parts[n-1].state == partMissing {
		s.parts[n-1].End = size
	} else {
		s.parts = append(s.parts, &Part{Span: span.Span{Off: s.size, End: size}, pos: s.size, held: s.size})
	}
	s.size = size
}

// find returns the index of the part that has the byte at off.
func (s *Map) find(off int64) (int, bool) {
	return slices.BinarySearchFunc(s.parts, off, func(p *Part, off int64) int {
		switch {
		case p.End <= off:
			return -1
		case p.Off > off:
			return 1
		}
		return 0
	})
}

// index returns the index of a part that is in the map.
func (s *Map) index(p *Part) int {
	i, _ := s.find(p.Off)
	return i
}

// carve splits the missing part at index i so that one part is exactly sp, and returns that part. The mutex is held.
func (s *Map) carve(i int, sp span.Span) *Part {
	p := s.parts[i]
	if p.Off < sp.Off {
		head := &Part{Span: span.Span{Off: p.Off, End: sp.Off}, pos: p.Off, held: p.Off}
		s.parts = slices.Insert(s.parts, i, head)
		i++
	}
	if sp.End < p.End {
		tail := &Part{Span: span.Span{Off: sp.End, End: p.End}, pos: sp.End, held: sp.End}
		s.parts = slices.Insert(s.parts, i+1, tail)
	}
	p.Span = sp
	p.pos, p.held = sp.Off, sp.Off
	return p
}

// firstMissing returns the index of the part that take would take from, or -1. The mutex is held.
func (s *Map) firstMissing() int {
	for i, p := range s.parts {
		switch {
		case s.single && p.state == partTaken:
			return -1
		case p.state == partMissing && p.Off < s.horizon:
			if s.single && slices.ContainsFunc(s.parts[i:], func(p *Part) bool { return p.state == partTaken }) {
				return -1
			}
			return i
		}
	}
	return -1
}

// retire empties a part that was removed while a worker still has it. The worker will find nothing to do.
func (p *Part) retire() {
	p.state, p.End, p.pos, p.held = partDone, p.Off, p.Off, p.Off
}

// merge joins the done part at index i with its neighbours, if the bounds allow. The mutex is held.
func (s *Map) merge(i int) {
	if i+1 < len(s.parts) && s.mergeable(s.parts[i], s.parts[i+1]) {
		s.join(i)
	}
	if i > 0 && s.mergeable(s.parts[i-1], s.parts[i]) {
		s.join(i - 1)
	}
}

// mergeable reports whether two neighbours are done, equally safe on disk, and together within the bound.
func (s *Map) mergeable(a, b *Part) bool {
	if a.state != partDone || b.state != partDone || a.synced != b.synced {
		return false
	}
	bound := int64(mergeUnsynced)
	if a.synced || s.volatile {
		bound = max(bound, s.size/mergeShare)
	}
	return a.Len()+b.Len() <= bound
}

// join makes one part of the done parts at i and i+1. The mutex is held.
func (s *Map) join(i int) {
	a, b := s.parts[i], s.parts[i+1]
	a.CRC = crc64.Combine(a.CRC, b.CRC, b.Len())
	a.End, a.pos, a.held = b.End, b.End, b.End
	a.syncing = a.syncing && b.syncing
	s.parts = slices.Delete(s.parts, i+1, i+2)
}

// joinMissing joins the missing part at index i with missing neighbours. The mutex is held.
func (s *Map) joinMissing(i int) {
	if i+1 < len(s.parts) && s.parts[i+1].state == partMissing {
		s.parts[i].End = s.parts[i+1].End
		s.parts = slices.Delete(s.parts, i+1, i+2)
	}
	if i > 0 && s.parts[i-1].state == partMissing {
		s.parts[i-1].End = s.parts[i].End
		s.parts = slices.Delete(s.parts, i, i+1)
	}
}

// notify wakes those that wait for a change. The mutex is held.
func (s *Map) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}
