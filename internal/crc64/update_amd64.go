//go:build !purego

package crc64

import "golang.org/x/sys/cpu"

// level is a set of instructions, which includes those of the levels before it.
type level int

const (
	portable level = iota
	sse            // PCLMULQDQ, and PSHUFB of SSSE3
	avx2           // VPCLMULQDQ of 32 bytes
	avx512         // VPCLMULQDQ of 64 bytes
)

func detect() level {
	// HasAVX2 and HasAVX512F are only set where the operating system saves the registers. x/sys/cpu reports VPCLMULQDQ
	// for AVX-512 alone, but processors without AVX-512 have it, too: it is bit 10 of ECX in leaf 7.
	switch x86 := &cpu.X86; {
	case !x86.HasPCLMULQDQ || !x86.HasSSSE3:
		return portable
	case !x86.HasAVX2 || leaf7()&(1<<10) == 0:
		return sse
	case !x86.HasAVX512F:
		return avx2
	default:
		return avx512
	}
}

func (l level) update(crc uint64, p []byte) uint64 {
	switch n := len(p); {
	case n >= 512 && l >= avx512:
		return foldAVX512(crc, p, &constants)
	case n >= 256 && l >= avx2:
		return foldAVX2(crc, p, &constants)
	case n >= 16 && l >= sse:
		return foldSSE(crc, p, &constants)
	default:
		return updatePortable(crc, p)
	}
}

// foldSSE is Update of at least 16 bytes.
//
//go:noescape
func foldSSE(crc uint64, p []byte, k *folding) uint64

// foldAVX2 is Update of at least 256 bytes.
//
//go:noescape
func foldAVX2(crc uint64, p []byte, k *folding) uint64

// foldAVX512 is Update of at least 512 bytes.
//
//go:noescape
func foldAVX512(crc uint64, p []byte, k *folding) uint64

// leaf7 returns ECX of CPUID leaf 7, subleaf 0. A processor with AVX2 has that leaf.
func leaf7() (ecx uint32)
