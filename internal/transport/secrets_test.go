package transport

import (
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"testing"
)

// TestSecrets checks that each part of a request that grants access is hidden, both as it was sent and as a URL escapes it,
// the longest first. Short words and public values stay.
func TestSecrets(t *testing.T) {
	sent := func(authorization string) http.Header {
		return http.Header{
			"Authorization": {authorization}, "X-Oss-Security-Token": {"token-of-an-hour"}, "User-Agent": {"a-user-agent/1.0"},
		}
	}
	own := func(authorization string) *Secrets { // sent by a Transport
		s := new(Secrets)
		r := httptest.NewRequestWithContext(s.Watch(t.Context(), NewClient(1)), http.MethodGet, "http://service.test/", nil)
		r.Header = sent(authorization)
		learn(r)
		return s
	}
	headers := func(authorization string) *Secrets { // sent by another transport
		s := new(Secrets)
		trace := httptrace.ContextClientTrace(s.Watch(t.Context(), http.DefaultClient))
		for name, values := range sent(authorization) {
			trace.WroteHeaderField(name, values)
		}
		return s
	}
	query := func(q string, signed bool) *Secrets {
		s := new(Secrets)
		s.AddQuery(q, signed)
		return s
	}
	for _, c := range []struct {
		name, text, want string
		s                *Secrets
	}{
		{"V1", "LTAI5tKeyKey abc+def/ghi= abc%2Bdef%2Fghi%3D LTAI5tKeyKey:abc+def/ghi= token-of-an-hour a-user-agent/1.0", "*** *** *** ***:*** *** a-user-agent/1.0",
			headers("OSS LTAI5tKeyKey:abc+def/ghi=")},
		{"V1, by a Transport", "LTAI5tKeyKey abc+def/ghi= abc%2Bdef%2Fghi%3D LTAI5tKeyKey:abc+def/ghi= token-of-an-hour a-user-agent/1.0", "*** *** *** ***:*** *** a-user-agent/1.0",
			own("OSS LTAI5tKeyKey:abc+def/ghi=")},
		{"V4", "LTAI5tKeyKey LTAI5tKeyKey/20260101/cn-hangzhou/oss/aliyun_v4_request 0123456789abcdef cn-hangzhou", "*** *** *** cn-hangzhou",
			headers("OSS4-HMAC-SHA256 Credential=LTAI5tKeyKey/20260101/cn-hangzhou/oss/aliyun_v4_request,AdditionalHeaders=cn-hangzhou,Signature=0123456789abcdef")},
		{"short words", "id and ab", "id and ab", headers("OSS id:ab")},
		{"signed URL", "Expires=1700000000 1700000000 abc+def/ghi= abc%2Bdef%2Fghi%3D LTAI5tKeyKey CAEQversion", "*** *** *** *** *** CAEQversion",
			query("OSSAccessKeyId=LTAI5tKeyKey&Expires=1700000000&Signature=abc%2Bdef%2Fghi%3D&versionId=CAEQversion", true)},
		{"credential of V4", "LTAI5tKeyKey LTAI5tKeyKey/20260101/oss", "*** ***", query("x-oss-credential=LTAI5tKeyKey%2F20260101%2Foss", true)},
		{"another service's URL", "0123456789abcdef 5d41402abc4b2a76 v=5d41402abc4b2a76", "*** 5d41402abc4b2a76 ***",
			query("X-Amz-Signature=0123456789abcdef&v=5d41402abc4b2a76", false)},
		{"no query", "anything", "anything", query("", false)},
	} {
		if got := c.s.hide(c.text); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
