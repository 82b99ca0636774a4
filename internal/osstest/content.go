package osstest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"

	"github.com/ossdl/ossdl/internal/crc64"
)

// Content is the data of an object. Its methods are safe for concurrent use, and what they return never changes.
type Content interface {
	io.ReaderAt
	Size() int64
	CRC64() uint64 // CRC-64/XZ of all of it
}

// viewer is a Content that can show its bytes without copying them.
type viewer interface {
	// view returns at least one byte of the content from off on, for off < Size. The bytes must not be changed. Short
	// ones may be put into scratch, which holds stampSize bytes.
	view(off int64, scratch []byte) []byte
}

// identified is a Content whose ETag is known without reading it.
type identified interface{ identity() string }

// Bytes is the content b, which must not be changed afterwards.
func Bytes(b []byte) Content {
	return &byteContent{b: b, crc: sync.OnceValue(func() uint64 { return crc64.Update(0, b) })}
}

type byteContent struct {
	b   []byte
	crc func() uint64
}

func (c *byteContent) Size() int64   { return int64(len(c.b)) }
func (c *byteContent) CRC64() uint64 { return c.crc() }

func (c *byteContent) ReadAt(p []byte, off int64) (int, error) { return readViews(c, p, off) }

func (c *byteContent) view(off int64, _ []byte) []byte { return c.b[off:] }

// zeroBlock is what Zeros shows, again and again.
var zeroBlock [1 << 20]byte

// Zeros is size zero bytes, 0 to 2^62. It holds no memory, and its CRC-64 costs O(log size).
func Zeros(size int64) Content {
	return &zeroContent{size: size, crc: sync.OnceValue(func() uint64 {
		var sum uint64
		unit, unitSize := crc64.Update(0, zeroBlock[:1]), int64(1)
		for n := size; n > 0; n >>= 1 {
			if n&1 == 1 {
				sum = crc64.Combine(sum, unit, unitSize)
			}
			unit = crc64.Combine(unit, unit, unitSize)
			unitSize *= 2
		}
		return sum
	})}
}

type zeroContent struct {
	size int64
	crc  func() uint64
}

func (c *zeroContent) Size() int64      { return c.size }
func (c *zeroContent) CRC64() uint64    { return c.crc() }
func (c *zeroContent) identity() string { return fmt.Sprintf("zeros %d", c.size) }

func (c *zeroContent) ReadAt(p []byte, off int64) (int, error) { return readViews(c, p, off) }

func (c *zeroContent) view(off int64, _ []byte) []byte {
	return zeroBlock[:min(c.size-off, int64(len(zeroBlock)))]
}

const (
	// period is the distance after which Random repeats itself but for the stamp. It is the largest prime below 1 MiB:
	// no part size is a multiple of it, so that a range fetched from, or written to, a wrong place differs in nearly
	// every byte.
	period = 1<<20 - 3
	// stampSize bytes at the start of each period carry its number, so that no two periods are equal.
	stampSize = 8
)

// Random is size pseudo-random bytes, 0 to 2^62, the same for the same seed. At most 1 MiB of memory is held, from the
// first use on; reading costs a copy of memory, and the CRC-64 of any size O(log² size) after the first 1 MiB.
func Random(seed uint64, size int64) Content {
	c := &randomContent{seed: seed, size: size}
	c.base = sync.OnceValue(c.makeBase)
	c.crc = sync.OnceValue(c.sum)
	return c
}

type randomContent struct {
	seed uint64
	size int64
	base func() []byte // of the first period, whose stamp is 0; shorter where the size is
	crc  func() uint64
}

func (c *randomContent) Size() int64      { return c.size }
func (c *randomContent) CRC64() uint64    { return c.crc() }
func (c *randomContent) identity() string { return fmt.Sprintf("random %d %d", c.seed, c.size) }

func (c *randomContent) ReadAt(p []byte, off int64) (int, error) { return readViews(c, p, off) }

func (c *randomContent) makeBase() []byte {
	n := min(c.size, period)
	b := make([]byte, (n+7)/8*8)
	r := rand.NewPCG(c.seed, 0x6f7373646c)
	for i := 0; i < len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b[:n]
}

func (c *randomContent) view(off int64, scratch []byte) []byte {
	base := c.base()
	number, at := off/period, off%period
	end := min(period, at+c.size-off)
	if number == 0 || at >= stampSize {
		return base[at:end]
	}
	end = min(end, stampSize)
	for i := at; i < end; i++ {
		scratch[i] = base[i] ^ byte(number>>(8*i))
	}
	return scratch[at:end]
}

// sum is the CRC-64 of the whole content, from the CRC of the first period alone. A stamp enters by exclusive or, so its
// share of the CRC is a linear function of the period's number and can be added on its own:
//
//	crc(period i) = crc(period 0) ^ share(i), and share(i^j) = share(i) ^ share(j)
//
// So the CRC of the 2^k periods from number n on, where the low k bits of n are 0, is that of the first 2^k periods,
// plus 2^k times the share of n; and both double with k.
func (c *randomContent) sum() uint64 {
	base := c.base()
	var total uint64
	full := c.size / period
	if full > 0 {
		shift := func(crc uint64, n int64) uint64 { return crc64.Combine(crc, 0, n) }
		share := func(number int64) uint64 {
			var stamp [stampSize]byte
			zero := crc64.Update(0, stamp[:])
			binary.LittleEndian.PutUint64(stamp[:], uint64(number))
			return shift(crc64.Update(0, stamp[:])^zero, period-stampSize)
		}
		// repeat is the share of the same stamp on 2^k periods in a row.
		repeat := func(number int64, k int) uint64 {
			sum := share(number)
			for i := range k {
				sum ^= shift(sum, period<<i)
			}
			return sum
		}
		first := []uint64{crc64.Update(0, base)} // first[k]: CRC of the periods 0 to 2^k-1
		for k := 0; full>>(k+1) > 0; k++ {
			first = append(first, crc64.Combine(first[k], first[k]^repeat(1<<k, k), period<<k))
		}
		number := int64(0)
		for k := len(first) - 1; k >= 0; k-- {
			if full>>k&1 == 1 {
				total = crc64.Combine(total, first[k]^repeat(number, k), period<<k)
				number += 1 << k
			}
		}
	}
	tail := make([]byte, c.size-full*period)
	_, _ = c.ReadAt(tail, full*period) // io.EOF at its end
	return crc64.Combine(total, crc64.Update(0, tail), int64(len(tail)))
}

// readViews is ReadAt by views.
func readViews(c interface {
	viewer
	Size() int64
}, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("osstest: negative offset")
	}
	var scratch [stampSize]byte
	n := 0
	for n < len(p) {
		if off+int64(n) >= c.Size() {
			return n, io.EOF
		}
		n += copy(p[n:], c.view(off+int64(n), scratch[:]))
	}
	return n, nil
}
