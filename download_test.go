package ossdl_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"golang.org/x/sync/errgroup"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/fsys/fstest"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

func TestDownloadSizes(t *testing.T) {
	t.Parallel()
	s := harness.NewServer(t)
	d := harness.NewDownloader(t, s)
	const part = 64 << 10
	for _, c := range []struct{ size, part int64 }{
		{0, 0}, {1, 0}, {2, 0}, {16 << 10, 0}, {8 << 20, 0}, {8<<20 + 1, 0}, {40 << 20, 0},
		{0, 1}, {1, 1}, {100, 1}, {part, part}, {part + 1, part}, {part - 1, part}, {5 * part, part}, {5*part + 1, part},
		{300, 7}, {1 << 20, ossdl.MaxPartSize},
	} {
		for _, opts := range [][]ossdl.Option{nil, {ossdl.WithConcurrency(1)}, {ossdl.WithoutCheckpoint()}, {ossdl.WithoutPreallocation(), ossdl.WithConcurrency(16)}} {
			content := osstest.Random(uint64(c.size), c.size)
			o := s.Put("bkt", "k", content)
			s.ResetLog()
			if c.part > 0 {
				opts = append(opts, ossdl.WithPartSize(c.part))
			}
			path := filepath.Join(t.TempDir(), "file")
			begun := time.Now()
			res, err := d.Download(t.Context(), "bkt", "k", path, opts...)
			if err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
			taken := harness.TakenOver(s.Requests(), 16, time.Since(begun))
			harness.CheckFile(t, path, content)
			if res.Size != c.size || res.CRC64 != content.CRC64() || !res.Verified || res.ETag != o.ETag || res.Path != path ||
				res.DownloadedBytes < c.size || c.part > 0 && taken == 0 && res.DownloadedBytes != c.size || res.ResumedBytes != 0 || res.Requests != len(s.Requests()) {
				t.Errorf("%+v: result %+v", c, res)
			}
			if c.part > 0 {
				checkParts(t, s, c.size, c.part, taken)
			}
		}
	}
}

// checkParts checks that each part was asked for once, except for as many as were taken over, each request asks for at most
// a part, and all but the first name the ETag.
func checkParts(t *testing.T, s *osstest.Server, size, part int64, taken int) {
	t.Helper()
	requests := s.Requests()
	if want := int(max(1, (size+part-1)/part)); size > 0 && (len(requests) < want || len(requests) > want+taken) {
		t.Errorf("%d bytes in parts of %d: %d requests, want %d", size, part, len(requests), want)
	}
	for i, r := range requests {
		if r.Method != "GET" || size > 0 && (r.End-r.Start > part || r.Start%part != 0 && taken == 0) {
			t.Errorf("request %d: %s %s, part size %d", i, r.Method, r.Range, part)
		}
		if (r.Header.Get("If-Match") != "") != (i > 0 && size > 0) {
			t.Errorf("request %d of %d has If-Match %q", i, len(requests), r.Header.Get("If-Match"))
		}
		if r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("request %d has Accept-Encoding %q", i, r.Header.Get("Accept-Encoding"))
		}
	}
}

func TestSmallObjectIsOneRequest(t *testing.T) {
	s := harness.NewServer(t)
	d := harness.NewDownloader(t, s)
	dir := t.TempDir()
	for i := range 5 {
		s.Put("bkt", "small", osstest.Random(uint64(i), 16<<10))
		s.ResetLog()
		if _, err := d.Download(t.Context(), "bkt", "small", filepath.Join(dir, "small")); err != nil {
			t.Fatal(err)
		}
		harness.SameLines(t, harness.Wire(s), "GET bytes=0-8388607")
	}
	// On a busy machine net/http gives up a connection now and then; see TestPoolKeepsAConnectionForEachRequest.
	if n := s.Conns(); n >= 5 {
		t.Errorf("%d connections for five small objects one after another", n)
	}
}

func TestSignatures(t *testing.T) {
	content := osstest.Random(1, 3<<20)
	for name, opts := range map[string][]oss.ClientOption{
		"V1": {oss.AuthVersion(oss.AuthV1)},
		"V4": {oss.AuthVersion(oss.AuthV4), oss.Region("cn-hangzhou")},
	} {
		s := harness.NewServer(t)
		key := "dir/a key+with %25 & \u00e9?"
		s.Put("bkt", key, content)
		client, err := s.Client(append(opts, oss.HTTPClient(ossdl.HTTPClient()))...)
		if err != nil {
			t.Fatal(err)
		}
		d, err := ossdl.New(client, ossdl.WithPartSize(1<<20))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "file")
		res, err := d.Download(t.Context(), "bkt", key, path, ossdl.WithRequestOptions(oss.TrafficLimitHeader(838860800)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if res.Key != key {
			t.Errorf("%s: key %q", name, res.Key)
		}
		harness.CheckFile(t, path, content)
	}
}

func TestUnsigned(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("public", osstest.PublicRead())
	content := osstest.Random(1, 20<<20)
	s.Put("public", "a b/\u00e9", content)
	s.Put("bkt", "k", content)
	d := harness.NewUnsigned(t, s)
	path := filepath.Join(t.TempDir(), "file")
	if _, err := d.Download(t.Context(), "public", "a b/\u00e9", path); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, content)
	for _, r := range s.Requests() {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("an unsigned request has Authorization %q", r.Header.Get("Authorization"))
		}
	}
	var se oss.ServiceError
	if _, err := d.Download(t.Context(), "bkt", "k", path); !errors.As(err, &se) || se.Code != "AccessDenied" {
		t.Errorf("private bucket: %v", err)
	}
	harness.CheckFile(t, path, content)
}

// TestIfMatchInOtherLetters checks that a caller may write the ETag as it likes. The service hears of it as the service
// writes it.
func TestIfMatchInOtherLetters(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 3<<20)
	etag := s.Put("bkt", "k", content).ETag
	path := filepath.Join(t.TempDir(), "file")
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(1<<20), ossdl.WithConcurrency(1))
	if _, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithIfMatch(strings.ToLower(etag))); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, content)
	sent := 0
	for _, r := range s.Requests() {
		if r.Status != 206 {
			continue
		}
		sent++
		if got := r.Header.Get("If-Match"); sent > 1 && got != etag { // the first of them finds out
			t.Errorf("%s with If-Match %q, want %q", r.Range, got, etag)
		}
	}
	if sent < 3 {
		t.Errorf("%d ranges sent", sent)
	}
}

// TestRequestIDOfFindings checks that what only a comparison of answers finds has the request ID of one of them, too.
func TestRequestIDOfFindings(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 1000))
	path := filepath.Join(t.TempDir(), "file")
	d := harness.NewDownloader(t, s)
	wrong := osstest.Inject().Header("x-oss-hash-crc64ecma", "1")
	for _, c := range []struct {
		name  string
		fault *osstest.Fault
		opts  []ossdl.Option
		want  error
	}{
		{"a range that ends behind the object", nil, []ossdl.Option{ossdl.WithRange(900, 200)}, ossdl.ErrRange},
		{"a range far behind the object", nil, []ossdl.Option{ossdl.WithRange(math.MaxInt64-5, -1)}, ossdl.ErrRange},
		{"another ETag, in spite of the condition", osstest.Inject().Header("ETag", `"other"`), []ossdl.Option{ossdl.WithIfMatch("ETAG")}, ossdl.ErrObjectChanged},
		{"a wrong CRC-64", wrong, nil, ossdl.ErrChecksum},
	} {
		s.OnRequest(func(*osstest.Request) *osstest.Fault { return c.fault })
		if c.want == ossdl.ErrObjectChanged {
			s.SetQuirks(osstest.IgnoreIfMatch)
		}
		res, err := d.Download(t.Context(), "bkt", "k", path, c.opts...)
		s.SetQuirks(0)
		var service oss.ServiceError
		if !errors.Is(err, c.want) || !errors.As(err, &service) || service.RequestID == "" {
			t.Errorf("%s: %v, request ID %q", c.name, err, service.RequestID)
		}
		if c.want == ossdl.ErrRange && res.Size != 0 {
			t.Errorf("%s: a size of %d, and there is no such range", c.name, res.Size)
		}
		harness.NoLeftovers(t, path)
	}
}

// TestProgressOfARefusedCall checks that the last report comes also where nothing was asked for.
func TestProgressOfARefusedCall(t *testing.T) {
	s := harness.NewServer(t)
	d := harness.NewDownloader(t, s)
	var reports []ossdl.Progress
	_, err := d.Download(t.Context(), "bkt", "k", t.TempDir(), ossdl.WithProgress(func(p ossdl.Progress) { reports = append(reports, p) }))
	if err == nil || !reflect.DeepEqual(reports, []ossdl.Progress{{Remaining: -1}}) {
		t.Errorf("%v, reports %+v", err, reports)
	}
}

func TestDestinationRefusedBeforeAnyRequest(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 1000))
	d := harness.NewDownloader(t, s)
	dir := t.TempDir()
	taken := filepath.Join(dir, "taken")
	if err := os.Mkdir(taken+".cp", 0o755); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(taken+".cp", "mine"), "")
	harness.WriteFile(t, harness.OtherFolder(taken), "")
	foreign := filepath.Join(dir, "foreign.json")
	harness.WriteFile(t, foreign, "{}")
	for _, c := range []struct {
		name, path, want string
		opts             []ossdl.Option
	}{
		{"empty path", "", "empty", nil},
		{"folder missing", filepath.Join(dir, "none", "file"), "none", nil},
		{"a folder", dir, dir, nil},
		{"a device", os.DevNull, os.DevNull, nil},
		{"folder of the checkpoint missing", filepath.Join(dir, "file"), "nowhere", []ossdl.Option{ossdl.WithCheckpoint(filepath.Join(dir, "nowhere", "c"))}},
		{"both working folders are taken, the first", taken, `taken.cp is in the way: it holds "mine"`, nil},
		{"both working folders are taken, the second", taken, filepath.Base(harness.OtherFolder(taken)) + " is in the way: it is a file of user", nil},
		{"checkpoint is a folder", filepath.Join(dir, "file"), "taken.cp", []ossdl.Option{ossdl.WithCheckpoint(taken + ".cp")}},
		{"checkpoint is a file that is not ours", filepath.Join(dir, "file"), "foreign.json is in the way", []ossdl.Option{ossdl.WithCheckpoint(foreign)}},
		{"checkpoint is the file", filepath.Join(dir, "file"), "file of the download", []ossdl.Option{ossdl.WithCheckpoint(filepath.Join(dir, "file"))}},
		{"checkpoint is a working folder", filepath.Join(dir, "file"), "file of the download", []ossdl.Option{ossdl.WithCheckpoint(harness.OtherFolder(filepath.Join(dir, "file")))}},
		{"part size 0", filepath.Join(dir, "file"), "1 to 5368709120", []ossdl.Option{ossdl.WithPartSize(0)}},
		{"part size negative", filepath.Join(dir, "file"), "1 to 5368709120", []ossdl.Option{ossdl.WithPartSize(-1)}},
		{"part size over 5 GiB", filepath.Join(dir, "file"), "1 to 5368709120", []ossdl.Option{ossdl.WithPartSize(5<<30 + 1)}},
		{"concurrency 0", filepath.Join(dir, "file"), "1 to 256", []ossdl.Option{ossdl.WithConcurrency(0)}},
		{"concurrency over the ceiling", filepath.Join(dir, "file"), "1 to 256", []ossdl.Option{ossdl.WithConcurrency(257)}},
		{"rate 0", filepath.Join(dir, "file"), "1 byte", []ossdl.Option{ossdl.WithRateLimit(0)}},
		{"empty range", filepath.Join(dir, "file"), "length", []ossdl.Option{ossdl.WithRange(0, 0)}},
		{"negative offset", filepath.Join(dir, "file"), "offset", []ossdl.Option{ossdl.WithRange(-1, 1)}},
		{"weak ETag", filepath.Join(dir, "file"), "strong", []ossdl.Option{ossdl.WithIfMatch(`W/"a"`)}},
		{"digest of another length", filepath.Join(dir, "file"), "32", []ossdl.Option{ossdl.WithChecksum(sha256.New, []byte("x"))}},
		{"option of another entry point", filepath.Join(dir, "file"), "WithReadAhead", []ossdl.Option{ossdl.WithReadAhead(1 << 20)}},
		{"Range by the SDK", filepath.Join(dir, "file"), "WithRange", []ossdl.Option{ossdl.WithRequestOptions(oss.Range(0, 1))}},
		{"version by the SDK", filepath.Join(dir, "file"), "WithVersionID", []ossdl.Option{ossdl.WithRequestOptions(oss.VersionId("v"))}},
		{"condition by the SDK", filepath.Join(dir, "file"), "If-None-Match", []ossdl.Option{ossdl.WithRequestOptions(oss.IfNoneMatch("v"))}},
		{"process by the SDK", filepath.Join(dir, "file"), "processed", []ossdl.Option{ossdl.WithRequestOptions(oss.Process("image/resize"))}},
		{"progress by the SDK", filepath.Join(dir, "file"), "WithProgress", []ossdl.Option{ossdl.WithRequestOptions(oss.Progress(harness.IgnoredProgress{}))}},
		{"zero Option", filepath.Join(dir, "file"), "zero Option", []ossdl.Option{{}}},
	} {
		res, err := d.Download(t.Context(), "bkt", "k", c.path, c.opts...)
		if err == nil || !strings.Contains(err.Error(), c.want) || res != nil {
			t.Errorf("%s: %v, %v; want an error with %q and no result", c.name, res, err, c.want)
		}
	}
	for _, c := range []struct{ bucket, key, want string }{
		{"", "k", "bucket name"}, {"A", "k", "bucket name"}, {"bkt", "", "key"},
		{"bkt", strings.Repeat("k", 1023+1), "key"}, {"bkt", "\xff", "key"},
	} {
		if _, err := d.Download(t.Context(), c.bucket, c.key, filepath.Join(dir, "file")); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q, %q: %v", c.bucket, c.key, err)
		}
	}
	for name, o := range map[string]ossdl.Option{
		"WithCheckpoint": ossdl.WithCheckpoint("c"), "WithVersionID": ossdl.WithVersionID("v"), "WithIfMatch": ossdl.WithIfMatch("e"), "WithRange": ossdl.WithRange(0, 1),
		"WithChecksum":   ossdl.WithChecksum(sha256.New, make([]byte, 32)),
		"WithURLRefresh": ossdl.WithURLRefresh(func(context.Context) (string, error) { return "", nil }),
	} {
		if _, err := ossdl.New(nil, o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("New took %s: %v", name, err)
		}
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests were made", n)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestNothingNewAfterAFailure(t *testing.T) {
	s := harness.NewServer(t)
	d := harness.NewDownloader(t, s)
	path := filepath.Join(t.TempDir(), "file")
	harness.WriteFile(t, path, "the good old file")
	for name, prepare := range map[string]func() (bucket, key string, want error){
		"no such object": func() (string, string, error) { return "bkt", "none", ossdl.ErrNotFound },
		"no such bucket": func() (string, string, error) { return "nowhere", "none", ossdl.ErrNotFound },
		"archived": func() (string, string, error) {
			s.Put("bkt", "cold", osstest.Random(1, 1000))
			s.Archive("bkt", "cold")
			return "bkt", "cold", ossdl.ErrArchived
		},
		"wrong CRC-64": func() (string, string, error) {
			s.Put("bkt", "lie", osstest.Random(1, 1000), osstest.CRCHeader("1"))
			return "bkt", "lie", ossdl.ErrChecksum
		},
	} {
		bucket, key, want := prepare()
		res, err := d.Download(t.Context(), bucket, key, path)
		var se oss.ServiceError
		if !errors.Is(err, want) || want != ossdl.ErrChecksum && (!errors.As(err, &se) || se.RequestID == "") {
			t.Errorf("%s: %v", name, err)
		}
		if res == nil || res.Requests == 0 || res.Verified || res.CRC64 != 0 {
			t.Errorf("%s: result %+v", name, res)
		}
		if got, err := os.ReadFile(path); string(got) != "the good old file" {
			t.Errorf("%s: the old file is %q, %v", name, got, err)
		}
		harness.NoLeftovers(t, path)
	}
}

func TestRange(t *testing.T) {
	s := harness.NewServer(t)
	d := harness.NewDownloader(t, s)
	b := make([]byte, 1<<20)
	if _, err := osstest.Random(1, 1<<20).ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	s.Put("bkt", "k", osstest.Bytes(b))
	s.Put("bkt", "empty", osstest.Bytes(nil))
	path := filepath.Join(t.TempDir(), "file")
	const size = 1 << 20
	for _, c := range []struct {
		key            string
		offset, length int64
		want           error
	}{
		{"k", 0, -1, nil}, {"k", 0, size, nil}, {"k", 0, 1, nil}, {"k", 5, 100, nil}, {"k", size - 1, 1, nil}, {"k", size - 1, -1, nil},
		{"k", 12345, -1, nil}, {"empty", 0, -1, nil},
		{"k", size, 1, ossdl.ErrRange}, {"k", size, -1, ossdl.ErrRange}, {"k", size + 5, 1, ossdl.ErrRange}, {"k", 0, size + 1, ossdl.ErrRange},
		{"k", size - 1, 2, ossdl.ErrRange}, {"k", math.MaxInt64 - 1, 1, ossdl.ErrRange}, {"empty", 0, 1, ossdl.ErrRange}, {"empty", 1, -1, ossdl.ErrRange},
	} {
		for _, opts := range [][]ossdl.Option{{}, {ossdl.WithPartSize(100_000)}} {
			res, err := d.Download(t.Context(), "bkt", c.key, path, append(opts, ossdl.WithRange(c.offset, c.length))...)
			if !errors.Is(err, c.want) {
				t.Errorf("%+v: %v", c, err)
			}
			if err != nil {
				harness.NoLeftovers(t, path)
				continue
			}
			content := b
			if c.key == "empty" {
				content = nil
			}
			end := int64(len(content))
			if c.length > 0 {
				end = c.offset + c.length
			}
			harness.CheckFile(t, path, osstest.Bytes(content[c.offset:end]))
			whole := c.offset == 0 && end == int64(len(content))
			if res.Verified != whole || res.Size != end-c.offset || res.CRC64 != crc64.Update(0, content[c.offset:end]) {
				t.Errorf("%+v: result %+v", c, res)
			}
		}
	}
}

func TestChecksum(t *testing.T) {
	s := harness.NewServer(t)
	d := harness.NewDownloader(t, s)
	content := []byte("some content of which the caller knows the digest")
	sum := sha256.Sum256(content)
	wrong := sha256.Sum256([]byte("another"))
	s.Put("bkt", "k", osstest.Bytes(content))
	s.Put("bkt", "nocrc", osstest.Bytes(content), osstest.NoCRC())
	path := filepath.Join(t.TempDir(), "file")
	for _, c := range []struct {
		key      string
		opts     []ossdl.Option
		want     error
		verified bool
		requests int
	}{
		{"k", []ossdl.Option{ossdl.WithChecksum(sha256.New, sum[:])}, nil, true, 1},
		{"nocrc", nil, nil, false, 1},
		{"nocrc", []ossdl.Option{ossdl.WithChecksum(sha256.New, sum[:])}, nil, true, 1},
		// The CRC-64 says that the bytes are the object's: the digest is of something else.
		{"k", []ossdl.Option{ossdl.WithChecksum(sha256.New, wrong[:])}, ossdl.ErrChecksum, false, 1},
		// Nothing says so: they may have been damaged on the way, and are fetched once more.
		{"nocrc", []ossdl.Option{ossdl.WithChecksum(sha256.New, wrong[:])}, ossdl.ErrChecksum, false, 2},
	} {
		os.Remove(path)
		s.ResetLog()
		res, err := d.Download(t.Context(), "bkt", c.key, path, c.opts...)
		if !errors.Is(err, c.want) || res == nil || res.Verified != c.verified || len(s.Requests()) != c.requests {
			t.Errorf("%+v: %+v, %v, %d requests", c, res, err, len(s.Requests()))
		}
		harness.NoLeftovers(t, path)
		if _, serr := os.Stat(path); (serr == nil) != (err == nil) {
			t.Errorf("%+v: %v, then %v", c, err, serr)
		}
	}
}

func TestVersion(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("ver", osstest.Versioning(osstest.Enabled))
	old, new := osstest.Random(1, 300<<10), osstest.Random(2, 200<<10)
	first := s.Put("ver", "k", old)
	second := s.Put("ver", "k", new)
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(64<<10))
	path := filepath.Join(t.TempDir(), "file")
	res, err := d.Download(t.Context(), "ver", "k", path)
	if err != nil || res.VersionID != second.VersionID {
		t.Errorf("%+v, %v", res, err)
	}
	harness.CheckFile(t, path, new)
	for i, r := range s.Requests() {
		if got, want := strings.Contains(r.Query, "versionId="+second.VersionID), i > 0; got != want {
			t.Errorf("request %d: query %q", i, r.Query)
		}
	}
	res, err = d.Download(t.Context(), "ver", "k", path, ossdl.WithVersionID(first.VersionID))
	if err != nil || res.VersionID != first.VersionID {
		t.Errorf("%+v, %v", res, err)
	}
	harness.CheckFile(t, path, old)
	marker := s.Delete("ver", "k")
	if _, err = d.Download(t.Context(), "ver", "k", path, ossdl.WithVersionID(first.VersionID), ossdl.WithAsOf(time.Now())); err == nil ||
		!strings.Contains(err.Error(), "WithAsOf and WithVersionID exclude each other") {
		t.Errorf("both: %v", err)
	}
	for _, opts := range [][]ossdl.Option{nil, {ossdl.WithVersionID(marker)}, {ossdl.WithVersionID("none")}} {
		if _, err := d.Download(t.Context(), "ver", "k", path, opts...); !errors.Is(err, ossdl.ErrNotFound) {
			t.Errorf("deleted: %v", err)
		}
	}
	harness.CheckFile(t, path, old)
}

func TestIfMatch(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 300<<10)
	o := s.Put("bkt", "k", content)
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(64<<10))
	path := filepath.Join(t.TempDir(), "file")
	for _, etag := range []string{o.ETag, strings.Trim(o.ETag, `"`), strings.ToLower(strings.Trim(o.ETag, `"`))} {
		if _, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithIfMatch(etag)); err != nil {
			t.Errorf("%s: %v", etag, err)
		}
		harness.CheckFile(t, path, content)
	}
	s.Put("bkt", "k", osstest.Random(2, 300<<10))
	if _, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithIfMatch(o.ETag)); !errors.Is(err, ossdl.ErrObjectChanged) {
		t.Errorf("%v", err)
	}
	harness.CheckFile(t, path, content)
}

func TestLinkAtThePath(t *testing.T) {
	s := harness.NewServer(t)
	d := harness.NewDownloader(t, s)
	content := osstest.Random(1, 1000)
	s.Put("bkt", "k", content)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "real"), 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := fstest.Symlink(filepath.Join("real", "file"), link); err != nil {
		t.Skip("no symbolic links here: ", err)
	}
	for range 2 { // dangling, then not
		res, err := d.Download(t.Context(), "bkt", "k", link)
		if err != nil {
			t.Fatal(err)
		}
		if want, _ := filepath.EvalSymlinks(link); res.Path != want {
			t.Errorf("path %s, want %s", res.Path, want)
		}
		if fi, err := os.Lstat(link); err != nil || fi.Mode()&os.ModeSymlink == 0 {
			t.Errorf("the link was replaced: %v, %v", fi.Mode(), err)
		}
		harness.CheckFile(t, filepath.Join(dir, "real", "file"), content)
	}
}

func TestModes(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 1<<20))
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(64<<10), ossdl.WithConcurrency(1))
	path := filepath.Join(t.TempDir(), "file")
	harness.Interrupt(t, s, d, path, 5)
	for suffix, want := range map[string]os.FileMode{harness.FolderSuffix: 0o755, harness.CheckpointSuffix: 0o644, harness.PartSuffix: 0o644} {
		fi, err := os.Stat(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if got := fi.Mode().Perm(); runtime.GOOS != "windows" && got != want {
			t.Errorf("%s has mode %v, want %v", suffix, got, want)
		}
	}
}

func TestProgress(t *testing.T) {
	s := harness.NewServer(t, osstest.WithTotalRate(4<<20))
	content := osstest.Random(1, 2<<20)
	s.Put("bkt", "k", content)
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(64<<10))
	for name, opts := range map[string][]ossdl.Option{"with checkpoint": nil, "without": {ossdl.WithoutCheckpoint()}, "range": {ossdl.WithRange(1<<20, -1)}} {
		path := filepath.Join(t.TempDir(), "file")
		p := &harness.ProgressRecorder{T: t}
		res, err := d.Download(t.Context(), "bkt", "k", path, append(opts, ossdl.WithProgress(p.Add))...)
		if err != nil {
			t.Fatal(err)
		}
		last := p.Last()
		if last.Done != res.Size || last.Total != res.Size || last.Remaining != 0 || last.InFlight != 0 {
			t.Errorf("%s: last report %+v for %d bytes", name, last, res.Size)
		}
		if len(p.All) < 2 {
			t.Errorf("%s: %d reports of a download of a quarter second", name, len(p.All))
		}
		for _, r := range p.All[:len(p.All)-1] {
			if r.Done == r.Total && r.Total > 0 {
				t.Errorf("%s: complete before the end: %+v", name, r)
			}
		}
	}
	p := &harness.ProgressRecorder{T: t}
	if _, err := d.Download(t.Context(), "bkt", "none", filepath.Join(t.TempDir(), "file"), ossdl.WithProgress(p.Add)); err == nil {
		t.Fatal("downloaded")
	}
	if len(p.All) == 0 {
		t.Error("no last report after a failure")
	}
}

func TestConcurrencyBoundsAllCalls(t *testing.T) {
	s := harness.NewServer(t, osstest.WithLatency(time.Millisecond))
	content := osstest.Random(1, 1<<20)
	s.Put("bkt", "k", content)
	d := harness.NewDownloader(t, s, ossdl.WithConcurrency(4), ossdl.WithPartSize(64<<10))
	dir := t.TempDir()
	var group errgroup.Group
	for i := range 10 {
		path := filepath.Join(dir, strconv.Itoa(i))
		group.Go(func() error {
			_, err := d.Download(t.Context(), "bkt", "k", path)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		harness.CheckFile(t, filepath.Join(dir, strconv.Itoa(i)), content)
	}
	if n := s.MaxInFlight(); n > 4 || n < 2 {
		t.Errorf("%d requests in flight, want at most 4 and more than one", n)
	}
	s.ResetLog()
	if _, err := d.Download(t.Context(), "bkt", "k", filepath.Join(dir, "one"), ossdl.WithConcurrency(1)); err != nil {
		t.Fatal(err)
	}
	if n := s.MaxInFlight(); n != 1 {
		t.Errorf("%d requests in flight of a call bounded to 1", n)
	}
}

func TestInUse(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 1<<20)
	s.Put("bkt", "k", content)
	s.Put("bkt", "other", osstest.Random(2, 1<<20))
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(64<<10))
	path := filepath.Join(t.TempDir(), "file")
	release := make(chan struct{})
	held := make(chan struct{})
	s.Nth(3, osstest.Inject().Before(sync.OnceFunc(func() { close(held) })).HoldHeaders(release))
	var group errgroup.Group
	group.Go(func() error {
		_, err := d.Download(t.Context(), "bkt", "k", path)
		return err
	})
	<-held
	n := len(s.Requests())
	for _, key := range []string{"k", "other"} {
		if res, err := d.Download(t.Context(), "bkt", key, path); !errors.Is(err, ossdl.ErrInUse) || res != nil {
			t.Errorf("%s: %v, %v", key, res, err)
		}
	}
	for _, r := range s.Requests()[n:] {
		if r.Key == "other" {
			t.Errorf("a call that was refused made a request")
		}
	}
	close(release)
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, content)
}

// TestFarBeyond4GiB fetches a few bytes around the ends of a very large object, whose arithmetic must fit.
func TestFarBeyond4GiB(t *testing.T) {
	s := harness.NewServer(t)
	const size = 48_800_000_000_000
	s.Put("bkt", "huge", osstest.Zeros(size))
	d := harness.NewDownloader(t, s)
	path := filepath.Join(t.TempDir(), "file")
	for _, off := range []int64{0, 1<<32 - 5, size - 1000} {
		res, err := d.Download(t.Context(), "bkt", "huge", path, ossdl.WithRange(off, 1000), ossdl.WithPartSize(300))
		if err != nil {
			t.Fatal(err)
		}
		if res.Size != 1000 {
			t.Errorf("%d bytes", res.Size)
		}
		harness.CheckFile(t, path, osstest.Zeros(1000))
	}
}

// TestVersionInEveryRequest checks the User-Agent of each kind of request: of objects, of listings and of URLs, signed and
// not. The client itself stays as it was.
func TestVersionInEveryRequest(t *testing.T) {
	const ours = "ossdl/" + ossdl.Version
	server, err := osstest.New()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	server.CreateBucket("bkt", osstest.PublicRead())
	server.Put("bkt", "dir/key", osstest.Random(1, 3<<20))
	for _, c := range []struct {
		name, keyID, secret string
		options             []oss.ClientOption
		call                []ossdl.Option
		want                string // regular expression
	}{
		{"default", osstest.AccessKeyID, osstest.AccessKeySecret, nil, nil, `^aliyun-sdk-go/\S+ \(.*\) ` + ours + "$"},
		{"unsigned", "", "", nil, nil, `^aliyun-sdk-go/\S+ \(.*\) ` + ours + "$"},
		{"client's own", osstest.AccessKeyID, osstest.AccessKeySecret, []oss.ClientOption{oss.UserAgent("backup/7")}, nil, "^backup/7 " + ours + "$"},
		{"call's own", osstest.AccessKeyID, osstest.AccessKeySecret, nil, []ossdl.Option{ossdl.WithRequestOptions(oss.UserAgentHeader("me"))}, "^me$"},
		{"call's own, in lower case", osstest.AccessKeyID, osstest.AccessKeySecret, nil,
			[]ossdl.Option{ossdl.WithRequestOptions(oss.SetHeader("user-agent", "me"))}, "^me$"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server.ResetLog()
			client, err := oss.New(server.Endpoint(), c.keyID, c.secret,
				append(c.options, oss.Region(osstest.Region), oss.AuthVersion(oss.AuthV4), oss.HTTPClient(ossdl.HTTPClient()))...)
			if err != nil {
				t.Fatal(err)
			}
			before := client.Config.UserAgent
			d, err := ossdl.New(client)
			if err != nil {
				t.Fatal(err)
			}
			defer d.CloseIdleConnections()
			if _, err := d.Download(t.Context(), "bkt", "dir/key", filepath.Join(t.TempDir(), "file"), c.call...); err != nil {
				t.Fatal(err)
			}
			if c.keyID != "" { // the bucket's keys are not for everyone to list
				if _, err := d.DownloadPrefix(t.Context(), "bkt", "dir/", t.TempDir(), c.call...); err != nil {
					t.Fatal(err)
				}
			}
			agents(t, server, c.want)
			if client.Config.UserAgent != before {
				t.Errorf("the client's User-Agent is %q now, was %q", client.Config.UserAgent, before)
			}
		})
	}
	t.Run("URL", func(t *testing.T) {
		server.ResetLog()
		d, err := ossdl.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer d.CloseIdleConnections()
		if _, err := d.DownloadURL(t.Context(), server.URL("bkt", "dir/key"), filepath.Join(t.TempDir(), "file")); err != nil {
			t.Fatal(err)
		}
		agents(t, server, "^"+ours+` \(\S+; go\S+\)$`)
	})
}

// agents compares the User-Agent of all requests since the last ResetLog.
func agents(t *testing.T, server *osstest.Server, want string) {
	t.Helper()
	all := server.Requests()
	if len(all) == 0 {
		t.Error("no requests")
	}
	for _, r := range all {
		if got := r.Header.Get("User-Agent"); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s %q: User-Agent %q, want %s", r.Method, r.Key, got, want)
		}
	}
}

// TestCommandRequiresThisVersion checks that the command asks for the library of its own release.
func TestCommandRequiresThisVersion(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join("cmd", "ossget", "go.mod"))
	if err != nil {
		t.Skip("the command is a module of its own, and not here: ", err)
	}
	if want := "\tgithub.com/ossdl/ossdl v" + ossdl.Version + "\n"; !strings.Contains(string(mod), want) {
		t.Errorf("cmd/ossget/go.mod does not require %s", strings.TrimSpace(want))
	}
}
