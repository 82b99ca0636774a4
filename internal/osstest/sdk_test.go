package osstest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/osstest"
)

func newServer(t *testing.T, opts ...osstest.Option) *osstest.Server {
	t.Helper()
	s, err := osstest.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	s.CreateBucket("bkt")
	return s
}

func sdkBucket(t *testing.T, s *osstest.Server, opts ...oss.ClientOption) *oss.Bucket {
	t.Helper()
	c, err := s.Client(opts...)
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// all is the content of c.
func all(t *testing.T, c osstest.Content) []byte {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// readAll reads the rest of a body.
func readAll(t *testing.T, r io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// auths are the ways the SDK can sign.
var auths = map[string][]oss.ClientOption{
	"V1":    {oss.AuthVersion(oss.AuthV1)},
	"V4":    {oss.AuthVersion(oss.AuthV4)},
	"V4add": {oss.AuthVersion(oss.AuthV4), oss.AdditionalHeaders([]string{"host", "range", "user-agent"})},
}

func TestSDK(t *testing.T) {
	keys := []string{"k", "a/b c/d+e", "ключ/文件&=?#%25;~*'()", "./x/../y//z", "-"}
	for name, opts := range auths {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			b := sdkBucket(t, s, opts...)
			for i, key := range keys {
				want := all(t, osstest.Random(uint64(i), 300<<10+int64(i)))
				if err := b.PutObject(key, bytes.NewReader(want), oss.Meta("who", "me")); err != nil {
					t.Fatalf("put %q: %v", key, err)
				}
				rd, err := b.GetObject(key, oss.NormalizedRange("100-"), oss.RangeBehavior("standard"), oss.TrafficLimitHeader(838860800))
				if err != nil {
					t.Fatalf("get %q: %v", key, err)
				}
				got, err := io.ReadAll(rd)
				if err != nil || !bytes.Equal(got, want[100:]) {
					t.Errorf("get %q: %d bytes, want %d, %v", key, len(got), len(want)-100, err)
				}
				h, err := b.GetObjectDetailedMeta(key)
				if err != nil || h.Get("X-Oss-Meta-Who") != "me" || h.Get("Content-Length") != fmt.Sprint(len(want)) {
					t.Errorf("head %q: %v, %v", key, h, err)
				}
				if _, err := b.GetObjectMeta(key, oss.VersionId("null")); err != nil {
					t.Errorf("objectMeta %q: %v", key, err)
				}
				if err := b.GetObjectToFile(key, t.TempDir()+"/f"); err != nil {
					t.Errorf("to file %q: %v", key, err)
				}
				if err := b.DeleteObject(key); err != nil {
					t.Errorf("delete %q: %v", key, err)
				}
				if _, err := b.GetObject(key); !isCode(err, http.StatusNotFound, "NoSuchKey") {
					t.Errorf("get of deleted %q: %v", key, err)
				}
			}
		})
	}
}

func isCode(err error, status int, code string) bool {
	var se oss.ServiceError
	return errors.As(err, &se) && se.StatusCode == status && se.Code == code && se.RequestID != ""
}

func TestSignedURL(t *testing.T) {
	for name, opts := range auths {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.Put("bkt", "a/b c", osstest.Random(1, 1000))
			b := sdkBucket(t, s, opts...)
			u, err := b.SignURL("a/b c", oss.HTTPGet, 60, oss.VersionId("null"), oss.ResponseContentType("x/y"))
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				name, method string
				header       map[string]string
				url          string
				status       int
				want         string
			}{
				{"plain", "GET", nil, u, 200, ""},
				{"unsigned headers", "GET", map[string]string{"Range": "bytes=0-9", "If-Match": s.Stat("bkt", "a/b c").ETag}, u, 206, ""},
				{"another method", "HEAD", nil, u, 403, ""},
				{"another header", "GET", map[string]string{"x-oss-range-behavior": "standard"}, u, 403, "SignatureDoesNotMatch"},
				{"content type", "GET", map[string]string{"Content-Type": "a/b"}, u, 403, "SignatureDoesNotMatch"},
				{"another key", "GET", nil, strings.Replace(u, "b%20c", "b%20d", 1), 403, "SignatureDoesNotMatch"},
				{"another version", "GET", nil, strings.Replace(u, "null", "nulL", 1), 403, "SignatureDoesNotMatch"},
				{"both", "GET", map[string]string{"Authorization": "OSS a:b"}, u, 400, "InvalidArgument"},
				{"no query", "GET", nil, u[:strings.Index(u, "?")], 403, "AccessDenied"},
			} {
				if c.name == "unsigned headers" && name == "V4add" {
					continue
				}
				status, body := do(t, s, c.method, c.url, c.header)
				if status != c.status || !strings.Contains(body, c.want) {
					t.Errorf("%s: %d %s, want %d %s", c.name, status, body, c.status, c.want)
				}
			}
		})
	}
}

// publicServer holds bkt, which anyone may read, with a 1000-byte object k.
func publicServer(t *testing.T, opts ...osstest.Option) *osstest.Server {
	t.Helper()
	s := newServer(t, opts...)
	s.CreateBucket("bkt", osstest.PublicRead())
	s.Put("bkt", "k", osstest.Random(1, 1000))
	return s
}

// do makes a request without the SDK.
func do(t *testing.T, s *osstest.Server, method, url string, header map[string]string) (int, string) {
	t.Helper()
	resp, body, err := try(s, method, url, header)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

func try(s *osstest.Server, method, url string, header map[string]string) (*http.Response, string, error) {
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return nil, "", err
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := s.HTTPClient().Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}
