package ossdl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
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
	const size = 4 * testPart
	for name, quirks := range map[string][]osstest.Option{"ranges": nil, "no ranges": {osstest.WithQuirks(osstest.NoRanges)}} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, quirks...)
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
			d := newDownloader(t, s, WithPartSize(testPart))
			t.Cleanup(d.CloseIdleConnections)
			path := filepath.Join(t.TempDir(), "file")
			for key, o := range objects {
				calls := map[string]func() (*Result, error){
					"Download":   func() (*Result, error) { return d.Download(t.Context(), "bkt", key, path) },
					"DownloadTo": func() (*Result, error) { return d.DownloadTo(t.Context(), "bkt", key, &memory{b: make([]byte, size)}) },
					"DownloadURL": func() (*Result, error) {
						return d.DownloadURL(t.Context(), sign(t, s, oss.AuthV4, time.Hour, key), path)
					},
					"Open": func() (*Result, error) {
						r, err := d.Open(t.Context(), "bkt", key)
						if err != nil {
							return nil, err
						}
						_, err = io.Copy(io.Discard, r)
						return r.Result(), errors.Join(err, r.Close())
					},
				}
				if key == "k" && name == "ranges" {
					calls["range"] = func() (*Result, error) { return d.Download(t.Context(), "bkt", key, path, WithRange(testPart+1, 5)) }
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
	const size = 4 * testPart
	s := newServer(t)
	put := func(seed uint64, colour string) *osstest.Object {
		return s.Put("bkt", "k", osstest.Random(seed, size), osstest.Meta("colour", colour), osstest.ContentType("text/x"))
	}
	d := newDownloader(t, s, WithPartSize(testPart))
	path := filepath.Join(t.TempDir(), "file")
	leaveAll := func() {
		t.Helper()
		disk := faultfs.New(fsys.OS(), faultfs.Plan{Kind: faultfs.Rename, Name: partSuffix})
		if _, err := d.Download(t.Context(), "bkt", "k", path, withFS(disk)); !errors.Is(err, syscall.EIO) {
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
	sameLines(t, wire(s), "GET bytes=0-0 if-match")
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
	s := newServer(t)
	o := s.Put("bkt", "k", osstest.Random(1, 4*testPart), osstest.Meta("colour", "blue"), osstest.ContentType("text/x"))
	d := newDownloader(t, s, WithPartSize(testPart), WithConcurrency(1), WithRetry(RetryPolicy{Attempts: 1}))
	path := filepath.Join(t.TempDir(), "file")

	res, err := d.Download(t.Context(), "bkt", "none", path)
	if !errors.Is(err, ErrNotFound) || res.Header != nil {
		t.Errorf("%v, %v", err, res.Header)
	}
	res, err = d.Download(t.Context(), "bkt", "k", path, WithIfMatch("another"))
	if !errors.Is(err, ErrObjectChanged) || res.Header != nil {
		t.Errorf("%v, %v", err, res.Header)
	}
	s.ResetLog()
	s.Nth(1, osstest.Error(http.StatusForbidden, "AccessDenied"))
	res, err = d.Download(t.Context(), "bkt", "k", path)
	if !errors.As(err, new(*PartError)) {
		t.Fatal(err)
	}
	checkHeader(t, "refused in the middle", res.Header, o)
}

// TestResultHeaderIsTheCallers checks that a caller may change the headers of a result.
func TestResultHeaderIsTheCallers(t *testing.T) {
	s := newServer(t)
	s.Put("bkt", "k", osstest.Random(1, 100), osstest.Meta("colour", "blue"))
	r, err := newDownloader(t, s).Open(t.Context(), "bkt", "k")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	h := r.c.t.pin.firstHeader()
	r.Result().Header["X-Oss-Meta-Colour"][0] = "red"
	r.Result().Header.Del("Etag")
	if h.Get("X-Oss-Meta-Colour") != "blue" || h.Get("Etag") == "" {
		t.Errorf("%v", h)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// TestNoSecretInTheResult checks that a server which sends back what it is sent puts no credential into a result, its
// headers, its JSON or its line in a log.
func TestNoSecretInTheResult(t *testing.T) {
	for _, v4 := range []bool{false, true} {
		for _, entrance := range []string{"Download", "DownloadURL"} {
			w := newWorld(t, v4)
			w.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
				sent := r.Header.Get("Authorization") + " " + r.Header.Get("X-Oss-Security-Token") + " " + r.Query
				return osstest.Inject().Header("X-Echo", sent).Header("X-Oss-Meta-Echo", url.QueryEscape(sent)).Header("Content-Location", "/k?"+r.Query)
			})
			path := filepath.Join(w.dir, "file")
			var res *Result
			var err error
			if entrance == "Download" {
				res, err = w.d.Download(t.Context(), "bkt", "p/k", path)
			} else {
				b, berr := w.client.Bucket("bkt")
				if berr != nil {
					t.Fatal(berr)
				}
				signed, serr := b.SignURL("p/k", oss.HTTPGet, 600)
				if serr != nil {
					t.Fatal(serr)
				}
				res, err = w.d.DownloadURL(t.Context(), signed, path)
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(res)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(res.Header.Get("X-Echo"), hidden) {
				t.Errorf("%s: nothing was hidden in %q", entrance, res.Header.Get("X-Echo"))
			}
			all := fmt.Sprintf("%+v\n%s\n%+v", *res, text, res.LogValue())
			for _, secret := range w.spy.all() {
				if strings.Contains(all, secret) {
					t.Errorf("%s, V4 %v: %q is in\n%s", entrance, v4, secret, all)
				}
			}
		}
	}
}
