package ossdl

import (
	"fmt"
	"net/http"
)

// maxRedirects is how many redirects net/http follows by default.
const maxRedirects = 10

var errRedirects = fmt.Errorf("more than %d redirects", maxRedirects)

// checkRedirect is the rule for redirects, for [http.Client.CheckRedirect]. It follows none of a request with credentials.
// From other requests it removes headers of OSS if they would go to another host.
func checkRedirect(next *http.Request, via []*http.Request) error {
	first := via[0]
	if first.Header.Get("Authorization") != "" || first.Header.Get("x-oss-security-token") != "" {
		return http.ErrUseLastResponse
	}
	if len(via) >= maxRedirects {
		return errRedirects
	}
	if next.URL.Host != first.URL.Host {
		for name := range next.Header {
			if isOSSHeader(name) {
				next.Header.Del(name)
			}
		}
	}
	dropReferer(next)
	return nil
}

// withRedirectRules returns a copy of a client with our rule for redirects. A rule of the client's own is kept, but the
// address of the page before is not sent on.
func withRedirectRules(c *http.Client) *http.Client {
	client := *c
	if theirs := c.CheckRedirect; theirs == nil {
		client.CheckRedirect = checkRedirect
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

func isOSSHeader(name string) bool {
	return len(name) > 6 && http.CanonicalHeaderKey(name[:6]) == "X-Oss-"
}
