package ossdl

import "testing"

// BenchmarkCheckpointEncode encodes the largest checkpoint.
func BenchmarkCheckpointEncode(b *testing.B) {
	s := newSet(1 << 40)
	for i := range int64(maxClaims) {
		if err := s.claim(span{i << 30, i<<30 + 1<<20}, uint64(i)*0x9e3779b97f4a7c15); err != nil {
			b.Fatal(err)
		}
	}
	c := &checkpoint{Version: checkpointVersion, Bucket: "bkt", Key: "key", ETag: `"5B3C1A2E053D763E1B002CC607C5A0FE"`, Size: 1 << 40}
	for b.Loop() {
		data, err := c.encode(s.snapshot)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(data)))
	}
}
