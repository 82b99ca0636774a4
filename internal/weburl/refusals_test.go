package weburl_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/bucket"
	"github.com/ossdl/ossdl/internal/harness/leaks"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/osstest"
	"github.com/ossdl/ossdl/internal/span"
	"github.com/ossdl/ossdl/internal/transport"
	"github.com/ossdl/ossdl/internal/weburl"
)

// FuzzErrorBody sends a refusal through the SDK and through a Source of this package. It checks that nothing that is kept of it
// holds a secret, whichever field of body or head echoed it, and that what a server asks for is bounded.
func FuzzErrorBody(f *testing.F) {
	const secret = "STS-TOKEN-AND-SIGNATURE"
	elements := []string{"StringToSign", "SignatureProvided", "Error", "Code", "Message", "HostId", "Endpoint", "EC", "RequestId", "message"}
	for i, status := range []int{304, 403, 404, 405, 412, 416, 429, 500, 503, 506, 99} {
		f.Add(status, "SecurityTokenExpired", "The security token has expired.", elements[i%len(elements)], "", "10")
	}
	f.Add(403, "SignatureDoesNotMatch", "Request has expired.", "SignatureProvided", "<Error><Message>", "Fri, 24 Feb 2012 06:07:48 GMT")
	f.Add(403, "", "", "Error", "</Error>", "-1")
	f.Add(403, secret, "a "+secret, "Ec", secret, secret)
	f.Add(302, "&lt;", "]]>", "Message", "\x00", "99999999999999999999")
	var reply func() *http.Response
	hc := transport.WithRedirectRules(&http.Client{
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if trace := httptrace.ContextClientTrace(r.Context()); trace != nil { // as net/http's transport does
				for name, values := range r.Header {
					trace.WroteHeaderField(name, values)
				}
			}
			return reply(), nil
		}),
	})
	client, err := oss.New("http://service.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(hc), oss.SecurityToken(secret))
	if err != nil {
		f.Fatal(err)
	}
	b, err := bucket.New(f.Context(), client, "bkt", bucket.Extra{})
	if err != nil {
		f.Fatal(err)
	}
	src, err := b.Object("k")
	if err != nil {
		f.Fatal(err)
	}
	signed, err := weburl.Parse("http://service.test/k?OSSAccessKeyId=" + osstest.AccessKeyID + "&Expires=32503680000&Signature=" + secret)
	if err != nil {
		f.Fatal(err)
	}
	byURL := weburl.NewSource(hc, "agent", signed, nil, nil)
	f.Fuzz(func(t *testing.T, status int, code, message, element, rest, retryAfter string) {
		if status/100 == 2 || status < 0 {
			t.Skip("no refusal")
		}
		if element == "" || strings.Trim(strings.ToLower(element), "abcdefghijklmnopqrstuvwxyz") != "" {
			t.Skip("no name of an element")
		}
		var body bytes.Buffer
		body.WriteString("<Error>")
		for _, field := range [][2]string{{"Code", code}, {"Message", message}} {
			body.WriteString("<" + field[0] + ">")
			if err := xml.EscapeText(&body, []byte(field[1])); err != nil {
				t.Fatal(err)
			}
			body.WriteString("</" + field[0] + ">")
		}
		fmt.Fprintf(&body, "<%s>%s</%[1]s>%s</Error>", element, secret, rest)
		reply = func() *http.Response {
			return &http.Response{StatusCode: status, Status: secret, Body: io.NopCloser(bytes.NewReader(body.Bytes())), Header: http.Header{
				"Retry-After": {retryAfter}, "Location": {"http://" + secret + ".test/?" + secret}, "X-Oss-Request-Id": {"id " + secret}, "X-Oss-Ec": {secret},
				"Content-Type": {secret}, "Etag": {secret}, "Date": {secret},
			}}
		}
		for _, from := range []interface {
			Get(context.Context, object.Request) (*object.Answer, error)
		}{src, byURL} {
			_, err := from.Get(t.Context(), object.Request{Span: span.Span{Off: 0, End: 1}, Resent: new(atomic.Int64)})
			leaks.NoSecret(t, err, secret)
			var refused *object.StatusError
			if !errors.As(err, &refused) {
				continue // net/http did not take the answer
			}
			var service oss.ServiceError
			if !errors.As(err, &service) || service.RawMessage != "" || service.StatusCode != status || refused.Status() != status {
				t.Errorf("status %d: %#v", status, service)
			}
			if after, slow := object.SlowDown(err); after < 0 || slow != (status == 429 || status == 503) {
				t.Errorf("status %d, retry after %v, slow %t", status, after, slow)
			}
			if object.Retryable(err) && status < 500 && status != 408 && status != 429 && service.Code != "RequestTimeout" {
				t.Errorf("status %d %s would be tried again", status, service.Code)
			}
			if errors.Is(err, object.ErrNotFound) != (status == 404 || status == 405) {
				t.Errorf("status %d means %v", status, refused.Means())
			}
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (fn roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return fn(r) }
