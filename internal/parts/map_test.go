package parts

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/span"
)

// writeSize is how many bytes a worker writes at once.
const writeSize = 256 << 10

// check compares the map with its invariants: the parts tile the object, the sums are right, and every CRC-64 is that of
// the bytes it stands for.
func (m *Map) check(content []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var off, left, have int64
	for i, p := range m.parts {
		if p.Off != off || p.End <= p.Off {
			return fmt.Errorf("part %d is [%d,%d), the one before ends at %d", i, p.Off, p.End, off)
		}
		if p.pos < p.Off || p.pos > p.held || p.held > p.End {
			return fmt.Errorf("part %d [%d,%d): position %d, held %d", i, p.Off, p.End, p.pos, p.held)
		}
		switch p.state {
		case partMissing:
			if p.pos != p.Off || p.held != p.Off {
				return fmt.Errorf("missing part %d has position %d of [%d,%d)", i, p.pos, p.Off, p.End)
			}
			if i > 0 && m.parts[i-1].state == partMissing {
				return fmt.Errorf("missing parts %d and %d were not joined", i-1, i)
			}
			left += p.Len()
		case partTaken:
			left += p.End - p.pos
			have += p.pos - p.Off
		case partClaimed, partProving:
			left += p.Len()
			have += p.Len()
		case partDone:
			have += p.Len()
		}
		if p.state != partMissing && p.state != partTaken && p.pos != p.End {
			return fmt.Errorf("%v part %d [%d,%d) has position %d", p.state, i, p.Off, p.End, p.pos)
		}
		if content != nil && (p.state == partTaken || p.state == partDone) {
			if want := crc64.Update(0, content[p.Off:p.pos]); p.crc != want {
				return fmt.Errorf("%v part %d [%d,%d): CRC-64 of [%d,%d) is %d, want %d", p.state, i, p.Off, p.End, p.Off, p.pos, p.crc, want)
			}
		}
		off = p.End
	}
	if off != m.size || left != m.left || have != m.have {
		return fmt.Errorf("size %d, left %d, have %d; the parts say %d, %d, %d", m.size, m.left, m.have, off, left, have)
	}
	return nil
}

// machine drives a map through any interleaving of what workers, the verification, the saver and the syncer do, and of what
// their call does between two runs of them. It keeps a model of which bytes were written.
type machine struct {
	parts   *Map
	content []byte
	written []bool // the model's disk
	next    func(n int) int
	workers []*worker
	proof   []*Part

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
	p       *Part
	own     Held
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
	m.parts = New(int64(size))
	switch next(5) {
	case 0: // a Reader's
		m.parts.SetVolatile()
		m.horizon = int64(1 + next(n))
		m.parts.SetHorizon(m.horizon)
	case 1: // a writer's
		m.parts.SetVolatile()
	}
	return m
}

// answer reports how large the object is.
func (m *machine) answer() string {
	m.parts.Resize(int64(len(m.content)))
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
		if err := m.parts.Claim(span.Span{Off: int64(off), End: int64(off + n)}, crc); err != nil {
			panic(err)
		}
		off += n
	}
}

func (m *machine) terms() Terms {
	return Terms{Now: time.Unix(int64(m.next(1000)), 0), FirstByte: time.Millisecond, Rate: 1e-3 * float64(1+m.next(100))}
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
	switch m.next(18) {
	case 0, 1:
		return m.take()
	case 2:
		return m.takeOver()
	case 3, 4, 5, 6:
		return m.work()
	case 7:
		return m.giveBack()
	case 8:
		if p, _ := m.parts.NextClaim(); p != nil {
			m.proof = append(m.proof, p)
			return "nextClaim"
		}
	case 9:
		if len(m.proof) > 0 {
			i := m.next(len(m.proof))
			p := m.proof[i]
			m.proof = slices.Delete(m.proof, i, i+1)
			holds := p.crc == crc64.Update(0, m.content[p.Off:p.End]) && m.next(6) > 0 // or the disk has decayed
			m.parts.Proved(p, holds)
			return fmt.Sprint("proved ", holds)
		}
	case 10:
		m.parts.BeginSync()
		copy(m.syncing, m.written)
		if m.next(4) > 0 {
			m.parts.EndSync()
			for i, v := range m.syncing {
				m.synced[i] = m.synced[i] || v
			}
			return "sync"
		}
		return "sync fails"
	case 11:
		if i, ok := m.anyWorker(); ok {
			m.parts.SetPace(m.workers[i].p, Pace{Rate: float64(m.next(50)), Since: time.Unix(int64(m.next(1000)), 0)})
			return "pace"
		}
	case 12:
		// The body of the whole object, for a part that may have been taken over meanwhile.
		if i, ok := m.anyWorker(); ok {
			m.parts.Extend(m.workers[i].p, int64(len(m.content)))
			return "extend"
		}
	case 13:
		return m.moveHorizon()
	case 14:
		m.single = m.next(3) == 0
		m.parts.SetSingle(m.single)
		return fmt.Sprint("single ", m.single)
	case 15:
		return m.answer() // as each answer does
	case 16:
		return m.between()
	case 17:
		if i, ok := m.anyWorker(); ok {
			m.parts.Trim(m.workers[i].p, int64(m.next(len(m.content)))) // also one that was taken over meanwhile
			return "trim"
		}
	}
	return ""
}

func (m *machine) take() string {
	alone := !m.taken()
	p := m.parts.Take(func(int64) int64 { return int64(m.next(len(m.content)) + 1) })
	if p == nil {
		return ""
	}
	if m.single && !alone {
		m.wrong = fmt.Errorf("[%d,%d) was taken beside another", p.Off, p.End)
	}
	if p.Off >= m.horizon || p.End > m.horizon {
		m.wrong = fmt.Errorf("[%d,%d) was taken, the horizon is %d", p.Off, p.End, m.horizon)
	}
	m.workers = append(m.workers, &worker{p: p})
	return "take"
}

func (m *machine) takeOver() string {
	p := m.parts.TakeOver(m.terms())
	if p == nil {
		return ""
	}
	if m.single || p.Off >= m.horizon {
		m.wrong = fmt.Errorf("[%d,%d) was taken over; single %t, the horizon is %d", p.Off, p.End, m.single, m.horizon)
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
	m.parts.GiveBack(w.p)
	m.workers = slices.Delete(m.workers, i, i+1)
	return "giveBack"
}

// taken reports whether a part is taken.
func (m *machine) taken() bool {
	m.parts.mu.Lock()
	defer m.parts.mu.Unlock()
	return slices.ContainsFunc(m.parts.parts, func(p *Part) bool { return p.state == partTaken })
}

// moveHorizon plays a sink that has read on, or has not. It checks that those who wait for room are woken.
func (m *machine) moveHorizon() string {
	if m.horizon == math.MaxInt64 {
		return ""
	}
	to := m.horizon + int64(m.next(len(m.content)/2+2)) - 1
	m.parts.SetHorizon(to)
	if to <= m.horizon {
		if m.parts.horizon != m.horizon {
			m.wrong = fmt.Errorf("the horizon went back from %d to %d", m.horizon, m.parts.horizon)
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
	before := m.parts.Totals()
	switch m.next(8) {
	case 0:
		m.proof = nil
		m.parts.Distrust()
		for _, c := range m.parts.Snapshot(math.MaxInt) {
			if i := slices.Index(m.synced[c.Off:c.Off+c.Done], false); i >= 0 {
				m.wrong = fmt.Errorf("claim %+v, but no sync has covered byte %d", c, c.Off+int64(i))
			}
		}
		return "distrust"
	case 1:
		if len(m.proof) > 0 {
			return ""
		}
		m.parts.Unprove()
		if after := m.parts.Totals(); after.Done != 0 || after.Have != before.Have {
			m.wrong = fmt.Errorf("%+v became %+v", before, after)
		}
		return "unprove"
	case 2:
		if len(m.proof) > 0 {
			return ""
		}
		m.parts.Reset()
		if after := m.parts.Totals(); after != (Totals{Size: before.Size}) {
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
		w.own = m.parts.Hold(w.p, m.next(len(m.content)/8+2)+1)
		switch {
		case w.own.Room != nil:
			m.rooms = append(m.rooms, w.own.Room)
			return "no room"
		case w.own.Size == 0:
			m.workers = slices.Delete(m.workers, i, i+1)
			return "nothing left"
		case w.own.Off+int64(w.own.Size) > m.horizon:
			m.wrong = fmt.Errorf("%d bytes at %d are held, the horizon is %d", w.own.Size, w.own.Off, m.horizon)
		}
		w.writing = true
		return "hold"
	}
	b := m.content[w.own.Off : w.own.Off+int64(w.own.Size)]
	for i := range b {
		at := w.own.Off + int64(i)
		m.written[at], m.syncing[at], m.synced[at] = true, false, false
	}
	w.writing = false
	if m.parts.Advance(w.p, w.own, crc64.Update(w.own.CRC, b)) {
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
		return m.parts.check(nil)
	}
	if err := m.parts.check(m.content); err != nil {
		return err
	}
	owner := make([]*Part, len(m.content))
	for _, w := range m.workers {
		if !w.writing {
			continue
		}
		for i := range w.own.Size {
			at := w.own.Off + int64(i)
			if owner[at] != nil {
				return fmt.Errorf("two workers write byte %d", at)
			}
			owner[at] = w.p
		}
	}
	end := int64(0)
	for _, c := range m.parts.Snapshot(1 + m.next(8)) {
		if c.Off < end || c.Done < 1 || c.Done > c.Size || c.Off+c.Size > int64(len(m.content)) {
			return fmt.Errorf("claim %+v after %d", c, end)
		}
		end = c.Off + c.Size
	}
	for _, c := range m.parts.Snapshot(math.MaxInt) {
		if c.CRC != crc64.Update(0, m.content[c.Off:c.Off+c.Done]) {
			continue // claimed by an earlier run, and not verified yet
		}
		if i := slices.Index(m.written[c.Off:c.Off+c.Done], false); i >= 0 {
			return fmt.Errorf("claim %+v, but byte %d was never written", c, c.Off+int64(i))
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
		if sums := m.parts.Totals(); m.sized && sums.Done == sums.Size {
			if got, want := m.parts.Sum(), crc64.Update(0, m.content); got != want {
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
				m.parts.Unprove()
			case 1:
				m.parts.Reset()
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

// TestMapTrim checks that a part keeps as much as it is to, behind what is done, and that the others can be taken.
func TestMapTrim(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name   string
		done   int // in writes
		single bool
		keep   int64
		want   int64 // end of the part
	}{
		{"nothing done", 0, false, mib, mib},
		{"something done", 8, false, mib, 3 * mib},
		{"all is kept", 8, false, 6 * mib, 8 * mib},
		{"more than all", 8, false, 7 * mib, 8 * mib},
		{"nothing is no share", 8, false, 0, 8 * mib},
		{"one stream is never cut", 8, true, mib, 8 * mib},
	} {
		m := New(16 * mib)
		m.SetSingle(c.single)
		p := m.Take(func(int64) int64 { return 8 * mib })
		for range c.done {
			m.Advance(p, m.Hold(p, writeSize), 0)
		}
		m.Trim(p, c.keep)
		if p.End != c.want {
			t.Errorf("%s: the part ends at %d, want %d", c.name, p.End, c.want)
		}
		if next := m.Take(func(n int64) int64 { return n }); !c.single && (next == nil || next.Off != c.want || next.End != 16*mib) {
			t.Errorf("%s: the next part is %+v", c.name, next)
		}
		if err := m.check(nil); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestMapEndsWithABody checks that the map is finished once it is resized to what a body of unknown length has delivered.
func TestMapEndsWithABody(t *testing.T) {
	content := make([]byte, 20<<20)
	for i := range content {
		content[i] = byte(i >> 8)
	}
	for _, size := range []int{0, 1, mergeUnsynced - 1, mergeUnsynced, mergeUnsynced + 1, len(content)} {
		m := New(1000)
		p := m.Take(func(int64) int64 { return 1000 })
		m.SetSingle(true)
		m.Resize(1 << 62)
		m.Extend(p, 1<<62)
		for done := 0; done < size; {
			h := m.Hold(p, min(writeSize, size-done))
			m.Advance(p, h, crc64.Update(h.CRC, content[done:done+h.Size]))
			done += h.Size
		}
		available, changed := m.Wait(Terms{})
		if available || m.Finished() {
			t.Fatalf("%d bytes: available %t, finished %t before the end", size, available, m.Finished())
		}
		m.Resize(int64(size))
		if err := m.check(content); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		select {
		case <-changed:
		default:
			t.Errorf("%d bytes: nobody is told of the end", size)
		}
		m.GiveBack(p)
		if sums, want := m.Totals(), int64(size); !m.Finished() || sums.Size != want || sums.Done != want || m.Sum() != crc64.Update(0, content[:size]) {
			t.Errorf("%d bytes: %+v, finished %t", size, sums, m.Finished())
		}
	}
}

// TestSumFrom checks that the bytes from an offset on have a checksum only if all of them are there.
func TestSumFrom(t *testing.T) {
	content := []byte("the bytes of the object")
	size := int64(len(content))
	m := New(size)
	if err := errors.Join(
		m.Claim(span.Span{Off: 5, End: 10}, crc64.Update(0, content[5:10])), m.Claim(span.Span{Off: 10, End: size}, crc64.Update(0, content[10:])),
	); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[int64]bool{0: false, 4: false, 5: true, 7: false, 10: true, size - 1: false, size: true} {
		crc, done := m.SumFrom(n)
		if done != want || done && crc != crc64.Update(0, content[n:]) {
			t.Errorf("from %d: %d, %t", n, crc, done)
		}
	}
	p := m.Take(func(int64) int64 { return size })
	if _, done := m.SumFrom(0); done {
		t.Error("bytes that are being fetched have a checksum")
	}
	m.Advance(p, m.Hold(p, 5), crc64.Update(0, content[:5]))
	if crc, done := m.SumFrom(0); !done || crc != m.Sum() || crc != crc64.Update(0, content) {
		t.Errorf("all: %d, %t", crc, done)
	}
}

// TestMapMergesWithinBounds checks that done parts grow up to mergeUnsynced before a sync, and up to mergeShare after it.
func TestMapMergesWithinBounds(t *testing.T) {
	const size = 4 << 30
	m := New(size)
	fetch := func(n int64) {
		p := m.Take(func(int64) int64 { return n })
		for !m.Advance(p, m.Hold(p, writeSize), 0) {
		}
	}
	for range 100 {
		fetch(1 << 20)
	}
	longest := func() (n int64) {
		for _, c := range m.Snapshot(math.MaxInt) {
			n = max(n, c.Done)
		}
		return n
	}
	if got := longest(); got != mergeUnsynced {
		t.Errorf("longest unsynced claim %d, want %d", got, mergeUnsynced)
	}
	m.BeginSync()
	m.EndSync()
	if got, want := longest(), int64(size/mergeShare); got != want {
		t.Errorf("longest synced claim %d, want %d", got, want)
	}
	if err := m.check(nil); err != nil {
		t.Error(err)
	}
}

// TestMapDistrustsWhatWasNotSynced checks that distrust leaves only what a sync has covered.
func TestMapDistrustsWhatWasNotSynced(t *testing.T) {
	m := New(100)
	for i := range 5 {
		p := m.Take(func(int64) int64 { return 10 })
		m.Advance(p, m.Hold(p, 10), 0)
		if i == 2 {
			m.BeginSync()
			m.EndSync()
		}
	}
	p := m.Take(func(int64) int64 { return 10 })
	m.Advance(p, m.Hold(p, 5), 0)
	m.GiveBack(p)
	for _, off := range []int64{60, 70} {
		if err := m.Claim(span.Span{Off: off, End: off + 10}, 0); err != nil {
			t.Fatal(err)
		}
	}
	m.NextClaim() // one claim is being verified
	m.Distrust()
	if err := m.check(nil); err != nil {
		t.Error(err)
	}
	if got := m.Snapshot(MaxClaims); len(got) != 1 || got[0].Off != 0 || got[0].Done != 30 {
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
	fetch := func(m *Map, until int64) {
		for n := 1; m.Totals().Done < until; n++ {
			p := m.Take(func(int64) int64 { return piece })
			h := m.Hold(p, piece)
			crc := whole
			if h.Size != piece {
				crc = crcOfZeros(int64(h.Size))
			}
			if !m.Advance(p, h, crc) {
				t.Fatalf("%d bytes at %d are not all of [%d,%d)", h.Size, h.Off, p.Off, p.End)
			}
			if n%100 == 0 {
				m.BeginSync()
				m.EndSync()
			}
		}
	}
	first := New(size)
	fetch(first, size/2)
	claims := first.Snapshot(MaxClaims)
	if len(claims) > MaxClaims {
		t.Errorf("%d claims", len(claims))
	}
	second := New(size)
	for _, c := range claims {
		if err := second.Claim(span.Span{Off: c.Off, End: c.Off + c.Done}, c.CRC); err != nil {
			t.Fatal(err)
		}
	}
	for p, c := second.NextClaim(); p != nil; p, c = second.NextClaim() {
		if want := crcOfZeros(c.Done); c.CRC != want || c.Done != c.Size {
			t.Errorf("claim %+v: CRC-64 %d, want %d", c, c.CRC, want)
		}
		second.Proved(p, true)
	}
	if got, want := second.Totals().Done, first.Totals().Done; got != want {
		t.Errorf("%d bytes kept of %d", got, want)
	}
	fetch(second, size)
	if got, want := second.Sum(), crcOfZeros(size); got != want {
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
		m := New(1e6 << 10)
		var parts [8]*Part
		for n := 0; ; n++ {
			w := n % len(parts)
			if parts[w] != nil {
				m.Advance(parts[w], m.Hold(parts[w], 1<<10), 0)
			}
			if parts[w] = m.Take(func(int64) int64 { return 1 << 10 }); parts[w] == nil {
				break
			}
			if n%4096 == 0 {
				m.BeginSync()
				m.EndSync()
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e6, "ns/part")
}

// TestMapClaimsWithin checks that a claim which does not hold leaves the older claims within it, once, and that one which holds leaves
// none.
func TestMapClaimsWithin(t *testing.T) {
	claim := func(m *Map, off, end int64) {
		t.Helper()
		if err := m.Claim(span.Span{Off: off, End: end}, 1); err != nil {
			t.Fatal(err)
		}
	}
	next := func(m *Map, off, end int64, holds bool) {
		t.Helper()
		p, c := m.NextClaim()
		if p == nil || c.Off != off || c.Off+c.Done != end {
			t.Fatalf("next claim %+v, want [%d,%d)", c, off, end)
		}
		m.Proved(p, holds)
	}
	m := New(100)
	claim(m, 10, 50)
	m.ClaimWithin(span.Span{Off: 10, End: 20}, 1)
	m.ClaimWithin(span.Span{Off: 30, End: 40}, 1)
	m.ClaimWithin(span.Span{Off: 40, End: 60}, 1) // not within
	spans := func(claims []Claim) (out []span.Span) {
		for _, c := range claims {
			out = append(out, span.Span{Off: c.Off, End: c.Off + c.Done})
		}
		return out
	}
	if got, want := spans(m.Snapshot(10)), []span.Span{{Off: 10, End: 50}}; !slices.Equal(got, want) {
		t.Errorf("the snapshot has %v, want %v", got, want)
	}
	if got, want := spans(m.SafeSnapshot(10)), []span.Span{{Off: 10, End: 20}, {Off: 30, End: 40}}; !slices.Equal(got, want) {
		t.Errorf("the safe snapshot has %v, want %v", got, want)
	}
	next(m, 10, 50, false)
	if n := m.Totals().Have; n != 20 {
		t.Errorf("%d bytes are claimed after the newer claim was disproved, want 20", n)
	}
	next(m, 10, 20, false)
	next(m, 30, 40, true)
	if p, c := m.NextClaim(); p != nil || m.Totals() != (Totals{Size: 100, Done: 10, Have: 10}) {
		t.Errorf("%+v is claimed once more; %+v", c, m.Totals())
	}
	m = New(100)
	claim(m, 0, 50)
	m.ClaimWithin(span.Span{Off: 0, End: 20}, 1)
	if !m.Undecided() {
		t.Error("decided before anything is proved")
	}
	next(m, 0, 50, true)
	if got := spans(m.SafeSnapshot(10)); m.Undecided() || !slices.Equal(got, []span.Span{{Off: 0, End: 50}}) {
		t.Errorf("undecided, or the safe snapshot has %v, after the claim was proved", got)
	}
	m = New(100)
	claim(m, 0, 50)
	m.ClaimWithin(span.Span{Off: 0, End: 20}, 1)
	m.Reset()
	claim(m, 0, 50)
	next(m, 0, 50, false)
	if m.Totals().Have != 0 {
		t.Errorf("an older claim is left of before the reset: %+v", m.Totals())
	}
}
