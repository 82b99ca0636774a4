package ossdl

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/ossdl/ossdl/internal/bucket"
	"github.com/ossdl/ossdl/internal/plan"
)

// MaxRanges is the largest number of ranges that [Downloader.PlanRanges] finds.
const MaxRanges = 10000

// KeyRange is a part of the keys of a prefix, for [WithKeyRange].
type KeyRange struct {
	After string  // its keys come after this one; "": from the first key of the prefix
	Until string  // and not after this one, which need not exist; "": up to the last key of the prefix
	Share float64 // how much of the prefix it has, estimated; the sum over all ranges is 1
}

// PlanRanges finds up to n ranges of keys that together hold each key with the prefix once, in about equal numbers, for n workers
// that call [Downloader.DownloadPrefix] with [WithKeyRange]. n may be 1 to [MaxRanges].
//
// The ranges come in the order of the keys. The first begins before all keys of the prefix, the last ends behind them, and each
// begins where the one before ends. So each key is in one range, even if it is uploaded later, or while PlanRanges looks.
//
// A prefix of up to 16,000 keys is listed. Then the numbers differ by one key at most, no range is empty, and of fewer than n keys
// there are as many ranges as keys. Of a larger prefix PlanRanges asks for pages here and there, and estimates what lies between
// them. It makes 4096 requests at most for up to 64 ranges, 64 for each of more, and 8192 for any number. A prefix of so
// many pages, which have 1000 keys each, is mostly counted; docs/design.md says how far off ranges of a larger one are.
//
// Keys count, and not their sizes. Up to 16 requests are made at once, and 16 keys of each page are kept in memory.
//
// The permission oss:ListObjects is needed. A listing that fails, or that is not in the order of the keys' bytes, is an error.
func (d *Downloader) PlanRanges(ctx context.Context, bucket, prefix string, n int, opts ...Option) ([]KeyRange, error) {
	cfg, err := d.settings(inPlanRanges, opts)
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
	ranges, err := call.plan(ctx, n)
	if err != nil {
		return nil, nameError("plan", bucket, prefix, err)
	}
	return ranges, nil
}

func (p *prefixCall) plan(ctx context.Context, n int) ([]KeyRange, error) {
	ctx, done := p.panics.During(ctx)
	defer done()
	stop := p.watchdog.Start(p.d.gate.Tick)
	defer stop()
	found, err := plan.Ranges(ctx, p.keysAfter, p.prefix, bucket.MaxKey, n)
	p.panics.Raise(err)
	if err != nil {
		return nil, err
	}
	ranges := make([]KeyRange, len(found))
	for i, r := range found {
		ranges[i] = KeyRange(r)
	}
	return ranges, nil
}

// keysAfter returns a page of keys. It is called concurrently.
func (p *prefixCall) keysAfter(ctx context.Context, after string) (keys []string, more bool, err error) {
	for at := bucket.After(after); ; {
		page, next, err := p.page(ctx, at)
		if err != nil {
			return nil, false, err
		}
		for i := range page {
			switch key := page[i].Key; {
			case !strings.HasPrefix(key, p.prefix):
				return nil, false, fmt.Errorf("listing: %q does not begin with the prefix", key)
			case !utf8.ValidString(key):
				return nil, false, fmt.Errorf("listing: %q is not UTF-8", key)
			}
			keys = append(keys, page[i].Key)
		}
		if len(keys) > 0 || next.Token == "" {
			return keys, next.Token != "", nil
		}
		at = next // a page may be without keys, and say that there are more
	}
}
