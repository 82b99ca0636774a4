//go:build (amd64 || arm64) && !purego

package crc64

import "testing"

// The constants are what the comment in folding.go says, derived again with the arithmetic of poly_test.go.
func TestFoldingConstants(t *testing.T) {
	for d, got := range map[int]factors{
		4096: constants.by4096,
		2048: constants.by2048,
		1024: constants.by1024,
		512:  constants.by512,
		256:  constants.by256,
		128:  constants.by128,
	} {
		if want := (factors{high: remainderOf(d + 63), low: remainderOf(d - 1)}); got != want {
			t.Errorf("factors by %d: %#x, want %#x", d, got, want)
		}
	}
	// Without their lowest coefficient, M and P are of degree 63 after a division by x.
	m, _ := divide(monomial(128))
	if got, want := constants.barrett.m, reflected(m.Rsh(m, 1)); got != want {
		t.Errorf("M: %#x, want %#x", got, want)
	}
	p := modulus()
	if p.Bit(0) != 1 {
		t.Error("the lowest coefficient of P is not 1, which the reduction takes for granted")
	}
	if got, want := constants.barrett.p, reflected(p.Rsh(p, 1)); got != want {
		t.Errorf("P: %#x, want %#x", got, want)
	}
}
