// Package bucket makes the requests to one bucket, through the SDK's connection, which signs them.
//
// It is the only room that knows the SDK's client and options, signatures and credentials. It must not know the engine's
// retries and slots, files, or which calls and options of the library led to a request.
//
// Its invariants: no header and no error that leaves it holds a credential. A request is sent at most twice, the second
// time only if a new signature may be accepted.

package ossdl

import (
	"context"
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

// maxKey is OSS's limit for an object name, in bytes: "must be less than 1024" (its page on error responses).
const maxKey = 1023

// bucketClient makes requests to one bucket, for any of its objects. It is safe for concurrent use.
type bucketClient struct {
	client   *oss.Client
	bucket   string
	extra    requestOptions
	unsigned bool         // there are no credentials
	skew     atomic.Int64 // nanoseconds to add to this machine's clock
	answered atomic.Bool  // the credentials were accepted once
}

// newBucketClient makes a client that adds extra to each request. It fails if the credentials provider of client does.
func newBucketClient(client *oss.Client, bucket string, extra requestOptions) (*bucketClient, error) {
	cred, err := credentials(client)
	if err != nil {
		return nil, err
	}
	unsigned := cred.GetAccessKeyID() == "" && cred.GetAccessKeySecret() == ""
	return &bucketClient{client: client, bucket: bucket, extra: extra, unsigned: unsigned}, nil
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

// object returns the source of one object. It makes no request.
func (b *bucketClient) object(key string) (*bucketSource, error) {
	if key == "" || len(key) > maxKey || !utf8.ValidString(key) {
		return nil, fmt.Errorf("key %q: 1 to %d bytes of UTF-8 are allowed", key, maxKey)
	}
	s := &bucketSource{client: b, id: identity{bucket: b.bucket, key: key}}
	if b.unsigned {
		var err error
		if s.url, err = b.plainURL(key); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// plainURL returns the URL of an object, or of the bucket if key is "", for requests without credentials. Without a key
// the SDK signs with an empty one, which OSS refuses. But the URL that it signs is right, so the signature is cut off.
func (b *bucketClient) plainURL(key string) (string, error) {
	bucket, err := b.client.Bucket(b.bucket)
	if err != nil {
		return "", err
	}
	name := key
	if key == "" {
		name = "x" // the SDK makes URLs of objects only
	}
	signed, err := bucket.SignURL(name, oss.HTTPGet, 1)
	if err != nil {
		return "", withoutURL(err)
	}
	plain, _, _ := strings.Cut(signed, "?")
	if key == "" {
		plain = strings.TrimSuffix(plain, name)
	}
	return plain, nil
}

// outgoing is a request as the SDK takes it.
type outgoing struct {
	method  string
	key     string // "" for the bucket itself
	url     string // of the key, used if there are no credentials
	headers map[string]string
	params  map[string]any
}

// send makes one request.
func (b *bucketClient) send(ctx context.Context, out outgoing) (*oss.Response, error) {
	if b.unsigned {
		return b.client.Conn.DoURLWithContext(ctx, oss.HTTPMethod(out.method), addQuery(out.url, out.params), out.headers, nil, 0, nil)
	}
	// Dated by the server's clock if this machine's was found to be wrong.
	if skew := time.Duration(b.skew.Load()); skew != 0 {
		now := time.Now().Add(skew).UTC()
		if b.client.Config.AuthVersion == oss.AuthV4 {
			out.headers["X-Oss-Date"] = now.Format("20060102T150405Z")
		} else {
			out.headers["Date"] = now.Format(http.TimeFormat)
		}
	}
	var sent secrets
	resp, err := b.client.Conn.DoWithContext(sent.watch(ctx, b.client.HTTPClient), out.method, b.bucket, out.key, out.params, out.headers, nil, 0, nil)
	return cleaned(&sent, resp, err)
}

// cleaned removes what a request carried from what the SDK returned for it.
func cleaned(sent *secrets, resp *oss.Response, err error) (*oss.Response, error) {
	if resp != nil {
		sent.clean(resp.Headers)
	}
	var se oss.ServiceError
	if errors.As(err, &se) {
		err = sent.cleanError(se)
	}
	return resp, err
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

// failure makes our error of what the SDK returns if an answer is not a success. The SDK reads the bodies of errors but
// leaves those of redirects open.
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

// correct reports whether the same request may succeed if it is signed again: with the server's time, which it notes, or
// with what the credentials provider returns by now.
func (b *bucketClient) correct(err error) bool {
	var refused *statusError
	if b.unsigned || !errors.As(err, &refused) {
		return false
	}
	if refused.service.Code == "RequestTimeTooSkewed" {
		if refused.date.IsZero() {
			return false
		}
		b.skew.Store(int64(time.Until(refused.date)))
		return true
	}
	return keyEnded(refused.service.Code, b.answered.Load())
}

// open asks for something else than the bytes of an object. The answer is a success of OSS, with its body unread. Like
// bucketSource.get, it repeats the request once if a new signature may be accepted.
func (b *bucketClient) open(ctx context.Context, method, key string, params map[string]any) (*oss.Response, error) {
	resp, err := b.openOnce(ctx, method, key, params)
	if err != nil && b.correct(err) {
		return b.openOnce(ctx, method, key, params)
	}
	return resp, err
}

func (b *bucketClient) openOnce(ctx context.Context, method, key string, params map[string]any) (*oss.Response, error) {
	out := outgoing{method: method, key: key, params: params, headers: map[string]string{"Accept-Encoding": "identity"}}
	for k, v := range b.extra.headers {
		if !strings.EqualFold(k, oss.HTTPHeaderOssTrafficLimit) { // it is meant for the bytes of objects
			out.headers[k] = v
		}
	}
	if payer, ok := b.extra.params["x-oss-request-payer"]; ok {
		params["x-oss-request-payer"] = payer
	}
	if b.unsigned {
		var err error
		if out.url, err = b.plainURL(key); err != nil {
			return nil, err
		}
	}
	resp, err := b.send(ctx, out)
	if err != nil || resp == nil {
		return nil, failure(ctx, resp, err)
	}
	if id := resp.Headers.Get("x-oss-request-id"); resp.StatusCode != http.StatusOK || id == "" {
		resp.Body.Close()
		return nil, fmt.Errorf("status %d, request ID %s, %s: not an answer of OSS", resp.StatusCode, orNone(id), orNone(resp.Headers.Get("Content-Type")))
	}
	b.answered.Store(true)
	return resp, nil
}
