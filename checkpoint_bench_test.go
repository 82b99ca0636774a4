package ossdl

import (
	"testing"

	"github.com/ossdl/ossdl/internal/parts"
	"github.com/ossdl/ossdl/internal/span"
)

// BenchmarkCheckpointEncode encodes the largest checkpoint.
func BenchmarkCheckpointEncode(b *testing.B) {
	s := parts.New(1 << 40)
	for i := range int64(parts.MaxClaims) {
		if err := s.Claim(span.Span{Off: i << 30, End: i<<30 + 1<<20}, uint64(i)*0x9e3779b97f4a7c15); err != nil {
			b.Fatal(err)
		}
	}
	c := &checkpoint{Version: checkpointVersion, Bucket: "bkt", Key: "key", ETag: `"5B3C1A2E053D763E1B002CC607C5A0FE"`, Size: 1 << 40}
	for b.Loop() {
		data, err := c.encode(s.Snapshot)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(data)))
	}
}
