package ossdl_test

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// serveKeys makes the keys of a bucket out of their numbers.
func serveKeys(s *osstest.Server, n int, key func(i int) string) {
	content := osstest.Random(1, 1)
	s.SetVirtual("bkt", n, func(i int) (string, osstest.Content) { return key(i), content })
}

// keysIn returns how many keys each range has, out of n sorted ones with the prefix, and checks that each key is in one range.
func keysIn(t *testing.T, ranges []ossdl.KeyRange, n int, key func(i int) string) (counts []int) {
	t.Helper()
	after, from := "", 0
	for i, r := range ranges {
		if r.After != after || (r.Until == "") != (i == len(ranges)-1) || r.Until != "" && r.Until <= r.After {
			t.Fatalf("range %d is %+v, behind one until %q", i, r, after)
		}
		if err := ossdl.WithKeyRange(r.After, r.Until).Check(); err != nil {
			t.Errorf("range %d: %v", i, err)
		}
		to := n
		if r.Until != "" {
			to = sort.Search(n, func(i int) bool { return key(i) > r.Until })
		}
		counts = append(counts, to-from)
		after, from = r.Until, to
	}
	return counts
}

// TestPlanRanges checks ranges of a prefix beside others, over the wire: they are balanced, and DownloadPrefix takes them.
func TestPlanRanges(t *testing.T) {
	const n = 60_000
	key := func(i int) string {
		return fmt.Sprintf("p/2026/%02d/%02d/\u7167\u7247-%05d", i/6000+1, i/300%20+1, i%300)
	}
	s := harness.NewServer(t)
	serveKeys(s, n+2, func(i int) string {
		switch i {
		case 0:
			return "a"
		case n + 1:
			return "q"
		}
		return key(i - 1)
	})
	d := harness.NewDownloader(t, s)
	ranges, err := d.PlanRanges(t.Context(), "bkt", "p/", 16)
	if err != nil {
		t.Fatal(err)
	}
	counts := keysIn(t, ranges, n, key)
	t.Logf("%d requests, ranges of %v", len(s.Requests()), counts)
	if len(counts) != 16 || slices.Min(counts) < n/16/2 || slices.Max(counts) > 2*n/16 {
		t.Errorf("%d ranges, of %v", len(counts), counts)
	}
	for _, r := range s.Requests() {
		if q, err := url.ParseQuery(r.Query); err != nil || q.Get("prefix") != "p/" || q.Get("max-keys") != "1000" {
			t.Fatalf("request %v", r.Query)
		}
	}
	r := ranges[7]
	res, err := d.DownloadPrefix(t.Context(), "bkt", "p/", t.TempDir(), ossdl.WithKeyRange(r.After, r.Until), ossdl.WithDryRun())
	if err != nil || res.Done != counts[7] {
		t.Errorf("%+v, %v, want %d keys", res, err, counts[7])
	}
}

// TestPlanRangesOfIrregularKeys checks ranges of keys that are nearly all below one long common prefix, or have bytes that a URL, a
// listing or a planner might read in another way. They are balanced all the same, and each is a bound that can be given.
func TestPlanRangesOfIrregularKeys(t *testing.T) {
	long := strings.Repeat("one/long/prefix-of-all/", 30)
	for name, key := range map[string]func(i int) string{
		"one in a hundred is elsewhere": func(i int) string {
			if i%100 == 0 {
				return fmt.Sprintf("p/%03d/%d", i%997, i)
			}
			return fmt.Sprintf("p/%s%07d", long, i)
		},
		"a common prefix that is not ASCII": func(i int) string {
			return fmt.Sprintf("p/%s/%c/%d", strings.Repeat("照片", 60), rune(0x4e00+i%700), i)
		},
		"escaped":              func(i int) string { return fmt.Sprintf("p/%%E7%%85%%A7/%%%02X+%d&a=b?c#%%2F", i%256, i) },
		"all that XML escapes": func(i int) string { return fmt.Sprintf("p/<&>\"'%c]]> \x01\t\r\n%d", rune(0x80+i%1500), i) },
	} {
		t.Run(name, func(t *testing.T) {
			const n, shards = 20_000, 8
			keys := make([]string, n)
			for i := range keys {
				keys[i] = key(i)
			}
			slices.Sort(keys)
			of := func(i int) string { return keys[i] }
			s := harness.NewServer(t)
			serveKeys(s, n, of)
			ranges, err := harness.NewDownloader(t, s).PlanRanges(t.Context(), "bkt", "p/", shards)
			if err != nil {
				t.Fatal(err)
			}
			counts := keysIn(t, ranges, n, of)
			t.Logf("%d requests, ranges of %v", len(s.Requests()), counts)
			if len(counts) != shards || slices.Min(counts) < n/shards/2 || slices.Max(counts) > 2*n/shards {
				t.Errorf("%d ranges, of %v", len(counts), counts)
			}
		})
	}
}

// TestPlanRangesOfFewKeys checks prefixes that have fewer keys than ranges were asked for, and none.
func TestPlanRangesOfFewKeys(t *testing.T) {
	for n := range 5 {
		key := func(i int) string { return fmt.Sprint("p/\x01'", i) }
		s := harness.NewServer(t)
		serveKeys(s, n, key)
		ranges, err := harness.NewDownloader(t, s).PlanRanges(t.Context(), "bkt", "p/", 3)
		if err != nil {
			t.Fatal(err)
		}
		counts := keysIn(t, ranges, n, key)
		if len(counts) != max(1, min(n, 3)) || slices.Max(counts)-slices.Min(counts) > 1 || len(s.Requests()) != 1 {
			t.Errorf("%d keys: ranges of %v, %d requests", n, counts, len(s.Requests()))
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
		"not UTF-8":      {page("<EncodingType>url</EncodingType><Contents><Key>p/%FF</Key></Contents>"), "UTF-8"},
		"out of order":   {page("<Contents><Key>p/b</Key></Contents><Contents><Key>p/a</Key></Contents>"), "out of order"},
		"no end":         {page("<IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken>"), "token"},
		"no listing":     {page("<Contents>"), "no listing"},
		"refused":        {osstest.Inject().Error(403, "AccessDenied"), "AccessDenied"},
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
	if _, err := harness.NewDownloader(t, harness.NewServer(t)).PlanRanges(t.Context(), "absent", "", 2); !errors.Is(err, ossdl.ErrNotFound) {
		t.Errorf("no such bucket: %v", err)
	}
}

// TestPlanRangesOfTenMillion checks ranges of ten million keys that a server generates, and prints what finding them took, if
// OSSDL_LONG is set.
func TestPlanRangesOfTenMillion(t *testing.T) {
	if os.Getenv("OSSDL_LONG") == "" {
		t.Skip("it takes minutes; OSSDL_LONG=1 runs it")
	}
	const n = 10_000_000
	for name, key := range map[string]func(i int) string{
		"counter": func(i int) string { return fmt.Sprintf("p/%012d", i) },
		"hex": func(i int) string {
			return fmt.Sprintf("p/%016x", uint64(i)*1844674407370+uint64(i*7919%1000)*1_000_000_000)
		},
		"dates": func(i int) string { // 720 days with as many hours; each has 578 or 579 keys
			hour, at := i/579, i%579
			return fmt.Sprintf("p/logs/%d/%02d/%02d/%02d/host-%03d.log.gz", 2024+hour/8640, hour/720%12+1, hour/24%30+1, hour%24, at)
		},
	} {
		for _, shards := range []int{16, 64, 1000} {
			t.Run(fmt.Sprint(name, " ", shards), func(t *testing.T) {
				s := harness.NewServer(t)
				serveKeys(s, n, key)
				d := harness.NewDownloader(t, s)
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				ranges, err := d.PlanRanges(t.Context(), "bkt", "p/", shards)
				if err != nil {
					t.Fatal(err)
				}
				runtime.ReadMemStats(&after)
				counts := keysIn(t, ranges, n, key)
				ideal := n / shards
				t.Logf("%d keys, %d ranges: %d requests, %d MiB of heap at the end, the server's among them; ranges of %.2f to %.2f of the share", n, len(ranges), len(s.Requests()),
					(int64(after.HeapAlloc)-int64(before.HeapAlloc))>>20, float64(slices.Min(counts))/float64(ideal), float64(slices.Max(counts))/float64(ideal))
				if shards == 16 {
					t.Logf("keys for each worker: %v", counts)
				}
				if shards < 1000 && (slices.Min(counts) < ideal/2 || slices.Max(counts) > 2*ideal) {
					t.Errorf("ranges of %v, want %d", counts, ideal)
				}
			})
		}
	}
}
