package crc64

import (
	"math/big"
	"math/bits"
	"math/rand/v2"
	"testing"
)

// These tests compute a second time, as on paper: without reflection and without a word size. Bit i of a big.Int is the
// coefficient of x^i.

// modulus returns P as ECMA-182 has it.
func modulus() *big.Int {
	p := big.NewInt(0x42F0E1EBA9EA3693)
	return p.SetBit(p, 64, 1)
}

// monomial returns x^n.
func monomial(n int) *big.Int { return new(big.Int).Lsh(big.NewInt(1), uint(n)) }

// divide returns the quotient and the remainder of a by P.
func divide(a *big.Int) (quotient, remainder *big.Int) {
	p := modulus()
	quotient, remainder = new(big.Int), new(big.Int).Set(a)
	for remainder.BitLen() >= p.BitLen() {
		shift := remainder.BitLen() - p.BitLen()
		quotient.SetBit(quotient, shift, 1)
		remainder.Xor(remainder, new(big.Int).Lsh(p, uint(shift)))
	}
	return quotient, remainder
}

// plain returns the polynomial that a holds reflected.
func plain(a uint64) *big.Int { return new(big.Int).SetUint64(bits.Reverse64(a)) }

// reflected returns the coefficients x^63 to x^0 of a, reflected.
func reflected(a *big.Int) uint64 {
	low := new(big.Int).And(a, new(big.Int).SetUint64(^uint64(0)))
	return bits.Reverse64(low.Uint64())
}

// remainderOf returns x^n mod P, reflected.
func remainderOf(n int) uint64 {
	_, r := divide(monomial(n))
	return reflected(r)
}

func TestPolynomial(t *testing.T) {
	if got := reflected(modulus()); got != polynomial {
		t.Errorf("P without x^64, reflected: %#x, want %#x", uint64(polynomial), got)
	}
}

func TestMultiply(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 1000 {
		a, b := r.Uint64(), r.Uint64()
		product := new(big.Int)
		for i := range 64 {
			if plain(a).Bit(i) == 1 {
				product.Xor(product, new(big.Int).Lsh(plain(b), uint(i)))
			}
		}
		_, want := divide(product)
		if got := multiply(a, b); got != reflected(want) {
			t.Fatalf("multiply(%#x, %#x) = %#x, want %#x", a, b, got, reflected(want))
		}
	}
}

func TestPower(t *testing.T) {
	for n := range 300 {
		if got, want := power(n), remainderOf(n); got != want {
			t.Fatalf("power(%d) = %#x, want %#x", n, got, want)
		}
	}
}
