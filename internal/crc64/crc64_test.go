package crc64

import (
	"bytes"
	"hash/crc64"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

var ecma = crc64.MakeTable(crc64.ECMA)

// forEachLevel calls f with each level of this machine, not only with the one that Update runs at.
func forEachLevel(f func(name string, l level)) {
	names := map[string][]string{
		"amd64": {"portable", "SSE", "AVX2", "AVX-512"},
		"arm64": {"portable", "PMULL"},
	}[runtime.GOARCH]
	f("portable", 0)
	for l := level(1); l <= machine; l++ {
		f(names[l], l)
	}
}

// random returns n bytes, the same for the same seed.
func random(seed byte, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

func TestVectors(t *testing.T) {
	for _, v := range []struct {
		data string
		want uint64
	}{
		{"", 0},
		{"a", 0x330284772e652b05},
		{"abc", 0x2cd8094a1a277627},
		{"hello world", 0x53037ecdef2352da},
		{"123456789", 0x995dc9bbdf1939fa}, // the check value of CRC-64/XZ in the catalogue of parametrised CRCs
		{"This is a test of the emergency broadcast system.", 0x27db187fc15bbc72},
		{strings.Repeat("\x00", 1<<20), 6947770692288575170},
	} {
		forEachLevel(func(name string, l level) {
			if got := l.update(0, []byte(v.data)); got != v.want {
				t.Errorf("%s: CRC-64 of %.50q, %d bytes: %#x, want %#x", name, v.data, len(v.data), got, v.want)
			}
		})
	}
}

func TestEveryLengthAndAlignment(t *testing.T) {
	const lengths, alignments = 4096, 64
	p := random(1, alignments+lengths+alignments)
	p = p[-uintptr(unsafe.Pointer(&p[0]))%alignments:]
	forEachLevel(func(name string, l level) {
		t.Run(name, func(t *testing.T) {
			for at := range alignments {
				crc := uint64(at) * 0x9e3779b97f4a7c15
				want := crc
				for n := range lengths + 1 {
					if n > 0 {
						want = crc64.Update(want, ecma, p[at+n-1:at+n])
					}
					if got := l.update(crc, p[at:at+n]); got != want {
						t.Fatalf("CRC-64 of %d bytes at %d mod 64, from %#x: %#x, want %#x", n, at, crc, got, want)
					}
				}
			}
		})
	})
}

func TestPieces(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	p := random(2, 1<<20)
	for range 50 {
		end := r.IntN(len(p) + 1)
		want := crc64.Checksum(p[:end], ecma)
		got := uint64(0)
		var cuts []int
		for at := 0; at < end; cuts = append(cuts, at) {
			n := min(1+r.IntN(1<<r.IntN(20)), end-at)
			got = Update(got, p[at:at+n])
			at += n
		}
		if got != want {
			t.Fatalf("CRC-64 in pieces ending at %d: %#x, want %#x", cuts, got, want)
		}
	}
}

func TestNew(t *testing.T) {
	p := random(3, 3000)
	got, want := New(), crc64.New(ecma)
	same := func(when string) {
		t.Helper()
		if got.Sum64() != want.Sum64() {
			t.Errorf("%s: Sum64 %#x, want %#x", when, got.Sum64(), want.Sum64())
		}
		if g, w := got.Sum([]byte("x")), want.Sum([]byte("x")); !bytes.Equal(g, w) {
			t.Errorf("%s: Sum %x, want %x", when, g, w)
		}
	}
	same("empty")
	for _, piece := range [][]byte{p[:1], p[1:1], p[1:700], p[700:]} {
		if n, err := got.Write(piece); n != len(piece) || err != nil {
			t.Errorf("Write of %d bytes: %d, %v", len(piece), n, err)
		}
		want.Write(piece)
		same("written")
	}
	got.Reset()
	want.Reset()
	same("reset")
	if got.Size() != want.Size() || got.BlockSize() != want.BlockSize() {
		t.Errorf("Size %d, BlockSize %d, want %d, %d", got.Size(), got.BlockSize(), want.Size(), want.BlockSize())
	}
}

// A buffer on the caller's stack stays there.
func TestUpdateDoesNotAllocate(t *testing.T) {
	crc := uint64(0)
	if n := testing.AllocsPerRun(10, func() {
		var p [1000]byte
		for i := range p {
			p[i] = byte(i)
		}
		crc = Update(crc, p[:])
	}); n != 0 {
		t.Errorf("Update of an array allocates %g times", n)
	}
}

func FuzzUpdate(f *testing.F) {
	f.Add(uint64(0), []byte("123456789"), uint(4))
	f.Add(^uint64(0), bytes.Repeat([]byte{0xff}, 1023), uint(511))
	f.Add(uint64(1), random(4, 1700), uint(1101))
	f.Fuzz(func(t *testing.T, crc uint64, p []byte, cut uint) {
		cut %= uint(len(p)) + 1
		want := crc64.Update(crc, ecma, p)
		forEachLevel(func(name string, l level) {
			if got := l.update(l.update(crc, p[:cut]), p[cut:]); got != want {
				t.Errorf("%s: CRC-64 of %x cut at %d, from %#x: %#x, want %#x", name, p, cut, crc, got, want)
			}
		})
	})
}
