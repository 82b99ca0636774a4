package ossdl

import (
	"testing"

	"github.com/ossdl/ossdl/internal/osstest"
	"github.com/ossdl/ossdl/internal/parts"
)

// TestHugeObjectInTheSet fetches, as far as the set is concerned, all of the largest object there can be, with a crash in
// its middle: no number overflows, the checkpoint stays small, and the CRC-64 of a million ranges is that of the object.
func TestHugeObjectInTheSet(t *testing.T) {
	const piece = 512 << 20
	whole := osstest.Zeros(piece).CRC64()
	fetch := func(s *parts.Map, until int64) {
		for n := 1; s.Totals().Done < until; n++ {
			p := s.Take(func(int64) int64 { return piece })
			h := s.Hold(p, piece)
			crc := whole
			if h.Size != piece {
				crc = osstest.Zeros(int64(h.Size)).CRC64()
			}
			if !s.Advance(p, h, crc) {
				t.Fatalf("%d bytes at %d are not all of [%d,%d)", h.Size, h.Off, p.Off, p.End)
			}
			if n%100 == 0 {
				s.BeginSync()
				s.EndSync()
			}
		}
	}
	s := parts.New(largestObject)
	fetch(s, largestObject/2)
	c := goodCheckpoint()
	c.Size = largestObject
	data, err := c.encode(s.Snapshot)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = decodeCheckpoint(data); err != nil {
		t.Fatal(err)
	}
	done := s.Totals().Done
	if s, err = c.set(); err != nil {
		t.Fatal(err)
	}
	for p, _ := s.NextClaim(); p != nil; p, _ = s.NextClaim() {
		s.Proved(p, true)
	}
	if got := s.Totals(); got.Done != done || got.Size != largestObject {
		t.Errorf("%d of %d bytes kept of %d", got.Done, got.Size, done)
	}
	fetch(s, largestObject)
	if got, want := s.Sum(), osstest.Zeros(largestObject).CRC64(); got != want {
		t.Errorf("CRC-64 %d, want %d", got, want)
	}
	if n := len(s.Snapshot(1 << 20)); n > 512 {
		t.Errorf("%d parts in the end", n)
	}
}

// largestObject is the size of the largest object that OSS stores.
const largestObject = 48_800_000_000_000
