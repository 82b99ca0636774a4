//go:build !purego

#include "go_asm.h"
#include "textflag.h"

// The mathematics are told in folding.go. All three functions hold the message so far in registers 0 to 7, fold it
// until register X0 is left, and jump to finish for the last bytes and the reduction.
//
//	SI  the bytes not read yet
//	CX  how many they are
//	BX  the constants
//	AX  the CRC, inverted
//
// A fold takes a register with two quadwords per lane and the factors, and puts what lies ahead, a register or memory,
// on top. Products with $0x00 are of the low quadwords (H), with $0x11 of the high ones (L).

#define ARGUMENTS \
	MOVQ crc+0(FP), AX      \
	MOVQ p_base+8(FP), SI   \
	MOVQ p_len+16(FP), CX   \
	MOVQ k+32(FP), BX       \
	NOTQ AX

#define FOLD_SSE(register, ahead) \
	MOVO      register, X8     \
	PCLMULQDQ $0x00, X9, X8    \
	PCLMULQDQ $0x11, X9, register \
	PXOR      X8, register     \
	MOVOU     ahead, X8        \
	PXOR      X8, register

#define FOLD_AVX2(register, ahead) \
	VPCLMULQDQ $0x00, Y9, register, Y8       \
	VPCLMULQDQ $0x11, Y9, register, register \
	VPXOR      Y8, register, register        \
	VPXOR      ahead, register, register

#define FOLD_AVX512(register, ahead) \
	VPCLMULQDQ $0x00, Z9, register, Z8       \
	VPCLMULQDQ $0x11, Z9, register, register \
	VPTERNLOGQ $0x96, ahead, Z8, register // exclusive or of the three

// func foldSSE(crc uint64, p []byte, k *folding) uint64
TEXT ·foldSSE(SB), NOSPLIT, $0-48
	ARGUMENTS
	MOVQ  AX, X8
	MOVOU 0(SI), X0
	PXOR  X8, X0
	CMPQ  CX, $128
	JB    one

	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	MOVOU 64(SI), X4
	MOVOU 80(SI), X5
	MOVOU 96(SI), X6
	MOVOU 112(SI), X7
	MOVOU folding_by1024(BX), X9
	JMP   next128

fold128:
	FOLD_SSE(X0, 0(SI))
	FOLD_SSE(X1, 16(SI))
	FOLD_SSE(X2, 32(SI))
	FOLD_SSE(X3, 48(SI))
	FOLD_SSE(X4, 64(SI))
	FOLD_SSE(X5, 80(SI))
	FOLD_SSE(X6, 96(SI))
	FOLD_SSE(X7, 112(SI))

next128:
	ADDQ $128, SI
	SUBQ $128, CX
	CMPQ CX, $128
	JAE  fold128

	MOVOU folding_by512(BX), X9
	FOLD_SSE(X0, X4)
	FOLD_SSE(X1, X5)
	FOLD_SSE(X2, X6)
	FOLD_SSE(X3, X7)
	TESTQ $64, CX
	JZ    four
	FOLD_SSE(X0, 0(SI))
	FOLD_SSE(X1, 16(SI))
	FOLD_SSE(X2, 32(SI))
	FOLD_SSE(X3, 48(SI))
	ADDQ  $64, SI

four:
	MOVOU folding_by256(BX), X9
	FOLD_SSE(X0, X2)
	FOLD_SSE(X1, X3)
	TESTQ $32, CX
	JZ    two
	FOLD_SSE(X0, 0(SI))
	FOLD_SSE(X1, 16(SI))
	ADDQ  $32, SI

two:
	MOVOU folding_by128(BX), X9
	FOLD_SSE(X0, X1)
	TESTQ $16, CX
	JZ    done
	FOLD_SSE(X0, 0(SI))
	ADDQ  $16, SI

done:
	JMP finish<>(SB)

one: // fewer than 128 bytes: one lane after the other
	MOVOU folding_by128(BX), X9
	JMP   next16

fold16:
	FOLD_SSE(X0, 0(SI))

next16:
	ADDQ $16, SI
	SUBQ $16, CX
	CMPQ CX, $16
	JAE  fold16
	JMP  finish<>(SB)

// func foldAVX2(crc uint64, p []byte, k *folding) uint64
TEXT ·foldAVX2(SB), NOSPLIT, $0-48
	ARGUMENTS
	VMOVQ          AX, X8 // clears the rest of Y8
	VPXOR          0(SI), Y8, Y0
	VMOVDQU        32(SI), Y1
	VMOVDQU        64(SI), Y2
	VMOVDQU        96(SI), Y3
	VMOVDQU        128(SI), Y4
	VMOVDQU        160(SI), Y5
	VMOVDQU        192(SI), Y6
	VMOVDQU        224(SI), Y7
	VBROADCASTI128 folding_by2048(BX), Y9
	JMP            next256

fold256:
	FOLD_AVX2(Y0, 0(SI))
	FOLD_AVX2(Y1, 32(SI))
	FOLD_AVX2(Y2, 64(SI))
	FOLD_AVX2(Y3, 96(SI))
	FOLD_AVX2(Y4, 128(SI))
	FOLD_AVX2(Y5, 160(SI))
	FOLD_AVX2(Y6, 192(SI))
	FOLD_AVX2(Y7, 224(SI))

next256:
	ADDQ $256, SI
	SUBQ $256, CX
	CMPQ CX, $256
	JAE  fold256

	VBROADCASTI128 folding_by1024(BX), Y9
	FOLD_AVX2(Y0, Y4)
	FOLD_AVX2(Y1, Y5)
	FOLD_AVX2(Y2, Y6)
	FOLD_AVX2(Y3, Y7)
	TESTQ          $128, CX
	JZ             four
	FOLD_AVX2(Y0, 0(SI))
	FOLD_AVX2(Y1, 32(SI))
	FOLD_AVX2(Y2, 64(SI))
	FOLD_AVX2(Y3, 96(SI))
	ADDQ           $128, SI

four:
	VBROADCASTI128 folding_by512(BX), Y9
	FOLD_AVX2(Y0, Y2)
	FOLD_AVX2(Y1, Y3)
	TESTQ          $64, CX
	JZ             two
	FOLD_AVX2(Y0, 0(SI))
	FOLD_AVX2(Y1, 32(SI))
	ADDQ           $64, SI

two:
	VBROADCASTI128 folding_by256(BX), Y9
	FOLD_AVX2(Y0, Y1)
	TESTQ          $32, CX
	JZ             one
	FOLD_AVX2(Y0, 0(SI))
	ADDQ           $32, SI

one: // the two lanes of Y0
	VEXTRACTI128 $1, Y0, X1
	VZEROUPPER
	MOVOU        folding_by128(BX), X9
	FOLD_SSE(X0, X1)
	TESTQ        $16, CX
	JZ           done
	FOLD_SSE(X0, 0(SI))
	ADDQ         $16, SI

done:
	JMP finish<>(SB)

// func foldAVX512(crc uint64, p []byte, k *folding) uint64
TEXT ·foldAVX512(SB), NOSPLIT, $0-48
	ARGUMENTS
	VMOVQ           AX, X8 // clears the rest of Z8
	VPXORQ          0(SI), Z8, Z0
	VMOVDQU64       64(SI), Z1
	VMOVDQU64       128(SI), Z2
	VMOVDQU64       192(SI), Z3
	VMOVDQU64       256(SI), Z4
	VMOVDQU64       320(SI), Z5
	VMOVDQU64       384(SI), Z6
	VMOVDQU64       448(SI), Z7
	VBROADCASTI32X4 folding_by4096(BX), Z9
	JMP             next512

fold512:
	FOLD_AVX512(Z0, 0(SI))
	FOLD_AVX512(Z1, 64(SI))
	FOLD_AVX512(Z2, 128(SI))
	FOLD_AVX512(Z3, 192(SI))
	FOLD_AVX512(Z4, 256(SI))
	FOLD_AVX512(Z5, 320(SI))
	FOLD_AVX512(Z6, 384(SI))
	FOLD_AVX512(Z7, 448(SI))

next512:
	ADDQ $512, SI
	SUBQ $512, CX
	CMPQ CX, $512
	JAE  fold512

	VBROADCASTI32X4 folding_by2048(BX), Z9
	FOLD_AVX512(Z0, Z4)
	FOLD_AVX512(Z1, Z5)
	FOLD_AVX512(Z2, Z6)
	FOLD_AVX512(Z3, Z7)
	TESTQ           $256, CX
	JZ              four
	FOLD_AVX512(Z0, 0(SI))
	FOLD_AVX512(Z1, 64(SI))
	FOLD_AVX512(Z2, 128(SI))
	FOLD_AVX512(Z3, 192(SI))
	ADDQ            $256, SI

four:
	VBROADCASTI32X4 folding_by1024(BX), Z9
	FOLD_AVX512(Z0, Z2)
	FOLD_AVX512(Z1, Z3)
	TESTQ           $128, CX
	JZ              two
	FOLD_AVX512(Z0, 0(SI))
	FOLD_AVX512(Z1, 64(SI))
	ADDQ            $128, SI

two:
	VBROADCASTI32X4 folding_by512(BX), Z9
	FOLD_AVX512(Z0, Z1)
	TESTQ           $64, CX
	JZ              one
	FOLD_AVX512(Z0, 0(SI))
	ADDQ            $64, SI

one: // the four lanes of Z0
	VEXTRACTI64X4  $1, Z0, Y1
	VBROADCASTI128 folding_by256(BX), Y9
	FOLD_AVX2(Y0, Y1)
	TESTQ          $32, CX
	JZ             half
	FOLD_AVX2(Y0, 0(SI))
	ADDQ           $32, SI

half:
	VEXTRACTI128 $1, Y0, X1
	VZEROUPPER
	MOVOU        folding_by128(BX), X9
	FOLD_SSE(X0, X1)
	TESTQ        $16, CX
	JZ           done
	FOLD_SSE(X0, 0(SI))
	ADDQ         $16, SI

done:
	JMP finish<>(SB)

// finish takes the lane X0, the CX&15 bytes at SI that follow it, and the factors by 128 in X9, and stores the result
// of the function that jumped here.
TEXT finish<>(SB), NOSPLIT, $0-48
	ANDQ $15, CX
	JZ   reduce

	LEAQ    folding_slide+16(BX), DX
	ADDQ    CX, DX
	MOVOU   0(DX), X2      // down by t; the indices of the t bytes at the end are negative
	MOVOU   -16(DX), X3    // down by t-16, which is up by 16-t
	MOVOU   -16(SI)(CX*1), X1
	PXOR    X4, X4
	PCMPGTB X2, X4
	PAND    X4, X1         // the last t bytes of the message
	MOVO    X0, X4
	PSHUFB  X2, X4
	PXOR    X4, X1         // with the rest of the lane before them
	PSHUFB  X3, X0         // the first t bytes of the lane
	FOLD_SSE(X0, X1)

reduce:
	MOVO      X0, X1
	PCLMULQDQ $0x10, X9, X0 // H·x^127
	PSRLO     $8, X1
	PXOR      X1, X0        // U
	MOVOU     folding_barrett(BX), X2
	MOVO      X0, X1
	PCLMULQDQ $0x00, X2, X1 // u·M, with q in the low quadword
	MOVQ      X1, AX
	PCLMULQDQ $0x10, X2, X1 // q·P
	PXOR      X0, X1
	PSRLO     $8, X1
	MOVQ      X1, DX
	XORQ      DX, AX
	NOTQ      AX
	MOVQ      AX, ret+40(FP)
	RET

// func leaf7() (ecx uint32)
TEXT ·leaf7(SB), NOSPLIT, $0-4
	MOVL $7, AX
	XORL CX, CX
	CPUID
	MOVL CX, ecx+0(FP)
	RET
