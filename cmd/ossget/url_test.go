package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/osstest"
)

// signed is a URL for an object of "bucket", and its query.
func signed(t *testing.T, s *osstest.Server, key string, seconds int64, opts ...oss.ClientOption) (raw, query string) {
	t.Helper()
	client, err := s.Client(opts...)
	if err != nil {
		t.Fatal(err)
	}
	b, err := client.Bucket("bucket")
	if err != nil {
		t.Fatal(err)
	}
	raw, err = b.SignURL(key, oss.HTTPGet, seconds)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(raw)
	if err != nil || u.RawQuery == "" {
		t.Fatal(raw, err)
	}
	return raw, u.RawQuery
}

// silent checks that the output of a run contains no value of a query.
func silent(t *testing.T, r ran, query string) {
	t.Helper()
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range values {
		if name == "x-oss-date" {
			continue // its digits are no secret
		}
		for _, printed := range []string{v[0], url.QueryEscape(v[0])} {
			if len(printed) > 6 && strings.Contains(r.stdout+r.stderr, printed) {
				t.Errorf("%s of the query is printed: %+v", name, r)
			}
		}
	}
	if strings.Contains(r.stdout+r.stderr, query) || strings.Contains(r.stderr, "Signature=") {
		t.Errorf("the query is printed: %+v", r)
	}
}

func TestSignedURLNeedsNoEnvironment(t *testing.T) {
	s := newServer(t)
	c := osstest.Random(1, 9*mib)
	o := s.Put("bucket", "folder/数据 +%2F.tar", c)
	for name, opts := range map[string][]oss.ClientOption{
		"V1": {oss.AuthVersion(oss.AuthV1)},
		"V4": {oss.AuthVersion(oss.AuthV4), oss.Region(osstest.Region)},
	} {
		t.Run(name, func(t *testing.T) {
			s.ResetLog()
			dir := t.TempDir()
			raw, query := signed(t, s, o.Key, 600, opts...)
			r := runHere(t.Context(), env{}, "-json", "-part-size", "1MiB", raw, dir)
			if r.exit != 0 {
				t.Fatalf("%+v", r)
			}
			// The last element of the path, as a browser would name the file.
			want := filepath.Join(dir, "数据 +%2F.tar")
			sameAs(t, want, c)
			onlyFile(t, dir, filepath.Base(want))
			if got := outcomeOf(t, r); got.Path != want || got.Size != c.Size() || got.ETag != o.ETag || !got.Verified {
				t.Errorf("got %+v", got)
			}
			silent(t, r, query)
			if n := len(s.Requests()); n < 9 {
				t.Errorf("%d requests", n)
			}
			for _, q := range s.Requests() {
				for name := range q.Header {
					if strings.HasPrefix(strings.ToLower(name), "x-oss-") || name == "Authorization" {
						t.Errorf("%s was sent", name)
					}
				}
			}
		})
	}
}

func TestURLOfAnyServer(t *testing.T) {
	content := strings.Repeat("any server ", 100_000)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/a/file.txt":
			http.ServeContent(w, r, "", time.Unix(1e9, 0), strings.NewReader(content))
		case "/private":
			w.WriteHeader(http.StatusForbidden)
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	path := filepath.Join(t.TempDir(), "file")
	if r := runHere(t.Context(), env{}, "-range", "3:7", strings.Replace(s.URL, "http", "HTTP", 1)+"/a/file.txt?k=secret-value", path); r.exit != 0 ||
		strings.Contains(r.stderr, "secret-value") {
		t.Errorf("%+v", r)
	}
	if got, _ := os.ReadFile(path); string(got) != content[3:10] {
		t.Errorf("got %q", got)
	}
	for p, exit := range map[string]int{"/absent": 3, "/private": 3} {
		r := runHere(t.Context(), env{}, "-json", s.URL+p+"?k=secret-value", path)
		if r.exit != exit || outcomeOf(t, r).Failure == nil || strings.Contains(r.stderr+r.stdout, "secret-value") {
			t.Errorf("%s: %+v", p, r)
		}
	}
	if r := runHere(t.Context(), env{}, s.URL+"/", t.TempDir()); r.exit != 2 || !strings.Contains(r.stderr, "name a file") {
		t.Errorf("no last element: %+v", r)
	}
}

func TestExpiredURLContinuesWithANewOne(t *testing.T) {
	s := newServer(t)
	c := osstest.Random(1, 12*mib)
	s.Put("bucket", "key", c)
	path := filepath.Join(t.TempDir(), "key")
	first, query := signed(t, s, "key", 600)
	s.Nth(3, osstest.Inject().Before(func() {
		s.SetNow(func() time.Time { return time.Now().Add(time.Hour) })
	}))
	args := []string{"-json", "-concurrency", "1", "-part-size", "2MiB"}
	r := runHere(t.Context(), env{}, append(args, first, path)...)
	if got := outcomeOf(t, r); r.exit != 1 || got.Failure == nil || !strings.Contains(r.stderr, "expired") {
		t.Fatalf("%+v", r)
	}
	silent(t, r, query)

	s.SetNow(time.Now)
	again, query := signed(t, s, "key", 900)
	r = runHere(t.Context(), env{}, append(args, again, path)...)
	if got := outcomeOf(t, r); r.exit != 0 || got.ResumedBytes == 0 || got.ResumedBytes+got.DownloadedBytes != c.Size() {
		t.Errorf("%+v", r)
	}
	silent(t, r, query)
	sameAs(t, path, c)
}

// TestURLToStandardOutput checks that a URL is written to standard output as an object is: in order, in ranges that are
// fetched ahead. It needs no environment.
func TestURLToStandardOutput(t *testing.T) {
	s := newServer(t)
	c := osstest.Random(1, 9*mib)
	o := s.Put("bucket", "folder/数据 +%2F.tar", c)
	t.Chdir(t.TempDir())
	for name, opts := range map[string][]oss.ClientOption{
		"V1": {oss.AuthVersion(oss.AuthV1)},
		"V4": {oss.AuthVersion(oss.AuthV4), oss.Region(osstest.Region)},
	} {
		s.ResetLog()
		raw, query := signed(t, s, o.Key, 600, opts...)
		r := runHere(t.Context(), env{}, "-json", "-part-size", "1MiB", raw, "-")
		if r.exit != 0 || r.stdout != string(all(t, c)) {
			t.Fatalf("%s: exit code %d, %d bytes: %s", name, r.exit, len(r.stdout), r.stderr)
		}
		if got := lastLine(t, r); got.Path != "-" || got.Size != c.Size() || got.ETag != o.ETag || !got.Verified || got.Failure != nil {
			t.Errorf("%s: %+v", name, got)
		}
		if n := len(s.Requests()); n < 9 {
			t.Errorf("%s: %d requests", name, n)
		}
		r.stdout = ""
		silent(t, r, query)
	}
	onlyFile(t, ".", "")

	s.ResetLog()
	raw, query := signed(t, s, "absent", 600)
	r := runHere(t.Context(), env{}, "-json", raw, "-")
	if got := lastLine(t, r); r.exit != 3 || got.Failure == nil || got.Code != "NoSuchKey" || got.Requests != 1 || r.stdout != "" {
		t.Errorf("absent: %+v", r)
	}
	silent(t, r, query)
	s.ResetLog()
	raw, _ = signed(t, s, o.Key, 600)
	raw = strings.Replace(raw, "Expires=", "Expires=1&was=", 1) // long ago
	r = runHere(t.Context(), env{}, "-json", raw, "-")
	if got := lastLine(t, r); r.exit != 1 || got.Failure == nil || got.Code != "Expired" || got.Requests != 0 || len(s.Requests()) > 0 {
		t.Errorf("expired: %+v", r)
	}
}

// TestWrongUseOfURLs checks arguments that are refused without a request: the host does not exist, and a failed request
// would not count as wrong use.
func TestWrongUseOfURLs(t *testing.T) {
	const secret = "OSSAccessKeyId=LTAI&Expires=1&Signature=verySecret"
	const u = "https://bucket.invalid/key?" + secret
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"-version-id", "x", u}, []string{"-version-id", "a URL"}},
		{[]string{"-endpoint", "https://oss-cn-hangzhou.aliyuncs.com", u}, []string{"-endpoint", "a URL"}},
		{[]string{"-region", "cn-hangzhou", u}, []string{"-region", "a URL"}},
		{[]string{"-cname", u}, []string{"-cname", "a URL"}},
		{[]string{"-recursive", u}, []string{"SOURCE", "oss://bucket/prefix/"}},
		{[]string{"-include", "*", u}, []string{"-include", "-recursive"}},
		{[]string{"-recursive", u, "-"}, []string{"SOURCE", "a URL is of one object"}},
		{[]string{"-version-id", "x", u, "-"}, []string{"-version-id", "a URL"}},
		{[]string{"-endpoint", "https://oss-cn-hangzhou.aliyuncs.com", u, "-"}, []string{"-endpoint", "a URL"}},
		{[]string{"-checkpoint", "x", u, "-"}, []string{"-checkpoint", "standard output"}},
		{[]string{"-no-checkpoint", u, "-"}, []string{"-no-checkpoint", "standard output"}},
		{[]string{"https://host.invalid/a b?" + secret, "-"}, []string{"SOURCE", "white space"}},
		{[]string{"https://user:very?Secret@host.invalid/"}, []string{`SOURCE ""`, "without user name"}},
		{[]string{"https://user:very#Secret@host.invalid/?" + secret}, []string{`SOURCE ""`, "without user name"}},
		{[]string{"https://verySecret@host.invalid/key"}, []string{`SOURCE ""`, "without user name"}},
		{[]string{"user:verySecret@host.invalid/key"}, []string{`SOURCE ""`, "http(s) URL"}},
		{[]string{"user:verySecret@h?u=http://host.invalid/"}, []string{`SOURCE ""`, "http(s) URL"}},
		{[]string{"-endpoint", "user:verySecret@host.invalid", "oss://bucket/key"}, []string{`-endpoint ""`, "expected a host"}},
		{[]string{"oss://bucket/key", u}, []string{"DEST", "file, a folder or -"}},
		{[]string{u, "a", u}, []string{"one operand too many"}},
		{[]string{"https://?" + secret}, []string{"SOURCE", "http(s)://HOST"}},
		{[]string{"https://user:verySecret@host.invalid/key"}, []string{`SOURCE ""`, "without user name"}},
		{[]string{"https://host.invalid/a b?" + secret}, []string{"SOURCE", "white space"}},
		{[]string{"https://host.invalid/key#" + secret}, []string{"SOURCE", "fragment"}},
		{[]string{"https://host.invalid:99999/key?" + secret}, []string{"SOURCE", "1 to 65535"}},
		{[]string{"https://host.invalid/%zz?" + secret}, []string{"SOURCE", "http(s)://HOST"}},
		{[]string{"ftp://host.invalid/key?" + secret}, []string{`SOURCE "ftp://host.invalid/key"`, "http(s) URL"}},
		{[]string{"https:/host.invalid/key?" + secret}, []string{`SOURCE "https:/host.invalid/key"`, "http(s) URL"}},
		{[]string{"-part-size", u}, []string{"-part-size", "bucket.invalid/key"}},
		{[]string{"-rate-limit=" + u}, []string{"-rate-limit", "bucket.invalid/key"}},
		{[]string{"-endpoint", u, "oss://bucket/key"}, []string{"-endpoint", "expected a host"}},
	} {
		r := runHere(t.Context(), env{}, append(c.args, "-json")...)
		if r.exit != 2 || strings.Contains(r.stdout+r.stderr, "very") || strings.Contains(r.stdout+r.stderr, "Secret") {
			t.Errorf("%q: %+v", c.args, r)
		}
		for _, want := range c.want {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("%q: got %q, want it to name %q", c.args, r.stderr, want)
			}
		}
	}
	if r := runHere(t.Context(), env{"OSS_ENDPOINT": u}, "oss://bucket/key"); r.exit != 2 || strings.Contains(r.stderr, "verySecret") {
		t.Errorf("OSS_ENDPOINT: %+v", r)
	}
}
