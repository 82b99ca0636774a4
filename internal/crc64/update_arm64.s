//go:build !purego

#include "go_asm.h"
#include "textflag.h"

// The mathematics are told in folding.go.
//
//	R0  the CRC, inverted
//	R1  the bytes not read yet
//	R2  how many they are
//	R3  the constants
//
// The message so far is in V0 to V7, one lane each, the bytes to fold it onto are in V16 to V23, and the factors in V24.
// PMULL multiplies the low doublewords (H), PMULL2 the high ones (L).

#define FACTORS(field) \
	ADD  $field, R3, R4 \
	VLD1 (R4), [V24.B16]

#define FOLD(register, ahead) \
	VPMULL  V24.D1, register.D1, V25.Q1      \
	VPMULL2 V24.D2, register.D2, register.Q1 \
	VEOR    V25.B16, register.B16, register.B16 \
	VEOR    ahead.B16, register.B16, register.B16

// func foldPMULL(crc uint64, p []byte, k *folding) uint64
TEXT ·foldPMULL(SB), NOSPLIT, $0-48
	MOVD crc+0(FP), R0
	MOVD p_base+8(FP), R1
	MOVD p_len+16(FP), R2
	MOVD k+32(FP), R3
	MVN  R0, R0
	VEOR V26.B16, V26.B16, V26.B16
	VMOV R0, V26.D[0]
	CMP  $128, R2
	BLO  one

	VLD1.P 64(R1), [V0.B16, V1.B16, V2.B16, V3.B16]
	VLD1.P 64(R1), [V4.B16, V5.B16, V6.B16, V7.B16]
	VEOR   V26.B16, V0.B16, V0.B16
	FACTORS(folding_by1024)
	B      next128

fold128:
	VLD1.P 64(R1), [V16.B16, V17.B16, V18.B16, V19.B16]
	VLD1.P 64(R1), [V20.B16, V21.B16, V22.B16, V23.B16]
	FOLD(V0, V16)
	FOLD(V1, V17)
	FOLD(V2, V18)
	FOLD(V3, V19)
	FOLD(V4, V20)
	FOLD(V5, V21)
	FOLD(V6, V22)
	FOLD(V7, V23)

next128:
	SUB $128, R2
	CMP $128, R2
	BHS fold128

	FACTORS(folding_by512)
	FOLD(V0, V4)
	FOLD(V1, V5)
	FOLD(V2, V6)
	FOLD(V3, V7)
	TBZ    $6, R2, four
	VLD1.P 64(R1), [V16.B16, V17.B16, V18.B16, V19.B16]
	FOLD(V0, V16)
	FOLD(V1, V17)
	FOLD(V2, V18)
	FOLD(V3, V19)

four:
	FACTORS(folding_by256)
	FOLD(V0, V2)
	FOLD(V1, V3)
	TBZ    $5, R2, two
	VLD1.P 32(R1), [V16.B16, V17.B16]
	FOLD(V0, V16)
	FOLD(V1, V17)

two:
	FACTORS(folding_by128)
	FOLD(V0, V1)
	TBZ    $4, R2, finish
	VLD1.P 16(R1), [V16.B16]
	FOLD(V0, V16)
	B      finish

one: // fewer than 128 bytes: one lane after the other
	VLD1.P 16(R1), [V0.B16]
	VEOR   V26.B16, V0.B16, V0.B16
	FACTORS(folding_by128)
	B      next16

fold16:
	VLD1.P 16(R1), [V16.B16]
	FOLD(V0, V16)

next16:
	SUB $16, R2
	CMP $16, R2
	BHS fold16

finish: // V0 is the last lane, and R2&15 bytes follow it
	ANDS $15, R2
	BEQ  reduce

	ADD  R2, R1
	SUB  $16, R1
	VLD1 (R1), [V16.B16]                   // the last 16 bytes
	ADD  $folding_slide+16, R3, R4
	ADD  R2, R4
	VLD1 (R4), [V17.B16]                   // down by t
	SUB  $16, R4
	VLD1 (R4), [V18.B16]                   // down by t-16, which is up by 16-t
	VTBX V17.B16, [V0.B16], V16.B16        // keeps the t bytes where no index selects one
	VTBL V18.B16, [V0.B16], V0.B16         // the first t bytes of the lane
	FOLD(V0, V16)

reduce:
	VEOR    V25.B16, V25.B16, V25.B16
	VEXT    $8, V25.B16, V0.B16, V1.B16    // L to where H is, zero above
	VEXT    $8, V24.B16, V24.B16, V24.B16  // x^127, the factor of L by 128
	VPMULL  V24.D1, V0.D1, V0.Q1           // H·x^127
	VEOR    V1.B16, V0.B16, V0.B16         // U
	FACTORS(folding_barrett)
	VPMULL  V24.D1, V0.D1, V1.Q1           // u·M, with q in the low doubleword
	VMOV    V1.D[0], R0
	VEXT    $8, V24.B16, V24.B16, V24.B16  // P
	VPMULL  V24.D1, V1.D1, V1.Q1           // q·P
	VEOR    V0.B16, V1.B16, V1.B16
	VMOV    V1.D[1], R4
	EOR     R4, R0
	MVN     R0, R0
	MOVD    R0, ret+40(FP)
	RET
