package weburl

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/harness/leaks"
)

// FuzzSignedURL checks that no error and no name of a URL holds its query, user or password, whatever it looks like, and
// that another signature does not make it another object.
func FuzzSignedURL(f *testing.F) {
	for _, prefix := range []string{
		"http://bkt.oss-cn-hangzhou.aliyuncs.com/k", "https://[::1]:443/a%2fb", "HTTP://HOST:80", "http://", "ftp://h/k", "//h/k", "http:/k",
		"http://h/k?versionId=1&x=%zz", "http://h/%zz", "http://h:99999/k", "http://h/k#f", "http://h/a b", "\x00", "http://h@h/k?@", "h/k",
	} {
		f.Add(prefix)
	}
	const secret = "SECRETSECRET"
	f.Fuzz(func(t *testing.T, prefix string) {
		join := "?"
		if strings.Contains(prefix, "?") {
			join = "&"
		}
		signed := func(signature string) string {
			return prefix + join + url.Values{"OSSAccessKeyId": {"id"}, "Expires": {"32503680000"}, "Signature": {signature}}.Encode()
		}
		a, err := Parse(signed(secret))
		scheme, rest, ok := strings.Cut(signed("1"), "://")
		if ok {
			if u, err := Parse(scheme + "://user:" + secret + "@" + rest); err == nil {
				t.Errorf("a password was accepted: %v", u)
			} else {
				leaks.NoSecret(t, err, secret)
			}
		}
		if err != nil {
			leaks.NoSecret(t, err, secret)
			return
		}
		if name := a.String(); strings.Contains(name, secret) || a.id.Bucket == "" || !strings.HasPrefix(a.id.Key, "/") {
			t.Errorf("%q, %+v", name, a.id)
		}
		b, err := Parse(signed("another"))
		if err != nil || a.id != b.id || a.Version() != b.Version() || !a.expires.Equal(b.expires) || b.expires.Before(time.Unix(0, 0)) && !b.expires.IsZero() {
			t.Errorf("%+v and %+v, %v", a, b, err)
		}
	})
}
