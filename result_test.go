package ossdl_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/harness"
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
		Path: path, Bucket: "bkt", Key: "dir/k", ETag: plain.ETag, Size: size, CRC64: new.CRC64(), Verified: true,
		DownloadedBytes: size, Requests: 16, LastModified: modified,
	}
	bytes := harness.Bytes(t, new)
	partly := func(off, length int64) ossdl.Result {
		want := whole
		want.Size, want.DownloadedBytes, want.Verified = length, length, false
		want.CRC64, want.Requests = crc64.Update(0, bytes[off:off+length]), int((length+part-1)/part)
		return want
	}
	to := func(want ossdl.Result, path string) ossdl.Result { want.Path = path; return want }

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
	if err := os.Symlink("file", "link"); err == nil {
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
	cut.CRC64, cut.Verified, cut.DownloadedBytes, cut.Requests = 0, false, 5*part, 6
	sameResult(t, "interrupted", res, cut)
	resumed := whole
	resumed.ResumedBytes, resumed.DownloadedBytes, resumed.Requests = 5*part, 11*part, 11
	sameResult(t, "resumed", get("bkt", "dir/k", path), resumed)

	w := &harness.Memory{Content: make([]byte, size)}
	res, err = d.DownloadTo(t.Context(), "bkt", "dir/k", w)
	if err != nil {
		t.Error(err)
	}
	sameResult(t, "writer", res, to(whole, ""))

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
		sameResult(t, name, r.Result(), to(c.want, ""))
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		sameResult(t, name+", closed", r.Result(), to(c.want, ""))
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
