package object

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// What an answer can say about an object, as errors.
var (
	// ErrNotFound says that the bucket, object or version does not exist, or the version is a delete marker.
	ErrNotFound = errors.New("object not found")
	// ErrObjectChanged says that the object is not the one that was asked for, or no longer is.
	ErrObjectChanged = errors.New("object changed")
	// ErrRange says that the range that was asked for is not within the object.
	ErrRange = errors.New("range outside the object")
	// ErrArchived says that the object must be restored before it can be read.
	ErrArchived = errors.New("object is archived")
	// ErrExpired says that the signed URL or the security token has expired.
	ErrExpired = errors.New("credentials expired")
)

// StatusError is an answer whose status is not a success. It unwraps to the SDK's ServiceError, which holds the request ID,
// and to what it means.
type StatusError struct {
	means      error // ErrNotFound and the like, or nil
	service    oss.ServiceError
	retryAfter time.Duration // what the server asked for; 0: nothing
	date       time.Time     // the server's clock; zero: it was not sent
	location   string        // the host of a redirect; "": it is none
	advice     string        // see adviceOn
}

// NewStatusError makes the error of an answer whose status is not a success. It keeps the service's message but not its raw
// text: for a signature error, that holds the string to sign, which has the token in it.
func NewStatusError(status int, h http.Header, se oss.ServiceError) *StatusError {
	e := &StatusError{means: meaning(status, se.Code, se.Message), advice: adviceOn(status, h, se), service: oss.ServiceError{
		Code: se.Code, Message: se.Message, RequestID: h.Get("x-oss-request-id"), HostID: se.HostID,
		Endpoint: se.Endpoint, Ec: se.Ec, StatusCode: status,
	}}
	if t, err := http.ParseTime(h.Get("Date")); err == nil {
		e.date = t
	}
	e.retryAfter = retryAfter(h.Get("Retry-After"), e.date)
	if status/100 == 3 && status != http.StatusNotModified {
		if u, err := url.Parse(h.Get("Location")); err == nil {
			e.location = OrNone(u.Host)
		}
	}
	return e
}

// retryAfter reads the header of that name: seconds, or a date by the server's clock, which is date unless that is zero.
func retryAfter(v string, date time.Time) time.Duration {
	if s, err := strconv.ParseInt(v, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) { // then s is the nearest one
		return time.Duration(max(0, min(s, 1<<20))) * time.Second
	}
	t, err := http.ParseTime(v)
	switch {
	case err != nil:
		return 0
	case date.IsZero():
		return max(0, time.Until(t))
	}
	return max(0, t.Sub(date))
}

// meaning returns the error that a refusal means, or nil. Sources: OSS's page on error responses, and its pages on the
// statuses 403 and 404.
func meaning(status int, code, message string) error {
	switch {
	case code == "NoSuchStyle": // with 404: the object may be there
		return nil
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

func (e *StatusError) Error() string {
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
	if e.advice != "" {
		fmt.Fprintf(&b, "; %s", e.advice)
	}
	return b.String()
}

func (e *StatusError) Unwrap() []error {
	if e.means == nil {
		return []error{e.service}
	}
	return []error{e.means, e.service}
}

// Status returns the status of the answer.
func (e *StatusError) Status() int { return e.service.StatusCode }

// RequestID returns the ID that OSS gave the request, or "".
func (e *StatusError) RequestID() string { return e.service.RequestID }

// Means returns ErrNotFound or another of the errors above, or nil if the answer means none of them.
func (e *StatusError) Means() error { return e.means }

// Gone reports whether the object that was asked for does not exist, or no longer does.
func (e *StatusError) Gone() bool {
	switch e.means {
	case ErrNotFound, ErrRange, ErrObjectChanged:
		return true
	}
	return false
}

// KeyEnded reports whether the server refused the request because its temporary key has ended. wasGood says that the key is
// temporary, or was accepted before: then an unknown key ID, too, is that of a key that has ended, and not a wrong one.
func (e *StatusError) KeyEnded(wasGood bool) bool {
	switch e.service.Code {
	case "SecurityTokenExpired", "InvalidSecurityToken", "AccessKeyIdAndSecurityTokenNotMatch":
		return true
	case "InvalidAccessKeyId":
		return wasGood
	}
	return false
}

// MarkExpired makes the refusal mean ErrExpired, for a source that knows that its key has ended.
func (e *StatusError) MarkExpired() { e.means = ErrExpired }

// Skewed reports whether the server refused the request because its date is too far from the server's clock, and returns
// that clock. It is zero if the server did not send it.
func (e *StatusError) Skewed() (serverClock time.Time, skewed bool) {
	return e.date, e.service.Code == "RequestTimeTooSkewed"
}

// temporary reports whether the same request may succeed later.
func (e *StatusError) temporary() bool {
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

// MismatchError is a success status whose answer is not what was asked for. Nothing of its body is used.
type MismatchError struct {
	asked Request
	got   string
	whole *Facts // a range was answered with the whole object, of which the answer says this; nil: it was not
	Origin
}

// Mismatch makes the error of an answer that cannot be used.
func Mismatch(asked Request, from Origin, format string, args ...any) *MismatchError {
	return &MismatchError{asked: asked, got: fmt.Sprintf(format, args...), Origin: from}
}

// wholeInstead makes the error of a range that was answered with the whole object.
func wholeInstead(asked Request, f Facts) *MismatchError {
	e := Mismatch(asked, f.Origin, "the whole object, %s", f.SizeText())
	e.whole = &f
	return e
}

// Whole reports whether a range was answered with the whole object, and returns what the answer says of the object.
func (e *MismatchError) Whole() (f Facts, whole bool) {
	if e.whole == nil {
		return Facts{}, false
	}
	return *e.whole, true
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("asked for %v, got %s", e.asked, e.got) + e.suffix()
}

func (e *MismatchError) Unwrap() error { return e.service() }

// FindingError says what an answer means that is a success by itself, given what else is known.
type FindingError struct {
	Means error // such as ErrObjectChanged
	Why   string
	Cause error // that Why is the text of; nil: none
	Origin
}

func (e *FindingError) Error() string { return fmt.Sprintf("%v: %s", e.Means, e.Why) + e.suffix() }

func (e *FindingError) Unwrap() []error {
	all := []error{e.Means}
	if e.Cause != nil {
		all = append(all, e.Cause)
	}
	if service := e.service(); service != nil {
		all = append(all, service)
	}
	return all
}

// PermanentError is a failure that no further attempt can repair.
type PermanentError struct{ Err error }

func (e *PermanentError) Error() string { return e.Err.Error() }
func (e *PermanentError) Unwrap() error { return e.Err }

// ElsewhereError is a failure of one of several endpoints, after which the next request goes to another one. So another attempt can
// help, and need not wait for the server that has failed.
type ElsewhereError struct{ Err error }

func (e *ElsewhereError) Error() string { return e.Err.Error() }
func (e *ElsewhereError) Unwrap() error { return e.Err }

// ExpiredError says that the URL of a request has expired. The source can make requests again once it has a new one.
type ExpiredError struct{ Err error }

func (e *ExpiredError) Error() string { return e.Err.Error() }
func (e *ExpiredError) Unwrap() error { return e.Err }

// networkError is a failure below HTTP. It replaces net/http's own error, which prints the URL: its query may be signed.
type networkError struct{ err error }

func (e *networkError) Error() string { return e.err.Error() }
func (e *networkError) Unwrap() error { return e.err }

// NetworkFailed reports whether an error is a failure below HTTP.
func NetworkFailed(err error) bool {
	var network *networkError
	return errors.As(err, &network)
}

// LeadsElsewhere reports whether the next request goes to another endpoint than the one that has failed with err.
func LeadsElsewhere(err error) bool {
	var elsewhere *ElsewhereError
	return errors.As(err, &elsewhere)
}

// Retryable reports whether another attempt can help. It is the only place that decides about retries; callers handle
// errors of the context and the disk first.
func Retryable(err error) bool {
	if LeadsElsewhere(err) {
		return true
	}
	var status *StatusError
	if errors.As(err, &status) {
		return status.temporary()
	}
	var cert *tls.CertificateVerificationError
	var host x509.HostnameError
	var proto tls.RecordHeaderError
	if errors.As(err, &cert) || errors.As(err, &host) || errors.As(err, &proto) {
		return false
	}
	var permanent *PermanentError
	return !errors.As(err, &permanent)
}

// CrowdedOut reports whether an error is one with which a proxy or a router refuses one connection too many: no connection, one
// that ends without an answer, or a 403 that OSS did not send, since it has no request ID. It does not say that this is the
// reason.
func CrowdedOut(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.Status() == http.StatusForbidden && status.RequestID() == ""
	}
	var noHost *net.DNSError
	var network *net.OpError
	var timeout interface{ Timeout() bool }
	return !errors.As(err, &noHost) && Retryable(err) &&
		(errors.As(err, &network) || errors.Is(err, io.EOF) || errors.As(err, &timeout) && timeout.Timeout())
}

// Doubtful reports whether an error may be that of one address only, where a host has several: a final refusal, or an answer
// that is not what was asked for. OSS gives each answer of its own a request ID, and is believed at once.
func Doubtful(err error) bool {
	var status *StatusError
	if errors.As(err, &status) {
		return status.RequestID() == "" && !status.temporary()
	}
	var odd *MismatchError
	return errors.As(err, &odd) && odd.RequestID == "" && odd.whole == nil
}

// SlowDown returns how long the server asked to wait, or 0, and whether it asked for fewer requests.
func SlowDown(err error) (after time.Duration, slow bool) {
	var status *StatusError
	if !errors.As(err, &status) || LeadsElsewhere(err) {
		return 0, false
	}
	switch status.Status() {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		slow = true
	}
	return status.retryAfter, slow
}

// WithoutURL removes the URL from an error of net/http or net/url, because its query may be signed. It also removes what
// such an error quotes of an answer that is not HTTP: a server that echoes its requests would make it quote a signature.
func WithoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return &networkError{WithoutURL(u.Err)}
	}
	says, _, quotes := strings.Cut(err.Error(), `"`)
	if quotes && (strings.HasPrefix(says, "net/http: HTTP/1.x transport connection broken: ") ||
		strings.HasPrefix(says, "failed to parse Location header")) {
		return errors.New(strings.TrimRight(says, ": "))
	}
	return err
}

// ServiceErrorOf parses the body of an error answer, for requests that the SDK did not make. It returns an empty error if
// the body is no error document of OSS.
func ServiceErrorOf(body []byte) (se oss.ServiceError) {
	if xml.Unmarshal(body, &se) != nil {
		return oss.ServiceError{}
	}
	return se
}
