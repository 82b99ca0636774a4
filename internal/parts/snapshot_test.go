package parts

import (
	"slices"
	"testing"

	"github.com/ossdl/ossdl/internal/span"
)

// TestCoarsen checks which claims are joined, and in which order, when there are more than a checkpoint may have.
func TestCoarsen(t *testing.T) {
	const m = mergeUnsynced
	at := func(off, size int64, synced bool) Claim {
		return Claim{Off: off, Size: size, Done: size, Synced: synced}
	}
	partly := Claim{Off: 2, Size: 8, Done: 4, Synced: true}
	for _, c := range []struct {
		name        string
		claims      []Claim
		limit       int
		synced, all []Claim // after the pass over synced claims, and after the one over all
	}{
		{"few enough", []Claim{at(0, 1, true), at(1, 1, true)}, 2,
			[]Claim{at(0, 1, true), at(1, 1, true)}, []Claim{at(0, 1, true), at(1, 1, true)}},
		{"synced neighbours first", []Claim{at(0, 1, true), at(1, 1, true), at(2, 1, false), at(3, 1, false)}, 3,
			[]Claim{at(0, 2, true), at(2, 1, false), at(3, 1, false)}, []Claim{at(0, 2, true), at(2, 1, false), at(3, 1, false)}},
		{"then unsynced ones, too", []Claim{at(0, 1, true), at(1, 1, true), at(2, 1, false), at(3, 1, false)}, 2,
			[]Claim{at(0, 2, true), at(2, 1, false), at(3, 1, false)}, []Claim{at(0, 4, false)}},
		{"a gap is never joined", []Claim{at(0, 1, true), at(2, 1, true)}, 1,
			[]Claim{at(0, 1, true), at(2, 1, true)}, []Claim{at(0, 1, true), at(2, 1, true)}},
		{"what is done in part ends a claim", []Claim{at(0, 2, true), partly, at(10, 1, true)}, 1,
			[]Claim{{Off: 0, Size: 10, Done: 6, Synced: true}, at(10, 1, true)},
			[]Claim{{Off: 0, Size: 10, Done: 6, Synced: true}, at(10, 1, true)}},
		{"the smallest bound that is enough", []Claim{at(0, m, true), at(m, m, true), at(2*m, 2*m, true)}, 2,
			[]Claim{at(0, 2*m, true), at(2*m, 2*m, true)}, []Claim{at(0, 2*m, true), at(2*m, 2*m, true)}},
	} {
		got := coarsen(slices.Clone(c.claims), c.limit, bothSynced)
		if !slices.Equal(got, c.synced) {
			t.Errorf("%s: the first pass leaves %+v, want %+v", c.name, got, c.synced)
		}
		if got = coarsen(got, c.limit, anyTwo); !slices.Equal(got, c.all) {
			t.Errorf("%s: the second pass leaves %+v, want %+v", c.name, got, c.all)
		}
	}
}

// TestMapSnapshotStaysSmall checks that the largest claims are kept if there are too many that cannot be joined.
func TestMapSnapshotStaysSmall(t *testing.T) {
	// 48.8 TB in islands: every second MiB-sized hole filled, far more than a checkpoint has entries for.
	const size = 48_800_000_000_000
	m := New(size)
	step := int64(size / 3000)
	for i := range int64(1500) {
		if err := m.Claim(span.Span{Off: 2 * i * step, End: 2*i*step + 1 + i}, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	claims := m.Snapshot(MaxClaims)
	if len(claims) != MaxClaims {
		t.Fatalf("%d claims", len(claims))
	}
	for i, c := range claims {
		if i > 0 && c.Off <= claims[i-1].Off {
			t.Fatalf("claims not sorted: %+v, %+v", claims[i-1], c)
		}
		if c.Done < 1500-MaxClaims {
			t.Errorf("the small claim %+v was kept, larger ones were not", c)
		}
	}
}
