package ossdl_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/fstest"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/osstest"
)

// sameResult compares all fields, Requests and Retries too. A Duration only has to be there.
func sameResult(t *testing.T, what string, got *ossdl.Result, want ossdl.Result) {
	t.Helper()
	if got == nil {
		t.Errorf("%s: no result", what)
		return
	}
	if got.Duration <= 0 || got.Duration > time.Hour {
		t.Errorf("%s: it took %v", what, got.Duration)
	}
	if !got.LastModified.Equal(want.LastModified) {
		t.Errorf("%s: LastModified %v, want %v", what, got.LastModified, want.LastModified)
	}
	if tag := got.Header.Get("Etag"); tag != want.ETag || (got.Header == nil) != (want.ETag == "") {
		t.Errorf("%s: headers %v of an object with ETag %s", what, got.Header, want.ETag)
	}
	was := *got
	was.Duration, was.LastModified, want.LastModified = 0, time.Time{}, time.Time{}
	was.Header = nil
	if !reflect.DeepEqual(was, want) {
		t.Errorf("%s: result\n\t%+v\nwant\n\t%+v", what, was, want)
	}
}

// TestEveryFieldOfTheResult checks each kind of call that ends well.
func TestEveryFieldOfTheResult(t *testing.T) {
	const size, part = 16 * harness.PartSize, harness.PartSize
	modified := time.Unix(1_600_000_000, 0)
	s := harness.NewServer(t)
	s.CreateBucket("ver", osstest.Versioning(osstest.Enabled), osstest.PublicRead())
	old, new := osstest.Random(1, size), osstest.Random(2, size)
	first := s.Put("ver", "dir/k", old, osstest.LastModified(modified))
	second := s.Put("ver", "dir/k", new, osstest.LastModified(modified.Add(time.Hour)))
	plain := s.Put("bkt", "dir/k", new, osstest.LastModified(modified))
	s.Put("bkt", "nocrc", new, osstest.NoCRC(), osstest.ETag(plain.ETag), osstest.LastModified(modified))
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(part), ossdl.WithConcurrency(1))
	t.Cleanup(d.CloseIdleConnections)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "file")
	whole := ossdl.Result{
		Path: path, Bucket: "bkt", Key: "dir/k", ETag: plain.ETag, Size: size, CRC64: new.CRC64(), Verified: true, Durable: true,
		DownloadedBytes: size, Requests: 16, LastModified: modified,
	}
	bytes := harness.Bytes(t, new)
	partly := func(off, length int64) ossdl.Result {
		want := whole
		want.Size, want.DownloadedBytes, want.Verified = length, length, false
		want.CRC64, want.Requests = crc64.Update(0, bytes[off:off+length]), int((length+part-1)/part)
		return want
	}
	stream := func(want ossdl.Result) ossdl.Result { want.Path, want.Durable = "", false; return want }

	get := func(bucket, key, path string, opts ...ossdl.Option) *ossdl.Result {
		t.Helper()
		res, err := d.Download(t.Context(), bucket, key, path, opts...)
		if err != nil {
			t.Error(err)
		}
		return res
	}
	sameResult(t, "fresh", get("bkt", "dir/k", path), whole)
	sameResult(t, "range", get("bkt", "dir/k", path, ossdl.WithRange(100, 1000)), partly(100, 1000))
	sameResult(t, "range that is all", get("bkt", "dir/k", path, ossdl.WithRange(0, -1)), whole)
	nocrc := whole
	nocrc.Key, nocrc.Verified = "nocrc", false
	sameResult(t, "without CRC-64", get("bkt", "nocrc", path), nocrc)
	current := whole
	current.Bucket, current.VersionID, current.ETag, current.LastModified = "ver", second.VersionID, second.ETag, modified.Add(time.Hour)
	sameResult(t, "current version", get("ver", "dir/k", path), current)
	version := current
	version.VersionID, version.ETag, version.CRC64, version.LastModified = first.VersionID, first.ETag, old.CRC64(), modified
	sameResult(t, "old version", get("ver", "dir/k", path, ossdl.WithVersionID(first.VersionID)), version)

	// A relative path and a link are resolved.
	t.Chdir(dir)
	sameResult(t, "relative path", get("bkt", "dir/k", "file"), whole)
	if err := fstest.Symlink("file", "link"); err == nil {
		sameResult(t, "link", get("bkt", "dir/k", "link"), whole)
	}

	// A request that breaks is made again for the rest.
	s.ResetLog()
	s.Nth(3, osstest.Inject().ResetAfter(part/2))
	retried := whole
	retried.Requests, retried.Retries = 17, 1
	sameResult(t, "retried", get("bkt", "dir/k", path), retried)
	s.ClearFaults()

	// Resumed: 5 parts are there, 11 come.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.ResetLog()
	s.Nth(5, osstest.Inject().Before(cancel).HoldHeaders(nil))
	res, err := d.Download(ctx, "bkt", "dir/k", path)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	s.ClearFaults()
	cut := whole
	cut.CRC64, cut.Verified, cut.Durable, cut.DownloadedBytes, cut.Requests = 0, false, false, 5*part, 6
	sameResult(t, "interrupted", res, cut)
	resumed := whole
	resumed.ResumedBytes, resumed.DownloadedBytes, resumed.Requests = 5*part, 11*part, 11
	sameResult(t, "resumed", get("bkt", "dir/k", path), resumed)

	w := &harness.Memory{Content: make([]byte, size)}
	res, err = d.DownloadTo(t.Context(), "bkt", "dir/k", w)
	if err != nil {
		t.Error(err)
	}
	sameResult(t, "writer", res, stream(whole))

	for name, c := range map[string]struct {
		opts []ossdl.Option
		want ossdl.Result
	}{"Reader": {nil, whole}, "Reader of a range": {[]ossdl.Option{ossdl.WithRange(part, 2*part)}, partly(part, 2*part)}} {
		r, err := d.Open(t.Context(), "bkt", "dir/k", c.opts...)
		if err != nil {
			t.Fatal(err)
		}
		if r.Result() != nil {
			t.Errorf("%s: a result before the end", name)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Error(err)
		}
		sameResult(t, name, r.Result(), stream(c.want))
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		sameResult(t, name+", closed", r.Result(), stream(c.want))
	}

	raw := s.URL("ver", "dir/k")
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	res, err = d.DownloadURL(t.Context(), raw, path)
	if err != nil {
		t.Error(err)
	}
	web := current
	web.Bucket, web.Key = u.Host, u.EscapedPath()
	sameResult(t, "URL", res, web)
}

// TestResultBesideAnError checks that there is a result once a request was made, with what was found out until then, and
// that it claims nothing of the bytes; before, there is none.
func TestResultBesideAnError(t *testing.T) {
	const size = 16 * harness.PartSize
	modified := time.Unix(1_600_000_000, 0)
	s := harness.NewServer(t)
	o := s.Put("bkt", "k", osstest.Random(1, size), osstest.LastModified(modified))
	lie := s.Put("bkt", "lie", osstest.Random(1, size), osstest.CRCHeader("1"), osstest.LastModified(modified))
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "file")

	res, err := d.Download(t.Context(), "bkt", "none", path)
	if !errors.Is(err, ossdl.ErrNotFound) {
		t.Error(err)
	}
	sameResult(t, "not found", res, ossdl.Result{Path: path, Bucket: "bkt", Key: "none", Requests: 1})

	res, err = d.Download(t.Context(), "bkt", "lie", path)
	if !errors.Is(err, ossdl.ErrChecksum) {
		t.Error(err)
	}
	sameResult(t, "wrong CRC-64", res, ossdl.Result{
		Path: path, Bucket: "bkt", Key: "lie", ETag: lie.ETag, Size: size, DownloadedBytes: 2 * size, Requests: 32, LastModified: modified,
	})

	s.ResetLog()
	s.Nth(4, osstest.Error(http.StatusForbidden, "AccessDenied"))
	res, err = d.DownloadTo(t.Context(), "bkt", "k", &harness.Memory{Content: make([]byte, size)})
	if !errors.As(err, new(oss.ServiceError)) {
		t.Error(err)
	}
	sameResult(t, "refused in the middle", res, ossdl.Result{
		Bucket: "bkt", Key: "k", ETag: o.ETag, Size: size, DownloadedBytes: 4 * harness.PartSize, Requests: 5, LastModified: modified,
	})
	s.ClearFaults()

	disk := faultfs.New(fsys.OS(), faultfs.Plan{Kind: faultfs.Rename, Name: harness.PartSuffix})
	if res, err = d.Download(t.Context(), "bkt", "k", path, harness.WithFS(disk)); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	sameResult(t, "right, but not in place", res, ossdl.Result{
		Path: path, Bucket: "bkt", Key: "k", ETag: o.ETag, Size: size, DownloadedBytes: size, Requests: 16, LastModified: modified,
	})

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.ResetLog()
	for range 20 { // whatever comes first
		if res, err := d.Download(ctx, "bkt", "k", path); !errors.Is(err, context.Canceled) || res != nil {
			t.Errorf("a context that has ended: %+v, %v", res, err)
		}
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests with a context that has ended", n)
	}
}

// checkHeader checks that headers are of the object with its metadata, as a HEAD would return them.
func checkHeader(t *testing.T, what string, h http.Header, o *osstest.Object) {
	t.Helper()
	for name, want := range map[string]string{
		"Etag": o.ETag, "Content-Length": strconv.FormatInt(o.Size(), 10), "Content-Type": "text/x", "X-Oss-Meta-Colour": "blue",
		"X-Oss-Hash-Crc64ecma": o.CRC, "Last-Modified": o.LastModified.UTC().Format(http.TimeFormat),
		"Content-Range": "", "Connection": "", "Keep-Alive": "", "Set-Cookie": "", "Transfer-Encoding": "", "X-Hop": "",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %s %q, want %q", what, name, got, want)
		}
	}
}

// TestResultHeader checks the headers that each entry point returns: of ranges, of the whole, of an empty object.
func TestResultHeader(t *testing.T) {
	const size = 4 * harness.PartSize
	for name, quirks := range map[string][]osstest.Option{"ranges": nil, "no ranges": {osstest.WithQuirks(osstest.NoRanges)}} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewServer(t, quirks...)
			s.CreateBucket("public", osstest.PublicRead())
			options := []osstest.ObjectOption{osstest.Meta("colour", "blue"), osstest.ContentType("text/x")}
			objects := map[string]*osstest.Object{
				"k":     s.Put("bkt", "k", osstest.Random(1, size), options...),
				"empty": s.Put("bkt", "empty", osstest.Random(1, 0), options...),
			}
			public := s.Put("public", "k", osstest.Random(2, size), options...)
			s.OnRequest(func(*osstest.Request) *osstest.Fault {
				return osstest.Inject().Header("Connection", "keep-alive, X-Hop").Header("Keep-Alive", "timeout=5").
					Header("X-Hop", "1").Header("Set-Cookie", "session=0123456789abcdef")
			})
			d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize))
			t.Cleanup(d.CloseIdleConnections)
			path := filepath.Join(t.TempDir(), "file")
			for key, o := range objects {
				calls := map[string]func() (*ossdl.Result, error){
					"Download": func() (*ossdl.Result, error) { return d.Download(t.Context(), "bkt", key, path) },
					"DownloadTo": func() (*ossdl.Result, error) {
						return d.DownloadTo(t.Context(), "bkt", key, make(memory, size))
					},
					"DownloadURL": func() (*ossdl.Result, error) {
						return d.DownloadURL(t.Context(), harness.Sign(t, s, oss.AuthV4, time.Hour, key), path)
					},
					"Open": func() (*ossdl.Result, error) {
						r, err := d.Open(t.Context(), "bkt", key)
						if err != nil {
							return nil, err
						}
						_, err = io.Copy(io.Discard, r)
						return r.Result(), errors.Join(err, r.Close())
					},
				}
				if key == "k" && name == "ranges" {
					calls["range"] = func() (*ossdl.Result, error) {
						return d.Download(t.Context(), "bkt", key, path, ossdl.WithRange(harness.PartSize+1, 5))
					}
				}
				for call, fn := range calls {
					res, err := fn()
					if err != nil {
						t.Fatalf("%s of %s: %v", call, key, err)
					}
					checkHeader(t, call+" of "+key, res.Header, o)
					if call != "DownloadURL" && res.Header.Get("X-Oss-Request-Id") == "" {
						t.Errorf("%s of %s: no request ID", call, key)
					}
				}
			}
			res, err := d.DownloadURL(t.Context(), s.URL("public", "k"), path)
			if err != nil {
				t.Fatal(err)
			}
			checkHeader(t, "public URL", res.Header, public)
		})
	}
}

// TestResultHeaderOfAResume checks the headers of a run that found everything on disk and asked for one byte to confirm it,
// and of a run that found the object changed.
func TestResultHeaderOfAResume(t *testing.T) {
	const size = 4 * harness.PartSize
	s := harness.NewServer(t)
	put := func(seed uint64, colour string) *osstest.Object {
		return s.Put("bkt", "k", osstest.Random(seed, size), osstest.Meta("colour", colour), osstest.ContentType("text/x"))
	}
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize))
	path := filepath.Join(t.TempDir(), "file")
	leaveAll := func() {
		t.Helper()
		disk := faultfs.New(fsys.OS(), faultfs.Plan{Kind: faultfs.Rename, Name: harness.PartSuffix})
		if _, err := d.Download(t.Context(), "bkt", "k", path, harness.WithFS(disk)); !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		s.ResetLog()
	}
	o := put(1, "blue")
	leaveAll()
	res, err := d.Download(t.Context(), "bkt", "k", path)
	if err != nil {
		t.Fatal(err)
	}
	harness.SameLines(t, harness.Wire(s), "GET bytes=0-0 if-match")
	checkHeader(t, "all there", res.Header, o)

	put(1, "red")
	leaveAll()
	o = put(2, "blue")
	if res, err = d.Download(t.Context(), "bkt", "k", path); err != nil {
		t.Fatal(err)
	}
	checkHeader(t, "changed", res.Header, o)
}

// TestResultHeaderBesideAnError checks that headers are there as soon as an answer was accepted, and not before.
func TestResultHeaderBesideAnError(t *testing.T) {
	s := harness.NewServer(t)
	o := s.Put("bkt", "k", osstest.Random(1, 4*harness.PartSize), osstest.Meta("colour", "blue"), osstest.ContentType("text/x"))
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}))
	path := filepath.Join(t.TempDir(), "file")

	res, err := d.Download(t.Context(), "bkt", "none", path)
	if !errors.Is(err, ossdl.ErrNotFound) || res.Header != nil {
		t.Errorf("%v, %v", err, res.Header)
	}
	res, err = d.Download(t.Context(), "bkt", "k", path, ossdl.WithIfMatch("another"))
	if !errors.Is(err, ossdl.ErrObjectChanged) || res.Header != nil {
		t.Errorf("%v, %v", err, res.Header)
	}
	s.ResetLog()
	s.Nth(1, osstest.Error(http.StatusForbidden, "AccessDenied"))
	res, err = d.Download(t.Context(), "bkt", "k", path)
	if !errors.As(err, new(*ossdl.PartError)) {
		t.Fatal(err)
	}
	checkHeader(t, "refused in the middle", res.Header, o)
}

// TestErrorsAsFindsPointers checks that errors.As finds a *KeyError and a *PartError in the errors of every entry point that
// can return them, and a KeyError by value, too.
func TestErrorsAsFindsPointers(t *testing.T) {
	const size = 4 * harness.PartSize
	s := harness.NewServer(t)
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}))
	s.Put("bkt", "p/k", osstest.Random(1, size))
	forbidSecond := func() {
		s.ResetLog()
		s.Nth(1, osstest.Error(http.StatusForbidden, "AccessDenied"))
	}

	forbidSecond()
	_, err := d.Download(t.Context(), "bkt", "p/k", filepath.Join(t.TempDir(), "file"))
	var part *ossdl.PartError
	if !errors.As(err, &part) || part.Bucket != "bkt" || part.Key != "p/k" || part.Offset != harness.PartSize || part.Attempts != 1 {
		t.Errorf("Download: %+v in %v", part, err)
	}

	forbidSecond()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "p/", t.TempDir())
	var key *ossdl.KeyError
	if !errors.As(err, &key) || key.Key != "p/k" {
		t.Fatalf("DownloadPrefix: %+v in %v", key, err)
	}
	if len(res.Failures) != 1 || *key != res.Failures[0] {
		t.Fatalf("%+v, and the failures are %+v", key, res.Failures)
	}
	var value ossdl.KeyError
	if !errors.As(err, &value) || value != *key {
		t.Errorf("by value: %+v", value)
	}
	if part = nil; !errors.As(err, &part) || part.Key != "p/k" || part.Offset != harness.PartSize {
		t.Errorf("no *PartError in the *KeyError: %+v in %v", part, err)
	}
	if !errors.As(err, new(oss.ServiceError)) {
		t.Errorf("no oss.ServiceError in %v", err)
	}
}

// TestKeyErrorByPointerAndByValue checks that it does not matter to errors.As whether an error holds the one or the other.
func TestKeyErrorByPointerAndByValue(t *testing.T) {
	want := ossdl.KeyError{Key: "k", Err: ossdl.ErrArchived}
	for name, err := range map[string]error{"pointer": &want, "value": want} {
		err = fmt.Errorf("wrapped: %w", err)
		var p *ossdl.KeyError
		if !errors.As(err, &p) || *p != want {
			t.Errorf("%s: *KeyError %+v", name, p)
		}
		var v ossdl.KeyError
		if !errors.As(err, &v) || v != want {
			t.Errorf("%s: KeyError %+v", name, v)
		}
		if !errors.Is(err, ossdl.ErrArchived) || errors.As(err, new(*ossdl.PartError)) {
			t.Errorf("%s: %v", name, err)
		}
		if text := err.Error(); text != `wrapped: "k": object is archived` {
			t.Errorf("%s: %s", name, text)
		}
	}
}

// someResult has every field set, CRC64 to what no float64 holds.
func someResult() *ossdl.Result {
	return &ossdl.Result{
		Path: "/data/a<b>&c", Bucket: "bkt", Key: "dir/k", VersionID: "v1", ETag: `"0A1B"`, Size: 1 << 40, CRC64: math.MaxUint64,
		Verified: true, Durable: true, Encrypted: true, Skipped: true, ResumedBytes: 1, DownloadedBytes: 2, Requests: 3, Retries: 4, Restored: true, Duration: 1500 * time.Millisecond,
		LastModified: time.Unix(1_600_000_000, 0).UTC(), Header: http.Header{"X-Oss-Meta-Colour": {"blue"}},
	}
}

func somePrefixResult() *ossdl.PrefixResult {
	return &ossdl.PrefixResult{
		Done: 1, Skipped: 2, Failed: 3, Bytes: 4, NotDurable: 6, Encrypted: 5,
		Unverified: 7, Requests: 8, Retries: 9, ResumedBytes: 10, DownloadedBytes: 11, Deleted: 12, Restored: 13, Restoring: 14,
		Failures: []ossdl.KeyError{
			{Key: "a", Err: fmt.Errorf("%w: %w", object.ErrArchived, oss.ServiceError{StatusCode: 403, RequestID: "R"})}, {Key: "b&c", Err: ossdl.ErrChecksum},
		},
		Listing: errors.New("listing: no answer"),
	}
}

// someObjectResult has every field set.
func someObjectResult() *ossdl.ObjectResult {
	return &ossdl.ObjectResult{
		Status: ossdl.ObjectFailed, Key: "p/a<b>&c", Name: "a<b>&c", Path: "/data/a<b>&c", VersionID: "v1", ETag: `"0A1B"`, Size: 1 << 40,
		LastModified: time.Unix(1_600_000_000, 0).UTC(), CRC64: math.MaxUint64, Verified: true, Durable: true, Encrypted: true,
		ResumedBytes: 1, DownloadedBytes: 2, Requests: 3, Retries: 4, Restored: true, Duration: 1500 * time.Millisecond, Err: object.ErrArchived,
	}
}

// TestGoldenJSON checks names, order and form of what is printed, which scripts rely on.
func TestGoldenJSON(t *testing.T) {
	archived := ossdl.KeyError{Key: "k", Err: object.ErrArchived}
	serviceText, err := json.Marshal(somePrefixResult().Failures[0].Err.Error())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		v    any
		want string
	}{
		"Result": {someResult(), `{"path":"/data/a<b>&c","bucket":"bkt","key":"dir/k","versionId":"v1","etag":"\"0A1B\"","size":1099511627776,` +
			`"crc64":"18446744073709551615","verified":true,"durable":true,"encrypted":true,"skipped":true,"resumedBytes":1,"downloadedBytes":2,"requests":3,"retries":4,"restored":true,` +
			`"lastModified":"2020-09-13T12:26:40Z","header":{"X-Oss-Meta-Colour":["blue"]},"seconds":1.5}`},
		"empty Result": {ossdl.Result{}, `{"path":"","bucket":"","key":"","versionId":"","etag":"","size":0,"crc64":"0","verified":false,` +
			`"durable":false,"encrypted":false,"skipped":false,"resumedBytes":0,"downloadedBytes":0,"requests":0,"retries":0,"restored":false,"seconds":0}`},
		"no Result": {(*ossdl.Result)(nil), `null`},
		"PrefixResult": {somePrefixResult(), `{"done":1,"skipped":2,"failed":3,"bytes":4,"notDurable":6,"encrypted":5,"unverified":7,"requests":8,"retries":9,"resumedBytes":10,"downloadedBytes":11,"deleted":12,"restored":13,"restoring":14,"failures":[{"key":"a","error":` + string(serviceText) +
			`},{"key":"b&c","error":"checksum mismatch"}],"listing":"listing: no answer"}`},
		"empty PrefixResult": {ossdl.PrefixResult{}, `{"done":0,"skipped":0,"failed":0,"bytes":0,"notDurable":0,"encrypted":0,"unverified":0,"requests":0,"retries":0,"resumedBytes":0,"downloadedBytes":0,"deleted":0,"restored":0,"restoring":0,"failures":[]}`},
		"no PrefixResult":    {(*ossdl.PrefixResult)(nil), `null`},
		"ObjectResult": {someObjectResult(), `{"status":"failed","key":"p/a<b>&c","name":"a<b>&c","path":"/data/a<b>&c","versionId":"v1","etag":"\"0A1B\"",` +
			`"size":1099511627776,"lastModified":"2020-09-13T12:26:40Z","crc64":"18446744073709551615","verified":true,"durable":true,"encrypted":true,` +
			`"resumedBytes":1,"downloadedBytes":2,"requests":3,"retries":4,"restored":true,"seconds":1.5,"error":"object is archived"}`},
		"empty ObjectResult": {ossdl.ObjectResult{}, `{"status":"","key":"","name":"","path":"","versionId":"","etag":"","size":0,"crc64":"0","verified":false,` +
			`"durable":false,"encrypted":false,"resumedBytes":0,"downloadedBytes":0,"requests":0,"retries":0,"restored":false,"seconds":0}`},
		"*ArchivedError": {&ossdl.ArchivedError{StorageClass: "Archive", State: ossdl.ArchiveRestored, Until: time.Unix(1_600_000_000, 0).UTC(), Err: object.ErrArchived},
			`{"storageClass":"Archive","state":"restored","until":"2020-09-13T12:26:40Z","error":"object is archived"}`},
		"KeyError":           {archived, `{"key":"k","error":"object is archived"}`},
		"*KeyError":          {&archived, `{"key":"k","error":"object is archived"}`},
		"KeyError, no cause": {ossdl.KeyError{Key: "k"}, `{"key":"k","error":""}`},
		"*PartError": {&ossdl.PartError{Bucket: "bkt", Key: "k", Offset: 5, Size: 6, Attempts: 7, Err: object.ErrNotFound},
			`{"bucket":"bkt","key":"k","offset":5,"size":6,"attempts":7,"error":"object not found"}`},
		"no *PartError": {(*ossdl.PartError)(nil), `null`},
	} {
		var plain bytes.Buffer
		e := json.NewEncoder(&plain)
		e.SetEscapeHTML(false)
		if err := e.Encode(c.v); err != nil || plain.String() != c.want+"\n" {
			t.Errorf("%s: %v\n\t%swant\n\t%s", name, err, plain.String(), c.want)
		}
		escaped := strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`).Replace(c.want)
		if b, err := json.Marshal(c.v); err != nil || string(b) != escaped {
			t.Errorf("%s, escaped: %v\n\t%s\nwant\n\t%s", name, err, b, escaped)
		}
	}
}

// TestJSONRoundTrip checks that what is read back is what was written, except that an error is its text.
func TestJSONRoundTrip(t *testing.T) {
	there := func(v, back any) {
		t.Helper()
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, back); err != nil {
			t.Errorf("%s: %v", b, err)
		}
		again, err := json.Marshal(back)
		if err != nil || !bytes.Equal(b, again) {
			t.Errorf("%s, and then %s, %v", b, again, err)
		}
	}
	for _, d := range []time.Duration{0, 1, 1500 * time.Millisecond, 123456789 * time.Microsecond, 100 * 24 * time.Hour, -time.Second} {
		r, back := someResult(), new(ossdl.Result)
		r.Duration = d
		if there(r, back); !reflect.DeepEqual(back, r) {
			t.Errorf("%+v, want %+v", back, r)
		}
	}
	there(ossdl.Result{}, new(ossdl.Result))
	there(ossdl.ObjectResult{}, new(ossdl.ObjectResult))
	given, back := someObjectResult(), new(ossdl.ObjectResult)
	there(given, back)
	if back.Err == nil || back.Err.Error() != given.Err.Error() {
		t.Errorf("the error is %v", back.Err)
	}
	if back.Err = given.Err; !reflect.DeepEqual(back, given) {
		t.Errorf("%+v, want %+v", back, given)
	}
	there(ossdl.PrefixResult{}, new(ossdl.PrefixResult))

	prefix := new(ossdl.PrefixResult)
	want := somePrefixResult()
	there(want, prefix)
	if prefix.Done != 1 || prefix.Skipped != 2 || prefix.Failed != 3 || prefix.Bytes != 4 || len(prefix.Failures) != 2 ||
		prefix.Failures[0].Error() != want.Failures[0].Error() || prefix.Listing.Error() != want.Listing.Error() {
		t.Errorf("%+v", prefix)
	}
	part := new(ossdl.PartError)
	there(&ossdl.PartError{Bucket: "bkt", Key: "k", Offset: 5, Size: 6, Attempts: 7, Err: object.ErrNotFound}, part)
	if part.Error() != "bytes 5-10, attempt 7: object not found" || part.Bucket != "bkt" {
		t.Errorf("%+v", part)
	}
	none := new(ossdl.KeyError)
	if there(ossdl.KeyError{Key: "k"}, none); none.Err != nil {
		t.Errorf("%+v", none)
	}

	for _, bad := range []string{`{"seconds":1e300}`, `{"seconds":"1"}`, `{"crc64":1}`, `[]`} {
		if err := json.Unmarshal([]byte(bad), new(ossdl.Result)); err == nil {
			t.Errorf("%s is a Result", bad)
		}
	}
	for _, back := range []any{new(ossdl.PrefixResult), new(ossdl.ObjectResult), new(ossdl.KeyError), new(ossdl.PartError)} {
		if err := json.Unmarshal([]byte(`[]`), back); err == nil {
			t.Errorf("a list is a %T", back)
		}
	}
	// A field that is missing keeps what it was, as with every struct.
	r := someResult()
	if err := json.Unmarshal([]byte(`{"key":"other"}`), r); err != nil || r.Key != "other" || r.Duration != 1500*time.Millisecond || r.Size != 1<<40 {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestLogValue checks what a line of a log has of results and errors: errors as texts, CRC-64 as a decimal string, and no
// headers.
func TestLogValue(t *testing.T) {
	type handler func(*bytes.Buffer, *slog.HandlerOptions) slog.Handler
	asJSON := func(b *bytes.Buffer, o *slog.HandlerOptions) slog.Handler { return slog.NewJSONHandler(b, o) }
	asText := func(b *bytes.Buffer, o *slog.HandlerOptions) slog.Handler { return slog.NewTextHandler(b, o) }
	line := func(newHandler handler, v any) string {
		var b bytes.Buffer
		noTime := func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey {
				return slog.Attr{}
			}
			return a
		}
		slog.New(newHandler(&b, &slog.HandlerOptions{ReplaceAttr: noTime})).Info("", "v", v)
		return strings.TrimSuffix(b.String(), "\n")
	}
	prefix := somePrefixResult()
	prefix.Failures = prefix.Failures[1:]
	key := ossdl.KeyError{Key: "k", Err: object.ErrArchived}
	part := &ossdl.PartError{Bucket: "bkt", Key: "k", Offset: 5, Size: 6, Attempts: 7, Err: object.ErrNotFound}
	for name, c := range map[string]struct {
		v          any
		json, text string
	}{
		"Result": {someResult(),
			`{"v":{"path":"/data/a<b>&c","bucket":"bkt","key":"dir/k","versionId":"v1","etag":"\"0A1B\"","size":1099511627776,` +
				`"crc64":"18446744073709551615","verified":true,"durable":true,"encrypted":true,"skipped":true,"resumedBytes":1,"downloadedBytes":2,"requests":3,"retries":4,"restored":true,"seconds":1.5,` +
				`"lastModified":"2020-09-13T12:26:40Z"}}`,
			`v.path=/data/a<b>&c v.bucket=bkt v.key=dir/k v.versionId=v1 v.etag="\"0A1B\"" v.size=1099511627776 ` +
				`v.crc64=18446744073709551615 v.verified=true v.durable=true v.encrypted=true v.skipped=true v.resumedBytes=1 v.downloadedBytes=2 v.requests=3 v.retries=4 v.restored=true v.seconds=1.5 ` +
				`v.lastModified=2020-09-13T12:26:40.000Z`},
		"no Result": {(*ossdl.Result)(nil), `{"v":null}`, `v=<nil>`},
		"PrefixResult": {prefix,
			`{"v":{"done":1,"skipped":2,"failed":3,"bytes":4,"notDurable":6,"encrypted":5,"unverified":7,"requests":8,"retries":9,"resumedBytes":10,"downloadedBytes":11,"deleted":12,"restored":13,"restoring":14,"firstFailure":"\"b&c\": checksum mismatch","listing":"listing: no answer"}}`,
			`v.done=1 v.skipped=2 v.failed=3 v.bytes=4 v.notDurable=6 v.encrypted=5 v.unverified=7 v.requests=8 v.retries=9 v.resumedBytes=10 v.downloadedBytes=11 v.deleted=12 v.restored=13 v.restoring=14 v.firstFailure="\"b&c\": checksum mismatch" v.listing="listing: no answer"`},
		"empty PrefixResult": {&ossdl.PrefixResult{}, `{"v":{"done":0,"skipped":0,"failed":0,"bytes":0,"notDurable":0,"encrypted":0,"unverified":0,"requests":0,"retries":0,"resumedBytes":0,"downloadedBytes":0,"deleted":0,"restored":0,"restoring":0}}`,
			`v.done=0 v.skipped=0 v.failed=0 v.bytes=0 v.notDurable=0 v.encrypted=0 v.unverified=0 v.requests=0 v.retries=0 v.resumedBytes=0 v.downloadedBytes=0 v.deleted=0 v.restored=0 v.restoring=0`},
		"no PrefixResult": {(*ossdl.PrefixResult)(nil), `{"v":null}`, `v=<nil>`},
		"ObjectResult": {*someObjectResult(),
			`{"v":{"status":"failed","key":"p/a<b>&c","name":"a<b>&c","path":"/data/a<b>&c","versionId":"v1","etag":"\"0A1B\"","size":1099511627776,` +
				`"crc64":"18446744073709551615","verified":true,"durable":true,"encrypted":true,"resumedBytes":1,"downloadedBytes":2,"requests":3,"retries":4,"restored":true,"seconds":1.5,` +
				`"lastModified":"2020-09-13T12:26:40Z","error":"object is archived"}}`,
			`v.status=failed v.key=p/a<b>&c v.name=a<b>&c v.path=/data/a<b>&c v.versionId=v1 v.etag="\"0A1B\"" v.size=1099511627776 ` +
				`v.crc64=18446744073709551615 v.verified=true v.durable=true v.encrypted=true v.resumedBytes=1 v.downloadedBytes=2 v.requests=3 v.retries=4 v.restored=true v.seconds=1.5 ` +
				`v.lastModified=2020-09-13T12:26:40.000Z v.error="object is archived"`},
		"*ArchivedError": {&ossdl.ArchivedError{StorageClass: "Archive", State: ossdl.ArchiveThawing, Err: object.ErrArchived},
			`{"v":"object is archived (Archive, thawing; try again when its restore has ended)"}`,
			`v="object is archived (Archive, thawing; try again when its restore has ended)"`},
		"KeyError":   {key, `{"v":"\"k\": object is archived"}`, `v="\"k\": object is archived"`},
		"*KeyError":  {&key, `{"v":"\"k\": object is archived"}`, `v="\"k\": object is archived"`},
		"*PartError": {part, `{"v":"bytes 5-10, attempt 7: object not found"}`, `v="bytes 5-10, attempt 7: object not found"`},
	} {
		if got := line(asJSON, c.v); got != c.json {
			t.Errorf("%s:\n\t%s\nwant\n\t%s", name, got, c.json)
		}
		if got := line(asText, c.v); got != c.text {
			t.Errorf("%s:\n\t%s\nwant\n\t%s", name, got, c.text)
		}
	}
	if got := line(asJSON, ossdl.Result{}); strings.Contains(got, "lastModified") {
		t.Errorf("no time is one: %s", got)
	}
}
