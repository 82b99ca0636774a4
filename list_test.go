package ossdl_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// sha256Of is the SHA-256 of a content.
func sha256Of(t *testing.T, c osstest.Content) []byte {
	t.Helper()
	sum := sha256.Sum256(harness.Bytes(t, c))
	return sum[:]
}

// TestDownloadAll checks that objects of several buckets and URLs come together, that what is wrong with one of them is its failure
// alone, and what the reports say.
func TestDownloadAll(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("other")
	s.CreateBucket("open", osstest.PublicRead())
	big, small, public, signed := osstest.Random(1, 3<<20), osstest.Random(2, 1000), osstest.Random(3, 2000), osstest.Random(4, 70<<10)
	crc := s.Put("bkt", "dir/big", big).CRC64()
	s.Put("other", "small ?versionId=x", small)
	s.Put("open", "public", public)
	s.Put("bkt", "signed", signed)
	s.Put("bkt", "empty", osstest.Zeros(0))
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	raw := harness.Sign(t, s, oss.AuthV4, time.Hour, "signed")
	items := []ossdl.Item{
		{Source: "oss://bkt/dir/big", Path: path("big"), SHA256: sha256Of(t, big), CRC64: crc, Size: 3 << 20},
		{Source: "oss://other/small ?versionId=x", Path: path("small")},
		{Source: s.URL("open", "public"), Path: path("public"), SHA256: sha256Of(t, public)},
		{Source: raw, Path: path("signed"), Size: 70 << 10},
		{Source: "oss://bkt/empty", Path: path("empty")},
		{Source: "oss://bkt/signed", Path: path("wrong digest"), SHA256: sha256Of(t, big)},
		{Source: "oss://bkt/signed", Path: path("wrong CRC-64"), CRC64: 1},
		{Source: "oss://bkt/signed", Path: path("wrong size"), Size: 1},
		{Source: "oss://bkt/none", Path: path("none")},
		{Source: s.URL("open", "none") + "?token=SECRET", Path: path("none of a URL")},
	}
	var records harness.Records
	var progress harness.ProgressRecorder
	settled := map[string]ossdl.ObjectResult{}
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(1<<20))
	res, err := d.DownloadAll(t.Context(), harness.Items(items...), ossdl.WithConcurrency(2), ossdl.WithLogger(records.Logger()), ossdl.WithProgress(progress.AddOfMany),
		ossdl.WithObjectResult(func(r ossdl.ObjectResult) { settled[filepath.Base(r.Path)] = r }))
	harness.CheckCounts(t, res, err, 5, 0, 5)
	harness.CheckTree(t, dir, harness.Contents{"big": big, "small": small, "public": public, "signed": signed, "empty": osstest.Zeros(0)})
	if want := int64(3<<20 + 1000 + 2000 + 70<<10); res.Bytes != want || res.Unverified != 0 || res.NotDurable != 0 || res.Requests != len(s.Requests()) || res.DownloadedBytes < want {
		t.Errorf("%+v, of %d requests", *res, len(s.Requests()))
	}
	if n := s.MaxInFlight(); n > 2 {
		t.Errorf("%d requests at once, want 2 at most", n)
	}
	var first *ossdl.KeyError
	if !errors.As(err, &first) || first.Key != res.Failures[0].Key || !strings.Contains(err.Error(), "5 of 10 objects failed") {
		t.Error(err)
	}
	for name, want := range map[string]error{
		"wrong digest": ossdl.ErrChecksum, "wrong CRC-64": ossdl.ErrChecksum, "wrong size": ossdl.ErrObjectChanged, "none": ossdl.ErrNotFound, "none of a URL": ossdl.ErrNotFound,
	} {
		r := settled[name]
		if r.Status != ossdl.ObjectFailed || !errors.Is(r.Err, want) || !slices.ContainsFunc(res.Failures, func(f ossdl.KeyError) bool { return f.Key == r.Source && errors.Is(f.Err, want) }) {
			t.Errorf("%s: %+v; failures %v", name, r, res.Failures)
		}
	}
	r := settled["big"]
	if r.Status != ossdl.ObjectDone || r.Source != "oss://bkt/dir/big" || r.Bucket != "bkt" || r.Key != "dir/big" || r.Path != path("big") || r.Size != 3<<20 || r.CRC64 != crc || !r.Verified || !r.Durable || r.Requests != 3 {
		t.Errorf("%+v", r)
	}
	if r := settled["signed"]; r.Bucket != s.Addr() || !strings.HasSuffix(r.Source, "/signed") {
		t.Errorf("%+v", r)
	}
	if last := progress.Last(); last.Retries != res.Retries || last.Requests != res.Requests {
		t.Errorf("last progress %+v, result %+v", last, *res)
	}
	text, jerr := json.Marshal(struct {
		R *ossdl.PrefixResult
		M map[string]ossdl.ObjectResult
	}{res, settled})
	if jerr != nil {
		t.Fatal(jerr)
	}
	_, query, _ := strings.Cut(raw, "?")
	for _, text := range []string{err.Error(), string(text), records.String()} {
		if strings.Contains(text, "SECRET") || strings.Contains(text, query) || strings.Contains(text, "x-oss-signature") {
			t.Errorf("a query is shown: %s", text)
		}
	}
}

// TestDownloadAllIsChecked checks that nothing is asked or made unless each item of the list is well-formed, and that the error says
// which one is not.
func TestDownloadAllIsChecked(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 1000))
	dir := t.TempDir()
	if err := os.Symlink(dir, filepath.Join(t.TempDir(), "link")); err != nil {
		t.Skip(err)
	}
	path := filepath.Join(dir, "file")
	good := ossdl.Item{Source: "oss://bkt/k", Path: path}
	at := func(source string) ossdl.Item { return ossdl.Item{Source: source, Path: path + "2"} }
	for name, test := range map[string]struct {
		item ossdl.Item
		says string
		opts []ossdl.Option
	}{
		"no source":           {at(""), "oss://BUCKET/KEY", nil},
		"other scheme":        {at("ftp://h/k"), "oss://BUCKET/KEY", nil},
		"user name":           {at("https://user:SECRET@h/k"), "a user name", nil},
		"bucket":              {at("oss://B/k"), "bucket name", nil},
		"no key":              {at("oss://bkt"), "key", nil},
		"key":                 {at("oss://bkt/" + strings.Repeat("x", 1024)), "1023", nil},
		"no path":             {ossdl.Item{Source: "oss://bkt/k"}, "empty path", nil},
		"NUL":                 {ossdl.Item{Source: "oss://bkt/k", Path: "a\x00b"}, "NUL", nil},
		"size":                {ossdl.Item{Source: "oss://bkt/k", Path: path + "2", Size: -1}, "negative", nil},
		"digest":              {ossdl.Item{Source: "oss://bkt/k", Path: path + "2", SHA256: []byte{1}}, "32", nil},
		"version of a URL":    {ossdl.Item{Source: s.URL("bkt", "k"), Path: path + "2", VersionID: "v"}, "VersionID", nil},
		"twin":                {ossdl.Item{Source: "oss://bkt/l", Path: dir + "/./file"}, "an earlier item", nil},
		"twin of a URL":       {ossdl.Item{Source: s.URL("bkt", "k") + "?token=SECRET", Path: path}, s.URL("bkt", "k"), nil},
		"below":               {ossdl.Item{Source: "oss://bkt/l", Path: path + "/x"}, "would lie below", nil},
		"working folder":      {ossdl.Item{Source: "oss://bkt/l", Path: path + ".cp/checkpoint.json"}, "download works in", nil},
		"header of two hosts": {at("http://other.test/k"), "WithHeader", []ossdl.Option{ossdl.WithHeader("Private-Token", "SECRET")}},
		"processed":           {at(s.URL("bkt", "k") + "?x-oss-process=image/info"), "WithIfChanged", []ossdl.Option{ossdl.WithIfChanged()}},
	} {
		t.Run(name, func(t *testing.T) {
			d := harness.NewDownloader(t, s)
			res, err := d.DownloadAll(t.Context(), harness.Items(good, ossdl.Item{Source: s.URL("bkt", "k"), Path: path + "3"}, test.item), test.opts...)
			var bad *ossdl.ItemError
			if res != nil || !errors.As(err, &bad) || bad.Index != 2 || !strings.Contains(err.Error(), "item 3") || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("%+v, %v; want an error that says %s", res, err, test.says)
			}
		})
	}
	t.Run("no client", func(t *testing.T) {
		_, err := harness.NewURLDownloader(t).DownloadAll(t.Context(), harness.Items(good))
		if bad := (*ossdl.ItemError)(nil); !errors.As(err, &bad) || !strings.Contains(err.Error(), "no client") {
			t.Error(err)
		}
	})
	t.Run("error of the list", func(t *testing.T) {
		broken := errors.New("broken")
		res, err := harness.NewDownloader(t, s).DownloadAll(t.Context(), func(yield func(ossdl.Item, error) bool) {
			_ = yield(good, nil) && yield(ossdl.Item{}, broken) && yield(at("oss://bkt/k"), nil)
		})
		if res != nil || !errors.Is(err, broken) {
			t.Errorf("%+v, %v", res, err)
		}
	})
	t.Run("panic of the list", func(t *testing.T) {
		defer func() {
			if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "broken") {
				t.Errorf("recovered %v", p)
			}
		}()
		_, err := harness.NewDownloader(t, s).DownloadAll(t.Context(), func(yield func(ossdl.Item, error) bool) {
			yield(good, nil)
			panic("broken")
		})
		t.Error(err)
	})
	t.Run("nil list", func(t *testing.T) {
		if res, err := harness.NewDownloader(t, s).DownloadAll(t.Context(), nil); res != nil || err == nil {
			t.Errorf("%+v, %v", res, err)
		}
	})
	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if res, err := harness.NewDownloader(t, s).DownloadAll(ctx, harness.Items(good)); res != nil || !errors.Is(err, context.Canceled) {
			t.Errorf("%+v, %v", res, err)
		}
	})
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
	harness.CheckTree(t, dir, nil)
}

// TestDownloadAllSizeWithoutLength checks that Size is compared even if no answer says the length.
func TestDownloadAllSizeWithoutLength(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		if _, err := w.Write(make([]byte, 1000)); err != nil {
			t.Error(err)
		}
	}))
	defer web.Close()
	dir := t.TempDir()
	d := harness.NewURLDownloader(t)
	res, err := d.DownloadAll(t.Context(), harness.Items(
		ossdl.Item{Source: web.URL + "/a", Path: filepath.Join(dir, "right"), Size: 1000},
		ossdl.Item{Source: web.URL + "/a", Path: filepath.Join(dir, "wrong"), Size: 999},
	))
	harness.CheckCounts(t, res, err, 1, 0, 1)
	if !errors.Is(err, ossdl.ErrObjectChanged) || !strings.Contains(err.Error(), "size 1000, wanted 999") || harness.Exists(filepath.Join(dir, "wrong")) {
		t.Error(err)
	}
}

// TestDownloadAllEmpty checks that a list without items is done.
func TestDownloadAllEmpty(t *testing.T) {
	res, err := harness.NewURLDownloader(t).DownloadAll(t.Context(), harness.Items())
	harness.CheckCounts(t, res, err, 0, 0, 0)
}

// TestDownloadAllIfChanged checks what it costs, on the wire, to find that the files of a list are there.
func TestDownloadAllIfChanged(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("open", osstest.PublicRead())
	c := osstest.Random(1, 100<<10)
	content := harness.Bytes(t, c)
	crc := s.Put("bkt", "k", c).CRC64()
	s.Put("open", "k", c)
	processed := s.URL("open", "k") + "?x-oss-process=image/info"
	other := append([]byte{content[0] + 1}, content[1:]...)
	for name, test := range map[string]struct {
		item    ossdl.Item
		there   []byte
		skipped bool
		wire    []string
	}{
		"digest":                    {ossdl.Item{Source: "oss://bkt/k", SHA256: sha256Of(t, c)}, content, true, nil},
		"digest of a URL":           {ossdl.Item{Source: s.URL("open", "k"), SHA256: sha256Of(t, c), Size: 100 << 10}, content, true, nil},
		"CRC-64":                    {ossdl.Item{Source: "oss://bkt/k", CRC64: crc}, content, true, nil},
		"CRC-64 of a processed URL": {ossdl.Item{Source: processed, CRC64: crc}, content, true, nil},
		"both":                      {ossdl.Item{Source: "oss://bkt/k", CRC64: crc, SHA256: sha256Of(t, c)}, content, true, nil},
		"digest, other CRC-64":      {ossdl.Item{Source: "oss://bkt/k", CRC64: crc + 1, SHA256: sha256Of(t, c)}, content, false, nil},
		"digest, other size":        {ossdl.Item{Source: "oss://bkt/k", Size: 5, SHA256: sha256Of(t, c)}, content, false, nil},
		"neither":                   {ossdl.Item{Source: "oss://bkt/k"}, content, true, []string{"HEAD "}},
		"other bytes":               {ossdl.Item{Source: "oss://bkt/k", CRC64: crc}, other, false, []string{"GET bytes=0-8388607"}},
		"other bytes, digest":       {ossdl.Item{Source: "oss://bkt/k", SHA256: sha256Of(t, c)}, other, false, []string{"GET bytes=0-8388607"}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			harness.WriteFile(t, path, string(test.there))
			s.ResetLog()
			test.item.Path = path
			var last ossdl.ObjectResult
			res, err := harness.NewDownloader(t, s).DownloadAll(t.Context(), harness.Items(test.item), ossdl.WithIfChanged(), ossdl.WithObjectResult(func(r ossdl.ObjectResult) { last = r }))
			switch {
			case strings.HasPrefix(name, "digest, other"):
				harness.CheckCounts(t, res, err, 0, 0, 1)
				return
			case test.skipped:
				harness.CheckCounts(t, res, err, 0, 1, 0)
			default:
				harness.CheckCounts(t, res, err, 1, 0, 0)
			}
			if test.skipped && (res.DownloadedBytes != 0 || res.NotDurable != 0 || last.Status != ossdl.ObjectSkipped || last.CRC64 != crc || !last.Verified || last.Size != 100<<10) {
				t.Errorf("%+v, %+v", *res, last)
			}
			harness.SameLines(t, harness.Wire(s), test.wire...)
			harness.CheckFile(t, path, c)
		})
	}
}

// TestDownloadAllIfChangedEncrypted checks that the CRC-64 of an encrypted object is compared as that of its ciphertext.
func TestDownloadAllIfChangedEncrypted(t *testing.T) {
	s := harness.NewServer(t)
	plain := harness.Bytes(t, osstest.Random(1, 50<<10))
	sealer := harness.Sealer{}
	crc := sealer.Put(s, "k", plain).CRC64()
	path := filepath.Join(t.TempDir(), "f")
	d := harness.NewDownloader(t, s, ossdl.WithDecryption(&harness.MasterKey{}), ossdl.WithIfChanged())
	item := ossdl.Item{Source: "oss://bkt/k", Path: path, CRC64: crc}
	res, err := d.DownloadAll(t.Context(), harness.Items(item))
	harness.CheckCounts(t, res, err, 1, 0, 0)
	res, err = d.DownloadAll(t.Context(), harness.Items(item))
	harness.CheckCounts(t, res, err, 0, 1, 0)
	harness.CheckFile(t, path, osstest.Bytes(plain))
	item.CRC64++
	res, err = d.DownloadAll(t.Context(), harness.Items(item))
	harness.CheckCounts(t, res, err, 0, 0, 1)
	if !errors.Is(err, ossdl.ErrChecksum) {
		t.Error(err)
	}
	bare := sealer.Put(s, "bare", plain, osstest.NoCRC()) // size and time are not enough, since the list has a CRC-64
	harness.WriteFile(t, path, strings.Repeat("x", len(plain)))
	if err := os.Chtimes(path, bare.LastModified, bare.LastModified); err != nil {
		t.Fatal(err)
	}
	res, err = d.DownloadAll(t.Context(), harness.Items(ossdl.Item{Source: "oss://bkt/bare", Path: path, CRC64: crc}))
	harness.CheckCounts(t, res, err, 1, 0, 0)
	harness.CheckFile(t, path, osstest.Bytes(plain))
}

// TestDownloadAllVersions checks that items can be versions of one object.
func TestDownloadAllVersions(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("ver", osstest.Versioning(osstest.Enabled))
	a, b := osstest.Random(1, 1000), osstest.Random(2, 1000)
	old := s.Put("ver", "k", a)
	s.Put("ver", "k", b)
	dir := t.TempDir()
	res, err := harness.NewDownloader(t, s).DownloadAll(t.Context(), harness.Items(
		ossdl.Item{Source: "oss://ver/k", Path: filepath.Join(dir, "old"), VersionID: old.VersionID},
		ossdl.Item{Source: "oss://ver/k", Path: filepath.Join(dir, "new")},
	))
	harness.CheckCounts(t, res, err, 2, 0, 0)
	harness.CheckTree(t, dir, harness.Contents{"old": a, "new": b})
}

// TestDownloadAllHeader checks that a header goes with the requests for URLs, and not with those for objects of a bucket.
func TestDownloadAllHeader(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("open", osstest.PublicRead())
	s.Put("open", "k", osstest.Random(1, 1000))
	s.Put("bkt", "k", osstest.Random(1, 1000))
	dir := t.TempDir()
	res, err := harness.NewDownloader(t, s).DownloadAll(t.Context(), harness.Items(
		ossdl.Item{Source: s.URL("open", "k"), Path: filepath.Join(dir, "a")},
		ossdl.Item{Source: s.URL("open", "k"), Path: filepath.Join(dir, "b")},
		ossdl.Item{Source: "oss://bkt/k", Path: filepath.Join(dir, "c")},
	), ossdl.WithHeader("Private-Token", "secret"))
	harness.CheckCounts(t, res, err, 3, 0, 0)
	got := map[bool]int{}
	for _, r := range s.Requests() {
		if with := r.Header.Get("Private-Token") == "secret"; with == (r.Header.Get("Authorization") != "") {
			t.Errorf("%v", r.Header)
		} else {
			got[with]++
		}
	}
	if got[true] != 2 || got[false] != 1 {
		t.Errorf("with and without: %v", got)
	}
}

// TestDownloadAllResumes checks that a list that is cut off is continued by the same call: nothing that is there comes again.
func TestDownloadAllResumes(t *testing.T) {
	const part = 64 << 10
	s := harness.NewServer(t)
	dir := t.TempDir()
	var items []ossdl.Item
	all := harness.Contents{}
	for i, name := range []string{"a", "b", "c"} {
		c := osstest.Random(uint64(i), 8*part)
		all[name] = c
		s.Put("bkt", name, c)
		items = append(items, ossdl.Item{Source: "oss://bkt/" + name, Path: filepath.Join(dir, "new", name), SHA256: sha256Of(t, c)})
	}
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(part), ossdl.WithConcurrency(1), ossdl.WithIfChanged(), ossdl.WithMkdirAll())
	ctx, cancel := context.WithCancel(t.Context())
	s.Nth(12, osstest.Inject().Before(cancel).HoldHeaders(nil))
	res, err := d.DownloadAll(ctx, harness.Items(items...))
	if !errors.Is(err, context.Canceled) || res == nil || res.Failed != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	s.ClearFaults()
	before := harness.Fetched(s)
	s.ResetLog()
	done := res.Done
	res, err = d.DownloadAll(t.Context(), harness.Items(items...))
	harness.CheckCounts(t, res, err, 3-done, done, 0)
	harness.CheckTree(t, filepath.Join(dir, "new"), all)
	if again := before + harness.Fetched(s) - 24*part; again > 4*part || res.ResumedBytes == 0 && done == 0 {
		t.Errorf("%d bytes came twice; %+v", again, *res)
	}
}

// TestDownloadAllPanics checks that the panic of a caller's function ends the call, and is raised in the caller's goroutine.
func TestDownloadAllPanics(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 1000))
	dir := t.TempDir()
	items := harness.Items(ossdl.Item{Source: "oss://bkt/k", Path: filepath.Join(dir, "a")}, ossdl.Item{Source: "oss://bkt/k", Path: filepath.Join(dir, "b")})
	for name, o := range map[string]ossdl.Option{
		"result":   ossdl.WithObjectResult(func(ossdl.ObjectResult) { panic("broken") }),
		"progress": ossdl.WithProgress(func(ossdl.Progress) { panic("broken") }),
		"logger":   ossdl.WithLogger(slog.New(told{message: "object settled", once: nil, Handler: nil})),
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			_, err := harness.NewDownloader(t, s).DownloadAll(t.Context(), items, o)
			t.Errorf("returned %v", err)
		})
	}
}

// TestDownloadAllHTTPClient checks that a client that the caller gives is used for the URLs.
func TestDownloadAllHTTPClient(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("open", osstest.PublicRead())
	c := osstest.Random(1, 1000)
	s.Put("open", "k", c)
	client := &http.Client{Transport: &countedTransport{s: s}}
	path := filepath.Join(t.TempDir(), "f")
	res, err := harness.NewURLDownloader(t, ossdl.WithHTTPClient(client)).DownloadAll(t.Context(), harness.Items(ossdl.Item{Source: s.URL("open", "k"), Path: path}))
	harness.CheckCounts(t, res, err, 1, 0, 0)
	harness.CheckFile(t, path, c)
	if n := client.Transport.(*countedTransport).n; n != 1 {
		t.Errorf("used for %d requests", n)
	}
}

// countedTransport counts requests.
type countedTransport struct {
	s *osstest.Server
	n int
}

func (c *countedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n++
	return c.s.HTTPClient().Transport.RoundTrip(r)
}

// TestDownloadAllRestoresNothing checks that a default of New that costs money has no effect on a list.
func TestDownloadAllRestoresNothing(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "frozen", osstest.Random(1, 1000), osstest.StorageClass("Archive"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Method == http.MethodPost {
			t.Error("a restore was asked for")
			cancel() // it takes a minute
		}
		return nil
	})
	d := harness.NewDownloader(t, s, ossdl.WithRestore(ossdl.RestorePolicy{}))
	res, err := d.DownloadAll(ctx, harness.Items(ossdl.Item{Source: "oss://bkt/frozen", Path: filepath.Join(t.TempDir(), "f")}))
	harness.CheckCounts(t, res, err, 0, 0, 1)
	if !errors.Is(err, ossdl.ErrArchived) {
		t.Error(err)
	}
}
