// Package parts records the state of each byte of one object: missing, being fetched, claimed by a checkpoint, being
// verified, or done. It must not know requests, files, checkpoint documents or contexts: it does no I/O, and it never
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
	// mergeUnsynced is the most bytes in a done part that may not be on stable storage yet. If a power failure loses a page,
	// at most this much must be fetched again.
	mergeUnsynced = 8 << 20
	// mergeShare bounds a synced done part: it is at most the object's size divided by mergeShare. So damage on the disk
	// costs no more than that, and the number of parts is bounded for any size of object.
	mergeShare = 128
)

// Part is a range in one state. Its fields belong to the mutex of its map.
type Part struct {
	span.Span
	state partState
	pos   int64  // bytes [off, pos) are done; it moves while taken, and is end while claimed, proving or done
	held  int64  // while taken: a write in progress ends here, and no cut falls below
	crc   uint64 // CRC-64 of [off, pos)

	synced  bool // while done: a sync of the data file has covered it
	syncing bool // while done: the sync in progress covers it

	pace  Pace // while taken
	turns int  // while taken: how often in a row all that was left changed hands
}

// Pace is how fast a worker is fetching its part. Other workers estimate from it when the part will be done.
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
//  2. A worker takes the range that it lies in, with Take or TakeOver.
//  3. The worker holds it (Hold), writes it, and makes it done (Advance). Or it gives the range back (GiveBack): then the
//     bytes that are not done are missing again. Trim does so with a share of them.
//
// Bytes that an earlier run left are claimed instead (Claim). NextClaim returns a claimed range to be compared with the disk,
// and Proved makes it done or missing.
type Map struct {
	mu       sync.Mutex
	parts    []*Part // tile [0, size): sorted, none empty, no gap and no overlap
	size     int64
	horizon  int64         // no byte at or beyond it may be taken yet
	single   bool          // at most one part may be taken at a time, and none is shared
	volatile bool          // nothing outlives the call: done parts can be joined without a sync
	left     int64         // bytes not done
	have     int64         // bytes that need no request: done, claimed or proving, and the done prefix of taken parts
	older    []Claim       // of ClaimWithin, not used yet
	changed  chan struct{} // closed, and replaced, at the next change that a worker may wait for
}

// New returns a map of size missing bytes.
func New(size int64) *Map {
	m := &Map{horizon: math.MaxInt64, changed: make(chan struct{})}
	m.grow(size)
	return m
}

// Resize appends missing bytes up to size, or removes the bytes beyond it. It is for the answer that reports the size of the
// object: the first one or, if none does, the end of a body.
func (m *Map) Resize(size int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if size >= m.size {
		m.grow(size)
		m.notify()
		return
	}
	keep := m.parts[:0]
	for _, p := range m.parts {
		if p.Off >= size {
			m.left -= p.Len()
			p.retire()
			continue
		}
		if p.End > size {
			m.left -= p.End - size
			p.End = size
		}
		if p.state == partTaken && p.pos == p.End { // all that the object has of it is done
			p.state = partDone
		}
		keep = append(keep, p)
	}
	m.parts, m.size = keep, size
	m.notify()
}

// Extend lets a taken part grow into the missing bytes behind it, up to end. It is for a body that holds more than was
// asked for.
func (m *Map) Extend(p *Part, end int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.state != partTaken {
		return // another worker took over all of it
	}
	for i := m.index(p) + 1; i < len(m.parts) && p.End < end; {
		next := m.parts[i]
		if next.state != partMissing {
			return
		}
		if next.End > end {
			p.End, next.Off, next.pos, next.held = end, end, end, end
			return
		}
		p.End = next.End
		m.parts = slices.Delete(m.parts, i, i+1)
	}
}

// Claim records that an earlier run says these bytes are on disk, with this CRC-64. The span must lie within one missing
// part.
func (m *Map) Claim(sp span.Span, crc uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.claim(sp, crc)
}

// ClaimWithin records that an older checkpoint claims these bytes, which lie within a claim. They are claimed if that one does not
// hold.
func (m *Map) ClaimWithin(sp span.Span, crc uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.older = append(m.older, Claim{Off: sp.Off, Size: sp.Len(), Done: sp.Len(), CRC: crc})
}

// Undecided reports whether a claim is not proved yet that others of ClaimWithin lie in.
func (m *Map) Undecided() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.older) > 0
}

// claim is Claim. The mutex is held.
func (m *Map) claim(sp span.Span, crc uint64) error {
	i, ok := m.find(sp.Off)
	if !ok || sp.Len() <= 0 || m.parts[i].state != partMissing || sp.End > m.parts[i].End {
		return fmt.Errorf("bytes [%d,%d) cannot be claimed", sp.Off, sp.End)
	}
	p := m.carve(i, sp)
	p.state, p.pos, p.held, p.crc = partClaimed, p.End, p.End, crc
	m.have += p.Len()
	return nil
}

// Take gives the caller a part with the first missing bytes. It has at most want(unfinished) bytes, where unfinished counts
// the bytes that are missing, or taken and not done. Take returns nil if nothing is missing below the horizon.
func (m *Map) Take(want func(unfinished int64) int64) *Part {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.firstMissing()
	if i < 0 {
		return nil
	}
	p := m.parts[i]
	n := max(1, min(want(m.size-m.have), p.Len(), m.horizon-p.Off))
	p = m.carve(i, span.Span{Off: p.Off, End: p.Off + n})
	p.state, p.crc, p.pace, p.turns = partTaken, 0, Pace{}, 0
	return p
}

// Rest returns the range that the worker still has to fetch of its part.
func (m *Map) Rest(p *Part) span.Span {
	m.mu.Lock()
	defer m.mu.Unlock()
	return span.Span{Off: p.pos, End: p.End}
}

// Held is what a worker may write: Size bytes at Off. CRC is the CRC-64 of the part up to there. A Size of 0 means that the
// part has all its bytes or, if Room is not nil, that it has reached the horizon. Room is closed at the next change.
type Held struct {
	Off  int64
	Size int
	CRC  uint64
	Room <-chan struct{}
}

// Hold asks for the right to write n bytes at the part's position. It grants those that are still the worker's own: another
// worker may have taken over a share of the range. No cut falls below them until Advance or GiveBack. Only a part that was
// extended can reach the horizon.
func (m *Map) Hold(p *Part, n int) Held {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := Held{Off: p.pos, Size: int(min(int64(n), p.End-p.pos, max(0, m.horizon-p.pos))), CRC: p.crc}
	if h.Size == 0 && p.pos < p.End && n > 0 {
		h.Room = m.changed
	}
	p.held = p.pos + int64(h.Size)
	return h
}

// Advance makes the held bytes done. It must be called after their write has returned, with the CRC-64 of the part up to
// their end. It reports whether the part has all its bytes; then the whole part is done.
func (m *Map) Advance(p *Part, h Held, crc uint64) (whole bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p.crc = crc
	p.pos += int64(h.Size)
	p.held = p.pos
	m.left -= int64(h.Size)
	m.have += int64(h.Size)
	if p.pos == p.End {
		p.state = partDone
		m.merge(m.index(p))
		if m.left == 0 || m.single {
			m.notify()
		}
		return true
	}
	if p.pos-p.Off >= mergeUnsynced {
		// The done prefix becomes a part of its own, so that no claim grows beyond what a lost page may cost.
		head := &Part{Span: span.Span{Off: p.Off, End: p.pos}, state: partDone, pos: p.pos, held: p.pos, crc: p.crc}
		i := m.index(p)
		p.Off, p.crc = p.pos, 0
		m.parts = slices.Insert(m.parts, i, head)
		m.merge(i)
	}
	return false
}

// GiveBack ends a worker's possession of its part: done bytes stay done, the others are missing again. A part that is all
// done stays as it is.
func (m *Map) GiveBack(p *Part) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.state != partTaken {
		return
	}
	i := m.index(p)
	if p.pos == p.Off {
		p.state, p.held = partMissing, p.pos
		m.joinMissing(i)
	} else {
		tail := &Part{Span: span.Span{Off: p.pos, End: p.End}, pos: p.pos, held: p.pos}
		p.End, p.held, p.state = p.pos, p.pos, partDone
		m.parts = slices.Insert(m.parts, i+1, tail)
		m.joinMissing(i + 1)
		m.merge(i)
	}
	m.notify()
}

// Trim lets a taken part keep the first n of its bytes that are not done. The others are missing again.
func (m *Map) Trim(p *Part, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.state != partTaken || m.single || n <= 0 || p.End-p.held <= n {
		return
	}
	end := p.held + n
	tail := &Part{Span: span.Span{Off: end, End: p.End}, pos: end, held: end}
	p.End = end
	i := m.index(p) + 1
	m.parts = slices.Insert(m.parts, i, tail)
	m.joinMissing(i)
	m.notify()
}

// SetPace records how fast a taken part is being fetched.
func (m *Map) SetPace(p *Part, v Pace) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.state == partTaken {
		p.pace = v
	}
}

// SetRate updates the measured speed of a taken part.
func (m *Map) SetRate(p *Part, rate float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p.pace.Rate = rate
}

// Finished reports whether every byte is done.
func (m *Map) Finished() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left == 0
}

// Wait reports whether Take, or TakeOver with these terms, would return a part now. If not, changed is closed when it is
// worth asking again. The last byte is such a change, so a caller that calls Finished after Wait, and not before, cannot
// miss the end.
func (m *Map) Wait(t Terms) (available bool, changed <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.firstMissing() >= 0 {
		return true, m.changed
	}
	victim, _ := m.victim(t)
	return victim != nil, m.changed
}

// Wake makes waiters ask again: taking over can become worth it merely because time has passed.
func (m *Map) Wake() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.notify()
}

// SetHorizon sets the offset from which on no byte may be taken yet. Later calls only move it forward.
func (m *Map) SetHorizon(off int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if off > m.horizon || m.horizon == math.MaxInt64 {
		m.horizon = off
		m.notify()
	}
}

// SetVolatile declares that there is no file to sync and no checkpoint to write, so that done parts are joined freely.
func (m *Map) SetVolatile() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.volatile = true
}

// Volatile reports whether SetVolatile was called.
func (m *Map) Volatile() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.volatile
}

// SetSingle allows at most one taken part at a time, for a server that does not serve ranges.
func (m *Map) SetSingle(v bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.single != v {
		m.single = v
		m.notify()
	}
}

// NextClaim returns the next claimed part and its claim, which is to be compared with the disk; nil if there is none. Proved
// must follow.
func (m *Map) NextClaim() (*Part, Claim) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.parts {
		if p.state == partClaimed {
			p.state = partProving
			return p, p.claim()
		}
	}
	return nil, Claim{}
}

// Proved ends the verification of a part from NextClaim. If the claim holds, its bytes are done; otherwise they are missing, but for
// those of ClaimWithin.
func (m *Map) Proved(p *Part, holds bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.index(p)
	if holds {
		m.older = slices.DeleteFunc(m.older, func(c Claim) bool { return c.isIn(p.Span) })
		p.state = partDone
		m.left -= p.Len()
		m.merge(i)
		if m.left == 0 {
			m.notify()
		}
		return
	}
	was := p.Span
	m.have -= p.Len()
	p.state, p.pos, p.held, p.crc = partMissing, p.Off, p.Off, 0
	m.joinMissing(i)
	m.claimOlder(was)
	m.notify()
}

// claimOlder claims what ClaimWithin recorded within sp, the bytes of which are missing. Each such claim has one trial. The mutex is
// held.
func (m *Map) claimOlder(sp span.Span) {
	m.older = slices.DeleteFunc(m.older, func(c Claim) bool {
		if !c.isIn(sp) {
			return false
		}
		_ = m.claim(span.Span{Off: c.Off, End: c.Off + c.Done}, c.CRC) // otherwise the bytes are fetched
		return true
	})
}

// Unprove turns every done part into a claim, so that everything is compared with the disk again.
func (m *Map) Unprove() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.parts {
		if p.state == partDone {
			p.state, p.synced, p.syncing = partClaimed, false, false
			m.left += p.Len()
		}
	}
}

// Reset makes every byte missing.
func (m *Map) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.parts, m.left, m.have, m.older = nil, 0, 0, nil
	size := m.size
	m.size = 0
	m.grow(size)
	m.notify()
}

// BeginSync marks the parts that a sync that starts now will cover, and reports whether there are any.
func (m *Map) BeginSync() (some bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.parts {
		p.syncing = p.state == partDone && !p.synced
		some = some || p.syncing
	}
	return some
}

// EndSync records that the sync succeeded. It must not be called for a sync that failed.
func (m *Map) EndSync() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.parts {
		if p.syncing {
			p.synced, p.syncing = p.state == partDone, false
		}
	}
	for i := 0; i+1 < len(m.parts); {
		if m.mergeable(m.parts[i], m.parts[i+1]) {
			m.join(i)
		} else {
			i++
		}
	}
}

// Distrust makes every byte missing that no sync of this run has covered, including the claims of an earlier run. It must not
// be called before all workers have given back their parts.
func (m *Map) Distrust() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.older = nil
	for _, p := range m.parts {
		if p.state != partMissing && !p.synced {
			if p.state == partDone {
				m.left += p.Len()
			}
			m.have -= p.Len()
			p.state, p.pos, p.held, p.crc, p.syncing = partMissing, p.Off, p.Off, 0, false
		}
	}
	for i := len(m.parts) - 1; i > 0; i-- {
		if m.parts[i].state == partMissing {
			m.joinMissing(i)
		}
	}
}

// Totals are sums over all parts, in bytes.
type Totals struct {
	Size int64
	Done int64 // written or verified
	Have int64 // done or claimed: they need no request
}

// Totals returns the current sums.
func (m *Map) Totals() Totals {
	m.mu.Lock()
	defer m.mu.Unlock()
	return Totals{Size: m.size, Done: m.size - m.left, Have: m.have}
}

// Sum returns the CRC-64 of the whole. It is meaningful once every byte is done.
func (m *Map) Sum() (crc uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.parts {
		crc = crc64.Combine(crc, p.crc, p.Len())
	}
	return crc
}

// SumTo returns the CRC-64 of the first n bytes. It reports whether exactly these are done or claimed, up to the position of a
// worker or the end of a part.
func (m *Map) SumTo(n int64) (crc uint64, done bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	end := int64(0)
	for _, p := range m.parts {
		if p.Off >= n {
			break
		}
		if p.state == partMissing {
			return 0, false
		}
		crc = crc64.Combine(crc, p.crc, p.pos-p.Off)
		end = p.pos
	}
	return crc, end == n
}

// SumFrom returns the CRC-64 of the bytes from n to the end. It reports whether all of them are done or claimed, and a part
// begins at n or the map ends there.
func (m *Map) SumFrom(n int64) (crc uint64, done bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.parts) - 1; i >= 0 && m.parts[i].End > n; i-- {
		p := m.parts[i]
		if p.Off < n || p.pos < p.End {
			return 0, false
		}
	}
	for _, p := range m.parts {
		if p.Off >= n {
			crc = crc64.Combine(crc, p.crc, p.Len())
		}
	}
	return crc, true
}

// grow appends missing bytes up to size. The mutex is held.
func (m *Map) grow(size int64) {
	if size <= m.size {
		return
	}
	m.left += size - m.size
	if n := len(m.parts); n > 0 && m.parts[n-1].state == partMissing {
		m.parts[n-1].End = size
	} else {
		m.parts = append(m.parts, &Part{Span: span.Span{Off: m.size, End: size}, pos: m.size, held: m.size})
	}
	m.size = size
}

// find returns the index of the part that has the byte at off.
func (m *Map) find(off int64) (int, bool) {
	return slices.BinarySearchFunc(m.parts, off, func(p *Part, off int64) int {
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
func (m *Map) index(p *Part) int {
	i, _ := m.find(p.Off)
	return i
}

// carve splits the missing part at index i so that one part is exactly sp, and returns that part. The mutex is held.
func (m *Map) carve(i int, sp span.Span) *Part {
	p := m.parts[i]
	if p.Off < sp.Off {
		head := &Part{Span: span.Span{Off: p.Off, End: sp.Off}, pos: p.Off, held: p.Off}
		m.parts = slices.Insert(m.parts, i, head)
		i++
	}
	if sp.End < p.End {
		tail := &Part{Span: span.Span{Off: sp.End, End: p.End}, pos: sp.End, held: sp.End}
		m.parts = slices.Insert(m.parts, i+1, tail)
	}
	p.Span = sp
	p.pos, p.held = sp.Off, sp.Off
	return p
}

// firstMissing returns the index of the part that Take would take from, or -1. The mutex is held.
func (m *Map) firstMissing() int {
	for i, p := range m.parts {
		switch {
		case m.single && p.state == partTaken:
			return -1
		case p.state == partMissing && p.Off < m.horizon:
			if m.single && slices.ContainsFunc(m.parts[i:], func(p *Part) bool { return p.state == partTaken }) {
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

// merge joins the done part at index i with its neighbours, if the bounds allow it. The mutex is held.
func (m *Map) merge(i int) {
	if i+1 < len(m.parts) && m.mergeable(m.parts[i], m.parts[i+1]) {
		m.join(i)
	}
	if i > 0 && m.mergeable(m.parts[i-1], m.parts[i]) {
		m.join(i - 1)
	}
}

// mergeable reports whether two neighbours are done, equally safe on disk, and together within the bound.
func (m *Map) mergeable(a, b *Part) bool {
	if a.state != partDone || b.state != partDone || a.synced != b.synced {
		return false
	}
	bound := int64(mergeUnsynced)
	if a.synced || m.volatile {
		bound = max(bound, m.size/mergeShare)
	}
	return a.Len()+b.Len() <= bound
}

// join makes one part of the done parts at i and i+1. The mutex is held.
func (m *Map) join(i int) {
	a, b := m.parts[i], m.parts[i+1]
	a.crc = crc64.Combine(a.crc, b.crc, b.Len())
	a.End, a.pos, a.held = b.End, b.End, b.End
	a.syncing = a.syncing && b.syncing
	m.parts = slices.Delete(m.parts, i+1, i+2)
}

// joinMissing joins the missing part at index i with missing neighbours. The mutex is held.
func (m *Map) joinMissing(i int) {
	if i+1 < len(m.parts) && m.parts[i+1].state == partMissing {
		m.parts[i].End = m.parts[i+1].End
		m.parts = slices.Delete(m.parts, i+1, i+2)
	}
	if i > 0 && m.parts[i-1].state == partMissing {
		m.parts[i-1].End = m.parts[i].End
		m.parts = slices.Delete(m.parts, i, i+1)
	}
}

// notify wakes all that wait for a change. The mutex is held.
func (m *Map) notify() {
	close(m.changed)
	m.changed = make(chan struct{})
}
