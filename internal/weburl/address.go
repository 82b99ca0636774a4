// Package weburl makes the requests for the object of a URL: it knows what the query of a signed URL says, when the URL has
// expired and how to ask for a new one. It must not know buckets and their clients, retries, slots or files. Its invariant:
// no error, name or header that leaves it holds the query of a URL or a user name or password in it, and an answer for a
// signed URL comes from OSS.
package weburl

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/transport"
)

// Address is one URL of an object.
type Address struct {
	url       string // with its query; only a request may see it
	query     string
	secret    *transport.Secrets // of the query
	scheme    string
	id        object.Identity
	versionID string
	process   string      // what OSS is to make of the object (x-oss-process in the query); "": nothing
	signed    bool        // by OSS
	token     bool        // signed with a temporary key, which may end before the URL does
	expires   time.Time   // according to the URL; zero: it does not say
	expired   bool        // according to the server
	headers   http.Header // of the caller, which its answers must not show
}

// String returns the address without its query.
func (a *Address) String() string { return a.scheme + "://" + a.id.Bucket + a.id.Key }

// Identity returns host and path.
func (a *Address) Identity() object.Identity { return a.id }

// Origin returns scheme, host and port: what the headers of the caller are for.
func (a *Address) Origin() string { return a.scheme + "://" + a.id.Bucket }

// hide makes the headers of the caller secrets of the address.
func (a *Address) hide(headers http.Header) {
	a.headers = headers
	a.hideIn(a.secret)
}

func (a *Address) hideIn(secret *transport.Secrets) {
	for _, values := range a.headers {
		for _, v := range values {
			secret.AddValue(v)
		}
	}
}

// Version returns the version ID that the URL asks for, or "".
func (a *Address) Version() string { return a.versionID }

// Processed reports whether the answer is made of the object, and is not the object itself.
func (a *Address) Processed() bool { return a.process != "" }

// kind returns what must answer: OSS, if the URL is signed for it. How OSS identifies processed output is not documented.
func (a *Address) kind() object.Kind {
	if a.signed && !a.Processed() {
		return object.OSS
	}
	return object.Plain
}

// addressError is the error of a malformed URL.
type addressError struct {
	safe string // as SafeURL returns it
	why  string
}

func (e *addressError) Error() string {
	name := "URL"
	if e.safe != "" {
		name = fmt.Sprintf("URL %q", e.safe)
	}
	return fmt.Sprintf("%s: %s; the form is http(s)://HOST[:PORT]/PATH[?QUERY], without user name and fragment", name, e.why)
}

// SafeURL returns what may be shown of the URL: no user name, password or query. It is "" if nothing may.
func (e *addressError) SafeURL() string { return e.safe }

// Parse parses a URL. Its error has a method SafeURL() string, which returns what may be shown of the URL.
func Parse(raw string) (*Address, error) {
	u, why := parseURL(raw)
	if why != "" {
		return nil, &addressError{safeURL(raw), why}
	}
	q := u.Query()
	a := &Address{
		url: raw, query: u.RawQuery, scheme: u.Scheme, versionID: q.Get("versionId"),
		id:      object.Identity{URL: true, Bucket: hostOf(u), Key: u.EscapedPath()},
		process: q.Get("x-oss-process"),
		signed:  q.Has("OSSAccessKeyId") && q.Has("Signature") || q.Has("x-oss-signature"),
		token:   q.Has("security-token") || q.Has("x-oss-security-token"),
	}
	if a.id.Key == "" {
		a.id.Key = "/"
	}
	if a.signed {
		a.expires = expiry(q)
	}
	a.secret = new(transport.Secrets)
	a.secret.AddQuery(a.query, a.signed)
	return a, nil
}

// parseURL returns the parts of a URL, or why it is not accepted.
func parseURL(raw string) (u *url.URL, why string) {
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return nil, "white space or a control character is in it"
	}
	if strings.Contains(raw, "#") {
		return nil, "a fragment is in it (a # of the path is written %23)"
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, "malformed" // err may quote a password
	}
	port, portErr := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, "neither http nor https"
	case u.User != nil:
		return nil, "a user name is in it"
	case u.Hostname() == "":
		return nil, "no host"
	case u.Port() != "" && (portErr != nil || port == 0):
		return nil, "the port is not one of 1 to 65535"
	}
	return u, ""
}

// safeURL returns what a message may show of a URL that may be malformed in any way: no user name, password or query.
//
// Everything between :// and the last @ may be a password, even if it contains a question mark. If that @ may also be part
// of a query, nothing after :// is shown. Without a scheme nothing at all is shown.
func safeURL(raw string) string {
	scheme, rest, _ := strings.Cut(raw, "://")
	if !schemeForm.MatchString(scheme) || len(scheme) == len(raw) {
		return ""
	}
	at, query := strings.LastIndexByte(rest, '@'), strings.IndexAny(rest, "?#")
	switch {
	case query >= 0 && at > query:
		rest = ""
	case query >= 0:
		rest = rest[at+1 : query]
	default:
		rest = rest[at+1:]
	}
	return scheme + "://" + rest
}

var schemeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)

// hostOf returns the host for an identity: in lower case, with the port unless it is the default of the scheme.
func hostOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if u.Scheme == "http" {
		host = strings.TrimSuffix(host, ":80")
	} else {
		host = strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":")
}

// maxLife is the longest life that OSS allows a signed URL, in seconds.
const maxLife = 7 * 24 * 3600

// expiry returns when a signed URL expires: by Expires in V1, by x-oss-date and x-oss-expires in V4. It is zero if the URL
// does not say.
func expiry(q url.Values) time.Time {
	name := "Expires"
	if q.Has("x-oss-signature") {
		name = "x-oss-expires"
	}
	seconds, err := strconv.ParseInt(q.Get(name), 10, 64)
	if err != nil || seconds < 0 || seconds > 1<<40 {
		return time.Time{}
	}
	if !q.Has("x-oss-date") {
		return time.Unix(seconds, 0)
	}
	from, err := time.Parse("20060102T150405Z", q.Get("x-oss-date"))
	if err != nil {
		return time.Time{}
	}
	return from.Add(time.Duration(min(seconds, maxLife)) * time.Second)
}
