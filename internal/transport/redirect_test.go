package transport

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"testing"
)

// TestCheckRedirect checks the rule itself with requests of all kinds.
func TestCheckRedirect(t *testing.T) {
	request := func(u string, header http.Header) *http.Request {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		return &http.Request{URL: parsed, Header: header}
	}
	for _, name := range []string{"Authorization", "X-Oss-Security-Token"} {
		first := request("http://a.test/k", http.Header{name: {"v"}})
		if err := checkRedirect(request("http://a.test/l", http.Header{}), []*http.Request{first}); !errors.Is(err, http.ErrUseLastResponse) {
			t.Errorf("a redirect of a request with %s: %v", name, err)
		}
	}
	for _, c := range []struct {
		to   string
		keep bool // headers of OSS
	}{{"http://a.test/l", true}, {"https://b.test/k", false}, {"http://a.test:8080/k", false}} {
		next := request(c.to, http.Header{"X-Oss-Request-Payer": {"requester"}, "Referer": {"http://a.test/k?Signature=s"}, "Range": {"bytes=0-1"}})
		if err := checkRedirect(next, []*http.Request{request("http://a.test/k?Signature=s", http.Header{})}); err != nil {
			t.Errorf("%s: %v", c.to, err)
		}
		if (next.Header.Get("X-Oss-Request-Payer") != "") != c.keep || next.Header.Get("Referer") != "" || next.Header.Get("Range") == "" {
			t.Errorf("%s is asked with %v", c.to, next.Header)
		}
	}
	via := slices.Repeat([]*http.Request{request("http://a.test/k", http.Header{})}, maxRedirects)
	if err := checkRedirect(request("http://a.test/l", http.Header{}), via); !errors.Is(err, ErrRedirects) {
		t.Errorf("after %d redirects: %v", maxRedirects, err)
	}
}
