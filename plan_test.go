package ossdl_test

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// planned plans ranges of keys that are sorted, and returns how many keys each has. It checks that they are what PlanRanges promises.
func planned(t *testing.T, keys []string, prefix string, n int) (counts []int, requests int) {
	t.Helper()
	s := harness.NewServer(t)
	content := osstest.Random(1, 1)
	s.SetVirtual("bkt", len(keys), func(i int) (string, osstest.Content) { return keys[i], content })
	ranges, err := harness.NewDownloader(t, s).PlanRanges(t.Context(), "bkt", prefix, n)
	if err != nil {
		t.Fatal(err)
	}
	first := sort.SearchStrings(keys, prefix)
	mine := keys[first:]
	mine = mine[:sort.Search(len(mine), func(i int) bool { return !strings.HasPrefix(mine[i], prefix) })]
	if want := max(1, min(n, len(mine))); len(ranges) > n || len(mine) <= 16000 && len(ranges) != want {
		t.Errorf("%d ranges of %d keys, want %d", len(ranges), len(mine), n)
	}
	after, share := "", 0.0
	for i, r := range ranges {
		if r.After != after || (r.Until == "") != (i == len(ranges)-1) || r.Until != "" && r.Until <= r.After {
			t.Fatalf("range %d is %+v, behind one until %q", i, r, after)
		}
		from := sort.Search(len(mine), func(i int) bool { return mine[i] > r.After })
		to := sort.Search(len(mine), func(i int) bool { return r.Until != "" && mine[i] > r.Until || i == len(mine) })
		if r.Until == "" {
			to = len(mine)
		}
		if from == to && len(mine) > 0 {
			t.Errorf("range %d is empty: %+v", i, r)
		}
		counts = append(counts, to-from)
		after, share = r.Until, share+r.Share
	}
	if share < 0.999 || share > 1.001 {
		t.Errorf("the shares sum up to %g", share)
	}
	return counts, len(s.Requests())
}

func sortedKeys(n int, key func(i int) string) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = key(i)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// hashed is a number without order.
func hashed(i int) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, i)
	return h.Sum64() * 0x9e3779b97f4a7c15
}

// TestPlanRangesBalance checks how equal ranges are for keys as they are found in buckets, and how many requests that takes.
func TestPlanRangesBalance(t *testing.T) {
	const total, n = 200_000, 16
	for name, key := range map[string]func(i int) string{
		"sequential": func(i int) string { return fmt.Sprintf("p/%09d", i) },
		"unpadded":   func(i int) string { return fmt.Sprintf("p/%d", i) },
		"hashes":     func(i int) string { return fmt.Sprintf("p/%016x", hashed(i)) },
		"dates":      func(i int) string { return fmt.Sprintf("p/2024/%02d/%02d/%06d.log", 1+i%12, 1+i/12%28, i) },
		"recent dates": func(i int) string {
			return fmt.Sprintf("p/%d/%02d/%06d", 2024-int(hashed(i)%1000*hashed(i+1e6)%1000/300), 1+i%12, i)
		},
		"one prefix": func(i int) string { return "p/" + strings.Repeat("deep/", 100*min(1, i%100)) + fmt.Sprintf("%08d", i) },
		"folders":    func(i int) string { return fmt.Sprintf("p/user-%04x/photos/%03d.jpg", uint16(hashed(i%700)), i/700) },
		"unicode": func(i int) string {
			return fmt.Sprintf("p/%c%c/%d", rune(0x4e00+hashed(i)%3000), rune(0x1f600+hashed(i)>>20%60), i)
		},
	} {
		t.Run(name, func(t *testing.T) {
			counts, requests := planned(t, sortedKeys(total, key), "p/", n)
			t.Logf("%d requests, ranges of %v", requests, counts)
			if len(counts) != n || slices.Max(counts) > 2*total/n || requests > 512 {
				t.Errorf("%d ranges, the largest of %d keys for an ideal %d, after %d requests", len(counts), slices.Max(counts), total/n, requests)
			}
		})
	}
}

// TestPlanRangesAnyKeys checks that ranges of any keys cover them once and none is empty.
func TestPlanRangesAnyKeys(t *testing.T) {
	runes := []rune("\x01\t /09az~%+\u00e9\u4e00\ufffd\U0001f600\U0010ffff")
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 1))
		few := runes[:1+r.IntN(len(runes))]
		keys := sortedKeys(r.IntN(20_000), func(int) string {
			key := "p"
			for range 1 + r.IntN(12) {
				key += string(few[r.IntN(len(few))])
			}
			return key
		})
		planned(t, append(append([]string{"a"}, keys...), "q"), []string{"", "p"}[r.IntN(2)], 1+r.IntN(40))
		if t.Failed() {
			t.Fatalf("seed %d, %d keys", seed, len(keys))
		}
	}
}

// TestPlanRangesOfFewKeys checks prefixes that have fewer keys than ranges were asked for.
func TestPlanRangesOfFewKeys(t *testing.T) {
	for keys := range 5 {
		counts, requests := planned(t, sortedKeys(keys, func(i int) string { return fmt.Sprint("p/", i) }), "p/", 3)
		if slices.Max(counts)-slices.Min(counts) > 1 || requests != 1 {
			t.Errorf("%d keys: ranges of %v, %d requests", keys, counts, requests)
		}
	}
}

// TestPlanRangesFaults checks that a listing that fails or lies is an error, and that one that recovers is asked again.
func TestPlanRangesFaults(t *testing.T) {
	page := func(contents string) *osstest.Fault {
		return osstest.Inject().Reply(200, "application/xml", "<ListBucketResult>"+contents+"</ListBucketResult>")
	}
	for name, c := range map[string]struct {
		fault *osstest.Fault
		want  string
	}{
		"another prefix": {page("<Contents><Key>q</Key></Contents>"), "does not begin with the prefix"},
		"out of order":   {page("<Contents><Key>p/b</Key></Contents><Contents><Key>p/a</Key></Contents>"), "out of order"},
		"no keys":        {page("<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"), "no key"},
		"no listing":     {page("<Contents>"), "no listing"},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewServer(t)
			s.OnList(func(*osstest.Request) *osstest.Fault { return c.fault })
			ranges, err := harness.NewDownloader(t, s, ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1})).PlanRanges(t.Context(), "bkt", "p/", 3)
			if err == nil || !strings.Contains(err.Error(), c.want) || ranges != nil {
				t.Errorf("%v, %v", ranges, err)
			}
		})
	}
	for _, n := range []int{-1, 0, ossdl.MaxRanges + 1} {
		if _, err := harness.NewDownloader(t, harness.NewServer(t)).PlanRanges(t.Context(), "bkt", "", n); err == nil {
			t.Errorf("%d ranges: no error", n)
		}
	}
}
