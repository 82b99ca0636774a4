package crc64

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
// If lenB is 0 that is crcA; lenB must not be negative. The cost is one multiplication for every hexadecimal digit of
// lenB that is not 0.
func Combine(crcA, crcB uint64, lenB int64) uint64 {
	if lenB == 0 {
		return crcA
	}
	// crc(A‖B) = crc(A)·x^(8·lenB) + crc(B). Each CRC starts from an inverted register and inverts the result: the
	// last inversion of A, moved past B, cancels the first one of B, and the last one of B is that of the whole.
	for i, n := 0, uint64(lenB); n != 0; i, n = i+1, n>>4 {
		if d := n & 15; d != 0 {
			crcA = multiply(crcA, shifts[i][d])
		}
	}
	return crcA ^ crcB
}
