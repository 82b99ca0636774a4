// Package bucket makes the requests to one bucket; it alone knows the SDK's client, connection and options, and so
// signatures and credentials. It must not know retries, slots or files, nor which call of the library led to a request. Its
// invariant: no header and no error that leaves it holds a credential, and a request is sent again only if a new signature may
// be accepted, or another address of the host or another endpoint may answer better.
package bucket

import (
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/transport"
)

// MaxKey is the length of the longest object name, in bytes: it "must be less than 1024" (OSS's page on error responses).
const MaxKey = 1023

// maxSkew is how far this machine's clock may be wrong. A signature is good for as long as its date says, so a server, or who
// answers in its place over plain HTTP, must not choose dates at will.
const maxSkew = 24 * time.Hour

// Client makes requests to one bucket, for any of its objects. It is safe for concurrent use.
type Client struct {
	client   *oss.Client
	name     string
	extra    Extra
	keys     keys
	skew     atomic.Int64 // nanoseconds to add to this machine's clock
	answered atomic.Bool  // the credentials were accepted once
	noNull   atomic.Bool  // the bucket does not know the version null

	behind atomic.Pointer[noKeyError] // the last request that was given up while it waited for the credentials provider

	ways *ways // all endpoints, of which this one is the first; nil: it is the only one
}

// New makes a client for the bucket name that adds extra to each request. It asks the credentials provider of client, and
// fails if that fails or has not answered when ctx ends.
func New(ctx context.Context, client *oss.Client, name string, extra Extra) (*Client, error) {
	keys, err := askForKey(ctx, client)
	if err != nil {
		return nil, err
	}
	return &Client{client: client, name: name, extra: extra, keys: keys}, nil
}

// Name returns the name of the bucket.
func (c *Client) Name() string { return c.name }

// Object returns the source of one object. It makes no request.
func (c *Client) Object(key string) (*Source, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	s, err := c.objectHere(key)
	if err == nil && c.ways != nil {
		s.over, err = newSeveral(c.ways, key)
	}
	return s, err
}

// objectHere returns the source of one object at this endpoint alone.
func (c *Client) objectHere(key string) (*Source, error) {
	s := &Source{client: c, id: object.Identity{Bucket: c.name, Key: key}}
	if c.keys == noKey {
		var err error
		if s.url, err = c.plainURL(key); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// CheckKey returns an error unless an object can have this key.
func CheckKey(key string) error {
	if key == "" || len(key) > MaxKey || !utf8.ValidString(key) {
		return fmt.Errorf("key %q: 1 to %d bytes of UTF-8 are allowed", key, MaxKey)
	}
	return nil
}

// plainURL returns the URL of an object, or of the bucket if key is "", for requests without credentials. The SDK would sign
// them with an empty access key, which OSS refuses. The URL that it signs is right, so the signature is cut off.
func (c *Client) plainURL(key string) (string, error) {
	client, err := c.signing()
	if err != nil {
		return "", err
	}
	bucket, err := client.Bucket(c.name)
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

// signing returns the client, or one for the same endpoint that has a key of no use: a Go program that runs with GODEBUG=fips140=only
// panics if it signs with an empty one.
func (c *Client) signing() (*oss.Client, error) {
	if !fips140.Enforced() {
		return c.client, nil
	}
	return oss.New(c.client.Config.Endpoint, "none", "none, it is cut off", func(o *oss.Client) {
		own := *o.Config
		*o.Config = *c.client.Config
		o.Config.AccessKeyID, o.Config.AccessKeySecret, o.Config.CredentialsProvider = own.AccessKeyID, own.AccessKeySecret, own.CredentialsProvider
	})
}

// outgoing is a request as the SDK takes it.
type outgoing struct {
	method  string
	key     string // "" for the bucket itself
	url     string // of the key, used if there are no credentials
	headers map[string]string
	params  map[string]any
	body    string
}

// data returns the reader that the SDK sends; nil: no body.
func (o *outgoing) data() io.Reader {
	if o.body == "" {
		return nil
	}
	return strings.NewReader(o.body)
}

// send makes one request.
func (c *Client) send(ctx context.Context, out outgoing) (*oss.Response, error) {
	if c.keys == noKey {
		return c.sendUnsigned(ctx, &out)
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
	ctx = sent.Watch(ctx, c.client.HTTPClient)
	resp, err := c.sign(ctx, func(signed oss.ProgressListener) (*oss.Response, error) {
		return c.client.Conn.DoWithContext(ctx, out.method, c.name, out.key, out.params, out.headers, out.data(), 0, signed)
	})
	return cleaned(&sent, resp, err)
}

// sendUnsigned makes one request without credentials.
func (c *Client) sendUnsigned(ctx context.Context, out *outgoing) (resp *oss.Response, err error) {
	if perr := engine.Guard("the HTTP client", func() {
		resp, err = c.client.Conn.DoURLWithContext(ctx, oss.HTTPMethod(out.method), addQuery(out.url, out.params), out.headers, out.data(), 0, nil)
	}); perr != nil {
		return nil, perr
	}
	return resp, err
}

// sign calls do, which makes a request through the SDK. The SDK asks the credentials provider for it. If ctx ends before a
// provider of the caller has answered, sign returns and leaves the request behind, which is never sent. Until that has ended
// no other is begun.
func (c *Client) sign(ctx context.Context, do func(oss.ProgressListener) (*oss.Response, error)) (resp *oss.Response, err error) {
	if c.keys == fixedKey {
		if perr := engine.Guard("the HTTP client", func() { resp, err = do(nil) }); perr != nil {
			return nil, perr
		}
		return resp, err
	}
	if earlier := c.behind.Load(); earlier != nil {
		select {
		case <-earlier.behind:
		case <-ctx.Done():
			return nil, &unsentError{&noKeyError{context.Cause(ctx), earlier.behind}}
		}
	}
	asked := newQuestion()
	resp, err = provided(ctx, asked, func() (*oss.Response, error) { return do(asked) })
	if e, ok := err.(*noKeyError); ok {
		c.behind.Store(e)
	}
	if err != nil && !asked.isSigned() {
		err = &unsentError{err}
	}
	return resp, err
}

// unsentError says that a request was not sent, since there were no credentials to sign it with.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return e.err.Error() }
func (e *unsentError) Unwrap() error { return e.err }

// cleaned removes the secrets of a request from what the SDK returned for it.
func cleaned(sent *transport.Secrets, resp *oss.Response, err error) (*oss.Response, error) {
	if resp != nil {
		sent.Clean(resp.Headers)
	}
	if err == nil {
		return resp, nil
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
		if v == nil { // a parameter without a value
			v = ""
		}
		q.Set(k, fmt.Sprint(v))
	}
	if len(q) == 0 {
		return u
	}
	return u + "?" + q.Encode()
}

// failure makes the error of an answer that is not a success, or of none. The SDK reads the bodies of errors but leaves those
// of redirects open.
func (c *Client) failure(ctx context.Context, resp *oss.Response, err error) error {
	if resp != nil {
		if resp.Body != nil {
			resp.Body.Close()
		}
		var se oss.ServiceError
		errors.As(err, &se)
		refusal := object.NewStatusError(resp.StatusCode, resp.Headers, se)
		if c.keys == noKey {
			refusal.MarkUnsigned("no credentials were found, so the request was not signed")
		}
		return refusal
	}
	if err == nil {
		err = errors.New("no answer")
	}
	var panicked *engine.Panic
	if errors.As(err, &panicked) {
		return err
	}
	var unsent *unsentError
	if errors.As(err, &unsent) {
		if cause := context.Cause(ctx); cause != nil {
			return &unsentError{cause}
		}
		return &unsentError{object.WithoutURL(unsent.err)}
	}
	var proxy *transport.ProxyError
	switch cause := context.Cause(ctx); {
	case cause != nil:
		err = cause
	case errors.As(err, &proxy) && proxy.Final(c.answered.Load()):
		return &object.PermanentError{Err: proxy}
	case errors.Is(err, transport.ErrDowngrade):
		return &object.PermanentError{Err: object.WithoutURL(err)}
	}
	return object.ExplainDial(object.WithoutURL(err), c.client.Config.Endpoint)
}

// correct reports whether the same request may succeed if it is signed again: by the server's clock, which it records, or
// with what the credentials provider returns by then.
func (c *Client) correct(err error) bool {
	var refused *object.StatusError
	if c.keys == noKey || !errors.As(err, &refused) {
		return false
	}
	if clock, skewed := refused.Skewed(); skewed {
		skew := time.Until(clock)
		if clock.IsZero() || skew.Abs() > maxSkew {
			return false
		}
		c.skew.Store(int64(skew))
		return true
	}
	return refused.KeyEnded(c.answered.Load())
}

// open asks for something other than the bytes of an object. The answer is a success of OSS, with its body unread.
func (c *Client) open(ctx context.Context, method, key string, params map[string]any) (*oss.Response, error) {
	return c.do(ctx, outgoing{method: method, key: key, params: params})
}

// do is open for a request that may have a body. If there are several endpoints, it asks the one that works.
func (c *Client) do(ctx context.Context, out outgoing) (*oss.Response, error) {
	if c.ways != nil {
		return c.ways.do(ctx, out)
	}
	return c.doVersion(ctx, out)
}

// doHere asks this endpoint. Like [Source.Get], it repeats the request if a new signature may be accepted, or another address may
// answer better.
func (c *Client) doHere(ctx context.Context, out outgoing) (resp *oss.Response, err error) {
	doubt := func(err error) bool { return object.Doubtful(err) || errors.Is(err, errForeign) }
	err = transport.Elsewhere(ctx, c.client.HTTPClient, doubt, func(ctx context.Context, _ *transport.Trace) error {
		if resp, err = c.doOnce(ctx, out); err != nil && c.correct(err) {
			resp, err = c.doOnce(ctx, out)
		}
		return err
	})
	return resp, err
}

// errForeign says that a success has no request ID, as every answer of OSS has.
var errForeign = errors.New("not an answer of OSS")

func (c *Client) doOnce(ctx context.Context, out outgoing) (*oss.Response, error) {
	out.headers = map[string]string{"Accept-Encoding": "identity"}
	for k, v := range c.extra.Headers {
		if !strings.EqualFold(k, oss.HTTPHeaderOssTrafficLimit) { // meant for the bytes of objects
			out.headers[k] = v
		}
	}
	if payer, ok := c.extra.Params["x-oss-request-payer"]; ok {
		out.params["x-oss-request-payer"] = payer
	}
	if out.body != "" {
		out.headers["Content-Type"] = "application/xml"
	}
	if c.keys == noKey {
		var err error
		if out.url, err = c.plainURL(out.key); err != nil {
			return nil, err
		}
	}
	resp, err := c.send(ctx, out)
	if err != nil || resp == nil {
		return nil, c.failure(ctx, resp, err)
	}
	id, accepted := resp.Headers.Get("x-oss-request-id"), out.method == http.MethodPost && resp.StatusCode == http.StatusAccepted
	if resp.StatusCode != http.StatusOK && !accepted || id == "" {
		resp.Body.Close()
		return nil, fmt.Errorf("status %d, request ID %s, %s: %w", resp.StatusCode, object.OrNone(id), object.OrNone(resp.Headers.Get("Content-Type")), errForeign)
	}
	c.answered.Store(true)
	return resp, nil
}
