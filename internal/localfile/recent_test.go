package localfile

import (
	"bytes"
	"testing"
)

// TestSlotThatIsTorn checks that a slot counts only as it was written: not cut short, and not with any byte changed.
func TestSlotThatIsTorn(t *testing.T) {
	data := []byte("what was done")
	whole := encodeSlot(7, Bases{1, 2}, data)
	r, ok := decodeSlot(append(bytes.Clone(whole), make([]byte, 100)...))
	if !ok || r.seq != 7 || r.Bases != (Bases{1, 2}) || !bytes.Equal(r.Data, data) {
		t.Fatalf("%+v, %v", r, ok)
	}
	for n := range whole {
		if _, ok := decodeSlot(whole[:n]); ok {
			t.Errorf("the first %d bytes count", n)
		}
		torn := bytes.Clone(whole)
		torn[n] ^= 1
		if _, ok := decodeSlot(torn); ok {
			t.Errorf("it counts with byte %d changed", n)
		}
	}
}
