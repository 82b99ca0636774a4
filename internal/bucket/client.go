// Package bucket makes the requests to one bucket; it alone knows the SDK's client, connection and options, and so
// signatures and credentials. It must not know retries, slots or files, nor which call of the library led to a request. Its
// invariant: no header and no error that leaves it holds a credential, and a request is sent again only if a new signature may
// be accepted, or another address of the host may answer better.
package bucket

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

	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/transport"
)

// MaxKey is the length of the longest object name, in bytes: it "must be less than 1024" (OSS's page on error responses).
const MaxKey = 1023

// Client makes requests to one bucket, for any of its objects. It is safe for concurrent use.
type Client struct {
	client   *oss.Client
	name     string
	extra    Extra
	unsigned bool         // there are no credentials
	skew     atomic.Int64 // nanoseconds to add to this machine's clock
	answered atomic.Bool  // the credentials were accepted once
}

// New makes a client for the bucket name that adds extra to each request. It fails if the credentials provider of client
// does.
func New(client *oss.Client, name string, extra Extra) (*Client, error) {
	cred, err := credentials(client)
	if err != nil {
		return nil, err
	}
	unsigned := cred.GetAccessKeyID() == "" && cred.GetAccessKeySecret() == ""
	return &Client{client: client, name: name, extra: extra, unsigned: unsigned}, nil
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

// Name returns the name of the bucket.
func (c *Client) Name() string { return c.name }

// Object returns the source of one object. It makes no request.
func (c *Client) Object(key string) (*Source, error) {
	if key == "" || len(key) > MaxKey || !utf8.ValidString(key) {
		return nil, fmt.Errorf("key %q: 1 to %d bytes of UTF-8 are allowed", key, MaxKey)
	}
	s := &Source{client: c, id: object.Identity{Bucket: c.name, Key: key}}
	if c.unsigned {
		var err error
		if s.url, err = c.plainURL(key); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// plainURL returns the URL of an object, or of the bucket if key is "", for requests without credentials. The SDK would sign
// them with an empty access key, which OSS refuses. The URL that it signs is right, so the signature is cut off.
func (c *Client) plainURL(key string) (string, error) {
	bucket, err := c.client.Bucket(c.name)
	if err != nil {
		return "", err
	}
	named := key
	if key == "" {
		named = "x" // the SDK makes URLs of objects only
	}
	signed, err := bucket.SignURL(named, oss.HTTPGet, 1)
	if err != nil {
		return "", object.WithoutURL(err)
	}
	plain, _, _ := strings.Cut(signed, "?")
	if key == "" {
		plain = strings.TrimSuffix(plain, named)
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
func (c *Client) send(ctx context.Context, out outgoing) (*oss.Response, error) {
	if c.unsigned {
		return c.client.Conn.DoURLWithContext(ctx, oss.HTTPMethod(out.method), addQuery(out.url, out.params), out.headers, nil, 0, nil)
	}
	// Dated by the server's clock if this machine's was found to be wrong.
	if skew := time.Duration(c.skew.Load()); skew != 0 {
		now := time.Now().Add(skew).UTC()
		if c.client.Config.AuthVersion == oss.AuthV4 {
			out.headers["X-Oss-Date"] = now.Format("20060102T150405Z")
		} else {
			out.headers["Date"] = now.Format(http.TimeFormat)
		}
	}
	var sent transport.Secrets
	resp, err := c.client.Conn.DoWithContext(sent.Watch(ctx, c.client.HTTPClient), out.method, c.name, out.key, out.params, out.headers, nil, 0, nil)
	return cleaned(&sent, resp, err)
}

// cleaned removes the secrets of a request from what the SDK returned for it.
func cleaned(sent *transport.Secrets, resp *oss.Response, err error) (*oss.Response, error) {
	if resp != nil {
		sent.Clean(resp.Headers)
	}
	var se oss.ServiceError
	if errors.As(err, &se) {
		err = sent.CleanError(se)
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

// failure makes the error of an answer that is not a success. The SDK reads the bodies of errors but leaves those of
// redirects open.
func failure(ctx context.Context, resp *oss.Response, err error) error {
	if resp != nil {
		if resp.Body != nil {
			resp.Body.Close()
		}
		var se oss.ServiceError
		errors.As(err, &se)
		return object.NewStatusError(resp.StatusCode, resp.Headers, se)
	}
	if err == nil {
		err = errors.New("no answer")
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return object.WithoutURL(err)
}

// correct reports whether the same request may succeed if it is signed again: by the server's clock, which it records, or
// with what the credentials provider returns by then.
func (c *Client) correct(err error) bool {
	var refused *object.StatusError
	if c.unsigned || !errors.As(err, &refused) {
		return false
	}
	if clock, skewed := refused.Skewed(); skewed {
		if clock.IsZero() {
			return false
		}
		c.skew.Store(int64(time.Until(clock)))
		return true
	}
	return refused.KeyEnded(c.answered.Load())
}

// open asks for something other than the bytes of an object. The answer is a success of OSS, with its body unread. Like
// [Source.Get], it repeats the request if a new signature may be accepted, or another address may answer better.
func (c *Client) open(ctx context.Context, method, key string, params map[string]any) (resp *oss.Response, err error) {
	doubt := func(err error) bool { return object.Doubtful(err) || errors.Is(err, errForeign) }
	err = transport.Elsewhere(ctx, c.client.HTTPClient, doubt, func(ctx context.Context, _ *transport.Trace) error {
		if resp, err = c.openOnce(ctx, method, key, params); err != nil && c.correct(err) {
			resp, err = c.openOnce(ctx, method, key, params)
		}
		return err
	})
	return resp, err
}

// errForeign says that a success has no request ID, as every answer of OSS has.
var errForeign = errors.New("not an answer of OSS")

func (c *Client) openOnce(ctx context.Context, method, key string, params map[string]any) (*oss.Response, error) {
	out := outgoing{method: method, key: key, params: params, headers: map[string]string{"Accept-Encoding": "identity"}}
	for k, v := range c.extra.Headers {
		if !strings.EqualFold(k, oss.HTTPHeaderOssTrafficLimit) { // meant for the bytes of objects
			out.headers[k] = v
		}
	}
	if payer, ok := c.extra.Params["x-oss-request-payer"]; ok {
		params["x-oss-request-payer"] = payer
	}
	if c.unsigned {
		var err error
		if out.url, err = c.plainURL(key); err != nil {
			return nil, err
		}
	}
	resp, err := c.send(ctx, out)
	if err != nil || resp == nil {
		return nil, failure(ctx, resp, err)
	}
	if id := resp.Headers.Get("x-oss-request-id"); resp.StatusCode != http.StatusOK || id == "" {
		resp.Body.Close()
		return nil, fmt.Errorf("status %d, request ID %s, %s: %w", resp.StatusCode, object.OrNone(id), object.OrNone(resp.Headers.Get("Content-Type")), errForeign)
	}
	c.answered.Store(true)
	return resp, nil
}
