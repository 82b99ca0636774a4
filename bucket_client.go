package ossdl

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// bucketClient makes requests to one bucket, for any of its objects, through the SDK's connection, which signs.
type bucketClient struct {
	client   *oss.Client
	bucket   string
	extra    requestOptions
	unsigned bool         // there are no credentials
	skew     atomic.Int64 // nanoseconds to add to this machine's clock
	answered atomic.Bool  // the credentials were good once
}

func newBucketClient(client *oss.Client, bucket string, extra requestOptions) (*bucketClient, error) {
	cred, err := credentials(client)
	if err != nil {
		return nil, err
	}
	unsigned := cred.GetAccessKeyID() == "" && cred.GetAccessKeySecret() == ""
	return &bucketClient{client: client, bucket: bucket, extra: extra, unsigned: unsigned}, nil
}

// object is a source of the bucket.
func (b *bucketClient) object(key string) (*bucketSource, error) {
	if key == "" || len(key) > maxKey || !utf8.ValidString(key) {
		return nil, fmt.Errorf("key %q: 1 to %d bytes of UTF-8 are allowed", key, maxKey)
	}
	s := &bucketSource{bucketClient: b, id: identity{bucket: b.bucket, key: key}}
	if b.unsigned {
		var err error
		if s.url, err = b.plainURL(key); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// plainURL is the URL of an object for requests without credentials. The SDK signs with an empty key where it has none,
// which OSS refuses. The URL it makes is right, so the signature is dropped from it.
func (b *bucketClient) plainURL(key string) (string, error) {
	bucket, err := b.client.Bucket(b.bucket)
	if err != nil {
		return "", err
	}
	signed, err := bucket.SignURL(key, oss.HTTPGet, 1)
	if err != nil {
		return "", withoutURL(err)
	}
	plain, _, _ := strings.Cut(signed, "?")
	return plain, nil
}

// bucketURL is that of the bucket itself; the SDK makes only those of objects.
func (b *bucketClient) bucketURL() (string, error) {
	u, err := b.plainURL("x")
	return strings.TrimSuffix(u, "x"), err
}

// bucketSource is an object of a bucket.
type bucketSource struct {
	*bucketClient
	id  identity
	url string // for requests without credentials
}

func credentials(client *oss.Client) (oss.Credentials, error) {
	provider := client.Config.CredentialsProvider
	if p, ok := provider.(oss.CredentialsProviderE); ok {
		cred, err := p.GetCredentialsE()
		if err != nil {
			return nil, fmt.Errorf("credentials provider: %w", err)
		}
		return cred, nil
	}
	return client.Config.GetCredentials(), nil
}

func (s *bucketSource) String() string { return objectName(s.id.bucket, s.id.key) }

func (s *bucketSource) identity() identity { return s.id }

func (s *bucketSource) versions() bool { return !s.unsigned }

func (s *bucketSource) ready(context.Context) error { return nil } // each request is signed anew

func (s *bucketSource) get(ctx context.Context, r request) (*answer, error) {
	a, err := s.once(ctx, r)
	var status *statusError
	if errors.As(err, &status) && s.correctable(status) {
		r.again.Add(1)
		return s.once(ctx, r)
	}
	return a, err
}

// correctable reports whether the very same request may succeed when it is signed again: with the server's time, or with
// what the credentials provider returns by now.
func (b *bucketClient) correctable(e *statusError) bool {
	if b.unsigned {
		return false
	}
	switch e.service.Code {
	case "RequestTimeTooSkewed":
		if e.date.IsZero() {
			return false
		}
		b.skew.Store(int64(time.Until(e.date)))
		return true
	case "SecurityTokenExpired", "InvalidSecurityToken", "AccessKeyIdAndSecurityTokenNotMatch":
		return true
	case "InvalidAccessKeyId":
		// What an expired temporary key can surface as; a wrong key never worked.
		return b.answered.Load()
	}
	return false
}

// once makes one request with the headers that the SDK and OSS expect.
func (s *bucketSource) once(ctx context.Context, r request) (*answer, error) {
	headers := map[string]string{"Accept-Encoding": "identity"}
	for k, v := range s.extra.headers {
		headers[k] = v
	}
	if !r.whole {
		headers["Range"] = r.header()
		// Without it OSS ignores a range that is not wholly inside the object and sends all of it with a 200.
		headers["x-oss-range-behavior"] = "standard"
	}
	if r.ifMatch != "" {
		headers["If-Match"] = r.ifMatch
	}
	params := map[string]any{}
	for k, v := range s.extra.params {
		params[k] = v
	}
	if r.versionID != "" {
		params["versionId"] = r.versionID
	}
	var resp *oss.Response
	var err error
	if s.unsigned {
		delete(headers, "x-oss-range-behavior")
		resp, err = s.client.Conn.DoURLWithContext(ctx, http.MethodGet, addQuery(s.url, params), headers, nil, 0, nil)
	} else {
		resp, err = s.signed(ctx, http.MethodGet, s.id.key, params, headers)
	}
	a, err := answerOf(ctx, r, resp, err, true)
	if err == nil {
		s.answered.Store(true)
	}
	return a, err
}

// signed makes a request with credentials, dated by the server's clock where this machine's was found to be wrong. What it
// returns tells nothing of them.
func (b *bucketClient) signed(ctx context.Context, method, key string, params map[string]any, headers map[string]string) (*oss.Response, error) {
	if skew := time.Duration(b.skew.Load()); skew != 0 {
		now := time.Now().Add(skew).UTC()
		if b.client.Config.AuthVersion == oss.AuthV4 {
			headers["X-Oss-Date"] = now.Format("20060102T150405Z")
		} else {
			headers["Date"] = now.Format(http.TimeFormat)
		}
	}
	var sent secrets
	return sent.cleanResponse(b.client.Conn.DoWithContext(sent.watch(ctx, b.client.HTTPClient), method, b.bucket, key, params, headers, nil, 0, nil))
}

func addQuery(u string, params map[string]any) string {
	q := url.Values{}
	for k, v := range params {
		q.Set(k, fmt.Sprint(v))
	}
	if len(q) == 0 {
		return u
	}
	return u + "?" + q.Encode()
}

// answerOf turns what the SDK returns into an answer or an error of this package. The SDK reads the bodies of errors but
// leaves those of redirects open.
func answerOf(ctx context.Context, r request, resp *oss.Response, err error, fromOSS bool) (*answer, error) {
	if resp == nil || err != nil {
		return nil, failure(ctx, resp, err)
	}
	a, err := readAnswer(r, resp.StatusCode, resp.Headers, fromOSS)
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	a.body = resp.Body
	return a, nil
}

// failure is what the SDK returns beside an answer that is no success, as an error of this package.
func failure(ctx context.Context, resp *oss.Response, err error) error {
	if resp != nil {
		if resp.Body != nil {
			resp.Body.Close()
		}
		var se oss.ServiceError
		errors.As(err, &se)
		return newStatusError(resp.StatusCode, resp.Headers, se)
	}
	if err == nil {
		err = errors.New("no answer")
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return withoutURL(err)
}

// withoutURL removes from an error of net/http or net/url the URL, whose query may be signed, and what is quoted of an
// answer that is no HTTP: something that sends back what it is sent quotes a signature.
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

// serviceErrorOf reads the body of an error answer, for requests that the SDK did not make.
func serviceErrorOf(body []byte) (se oss.ServiceError) {
	if xml.Unmarshal(body, &se) != nil {
		return oss.ServiceError{}
	}
	return se
}
