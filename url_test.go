package ossdl_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
	"github.com/ossdl/ossdl/internal/harness/leaks"
	"github.com/ossdl/ossdl/internal/osstest"
)

func TestDownloadURL(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("bkt", osstest.PublicRead())
	const key = "a folder/ключ+%"
	d := harness.NewURLDownloader(t, ossdl.WithPartSize(1<<20), ossdl.WithConcurrency(4))
	for _, size := range []int64{0, 1, 1 << 20, 10<<20 + 1} {
		c := osstest.Random(1, size)
		s.Put("bkt", key, c)
		for name, raw := range map[string]string{
			"V1":     harness.Sign(t, s, oss.AuthV1, time.Hour, key),
			"V4":     harness.Sign(t, s, oss.AuthV4, time.Hour, key),
			"public": s.URL("bkt", key),
		} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				s.ResetLog()
				path := filepath.Join(t.TempDir(), "file")
				res, err := d.DownloadURL(t.Context(), raw, path)
				if err != nil {
					t.Fatal(err)
				}
				harness.CheckFile(t, path, c)
				u, err := url.Parse(raw)
				if err != nil {
					t.Fatal(err)
				}
				if res.Bucket != s.Addr() || res.Key != u.EscapedPath() || res.Size != size || !res.Verified || res.ETag == "" {
					t.Errorf("%+v", *res)
				}
				requests := s.Requests()
				if n := max(1, (size+1<<20-1)>>20); int64(len(requests)) < n {
					t.Errorf("%d requests, want %d or more", len(requests), n)
				}
				for i, r := range requests {
					if (r.Header.Get("If-Match") != "") != (i > 0) {
						t.Errorf("request %d has If-Match %q", i, r.Header.Get("If-Match"))
					}
					if r.Header.Get("Accept-Encoding") != "identity" || !strings.HasPrefix(r.Header.Get("User-Agent"), "ossdl/") {
						t.Errorf("headers %v", r.Header)
					}
					for h := range r.Header {
						if !slices.Contains([]string{"Host", "Range", "If-Match", "Accept-Encoding", "User-Agent"}, h) {
							t.Errorf("request %d carries %s", i, h)
						}
					}
				}
			})
		}
	}
}

func TestDownloadURLOfOneRange(t *testing.T) {
	s := harness.NewServer(t)
	c := osstest.Random(1, 1<<20)
	s.Put("bkt", "k", c)
	d := harness.NewURLDownloader(t)
	raw := harness.Sign(t, s, oss.AuthV4, time.Hour, "k")
	path := filepath.Join(t.TempDir(), "file")
	for _, w := range []struct{ offset, length int64 }{{0, 100}, {1<<20 - 10, -1}, {1000, 1<<20 - 1000}, {12345, 1}} {
		want := harness.Bytes(t, c)[w.offset:]
		if w.length >= 0 {
			want = want[:w.length]
		}
		if _, err := d.DownloadURL(t.Context(), raw, path, ossdl.WithRange(w.offset, w.length)); err != nil {
			t.Fatal(err)
		}
		harness.CheckFile(t, path, osstest.Bytes(want))
	}
	for _, w := range []struct{ offset, length int64 }{{1 << 20, -1}, {1 << 20, 1}, {100, 1 << 20}, {5 << 20, 1}} {
		if _, err := d.DownloadURL(t.Context(), raw, path, ossdl.WithRange(w.offset, w.length)); !errors.Is(err, ossdl.ErrRange) {
			t.Errorf("%v: %v", w, err)
		}
	}
}

func TestMalformedURL(t *testing.T) {
	s := harness.NewServer(t)
	d := harness.NewURLDownloader(t)
	path := filepath.Join(t.TempDir(), "file")
	for raw, name := range map[string]string{
		"":                                  `URL`,
		"SECRET":                            `URL`,
		"ftp://h/k?SECRET":                  `"ftp://h/k"`,
		"oss://bkt/k?SECRET":                `"oss://bkt/k"`,
		"//h/SECRET?SECRET":                 `URL`,
		"http:///k?SECRET":                  `"http:///k"`,
		"http://:80/k?SECRET":               `"http://:80/k"`,
		"http:h/SECRET?SECRET":              `URL`,
		"http://h/k#SECRET":                 `"http://h/k"`,
		"http://h/k?SECRET#f":               `"http://h/k"`,
		"http://user:SECRET@h/k":            `"http://h/k"`,
		"http://SECRET@h/k?SECRET":          `"http://h/k"`,
		"http://user:SE/CRET@h/k?SECRET":    `"http://h/k"`,
		"http://user:%zzSECRET@h/k?SECRET":  `"http://h/k"`,
		"user:SECRET@h/SECRET":              `URL`,
		"SECRET h://host/k":                 `URL`,
		"user:SECRET@h?u=http://SECRET":     `URL`,
		"http://user:SE?CRET@h/k":           `"http://"`,
		"http://user:SECRET@h/k?SECRET@S":   `"http://"`,
		"http://h/k?a=b@SECRET#f":           `"http://"`,
		"http://user:SE#CRET@h/k":           `"http://"`,
		"http://h:port/k?SECRET":            `"http://h:port/k"`,
		"http://h:0/k?SECRET":               `"http://h:0/k"`,
		"http://h:99999/k?SECRET":           `"http://h:99999/k"`,
		"http://[::1/k?SECRET":              `"http://[::1/k"`,
		"http://h/%zz?SECRET":               `"http://h/%zz"`,
		"http://h/a b?SECRET":               `"http://h/a b"`,
		"http://h/k?SECRET SECRET":          `"http://h/k"`,
		"http://h/k?SECRET\n":               `"http://h/k"`,
		"http://h/k\r\nHost: x?SECRET":      `"http://h/k\r\nHost: x"`,
		"https://h/k?a=1&Signature=SECRET ": `"https://h/k"`,
	} {
		res, err := d.DownloadURL(t.Context(), raw, path)
		if err == nil || res != nil || !strings.Contains(err.Error(), name+": ") || !strings.Contains(err.Error(), "http(s)://HOST") {
			t.Errorf("%q: %v", raw, err)
		}
		leaks.NoSecret(t, err, "SECRET")
		_, err = d.DownloadURL(t.Context(), s.URL("bkt", "k")+"?OSSAccessKeyId=a&Signature=s&Expires=1", path,
			ossdl.WithURLRefresh(func(context.Context) (string, error) { return raw, nil }))
		if err == nil || !strings.Contains(err.Error(), "http(s)://HOST") || !errors.Is(err, ossdl.ErrExpired) {
			t.Errorf("%q: %v", raw, err)
		}
		leaks.NoSecret(t, err, "SECRET")
	}
	if n := s.Stats().Requests; n != 0 {
		t.Errorf("%d requests", n)
	}
	for want, opt := range map[string]ossdl.Option{
		"WithVersionID": ossdl.WithVersionID("v"), "WithRequestOptions": ossdl.WithRequestOptions(), "WithReadAhead": ossdl.WithReadAhead(1 << 20),
	} {
		if _, err := d.DownloadURL(t.Context(), "http://h/k", path, opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Error(err)
		}
	}
	if left, _ := filepath.Glob(path + "*"); left != nil {
		t.Error(left)
	}
}

func TestAnotherURLResumes(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("bkt", osstest.PublicRead())
	c := osstest.Random(1, 16*harness.PartSize)
	s.Put("bkt", "k", c)
	d := harness.NewURLDownloader(t, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
	first := harness.Sign(t, s, oss.AuthV1, time.Hour, "k")
	for name, next := range map[string]string{
		"V1":        harness.Sign(t, s, oss.AuthV1, 2*time.Hour, "k"),
		"V4":        harness.Sign(t, s, oss.AuthV4, time.Hour, "k"),
		"public":    s.URL("bkt", "k"),
		"parameter": s.URL("bkt", "k") + "?from=elsewhere",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			harness.InterruptURL(t, s, d, first, path, 5)
			cp, err := os.ReadFile(path + harness.CheckpointSuffix)
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range []string{"Signature", "Expires", osstest.AccessKeyID} {
				if bytes.Contains(cp, []byte(secret)) {
					t.Errorf("the checkpoint holds %s: %s", secret, cp)
				}
			}
			res, err := d.DownloadURL(t.Context(), next, path)
			if err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, path, c)
			if res.ResumedBytes != 5*harness.PartSize || harness.Fetched(s) != 11*harness.PartSize {
				t.Errorf("%d bytes resumed, %d fetched", res.ResumedBytes, harness.Fetched(s))
			}
			if r := s.Requests()[0]; r.Header.Get("If-Match") == "" {
				t.Error("the first request of a resume has no If-Match")
			}
		})
	}
	t.Run("other object", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		harness.InterruptURL(t, s, d, first, path, 5)
		s.Put("bkt", "other", c)
		res, err := d.DownloadURL(t.Context(), s.URL("bkt", "other"), path)
		if err != nil || res.ResumedBytes != 0 {
			t.Errorf("%+v, %v", res, err)
		}
		harness.CheckFile(t, path, c)
	})
	t.Run("bucket and URL do not mix", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		harness.InterruptURL(t, s, d, first, path, 5)
		res, err := harness.NewDownloader(t, s).Download(t.Context(), "bkt", "k", path)
		if err != nil || res.ResumedBytes != 0 {
			t.Errorf("%+v, %v", res, err)
		}
	})
}

func TestURLOfAVersion(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("bkt", osstest.Versioning(osstest.Enabled))
	old, current := osstest.Random(1, 16*harness.PartSize), osstest.Random(2, 16*harness.PartSize)
	v1 := s.Put("bkt", "k", old).VersionID
	v2 := s.Put("bkt", "k", current).VersionID
	d := harness.NewURLDownloader(t, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
	for _, v := range []oss.AuthVersionType{oss.AuthV1, oss.AuthV4} {
		path := filepath.Join(t.TempDir(), "file")
		harness.InterruptURL(t, s, d, harness.Sign(t, s, v, time.Hour, "k", oss.VersionId(v1)), path, 5)
		if cp := checkpoints.Read(t, path+harness.CheckpointSuffix); cp.VersionID != v1 || !cp.URL {
			t.Errorf("%+v", cp)
		}
		res, err := d.DownloadURL(t.Context(), harness.Sign(t, s, v, 2*time.Hour, "k", oss.VersionId(v1)), path)
		if err != nil {
			t.Fatal(err)
		}
		harness.CheckFile(t, path, old)
		if res.ResumedBytes != 5*harness.PartSize || res.VersionID != v1 {
			t.Errorf("%+v", *res)
		}
		for _, r := range s.Requests() {
			if strings.Count(r.Query, "versionId") != 1 {
				t.Errorf("query %s", r.Query)
			}
		}
		// The URL of another version is of another object.
		harness.InterruptURL(t, s, d, harness.Sign(t, s, v, time.Hour, "k", oss.VersionId(v1)), path, 5)
		res, err = d.DownloadURL(t.Context(), harness.Sign(t, s, v, time.Hour, "k", oss.VersionId(v2)), path)
		if err != nil || res.ResumedBytes != 0 {
			t.Errorf("%+v, %v", res, err)
		}
		harness.CheckFile(t, path, current)
	}
}

func TestExpiredURL(t *testing.T) {
	for _, v := range []oss.AuthVersionType{oss.AuthV1, oss.AuthV4} {
		t.Run(string(v), func(t *testing.T) {
			s := harness.NewServer(t)
			c := osstest.Random(1, 16*harness.PartSize)
			s.Put("bkt", "k", c)
			d := harness.NewURLDownloader(t, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
			path := filepath.Join(t.TempDir(), "file")
			raw := harness.Sign(t, s, v, time.Hour, "k")
			s.Nth(6, osstest.Inject().Before(func() {
				s.SetNow(func() time.Time { return time.Now().Add(2 * time.Hour) })
			}))
			res, err := d.DownloadURL(t.Context(), raw, path)
			var se oss.ServiceError
			if !errors.Is(err, ossdl.ErrExpired) || !errors.As(err, &se) || se.RequestID == "" || res == nil {
				t.Fatal(err)
			}
			leaks.NoSecret(t, err, "Signature=", "Expires=", "signature=")
			s.ResetLog()
			if _, err := d.DownloadURL(t.Context(), raw, path); !errors.Is(err, ossdl.ErrExpired) {
				t.Fatal(err)
			}
			if n := s.Stats().Requests; n != 1 {
				t.Errorf("%d requests to learn that a URL has expired", n)
			}
			// The server's clock is what counts: it is two hours ahead of the one that signed.
			res, err = d.DownloadURL(t.Context(), harness.Sign(t, s, v, 5*time.Hour, "k"), path)
			if err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, path, c)
			if res.ResumedBytes < 5*harness.PartSize {
				t.Errorf("%+v", *res)
			}
		})
	}
}

// expired makes a URL whose own date was so long ago.
func expired(t testing.TB, s *osstest.Server, ago time.Duration) string {
	t.Helper()
	u, err := url.Parse(harness.Sign(t, s, oss.AuthV1, time.Hour, "k"))
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("Expires", strconv.FormatInt(time.Now().Add(-ago).Unix(), 10))
	u.RawQuery = q.Encode()
	return u.String()
}

func TestURLPastItsOwnDate(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 1000))
	d := harness.NewURLDownloader(t)
	path := filepath.Join(t.TempDir(), "file")
	res, err := d.DownloadURL(t.Context(), expired(t, s, time.Hour), path)
	if !errors.Is(err, ossdl.ErrExpired) || res != nil || s.Stats().Requests != 0 {
		t.Errorf("%v, %v, %d requests", res, err, s.Stats().Requests)
	}
	// This machine's clock may be wrong by as much as OSS allows for.
	if _, err := d.DownloadURL(t.Context(), expired(t, s, time.Minute), path); !errors.Is(err, ossdl.ErrExpired) || s.Stats().Requests != 1 {
		t.Errorf("%v, %d requests", err, s.Stats().Requests)
	}
	// With a refresh there is no need to ask the server.
	s.ResetLog()
	asked := 0
	if _, err := d.DownloadURL(t.Context(), expired(t, s, time.Minute), path, ossdl.WithURLRefresh(func(context.Context) (string, error) {
		asked++
		return harness.Sign(t, s, oss.AuthV4, time.Hour, "k"), nil
	})); err != nil || asked != 1 || s.Stats().Requests != 1 {
		t.Errorf("%v, asked %d times, %d requests", err, asked, s.Stats().Requests)
	}
}

// TestURLRefresh checks that one new URL is asked for if a URL expires while many requests are in flight, and that all of
// them continue with it.
func TestURLRefresh(t *testing.T) {
	for _, v := range []oss.AuthVersionType{oss.AuthV1, oss.AuthV4} {
		t.Run(string(v), func(t *testing.T) {
			const part = 4 << 10
			s := harness.NewServer(t)
			c := osstest.Random(1, 200*part)
			s.Put("bkt", "k", c)
			for i, n := range []int{20, 60, 100} {
				s.Nth(n, osstest.Inject().Before(func() {
					s.SetNow(func() time.Time { return time.Now().Add(time.Duration(2*i+2) * time.Hour) })
				}))
			}
			d := harness.NewURLDownloader(t, ossdl.WithPartSize(part), ossdl.WithConcurrency(8))
			var asked, at atomic.Int64
			path := filepath.Join(t.TempDir(), "file")
			res, err := d.DownloadURL(t.Context(), harness.Sign(t, s, v, time.Hour, "k"), path, ossdl.WithURLRefresh(func(ctx context.Context) (string, error) {
				if at.Add(1) > 1 {
					t.Error("asked twice at once")
				}
				defer at.Add(-1)
				return harness.Sign(t, s, v, time.Duration(2*asked.Add(1)+1)*time.Hour, "k"), nil
			}))
			if err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, path, c)
			refused := 0
			for _, r := range s.Requests() {
				if r.Status == http.StatusForbidden {
					refused++
				}
			}
			if n := asked.Load(); n != 3 || refused < 3 || refused > 24 || !res.Verified || res.Retries != 0 {
				t.Errorf("asked %d times, %d requests refused, %+v", n, refused, *res)
			}
		})
	}
}

func TestURLRefreshFails(t *testing.T) {
	s := harness.NewServer(t)
	c := osstest.Random(1, 64*harness.PartSize)
	s.Put("bkt", "k", c)
	var refusing atomic.Bool
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if refusing.Load() {
			return osstest.Inject().Error(403, "AccessDenied", "Request has expired.")
		}
		if r.Seq == 20 {
			refusing.Store(true)
		}
		return nil
	})
	d := harness.NewURLDownloader(t, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(4))
	path := filepath.Join(t.TempDir(), "file")
	raw := harness.Sign(t, s, oss.AuthV1, time.Hour, "k")
	mine := errors.New("the issuer is on holiday")
	asked := 0
	_, err := d.DownloadURL(t.Context(), raw, path, ossdl.WithURLRefresh(func(context.Context) (string, error) {
		asked++
		return "", mine
	}))
	if !errors.Is(err, mine) || !errors.Is(err, ossdl.ErrExpired) || asked != 1 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	asked = 0
	_, err = d.DownloadURL(t.Context(), raw, path, ossdl.WithURLRefresh(func(context.Context) (string, error) {
		asked++
		return harness.Sign(t, s, oss.AuthV1, time.Duration(asked)*time.Hour, "k"), nil
	}))
	if !errors.Is(err, ossdl.ErrExpired) || asked != 3 {
		t.Errorf("%v, asked %d times", err, asked)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = d.DownloadURL(ctx, raw, path, ossdl.WithURLRefresh(func(ctx context.Context) (string, error) {
		cancel()
		<-ctx.Done()
		return "", ctx.Err()
	}))
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	refusing.Store(false)
	res, err := d.DownloadURL(t.Context(), raw, path)
	if err != nil || res.ResumedBytes == 0 {
		t.Errorf("%+v, %v", res, err)
	}
	harness.CheckFile(t, path, c)
}

// TestURLRefreshHoldsNoSlot checks that a call that waits for a new URL leaves its slot to other calls of the Downloader.
func TestURLRefreshHoldsNoSlot(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("bkt", osstest.PublicRead())
	c := osstest.Random(1, 8*harness.PartSize)
	s.Put("bkt", "k", c)
	s.Put("bkt", "url", osstest.Bytes([]byte("x")))
	d := harness.NewURLDownloader(t, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
	s.Nth(3, osstest.Inject().Error(403, "AccessDenied", "Request has expired."))
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if _, err := d.DownloadURL(t.Context(), harness.Sign(t, s, oss.AuthV1, time.Hour, "k"), path, ossdl.WithURLRefresh(func(ctx context.Context) (string, error) {
		if _, err := d.DownloadURL(ctx, s.URL("bkt", "url"), filepath.Join(dir, "url")); err != nil {
			return "", err
		}
		return harness.Sign(t, s, oss.AuthV1, 2*time.Hour, "k"), nil
	})); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, c)
}

// TestURLRefreshWithAnotherObject checks that the answer to a new URL is compared with the pin like every other answer.
func TestURLRefreshWithAnotherObject(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 8*harness.PartSize))
	s.Put("bkt", "other", osstest.Random(2, 8*harness.PartSize))
	s.Nth(3, osstest.Inject().Error(403, "AccessDenied", "Request has expired."))
	path := filepath.Join(t.TempDir(), "file")
	_, err := harness.NewURLDownloader(t, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1)).DownloadURL(t.Context(),
		harness.Sign(t, s, oss.AuthV1, time.Hour, "k"), path, ossdl.WithURLRefresh(func(ctx context.Context) (string, error) {
			return harness.Sign(t, s, oss.AuthV1, time.Hour, "other"), nil
		}))
	if !errors.Is(err, ossdl.ErrObjectChanged) || harness.Exists(path) {
		t.Error(err)
	}
}

func TestURLErrorsTellNoQuery(t *testing.T) {
	s := harness.NewServer(t)
	c := osstest.Random(1, 1<<20)
	s.Put("bkt", "k", c)
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	handler := func(fn http.HandlerFunc) string {
		web := httptest.NewServer(fn)
		t.Cleanup(web.Close)
		return web.URL + "/k?Signature=SECRET&OSSAccessKeyId=SECRET&Expires=32503680000"
	}
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
		}
	}
	tls := httptest.NewTLSServer(http.NotFoundHandler())
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(tls.Close)
	for name, raw := range map[string]string{
		"refused":        "http://" + gone.Addr().String() + "/k?Signature=SECRET&OSSAccessKeyId=SECRET",
		"not found":      s.URL("bkt", "none") + "?Signature=SECRET&OSSAccessKeyId=SECRET&Expires=32503680000",
		"forbidden":      s.URL("bkt", "k") + "?Signature=SECRET&OSSAccessKeyId=" + osstest.AccessKeyID + "&Expires=32503680000",
		"no host":        "http://none.invalid/k?Signature=SECRET&OSSAccessKeyId=SECRET",
		"loop":           handler(func(w http.ResponseWriter, r *http.Request) { redirect(r.URL.String())(w, r) }),
		"bad redirect":   handler(redirect("http://h/%zz?SECRET")),
		"bad redirect 2": handler(redirect("http://user:SECRET@ho st/")),
		"redirect away":  handler(redirect("ftp://h/k?SECRET")),
		"no location":    handler(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusFound) }),
		"redirect gone":  handler(redirect("http://" + gone.Addr().String() + "/k?SECRET")),
		"garbage": handler(func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, err = conn.Write([]byte("SSH-2.0\r\n"))
				err = errors.Join(err, conn.Close())
			}
			if err != nil {
				t.Error(err)
			}
		}),
		"untrusted":     tls.URL + "/k?SECRET",
		"http to https": strings.Replace(tls.URL, "https", "http", 1) + "/k?SECRET",
		"cut off": handler(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("short"))
		}),
	} {
		t.Run(name, func(t *testing.T) {
			var logged bytes.Buffer
			path := filepath.Join(t.TempDir(), "file")
			d := harness.NewURLDownloader(t, ossdl.WithLogger(slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))),
				ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 2, MinDelay: time.Nanosecond, MaxDelay: time.Nanosecond}))
			_, err := d.DownloadURL(t.Context(), raw, path)
			if err == nil {
				t.Fatal("no error")
			}
			u, _, _ := strings.Cut(raw, "?")
			if !strings.Contains(err.Error(), u) {
				t.Errorf("%v does not name %s", err, u)
			}
			leaks.NoSecret(t, err, "SECRET")
			if strings.Contains(logged.String(), "SECRET") {
				t.Errorf("the log shows the query: %s", &logged)
			}
			t.Log(err)
		})
	}
}

// TestRedirectedURL follows a redirect to another host, and goes on there with the same pin.
func TestRedirectedURL(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("bkt", osstest.PublicRead())
	c := osstest.Random(1, 8*harness.PartSize)
	s.Put("bkt", "k", c)
	var mu sync.Mutex
	var seen []http.Header
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Header)
		http.Redirect(w, r, s.URL("bkt", "k"), http.StatusTemporaryRedirect)
	}))
	defer web.Close()
	raw := strings.Replace(web.URL, "127.0.0.1", "localhost", 1) + "/k?OSSAccessKeyId=a&Signature=SECRET&Expires=32503680000"
	followed := 0
	for name, opts := range map[string][]ossdl.Option{
		"ours":  nil,
		"given": {ossdl.WithHTTPClient(s.HTTPClient())},
		"given, with rules": {ossdl.WithHTTPClient(&http.Client{
			Transport:     s.HTTPClient().Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { followed++; return nil },
		})},
	} {
		t.Run(name, func(t *testing.T) {
			s.ResetLog()
			seen = nil
			path := filepath.Join(t.TempDir(), "file")
			d := harness.NewURLDownloader(t, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
			if _, err := d.DownloadURL(t.Context(), raw, path, opts...); err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, path, c)
			for i, r := range s.Requests() {
				for h := range r.Header {
					if harness.IsOSSHeader(h) || h == "Referer" || h == "Authorization" {
						t.Errorf("%s arrived at the other host: %v", h, r.Header)
					}
				}
				if (r.Header.Get("If-Match") != "") != (i > 0) || r.Range == "" {
					t.Errorf("request %d: %v", i, r.Header)
				}
			}
			for _, h := range seen {
				for name := range h {
					if harness.IsOSSHeader(name) {
						t.Errorf("%s was sent with a signed URL", name)
					}
				}
			}
		})
	}
	if followed == 0 {
		t.Error("the client's own rules were not asked")
	}
	if http.DefaultClient.CheckRedirect != nil || s.HTTPClient().CheckRedirect != nil {
		t.Error("the caller's client was changed")
	}
	// The object behind the redirect changes.
	s.Nth(4, osstest.Inject().Before(func() { s.Put("bkt", "k", osstest.Random(2, 8*harness.PartSize)) }))
	_, err := harness.NewURLDownloader(t, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1)).DownloadURL(t.Context(), raw, filepath.Join(t.TempDir(), "f"))
	if !errors.Is(err, ossdl.ErrObjectChanged) {
		t.Error(err)
	}
	leaks.NoSecret(t, err, "SECRET")
}

// TestHeader checks that headers of the caller are sent with every request for the URL, and to no other host: neither one that a
// redirect leads to, nor the first one if a redirect leads back, nor that of a new URL.
func TestHeader(t *testing.T) {
	const token, referer = "glpat-very-secret", "https://ci.example.com/job/very-secret"
	content := harness.Bytes(t, osstest.Random(1, 3*harness.PartSize))
	var mu sync.Mutex
	seen := map[string][]http.Header{} // by host and path
	var handler http.HandlerFunc = func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		host, port, _ := strings.Cut(r.Host, ":")
		seen[host+r.URL.Path] = append(seen[host+r.URL.Path], r.Header)
		to := func(host, path string) { http.Redirect(w, r, "http://"+host+":"+port+path, http.StatusFound) }
		switch r.URL.Path {
		case "/here":
			to("localhost", "/file")
		case "/away":
			to("127.0.0.1", "/file")
		case "/back":
			to("127.0.0.1", "/forth")
		case "/forth":
			to("localhost", "/file")
		case "/refused":
			w.Header().Set("X-Oss-Request-Id", r.Header.Get("Private-Token"))
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s of %s</Message></Error>", r.Header.Get("Private-Token"), r.Header.Get("Authorization"), r.Referer())
		default:
			w.Header().Set("ETag", `"e"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		}
	}
	web := httptest.NewServer(handler)
	defer web.Close()
	port := web.URL[strings.LastIndexByte(web.URL, ':'):]
	all := []ossdl.Option{
		ossdl.WithHeader("Private-Token", "replaced"), ossdl.WithHeader("PRIVATE-TOKEN", token), ossdl.WithHeader("Authorization", "Bearer "+token),
		ossdl.WithHeader("Referer", referer),
	}
	has := func(h http.Header) bool {
		return slices.Equal(h["Private-Token"], []string{token}) && h.Get("Authorization") == "Bearer "+token && h.Get("Referer") == referer
	}
	hasNone := func(h http.Header) bool {
		return h["Private-Token"] == nil && h["Authorization"] == nil && h["Referer"] == nil
	}
	d := harness.NewURLDownloader(t, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
	renewed := func(host string) []ossdl.Option {
		return []ossdl.Option{ossdl.WithURLRefresh(func(context.Context) (string, error) { return "http://" + host + port + "/file", nil })}
	}
	lax := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
	for _, c := range []struct {
		name string
		opts []ossdl.Option
		path string
		with map[string]bool // the requests that come, and whether they have the headers
	}{
		{"no redirect", nil, "/file", map[string]bool{"localhost/file": true}},
		{"same host", nil, "/here", map[string]bool{"localhost/here": true, "localhost/file": true}},
		{"other host", nil, "/away", map[string]bool{"localhost/away": true, "127.0.0.1/file": false}},
		{"there and back", nil, "/back", map[string]bool{"localhost/back": true, "127.0.0.1/forth": false, "localhost/file": false}},
		{"other host, the caller's client", []ossdl.Option{ossdl.WithHTTPClient(lax)}, "/back", map[string]bool{"localhost/back": true, "127.0.0.1/forth": false, "localhost/file": false}},
		{"new URL of the host", renewed("localhost"), "/old?OSSAccessKeyId=a&Signature=s&Expires=1", map[string]bool{"localhost/file": true}},
		{"new URL of another host", renewed("127.0.0.1"), "/old?OSSAccessKeyId=a&Signature=s&Expires=1", map[string]bool{"127.0.0.1/file": false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			mu.Lock()
			clear(seen)
			mu.Unlock()
			path := filepath.Join(t.TempDir(), "file")
			if _, err := d.DownloadURL(t.Context(), "http://localhost"+port+c.path, path, append(slices.Clip(all), c.opts...)...); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			mu.Lock()
			defer mu.Unlock()
			for at, headers := range seen {
				want, expected := c.with[at]
				for _, h := range headers {
					if !expected || want && !has(h) || !want && !hasNone(h) {
						t.Errorf("%s was asked with %v", at, h)
					}
				}
			}
			if len(seen) != len(c.with) {
				t.Errorf("asked %v, want %v", seen, c.with)
			}
		})
	}
	mu.Lock()
	clear(seen)
	mu.Unlock()
	_, err := d.DownloadURL(t.Context(), "http://localhost"+port+"/file", filepath.Join(t.TempDir(), "file"))
	mu.Lock()
	if err != nil || !hasNone(seen["localhost/file"][0]) {
		t.Errorf("another call has headers %v, %v", seen, err)
	}
	mu.Unlock()
	var log bytes.Buffer
	_, err = d.DownloadURL(t.Context(), "http://localhost"+port+"/refused", filepath.Join(t.TempDir(), "file"), append(slices.Clip(all), ossdl.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))...)
	leaks.NoSecret(t, err, token, referer)
	if err == nil || strings.Contains(log.String(), "secret") {
		t.Errorf("got %v, logged %s", err, log.String())
	}
	for _, bad := range [][2]string{{"Range", "bytes=0-1"}, {"a b", "very-secret"}, {"Private-Token", "very-secret\r\nHost: h"}, {"Private-Token", ""}} {
		_, err := d.DownloadURL(t.Context(), "http://localhost"+port+"/file", filepath.Join(t.TempDir(), "file"), ossdl.WithHeader(bad[0], bad[1]))
		if err == nil || !strings.Contains(err.Error(), "WithHeader") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

// TestLoginPage checks that what a captive portal answers to a signed URL is not the object.
func TestLoginPage(t *testing.T) {
	s := harness.NewServer(t)
	c := osstest.Random(1, 1000)
	s.Put("bkt", "k", c)
	s.Nth(0, osstest.Inject().LoginPage())
	path := filepath.Join(t.TempDir(), "file")
	if _, err := harness.NewURLDownloader(t).DownloadURL(t.Context(), harness.Sign(t, s, oss.AuthV4, time.Hour, "k"), path); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, c)
}

// TestWebServers checks downloads from servers that are not OSS. An interrupted one is resumed if the server identifies the
// file.
func TestWebServers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := osstest.Random(1, 5<<20)
	content := harness.Bytes(t, c)
	file := filepath.Join(dir, "the file")
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	serve := func(name string, with func(w http.ResponseWriter, r *http.Request)) func(*testing.T) string {
		return func(t *testing.T) string {
			web := httptest.NewServer(http.HandlerFunc(with))
			t.Cleanup(func() {
				web.CloseClientConnections() // under wine a write whose reader has gone does not end by itself
				web.Close()
			})
			return web.URL + "/the%20file"
		}
	}
	modified := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, server := range map[string]struct {
		url     func(*testing.T) string
		resumes bool
		wholes  bool // everything comes in one body
	}{
		"Go's file server": {serve("", http.FileServer(http.Dir(dir)).ServeHTTP), true, false},
		"ETag": {serve("", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"v1"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		}), true, false},
		"weak ETag": {serve("", func(w http.ResponseWriter, r *http.Request) {
			if m := r.Header.Get("If-Match"); m != "" {
				t.Errorf("If-Match %s", m)
			}
			w.Header().Set("ETag", `W/"v1"`)
			http.ServeContent(w, r, "", modified, bytes.NewReader(content))
		}), true, false},
		"nothing to know it by": {serve("", func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
		}), false, true},
		"no ranges": {serve("", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Last-Modified", modified.Format(http.TimeFormat))
			w.Header().Set("Content-Length", strconv.Itoa(len(content)))
			_, _ = w.Write(content)
		}), true, true},
		"nginx": {func(t *testing.T) string { return nginx(t, dir) + "/the%20file" }, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			raw := server.url(t)
			rt := &countingTransport{limit: 5 << 19}
			if !server.wholes {
				rt.hold = 3
			}
			d := harness.NewURLDownloader(t, ossdl.WithPartSize(512<<10), ossdl.WithConcurrency(4), ossdl.WithHTTPClient(&http.Client{Transport: rt}))
			defer rt.CloseIdleConnections()
			path := filepath.Join(t.TempDir(), "file")

			// A whole run.
			res, err := d.DownloadURL(t.Context(), raw, path)
			if err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, path, c)
			// A server without ranges is asked once whether it has any.
			if many := rt.most.Load() > 2; many == server.wholes || res.Verified || res.Size != c.Size() {
				t.Errorf("%d requests at once, %+v", rt.most.Load(), *res)
			}
			sum := sha256.Sum256(content)
			if res, err := d.DownloadURL(t.Context(), raw, path, ossdl.WithChecksum(sha256.New, sum[:])); err != nil || !res.Verified {
				t.Error(res, err)
			}

			// An interrupted one.
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			rt.bytes.Store(0)
			rt.enough = cancel
			if _, err := d.DownloadURL(ctx, raw, path); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			rt.enough = nil
			res, err = d.DownloadURL(t.Context(), raw, path)
			if err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, path, c)
			if (res.ResumedBytes > 0) != server.resumes {
				t.Errorf("%d bytes resumed", res.ResumedBytes)
			}
			if res.ResumedBytes > 0 && !server.wholes && res.DownloadedBytes > 4<<20 {
				t.Errorf("%d bytes downloaded again", res.DownloadedBytes)
			}
			t.Logf("%+v", *res)
		})
	}
}

// TestServerWithoutRanges checks that after a stream that breaks the next one starts again, and what is there is skipped.
func TestServerWithoutRanges(t *testing.T) {
	content := harness.Bytes(t, osstest.Random(1, 3<<20))
	var n atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		if r.Header.Get("Range") != fmt.Sprintf("bytes=%d-%[1]d", len(content)-1) { // not the trial
			_, _ = w.Write(content[:min(len(content), int(n.Add(1))<<20-1)])
		}
	}))
	defer web.Close()
	path := filepath.Join(t.TempDir(), "file")
	res, err := harness.NewURLDownloader(t).DownloadURL(t.Context(), web.URL+"/k", path)
	if err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, osstest.Bytes(content))
	// One more where the first stream broke before it was known that there are no ranges.
	if n := n.Load(); n < 3 || n > 5 || res.Retries == 0 {
		t.Errorf("%d streams, %+v", n, *res)
	}
}

// TestServerWithoutLength checks that a body whose end is that of the connection is not taken for whole.
func TestServerWithoutLength(t *testing.T) {
	var n atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ncontent"))
	}))
	defer web.Close()
	path := filepath.Join(t.TempDir(), "file")
	_, err := harness.NewURLDownloader(t).DownloadURL(t.Context(), web.URL+"/k", path)
	if err == nil || !strings.Contains(err.Error(), "Content-Length") || n.Load() != 1 {
		t.Errorf("%v after %d requests", err, n.Load())
	}
}

// countingTransport counts what comes, and calls enough when it is more than limit.
type countingTransport struct {
	http.Transport
	now, most, bytes atomic.Int64
	hold             int64 // no body is read before so many requests were in flight at once
	limit            int64
	enough           func()
}

func (c *countingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	n := c.now.Add(1)
	for m := c.most.Load(); n > m && !c.most.CompareAndSwap(m, n); m = c.most.Load() {
	}
	resp, err := c.Transport.RoundTrip(r)
	if err != nil {
		c.now.Add(-1)
		return nil, err
	}
	resp.Body = &countingBody{c: c, ReadCloser: resp.Body, ctx: r.Context()}
	return resp, nil
}

type countingBody struct {
	io.ReadCloser
	c      *countingTransport
	ctx    context.Context
	closed bool
}

func (b *countingBody) Read(p []byte) (int, error) {
	for b.c.most.Load() < b.c.hold && b.ctx.Err() == nil {
		runtime.Gosched()
	}
	n, err := b.ReadCloser.Read(p)
	if b.c.bytes.Add(int64(n)) > b.c.limit && b.c.enough != nil {
		b.c.enough()
	}
	return n, err
}

func (b *countingBody) Close() error {
	if !b.closed {
		b.closed = true
		b.c.now.Add(-1)
	}
	return b.ReadCloser.Close()
}

// nginx serves a folder and returns the address. It skips the test if nginx is not installed.
func nginx(t *testing.T, dir string) string {
	t.Helper()
	bin, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("nginx is not installed: not tested against it")
	}
	home := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	conf := filepath.Join(home, "nginx.conf")
	harness.WriteFile(t, conf, fmt.Sprintf(`
daemon off; master_process off; pid %[1]s/pid; error_log stderr notice;
events {}
http {
	access_log off; client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
	server { listen %[2]s; root %[3]s; }
}
`, home, addr, dir))
	cmd := exec.Command(bin, "-c", conf, "-p", home)
	says, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It says how it waits for events once it listens.
	lines := bufio.NewScanner(says)
	for lines.Scan() && !strings.Contains(lines.Text(), "event method") {
		t.Log(lines.Text())
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, says)
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		<-drained
		_ = cmd.Wait() // it was asked to end
	})
	return "http://" + addr
}

// TestURLOverTLS needs the caller's client, which knows the authority.
func TestURLOverTLS(t *testing.T) {
	s := harness.NewServer(t, osstest.WithTLS())
	c := osstest.Random(1, 1<<20)
	s.Put("bkt", "k", c)
	raw := harness.Sign(t, s, oss.AuthV4, time.Hour, "k")
	path := filepath.Join(t.TempDir(), "file")
	if _, err := harness.NewURLDownloader(t).DownloadURL(t.Context(), raw, path); err == nil || s.Stats().Requests != 0 {
		t.Errorf("%v after %d requests", err, s.Stats().Requests)
	}
	d := harness.NewURLDownloader(t, ossdl.WithHTTPClient(s.HTTPClient()))
	if res, err := d.DownloadURL(t.Context(), raw, path); err != nil || !res.Verified {
		t.Errorf("%+v, %v", res, err)
	}
	harness.CheckFile(t, path, c)
}
