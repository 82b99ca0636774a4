package ossdl_test

import (
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// checkHeader checks that headers are of the object with its metadata, as a HEAD would bring them.
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
