package ossdl_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/leaks"
	"github.com/ossdl/ossdl/internal/osstest"
)

// openURL makes a Reader that is closed with the test at the latest.
func openURL(t testing.TB, d *ossdl.Downloader, raw string, opts ...ossdl.Option) *ossdl.Reader {
	t.Helper()
	r, err := d.OpenURL(t.Context(), raw, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// TestOpenURL reads by all kinds of URLs, with nothing in the requests that could break a signature.
func TestOpenURL(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("bkt", osstest.PublicRead())
	const key = "a folder/ключ+%"
	d := harness.NewURLDownloader(t, ossdl.WithPartSize(1<<20), ossdl.WithConcurrency(4))
	for _, size := range []int64{0, 1, 10<<20 + 1} {
		c := osstest.Random(1, size)
		content := harness.Bytes(t, c)
		s.Put("bkt", key, c)
		for name, raw := range map[string]string{
			"V1":     harness.Sign(t, s, oss.AuthV1, time.Hour, key),
			"V4":     harness.Sign(t, s, oss.AuthV4, time.Hour, key),
			"public": s.URL("bkt", key),
		} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				s.ResetLog()
				sum := sha256.Sum256(content)
				r := openURL(t, d, raw, ossdl.WithChecksum(sha256.New, sum[:]), ossdl.WithReadAhead(4<<20))
				got, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(got, content) {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
				if res := r.Result(); res.Bucket != s.Addr() || res.Size != size || !res.Verified || res.CRC64 != c.CRC64() || res.Path != "" {
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
					for h := range r.Header {
						if !slices.Contains([]string{"Host", "Range", "If-Match", "Accept-Encoding", "User-Agent"}, h) {
							t.Errorf("request %d carries %s", i, h)
						}
					}
				}
			})
		}
	}
	content := harness.Bytes(t, osstest.Random(1, 10<<20+1))
	got, err := io.ReadAll(openURL(t, d, harness.Sign(t, s, oss.AuthV4, time.Hour, key), ossdl.WithRange(1<<20-1, 2<<20)))
	if err != nil || !bytes.Equal(got, content[1<<20-1:3<<20-1]) {
		t.Errorf("range: %d bytes, %v", len(got), err)
	}
}

// TestOpenURLRefresh checks that a reader does not notice that its URL expires in the middle of the stream.
func TestOpenURLRefresh(t *testing.T) {
	for _, v := range []oss.AuthVersionType{oss.AuthV1, oss.AuthV4} {
		t.Run(string(v), func(t *testing.T) {
			const part = 64 << 10
			s := harness.NewServer(t)
			c := osstest.Random(1, 60*part)
			s.Put("bkt", "k", c)
			s.Nth(20, osstest.Inject().Before(func() {
				s.SetNow(func() time.Time { return time.Now().Add(2 * time.Hour) })
			}))
			d := harness.NewURLDownloader(t, ossdl.WithPartSize(part), ossdl.WithConcurrency(4))
			var asked atomic.Int64
			r := openURL(t, d, harness.Sign(t, s, v, time.Hour, "k"), ossdl.WithURLRefresh(func(context.Context) (string, error) {
				asked.Add(1)
				return harness.Sign(t, s, v, 3*time.Hour, "k"), nil
			}))
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, harness.Bytes(t, c)) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			refused := 0
			for _, q := range s.Requests() {
				if q.Status == http.StatusForbidden {
					refused++
				}
			}
			if n := asked.Load(); n != 1 || refused == 0 || !r.Result().Verified {
				t.Errorf("asked %d times, %d requests refused, %+v", n, refused, *r.Result())
			}
		})
	}
}

// TestOpenURLErrors checks that what is wrong with URL or options is named before anything is fetched, and what the server
// says comes from OpenURL if it is the first answer, and otherwise from Read.
func TestOpenURLErrors(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 8<<20))
	d := harness.NewURLDownloader(t)
	good := harness.Sign(t, s, oss.AuthV4, time.Hour, "k")
	for want, open := range map[string]func() (*ossdl.Reader, error){
		`open URL "http://h/k": a user name is in it; the form is http(s)://HOST`: func() (*ossdl.Reader, error) { return d.OpenURL(t.Context(), "http://u:SECRET@h/k?SECRET") },
		`"ftp://h/k"`: func() (*ossdl.Reader, error) { return d.OpenURL(t.Context(), "ftp://h/k?SECRET") },
		"WithVersionID does not apply to OpenURL":      func() (*ossdl.Reader, error) { return d.OpenURL(t.Context(), good, ossdl.WithVersionID("v")) },
		"WithRequestOptions does not apply to OpenURL": func() (*ossdl.Reader, error) { return d.OpenURL(t.Context(), good, ossdl.WithRequestOptions()) },
		"WithCheckpoint does not apply to OpenURL":     func() (*ossdl.Reader, error) { return d.OpenURL(t.Context(), good, ossdl.WithCheckpoint("x")) },
		"WithCheckpointDir does not apply to OpenURL":  func() (*ossdl.Reader, error) { return d.OpenURL(t.Context(), good, ossdl.WithCheckpointDir("x")) },
		"WithoutCheckpoint does not apply to OpenURL":  func() (*ossdl.Reader, error) { return d.OpenURL(t.Context(), good, ossdl.WithoutCheckpoint()) },
		"WithShard does not apply to OpenURL":          func() (*ossdl.Reader, error) { return d.OpenURL(t.Context(), good, ossdl.WithShard(0, 2)) },
		"it applies to DownloadURL, OpenURL":           func() (*ossdl.Reader, error) { return d.Open(t.Context(), "bkt", "k", ossdl.WithURLRefresh(nil)) },
		"WithURLRefresh: nil function":                 func() (*ossdl.Reader, error) { return d.OpenURL(t.Context(), good, ossdl.WithURLRefresh(nil)) },
	} {
		r, err := open()
		if r != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		leaks.NoSecret(t, err, "SECRET", "Signature=")
	}
	if n := s.Stats().Requests; n != 0 {
		t.Errorf("%d requests", n)
	}
	for name, c := range map[string]struct {
		raw  string
		opts []ossdl.Option
		want error
	}{
		"missing": {harness.Sign(t, s, oss.AuthV4, time.Hour, "none"), nil, ossdl.ErrNotFound},
		"changed": {good, []ossdl.Option{ossdl.WithIfMatch("x")}, ossdl.ErrObjectChanged},
		"range":   {good, []ossdl.Option{ossdl.WithRange(8<<20, 1)}, ossdl.ErrRange},
		"expired": {expired(t, s, time.Hour), nil, ossdl.ErrExpired},
	} {
		r, err := d.OpenURL(t.Context(), c.raw, c.opts...)
		if r != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		leaks.NoSecret(t, err, "Signature=")
	}

	s.ResetLog()
	s.Nth(5, osstest.Inject().Before(func() { s.SetNow(func() time.Time { return time.Now().Add(2 * time.Hour) }) }))
	r := openURL(t, d, good, ossdl.WithPartSize(1<<20), ossdl.WithConcurrency(1))
	if n, err := io.Copy(io.Discard, r); !errors.Is(err, ossdl.ErrExpired) || n < 1<<20 {
		t.Errorf("expired in the middle: %v after %d bytes", err, n)
	}
	leaks.NoGoroutines(t)
}

// TestOpenURLThroughTheCallersClient checks that each request goes through the client that was given.
func TestOpenURLThroughTheCallersClient(t *testing.T) {
	s := harness.NewServer(t)
	c := osstest.Random(1, 3<<20)
	s.Put("bkt", "k", c)
	var n atomic.Int64
	under := ossdl.HTTPClient()
	t.Cleanup(under.CloseIdleConnections)
	client := &http.Client{Transport: harness.RoundTrip(func(r *http.Request) (*http.Response, error) {
		n.Add(1)
		return under.Transport.RoundTrip(r)
	})}
	got, err := io.ReadAll(openURL(t, harness.NewURLDownloader(t), harness.Sign(t, s, oss.AuthV1, time.Hour, "k"), ossdl.WithHTTPClient(client), ossdl.WithPartSize(1<<20)))
	if err != nil || !bytes.Equal(got, harness.Bytes(t, c)) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if int(n.Load()) != s.Stats().Requests || n.Load() == 0 {
		t.Errorf("%d requests through the client, %d at the server", n.Load(), s.Stats().Requests)
	}
}

// TestOpenURLOfAServerWithoutRanges checks that a reader does not notice streams that break. The next stream starts again,
// and what was read is skipped.
func TestOpenURLOfAServerWithoutRanges(t *testing.T) {
	content := harness.Bytes(t, osstest.Random(1, 3<<20))
	var n atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		if r.Header.Get("Range") != fmt.Sprintf("bytes=%d-%[1]d", len(content)-1) { // not the trial
			_, _ = w.Write(content[:min(len(content), int(n.Add(1))<<20-1)])
		}
	}))
	t.Cleanup(func() { // after the reader is closed
		web.CloseClientConnections() // Close alone waits for a connection that the server takes to be in use
		web.Close()
	})
	got, err := io.ReadAll(openURL(t, harness.NewURLDownloader(t), web.URL+"/k"))
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
