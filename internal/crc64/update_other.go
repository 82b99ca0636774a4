//go:build (!amd64 && !arm64) || purego

package crc64

// level is a set of instructions. There is one, any processor's.
type level int

func detect() level { return 0 }

func (level) update(crc uint64, p []byte) uint64 { return updatePortable(crc, p) }
