package ossdl

import (
	"testing"

	"github.com/ossdl/ossdl/internal/osstest"
)

// TestHugeObjectInTheSet fetches, as far as the set is concerned, all of the largest object there can be, with a crash in
// its middle: no number overflows, the checkpoint stays small, and the CRC-64 of a million ranges is that of the object.
func TestHugeObjectInTheSet(t *testing.T) {
	const piece = 512 << 20
	whole := osstest.Zeros(piece).CRC64()
	fetch := func(s *set, until int64) {
		for n := 1; s.totals().done < until; n++ {
			p := s.take(func(int64) int64 { return piece })
			h := s.hold(p, piece)
			crc := whole
			if h.size != piece {
				crc = osstest.Zeros(int64(h.size)).CRC64()
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
	s := newSet(largestObject)
	fetch(s, largestObject/2)
	c := goodCheckpoint()
	c.Size = largestObject
	data, err := c.encode(s.snapshot)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = decodeCheckpoint(data); err != nil {
		t.Fatal(err)
	}
	done := s.totals().done
	if s, err = c.set(); err != nil {
		t.Fatal(err)
	}
	for p := s.nextClaim(); p != nil; p = s.nextClaim() {
		s.proved(p, true)
	}
	if got := s.totals(); got.done != done || got.size != largestObject {
		t.Errorf("%d of %d bytes kept of %d", got.done, got.size, done)
	}
	fetch(s, largestObject)
	if got, want := s.sum(), osstest.Zeros(largestObject).CRC64(); got != want {
		t.Errorf("CRC-64 %d, want %d", got, want)
	}
	if n := len(s.snapshot(1 << 20)); n > 512 {
		t.Errorf("%d parts in the end", n)
	}
}

// largestObject is the size of the largest object that OSS stores.
const largestObject = 48_800_000_000_000
