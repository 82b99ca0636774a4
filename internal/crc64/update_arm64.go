//go:build !purego

package crc64

import "golang.org/x/sys/cpu"

// level is a set of instructions.
type level int

const (
	portable level = iota
	pmull          // PMULL on 64-bit operands
)

func detect() level {
	if cpu.ARM64.HasPMULL {
		return pmull
	}
	return portable
}

func (l level) update(crc uint64, p []byte) uint64 {
	if len(p) < 16 || l < pmull {
		return updatePortable(crc, p)
	}
	return foldPMULL(crc, p, &constants)
}

// foldPMULL is Update of at least 16 bytes.
//
//go:noescape
func foldPMULL(crc uint64, p []byte, k *folding) uint64
