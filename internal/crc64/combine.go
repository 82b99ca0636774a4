package crc64

// polynomial is P = x^64 + x^62 + x^57 + … + x + 1 of ECMA-182 without its term x^64, bit-reflected as everything here:
// bit 63 is the coefficient of x^0 and bit 0 that of x^63.
const polynomial = 0xC96C5795D7870F42

// one is the polynomial 1 and oneByte is x^8, reflected.
const (
	one     = 1 << 63
	oneByte = one >> 8
)

// shifts[i][d] is x^(8·d·16^i) mod P: the factor that moves a polynomial past d·16^i bytes.
var shifts = makeShifts()

func makeShifts() (s [16][16]uint64) {
	step := uint64(oneByte)
	for i := range s {
		s[i][0] = one
		for d := 1; d < 16; d++ {
			s[i][d] = multiply(s[i][d-1], step)
		}
		step = multiply(s[i][15], step)
	}
	return s
}

// Combine returns the CRC-64 of A followed by B, from the CRC-64 of A, that of B, and the length of B in bytes.
// It takes one multiplication per non-zero hexadecimal digit of lenB. lenB must not be negative.
func Combine(crcA, crcB uint64, lenB int64) uint64 {
	// crc(A‖B) = crc(A)·x^(8·lenB) + crc(B) mod P. The initial and final inversions add the same term to both
	// sides, since they are equal, and drop out.
	for i, n := 0, uint64(lenB); n != 0; i, n = i+1, n>>4 {
		if d := n & 15; d != 0 {
			crcA = multiply(crcA, shifts[i][d])
		}
	}
	return crcA ^ crcB
}

// multiply returns a·b mod P.
func multiply(a, b uint64) (product uint64) {
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 63)    // the coefficient of x^0 that is left in a
		b = b>>1 ^ polynomial&-(b&1) // b·x, its x^64 replaced by P - x^64
	}
	return product
}
