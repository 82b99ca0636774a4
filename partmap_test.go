package ossdl

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/crc64"
)

// writeSize is how many bytes a worker writes at once.
const writeSize = 256 << 10

// check compares the map with its invariants: the parts tile the object, the sums are right, and every CRC-64 is that of
// the bytes it stands for.
func (s *set) check(content []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var off, left, have int64
	for i, p := range s.parts {
		if p.off != off || p.end <= p.off {
			return fmt.Errorf("part %d is [%d,%d), the one before ends at %d", i, p.off, p.end, off)
		}
		if p.pos < p.off || p.pos > p.held || p.held > p.end {
			return fmt.Errorf("part %d [%d,%d): position %d, held %d", i, p.off, p.end, p.pos, p.held)
		}
		switch p.state {
		case partMissing:
			if p.pos != p.off || p.held != p.off {
				return fmt.Errorf("missing part %d has position %d of [%d,%d)", i, p.pos, p.off, p.end)
			}
			if i > 0 && s.parts[i-1].state == partMissing {
				return fmt.Errorf("missing parts %d and %d were not joined", i-1, i)
			}
			left += p.len()
		case partTaken:
			left += p.end - p.pos
			have += p.pos - p.off
		case partClaimed, partProving:
			left += p.len()
			have += p.len()
		case partDone:
			have += p.len()
		}
		if p.state != partMissing && p.state != partTaken && p.pos != p.end {
			return fmt.Errorf("%v part %d [%d,%d) has position %d", p.state, i, p.off, p.end, p.pos)
		}
		if content != nil && (p.state == partTaken || p.state == partDone) {
			if want := crc64.Update(0, content[p.off:p.pos]); p.crc != want {
				return fmt.Errorf("%v part %d [%d,%d): CRC-64 of [%d,%d) is %d, want %d", p.state, i, p.off, p.end, p.off, p.pos, p.crc, want)
			}
		}
		off = p.end
	}
	if off != s.size || left != s.left || have != s.have {
		return fmt.Errorf("size %d, left %d, have %d; the parts say %d, %d, %d", s.size, s.left, s.have, off, left, have)
	}
	return nil
}

// machine drives a map through any interleaving of what workers, the verification, the saver and the syncer do, and of what
// their call does between two runs of them. It keeps a model of which bytes were written.
type machine struct {
	set     *set
	content []byte
	written []bool // the model's disk
	next    func(n int) int
	workers []*worker
	proof   []*part

	sized    bool  // the first answer has reported the size
	single   bool  // one worker at a time
	horizon  int64 // math.MaxInt64: none
	rooms    []<-chan struct{}
	syncing  []bool // written when the sync in progress began
	synced   []bool // covered by a sync
	again    bool   // all was done once, and then verified or fetched again
	finished bool

	did   map[string]int
	wrong error // found by a step itself
}

type worker struct {
	p       *part
	own     held
	writing bool
}

func newMachine(content []byte, next func(int) int) *machine {
	n := len(content)
	m := &machine{
		content: content, written: make([]bool, n), syncing: make([]bool, n), synced: make([]bool, n), next: next,
		sized: true, horizon: math.MaxInt64, did: map[string]int{},
	}
	size := n
	if next(3) == 0 {
		size, m.sized = 1+next(2*n), false
	}
	m.set = newSet(int64(size))
	switch next(5) {
	case 0: // a Reader's
		m.set.setVolatile()
		m.horizon = int64(1 + next(n))
		m.set.setHorizon(m.horizon)
	case 1: // a writer's
		m.set.setVolatile()
	}
	return m
}

// answer reports how large the object is.
func (m *machine) answer() string {
	m.set.resize(int64(len(m.content)))
	m.sized = true
	return "answer"
}

// claim plays an earlier run that left some ranges, some of them with a wrong record.
func (m *machine) claim() {
	m.answer()
	for off := 0; off < len(m.content); {
		off += m.next(len(m.content)/4 + 1)
		n := m.next(len(m.content)/4+1) + 1
		if off+n > len(m.content) {
			return
		}
		crc := crc64.Update(0, m.content[off:off+n])
		if m.next(3) == 0 {
			crc++
		} else {
			for i := off; i < off+n; i++ {
				m.written[i] = true
			}
		}
		if err := m.set.claim(span{int64(off), int64(off + n)}, crc); err != nil {
			panic(err)
		}
		off += n
	}
}

func (m *machine) terms() terms {
	return terms{now: time.Unix(int64(m.next(1000)), 0), firstByte: time.Millisecond, rate: 1e-3 * float64(1+m.next(100))}
}

// step does one thing. It returns a name for it, for the message of a failure.
func (m *machine) step() string {
	if !m.sized { // one worker waits for the first answer
		switch {
		case m.next(3) == 0:
			return m.answer()
		case len(m.workers) == 0:
			return m.take()
		}
		return m.giveBack()
	}
	switch m.next(17) {
	case 0, 1:
		return m.take()
	case 2:
		return m.takeOver()
	case 3, 4, 5, 6:
		return m.work()
	case 7:
		return m.giveBack()
	case 8:
		if p := m.set.nextClaim(); p != nil {
			m.proof = append(m.proof, p)
			return "nextClaim"
		}
	case 9:
		if len(m.proof) > 0 {
			i := m.next(len(m.proof))
			p := m.proof[i]
			m.proof = slices.Delete(m.proof, i, i+1)
			holds := p.crc == crc64.Update(0, m.content[p.off:p.end]) && m.next(6) > 0 // or the disk has decayed
			m.set.proved(p, holds)
			return fmt.Sprint("proved ", holds)
		}
	case 10:
		m.set.beginSync()
		copy(m.syncing, m.written)
		if m.next(4) > 0 {
			m.set.endSync()
			for i, v := range m.syncing {
				m.synced[i] = m.synced[i] || v
			}
			return "sync"
		}
		return "sync fails"
	case 11:
		if i, ok := m.anyWorker(); ok {
			m.set.setPace(m.workers[i].p, pace{rate: float64(m.next(50)), since: time.Unix(int64(m.next(1000)), 0)})
			return "pace"
		}
	case 12:
		// The body of the whole object, for a part that may have been taken over meanwhile.
		if i, ok := m.anyWorker(); ok {
			m.set.extend(m.workers[i].p, int64(len(m.content)))
			return "extend"
		}
	case 13:
		return m.moveHorizon()
	case 14:
		m.single = m.next(3) == 0
		m.set.setSingle(m.single)
		return fmt.Sprint("single ", m.single)
	case 15:
		return m.answer() // as each answer does
	case 16:
		return m.between()
	}
	return ""
}

func (m *machine) take() string {
	alone := !m.taken()
	p := m.set.take(func(int64) int64 { return int64(m.next(len(m.content)) + 1) })
	if p == nil {
		return ""
	}
	if m.single && !alone {
		m.wrong = fmt.Errorf("[%d,%d) was taken beside another", p.off, p.end)
	}
	if p.off >= m.horizon || p.end > m.horizon {
		m.wrong = fmt.Errorf("[%d,%d) was taken, the horizon is %d", p.off, p.end, m.horizon)
	}
	m.workers = append(m.workers, &worker{p: p})
	return "take"
}

func (m *machine) takeOver() string {
	p := m.set.takeOver(m.terms())
	if p == nil {
		return ""
	}
	if m.single || p.off >= m.horizon {
		m.wrong = fmt.Errorf("[%d,%d) was taken over; single %t, the horizon is %d", p.off, p.end, m.single, m.horizon)
	}
	m.workers = append(m.workers, &worker{p: p})
	return "takeOver"
}

func (m *machine) giveBack() string {
	i, ok := m.anyWorker()
	if !ok {
		return ""
	}
	w := m.workers[i]
	m.set.giveBack(w.p)
	m.workers = slices.Delete(m.workers, i, i+1)
	return "giveBack"
}

// taken reports whether a part is taken.
func (m *machine) taken() bool {
	m.set.mu.Lock()
	defer m.set.mu.Unlock()
	return slices.ContainsFunc(m.set.parts, func(p *part) bool { return p.state == partTaken })
}

// moveHorizon plays a sink that has read on, or has not. It checks that those who wait for room are woken.
func (m *machine) moveHorizon() string {
	if m.horizon == math.MaxInt64 {
		return ""
	}
	to := m.horizon + int64(m.next(len(m.content)/2+2)) - 1
	m.set.setHorizon(to)
	if to <= m.horizon {
		if m.set.horizon != m.horizon {
			m.wrong = fmt.Errorf("the horizon went back from %d to %d", m.horizon, m.set.horizon)
		}
		return "horizon stays"
	}
	m.horizon = to
	for _, room := range m.rooms {
		select {
		case <-room:
		default:
			m.wrong = errors.New("the horizon moved, but a worker that waits for room was not woken")
		}
	}
	m.rooms = nil
	return "horizon moves"
}

// between does what a call does when no worker is left: it gives up what no sync has covered, compares everything with the
// disk, or fetches everything again. A verification may have been interrupted.
func (m *machine) between() string {
	if len(m.workers) > 0 {
		return ""
	}
	before := m.set.totals()
	switch m.next(8) {
	case 0:
		m.proof = nil
		m.set.distrust()
		for _, c := range m.set.snapshot(math.MaxInt) {
			if i := slices.Index(m.synced[c.off:c.off+c.done], false); i >= 0 {
				m.wrong = fmt.Errorf("claim %+v, but no sync has covered byte %d", c, c.off+int64(i))
			}
		}
		return "distrust"
	case 1:
		if len(m.proof) > 0 {
			return ""
		}
		m.set.unprove()
		if after := m.set.totals(); after.done != 0 || after.have != before.have {
			m.wrong = fmt.Errorf("%+v became %+v", before, after)
		}
		return "unprove"
	case 2:
		if len(m.proof) > 0 {
			return ""
		}
		m.set.reset()
		if after := m.set.totals(); after != (totals{size: before.size}) {
			m.wrong = fmt.Errorf("%+v became %+v", before, after)
		}
		return "reset"
	}
	return ""
}

func (m *machine) anyWorker() (int, bool) {
	if len(m.workers) == 0 {
		return 0, false
	}
	return m.next(len(m.workers)), true
}

// work lets one worker hold, write or advance.
func (m *machine) work() string {
	i, ok := m.anyWorker()
	if !ok {
		return ""
	}
	w := m.workers[i]
	if !w.writing {
		w.own = m.set.hold(w.p, m.next(len(m.content)/8+2)+1)
		switch {
		case w.own.room != nil:
			m.rooms = append(m.rooms, w.own.room)
			return "no room"
		case w.own.size == 0:
			m.workers = slices.Delete(m.workers, i, i+1)
			return "nothing left"
		case w.own.off+int64(w.own.size) > m.horizon:
			m.wrong = fmt.Errorf("%d bytes at %d are held, the horizon is %d", w.own.size, w.own.off, m.horizon)
		}
		w.writing = true
		return "hold"
	}
	b := m.content[w.own.off : w.own.off+int64(w.own.size)]
	for i := range b {
		at := w.own.off + int64(i)
		m.written[at], m.syncing[at], m.synced[at] = true, false, false
	}
	w.writing = false
	if m.set.advance(w.p, w.own, crc64.Update(w.own.crc, b)) {
		m.workers = slices.Delete(m.workers, i, i+1)
	}
	return "advance"
}

// check compares the map with the model.
func (m *machine) check() error {
	if m.wrong != nil {
		return m.wrong
	}
	if !m.sized {
		return m.set.check(nil)
	}
	if err := m.set.check(m.content); err != nil {
		return err
	}
	owner := make([]*part, len(m.content))
	for _, w := range m.workers {
		if !w.writing {
			continue
		}
		for i := range w.own.size {
			at := w.own.off + int64(i)
			if owner[at] != nil {
				return fmt.Errorf("two workers write byte %d", at)
			}
			owner[at] = w.p
		}
	}
	end := int64(0)
	for _, c := range m.set.snapshot(1 + m.next(8)) {
		if c.off < end || c.done < 1 || c.done > c.size || c.off+c.size > int64(len(m.content)) {
			return fmt.Errorf("claim %+v after %d", c, end)
		}
		end = c.off + c.size
	}
	for _, c := range m.set.snapshot(math.MaxInt) {
		if c.crc != crc64.Update(0, m.content[c.off:c.off+c.done]) {
			continue // claimed by an earlier run, and not verified yet
		}
		if i := slices.Index(m.written[c.off:c.off+c.done], false); i >= 0 {
			return fmt.Errorf("claim %+v, but byte %d was never written", c, c.off+int64(i))
		}
	}
	return nil
}

// run takes steps until all is done, or n of them.
func (m *machine) run(n int) error {
	var trace []string
	for range n {
		if what := m.step(); what != "" {
			m.did[what]++
			trace = append(trace, what)
			if err := m.check(); err != nil {
				return fmt.Errorf("after %q: %w", trace[max(0, len(trace)-12):], err)
			}
		}
		if sums := m.set.totals(); m.sized && sums.done == sums.size {
			if got, want := m.set.sum(), crc64.Update(0, m.content); got != want {
				return fmt.Errorf("all done, CRC-64 %d, want %d", got, want)
			}
			if i := slices.Index(m.written, false); i >= 0 {
				return fmt.Errorf("all done, but byte %d was never written", i)
			}
			// Once, the call may find that the whole is wrong.
			if m.again {
				m.finished = true
				return nil
			}
			m.again = true
			m.workers, m.proof, m.rooms = nil, nil, nil // which have nothing to do
			switch m.next(3) {
			case 0:
				m.set.unprove()
			case 1:
				m.set.reset()
			}
		}
	}
	return nil
}

// TestMapAnyInterleaving checks that every invariant holds after each of many random steps.
func TestMapAnyInterleaving(t *testing.T) {
	rounds := 4000
	if testing.Short() {
		rounds = 800
	}
	finished, did := 0, map[string]int{}
	for seed := range uint64(rounds) {
		rng := rand.New(rand.NewPCG(seed, 1))
		content := make([]byte, 1+rng.IntN(300))
		for i := range content {
			content[i] = byte(rng.Uint32())
		}
		m := newMachine(content, rng.IntN)
		if seed%2 == 1 {
			m.claim()
		}
		if err := m.run(1000); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if m.finished {
			finished++
		}
		for what, n := range m.did {
			did[what] += n
		}
	}
	t.Log(finished, did)
	for _, what := range []string{
		"take", "takeOver", "hold", "advance", "nothing left", "no room", "giveBack", "nextClaim", "proved true", "proved false",
		"sync", "sync fails", "pace", "extend", "horizon moves", "horizon stays", "single true", "single false", "answer",
		"distrust", "unprove", "reset",
	} {
		if did[what] < 3 {
			t.Errorf("%q was tried only %d times: the machine does not test it any more", what, did[what])
		}
	}
	if finished < rounds/2 {
		t.Errorf("only %d of %d runs finished: the machine does not test the end any more", finished, rounds)
	}
}

// FuzzMap checks the same as TestMapAnyInterleaving, with steps that the fuzzer chooses.
func FuzzMap(f *testing.F) {
	f.Add([]byte{0, 3, 3, 3, 2, 5, 7, 8, 9, 1, 0, 4, 4, 4, 10, 11, 255, 128, 64})
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) < 2 {
			return
		}
		i := 0
		next := func(n int) int {
			if i >= len(choices) {
				return 0
			}
			i++
			return int(choices[i-1]) % n
		}
		content := make([]byte, 1+int(choices[0]))
		for i := range content {
			content[i] = byte(i * 7)
		}
		m := newMachine(content, next)
		if choices[1]%2 == 1 {
			m.claim()
		}
		for i < len(choices) && !m.finished {
			if err := m.run(1); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestMapMergesWithinBounds checks that done parts grow up to mergeUnsynced before a sync, and up to mergeShare after it.
func TestMapMergesWithinBounds(t *testing.T) {
	const size = 4 << 30
	s := newSet(size)
	fetch := func(n int64) {
		p := s.take(func(int64) int64 { return n })
		for !s.advance(p, s.hold(p, writeSize), 0) {
		}
	}
	for range 100 {
		fetch(1 << 20)
	}
	longest := func() (n int64) {
		for _, c := range s.snapshot(math.MaxInt) {
			n = max(n, c.done)
		}
		return n
	}
	if got := longest(); got != mergeUnsynced {
		t.Errorf("longest unsynced claim %d, want %d", got, mergeUnsynced)
	}
	s.beginSync()
	s.endSync()
	if got, want := longest(), int64(size/mergeShare); got != want {
		t.Errorf("longest synced claim %d, want %d", got, want)
	}
	if err := s.check(nil); err != nil {
		t.Error(err)
	}
}

// TestMapDistrustsWhatWasNotSynced checks that distrust leaves only what a sync has covered.
func TestMapDistrustsWhatWasNotSynced(t *testing.T) {
	s := newSet(100)
	for i := range 5 {
		p := s.take(func(int64) int64 { return 10 })
		s.advance(p, s.hold(p, 10), 0)
		if i == 2 {
			s.beginSync()
			s.endSync()
		}
	}
	p := s.take(func(int64) int64 { return 10 })
	s.advance(p, s.hold(p, 5), 0)
	s.giveBack(p)
	for _, off := range []int64{60, 70} {
		if err := s.claim(span{off, off + 10}, 0); err != nil {
			t.Fatal(err)
		}
	}
	s.nextClaim() // one claim is being verified
	s.distrust()
	if err := s.check(nil); err != nil {
		t.Error(err)
	}
	if got := s.snapshot(maxClaims); len(got) != 1 || got[0].off != 0 || got[0].done != 30 {
		t.Errorf("left are the claims %+v, want the 30 bytes synced", got)
	}
}

// crcOfZeros returns the CRC-64 of n zero bytes.
func crcOfZeros(n int64) (crc uint64) {
	unit, unitCRC := int64(1), crc64.Update(0, []byte{0})
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			crc = crc64.Combine(crc, unitCRC, unit)
		}
		unit, unitCRC = 2*unit, crc64.Combine(unitCRC, unitCRC, unit)
	}
	return crc
}

// TestMapOfTheLargestObject fetches all of the largest object that OSS stores, with an interruption in its middle. It checks
// that no number overflows, that claims and parts stay few, and that the CRC-64 of all ranges is that of the object.
func TestMapOfTheLargestObject(t *testing.T) {
	const size, piece = 48_800_000_000_000, 512 << 20
	whole := crcOfZeros(piece)
	fetch := func(s *set, until int64) {
		for n := 1; s.totals().done < until; n++ {
			p := s.take(func(int64) int64 { return piece })
			h := s.hold(p, piece)
			crc := whole
			if h.size != piece {
				crc = crcOfZeros(int64(h.size))
			}
			if !s.advance(p, h, crc) {
				t.Fatalf("%d bytes at %d are not all of [%d,%d)", h.size, h.off, p.off, p.end)
			}
			if n%100 == 0 {
				s.beginSync()
				s.endSync()
			}
		}
	}
	first := newSet(size)
	fetch(first, size/2)
	claims := first.snapshot(maxClaims)
	if len(claims) > maxClaims {
		t.Errorf("%d claims", len(claims))
	}
	second := newSet(size)
	for _, c := range claims {
		if err := second.claim(span{c.off, c.off + c.done}, c.crc); err != nil {
			t.Fatal(err)
		}
	}
	for p := second.nextClaim(); p != nil; p = second.nextClaim() {
		if want := crcOfZeros(p.len()); p.crc != want {
			t.Errorf("claim of [%d,%d): CRC-64 %d, want %d", p.off, p.end, p.crc, want)
		}
		second.proved(p, true)
	}
	if got, want := second.totals().done, first.totals().done; got != want {
		t.Errorf("%d bytes kept of %d", got, want)
	}
	fetch(second, size)
	if got, want := second.sum(), crcOfZeros(size); got != want {
		t.Errorf("CRC-64 %d, want %d", got, want)
	}
	if n := len(second.parts); n > 4*mergeShare {
		t.Errorf("%d parts in the end, want at most %d", n, 4*mergeShare)
	}
	if err := second.check(nil); err != nil {
		t.Error(err)
	}
}

// BenchmarkMapMillionParts fetches a million parts of 1 KiB with eight workers. The cost of a part must not grow with
// their number.
func BenchmarkMapMillionParts(b *testing.B) {
	for b.Loop() {
		s := newSet(1e6 << 10)
		var parts [8]*part
		for n := 0; ; n++ {
			w := n % len(parts)
			if parts[w] != nil {
				s.advance(parts[w], s.hold(parts[w], 1<<10), 0)
			}
			if parts[w] = s.take(func(int64) int64 { return 1 << 10 }); parts[w] == nil {
				break
			}
			if n%4096 == 0 {
				s.beginSync()
				s.endSync()
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e6, "ns/part")
}
