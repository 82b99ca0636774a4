//go:build linux || darwin

package crc64

import (
	"hash/crc64"
	"testing"

	"golang.org/x/sys/unix"
)

// A read outside p ends the process: p lies in the middle one of three mapped ranges, at its start or at its end, and
// the outer two cannot be read.
func TestReadsNothingOutside(t *testing.T) {
	page := unix.Getpagesize()
	m, err := unix.Mmap(-1, 0, 3*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(m); err != nil {
			t.Error(err)
		}
	}()
	middle := m[page : 2*page]
	copy(middle, random(5, page))
	for _, outer := range [][]byte{m[:page], m[2*page:]} {
		if err := unix.Mprotect(outer, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	for n := range min(page, 1200) {
		first, last := middle[:n], middle[page-n:]
		wantFirst, wantLast := crc64.Checksum(first, ecma), crc64.Checksum(last, ecma)
		forEachLevel(func(name string, l level) {
			if got := l.update(0, first); got != wantFirst {
				t.Errorf("%s: CRC-64 of the first %d bytes: %#x, want %#x", name, n, got, wantFirst)
			}
			if got := l.update(0, last); got != wantLast {
				t.Errorf("%s: CRC-64 of the last %d bytes: %#x, want %#x", name, n, got, wantLast)
			}
		})
	}
}
