package checkpoints

import (
	"encoding/binary"
	"slices"

	"github.com/ossdl/ossdl/internal/crc64"
)

// The format of a file of recent saves, which has two slots. Numbers are big-endian.
const (
	RecentMagic = "ossdlrs1"
	SlotSize    = 68 << 10 // where the second slot begins
	SlotHead    = 48       // bytes before the document
)

// Slot is one of the two slots.
type Slot struct {
	Seq   uint64
	Bases [2]uint64 // CRC-64 of the checkpoints that it continues; 0: of none
	Data  []byte    // a document
}

// Encode returns the slot as a run writes it.
func (s Slot) Encode() []byte {
	head := []byte(RecentMagic)
	for _, n := range []uint64{s.Seq, s.Bases[0], s.Bases[1], uint64(len(s.Data))} {
		head = binary.BigEndian.AppendUint64(head, n)
	}
	sum := crc64.Update(0, slices.Concat(head, s.Data))
	return slices.Concat(binary.BigEndian.AppendUint64(head, sum), s.Data)
}

// Slots returns the slots of a file that are whole.
func Slots(file []byte) (whole []Slot) {
	for off := 0; off < 2*SlotSize && off+SlotHead <= len(file); off += SlotSize {
		b := file[off:min(off+SlotSize, len(file))]
		n := binary.BigEndian.Uint64(b[32:])
		if n > uint64(len(b)-SlotHead) {
			continue
		}
		b = b[:SlotHead+int(n)]
		s := Slot{
			Seq:   binary.BigEndian.Uint64(b[8:]),
			Bases: [2]uint64{binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint64(b[24:])},
			Data:  b[SlotHead:],
		}
		if string(s.Encode()) == string(b) {
			whole = append(whole, s)
		}
	}
	return whole
}

// Later returns what a run goes by that finds this checkpoint and this file of recent saves: the newest slot that continues the
// checkpoint and claims more, or else the checkpoint. older are claims of the checkpoint that count where those which they lie
// in do not hold. A nil checkpoint is one that is not there, which a slot can continue, too; d is nil if there is no such slot.
func Later(checkpoint, file []byte) (d *Document, older []Part, err error) {
	var base *Document
	if checkpoint != nil {
		if base, err = Decode(checkpoint); err != nil {
			return nil, nil, err
		}
	}
	slots := Slots(file)
	slices.SortFunc(slots, func(a, b Slot) int {
		if a.Seq > b.Seq {
			return -1
		}
		return 1
	})
	for _, s := range slots {
		later, err := Decode(s.Data)
		if err != nil || !slices.Contains(s.Bases[:], crc64.Update(0, checkpoint)) {
			continue
		}
		if base == nil {
			return later, nil, nil
		}
		if !sameDownload(base, later) {
			continue
		}
		d, older := withOlder(later, base.Parts)
		if Total(d.Spans()) > Total(base.Spans()) {
			return d, older, nil
		}
	}
	return base, nil, nil
}

// sameDownload reports whether two documents differ in their parts at most.
func sameDownload(a, b *Document) bool {
	x, y := *a, *b
	x.Parts, y.Parts = nil, nil
	s, errX := x.Encode()
	t, errY := y.Encode()
	return errX == nil && errY == nil && string(s) == string(t)
}

// withOlder returns a document with the claims of an older one. Where a claim of d overlaps an older one that does not lie in it,
// the older one counts. Those that lie in a claim of d are returned apart.
func withOlder(d *Document, parts []Part) (sum *Document, inside []Part) {
	c := *d
	c.Parts = nil
	for _, p := range d.Parts {
		clash := false
		for _, o := range parts {
			apart := o.Span().End <= p.Offset || p.Span().End <= o.Offset
			clash = clash || !apart && !p.Span().covers(o.Span())
		}
		if !clash {
			c.Parts = append(c.Parts, p)
		}
	}
	newer := c.Parts
	for _, o := range parts {
		if slices.ContainsFunc(newer, func(p Part) bool { return p.Span().covers(o.Span()) }) {
			inside = append(inside, o)
		} else {
			c.Parts = append(c.Parts, o)
		}
	}
	return &c, inside
}

// covers reports whether all bytes of o are of s.
func (s Span) covers(o Span) bool { return s.Off <= o.Off && o.End <= s.End }
