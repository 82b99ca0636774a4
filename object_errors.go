package ossdl

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// What an answer can say of an object, as errors.
var (
	// ErrNotFound says that the bucket, object or version does not exist, or the version is a delete marker.
	ErrNotFound = errors.New("object not found")
	// ErrObjectChanged says that the object is not, or is no longer, the one that was asked for.
	ErrObjectChanged = errors.New("object changed")
	// ErrRange says that the range that was asked for is not within the object.
	ErrRange = errors.New("range outside the object")
	// ErrArchived says that the object must be restored before it can be read.
	ErrArchived = errors.New("object is archived")
	// ErrExpired says that the signed URL or the security token has expired.
	ErrExpired = errors.New("credentials expired")
)

// statusError is an answer whose status is not a success. It unwraps to the SDK's ServiceError, which holds the request ID,
// and to the error above that the status means.
type statusError struct {
	means      error // ErrNotFound and the like, or nil
	service    oss.ServiceError
	retryAfter time.Duration // what the server asked for; 0 for nothing
	date       time.Time     // the server's clock; zero if it was not sent
	location   string        // the host of a redirect
}

// newStatusError makes the error of an answer whose status is not a success. It keeps the service's message but not its raw
// text: for a signature error, that holds the string to sign, which has the token in it.
func newStatusError(status int, h http.Header, se oss.ServiceError) *statusError {
	e := &statusError{means: meaning(status, se.Code, se.Message), service: oss.ServiceError{
		Code: se.Code, Message: se.Message, RequestID: h.Get("x-oss-request-id"), HostID: se.HostID,
		Endpoint: se.Endpoint, Ec: se.Ec, StatusCode: status,
	}}
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

// meaning returns the error that a refusal stands for, or nil. Sources: OSS's page on error responses, and its pages on the
// statuses 403 and 404.
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

func (e *statusError) Unwrap() []error {
	if e.means == nil {
		return []error{e.service}
	}
	return []error{e.means, e.service}
}

// gone reports whether the object that was asked for does not exist, or no longer does.
func (e *statusError) gone() bool {
	switch e.means {
	case ErrNotFound, ErrRange, ErrObjectChanged:
		return true
	}
	return false
}

// temporary reports whether the same request may succeed later.
func (e *statusError) temporary() bool {
	switch code := e.service.StatusCode; code {
	case http.StatusNotImplemented:
		return false
	case http.StatusTooManyRequests, http.StatusRequestTimeout:
		return true
	case http.StatusBadRequest:
		// The connection was too slow for the server. The next one may not be.
		return e.service.Code == "RequestTimeout"
	default:
		return code >= 500
	}
}

// answerError is a success status whose answer is not what was asked for. Nothing of its body is used.
type answerError struct {
	asked request
	got   string
	size  int64 // of the object, if a range was answered with all of it; -1 otherwise
	origin
}

// mismatch makes the error of an answer that cannot be used.
func mismatch(asked request, from origin, format string, args ...any) *answerError {
	return &answerError{asked: asked, got: fmt.Sprintf(format, args...), size: -1, origin: from}
}

// oversized makes the error of a range that was answered with the whole object, which has size bytes.
func oversized(asked request, from origin, size int64) *answerError {
	return &answerError{asked: asked, got: fmt.Sprintf("200 with the whole object of %d bytes", size), size: size, origin: from}
}

func (e *answerError) Error() string {
	return fmt.Sprintf("asked for %v, got %s", e.asked, e.got) + e.suffix()
}

func (e *answerError) Unwrap() error { return e.service() }

// findingError is what an answer that is a success by itself means, given what else is known.
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

// permanentError is a failure that no further attempt can mend.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// expiredError says that a URL or key has expired. The source can make requests again once it has been renewed.
type expiredError struct{ err error }

func (e *expiredError) Error() string { return e.err.Error() }
func (e *expiredError) Unwrap() error { return e.err }

// networkError is a failure below HTTP. It replaces net/http's own error, which prints the URL: its query may be signed.
type networkError struct{ err error }

func (e *networkError) Error() string { return e.err.Error() }
func (e *networkError) Unwrap() error { return e.err }

// retryable reports whether another attempt can help. It is the only place that decides about retries; callers handle
// errors of the context and the disk first.
func retryable(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.temporary()
	}
	var cert *tls.CertificateVerificationError
	var host x509.HostnameError
	var proto tls.RecordHeaderError
	if errors.As(err, &cert) || errors.As(err, &host) || errors.As(err, &proto) {
		return false
	}
	var permanent *permanentError
	return !errors.As(err, &permanent)
}

// slowDown returns how long the server asked to wait, 0 if it did not, and whether it asked for fewer requests.
func slowDown(err error) (after time.Duration, slow bool) {
	var status *statusError
	if !errors.As(err, &status) {
		return 0, false
	}
	switch status.service.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		slow = true
	}
	return status.retryAfter, slow
}

// keyEnded reports whether an error code of OSS says that the temporary key of a request has ended. wasGood tells that the
// key is temporary, or was accepted before: then an unknown key ID, too, is one that has ended and not a wrong one.
func keyEnded(code string, wasGood bool) bool {
	switch code {
	case "SecurityTokenExpired", "InvalidSecurityToken", "AccessKeyIdAndSecurityTokenNotMatch":
		return true
	case "InvalidAccessKeyId":
		return wasGood
	}
	return false
}

// withoutURL removes the URL from an error of net/http or net/url, because its query may be signed. It also removes what
// these errors quote of an answer that is not HTTP: a server that echoes what it was sent would quote a signature.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return &networkError{withoutURL(u.Err)}
	}
	says, _, quotes := strings.Cut(err.Error(), `"`)
	if quotes && (strings.HasPrefix(says, "net/http: HTTP/1.x transport connection broken: ") ||
		strings.HasPrefix(says, "failed to parse Location header")) {
		return errors.New(strings.TrimRight(says, ": "))
	}
	return err
}

// serviceErrorOf reads the body of an error answer, for requests that the SDK did not make. It is empty if the body is no
// error document of OSS.
func serviceErrorOf(body []byte) (se oss.ServiceError) {
	if xml.Unmarshal(body, &se) != nil {
		return oss.ServiceError{}
	}
	return se
}
