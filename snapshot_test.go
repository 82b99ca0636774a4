package ossdl

import (
	"slices"
	"testing"
)

// TestCoarsen checks which claims are joined, and in which order, when there are more than a checkpoint may have.
func TestCoarsen(t *testing.T) {
	const m = mergeUnsynced
	at := func(off, size int64, synced bool) claim {
		return claim{off: off, size: size, done: size, synced: synced}
	}
	partly := claim{off: 2, size: 8, done: 4, synced: true}
	for _, c := range []struct {
		name        string
		claims      []claim
		limit       int
		synced, all []claim // after the pass over synced claims, and after the one over all
	}{
		{"few enough", []claim{at(0, 1, true), at(1, 1, true)}, 2,
			[]claim{at(0, 1, true), at(1, 1, true)}, []claim{at(0, 1, true), at(1, 1, true)}},
		{"synced neighbours first", []claim{at(0, 1, true), at(1, 1, true), at(2, 1, false), at(3, 1, false)}, 3,
			[]claim{at(0, 2, true), at(2, 1, false), at(3, 1, false)}, []claim{at(0, 2, true), at(2, 1, false), at(3, 1, false)}},
		{"then unsynced ones, too", []claim{at(0, 1, true), at(1, 1, true), at(2, 1, false), at(3, 1, false)}, 2,
			[]claim{at(0, 2, true), at(2, 1, false), at(3, 1, false)}, []claim{at(0, 4, false)}},
		{"a gap is never joined", []claim{at(0, 1, true), at(2, 1, true)}, 1,
			[]claim{at(0, 1, true), at(2, 1, true)}, []claim{at(0, 1, true), at(2, 1, true)}},
		{"what is done in part ends a claim", []claim{at(0, 2, true), partly, at(10, 1, true)}, 1,
			[]claim{{off: 0, size: 10, done: 6, synced: true}, at(10, 1, true)},
			[]claim{{off: 0, size: 10, done: 6, synced: true}, at(10, 1, true)}},
		{"the smallest bound that is enough", []claim{at(0, m, true), at(m, m, true), at(2*m, 2*m, true)}, 2,
			[]claim{at(0, 2*m, true), at(2*m, 2*m, true)}, []claim{at(0, 2*m, true), at(2*m, 2*m, true)}},
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
	s := newSet(size)
	step := int64(size / 3000)
	for i := range int64(1500) {
		if err := s.claim(span{2 * i * step, 2*i*step + 1 + i}, uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	claims := s.snapshot(maxClaims)
	if len(claims) != maxClaims {
		t.Fatalf("%d claims", len(claims))
	}
	for i, c := range claims {
		if i > 0 && c.off <= claims[i-1].off {
			t.Fatalf("claims not sorted: %+v, %+v", claims[i-1], c)
		}
		if c.done < 1500-maxClaims {
			t.Errorf("the small claim %+v was kept, larger ones were not", c)
		}
	}
}
