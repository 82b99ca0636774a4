package torture_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/leaks"
	"github.com/ossdl/ossdl/internal/osstest"
)

// quickRetry is for tests in which all attempts are made.
func quickRetry(attempts int) ossdl.Option {
	return ossdl.WithRetry(ossdl.RetryPolicy{Attempts: attempts, MinDelay: time.Microsecond, MaxDelay: time.Microsecond})
}

// TestPortalBehindARedirect is about a network that redirects a signed URL to its sign-in page. That is not the object, be
// it the first answer or one in the middle, and what an earlier run left is not given up for it.
func TestPortalBehindARedirect(t *testing.T) {
	const page = "<!DOCTYPE html><title>Sign in</title>"
	for name, header := range map[string]http.Header{
		"bare":            {},
		"with an ETag":    {"Etag": {`"portal"`}},
		"with a time":     {"Last-Modified": {"Mon, 02 Jan 2023 03:04:05 GMT"}},
		"with a CRC-64":   {"X-Oss-Hash-Crc64ecma": {"1"}},
		"with request ID": {"X-Oss-Request-Id": {"5C3D9175B6FC201293AD****"}},
	} {
		t.Run(name, func(t *testing.T) {
			portal := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for k, v := range header {
					w.Header()[k] = v
				}
				w.Header().Set("Content-Type", "text/html")
				w.Header().Set("Content-Length", strconv.Itoa(len(page)))
				_, _ = w.Write([]byte(page))
			}))
			t.Cleanup(portal.Close)
			s := harness.NewServer(t)
			c := osstest.Random(1, 16*harness.PartSize)
			s.Put("bkt", "k", c)
			d := harness.NewURLDownloader(t, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1), quickRetry(3))
			raw := harness.Sign(t, s, oss.AuthV4, time.Hour, "k")
			path := filepath.Join(t.TempDir(), "file")
			harness.WriteFile(t, path, "old")
			caught := func(*osstest.Request) *osstest.Fault { return osstest.Inject().Redirect(portal.URL+"/login", 302) }

			s.OnRequest(caught)
			if _, err := d.DownloadURL(t.Context(), raw, path); !harness.IsOddAnswer(err) {
				t.Errorf("at first: %v", err)
			}
			s.ClearFaults()
			harness.InterruptURL(t, s, d, raw, path, 5)
			s.OnRequest(caught)
			if _, err := d.DownloadURL(t.Context(), raw, path); !harness.IsOddAnswer(err) || errors.Is(err, ossdl.ErrObjectChanged) {
				t.Errorf("on resume: %v", err)
			}
			if got, err := os.ReadFile(path); string(got) != "old" {
				t.Errorf("the path holds %q, %v", got, err)
			}
			s.ClearFaults()
			s.Nth(3, caught(nil)) // and in the middle, once
			res, err := d.DownloadURL(t.Context(), raw, path)
			if err != nil || res.ResumedBytes != 5*harness.PartSize || !res.Verified {
				t.Errorf("%+v, %v", res, err)
			}
			harness.CheckFile(t, path, c)
		})
	}
}

// signWithToken makes a URL signed with a temporary key.
func signWithToken(t testing.TB, s *osstest.Server, v oss.AuthVersionType, ak, token string, life time.Duration) string {
	t.Helper()
	client, err := s.ClientFor(ak, "sk", oss.AuthVersion(v), oss.SecurityToken(token))
	if err != nil {
		t.Fatal(err)
	}
	b, err := client.Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	u, err := b.SignURL("k", oss.HTTPGet, int64(life/time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestURLOfATemporaryKey is about a URL whose token ends before the URL's own date, which shows in several ways.
func TestURLOfATemporaryKey(t *testing.T) {
	for _, v := range []oss.AuthVersionType{oss.AuthV1, oss.AuthV4} {
		for _, code := range []string{"SecurityTokenExpired", "InvalidSecurityToken", "AccessKeyIdAndSecurityTokenNotMatch", "InvalidAccessKeyId"} {
			t.Run(string(v)+" "+code, func(t *testing.T) {
				s := harness.NewServer(t)
				c := osstest.Random(1, 16*harness.PartSize)
				s.Put("bkt", "k", c)
				for _, name := range []string{"one", "two", "three"} {
					s.AddToken("ak-"+name, "sk", "TOKEN-"+name, time.Now().Add(time.Hour))
				}
				one := signWithToken(t, s, v, "ak-one", "TOKEN-one", 12*time.Hour)
				refuse := func(seq int, token string) {
					s.OnRequest(func(r *osstest.Request) *osstest.Fault {
						switch {
						case r.Seq < seq || !strings.Contains(r.Query, token):
							return nil
						case code == "SecurityTokenExpired": // as the server itself says it
							return osstest.Inject().Before(func() { s.ExpireToken(token) })
						}
						return osstest.Error(403, code)
					})
				}
				d := harness.NewURLDownloader(t, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
				path := filepath.Join(t.TempDir(), "file")
				refuse(5, "TOKEN-one")
				_, err := d.DownloadURL(t.Context(), one, path)
				var se oss.ServiceError
				if !errors.Is(err, ossdl.ErrExpired) || !errors.As(err, &se) || se.Code != code {
					t.Fatalf("in the middle: %v", err)
				}
				leaks.NoSecret(t, err, "TOKEN", "sk")
				// From the start: such a key did work once, somewhere.
				refuse(0, "TOKEN-one")
				if _, err := d.DownloadURL(t.Context(), one, path); !errors.Is(err, ossdl.ErrExpired) {
					t.Fatalf("at first: %v", err)
				}
				// With another URL it goes on, with a refresh in the same call.
				s.ResetLog()
				refuse(5, "TOKEN-two")
				asked := 0
				res, err := d.DownloadURL(t.Context(), signWithToken(t, s, v, "ak-two", "TOKEN-two", 12*time.Hour), path,
					ossdl.WithURLRefresh(func(context.Context) (string, error) {
						asked++
						return signWithToken(t, s, v, "ak-three", "TOKEN-three", 12*time.Hour), nil
					}))
				if err != nil || asked != 1 || res.ResumedBytes != 5*harness.PartSize || res.Retries != 0 {
					t.Fatalf("%+v, %v, asked %d times", res, err, asked)
				}
				harness.CheckFile(t, path, c)
			})
		}
	}
}

// TestURLOfAPermanentKeyThatGoes checks that a permanent key that is unknown is wrong, and has not expired; one that has
// worked is gone.
func TestURLOfAPermanentKeyThatGoes(t *testing.T) {
	s := harness.NewServer(t)
	s.AddUser("ak", "sk")
	s.Put("bkt", "k", osstest.Random(1, 4*harness.PartSize))
	client, err := s.ClientFor("ak", "sk")
	if err != nil {
		t.Fatal(err)
	}
	b, err := client.Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.SignURL("k", oss.HTTPGet, 3600)
	if err != nil {
		t.Fatal(err)
	}
	d := harness.NewURLDownloader(t, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
	path := filepath.Join(t.TempDir(), "file")
	s.Nth(2, osstest.Inject().Before(func() { s.RemoveUser("ak") }))
	if _, err := d.DownloadURL(t.Context(), raw, path); !errors.Is(err, ossdl.ErrExpired) {
		t.Errorf("after it worked: %v", err)
	}
	var se oss.ServiceError
	if _, err := d.DownloadURL(t.Context(), raw, path); errors.Is(err, ossdl.ErrExpired) || !errors.As(err, &se) || se.Code != "InvalidAccessKeyId" {
		t.Errorf("at first: %v", err)
	}
}

// TestProcessedURL checks that output made of an object comes in one stream, unproved by the object's CRC-64, and leaves
// nothing to resume.
func TestProcessedURL(t *testing.T) {
	const spec = "image/resize,w_100"
	s := harness.NewServer(t)
	s.CreateBucket("bkt", osstest.PublicRead())
	c := osstest.Random(1, 6<<20)
	s.Put("bkt", "k", c)
	want := osstest.Processed(c, spec)
	for name, raw := range map[string]string{
		"V1":     harness.Sign(t, s, oss.AuthV1, time.Hour, "k", oss.Process(spec)),
		"V4":     harness.Sign(t, s, oss.AuthV4, time.Hour, "k", oss.Process(spec)),
		"public": s.URL("bkt", "k") + "?x-oss-process=" + spec,
	} {
		t.Run(name, func(t *testing.T) {
			d := harness.NewURLDownloader(t, ossdl.WithPartSize(harness.PartSize), quickRetry(4), ossdl.WithCheckpointDir(filepath.Join(t.TempDir(), "cp")))
			path := filepath.Join(t.TempDir(), "file")
			s.ResetLog()
			res, err := d.DownloadURL(t.Context(), raw, path)
			if err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, path, want)
			harness.SameLines(t, harness.Wire(s), "GET ")
			if res.Verified || res.Size != want.Size() || res.CRC64 != want.CRC64() {
				t.Errorf("%+v", *res)
			}
			digest := sha256.Sum256(harness.Bytes(t, want))
			if res, err := d.DownloadURL(t.Context(), raw, path, ossdl.WithChecksum(sha256.New, digest[:])); err != nil || !res.Verified {
				t.Errorf("%+v, %v", res, err)
			}
			// In order, and through a break, it comes as one stream too.
			s.ResetLog()
			s.Nth(0, osstest.Inject().ResetAfter(2<<20))
			r, err := d.OpenURL(t.Context(), raw, ossdl.WithReadAhead(ossdl.MinReadAhead))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, harness.Bytes(t, want)) {
				t.Errorf("%d bytes in order, want %d: %v", len(got), want.Size(), err)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			harness.SameLines(t, harness.Wire(s), "GET ", "GET ")
			// A stream that breaks starts again, without a condition.
			s.ResetLog()
			s.Nth(0, osstest.Inject().ResetAfter(2<<20))
			if _, err = d.DownloadURL(t.Context(), raw, path); err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, path, want)
			harness.SameLines(t, harness.Wire(s), "GET ", "GET ")
			// Another output does not complete the first.
			s.Nth(0, osstest.Inject().ResetAfter(2<<20).Then(func() { s.Put("bkt", "k", osstest.Random(2, 6<<20)) }))
			if _, err = d.DownloadURL(t.Context(), raw, path); !errors.Is(err, ossdl.ErrObjectChanged) {
				t.Errorf("output of two objects: %v", err)
			}
			harness.CheckFile(t, path, want) // with nothing beside it
			s.Put("bkt", "k", c)
			for name, opt := range map[string]ossdl.Option{"WithRange": ossdl.WithRange(0, 1), "WithIfMatch": ossdl.WithIfMatch("e")} {
				if _, err := d.DownloadURL(t.Context(), raw, path, opt); err == nil || !strings.Contains(err.Error(), name) {
					t.Errorf("%s: %v", name, err)
				}
			}
			other := s.URL("bkt", "k")
			s.Nth(0, osstest.Error(403, "AccessDenied", "Request has expired."))
			if _, err := d.DownloadURL(t.Context(), raw, path, ossdl.WithURLRefresh(func(context.Context) (string, error) { return other, nil })); err == nil ||
				!strings.Contains(err.Error(), "x-oss-process") {
				t.Errorf("continued with the object itself: %v", err)
			}
		})
	}
	t.Run("login page", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "file")
		s.Nth(0, osstest.Inject().LoginPage())
		if _, err := harness.NewURLDownloader(t).DownloadURL(t.Context(), harness.Sign(t, s, oss.AuthV4, time.Hour, "k", oss.Process(spec)), path); err != nil {
			t.Fatal(err)
		}
		harness.CheckFile(t, path, want)
	})
}

// expiringService refuses the requests of a URL without the new signature, from the second on.
type expiringService struct {
	harness.Service
	refused atomic.Int64
}

func (s *expiringService) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.RawQuery, "Signature=new") || s.Requests.Load() == 0 {
		return s.Service.RoundTrip(r)
	}
	s.Requests.Add(1)
	s.refused.Add(1)
	if err := harness.Pass(r.Context(), harness.ServicePause); err != nil {
		return nil, err
	}
	return s.Answer(r, http.StatusForbidden, []byte("<Error><Code>AccessDenied</Code><Message>Request has expired.</Message></Error>"), nil), nil
}

// TestURLRefreshStopsAllRequests takes an hour to find a new URL, with several workers in flight: all are refused, all wait,
// no request is made meanwhile, and the new URL is asked for once.
func TestURLRefreshStopsAllRequests(t *testing.T) {
	const workers, part = 6, 4000
	content := harness.Bytes(t, osstest.Random(1, 32*part))
	synctest.Test(t, func(t *testing.T) {
		s := &expiringService{Service: harness.Service{Objects: map[string][]byte{"k": content}, Piece: part}}
		d := harness.NewURLDownloader(t, ossdl.WithPartSize(part), ossdl.WithConcurrency(workers), ossdl.WithHTTPClient(&http.Client{Transport: s}))
		const raw = "http://service.test/k?OSSAccessKeyId=a&Expires=32503680000&Signature="
		asked := 0
		path := "/k"
		res, err := d.DownloadURL(t.Context(), raw+"old", path, harness.WithFS(memfs.New(memfs.Config{})), ossdl.WithURLRefresh(func(context.Context) (string, error) {
			asked++
			time.Sleep(harness.ServicePause) // those that were in flight have their refusal, too
			synctest.Wait()
			before := s.Requests.Load()
			if n := s.refused.Load(); n != workers {
				t.Errorf("%d requests were refused, want one of each of %d workers", n, workers)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if n := s.Requests.Load() - before; n != 0 {
				t.Errorf("%d requests while a new URL was waited for", n)
			}
			return raw + "new", nil
		}))
		if err != nil || asked != 1 || s.refused.Load() != workers || res.Retries != 0 {
			t.Errorf("%+v, %v; asked %d times, %d requests refused", res, err, asked, s.refused.Load())
		}
	})
}
