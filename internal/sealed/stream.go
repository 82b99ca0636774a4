package sealed

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"math/bits"
	"sync"

	"github.com/ossdl/ossdl/internal/crc64"
)

const blockSize = aes.BlockSize

// Stream is the keystream of one object. It is safe for concurrent use.
type Stream struct {
	block cipher.Block
	start [blockSize]byte // the counter block of the first byte

	mu     sync.Mutex
	summed int64  // bytes of the keystream
	sum    uint64 // their CRC-64
}

// At returns the keystream from an offset in the object on. XORed with ciphertext it gives plaintext, and the other way round.
func (s *Stream) At(off int64) cipher.Stream {
	// The counter is one number of 128 bits. The SDKs in Go count in its lower half, and Java in a quarter; they choose a
	// start for which that makes no difference.
	hi, lo := binary.BigEndian.Uint64(s.start[:8]), binary.BigEndian.Uint64(s.start[8:])
	lo, carry := bits.Add64(lo, uint64(off/blockSize), 0)
	var counter [blockSize]byte
	binary.BigEndian.PutUint64(counter[:8], hi+carry)
	binary.BigEndian.PutUint64(counter[8:], lo)
	stream := cipher.NewCTR(s.block, counter[:])
	var before [blockSize]byte
	stream.XORKeyStream(before[:off%blockSize], before[:off%blockSize])
	return stream
}

// Sum makes ready what Stored needs for size bytes, until ctx ends. Whatever it has done need not be done again. It uses buf.
func (s *Stream) Sum(ctx context.Context, size int64, buf []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.summed > size {
		s.summed, s.sum = 0, 0
	}
	stream := s.At(s.summed)
	for s.summed < size {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		b := buf[:min(int64(len(buf)), size-s.summed)]
		clear(b)
		stream.XORKeyStream(b, b)
		s.sum = crc64.Update(s.sum, b)
		s.summed += int64(len(b))
	}
	return nil
}

// Stored returns the CRC-64 of the first size bytes of the object as they are stored, from the CRC-64 of what they decrypt to.
// No byte of the object is needed: ciphertext is plaintext XORed with the keystream, and the CRC-64 of an XOR follows from
// those of the two. So the service's CRC-64 proves what is on disk to be what the object decrypts to, whichever call has written
// it. It uses buf.
func (s *Stream) Stored(ctx context.Context, plain uint64, size int64, buf []byte) (uint64, error) {
	if err := s.Sum(ctx, size, buf); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// crc(a⊕b) = crc(a) ⊕ crc(b) ⊕ crc(0): each CRC-64 inverts its register at the start and at the end, so of three there is
	// one inversion left.
	return plain ^ s.sum ^ zeros(size), nil
}

// zeros returns the CRC-64 of n zero bytes.
func zeros(n int64) (crc uint64) {
	unit, size := crc64.Update(0, []byte{0}), int64(1)
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			crc = crc64.Combine(crc, unit, size)
		}
		unit = crc64.Combine(unit, unit, size)
		size *= 2
	}
	return crc
}
