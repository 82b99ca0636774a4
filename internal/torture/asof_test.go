package torture_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// past is when the histories of these tests begin.
var past = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// pager makes the pages of listings small. The parameter is not signed.
type pager struct {
	http.RoundTripper
	size func() int
}

func (p *pager) RoundTrip(r *http.Request) (*http.Response, error) {
	if q := r.URL.Query(); q.Has("max-keys") {
		q.Set("max-keys", strconv.Itoa(p.size()))
		r = r.Clone(r.Context())
		r.URL.RawQuery = q.Encode()
	}
	return p.RoundTripper.RoundTrip(r)
}

// pagedDownloader makes a Downloader that gets pages of size() entries.
func pagedDownloader(t *testing.T, s *osstest.Server, size func() int, opts ...ossdl.Option) *ossdl.Downloader {
	t.Helper()
	hc := ossdl.HTTPClient()
	t.Cleanup(hc.CloseIdleConnections)
	return harness.NewDownloaderOver(t, s, &http.Client{Transport: &pager{hc.Transport, size}}, opts...)
}

// historic is a version in the model of a history.
type historic struct {
	when    time.Time
	content osstest.Content // nil: a delete marker
	null    bool
}

// history is a model of a bucket with versions, the newest of each key last.
type history struct {
	s      *osstest.Server
	status osstest.VersioningStatus
	now    time.Time
	keys   map[string][]historic
}

func newHistory(t *testing.T, opts ...osstest.Option) *history {
	h := &history{s: harness.NewServer(t, opts...), now: past, keys: map[string][]historic{}}
	h.at(past)
	return h
}

func (h *history) at(now time.Time) {
	h.now = now
	h.s.SetNow(func() time.Time { return now })
}

// present ends the history: requests are signed with the true time.
func (h *history) present() { h.s.SetNow(time.Now) }

func (h *history) version(status osstest.VersioningStatus) {
	h.status = status
	h.s.CreateBucket("bkt", osstest.Versioning(status))
}

// write puts an object; without content it deletes one.
func (h *history) write(key string, c osstest.Content) {
	if c == nil {
		h.s.Delete("bkt", key)
	} else {
		h.s.Put("bkt", key, c)
	}
	v := historic{h.now.Truncate(time.Second), c, h.status != osstest.Enabled}
	if v.null {
		h.keys[key] = slices.DeleteFunc(h.keys[key], func(o historic) bool { return o.null })
	}
	if c != nil || h.status != osstest.Unversioned {
		h.keys[key] = append(h.keys[key], v)
	}
}

// asOf returns what was current at a time.
func (h *history) asOf(when time.Time) harness.Contents {
	all := harness.Contents{}
	for key, versions := range h.keys {
		for _, v := range slices.Backward(versions) {
			if v.when.After(when) {
				continue
			}
			if v.content != nil {
				all[key] = v.content
			}
			break
		}
	}
	return all
}

// TestAsOfEqualsModel restores random histories of puts, deletes and suspensions at random times, with pages of random sizes, and
// compares what comes with a model.
func TestAsOfEqualsModel(t *testing.T) {
	names := []string{"p/a", "p/a b+%", "p/a.b", "p/\u00fc", "p/z", "q"}
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 1))
			var opts []osstest.Option
			switch seed % 8 {
			case 0:
				opts = append(opts, osstest.WithQuirks(osstest.EmptyVersionID))
			case 4:
				opts = append(opts, osstest.WithQuirks(osstest.NoNullVersion))
			}
			h := newHistory(t, opts...)
			for n := range 20 + rnd.IntN(60) {
				h.at(h.now.Add(time.Duration(rnd.IntN(5)) * 700 * time.Millisecond))
				key := names[rnd.IntN(len(names))]
				switch r := rnd.IntN(20); {
				case (r == 0 || n == 12) && seed%4 != 0:
					h.version(osstest.Enabled)
				case r == 1 && h.status != osstest.Unversioned:
					h.version(osstest.Suspended)
				case r < 7:
					h.write(key, nil)
				default:
					h.write(key, osstest.Random(rnd.Uint64(), rnd.Int64N(100)))
				}
			}
			span := h.now.Sub(past) + 4*time.Second
			h.present()
			d := pagedDownloader(t, h.s, func() int { return 1 + int(seed%5) })
			for range 4 {
				when := past.Add(time.Duration(rnd.Int64N(int64(span))) - 2*time.Second)
				h.check(t, d, names, when)
			}
		})
	}
}

// check downloads all, and each key on its own, as of a time.
func (h *history) check(t *testing.T, d *ossdl.Downloader, names []string, when time.Time) {
	t.Helper()
	harness.Tried.Add("cases from the field", 1)
	asOf := ossdl.WithAsOf(when)
	model := h.asOf(when)
	want := harness.Contents{}
	for key, c := range model {
		if name, ok := strings.CutPrefix(key, "p/"); ok {
			want[name] = c
		}
	}
	dir := t.TempDir()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "p/", dir, asOf)
	harness.CheckCounts(t, res, err, len(want), 0, 0)
	harness.CheckTree(t, dir, want)
	if res, err = d.DownloadPrefix(t.Context(), "bkt", "p/", dir, asOf); err != nil || res.Skipped != len(want) {
		t.Fatalf("again: %+v, %v", res, err)
	}
	if v, err := d.VerifyPrefix(t.Context(), "bkt", "p/", dir, asOf); err != nil || v.Same != len(want) {
		t.Fatalf("verified: %+v, %v", v, err)
	}
	for i, key := range names {
		path := filepath.Join(t.TempDir(), "file")
		got, err := h.one(t, d, key, path, i%3, asOf)
		c, exists := model[key]
		if !exists {
			if !errors.Is(err, ossdl.ErrNotFound) || !strings.Contains(err.Error(), when.Format(time.RFC3339Nano)) {
				t.Fatalf("%q as of %v: %v; it was not there then", key, when, err)
			}
			continue
		}
		if err != nil || !bytes.Equal(got, harness.Bytes(t, c)) {
			t.Fatalf("%q as of %v: %d bytes, %v; want %d", key, when, len(got), err, c.Size())
		}
	}
}

// one downloads one key through one of three entry points.
func (h *history) one(t *testing.T, d *ossdl.Downloader, key, path string, through int, opts ...ossdl.Option) ([]byte, error) {
	t.Helper()
	switch through {
	case 0:
		if _, err := d.Download(t.Context(), "bkt", key, path, opts...); err != nil {
			return nil, err
		}
		return os.ReadFile(path)
	case 1:
		r, err := d.Open(t.Context(), "bkt", key, opts...)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := d.DownloadTo(t.Context(), "bkt", key, f, opts...); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// longHistory makes three keys with ten versions each, one second apart; it returns the time of the fifth versions.
func longHistory(t *testing.T) (h *history, when time.Time) {
	t.Helper()
	h = newHistory(t)
	h.version(osstest.Enabled)
	for n := range 10 {
		h.at(past.Add(time.Duration(n) * time.Minute))
		for i, key := range []string{"a", "b", "b2"} {
			h.write(key, osstest.Random(uint64(10*n+i), 500))
		}
	}
	h.present()
	return h, past.Add(4 * time.Minute)
}

// listings returns the queries of the listings that were asked for.
func listings(s *osstest.Server) (queries []string) {
	for _, r := range s.Requests() {
		if r.Key == "" {
			queries = append(queries, r.Query)
		}
	}
	return queries
}

// TestAsOfOneKey checks that for one key no more is listed than its versions up to the one that is wanted, that each request names
// that version, and that an interrupted download is resumed.
func TestAsOfOneKey(t *testing.T) {
	h, when := longHistory(t)
	d := pagedDownloader(t, h.s, func() int { return 4 }, ossdl.WithPartSize(100), ossdl.WithConcurrency(1))
	path := filepath.Join(t.TempDir(), "file")
	h.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Key == "b" && r.Start >= 200 {
			return osstest.Error(403, "AccessDenied")
		}
		return nil
	})
	if _, err := d.Download(t.Context(), "bkt", "b", path, ossdl.WithAsOf(when)); err == nil {
		t.Fatal("no error")
	}
	h.s.ClearFaults()
	h.s.ResetLog()
	res, err := d.Download(t.Context(), "bkt", "b", path, ossdl.WithAsOf(when))
	if err != nil || res.ResumedBytes == 0 || res.VersionID == "" || !res.LastModified.Equal(when) {
		t.Fatalf("%+v, %v", res, err)
	}
	harness.CheckFile(t, path, h.asOf(when)["b"])
	if got := listings(h.s); len(got) != 2 { // six versions, the last of which is the one
		t.Errorf("listings %q", got)
	}
	for _, r := range h.s.Requests() {
		switch {
		case r.Key == "" && !strings.Contains(r.Query, "prefix=b&"):
			t.Errorf("listing %s", r.Query)
		case r.Key != "" && r.Key != "b" || r.Key == "b" && !strings.Contains(r.Query, "versionId="+res.VersionID):
			t.Errorf("%s %s?%s", r.Method, r.Key, r.Query)
		}
	}
	h.s.ResetLog()
	_, err = d.Download(t.Context(), "bkt", "b", path, ossdl.WithAsOf(past.Add(-time.Second)))
	if !errors.Is(err, ossdl.ErrNotFound) || !strings.Contains(err.Error(), "as of 2026-01-02T03:04:04Z") {
		t.Errorf("before the first version: %v", err)
	}
	if got := listings(h.s); len(got) != 3 { // the third has the first version of b2
		t.Errorf("listings %q", got)
	}
	if info, err := d.Stat(t.Context(), "bkt", "b", ossdl.WithAsOf(when)); err != nil || info.VersionID != res.VersionID {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestAsOfKeyRange checks that a range of keys begins with a marker, and that nothing is listed beyond its end.
func TestAsOfKeyRange(t *testing.T) {
	h, when := longHistory(t)
	d := pagedDownloader(t, h.s, func() int { return 10 })
	dir := t.TempDir()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithAsOf(when), ossdl.WithKeyRange("a", "b"))
	harness.CheckCounts(t, res, err, 1, 0, 0)
	harness.CheckTree(t, dir, harness.Contents{"b": h.asOf(when)["b"]})
	got := listings(h.s)
	if len(got) != 2 || !strings.Contains(got[0], "key-marker=a") || strings.Contains(got[0], "version-id-marker") {
		t.Errorf("listings %q", got)
	}
}

// TestAsOfMirror checks that a mirror of an earlier time deletes the files of what was written since, and that a dry run says so.
func TestAsOfMirror(t *testing.T) {
	h := newHistory(t)
	h.version(osstest.Enabled)
	h.write("old", osstest.Random(1, 10))
	h.write("gone", osstest.Random(2, 10))
	h.at(past.Add(time.Hour))
	h.write("new", osstest.Random(3, 10))
	h.write("gone", nil)
	h.present()
	d, dir := harness.NewDownloader(t, h.s), t.TempDir()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 2, 0, 0)
	var planned []string
	then := []ossdl.Option{ossdl.WithAsOf(past), ossdl.WithDelete(5)}
	_, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, append(then, ossdl.WithDryRun(), ossdl.WithObjectResult(func(r ossdl.ObjectResult) {
		planned = append(planned, fmt.Sprint(r.Status, " ", r.Name))
	}))...)
	slices.Sort(planned)
	if want := []string{"skipped old", "would delete new", "would download gone"}; err != nil || !slices.Equal(planned, want) {
		t.Errorf("%q, %v; want %q", planned, err, want)
	}
	manifest := filepath.Join(t.TempDir(), "manifest")
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, append(then, ossdl.WithManifest(manifest))...)
	harness.CheckCounts(t, res, err, 1, 1, 0)
	if res.Deleted != 1 {
		t.Errorf("%+v", *res)
	}
	harness.CheckTree(t, dir, h.asOf(past))
	if text, err := os.ReadFile(manifest); err != nil || strings.Count(string(text), `"version":"`) != 2 || strings.Contains(string(text), `"version":""`) {
		t.Errorf("%s, %v", text, err)
	}
}

// TestAsOfFaults checks what network and server may do to the listing of versions.
func TestAsOfFaults(t *testing.T) {
	fast := ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 3, MinDelay: time.Microsecond, MaxDelay: time.Microsecond})
	page := func(content string) *osstest.Fault {
		return osstest.Inject().Reply(200, "application/xml", "<ListVersionsResult>"+content+"</ListVersionsResult>")
	}
	version := func(key, id string) string {
		return "<Version><Key>" + key + "</Key><VersionId>" + id + "</VersionId><LastModified>2026-05-01T00:00:00.000Z</LastModified></Version>"
	}
	more := func(content, key, id string) *osstest.Fault {
		return page(content + "<IsTruncated>true</IsTruncated><NextKeyMarker>" + key + "</NextKeyMarker><NextVersionIdMarker>" + id + "</NextVersionIdMarker>")
	}
	always := func(f *osstest.Fault) func(int) *osstest.Fault { return func(int) *osstest.Fault { return f } }
	third := func(f *osstest.Fault) func(int) *osstest.Fault {
		return func(n int) *osstest.Fault {
			if n == 2 {
				return f
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		fault func(n int) *osstest.Fault
		says  string // "": it goes well
	}{
		"busy once":             {third(osstest.Error(503, "ServiceUnavailable")), ""},
		"login page once":       {third(osstest.Inject().LoginPage()), ""},
		"reset in the body":     {third(osstest.Inject().ResetAfter(100)), ""},
		"cut in the body":       {third(osstest.Inject().UntilClose().CloseAfter(100)), ""},
		"always busy":           {always(osstest.Error(503, "ServiceUnavailable")), "503"},
		"denied":                {always(osstest.Error(403, "AccessDenied")), "needs the permission oss:ListObjectVersions"},
		"another document":      {always(osstest.Inject().Reply(200, "application/xml", "<ListBucketResult/>")), "no listing"},
		"no time":               {always(page("<Version><Key>a</Key></Version>")), "no listing"},
		"no markers":            {always(page("<IsTruncated>true</IsTruncated>")), "cut short"},
		"no marker of a key":    {always(page(version("a", "1") + "<IsTruncated>true</IsTruncated><NextVersionIdMarker>1</NextVersionIdMarker>")), "cut short"},
		"no marker of versions": {always(more(version("a", "1"), "a", "")), "cut short"},
		"markers go back":       {always(more(version("b", "1"), "a", "1")), "cut short"},
		"an empty page again":   {always(more("", "a", "1")), "cut short"},
		"a repeated page":       {always(more(version("a", "2")+version("a", "1"), "a", "1")), "out of order"},
		"a repeated last page": {func(n int) *osstest.Fault {
			if n == 0 {
				return more(version("a", "2")+version("a", "1"), "a", "1")
			}
			return page(version("a", "2") + version("a", "1"))
		}, "out of order"},
		"a circle in a key": {func(n int) *osstest.Fault {
			id := strconv.Itoa(n % 3)
			return more(version("a", id), "a", id)
		}, "comes again"},
		"descending": {always(page(version("b", "1") + version("a", "1"))), "out of order"},
		"no end":     {func(n int) *osstest.Fault { return more("", fmt.Sprintf("x%06d", n), "1") }, "does not end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			harness.Tried.Add("lies told", 1)
			h, when := longHistory(t)
			var lists atomic.Int64
			h.s.OnList(func(*osstest.Request) *osstest.Fault { return c.fault(int(lists.Add(1)) - 1) })
			d, dir := pagedDownloader(t, h.s, func() int { return 4 }, fast), t.TempDir()
			res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithAsOf(when))
			if c.says == "" {
				harness.CheckCounts(t, res, err, 3, 0, 0)
				harness.CheckTree(t, dir, h.asOf(when))
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q in it", err, c.says)
			}
			lists.Store(0)
			path := filepath.Join(t.TempDir(), "file")
			if _, err := d.Download(t.Context(), "bkt", "a", path, ossdl.WithAsOf(when)); err == nil || harness.Exists(path) {
				t.Errorf("one key: %v", err)
			}
			harness.NoLeftovers(t, path)
		})
	}
}

// TestAsOfEveryRequestFails lets each request fail in each way, the listings among them, and checks that what was current comes all
// the same, all objects and one alone.
func TestAsOfEveryRequestFails(t *testing.T) {
	fast := ossdl.WithRetry(ossdl.RetryPolicy{MinDelay: time.Microsecond, MaxDelay: time.Microsecond})
	for name, fault := range map[string]func() *osstest.Fault{
		"reset":      func() *osstest.Fault { return osstest.Inject().ResetBeforeHead() },
		"close":      func() *osstest.Fault { return osstest.Inject().CloseBeforeHead() },
		"cut":        func() *osstest.Fault { return osstest.Inject().ResetAfter(100) },
		"500":        func() *osstest.Fault { return osstest.Error(http.StatusInternalServerError, "InternalError") },
		"503":        func() *osstest.Fault { return osstest.Error(http.StatusServiceUnavailable, "ServiceUnavailable") },
		"429":        func() *osstest.Fault { return osstest.Error(http.StatusTooManyRequests, "TooManyRequests") },
		"login page": func() *osstest.Fault { return osstest.Inject().LoginPage() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, when := longHistory(t)
			d := pagedDownloader(t, h.s, func() int { return 7 }, fast, ossdl.WithPartSize(200))
			for n := 0; ; n++ {
				harness.Tried.Add("cases from the field", 1)
				all, one := fault().Maybe(), fault().Maybe()
				dir, path := t.TempDir(), filepath.Join(t.TempDir(), "file")
				h.s.Nth(n, all)
				res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithAsOf(when))
				h.s.ClearFaults()
				harness.CheckCounts(t, res, err, 3, 0, 0)
				harness.CheckTree(t, dir, h.asOf(when))
				h.s.Nth(n, one)
				if _, err := d.Download(t.Context(), "bkt", "b", path, ossdl.WithAsOf(when)); err != nil {
					t.Fatalf("request %d: %v", n, err)
				}
				h.s.ClearFaults()
				harness.CheckFile(t, path, h.asOf(when)["b"])
				if !all.Fired() && !one.Fired() {
					return
				}
			}
		})
	}
}

// TestAsOfMarkerGone checks that a listing goes on if the version at the end of a page is deleted before the next page is asked for,
// whether OSS continues behind it or refuses the marker. No version is left out.
func TestAsOfMarkerGone(t *testing.T) {
	for _, quirk := range []osstest.Quirk{0, osstest.MarkerMustExist} {
		for gone := 1; gone < 5; gone++ { // the page that is asked for then
			for _, one := range []bool{false, true} {
				h, when := longHistory(t)
				h.s.SetQuirks(quirk)
				n := 0
				h.s.OnList(func(r *osstest.Request) *osstest.Fault {
					q, err := url.ParseQuery(r.Query)
					if err != nil {
						t.Error(err)
					}
					if n++; n != gone+1 || q.Get("version-id-marker") == "" {
						return nil
					}
					return osstest.Inject().Before(func() { h.s.DeleteVersion("bkt", q.Get("key-marker"), q.Get("version-id-marker")) })
				})
				size := 7 // no page ends at a version that is wanted
				if one {
					size = 4
				}
				d, dir := pagedDownloader(t, h.s, func() int { return size }), t.TempDir()
				want := h.asOf(when)
				if one {
					want = harness.Contents{"b": want["b"]}
					if _, err := d.Download(t.Context(), "bkt", "b", filepath.Join(dir, "b"), ossdl.WithAsOf(when)); err != nil {
						t.Errorf("quirk %v, page %d: %v", quirk, gone, err)
						continue
					}
				} else {
					res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithAsOf(when))
					harness.CheckCounts(t, res, err, 3, 0, 0)
				}
				harness.CheckTree(t, dir, want)
			}
		}
	}
}

// TestNullVersionUnknown checks that objects of a bucket that never had versions come by the version null, also if the bucket does
// not know that: through each way into the library, archived ones included. Where another version is the current one it does not come
// instead, nor is it restored.
func TestNullVersionUnknown(t *testing.T) {
	s := harness.NewServer(t, osstest.WithThawTime(0), osstest.WithQuirks(osstest.NoNullVersion))
	content := osstest.Random(1, 3000)
	d := harness.NewDownloader(t, s, ossdl.WithRestore(ossdl.RestorePolicy{PollMin: ossdl.MinRestorePoll}), ossdl.WithPartSize(1000))
	null, asOf := ossdl.WithVersionID("null"), ossdl.WithAsOf(time.Now().Add(time.Hour))
	for _, class := range []string{"Standard", "ColdArchive"} {
		put := func(key string) { s.Put("bkt", key, content, osstest.StorageClass(class)) }
		for name, opt := range map[string]ossdl.Option{"version": null, "time": asOf} {
			put("p/k")
			if i, err := d.Stat(t.Context(), "bkt", "p/k", opt); err != nil || i.Size != content.Size() {
				t.Errorf("%s, %s, Stat: %+v, %v", class, name, i, err)
			}
			path := filepath.Join(t.TempDir(), "file")
			if _, err := d.Download(t.Context(), "bkt", "p/k", path, opt); err != nil {
				t.Fatalf("%s, %s: %v", class, name, err)
			}
			harness.CheckFile(t, path, content)
		}
		put("p/k")
		dir := t.TempDir()
		res, err := d.DownloadPrefix(t.Context(), "bkt", "p/", dir, asOf)
		harness.CheckCounts(t, res, err, 1, 0, 0)
		harness.CheckTree(t, dir, harness.Contents{"k": content})
		if v, err := d.VerifyPrefix(t.Context(), "bkt", "p/", dir, asOf); err != nil || v.Same != 1 {
			t.Errorf("%s: %+v, %v", class, v, err)
		}
		put("p/k")
		dir = t.TempDir()
		res, err = d.DownloadObjects(t.Context(), "bkt", harness.List(ossdl.Object{Key: "p/k", VersionID: "null"}), dir)
		harness.CheckCounts(t, res, err, 1, 0, 0)
	}
	s.CreateBucket("bkt", osstest.Versioning(osstest.Enabled))
	s.Put("bkt", "k", content, osstest.StorageClass("ColdArchive")) // with a version of its own
	s.ResetLog()
	if _, err := d.Download(t.Context(), "bkt", "k", filepath.Join(t.TempDir(), "file"), null); !errors.Is(err, ossdl.ErrNotFound) {
		t.Errorf("another version: %v", err)
	}
	res, err := d.DownloadObjects(t.Context(), "bkt", harness.List(ossdl.Object{Key: "k", VersionID: "null"}), t.TempDir())
	if err == nil || res.Failed != 1 || !errors.Is(err, ossdl.ErrNotFound) || restoresAsked(s) > 0 {
		t.Errorf("another version: %v", err)
	}
	s.CreateBucket("bkt", osstest.Versioning(osstest.Suspended))
	s.Put("bkt", "r/k", content, osstest.StorageClass("ColdArchive"))
	s.Once(func(r *osstest.Request) bool { return r.Method == http.MethodPost }, osstest.Inject().Before(func() {
		s.DeleteVersion("bkt", "r/k", "null")
		s.CreateBucket("bkt", osstest.Versioning(osstest.Enabled))
		s.Put("bkt", "r/k", content, osstest.StorageClass("ColdArchive"))
	}))
	res, err = d.DownloadPrefix(t.Context(), "bkt", "r/", t.TempDir(), asOf)
	if err == nil || res.Failed != 1 || !errors.Is(err, ossdl.ErrNotFound) || s.Restores("bkt", "r/k") > 0 {
		t.Errorf("another version since the listing: %v", err)
	}
}

// TestAsOfPermissions checks that the error names the permission, of a prefix and of a key.
func TestAsOfPermissions(t *testing.T) {
	h, when := longHistory(t)
	h.s.AddUser("other", "secret", osstest.Without("oss:ListObjectVersions"))
	hc := ossdl.HTTPClient()
	t.Cleanup(hc.CloseIdleConnections)
	client, err := h.s.ClientFor("other", "secret", oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ossdl.New(client)
	if err != nil {
		t.Fatal(err)
	}
	_, one := d.Download(t.Context(), "bkt", "a", filepath.Join(t.TempDir(), "file"), ossdl.WithAsOf(when))
	_, all := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), ossdl.WithAsOf(when))
	for _, err := range []error{one, all} {
		var se oss.ServiceError
		if err == nil || !strings.Contains(err.Error(), "needs the permission oss:ListObjectVersions") || !errors.As(err, &se) {
			t.Errorf("error %v", err)
		}
	}
}

// TestAsOfNullReplaced checks that a null version that is replaced after the listing is not taken for what was there.
func TestAsOfNullReplaced(t *testing.T) {
	h := newHistory(t)
	h.version(osstest.Enabled)
	h.version(osstest.Suspended)
	h.write("k", osstest.Random(1, 300))
	h.present()
	d := harness.NewDownloader(t, h.s)
	dir := t.TempDir()
	path := filepath.Join(dir, "k")
	for name, get := range map[string]func() error{
		"one key": func() error {
			_, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithAsOf(past))
			return err
		},
		"prefix": func() error {
			_, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithAsOf(past))
			return err
		},
	} {
		h.s.Put("bkt", "k", osstest.Random(1, 300), osstest.LastModified(past))
		isObject := func(r *osstest.Request) bool { return r.Key == "k" }
		h.s.Once(isObject, osstest.Inject().Before(func() { h.s.Put("bkt", "k", osstest.Random(2, 300)) }))
		if err := get(); !errors.Is(err, ossdl.ErrObjectChanged) || harness.Exists(path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAsOfOverTwoEndpoints checks that the versions are listed and fetched over the second endpoint while the first fails.
func TestAsOfOverTwoEndpoints(t *testing.T) {
	h, when := longHistory(t)
	first := harness.NewServer(t)
	first.OnList(func(*osstest.Request) *osstest.Fault { return osstest.Error(503, "ServiceUnavailable") })
	first.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Error(503, "ServiceUnavailable").Maybe() })
	var clients []*oss.Client
	for _, s := range []*osstest.Server{first, h.s} {
		hc := ossdl.HTTPClient()
		t.Cleanup(hc.CloseIdleConnections)
		client, err := s.Client(oss.HTTPClient(hc))
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, client)
	}
	d, err := ossdl.New(clients[0], ossdl.WithFallback(clients[1]), ossdl.WithRetry(fallbackRetry))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "file")
	if _, err := d.Download(t.Context(), "bkt", "b", path, ossdl.WithAsOf(when)); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, h.asOf(when)["b"])
	dir := t.TempDir()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithAsOf(when))
	harness.CheckCounts(t, res, err, 3, 0, 0)
	harness.CheckTree(t, dir, h.asOf(when))
}
