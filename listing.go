package ossdl

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

const (
	pageKeys = "1000" // in one page; OSS gives no more
	// pageLimit bounds what is read of a page: a thousand keys of 1023 bytes, all of them escaped, have a quarter of it.
	pageLimit = 16 << 20
)

// listed is an object as a listing describes it.
type listed struct {
	key      string
	size     int64
	modified time.Time
	symlink  bool // size and time may be the link's, not the target's
}

// listDocument is what ListObjectsV2 answers, as far as it is of use here.
type listDocument struct {
	XMLName     xml.Name `xml:"ListBucketResult"`
	Encoding    string   `xml:"EncodingType"`
	IsTruncated bool
	Next        string `xml:"NextContinuationToken"`
	Contents    []struct {
		Key, Type    string
		Size         int64
		LastModified time.Time
	}
}

// place is how far a listing has been read.
type place struct {
	token string // that the next page is asked for with; "" for the first one
	after string // the last key so far; "" for none
	empty int    // pages in a row without a key
}

// maxEmpty bounds how many pages in a row may hold no key and say that there are more. OSS may pass over deleted keys to
// find one that is left, but not over a thousand pages of them.
const maxEmpty = 1000

// readPage reads the page of a listing that was asked for at a place, and the place of the next one: with no token where
// there is none. Keys must come in the order of their bytes, each once, as OSS lists them: a listing that goes back could
// go on for ever, and what lies below what could not be told.
func readPage(doc []byte, at place) (objects []listed, next place, err error) {
	var d listDocument
	if err := xml.Unmarshal(doc, &d); err != nil {
		return nil, place{}, fmt.Errorf("no listing: %w", err)
	}
	text := func(s string) (string, error) { return s, nil }
	if d.Encoding == "url" {
		text = url.QueryUnescape
	}
	next = place{after: at.after, empty: at.empty + 1}
	for _, c := range d.Contents {
		key, err := text(c.Key)
		if err != nil || key == "" || c.Size < 0 {
			return nil, place{}, fmt.Errorf("no listing: object %q of %d bytes", c.Key, c.Size)
		}
		if key <= next.after {
			return nil, place{}, &permanentError{fmt.Errorf("the listing is out of order: %q comes after %q", key, next.after)}
		}
		next.after, next.empty = key, 0
		objects = append(objects, listed{key, c.Size, c.LastModified, strings.EqualFold(c.Type, "Symlink")})
	}
	if !d.IsTruncated {
		return objects, next, nil
	}
	if next.token, err = text(d.Next); err != nil || next.token == "" || next.token == at.token {
		// Asked for again and again it would never end.
		return nil, place{}, &permanentError{fmt.Errorf("the listing is cut short, and goes on at %q after %q", d.Next, at.token)}
	}
	if next.empty >= maxEmpty {
		return nil, place{}, &permanentError{fmt.Errorf("the listing does not end: %d pages in a row hold no key, after %q", next.empty, next.after)}
	}
	return objects, next, nil
}

// list asks for one page of the keys that begin with prefix. The body is read through throttled.
func (b *bucketClient) list(ctx context.Context, prefix string, at place, throttled func(io.Reader) io.Reader) ([]listed, place, error) {
	params := map[string]any{"list-type": "2", "encoding-type": "url", "max-keys": pageKeys}
	if prefix != "" {
		params["prefix"] = prefix
	}
	if at.token != "" {
		params["continuation-token"] = at.token
	}
	resp, err := b.inquire(ctx, http.MethodGet, "", params)
	if err != nil {
		return nil, place{}, err
	}
	defer resp.Body.Close()
	doc, err := io.ReadAll(throttled(io.LimitReader(resp.Body, pageLimit)))
	if err != nil {
		return nil, place{}, fmt.Errorf("body of the listing: %w", withoutURL(err))
	}
	return readPage(doc, at)
}

// head asks for what the service says of an object.
func (b *bucketClient) head(ctx context.Context, key string) (facts, error) {
	resp, err := b.inquire(ctx, http.MethodHead, key, map[string]any{})
	if err != nil {
		return facts{}, err
	}
	resp.Body.Close()
	f := readFacts(resp.Headers)
	var ok bool
	if f.size, ok = contentLength(resp.Headers); !ok {
		return facts{}, errors.New("answer to HEAD without Content-Length")
	}
	return f, nil
}

// inquire makes a request for something else than the bytes of an object, once more where it can be signed better. The answer
// is a success of OSS, its body unread.
func (b *bucketClient) inquire(ctx context.Context, method, key string, params map[string]any) (*oss.Response, error) {
	resp, err := b.inquireOnce(ctx, method, key, params)
	var status *statusError
	if errors.As(err, &status) && b.correctable(status) {
		return b.inquireOnce(ctx, method, key, params)
	}
	return resp, err
}

func (b *bucketClient) inquireOnce(ctx context.Context, method, key string, params map[string]any) (*oss.Response, error) {
	headers := map[string]string{"Accept-Encoding": "identity"}
	for k, v := range b.extra.headers {
		if !strings.EqualFold(k, oss.HTTPHeaderOssTrafficLimit) { // it is for objects' bytes
			headers[k] = v
		}
	}
	if payer, ok := b.extra.params["x-oss-request-payer"]; ok {
		params["x-oss-request-payer"] = payer
	}
	var resp *oss.Response
	var err error
	if b.unsigned {
		u, uerr := b.bucketURL()
		if key != "" {
			u, uerr = b.plainURL(key)
		}
		if uerr != nil {
			return nil, uerr
		}
		resp, err = b.client.Conn.DoURLWithContext(ctx, oss.HTTPMethod(method), addQuery(u, params), headers, nil, 0, nil)
	} else {
		resp, err = b.signed(ctx, method, key, params, headers)
	}
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
