//go:build !purego

package crc64

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/cpu"
)

// With AVX-512 x/sys/cpu reports VPCLMULQDQ and is the witness for our own look at it.
func TestDetect(t *testing.T) {
	if !cpu.X86.HasAVX512F || strings.Contains(os.Getenv("GODEBUG"), "cpu.") {
		t.Skip("no AVX-512, or some of it switched off by GODEBUG")
	}
	vpclmulqdq := cpu.X86.HasAVX512VPCLMULQDQ
	if got := leaf7()&(1<<10) != 0; got != vpclmulqdq {
		t.Errorf("VPCLMULQDQ by leaf 7: %t, by x/sys/cpu: %t", got, vpclmulqdq)
	}
	if got := detect() == avx512; got != vpclmulqdq {
		t.Errorf("detect() = %d with VPCLMULQDQ %t", detect(), vpclmulqdq)
	}
}
