package readahead

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/osstest"
	"github.com/ossdl/ossdl/internal/span"
)

// TestReadAheadSink checks that pieces written in any order are read in theirs, and that memory and horizon keep their bounds.
func TestReadAheadSink(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		c := osstest.Random(rng.Uint64(), rng.Int64N(3<<20))
		want := make([]byte, c.Size())
		if _, err := c.ReadAt(want, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		horizon := int64(1 << 20)
		a := New(new(engine.Buffers), horizon)
		a.Follow(func() int64 { return 100_000 }, func(end int64) {
			if end <= horizon {
				t.Errorf("horizon moved from %d to %d", horizon, end)
			}
			horizon = end
		})
		a.SetSize(c.Size())
		var got []byte
		var ready []span.Span
		for off := int64(0); len(got) < len(want) || off < c.Size(); {
			for off < min(horizon, c.Size()) {
				end := min(off+1+rng.Int64N(300_000), horizon, c.Size())
				ready = append(ready, span.Span{Off: off, End: end})
				off = end
			}
			rng.Shuffle(len(ready), func(i, j int) { ready[i], ready[j] = ready[j], ready[i] })
			for range min(len(ready), 3) {
				sp := ready[0]
				ready = ready[1:]
				if n, err := a.WriteAt(want[sp.Off:sp.End], sp.Off); n != int(sp.Len()) || err != nil {
					t.Fatal(n, err)
				}
			}
			for {
				b, err := a.TryNext()
				if err != nil || len(b) == 0 {
					break
				}
				b = b[:1+rng.IntN(len(b))]
				got = append(got, b...)
				a.Drop(len(b))
			}
			if n := int64(len(a.blocks)) * engine.BufferSize; n > 1<<20+engine.BufferSize {
				t.Fatalf("%d bytes held", n)
			}
		}
		if _, err := a.Next(); err != io.EOF || !bytes.Equal(got, want) || len(a.blocks) != 0 {
			t.Fatalf("%v, %d bytes, %d blocks", err, len(got), len(a.blocks))
		}
	}
}
