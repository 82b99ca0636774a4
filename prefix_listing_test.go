package ossdl_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestPrefixListing checks that the listing is retried as ranges are, over the same conditions.
func TestPrefixListing(t *testing.T) {
	t.Parallel()
	one := func(f func(n int) *osstest.Fault) func(*osstest.Request) *osstest.Fault {
		n := -1
		return func(*osstest.Request) *osstest.Fault { n++; return f(n) }
	}
	first := func(fault *osstest.Fault) func(n int) *osstest.Fault {
		return func(n int) *osstest.Fault {
			if n == 0 {
				return fault
			}
			return nil
		}
	}
	always := func(fault *osstest.Fault) func(n int) *osstest.Fault {
		return func(int) *osstest.Fault { return fault }
	}
	page := func(body string) *osstest.Fault {
		return osstest.Inject().Reply(200, "application/xml", `<?xml version="1.0"?><ListBucketResult>`+body+`</ListBucketResult>`)
	}
	more := func(token int, keys string) *osstest.Fault {
		return page(fmt.Sprintf("<IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>%s", token, keys))
	}
	object := func(key string) string { return "<Contents><Key>" + key + "</Key><Size>1</Size></Contents>" }
	fast := ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 3, MinDelay: time.Microsecond, MaxDelay: time.Microsecond})
	for name, c := range map[string]struct {
		faults func(n int) *osstest.Fault
		lists  int    // requests
		says   string // "": it goes well
	}{
		"busy once":         {first(osstest.Error(503, "ServiceUnavailable")), 2, ""},
		"html once":         {first(osstest.Inject().HTML(502)), 2, ""},
		"login page once":   {first(osstest.Inject().LoginPage()), 2, ""},
		"reset in the body": {first(osstest.Inject().ResetAfter(100)), 2, ""},
		"cut in the body":   {first(osstest.Inject().UntilClose().CloseAfter(100)), 2, ""},
		"stalls":            {first(osstest.Inject().StallAfter(100)), 2, ""},
		"no answer":         {first(osstest.Inject().HoldHeaders(nil)), 2, ""},
		"always busy":       {always(osstest.Error(503, "ServiceUnavailable")), 3, "503"},
		"always a page":     {always(osstest.Inject().LoginPage()), 3, "not an answer of OSS"},
		"no XML":            {always(osstest.Inject().Reply(200, "text/plain", "hello")), 3, "no listing"},
		"another document":  {always(osstest.Inject().Reply(200, "application/xml", "<Other/>")), 3, "no listing"},
		"denied":            {always(osstest.Error(403, "AccessDenied")), 1, "AccessDenied"},
		"no next token":     {always(page("<IsTruncated>true</IsTruncated>")), 1, "cut short"},
		"a circle":          {always(page("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>")), 2, "cut short"},
		"a larger circle":   {func(n int) *osstest.Fault { return more(n%2, object("x"+strconv.Itoa(n%2))) }, 3, `out of order: "x0" comes after "x1"`},
		"an empty circle":   {func(n int) *osstest.Fault { return more(n%2, "") }, harness.MaxEmptyPages, "does not end"},
		"no end":            {func(n int) *osstest.Fault { return more(n, "") }, harness.MaxEmptyPages, "does not end"},
		"no end after keys": {func(n int) *osstest.Fault { return more(n, strings.Repeat(object("x"), 1-min(n, 1))) }, harness.MaxEmptyPages + 1, `after "x"`},
		"descending":        {always(page(object("b") + object("a"))), 1, "out of order"},
		"twice":             {always(page(object("a") + object("a"))), 1, "out of order"},
		"no key":            {always(page("<Contents><Key></Key></Contents>")), 3, "no listing"},
		"bad escape":        {always(page("<EncodingType>url</EncodingType><Contents><Key>%</Key></Contents>")), 3, "no listing"},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewServer(t)
			all := harness.Put(s, map[string]int64{"k": 100, "l": 100})
			s.OnList(one(c.faults))
			dir := t.TempDir()
			res, err := harness.NewDownloader(t, s, fast, ossdl.WithStallTimeout(200*time.Millisecond)).DownloadPrefix(t.Context(), "bkt", "", dir)
			if res == nil {
				t.Fatal(err)
			}
			lists := 0
			for _, r := range s.Requests() {
				if r.Key == "" {
					lists++
				}
			}
			if lists != c.lists {
				t.Errorf("%d listings, want %d", lists, c.lists)
			}
			if c.says == "" {
				harness.CheckCounts(t, res, err, 2, 0, 0)
				harness.CheckTree(t, dir, all)
			} else if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q in it", err, c.says)
			}
		})
	}
}

// TestPrefixListingBreaksOff checks that a listing that fails in the middle ends the call after what was listed.
func TestPrefixListingBreaksOff(t *testing.T) {
	s := harness.NewServer(t)
	s.SetVirtual("bkt", 2500, func(i int) (string, osstest.Content) { return fmt.Sprintf("k%04d", i), osstest.Bytes(nil) })
	n := 0
	s.OnList(func(*osstest.Request) *osstest.Fault {
		if n++; n > 2 {
			return osstest.Error(403, "AccessDenied")
		}
		return nil
	})
	s.Once(func(r *osstest.Request) bool { return r.Key == "k0007" }, osstest.Error(403, "AccessDenied"))
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), ossdl.WithExclude("k0[1-9]*", "k1*"))
	if err == nil || !strings.Contains(err.Error(), "listing") || !strings.Contains(err.Error(), "1 of 100 objects failed") || res.Done != 99 || res.Failed != 1 ||
		res.Listing == nil || strings.Contains(res.Listing.Error(), "objects failed") {
		t.Errorf("%+v, %v", res, err)
	}
}
