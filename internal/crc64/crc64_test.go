package crc64

import (
	"hash/crc64"
	"math/rand/v2"
	"testing"
)

var ecma = crc64.MakeTable(crc64.ECMA)

func TestCombine(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, 5000)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	for range 2000 {
		end := r.IntN(len(p) + 1)
		cut := r.IntN(end + 1)
		want := crc64.Checksum(p[:end], ecma)
		if got := Combine(Update(0, p[:cut]), Update(0, p[cut:end]), int64(end-cut)); got != want {
			t.Fatalf("Combine of %d and %d bytes = %#x, want %#x", cut, end-cut, got, want)
		}
	}
}
