package transport

import (
	"fmt"
	"net/http"
)

// MaxRedirects is how many redirects net/http follows by default.
const MaxRedirects = 10

var ErrRedirects = fmt.Errorf("more than %d redirects", MaxRedirects)

// CheckRedirect is the rule for redirects, for [http.Client.CheckRedirect]. It follows none of a request with credentials.
// From other requests it removes headers of OSS if they would go to another host.
func CheckRedirect(next *http.Request, via []*http.Request) error {
	first := via[0]
	if first.Header.Get("Authorization") != "" || first.Header.Get("x-oss-security-token") != "" {
		return http.ErrUseLastResponse
	}
	if len(via) >= MaxRedirects {
		return ErrRedirects
	}
	if next.URL.Host != first.URL.Host {
		for name := range next.Header {
			if IsOSSHeader(name) {
				next.Header.Del(name)
			}
		}
	}
	dropReferer(next)
	return nil
}

// WithRedirectRules returns a copy of a client with our rule for redirects. A rule of the client's own is kept, but the
// address of the page before is not sent on.
func WithRedirectRules(c *http.Client) *http.Client {
	client := *c
	if theirs := c.CheckRedirect; theirs == nil {
		client.CheckRedirect = CheckRedirect
	} else {
		client.CheckRedirect = func(next *http.Request, via []*http.Request) error {
			dropReferer(next)
			return theirs(next, via)
		}
	}
	return &client
}

// dropReferer removes the address that the redirect came from: its query may hold a signature.
func dropReferer(next *http.Request) { next.Header.Del("Referer") }

func IsOSSHeader(name string) bool {
	return len(name) > 6 && http.CanonicalHeaderKey(name[:6]) == "X-Oss-"
}
