package osstest_test

import (
	"bytes"
	"hash/crc64"
	"math/rand/v2"
	"testing"

	"github.com/ossdl/ossdl/internal/osstest"
)

func TestContentCRC(t *testing.T) {
	const period = 1<<20 - 3
	table := crc64.MakeTable(crc64.ECMA)
	for _, size := range []int64{0, 1, 7, 8, 9, 4096, period - 1, period, period + 1, period + 7, period + 8, 2 * period, 3*period + 5, 7<<20 + 77} {
		for name, c := range map[string]osstest.Content{"random": osstest.Random(uint64(size), size), "zeros": osstest.Zeros(size)} {
			b := all(t, c)
			if int64(len(b)) != size {
				t.Fatalf("%s: %d bytes, want %d", name, len(b), size)
			}
			if got, want := c.CRC64(), crc64.Checksum(b, table); got != want {
				t.Errorf("%s of %d: CRC %x, want %x", name, size, got, want)
			}
		}
	}
	if got := osstest.Zeros(1 << 20).CRC64(); got != 6947770692288575170 {
		t.Errorf("zeros of 1 MiB: %d", got)
	}
}

func TestContentReadAt(t *testing.T) {
	c := osstest.Random(5, 5<<20)
	whole := all(t, c)
	for range 50 {
		off := rand.Int64N(5 << 20)
		n := rand.Int64N(min(2<<20, 5<<20-off))
		got := make([]byte, n)
		if _, err := c.ReadAt(got, off); err != nil || !bytes.Equal(got, whole[off:off+n]) {
			t.Fatalf("read of %d at %d differs, %v", n, off, err)
		}
	}
	if bytes.Equal(whole[:1<<20], whole[1<<20:2<<20]) {
		t.Error("repeats itself")
	}
	huge := osstest.Random(5, 1<<62)
	a, b := make([]byte, 64), make([]byte, 64)
	for i, off := range []int64{1<<62 - 64, 1<<62 - 64 - (1<<20 - 3)} {
		if _, err := huge.ReadAt([][]byte{a, b}[i], off); err != nil {
			t.Fatal(err)
		}
	}
	_ = huge.CRC64()
}
