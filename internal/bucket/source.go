package bucket

import (
	"context"
	"net/http"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/transport"
)

var _ engine.Source = (*Source)(nil)

// Source is one object of a bucket.
type Source struct {
	client *Client
	id     object.Identity
	url    string   // for requests without credentials
	over   *several // at all endpoints; nil: there is only one
}

// String returns the name of the object for messages.
func (s *Source) String() string { return s.id.String() }

// Identity returns bucket and key.
func (s *Source) Identity() object.Identity { return s.id }

// Versions reports whether requests may carry a version ID: only signed ones do.
func (s *Source) Versions() bool { return s.client.keys != noKey }

// Ready returns immediately, since each request has a new signature.
func (s *Source) Ready(context.Context) error { return nil }

// Get makes one request. It repeats the request if a new signature may be accepted, or another address or endpoint may answer
// better.
func (s *Source) Get(ctx context.Context, r object.Request) (*object.Answer, error) {
	if s.over != nil {
		return s.over.get(ctx, r)
	}
	return s.getHere(ctx, r)
}

// getHere makes one request to this endpoint.
func (s *Source) getHere(ctx context.Context, r object.Request) (a *object.Answer, err error) {
	sent := 0
	err = transport.Elsewhere(ctx, s.client.client.HTTPClient, object.Doubtful, func(ctx context.Context, t *transport.Trace) error {
		if sent++; sent > 1 {
			r.Resent.Add(1)
		}
		if a, err = s.getOnce(ctx, r); err != nil && s.client.correct(err) {
			r.Resent.Add(1)
			a, err = s.getOnce(ctx, r)
		}
		if p, ok := t.Peer(); ok && err == nil {
			a.From = p
		}
		return err
	})
	return a, err
}

// Head asks for the facts of the object, which was refused as frozen; see [Client.HeadArchived].
func (s *Source) Head(ctx context.Context, version string) (object.Facts, error) {
	f, _, err := s.client.HeadArchived(ctx, s.id.Key, version)
	return f, err
}

// Restore asks for a restore of the object; see [Client.Restore].
func (s *Source) Restore(ctx context.Context, version string, days int, tier string) (begun bool, err error) {
	return s.client.Restore(ctx, s.id.Key, version, days, tier)
}

func (s *Source) getVersion(ctx context.Context, r object.Request) (*object.Answer, error) {
	resp, err := s.client.send(ctx, s.build(r))
	if resp == nil || err != nil {
		return nil, s.client.failure(ctx, resp, err)
	}
	a, err := object.Read(r, resp.StatusCode, resp.Headers, object.OSS, false)
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	a.Body = resp.Body
	s.client.answered.Store(true)
	return a, nil
}

// build makes the request with the headers that OSS expects.
func (s *Source) build(r object.Request) outgoing {
	out := outgoing{method: http.MethodGet, key: s.id.Key, url: s.url, headers: map[string]string{"Accept-Encoding": "identity"}}
	for k, v := range s.client.extra.Headers {
		out.headers[k] = v
	}
	if len(s.client.extra.Params) > 0 || r.VersionID != "" {
		out.params = map[string]any{}
	}
	for k, v := range s.client.extra.Params {
		out.params[k] = v
	}
	if !r.Whole {
		out.headers["Range"] = r.Header()
		if s.client.keys != noKey {
			// Without it OSS ignores a range that is not wholly inside the object, and sends the whole object with a 200.
			out.headers["x-oss-range-behavior"] = "standard"
		}
	}
	if r.IfMatch != "" {
		out.headers["If-Match"] = r.IfMatch
	}
	if r.VersionID != "" {
		out.params["versionId"] = r.VersionID
	}
	return out
}
