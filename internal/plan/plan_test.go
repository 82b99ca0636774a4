package plan

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// listing is sorted keys that are listed by pages.
type listing struct {
	keys  int
	key   func(i int) string
	page  int
	asked atomic.Int64
}

func (l *listing) list(_ context.Context, after string) (keys []string, more bool, err error) {
	l.asked.Add(1)
	from := l.upTo(after)
	to := min(from+l.page, l.keys)
	for i := from; i < to; i++ {
		keys = append(keys, l.key(i))
	}
	return keys, to < l.keys, nil
}

// upTo returns how many keys do not come after one.
func (l *listing) upTo(key string) int {
	return sort.Search(l.keys, func(i int) bool { return l.key(i) > key })
}

func of(keys []string) func(int) string { return func(i int) string { return keys[i] } }

// counts returns how many keys each range has, and checks that each key is in one of them.
func (l *listing) counts(t *testing.T, ranges []Range, n int) (counts []int) {
	t.Helper()
	if len(ranges) > max(n, 1) {
		t.Fatalf("%d ranges, want %d", len(ranges), n)
	}
	after, from, share := "", 0, 0.0
	for i, r := range ranges {
		if r.After != after || (r.Until == "") != (i == len(ranges)-1) || r.Until != "" && r.Until <= r.After {
			t.Fatalf("range %d is %+v, behind one until %q", i, r, after)
		}
		to := l.keys
		if r.Until != "" {
			to = l.upTo(r.Until)
		}
		counts = append(counts, to-from)
		after, from, share = r.Until, to, share+r.Share
	}
	if share < 0.999 || share > 1.001 {
		t.Errorf("the shares sum up to %g", share)
	}
	return counts
}

// families are keys as buckets have them, each with about n of them.
func families(n int) map[string][]string {
	r := rand.New(rand.NewPCG(1, 2))
	hashes := make([]uint64, n)
	for i := range hashes {
		hashes[i] = r.Uint64()
	}
	slices.Sort(hashes)
	each := func(key func(i int) string) []string {
		keys := make([]string, n)
		for i := range keys {
			keys[i] = key(i)
		}
		if !slices.IsSorted(keys) {
			slices.Sort(keys)
		}
		return slices.Compact(keys)
	}
	f := map[string][]string{
		"counter":  each(func(i int) string { return fmt.Sprintf("p/%012d", i) }),
		"unpadded": each(func(i int) string { return "p/" + strconv.Itoa(i) }),
		"hex":      each(func(i int) string { return fmt.Sprintf("p/%016x", hashes[i]) }),
		"uuid": each(func(i int) string {
			return fmt.Sprintf("p/%08x-%04x-4%03x-9%03x-%012x", hashes[i]>>32, hashes[i]>>16&0xffff, hashes[i]>>4&0xfff, i&0xfff, hashes[i]*7>>16)
		}),
		"dates": each(func(i int) string {
			return fmt.Sprintf("logs/2026/%02d/%02d/%02d/%02d/host-%05d.log", 1+i%12, 1+i/12%28, i/336%24, i/8064%60, i)
		}),
	}
	var growing []string
	for day := 0; len(growing) < n; day++ {
		of := n / 600 * (day/50 + 1) / 12 // more each month
		if day%7 > 4 {
			of /= 4
		}
		for i := range max(of, 1) {
			growing = append(growing, fmt.Sprintf("logs/%d/%02d/%02d/%c%05x", 2024+day/336, 1+day/28%12, 1+day%28, 'a'+rune(i%6), i*7919%(1<<20)))
		}
	}
	slices.Sort(growing)
	f["growing dates"] = slices.Compact(growing)
	var huge []string
	for i := range n {
		switch {
		case i%100 < 2:
			huge = append(huge, fmt.Sprintf("p/t%04d/%03d", i%3001, i))
		default:
			huge = append(huge, fmt.Sprintf("p/t1500/huge/%x/%08d", hashes[i]%256, i))
		}
	}
	slices.Sort(huge)
	f["one huge"] = huge
	var users []string
	for user := 0; len(users) < n; user++ {
		of := int(20 * float64(n) / 10000 / (0.02 + r.Float64())) // heavy tail
		name := fmt.Sprintf("user-%08x", uint32(user)*2654435761)
		for i := range of {
			users = append(users, fmt.Sprintf("%s/photos/IMG_%04d.jpg", name, i))
		}
	}
	slices.Sort(users)
	f["users"] = users
	var zipf []string
	z := rand.NewZipf(r, 1.3, 1, 5000)
	for i := range n {
		zipf = append(zipf, fmt.Sprintf("t/%04d/%06x", z.Uint64(), hashes[i]%(1<<24)*256+uint64(i%256)))
	}
	slices.Sort(zipf)
	f["zipf"] = slices.Compact(zipf)
	nasty := []rune("\x01\x02\t\n \"'$`\\/~é一丁七万丈三上下不与丐\ufffd😀😁😂🤣\U0010ffff")
	f["nasty"] = each(func(i int) string {
		key := "p/"
		for range 3 + r.IntN(6) {
			if r.IntN(4) == 0 {
				key += strings.Repeat("/", 1+r.IntN(3))
			}
			key += string(nasty[r.IntN(len(nasty))])
		}
		return key
	})
	f["chinese"] = each(func(i int) string {
		return fmt.Sprintf("照片/%c%c/%c-%d", rune(0x4e00+hashes[i]%3000), rune(0x4e00+hashes[i]>>20%100), rune(0x1f600+hashes[i]>>40%60), i)
	})
	f["mixed"] = slices.Sorted(slices.Values(slices.Concat(f["dates"][:n/4], f["hex"][:n/4], f["users"][:n/4], f["unpadded"][:n/4])))
	return f
}

func TestBalance(t *testing.T) {
	for name, keys := range families(1_000_000) {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{16, 64, 1000} {
				l := &listing{keys: len(keys), key: of(keys), page: 100}
				ranges, err := Ranges(t.Context(), l.list, "", 1023, n)
				if err != nil {
					t.Fatal(err)
				}
				counts := l.counts(t, ranges, n)
				ideal := float64(len(keys)) / float64(n)
				least, most := float64(slices.Min(counts))/ideal, float64(slices.Max(counts))/ideal
				t.Logf("%-14s %8d keys, n %4d: %4d ranges, %5d requests, %.2f to %.2f of the share", name, len(keys), n, len(ranges), l.asked.Load(), least, most)
			}
		})
	}
}
