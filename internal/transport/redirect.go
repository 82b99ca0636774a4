package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// maxRedirects is how many redirects net/http follows by default.
const maxRedirects = 10

// ErrRedirects ends a request that is redirected once more than maxRedirects.
var ErrRedirects = fmt.Errorf("more than %d redirects", maxRedirects)

// ErrDowngrade ends a request over TLS that is redirected to a URL without it: anyone on the way could answer that.
var ErrDowngrade = errors.New("a redirect from https to http is refused")

// checkRedirect is the rule for redirects, for the CheckRedirect of an [http.Client]. It follows no redirect of a request
// with credentials, and none from https to http. From other requests it removes the headers of OSS before they go to another
// host. Credentials that the caller has added with [SetHeaders] do not count: they stay with their host.
func checkRedirect(next *http.Request, via []*http.Request) error {
	first := via[0]
	given := givenHeaders(first)
	for _, name := range []string{"Authorization", "X-Oss-Security-Token"} {
		if first.Header.Get(name) != "" && given[name] == nil {
			return http.ErrUseLastResponse
		}
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
	cleanRedirect(next, via)
	return nil
}

// WithRedirectRules returns a copy of a client that follows the same rule for redirects as one of [NewClient]. If it has a
// rule of its own, that is kept, and only the address that the redirect came from and the headers of [SetHeaders] are not sent
// on.
func WithRedirectRules(c *http.Client) *http.Client {
	client := *c
	if theirs := c.CheckRedirect; theirs == nil {
		client.CheckRedirect = checkRedirect
	} else {
		client.CheckRedirect = func(next *http.Request, via []*http.Request) error {
			cleanRedirect(next, via)
			return theirs(next, via)
		}
	}
	return &client
}

// givenKey is the key of the headers in the context of a request that a caller has added.
type givenKey struct{}

// SetHeaders returns a request with headers of the caller. They are for its host alone: a redirect to another one loses them, and
// so does one that leads back from there, since the other host has chosen where.
func SetHeaders(r *http.Request, given http.Header) *http.Request {
	if len(given) == 0 {
		return r
	}
	r = r.WithContext(context.WithValue(r.Context(), givenKey{}, given))
	for name, values := range given {
		r.Header[name] = slices.Clone(values)
	}
	return r
}

func givenHeaders(r *http.Request) http.Header {
	given, _ := r.Context().Value(givenKey{}).(http.Header)
	return given
}

// cleanRedirect removes from a redirect what it must not tell: the address that it came from, whose query may hold a signature,
// and the caller's headers if it has left their host. net/http keeps some of those, and drops others even on the same host.
func cleanRedirect(next *http.Request, via []*http.Request) {
	next.Header.Del("Referer")
	first := via[0]
	left := slices.ContainsFunc(append(slices.Clip(via), next), func(r *http.Request) bool {
		return !strings.EqualFold(r.URL.Host, first.URL.Host) || first.URL.Scheme == "https" && r.URL.Scheme != "https"
	})
	for name, values := range givenHeaders(first) {
		if next.Header.Del(name); !left {
			next.Header[name] = slices.Clone(values)
		}
	}
}

func isOSSHeader(name string) bool {
	return len(name) > 6 && http.CanonicalHeaderKey(name[:6]) == "X-Oss-"
}
