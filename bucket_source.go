package ossdl

import (
	"context"
	"net/http"
)

var _ engineSource = (*bucketSource)(nil)

// bucketSource is one object of a bucket.
type bucketSource struct {
	client *bucketClient
	id     identity
	url    string // for requests without credentials
}

// String returns the name of the object for messages.
func (s *bucketSource) String() string { return s.id.String() }

// identity returns bucket and key.
func (s *bucketSource) identity() identity { return s.id }

// versions reports whether requests may carry a version ID: only signed ones do.
func (s *bucketSource) versions() bool { return !s.client.unsigned }

// ready returns at once, since each request is signed anew.
func (s *bucketSource) ready(context.Context) error { return nil }

// get makes one request, and repeats it once if a new signature may be accepted.
func (s *bucketSource) get(ctx context.Context, r request) (*answer, error) {
	a, err := s.getOnce(ctx, r)
	if err != nil && s.client.correct(err) {
		r.again.Add(1)
		return s.getOnce(ctx, r)
	}
	return a, err
}

func (s *bucketSource) getOnce(ctx context.Context, r request) (*answer, error) {
	resp, err := s.client.send(ctx, s.build(r))
	if resp == nil || err != nil {
		return nil, failure(ctx, resp, err)
	}
	a, err := readAnswer(r, resp.StatusCode, resp.Headers, kindOSS)
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	a.body = resp.Body
	s.client.answered.Store(true)
	return a, nil
}

// build makes the request with the headers that OSS expects.
func (s *bucketSource) build(r request) outgoing {
	out := outgoing{method: http.MethodGet, key: s.id.key, url: s.url, headers: map[string]string{"Accept-Encoding": "identity"}, params: map[string]any{}}
	for k, v := range s.client.extra.headers {
		out.headers[k] = v
	}
	for k, v := range s.client.extra.params {
		out.params[k] = v
	}
	if !r.whole {
		out.headers["Range"] = r.header()
		if !s.client.unsigned {
			// Without it OSS ignores a range that is not wholly inside the object, and sends all of it with a 200.
			out.headers["x-oss-range-behavior"] = "standard"
		}
	}
	if r.ifMatch != "" {
		out.headers["If-Match"] = r.ifMatch
	}
	if r.versionID != "" {
		out.params["versionId"] = r.versionID
	}
	return out
}
