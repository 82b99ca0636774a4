package transport

import (
	"errors"
	"fmt"
	"net/http"
)

// maxRedirects is how many redirects net/http follows by default.
const maxRedirects = 10

// ErrRedirects ends a request that is redirected once more than maxRedirects.
var ErrRedirects = fmt.Errorf("more than %d redirects", maxRedirects)

// ErrDowngrade ends a request over TLS that is redirected to a URL without it: anyone on the way could answer that.
var ErrDowngrade = errors.New("a redirect from https to http is refused")

// checkRedirect is the rule for redirects, for the CheckRedirect of an [http.Client]. It follows no redirect of a request
// with credentials, and none from https to http. From other requests it removes the headers of OSS before they go to another
// host.
func checkRedirect(next *http.Request, via []*http.Request) error {
	first := via[0]
	if first.Header.Get("Authorization") != "" || first.Header.Get("x-oss-security-token") != "" {
		return http.ErrUseLastResponse
	}
	if first.URL.Scheme == "https" && next.URL.Scheme == "http" {
		return ErrDowngrade
	}
	if len(via) >= maxRedirects {
		return ErrRedirects
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

// WithRedirectRules returns a copy of a client that follows the same rule for redirects as one of [NewClient]. If it has a
// rule of its own, that is kept, and only the address that the redirect came from is not sent on.
func WithRedirectRules(c *http.Client) *http.Client {
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
