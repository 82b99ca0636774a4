package crc64

import (
	"fmt"
	"hash/crc64"
	"testing"
)

func BenchmarkUpdate(b *testing.B) {
	buffer := random(9, 1<<20)
	for _, size := range []int{16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 256 << 10, 1 << 20} {
		p := buffer[:size]
		run := func(name string, update func(crc uint64, p []byte) uint64) {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				b.SetBytes(int64(size))
				crc := uint64(0)
				for b.Loop() {
					crc = update(crc, p)
				}
			})
		}
		run("hash", func(crc uint64, p []byte) uint64 { return crc64.Update(crc, ecma, p) })
		forEachLevel(func(name string, l level) { run(name, l.update) })
		run("Update", Update)
	}
}

func BenchmarkCombine(b *testing.B) {
	for _, n := range []int64{1, 1 << 20, 1<<20 - 1, 5<<40 + 12345, 1<<62 - 1} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			crc := uint64(1)
			for b.Loop() {
				crc = Combine(crc, 0x995dc9bbdf1939fa, n)
			}
		})
	}
}
