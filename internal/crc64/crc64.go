// Package crc64 computes the CRC-64 that OSS sends as x-oss-hash-crc64ecma: CRC-64/XZ, the same values as
// [hash/crc64] with the table crc64.MakeTable(crc64.ECMA), and combines those of adjoining ranges. It knows bytes and
// processors; it must not know objects, files or requests, and it imports nothing of this module. Its invariant: whatever
// the processor can do, the values are those of hash/crc64, and no byte outside the slice is read.
//
// On amd64 and arm64 Update uses carry-less multiplication if the processor has it, which is found out once at start.
// The build tag purego omits the assembly.
package crc64

import (
	"encoding/binary"
	"hash"
)

// machine is the best that this processor can do. Every level below it works, too.
var machine = detect()

// Update returns the CRC-64 of the bytes crc was computed over followed by p. The CRC-64 of no bytes is 0.
func Update(crc uint64, p []byte) uint64 { return machine.update(crc, p) }

// New returns a hash whose Sum appends the CRC-64 as 8 bytes, the highest first, as [hash/crc64] does.
func New() hash.Hash64 { return new(digest) }

type digest struct{ crc uint64 }

func (d *digest) Write(p []byte) (int, error) {
	d.crc = Update(d.crc, p)
	return len(p), nil
}

func (d *digest) Sum(b []byte) []byte { return binary.BigEndian.AppendUint64(b, d.crc) }
func (d *digest) Sum64() uint64       { return d.crc }
func (d *digest) Reset()              { d.crc = 0 }
func (d *digest) Size() int           { return 8 }
func (d *digest) BlockSize() int      { return 1 }
