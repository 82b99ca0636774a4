package object

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// TestElsewhere checks that a failure after which another endpoint is asked is retried at once, whatever it was, and stays what it
// was for callers.
func TestElsewhere(t *testing.T) {
	busy := NewStatusError(http.StatusServiceUnavailable, http.Header{"Retry-After": {"20"}}, oss.ServiceError{})
	unknown := &net.DNSError{IsNotFound: true}
	for name, err := range map[string]error{
		"503": busy, "certificate": &tls.CertificateVerificationError{Err: errors.New("unknown authority")}, "unknown host": unknown,
	} {
		there := &ElsewhereError{err}
		if after, slow := SlowDown(there); after != 0 || slow || !Retryable(there) || UnknownHost(there) || !LeadsElsewhere(there) {
			t.Errorf("%s: slow %t, after %v, retryable %t, unknown host %t", name, slow, after, Retryable(there), UnknownHost(there))
		}
		if !errors.Is(there, err) || there.Error() != err.Error() || LeadsElsewhere(err) {
			t.Errorf("%s: %v", name, there)
		}
	}
	if after, slow := SlowDown(busy); after == 0 || !slow {
		t.Errorf("a 503 asks to wait %v, slow %t", after, slow)
	}
}
