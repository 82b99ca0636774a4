//go:build (amd64 || arm64) && !purego

package crc64

// Folding is how the assembly computes a CRC with carry-less multiplication, after Gopal and others, "Fast CRC
// Computation for Generic Polynomials Using PCLMULQDQ Instruction", Intel, 2009.
//
// # Lanes
//
// The message is read in lanes of 16 bytes. Loaded little-endian into a 128-bit register, a lane has its first bit in
// bit 0, which is its highest power: bit i is the coefficient of x^(127-i). The low quadword is therefore the half that
// comes first and weighs more:
//
//	lane = H·x^64 + L    H in bits 0..63, L in bits 64..127, each reflected as in poly.go
//
// # One fold
//
// A CRC depends on the message mod P only, so a lane may be replaced by anything congruent to it. To add a lane to the
// one that lies d bits behind it in the message, it has to be multiplied by x^d:
//
//	lane·x^d = H·x^(d+64) + L·x^d ≡ H·(x^(d+64) mod P) + L·(x^d mod P)
//
// These are two products of 64 by 64 bits, and they fit a lane again. The product of two reflected quadwords has 127
// bits and comes out one bit too low: bit k of it stands for x^(126-k) where the lane has x^(127-k), so it reads as
// multiplied by x. The constants make up for that with an exponent less by one: x^(d+63) for H and x^(d-1) for L.
//
// Two products depend on the fold before, so several lanes are folded side by side, each onto the one a whole stride
// ahead. When less than a stride is left, the first half of the lanes is folded onto the second half, until one lane
// is left; after each halving the half stride is folded once more if the message still has that many bytes. The CRC so
// far goes into the first 64 bits of the message.
//
// # The last bytes
//
// Let a lane S, all there is so far, be followed by t < 16 bytes. The two together are cut again, 16 bytes before the
// end: the first t bytes of S, alone in a lane, are folded by 128 onto the rest of S followed by the t bytes.
// [folding.slide] has the byte shuffles for this.
//
// # From 128 bits to 64
//
// The CRC is S·x^64 mod P. H·x^128 is brought to 128 bits as in a fold by 128, with the constant x^127, and L·x^64 is L
// moved to the upper half:
//
//	U = H·(x^127 mod P)·x + L·x^64 = u·x^64 + v
//
// u·x^64 mod P is Barrett's: with M = ⌊x^128/P⌋ the quotient is q = ⌊u·M/x^64⌋, without error, and the CRC is what
// q·P + U has below x^64. M and P have 65 coefficients. Reflected, a quadword holds the upper 64 of them, and
//
//	q = the low quadword of u·M: the lowest coefficient of M only reaches powers that the division drops
//	q·P + U below x^64 = the high quadword of q·P + U, plus q for P's lowest coefficient, which is 1

// factors multiplies the two halves of a lane in one fold.
type factors struct{ high, low uint64 }

// folding holds the constants of the assembly, which has the offsets of the fields from go_asm.h.
type folding struct {
	by4096, by2048, by1024, by512, by256, by128 factors // the distance in bits

	barrett struct{ m, p uint64 }

	// slide[16+s:][:16] as the indices of a byte shuffle moves a lane down by s bytes, for s of -16 to 16, and
	// fills up with zeros: an index of 0x80 selects none.
	slide [48]byte
}

var constants = makeFolding()

func makeFolding() folding {
	by := func(d int) factors { return factors{high: power(d + 63), low: power(d - 1)} }
	k := folding{
		by4096: by(4096), by2048: by(2048), by1024: by(1024), by512: by(512), by256: by(256), by128: by(128),
	}
	k.barrett.m = quotient()
	k.barrett.p = polynomial<<1&(1<<64-1) | 1
	for i := range k.slide {
		k.slide[i] = 0x80
		if 16 <= i && i < 32 {
			k.slide[i] = byte(i - 16)
		}
	}
	return k
}

// quotient returns the upper 64 coefficients, x^64 to x^1, of ⌊x^128/P⌋, the first in bit 0.
func quotient() uint64 {
	// Long division: x^128 = x^64·P + x^64·remainder, and from there on every coefficient that the remainder
	// pushes over x^63 is one of the quotient.
	q, remainder := uint64(1), uint64(polynomial)
	for i := 1; i < 64; i++ {
		q |= (remainder & 1) << i
		remainder = timesX(remainder)
	}
	return q
}
