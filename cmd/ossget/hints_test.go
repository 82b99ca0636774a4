package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestHints checks that a message names the flag or the variable that helps.
func TestHints(t *testing.T) {
	answer := func(status int, code, message, endpoint string) error {
		return oss.ServiceError{StatusCode: status, Code: code, Message: message, Endpoint: endpoint}
	}
	bucket, url := circumstances{endpointBy: "OSS_ENDPOINT"}, circumstances{url: true}
	for _, c := range []struct {
		name  string
		about circumstances
		err   error
		want  string // "": no hint
	}{
		{"no such host", bucket, &net.DNSError{Err: "no such host", IsNotFound: true}, "check the name in OSS_ENDPOINT"},
		{"no such host in a URL", url, &net.DNSError{Err: "no such host", IsNotFound: true}, "check the name in the URL"},
		{"DNS is down", bucket, &net.DNSError{Err: "server misbehaving"}, ""},
		{"proxy", bucket, &net.OpError{Op: "proxyconnect", Err: errors.New("connection refused")}, "HTTPS_PROXY"},
		{"name of the proxy", bucket, &net.OpError{Op: "proxyconnect", Err: &net.DNSError{IsNotFound: true}}, "HTTPS_PROXY"},
		{"proxy with a password", url, answer(407, "", "", ""), "HTTP_PROXY=http://USER:PASSWORD@HOST:PORT"},
		{"connection refused", bucket, &net.OpError{Op: "dial", Err: errors.New("connection refused")}, ""},
		{"authority", bucket, &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, "--ca FILE"},
		{"certificate", url, &tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}}}, "check the name in the URL"},
		{"another region", bucket, answer(403, "AccessDenied", "", "oss-cn-beijing.aliyuncs.com"), "--endpoint https://oss-cn-beijing.aliyuncs.com"},
		{"an endpoint that is none", bucket, answer(403, "AccessDenied", "", "a b; rm -rf"), ""},
		{"region of the signature", bucket, answer(400, "InvalidArgument", "Invalid signing region in Authorization header.", ""), "OSS_REGION"},
		{"secret", bucket, answer(403, "SignatureDoesNotMatch", "", ""), "OSS_ACCESS_KEY_SECRET"},
		{"key ID", bucket, answer(403, "InvalidAccessKeyId", "", ""), "OSS_ACCESS_KEY_ID"},
		{"unsigned", circumstances{unsigned: true}, answer(403, "AccessDenied", "", ""), "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET, or give --credentials"},
		{"unsigned by choice", circumstances{unsigned: true, chosen: true}, answer(403, "AccessDenied", "", ""), "--credentials none"},
		{"archived", bucket, ossdl.ErrArchived, "--restore DAYS restores it first"},
		{"archived, of several", circumstances{several: true}, ossdl.ErrArchived, "for it alone"},
		{"signed", bucket, answer(403, "AccessDenied", "", ""), ""},
		{"URL", url, answer(401, "", "", ""), "--header-file"},
		{"URL with a token", circumstances{url: true, headers: true}, answer(401, "", "", ""), ""},
		{"not there", circumstances{unsigned: true}, errors.Join(ossdl.ErrNotFound, answer(404, "NoSuchKey", "", "")), ""},
		{"in use", bucket, ossdl.ErrInUse, "run it again"},
		{"archived", bucket, errors.Join(ossdl.ErrArchived, answer(403, "InvalidObjectState", "", "")), "--restore DAYS"},
		{"expired URL", url, ossdl.ErrExpired, "new URL"},
		{"expired token", circumstances{token: true}, ossdl.ErrExpired, "OSS_SESSION_TOKEN"},
		{"usage", bucket, usageError{&net.DNSError{IsNotFound: true}}, ""},
		{"nothing", bucket, nil, ""},
	} {
		o := outcome{err: c.err, about: c.about}
		if c.err != nil {
			o.err = fmt.Errorf("oss://b/k: %w", c.err)
		}
		if got := o.hint(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestHintsOnTheWire checks messages as they are printed, for one object and for a prefix.
func TestHintsOnTheWire(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("far", osstest.Elsewhere("oss-cn-beijing.aliyuncs.com"))
	s.Put("far", "key", osstest.Random(1, 1000))
	s.Put("bucket", "key", osstest.Random(1, 1000))
	s.Put("bucket", "p/frozen", osstest.Random(1, 1000), osstest.Archived(""))
	for name, c := range map[string]struct {
		change env
		args   []string
		want   string
	}{
		"another region":  {nil, []string{"oss://far/key"}, "; give --endpoint https://oss-cn-beijing.aliyuncs.com, or set OSS_ENDPOINT to it\n"},
		"prefix":          {nil, []string{"-recursive", "oss://far/"}, "--endpoint https://oss-cn-beijing.aliyuncs.com"},
		"no keys":         {env{"OSS_ACCESS_KEY_ID": "", "OSS_ACCESS_KEY_SECRET": ""}, []string{"oss://bucket/key"}, "was not signed; set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"},
		"ls without keys": {env{"OSS_ACCESS_KEY_ID": "", "OSS_ACCESS_KEY_SECRET": ""}, []string{"ls", "oss://bucket/"}, "set OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"},
		"wrong region":    {env{"OSS_REGION": "cn-wuhan"}, []string{"oss://bucket/key"}, "OSS_REGION is not that of the bucket"},
		"archived":        {nil, []string{"-recursive", "oss://bucket/p/"}, "--restore DAYS restores it first"},
	} {
		e := envOf(s)
		for k, v := range c.change {
			e[k] = v
		}
		args := c.args
		if args[0] != "ls" {
			args = append(args, filepath.Join(t.TempDir(), "dest"))
		}
		if r := runHere(t.Context(), e, args...); r.exit != exitHopeless || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%s: %+v, want %q", name, r, c.want)
		}
	}
}
