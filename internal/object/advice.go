package object

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// adviceOn returns what a refusal means to the caller and what to do about it, for messages; "" if its own text says so.
func adviceOn(status int, h http.Header, se oss.ServiceError) string {
	marker := strings.EqualFold(h.Get("x-oss-delete-marker"), "true")
	switch {
	case se.Endpoint != "":
		return fmt.Sprintf("the endpoint of the bucket is %q", se.Endpoint)
	case se.Code == "InvalidObjectState":
		return "it must be restored before it can be read"
	case se.Code == "NoSuchStyle":
		return "the bucket has no style with the name in x-oss-process"
	case marker && status == http.StatusMethodNotAllowed:
		return "this version is a delete marker, which has no content"
	case marker:
		return "the object was deleted; its earlier versions can be downloaded by their IDs"
	}
	return ""
}

// MarkUnsigned makes the refusal say that its request had no signature, if that may be the reason.
func (e *StatusError) MarkUnsigned(why string) {
	if e.advice == "" && (e.Status() == http.StatusForbidden || e.Status() == http.StatusUnauthorized) {
		e.advice = why
	}
}

// ExplainDial adds to the error of a connection to host that was not made why that may be, if the name of host says so.
func ExplainDial(err error, host string) error {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" && !UnknownHost(err) && strings.Contains(host, "-internal.") {
		return fmt.Errorf("%w; an internal endpoint can be reached only from within its region", err)
	}
	return err
}

// UnknownHost reports whether the name of a host does not exist, as far as DNS knows.
func UnknownHost(err error) bool {
	if LeadsElsewhere(err) { // another host is
		return false
	}
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}
