package ossdl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ossdl/ossdl/internal/bucket"
	"github.com/ossdl/ossdl/internal/engine"
)

// MaxRanges is the largest number of ranges that [Downloader.PlanRanges] finds.
const MaxRanges = 10000

// KeyRange is a part of the keys of a prefix, for [WithKeyRange].
type KeyRange struct {
	After string  // its keys come after this one; "": from the first key of the prefix
	Until string  // and not after this one, which exists; "": up to the last key of the prefix
	Share float64 // how much of the prefix it has, estimated; the sum over all ranges is 1
}

const (
	planListed   = 16      // pages that are listed in order before the planner estimates
	planSamples  = 16      // keys that are kept of a page; of the first ones all are kept
	planPerRange = 32      // requests for each range, at most
	planLeast    = 512     // requests for a few ranges, at most
	planMost     = 8 << 10 // requests for any number of ranges
	planFineness = 64      // a stretch that is not known holds at most this part of a range, if the requests suffice
	planDigits   = 40      // runes behind the common prefix of two keys that count for their distance
)

// PlanRanges finds up to n ranges of keys that together hold each key with the prefix once, in about equal numbers, for n workers
// that call [Downloader.DownloadPrefix] with [WithKeyRange]. n may be 1 to [MaxRanges].
//
// The ranges come in the order of the keys. The first begins before all keys of the prefix, the last ends behind them, and each
// begins where the one before ends. So they also cover keys that are uploaded later. When it was planned, no range was empty: of
// fewer than n keys there are as many ranges as keys, and of none there is one.
//
// A prefix of up to 16,000 keys is listed, so that its ranges are exact. Of a larger one PlanRanges looks at pages here and there,
// with 512 requests or 32 for each range, at most 8192, and estimates what lies between. Up to 16,000 keys of the first pages
// and 16 of each further one are kept in memory. Keys count, and not their sizes.
//
// The permission oss:ListObjects is needed. A listing that fails, or that is not in the order of the keys' bytes, is an error.
func (d *Downloader) PlanRanges(ctx context.Context, bucket, prefix string, n int, opts ...Option) ([]KeyRange, error) {
	cfg, err := d.cfg.with(inPlanRanges, opts)
	if err == nil && (n < 1 || n > MaxRanges) {
		err = fmt.Errorf("%d ranges: 1 to %d are allowed", n, MaxRanges)
	}
	if err != nil {
		return nil, nameError("plan", bucket, prefix, err)
	}
	call, err := d.newPrefixCall(ctx, bucket, prefix, ".", cfg) // the folder is never opened
	if err != nil {
		return nil, nameError("plan", bucket, prefix, err)
	}
	ctx, done := call.panics.during(ctx)
	defer done()
	p := &planner{call: call, n: n, runes: []rune{utf8.MaxRune}}
	err = p.explore(ctx)
	call.panics.raise(err)
	if err != nil {
		return nil, nameError("plan", bucket, prefix, err)
	}
	return p.ranges(), nil
}

// planner knows stretches of the keys, and estimates what lies between them.
type planner struct {
	call      *prefixCall
	n         int
	runes     []rune // those that keys are made of, sorted; distances between keys are counted in them
	stretches []stretch
	requests  int
}

// stretch is what one page has told: how many keys come after from and not after to. Behind it is a gap, up to the next one.
type stretch struct {
	from, to string // "" for from: the beginning of the prefix
	keys     int
	some     []string // keys of it, evenly spaced; the last one is the last key
	closed   bool     // nothing is in the gap behind it
	gap      float64  // the keys in the gap, estimated
}

// explore asks for pages until no gap holds more than a small part of a range, or enough requests were made.
func (p *planner) explore(ctx context.Context) error {
	if err := p.page(ctx, 0, ""); err != nil {
		return err
	}
	for budget := min(max(planLeast, planPerRange*p.n), planMost); p.requests < budget; {
		at, gap := p.widest()
		if at < 0 {
			return nil
		}
		last := &p.stretches[at]
		if p.requests < planListed || gap <= bucket.PageKeys {
			if err := p.page(ctx, at+1, last.to); err != nil {
				return err
			}
			continue
		}
		if p.requests > planLeast/4 && gap*float64(planFineness*p.n) < p.total() {
			return nil
		}
		if err := p.page(ctx, at+1, p.probe(at)); err != nil {
			return err
		}
	}
	return nil
}

// widest returns the stretch before the gap with most keys, or -1 if there is no gap. The first pages are listed in order.
func (p *planner) widest() (at int, gap float64) {
	at = -1
	for i := range p.stretches {
		if s := &p.stretches[i]; !s.closed && (at < 0 || s.gap > gap) {
			at, gap = i, s.gap
		}
	}
	return at, gap
}

// total is the number of keys, estimated.
func (p *planner) total() (keys float64) {
	for i := range p.stretches {
		keys += float64(p.stretches[i].keys) + p.stretches[i].gap
	}
	return keys
}

// end returns where the gap behind a stretch ends; "": behind all keys of the prefix.
func (p *planner) end(at int) string {
	if at+1 < len(p.stretches) {
		return p.stretches[at+1].from
	}
	return ""
}

// page asks for the keys after one, which is in the gap before the stretch at, or begins it.
func (p *planner) page(ctx context.Context, at int, after string) error {
	c := p.call
	var entries []bucket.Entry
	var next bucket.Cursor
	p.requests++
	err := c.ask(ctx, "listing", func(ctx context.Context, m *engine.Meter) (err error) {
		entries, next, err = c.bucket.List(ctx, c.prefix, bucket.After(after), func(r io.Reader) io.Reader { return m.Reader(ctx, c.lane, r) })
		return err
	})
	for i := 0; err == nil && i < len(entries); i++ {
		if key := entries[i].Key; !strings.HasPrefix(key, c.prefix) {
			err = fmt.Errorf("%q does not begin with the prefix", key)
		} else if !utf8.ValidString(key) {
			err = fmt.Errorf("%q is not UTF-8", key)
		}
	}
	if err == nil && len(entries) == 0 && next.Token != "" {
		err = errors.New("a page holds no key and says that there are more")
	}
	if err != nil {
		return fmt.Errorf("listing: %w", err)
	}
	p.take(at, after, entries, next.Token == "")
	return nil
}

// take enters a page. What it shares with the next stretch is left out, and where it reaches that one, the gap is closed.
func (p *planner) take(at int, after string, entries []bucket.Entry, last bool) {
	s := stretch{from: after, to: after, closed: last}
	if at < len(p.stretches) {
		next := p.stretches[at].from
		i, _ := slices.BinarySearchFunc(entries, next, func(e bucket.Entry, key string) int { return cmp.Compare(e.Key, key) })
		if i < len(entries) && entries[i].Key == next {
			i++
		}
		s.closed = s.closed || i < len(entries) || i > 0 && entries[i-1].Key == next
		entries = entries[:i]
	}
	s.keys = len(entries)
	step := 1
	if len(p.stretches) >= planListed {
		step = max(1, len(entries)/planSamples)
	}
	for i := (len(entries) - 1) % step; i >= 0 && i < len(entries); i += step {
		s.some = append(s.some, strings.Clone(entries[i].Key))
	}
	for _, key := range s.some {
		p.learn(key[len(p.call.prefix):])
		s.to = key
	}
	p.stretches = slices.Insert(p.stretches, at, s)
	for i := max(0, at-1); i <= min(at+1, len(p.stretches)-1); i++ {
		p.estimate(i)
	}
}

// learn enters the runes of a key.
func (p *planner) learn(key string) {
	for _, r := range key {
		if at, known := slices.BinarySearch(p.runes, r); !known {
			p.runes = slices.Insert(p.runes, at, r)
		}
	}
}

// estimate sets how many keys are in the gap behind a stretch: those on both sides of it are as dense as in it. Too large
// an estimate is corrected by looking there, and too small a one is not, so the denser side counts as much as the other.
func (p *planner) estimate(at int) {
	s := &p.stretches[at]
	if s.gap = 0; s.closed {
		return
	}
	end := p.end(at)
	density, sides := p.density(s, s.to, end), 1.0
	if at+1 < len(p.stretches) {
		if next := &p.stretches[at+1]; next.keys > 0 {
			density += p.density(next, s.to, end)
			sides++
		}
	}
	s.gap = min(density/sides, math.MaxInt64)
}

// density returns how many keys a gap has, if it is as dense as a stretch.
func (p *planner) density(s *stretch, from, to string) float64 {
	return float64(s.keys) * p.ratio(from, to, s.from, s.to)
}

// ratio returns how many times as far apart from and to are as the other two.
func (p *planner) ratio(from, to, from2, to2 string) float64 {
	depth := min(p.common(from, to), p.common(from2, to2))
	return p.distance(from, to, depth) / max(p.distance(from2, to2, depth), math.SmallestNonzeroFloat64)
}

// digits returns the ranks of a key's runes behind the prefix. "" is the beginning of the prefix if it is a lower bound, and
// its end if it is an upper one.
func (p *planner) digits(key string, upper bool) (digits []int) {
	if key == "" {
		if upper {
			return []int{len(p.runes) + 1}
		}
		return nil
	}
	for _, r := range key[min(len(key), len(p.call.prefix)):] {
		at, _ := slices.BinarySearch(p.runes, r)
		digits = append(digits, at+1)
	}
	return digits
}

// common returns how many runes two keys have in common behind the prefix.
func (p *planner) common(from, to string) (n int) {
	a, b := p.digits(from, false), p.digits(to, true)
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// distance returns how far two keys are apart, that have depth runes in common, as a fraction.
func (p *planner) distance(from, to string, depth int) (d float64) {
	a, b := p.digits(from, false), p.digits(to, true)
	unit, base := 1.0, float64(len(p.runes)+1)
	for i := depth; i < max(len(a), len(b)) && i < depth+4*planDigits; i++ {
		unit /= base
		d += unit * float64(digit(b, i)-digit(a, i))
	}
	return max(d, 0)
}

func digit(digits []int, i int) int {
	if i < len(digits) {
		return digits[i]
	}
	return 0
}

// probe returns where to look in the gap behind a stretch. If the keys of the stretch share much of their beginning, that is behind
// all keys that share it, which the middle of the gap would come to in many steps only.
func (p *planner) probe(at int) string {
	s, end := &p.stretches[at], p.end(at)
	if own := p.common(s.from, s.to); s.from != "" && own > p.common(s.to, end)+1 {
		shared := []rune(s.to[len(p.call.prefix):])[:own]
		key := p.call.prefix + string(shared) + string(utf8.MaxRune)
		if len(key) <= bucket.MaxKey && key > s.to && (end == "" || key < end) {
			return key
		}
	}
	return p.between(s.to, end)
}

// between returns a key in the middle of a gap, or its beginning if there is no room.
func (p *planner) between(from, to string) string {
	a, b := p.digits(from, false), p.digits(to, true)
	depth := p.common(from, to)
	base := len(p.runes) + 1
	sum := make([]int, depth+planDigits)
	carry := 0
	for i := len(sum) - 1; i >= 0; i-- {
		n := digit(a, i) + digit(b, i) + carry
		if carry = 0; n >= base && i > 0 {
			n, carry = n-base, 1
		}
		sum[i] = n
	}
	key := strings.Clone(p.call.prefix)
	rest := 0
	for i, n := range sum {
		n += rest * base
		half := n / 2
		rest = n % 2
		if half == 0 || half > len(p.runes) {
			break
		}
		next := key + string(p.runes[half-1])
		if len(next) > bucket.MaxKey {
			break
		}
		key = next
		if i >= depth+3 && key > from && (to == "" || key < to) {
			return key
		}
	}
	if key > from && (to == "" || key < to) {
		return key
	}
	return from
}

// ranges cuts what is known at keys that exist.
func (p *planner) ranges() (ranges []KeyRange) {
	total := p.total()
	var passed, cut float64 // keys up to where this is, and up to the last cut
	after, final := "", p.last()
	end := func(key string, at float64) {
		if len(ranges)+1 < p.n && at >= total*float64(len(ranges)+1)/float64(p.n) && key > after && key < final {
			ranges = append(ranges, KeyRange{After: after, Until: key, Share: (at - cut) / total})
			after, cut = key, at
		}
	}
	for i := range p.stretches {
		s := &p.stretches[i]
		for j, key := range s.some {
			end(key, passed+float64(s.keys)*float64(j+1)/float64(len(s.some)))
		}
		passed += float64(s.keys) + s.gap
	}
	share := 1.0
	if total > 0 {
		share = (total - cut) / total
	}
	return append(ranges, KeyRange{After: after, Share: share})
}

// last returns the last key that is known.
func (p *planner) last() (key string) {
	for i := range p.stretches {
		if some := p.stretches[i].some; len(some) > 0 {
			key = some[len(some)-1]
		}
	}
	return key
}
