package bucket

import (
	"context"
	"errors"
	"maps"
	"net/http"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/object"
)

// nullVersion is the ID of the version of an object that was written without versioning.
//
// Whether a bucket that never had versions knows it is not documented. If the bucket refuses it, the object is asked for without a
// version. Only an answer that names no other version counts then.
const nullVersion = "null"

// unknownVersion reports whether an answer says that there is no such version, or no such parameter.
func unknownVersion(err error) bool {
	var se oss.ServiceError
	if !errors.As(err, &se) {
		return false
	}
	return se.StatusCode == http.StatusNotFound && se.Code != "NoSuchBucket" || se.StatusCode == http.StatusBadRequest
}

// isNull reports whether the version that an answer names, or none, is null.
func isNull(version string) bool { return version == "" || version == nullVersion }

// getOnce makes one request; two if the bucket does not know the version null.
func (s *Source) getOnce(ctx context.Context, r object.Request) (*object.Answer, error) {
	var refusal error
	if r.VersionID != nullVersion || !s.client.noNull.Load() {
		a, err := s.getVersion(ctx, r)
		if r.VersionID != nullVersion || !unknownVersion(err) {
			return a, err
		}
		refusal = err
		r.Resent.Add(1)
	}
	r.VersionID = ""
	a, err := s.getVersion(ctx, r)
	switch {
	case refusal == nil:
		return a, err // which is compared with what was asked for
	case errors.Is(err, object.ErrArchived): // which does not say what version it is about
		if herr := s.client.confirmNull(ctx, s.id.Key, refusal); herr != nil {
			err = herr
		}
		return nil, err
	case unknownVersion(err):
		return nil, refusal
	case err != nil:
		return nil, err
	case !isNull(a.VersionID):
		a.Body.Close()
		return nil, refusal
	}
	s.client.noNull.Store(true)
	return a, nil
}

// doVersion is doHere for a request that may name a version. If the bucket does not know the version null, the state of the object is
// asked for first, since a restore must not be one of another version.
func (c *Client) doVersion(ctx context.Context, out outgoing) (*oss.Response, error) {
	if out.params["versionId"] != nullVersion {
		return c.doHere(ctx, out)
	}
	var refusal error
	if !c.noNull.Load() {
		resp, err := c.doHere(ctx, out)
		if !unknownVersion(err) {
			return resp, err
		}
		refusal = err
	}
	if refusal != nil && out.method != http.MethodHead {
		if err := c.confirmNull(ctx, out.key, refusal); err != nil {
			return nil, err
		}
	}
	out.params = maps.Clone(out.params)
	delete(out.params, "versionId")
	resp, err := c.doHere(ctx, out)
	switch {
	case refusal == nil || out.method != http.MethodHead:
		return resp, err
	case unknownVersion(err):
		return nil, refusal
	case err != nil:
		return nil, err
	case !isNull(resp.Headers.Get("x-oss-version-id")):
		resp.Body.Close()
		return nil, refusal
	}
	c.noNull.Store(true)
	return resp, nil
}

// confirmNull returns nil if the current version of an object is null although the bucket refused to look for that.
func (c *Client) confirmNull(ctx context.Context, key string, refusal error) error {
	head, err := c.doVersion(ctx, outgoing{method: http.MethodHead, key: key, params: map[string]any{"versionId": nullVersion}})
	switch {
	case unknownVersion(err):
		return refusal
	case err != nil:
		return err
	}
	head.Body.Close()
	if !c.noNull.Load() {
		return refusal
	}
	return nil
}
