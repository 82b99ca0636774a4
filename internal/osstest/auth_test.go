package osstest_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/osstest"
)

func TestRefused(t *testing.T) {
	s := publicServer(t)
	soon, past := time.Now().Add(time.Hour), time.Now().Add(-time.Second)
	s.AddToken("STS.a", "tsk", "token-good", soon)
	s.AddToken("STS.a", "tsk", "token-old", past)
	s.AddUser("novers", "sk", osstest.WithoutGetObjectVersion())
	s.AddUser("stranger", "sk", osstest.Stranger())
	s.CreateBucket("payers", osstest.RequesterPays(), osstest.PublicRead())
	s.CreateBucket("far", osstest.Elsewhere("oss-cn-beijing.aliyuncs.com"))
	s.CreateBucket("others", osstest.NotYours())
	for _, b := range []string{"payers", "far", "others"} {
		s.Put(b, "k", osstest.Random(1, 10))
	}
	v4 := oss.AuthVersion(oss.AuthV4)
	ak, sk := osstest.AccessKeyID, osstest.AccessKeySecret
	for _, c := range []struct {
		name   string
		ak, sk string
		token  string
		opts   []oss.ClientOption
		bucket string
		get    []oss.Option
		status int // 0: no error
		code   string
		text   string // in the document
	}{
		{"good", ak, sk, "", nil, "bkt", nil, 0, "", ""},
		{"wrong secret", ak, "x", "", nil, "bkt", nil, 403, "SignatureDoesNotMatch", "<StringToSign>GET\n"},
		{"wrong secret, V4", ak, "x", "", []oss.ClientOption{v4}, "bkt", nil, 403, "SignatureDoesNotMatch", "<SignatureProvided>"},
		{"V2", ak, sk, "", []oss.ClientOption{oss.AuthVersion(oss.AuthV2)}, "bkt", nil, 400, "InvalidArgument", ""},
		{"unknown key", "nobody", sk, "", nil, "bkt", nil, 403, "InvalidAccessKeyId", ""},
		{"region", ak, sk, "", []oss.ClientOption{v4, oss.Region("cn-beijing")}, "bkt", nil, 400, "InvalidArgument", "region"},
		{"token", "STS.a", "tsk", "token-good", nil, "bkt", nil, 0, "", ""},
		{"token, V4", "STS.a", "tsk", "token-good", []oss.ClientOption{v4}, "bkt", nil, 0, "", ""},
		{"token, wrong secret", "STS.a", "x", "token-good", nil, "bkt", nil, 403, "SignatureDoesNotMatch", "token-good"},
		{"token, wrong secret, V4", "STS.a", "x", "token-good", []oss.ClientOption{v4}, "bkt", nil, 403, "SignatureDoesNotMatch", "token-good"},
		{"token old", "STS.a", "tsk", "token-old", nil, "bkt", nil, 403, "SecurityTokenExpired", ""},
		{"token unknown", "STS.a", "tsk", "token-none", nil, "bkt", nil, 403, "InvalidSecurityToken", ""},
		{"token of another", ak, sk, "token-good", nil, "bkt", nil, 403, "AccessKeyIdAndSecurityTokenNotMatch", ""},
		{"no token", "STS.a", "tsk", "", nil, "bkt", nil, 403, "InvalidAccessKeyId", ""},
		{"no bucket", ak, sk, "", nil, "none", nil, 404, "NoSuchBucket", "<BucketName>none"},
		{"no version right, none asked", "novers", "sk", "", nil, "bkt", nil, 0, "", ""},
		{"no version right", "novers", "sk", "", nil, "bkt", []oss.Option{oss.VersionId("null")}, 403, "AccessDenied", "GetObjectVersion"},
		{"payer missing", "stranger", "sk", "", nil, "payers", nil, 403, "AccessDenied", "requester pay"},
		{"payer", "stranger", "sk", "", nil, "payers", []oss.Option{oss.RequestPayer(oss.Requester)}, 0, "", ""},
		{"payer in query", "stranger", "sk", "", []oss.ClientOption{v4}, "payers", []oss.Option{oss.RequestPayerParam(oss.Requester)}, 0, "", ""},
		{"owner pays", ak, sk, "", nil, "payers", nil, 0, "", ""},
		{"elsewhere", ak, sk, "", nil, "far", nil, 403, "AccessDenied", "<Endpoint>oss-cn-beijing.aliyuncs.com"},
		{"not yours", ak, sk, "", nil, "others", nil, 403, "AccessDenied", ""},
		{"sub-resource", ak, sk, "", nil, "bkt", []oss.Option{oss.AddParam("acl", "")}, 501, "NotImplemented", "acl"},
	} {
		t.Run(c.name, func(t *testing.T) {
			opts := c.opts
			if c.token != "" {
				opts = append(opts, oss.SecurityToken(c.token))
			}
			client, err := s.ClientFor(c.ak, c.sk, opts...)
			if err != nil {
				t.Fatal(err)
			}
			b, err := client.Bucket(c.bucket)
			if err != nil {
				t.Fatal(err)
			}
			rd, err := b.GetObject("k", c.get...)
			if c.status == 0 {
				if err != nil {
					t.Fatal(err)
				}
				rd.Close()
				return
			}
			var se oss.ServiceError
			if !isCode(err, c.status, c.code) || !errors.As(err, &se) || !strings.Contains(se.RawMessage, c.text) {
				t.Errorf("got %v, want %d %s with %q in\n%s", err, c.status, c.code, c.text, se.RawMessage)
			}
			// A HEAD has the document in its header; the SDK reads it there.
			if _, err := b.GetObjectDetailedMeta("k", c.get...); c.status != 501 && !isCode(err, c.status, c.code) {
				t.Errorf("head: got %v, want %d %s", err, c.status, c.code)
			}
		})
	}
}

func TestAnonymous(t *testing.T) {
	s := publicServer(t)
	s.CreateBucket("closed")
	s.Put("closed", "k", osstest.Random(1, 10))
	for _, c := range []struct {
		method, url string
		status      int
	}{
		{"GET", s.URL("bkt", "k"), 200},
		{"HEAD", s.URL("bkt", "k"), 200},
		{"HEAD", s.URL("bkt", "k") + "?objectMeta", 200},
		{"PUT", s.URL("bkt", "k"), 403},
		{"DELETE", s.URL("bkt", "k"), 403},
		{"GET", s.URL("bkt", "k") + "?response-content-type=a", 400},
		{"GET", s.URL("bkt", ""), 403},
		{"GET", s.URL("closed", "k"), 403},
		{"HEAD", s.URL("closed", "k"), 403},
		{"PATCH", s.URL("bkt", "k"), 403},
	} {
		if status, body := do(t, s, c.method, c.url, nil); status != c.status {
			t.Errorf("%s %s: %d, want %d\n%s", c.method, c.url, status, c.status, body)
		}
	}
	resp, _, err := try(s, "HEAD", s.URL("closed", "k"), nil)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := base64.StdEncoding.DecodeString(resp.Header.Get("X-Oss-Err"))
	if err != nil || !strings.Contains(string(doc), "<Code>AccessDenied</Code>") || resp.Header.Get("X-Oss-Ec") == "" {
		t.Errorf("HEAD: x-oss-err %q, %v, x-oss-ec %q", doc, err, resp.Header.Get("X-Oss-Ec"))
	}
	s.SetQuirks(osstest.NoErrHeader)
	if resp, _, err := try(s, "HEAD", s.URL("closed", "k"), nil); err != nil || resp.Header.Get("X-Oss-Err") != "" {
		t.Errorf("quirk: %v, %v", resp, err)
	}
}

func TestClockSkew(t *testing.T) {
	s := newServer(t)
	s.Put("bkt", "k", osstest.Random(1, 10))
	for _, skew := range []time.Duration{-16 * time.Minute, 16 * time.Minute} {
		s.SetNow(func() time.Time { return time.Now().Add(skew) })
		for name, opts := range auths {
			b := sdkBucket(t, s, opts...)
			var h http.Header
			_, err := b.GetObject("k", oss.GetResponseHeader(&h))
			if !isCode(err, 403, "RequestTimeTooSkewed") {
				t.Fatalf("%s: %v", name, err)
			}
			// The way back: the answer's own date, to sign by.
			date, err := http.ParseTime(h.Get("Date"))
			if err != nil {
				t.Fatal(err)
			}
			fix := oss.SetHeader("Date", date.Format(http.TimeFormat))
			if name != "V1" {
				fix = oss.SetHeader("X-Oss-Date", date.Format("20060102T150405Z"))
			}
			if _, err := b.GetObject("k", fix); err != nil {
				t.Errorf("%s, corrected: %v", name, err)
			}
		}
	}
	s.SetNow(func() time.Time { return time.Now().Add(14 * time.Minute) })
	if _, err := sdkBucket(t, s).GetObject("k"); err != nil {
		t.Errorf("14 minutes: %v", err)
	}
}

func TestURLExpiry(t *testing.T) {
	s := newServer(t)
	s.Put("bkt", "k", osstest.Random(1, 10))
	s.AddToken("STS.a", "tsk", "to+k/en=", time.Now().Add(30*time.Minute))
	expired := regexp.MustCompile(`(?s)<Code>AccessDenied</Code>.*Request has expired\..*<Expires>\d{4}-.*Z</Expires>.*<ServerTime>\d{4}-.*Z</ServerTime>`)
	for name, opts := range auths {
		if name == "V4add" {
			continue
		}
		s.SetNow(time.Now)
		u, err := sdkBucket(t, s, opts...).SignURL("k", oss.HTTPGet, 3600)
		if err != nil {
			t.Fatal(err)
		}
		client, err := s.ClientFor("STS.a", "tsk", append(opts, oss.SecurityToken("to+k/en="))...)
		if err != nil {
			t.Fatal(err)
		}
		b, err := client.Bucket("bkt")
		if err != nil {
			t.Fatal(err)
		}
		withToken, err := b.SignURL("k", oss.HTTPGet, 3600)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			at     time.Duration
			url    string
			status int
			body   string
		}{
			{0, u, 200, ""},
			{0, withToken, 200, ""},
			{59 * time.Minute, u, 200, ""},
			{31 * time.Minute, withToken, 403, "SecurityTokenExpired"},
			{61 * time.Minute, u, 403, "Request has expired."},
			{61 * time.Minute, withToken, 403, "Request has expired."},
		} {
			s.SetNow(func() time.Time { return time.Now().Add(c.at) })
			status, body := do(t, s, "GET", c.url, nil)
			if status != c.status || !strings.Contains(body, c.body) {
				t.Errorf("%s after %v: %d %s", name, c.at, status, body)
			}
			if strings.HasPrefix(c.body, "Request") && !expired.MatchString(body) {
				t.Errorf("%s: elements are missing: %s", name, body)
			}
		}
	}
	// A V4 URL lives for a week at most.
	if u, err := sdkBucket(t, s, oss.AuthVersion(oss.AuthV4)).SignURL("k", oss.HTTPGet, 700000); err != nil {
		t.Fatal(err)
	} else if status, body := do(t, s, "GET", u, nil); status != 400 {
		t.Errorf("more than a week: %d %s", status, body)
	}
	s.ExpireToken("to+k/en=")
	s.RemoveUser(osstest.AccessKeyID)
	if _, err := sdkBucket(t, s).GetObject("k"); err == nil {
		t.Error("a removed user may read")
	}
}
