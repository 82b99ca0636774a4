package crc64

import "encoding/binary"

// slices[i][b] is the CRC register, started at 0, after the byte b and i zero bytes.
var slices = makeSlices()

func makeSlices() (s [8][256]uint64) {
	for b := range s[0] {
		r := uint64(b)
		for range 8 {
			r = timesX(r)
		}
		s[0][b] = r
	}
	for i := 1; i < len(s); i++ {
		for b, r := range s[i-1] {
			s[i][b] = r>>8 ^ s[0][byte(r)]
		}
	}
	return s
}

// updatePortable is Update by table, eight bytes a step ("slicing by 8").
func updatePortable(crc uint64, p []byte) uint64 {
	crc = ^crc
	for ; len(p) >= 8; p = p[8:] {
		crc ^= binary.LittleEndian.Uint64(p)
		crc = slices[7][byte(crc)] ^
			slices[6][byte(crc>>8)] ^
			slices[5][byte(crc>>16)] ^
			slices[4][byte(crc>>24)] ^
			slices[3][byte(crc>>32)] ^
			slices[2][byte(crc>>40)] ^
			slices[1][byte(crc>>48)] ^
			slices[0][crc>>56]
	}
	for _, b := range p {
		crc = crc>>8 ^ slices[0][byte(crc)^b]
	}
	return ^crc
}
