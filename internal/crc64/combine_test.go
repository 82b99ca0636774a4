package crc64

import (
	"hash/crc64"
	"math/rand/v2"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

func TestCombine(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	p := random(6, 100_000)
	for range 300 {
		end := r.IntN(1 + r.IntN(len(p)))
		cut := r.IntN(end + 1)
		a, b := crc64.Checksum(p[:cut], ecma), crc64.Checksum(p[cut:end], ecma)
		want := crc64.Checksum(p[:end], ecma)
		if got := Combine(a, b, int64(end-cut)); got != want {
			t.Fatalf("Combine of %d and %d bytes = %#x, want %#x", cut, end-cut, got, want)
		}
	}
}

func TestCombineWithNothing(t *testing.T) {
	for _, crc := range []uint64{0, 1, 0x995dc9bbdf1939fa, ^uint64(0)} {
		for _, nothing := range []uint64{0, 1} { // 1 cannot be, but is ignored by the SDK, too
			if got := Combine(crc, nothing, 0); got != crc {
				t.Errorf("Combine(%#x, %#x, 0) = %#x, want crcA", crc, nothing, got)
			}
		}
		if got := Combine(0, crc, 1<<40); got != crc {
			t.Errorf("Combine(0, %#x, 1<<40) = %#x, want crcB", crc, got)
		}
	}
}

func TestCombineAsTheSDK(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for shift := range 63 {
		for _, n := range []int64{1 << shift, 1<<shift - 1, 1<<shift | r.Int64N(1<<shift)} {
			a, b := r.Uint64(), r.Uint64()
			if got, want := Combine(a, b, n), oss.CRC64Combine(a, b, uint64(n)); got != want {
				t.Errorf("Combine(%#x, %#x, %d) = %#x, want %#x", a, b, n, got, want)
			}
		}
	}
}

func TestCombineInAnyOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for range 1000 {
		a, b, c := r.Uint64(), r.Uint64(), r.Uint64()
		lenB, lenC := 1+r.Int64N(1<<r.IntN(62)), 1+r.Int64N(1<<r.IntN(62))
		leftFirst := Combine(Combine(a, b, lenB), c, lenC)
		rightFirst := Combine(a, Combine(b, c, lenC), lenB+lenC)
		if leftFirst != rightFirst {
			t.Fatalf("(%#x‖%#x)‖%#x with lengths %d and %d = %#x, and with the right first %#x", a, b, c, lenB, lenC, leftFirst, rightFirst)
		}
	}
}

func TestCombineDoesNotAllocate(t *testing.T) {
	crc := uint64(1)
	if n := testing.AllocsPerRun(10, func() { crc = Combine(crc, 2, 1<<62-1) }); n != 0 {
		t.Errorf("Combine allocates %g times", n)
	}
}

func FuzzCombine(f *testing.F) {
	f.Add([]byte("12345"), []byte("6789"), int64(1<<62))
	f.Add([]byte(""), []byte("a"), int64(0))
	f.Add(random(7, 1000), random(8, 300), int64(5<<30))
	f.Fuzz(func(t *testing.T, a, b []byte, n int64) {
		crcA, crcB := crc64.Checksum(a, ecma), crc64.Checksum(b, ecma)
		if got, want := Combine(crcA, crcB, int64(len(b))), crc64.Update(crcA, ecma, b); got != want {
			t.Errorf("Combine of %x and %x = %#x, want %#x", a, b, got, want)
		}
		n &= 1<<63 - 1
		if got, want := Combine(crcA, crcB, n), oss.CRC64Combine(crcA, crcB, uint64(n)); got != want {
			t.Errorf("Combine(%#x, %#x, %d) = %#x, want %#x", crcA, crcB, n, got, want)
		}
	})
}
