package weburl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/transport"
)

const (
	// maxSkew is how far a clock may be wrong, as OSS allows it for signatures in headers. A URL that expired less than that
	// ago is tried, since the server's clock decides.
	maxSkew = 15 * time.Minute
	// maxFreshExpired bounds how many new URLs in a row may turn out to have expired.
	maxFreshExpired = 3
)

var _ engine.Source = (*Source)(nil)

// Source is the object of a URL.
type Source struct {
	client    *http.Client
	userAgent string
	first     *Address
	headers   http.Header                           // for the host of first alone
	refresh   func(context.Context) (string, error) // nil: there will be no new URL

	mu           sync.Mutex
	now          *Address
	renewing     chan struct{} // closed when the refresh in progress has ended; nil: there is none
	failed       error         // the refresh failed, so no request can be made any more
	freshExpired int           // new URLs since the last one that got an answer
	answered     bool          // a URL got an answer
}

// NewSource makes the source of the object at a. Its host also gets the headers, which are secret. When the URL has expired,
// refresh must return a new one; nil: there is none.
func NewSource(client *http.Client, userAgent string, a *Address, headers http.Header, refresh func(context.Context) (string, error)) *Source {
	a.hide(headers)
	return &Source{client: client, userAgent: userAgent, first: a, now: a, headers: headers, refresh: refresh}
}

// String returns the first URL without its query.
func (s *Source) String() string { return s.first.String() }

// Identity returns host and path of the first URL.
func (s *Source) Identity() object.Identity { return s.first.id }

// Versions returns false: the version is a part of the URL, and may be signed.
func (s *Source) Versions() bool { return false }

// Ready returns once there is a URL that has not expired. All callers that need a new one wait for the same refresh.
func (s *Source) Ready(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		renewed, mine, err := s.check(time.Now())
		switch {
		case mine:
			s.renew(ctx)
		case renewed != nil:
			select {
			case <-renewed:
			case <-ctx.Done():
			}
		default:
			return err
		}
	}
}

// check returns nil if a request can be made now, or why none ever can. If a new URL is needed first, this caller is either
// to renew it (mine), or to wait until renewed is closed by the caller that does.
func (s *Source) check(now time.Time) (renewed <-chan struct{}, mine bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.failed != nil:
		return nil, false, s.failed
	case !s.unusable(now):
		return nil, false, nil
	case s.refresh == nil:
		return nil, false, fmt.Errorf("%w: the URL was good until %v", object.ErrExpired, s.now.expires.UTC().Format(time.RFC3339))
	case s.renewing != nil:
		return s.renewing, false, nil
	}
	s.renewing = make(chan struct{})
	return nil, true, nil
}

// unusable reports whether the URL has expired. The mutex is held.
func (s *Source) unusable(now time.Time) bool {
	a := s.now
	if a.expired || a.expires.IsZero() {
		return a.expired
	}
	if s.refresh != nil {
		return now.After(a.expires)
	}
	return now.After(a.expires.Add(maxSkew))
}

// renew calls refresh on behalf of all that wait for a new URL.
func (s *Source) renew(ctx context.Context) {
	next, err := s.renewURL(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case context.Cause(ctx) != nil: // only this run has ended: another one may renew the URL
	case err != nil:
		s.failed = err
	default:
		s.now = next
		s.freshExpired++
	}
	close(s.renewing)
	s.renewing = nil
}

// renewURL calls refresh and checks what it returns.
func (s *Source) renewURL(ctx context.Context) (*Address, error) {
	raw, err := s.refresh(ctx)
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	if err != nil {
		return nil, fmt.Errorf("%w: no new URL: %w", object.ErrExpired, object.WithoutURL(err))
	}
	next, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: WithURLRefresh: %w", object.ErrExpired, err)
	}
	next.hide(s.headers)
	if next.process != s.first.process {
		return nil, fmt.Errorf("%w: WithURLRefresh: URL %s: x-oss-process is not that of the first URL", object.ErrExpired, next)
	}
	if time.Now().After(next.expires) {
		// Brand-new and past its date: this machine's clock is wrong, so the date says nothing.
		next.expires = time.Time{}
	}
	return next, nil
}

// Get makes one request. It returns an [*object.ExpiredError] if the URL has expired and can be renewed.
func (s *Source) Get(ctx context.Context, r object.Request) (*object.Answer, error) {
	s.mu.Lock()
	addr := s.now
	s.mu.Unlock()
	a, err := s.getFrom(ctx, addr, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.freshExpired, s.answered = 0, true
	case s.refresh != nil && errors.Is(err, object.ErrExpired) && s.freshExpired < maxFreshExpired:
		addr.expired = true
		return nil, &object.ExpiredError{Err: err}
	}
	return a, err
}

// getFrom makes one request to a URL. It repeats the request if another address of the host may answer better.
func (s *Source) getFrom(ctx context.Context, addr *Address, r object.Request) (a *object.Answer, err error) {
	sent := 0
	err = transport.Elsewhere(ctx, s.client, object.Doubtful, func(ctx context.Context, t *transport.Trace) error {
		if sent++; sent > 1 {
			r.Resent.Add(1)
		}
		if a, err = s.getOnce(ctx, addr, r); err != nil {
			return err
		}
		if p, ok := t.Peer(); ok {
			a.From = p
		}
		return nil
	})
	return a, err
}

func (s *Source) getOnce(ctx context.Context, addr *Address, r object.Request) (*object.Answer, error) {
	req, err := s.build(ctx, addr, r)
	if err != nil {
		return nil, err
	}
	resp, err := s.send(req, addr)
	if err != nil {
		return nil, err
	}
	return s.judge(addr, r, resp)
}

// build makes the request. It adds no headers but the caller's, since others could break the signature.
func (s *Source) build(ctx context.Context, addr *Address, r object.Request) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, addr.url, nil)
	if err != nil {
		return nil, &object.PermanentError{Err: object.WithoutURL(err)}
	}
	req.Header.Set("User-Agent", s.userAgent)
	req.Header.Set("Accept-Encoding", "identity")
	if !r.Whole {
		req.Header.Set("Range", r.Header())
	}
	if r.IfMatch != "" {
		req.Header.Set("If-Match", r.IfMatch)
	}
	if addr.id.Bucket == s.first.id.Bucket && (addr.scheme == s.first.scheme || addr.scheme == "https") {
		req = transport.SetHeaders(req, s.headers)
	}
	return req, nil
}

// send returns the answer if it is a success. What it returns holds no secret of the URL, except for the body of a success.
func (s *Source) send(req *http.Request, addr *Address) (*http.Response, error) {
	var resp *http.Response
	var err error
	if perr := engine.Guard("the HTTP client", func() { resp, err = s.client.Do(req) }); perr != nil {
		return nil, perr
	}
	if err != nil {
		if cause := context.Cause(req.Context()); cause != nil {
			err = cause
		}
		var proxy *transport.ProxyError
		if errors.As(err, &proxy) && proxy.Final(s.wasAnswered()) {
			return nil, &object.PermanentError{Err: proxy}
		}
		return nil, object.ExplainDial(addr.withoutQuery(err), req.URL.Host)
	}
	secret := addr.secretsOf(req, resp)
	secret.Clean(resp.Header)
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	// If the body cannot be read there is still the status, which says the most.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, transport.ErrorBodyLimit))
	resp.Body.Close()
	refusal := object.NewStatusError(resp.StatusCode, resp.Header, secret.CleanError(object.ServiceErrorOf(body)))
	if addr.query == "" && len(s.headers) == 0 {
		refusal.MarkUnsigned("the URL is not signed")
	}
	// A permanent key that never worked is wrong. It has not ended.
	if addr.signed && resp.StatusCode == http.StatusForbidden && refusal.KeyEnded(addr.token || s.wasAnswered()) {
		refusal.MarkExpired()
	}
	return nil, refusal
}

// judge returns the answer of a success, if it fits the request.
func (s *Source) judge(addr *Address, r object.Request, resp *http.Response) (*object.Answer, error) {
	// The kind is required after a redirect, too: the sign-in page of a network must not become the file.
	a, err := object.Read(r, resp.StatusCode, resp.Header, addr.kind(), isDelimited(resp))
	if err == nil && addr.signed && a.RequestID == "" {
		err = object.Mismatch(r, a.Origin, "%d without a request ID (%s): no output of OSS", resp.StatusCode, object.OrNone(resp.Header.Get("Content-Type")))
	}
	if err != nil {
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK && resp.ContentLength < 0 && !s.wasAnswered() {
			return nil, &object.PermanentError{Err: err} // a generated page: it has no length the next time either
		}
		return nil, err
	}
	if addr.Processed() {
		a.CRC, a.HasCRC = 0, false // that of the object, if there is one
	}
	a.Body = resp.Body
	return a, nil
}

// isDelimited reports whether the end of a body is marked: by its last chunk, or by a frame of HTTP/2. Otherwise it may be that of
// the connection.
func isDelimited(resp *http.Response) bool {
	return slices.Contains(resp.TransferEncoding, "chunked") || resp.ProtoMajor >= 2
}

func (s *Source) wasAnswered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered
}

// secretsOf returns the secrets of a request: those of the address, and those of the URL that a redirect led to.
func (a *Address) secretsOf(req *http.Request, resp *http.Response) *transport.Secrets {
	at := req.URL
	if resp.Request != nil && resp.Request.URL != nil { // a transport given by the caller may not set it
		at = resp.Request.URL
	}
	if at.RawQuery == a.query {
		return a.secret
	}
	all := new(transport.Secrets)
	all.AddQuery(a.query, a.signed)
	all.AddQuery(at.RawQuery, false)
	a.hideIn(all)
	return all
}

// withoutQuery removes from an error of net/http what it quotes of URLs: of this one, and of a redirect, whose host may be
// anything.
func (a *Address) withoutQuery(err error) error {
	err = object.WithoutURL(err)
	switch msg := err.Error(); {
	case a.query != "" && strings.Contains(msg, a.query), strings.Contains(msg, "Location header"):
		return &object.PermanentError{Err: errors.New("the server answered with a malformed redirect")}
	case errors.Is(err, transport.ErrRedirects), errors.Is(err, transport.ErrDowngrade), strings.Contains(msg, "unsupported protocol scheme"):
		return &object.PermanentError{Err: a.secret.CleanCause(err)} // a redirect leads nowhere
	}
	return a.secret.CleanCause(err)
}
