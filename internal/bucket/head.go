package bucket

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/span"
)

// Head asks for the facts and the headers of an object, without its bytes; of its current version if version is "". Some CDNs
// refuse HEAD, so Head then asks for the first byte.
func (c *Client) Head(ctx context.Context, key, version string) (object.Facts, http.Header, error) {
	params := map[string]any{}
	if version != "" {
		params["versionId"] = version
	}
	resp, err := c.open(ctx, http.MethodHead, key, params)
	if refusesHead(err) {
		return c.firstByte(ctx, key, version)
	}
	if err != nil {
		return object.Facts{}, nil, err
	}
	resp.Body.Close()
	f, err := object.ReadHead(resp.Headers)
	return f, resp.Headers, err
}

// HeadArchived is Head for an object that was refused as frozen, of which the state is wanted. If the answer does not say the
// class, the first byte is asked for: some caches drop the headers.
func (c *Client) HeadArchived(ctx context.Context, key, version string) (object.Facts, http.Header, error) {
	f, h, err := c.Head(ctx, key, version)
	if err == nil && f.ArchiveStatus.Class == "" {
		return c.firstByte(ctx, key, version)
	}
	return f, h, err
}

// refusesHead reports whether a server may have refused HEAD, and not the object. A refusal of OSS costs one request more,
// which brings the reason: the answer to HEAD has no body.
func refusesHead(err error) bool {
	var refused *object.StatusError
	if !errors.As(err, &refused) {
		return false
	}
	switch refused.Status() {
	case http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return true
	}
	return false
}

// Readable returns nil if the first byte of an object can be read, as that of an archived one in some buckets.
func (c *Client) Readable(ctx context.Context, key, version string) error {
	_, _, err := c.firstByte(ctx, key, version)
	return err
}

// firstByte asks for the first byte of an object, and returns the facts and the headers of the answer.
func (c *Client) firstByte(ctx context.Context, key, version string) (object.Facts, http.Header, error) {
	src, err := c.Object(key)
	if err != nil {
		return object.Facts{}, nil, err
	}
	var resent atomic.Int64
	a, err := src.Get(ctx, object.Request{Span: span.Span{Off: 0, End: 1}, VersionID: version, Resent: &resent})
	if errors.Is(err, object.ErrRange) { // an empty object has no first byte
		a, err = src.Get(ctx, object.Request{Whole: true, VersionID: version, Resent: &resent})
	}
	if err != nil {
		return object.Facts{}, nil, err
	}
	a.Body.Close()
	a.ArchiveStatus = object.ReadArchiveStatus(a.Header.Get("X-Oss-Storage-Class"), a.Header.Get("X-Oss-Restore"))
	a.ArchiveStatus.State = object.Restored // as good as: it was read
	return a.Facts, a.Header, nil
}
