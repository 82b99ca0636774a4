package ossdl

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// answer is what came back for a request.
type answer struct {
	facts
	span                // the bytes the body holds, in the object
	partial bool        // a 206
	header  http.Header // as received
	body    io.ReadCloser
}

// facts are what an answer says of the object. They are what a run is pinned to.
type facts struct {
	size         int64
	etag         string // as received, quotes included; "" where there was none
	versionID    string
	crc          uint64
	hasCRC       bool
	lastModified time.Time
	symlink      bool // the headers may be the link's, not the target's
	origin
}

// origin names the answer that something was learnt from.
type origin struct {
	status    int
	requestID string
}

// suffix is what a message says of it.
func (o origin) suffix() string {
	if o.requestID == "" {
		return ""
	}
	return ", request ID " + o.requestID
}

// service is what errors.As finds of it; nil where the service gave no request ID.
func (o origin) service() error {
	if o.requestID == "" {
		return nil
	}
	return oss.ServiceError{StatusCode: o.status, RequestID: o.requestID}
}

// strong reports whether the ETag identifies bytes: If-Match may be sent for it. OSS calls the ETag of a folder object
// of a hierarchical bucket "null".
func (f facts) strong() bool {
	return len(f.etag) > 2 && f.etag[0] == '"' && f.etag[len(f.etag)-1] == '"' && f.etag != `"null"`
}

// nameless reports whether nothing identifies the object: OSS sends all three, and where it leaves out ETag or CRC-64 the
// time is still there.
func (f facts) nameless() bool { return f.etag == "" && !f.hasCRC && f.lastModified.IsZero() }

// differs says how the object of another answer is not this one, or "".
func (f facts) differs(g facts) string {
	switch {
	case f.size != g.size:
		return fmt.Sprintf("size %d, was %d", g.size, f.size)
	case f.etag != g.etag:
		return fmt.Sprintf("ETag %s, was %s", orNone(g.etag), orNone(f.etag))
	case f.versionID != "" && g.versionID != "" && f.versionID != g.versionID && !f.strong():
		return fmt.Sprintf("version %s, was %s", g.versionID, f.versionID)
	case f.hasCRC && g.hasCRC && f.crc != g.crc:
		return fmt.Sprintf("CRC-64 %d, was %d", g.crc, f.crc)
	case !f.strong() && !f.lastModified.Equal(g.lastModified):
		return fmt.Sprintf("Last-Modified %v, was %v", g.lastModified, f.lastModified)
	}
	return ""
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// statusError is an answer with a status that is no success. It unwraps to the SDK's ServiceError, which holds the
// request ID, and to the error of this package that the status means.
type statusError struct {
	means      error // ErrNotFound and the like, or nil
	service    oss.ServiceError
	retryAfter time.Duration // what the server asked for; 0: nothing
	date       time.Time     // the server's clock
	location   string        // host of a redirect
}

func (e *statusError) Error() string {
	var b strings.Builder
	if e.means != nil {
		fmt.Fprintf(&b, "%v: ", e.means)
	}
	fmt.Fprintf(&b, "the server answered %d", e.service.StatusCode)
	if e.service.Code != "" {
		fmt.Fprintf(&b, " %s", e.service.Code)
	}
	if e.service.Message != "" {
		fmt.Fprintf(&b, ", %q", e.service.Message)
	}
	if e.location != "" {
		fmt.Fprintf(&b, ", a redirect to %s that is not followed", e.location)
	}
	if e.service.RequestID != "" {
		fmt.Fprintf(&b, ", request ID %s", e.service.RequestID)
	}
	if e.service.Ec != "" {
		fmt.Fprintf(&b, ", EC %s", e.service.Ec)
	}
	return b.String()
}

// gone reports whether the object that was asked for is not there, or not any more.
func (e *statusError) gone() bool {
	switch e.means {
	case ErrNotFound, ErrRange, ErrObjectChanged:
		return true
	}
	return false
}

func (e *statusError) Unwrap() []error {
	if e.means == nil {
		return []error{e.service}
	}
	return []error{e.means, e.service}
}

// answerError is a success status with an answer that is not what was asked for. Nothing of its body is used.
type answerError struct {
	asked request
	got   string
	size  int64 // of the whole object, where a 200 was the answer to a range; -1 otherwise
	origin
}

func (e *answerError) Error() string {
	return fmt.Sprintf("asked for %v, got %s", e.asked, e.got) + e.suffix()
}

func (e *answerError) Unwrap() error { return e.service() }

// findingError is what an answer, a success by itself, means beside what else is known.
type findingError struct {
	means error // ErrObjectChanged and the like
	why   string
	origin
}

func (e *findingError) Error() string { return fmt.Sprintf("%v: %s", e.means, e.why) + e.suffix() }

func (e *findingError) Unwrap() []error {
	if service := e.service(); service != nil {
		return []error{e.means, service}
	}
	return []error{e.means}
}

// networkError is a failure below HTTP. It exists to drop the URL, whose query may be signed, from what net/http says.
type networkError struct{ err error }

func (e *networkError) Error() string { return e.err.Error() }
func (e *networkError) Unwrap() error { return e.err }

// readAnswer judges the status and headers of an answer to r. In a 200 to a range that starts at 0 the body is the whole
// object; at any other offset it is refused.
func readAnswer(r request, status int, h http.Header, fromOSS bool) (*answer, error) {
	a := &answer{facts: readFacts(h), header: h}
	a.status = status
	bad := func(size int64, format string, args ...any) (*answer, error) {
		return nil, &answerError{asked: r, got: fmt.Sprintf(format, args...), size: size, origin: a.origin}
	}
	length, hasLength := contentLength(h)
	// A stored Content-Encoding is the object's metadata and comes with ETag and length; a body compressed on the way lacks
	// one of them, and its bytes are not the object's.
	if enc := h.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") && (a.etag == "" || !hasLength) {
		return bad(-1, "a body compressed on the way (Content-Encoding %q)", enc)
	}
	if fromOSS && (a.requestID == "" || a.nameless()) {
		return bad(-1, "%d with request ID %s, ETag %s (%s): not an object of OSS", status, orNone(a.requestID), orNone(a.etag), orNone(h.Get("Content-Type")))
	}
	switch {
	case status == http.StatusPartialContent && !r.whole:
		field := strings.Join(h.Values("Content-Range"), ", ") // two of them say nothing, as two in one
		got, total, ok := parseContentRange(field)
		if !ok {
			return bad(-1, "206 with Content-Range %q", field)
		}
		if want := (span{r.off, min(r.end, total)}); got != want {
			return bad(-1, "206 with bytes %d-%d of %d", got.off, got.end-1, total)
		}
		if hasLength && length != got.len() {
			return bad(-1, "206 with bytes %d-%d and a Content-Length of %d", got.off, got.end-1, length)
		}
		a.span, a.size, a.partial = got, total, true
		return a, nil
	case status == http.StatusOK:
		if !hasLength {
			return bad(-1, "200 without Content-Length")
		}
		if v := h.Get("Content-Range"); v != "" {
			return bad(-1, "200 with Content-Range %q", v)
		}
		if r.off != 0 {
			return bad(length, "200 with the whole object of %d bytes", length)
		}
		a.span, a.size = span{0, length}, length
		return a, nil
	}
	return bad(-1, "status %d", status)
}

func readFacts(h http.Header) facts {
	f := facts{
		etag:      h.Get("Etag"),
		versionID: h.Get("X-Oss-Version-Id"), // as net/http spells them: it would make each name anew otherwise
		symlink:   strings.EqualFold(h.Get("X-Oss-Object-Type"), "Symlink"),
		origin:    origin{requestID: h.Get("X-Oss-Request-Id")},
	}
	if v, err := strconv.ParseUint(h.Get("X-Oss-Hash-Crc64ecma"), 10, 64); err == nil {
		f.crc, f.hasCRC = v, true
	}
	if t, err := http.ParseTime(h.Get("Last-Modified")); err == nil {
		f.lastModified = t
	}
	return f
}

func contentLength(h http.Header) (int64, bool) {
	v := h.Get("Content-Length")
	n, err := strconv.ParseInt(v, 10, 64)
	return n, err == nil && n >= 0 && v[0] != '+'
}

// parseContentRange reads "bytes a-b/total"; anything that does not name all three, consistently, is refused.
func parseContentRange(v string) (got span, total int64, ok bool) {
	rest, ok := strings.CutPrefix(v, "bytes ")
	if !ok {
		return span{}, 0, false
	}
	ends, size, ok := strings.Cut(rest, "/")
	if !ok {
		return span{}, 0, false
	}
	first, last, ok := strings.Cut(ends, "-")
	if !ok {
		return span{}, 0, false
	}
	var n [3]int64
	for i, s := range []string{first, last, size} {
		if s == "" || strings.Trim(s, "0123456789") != "" {
			return span{}, 0, false
		}
		var err error
		if n[i], err = strconv.ParseInt(s, 10, 64); err != nil {
			return span{}, 0, false
		}
	}
	if n[0] > n[1] || n[1] >= n[2] {
		return span{}, 0, false
	}
	return span{n[0], n[1] + 1}, n[2], true
}

// newStatusError makes the error of an answer that is no success. The service's own message is kept, its raw text is not:
// that of a signature error holds the string to sign, with the token.
func newStatusError(status int, h http.Header, se oss.ServiceError) *statusError {
	e := &statusError{service: oss.ServiceError{
		Code: se.Code, Message: se.Message, RequestID: h.Get("x-oss-request-id"), HostID: se.HostID,
		Endpoint: se.Endpoint, Ec: se.Ec, StatusCode: status,
	}}
	e.means = meaning(status, se.Code, se.Message)
	if s, err := strconv.Atoi(h.Get("Retry-After")); err == nil && s > 0 {
		e.retryAfter = time.Duration(min(s, 1<<20)) * time.Second
	} else if t, err := http.ParseTime(h.Get("Retry-After")); err == nil {
		e.retryAfter = max(0, time.Until(t))
	}
	if t, err := http.ParseTime(h.Get("Date")); err == nil {
		e.date = t
	}
	if status/100 == 3 && status != http.StatusNotModified {
		if u, err := url.Parse(h.Get("Location")); err == nil {
			e.location = orNone(u.Host)
		}
	}
	return e
}

// meaning is the error of this package that a refusal stands for; sources: OSS's page on error responses and its pages
// on the statuses 403 and 404.
func meaning(status int, code, message string) error {
	switch {
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		// 405 is the answer to the version ID of a delete marker.
		return ErrNotFound
	case status == http.StatusPreconditionFailed:
		return ErrObjectChanged
	case status == http.StatusRequestedRangeNotSatisfiable:
		return ErrRange
	case code == "InvalidObjectState":
		return ErrArchived
	case code == "SecurityTokenExpired", status == http.StatusForbidden && strings.Contains(strings.ToLower(message), "request has expired"):
		return ErrExpired
	}
	return nil
}

// retryable is the one predicate that decides whether another attempt can help. The context and the disk are not its
// business: their errors end the run before it is asked.
func retryable(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		switch code := status.service.StatusCode; {
		case code >= 500 && code != http.StatusNotImplemented,
			code == http.StatusTooManyRequests,
			code == http.StatusRequestTimeout:
			return true
		case code == http.StatusBadRequest:
			// The connection was too slow for the server; the bytes that follow may not be.
			return status.service.Code == "RequestTimeout"
		}
		return false
	}
	var cert *tls.CertificateVerificationError
	var host x509.HostnameError
	var proto tls.RecordHeaderError
	if errors.As(err, &cert) || errors.As(err, &host) || errors.As(err, &proto) {
		return false
	}
	var refused *permanentError
	return !errors.As(err, &refused)
}

// slowDown reports whether the server asked for fewer requests, and after how long.
func slowDown(err error) (after time.Duration, ok bool) {
	var status *statusError
	if !errors.As(err, &status) {
		return 0, false
	}
	switch status.service.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return status.retryAfter, true
	}
	return status.retryAfter, false
}

// permanentError is a failure that no other attempt can mend.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }
