package transport

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
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

// TestRedirectOfGivenHeaders checks that headers of the caller stay with their host, Authorization too, and that a redirect back to
// that host does not get them again. The rules of the caller's own client do not change that.
func TestRedirectOfGivenHeaders(t *testing.T) {
	request := func(u string, header http.Header) *http.Request {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		return r
	}
	given := http.Header{"Authorization": {"Bearer v"}, "Private-Token": {"v"}, "Referer": {"http://r.test/"}}
	for _, c := range []struct {
		path string // of hosts, from the first request to the next
		keep bool
	}{
		{"http://a.test http://a.test", true}, {"http://a.test http://A.test", true}, {"http://a.test http://b.test", false},
		{"http://a.test http://a.test http://a.test", true}, {"http://a.test http://b.test http://a.test", false},
		{"http://a.test http://a.test:8080", false}, {"http://a.test http://sub.a.test", false}, {"http://a.test https://a.test", true},
	} {
		for name, check := range map[string]func(*http.Request, []*http.Request) error{
			"ours":   checkRedirect,
			"theirs": WithRedirectRules(&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}).CheckRedirect,
		} {
			hosts := strings.Fields(c.path)
			first := SetHeaders(request(hosts[0]+"/k?Signature=s", http.Header{"Range": {"bytes=0-1"}}), given)
			via := []*http.Request{first}
			for _, h := range hosts[1 : len(hosts)-1] {
				via = append(via, request(h+"/k", http.Header{}))
			}
			next := request(hosts[len(hosts)-1]+"/l", http.Header{"Range": {"bytes=0-1"}, "Private-Token": {"v"}, "Referer": {"http://r.test/"}})
			if err := check(next, via); err != nil {
				t.Errorf("%s, %s: %v", name, c.path, err)
			}
			for header := range given {
				if got := next.Header.Get(header); (got == given.Get(header)) != c.keep || !c.keep && got != "" {
					t.Errorf("%s, %s: %s is %q", name, c.path, header, got)
				}
			}
			if next.Header.Get("Range") == "" || first.Header.Get("Authorization") == "" || len(given) != 3 {
				t.Errorf("%s, %s: changed %v, %v, %v", name, c.path, next.Header, first.Header, given)
			}
		}
	}
	if err := checkRedirect(request("http://a.test/l", http.Header{}), []*http.Request{SetHeaders(request("https://a.test/k", http.Header{}), given)}); !errors.Is(err, ErrDowngrade) {
		t.Errorf("from https to http: %v", err)
	}
	down := request("http://a.test/l", http.Header{"Private-Token": {"v"}})
	theirs := WithRedirectRules(&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}).CheckRedirect
	if err := theirs(down, []*http.Request{SetHeaders(request("https://a.test/k", http.Header{}), given)}); err != nil || len(down.Header) > 0 {
		t.Errorf("from https to http, by the caller's rules: %v, %v", down.Header, err)
	}
}
