package ossdl

import (
	"maps"
	"net/http"
	"runtime"
	"strings"
)

// Version is the version of this library. Every request names it in its User-Agent: after what the SDK's client sends
// there, or alone where the library makes the request itself. A User-Agent given with [WithRequestOptions] is sent as it is.
const Version = "0.1.0"

// userAgent names the library in requests that the SDK does not make.
var userAgent = "ossdl/" + Version + " (" + runtime.GOOS + "/" + runtime.GOARCH + "; " + runtime.Version() + ")"

// named returns r with a User-Agent that adds the library to base, the client's own, unless the caller has set one. The
// client belongs to the caller and is not changed.
func (r requestOptions) named(base string) requestOptions {
	for name := range r.headers {
		if http.CanonicalHeaderKey(name) == "User-Agent" {
			return r
		}
	}
	r.headers = maps.Clone(r.headers)
	if r.headers == nil {
		r.headers = map[string]string{}
	}
	r.headers["User-Agent"] = strings.TrimSpace(base + " ossdl/" + Version)
	return r
}
