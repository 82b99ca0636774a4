package crc64

// A polynomial over GF(2) of degree 63 or less is held bit-reflected in a uint64, in the order in which CRC-64/XZ
// sends bits: bit 63 is the coefficient of x^0 and bit 0 that of x^63. Multiplying by x is then a shift to the right,
// and addition is exclusive or.
const (
	// polynomial is P of ECMA-182, x^64 + x^62 + x^57 + … + x + 1, without its x^64. It is crc64.ECMA of hash/crc64.
	polynomial = 0xC96C5795D7870F42

	one     = 1 << 63  // 1
	oneByte = one >> 8 // x^8: moves a polynomial past one byte
)

// timesX returns a·x mod P.
func timesX(a uint64) uint64 {
	return a>>1 ^ polynomial&-(a&1) // an x^64 that comes out is replaced by x^64 mod P
}

// multiply returns a·b mod P.
func multiply(a, b uint64) (product uint64) {
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 63)
		b = timesX(b)
	}
	return product
}

// power returns x^n mod P.
func power(n int) uint64 {
	result, square := uint64(one), uint64(one>>1)
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			result = multiply(result, square)
		}
		square = multiply(square, square)
	}
	return result
}
