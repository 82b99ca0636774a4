package ossdl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// maxSkew is how far a clock may be wrong, as OSS allows for signatures in headers. A URL that is past its date by less
	// is tried, since the server's clock decides.
	maxSkew = 15 * time.Minute
	// maxBarren bounds how many URLs in a row may be new and expired.
	maxBarren = 3
)

var _ engineSource = (*urlSource)(nil)

// urlSource is the object of a URL.
type urlSource struct {
	client    *http.Client
	userAgent string
	first     *address
	refresh   func(context.Context) (string, error) // nil if there is none

	mu           sync.Mutex
	now          *address
	renewing     chan struct{} // closed when the refresh under way has ended; nil if none is
	failed       error         // of the refresh
	freshExpired int           // new URLs since the last one that got an answer
	answered     bool
}

// newURLSource makes the source of the object of a. When the URL has expired, refresh is asked for another one; it may be
// nil.
func newURLSource(client *http.Client, userAgent string, a *address, refresh func(context.Context) (string, error)) *urlSource {
	return &urlSource{client: client, userAgent: userAgent, first: a, now: a, refresh: refresh}
}

// String returns the first URL without its query.
func (s *urlSource) String() string { return s.first.String() }

// identity returns host and path of the first URL.
func (s *urlSource) identity() identity { return s.first.id }

// versions returns false: a version is in the URL, and signed.
func (s *urlSource) versions() bool { return false }

// ready returns once there is a URL that has not expired. All who wait for a new one wait for the same refresh.
func (s *urlSource) ready(ctx context.Context) error {
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

// check reports whether a request can be made now, or why none ever can. If a new URL is needed first, it either tells this
// caller to renew it (mine), or returns a channel that is closed when another caller has.
func (s *urlSource) check(now time.Time) (renewed <-chan struct{}, mine bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.failed != nil:
		return nil, false, s.failed
	case !s.unusable(now):
		return nil, false, nil
	case s.refresh == nil:
		return nil, false, fmt.Errorf("%w: the URL was good until %v", ErrExpired, s.now.expires.UTC().Format(time.RFC3339))
	case s.renewing != nil:
		return s.renewing, false, nil
	}
	s.renewing = make(chan struct{})
	return nil, true, nil
}

// unusable reports whether the URL has expired. It must be called with the mutex held.
func (s *urlSource) unusable(now time.Time) bool {
	a := s.now
	if a.expired || a.expires.IsZero() {
		return a.expired
	}
	if s.refresh != nil {
		return now.After(a.expires)
	}
	return now.After(a.expires.Add(maxSkew))
}

// renew asks the caller for a new URL, for all who wait.
func (s *urlSource) renew(ctx context.Context) {
	next, err := s.renewURL(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case context.Cause(ctx) != nil: // this run has ended; the next one may ask
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
func (s *urlSource) renewURL(ctx context.Context) (*address, error) {
	raw, err := s.refresh(ctx)
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	if err != nil {
		return nil, fmt.Errorf("%w: no new URL: %w", ErrExpired, withoutURL(err))
	}
	next, err := parseAddress(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: WithURLRefresh: %w", ErrExpired, err)
	}
	if next.process != s.first.process {
		return nil, fmt.Errorf("%w: WithURLRefresh: URL %s: x-oss-process is not that of the first URL", ErrExpired, next)
	}
	if time.Now().After(next.expires) {
		// Brand-new and past its date: this machine's clock is wrong, so the date says nothing.
		next.expires = time.Time{}
	}
	return next, nil
}

// get makes one request. It returns an *expiredError if the URL has expired and can be renewed.
func (s *urlSource) get(ctx context.Context, r request) (*answer, error) {
	s.mu.Lock()
	addr := s.now
	s.mu.Unlock()
	a, err := s.getFrom(ctx, addr, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.freshExpired, s.answered = 0, true
	case s.refresh != nil && errors.Is(err, ErrExpired) && s.freshExpired < maxBarren:
		addr.expired = true
		return nil, &expiredError{err}
	}
	return a, err
}

func (s *urlSource) getFrom(ctx context.Context, addr *address, r request) (*answer, error) {
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

// build makes the request. It has no other headers, since they could break the signature.
func (s *urlSource) build(ctx context.Context, addr *address, r request) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, addr.url, nil)
	if err != nil {
		return nil, &permanentError{withoutURL(err)}
	}
	req.Header.Set("User-Agent", s.userAgent)
	req.Header.Set("Accept-Encoding", "identity")
	if !r.whole {
		req.Header.Set("Range", r.header())
	}
	if r.ifMatch != "" {
		req.Header.Set("If-Match", r.ifMatch)
	}
	return req, nil
}

// send returns the answer if it is a success. Nothing of what it returns holds a secret of the URL, but for the body of a
// success.
func (s *urlSource) send(req *http.Request, addr *address) (*http.Response, error) {
	resp, err := s.client.Do(req)
	if err != nil {
		if cause := context.Cause(req.Context()); cause != nil {
			err = cause
		}
		return nil, addr.withoutQuery(err)
	}
	secret := addr.secretsOf(req, resp)
	secret.clean(resp.Header)
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	// If the body cannot be read, the status is left, which says most.
	body, _ := io.ReadAll(io.LimitReader(resp.Body, errorBodyLimit))
	resp.Body.Close()
	refusal := newStatusError(resp.StatusCode, resp.Header, secret.cleanError(serviceErrorOf(body)))
	// A permanent key that never worked is wrong. It has not ended.
	if addr.signed && resp.StatusCode == http.StatusForbidden && keyEnded(refusal.service.Code, addr.token || s.wasAnswered()) {
		refusal.means = ErrExpired
	}
	return nil, refusal
}

// judge makes an answer of a success that fits the request.
func (s *urlSource) judge(addr *address, r request, resp *http.Response) (*answer, error) {
	// The kind holds after a redirect, too: a page that a network puts in between must not become the file.
	a, err := readAnswer(r, resp.StatusCode, resp.Header, addr.kind())
	if err == nil && addr.signed && a.requestID == "" {
		err = mismatch(r, a.origin, "%d without a request ID (%s): no output of OSS", resp.StatusCode, orNone(resp.Header.Get("Content-Type")))
	}
	if err != nil {
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK && resp.ContentLength < 0 && !s.wasAnswered() {
			return nil, &permanentError{err} // the page is generated: it has no length the next time either
		}
		return nil, err
	}
	if addr.processed() {
		a.crc, a.hasCRC = 0, false // if there is one, it is the object's
	}
	a.body = resp.Body
	return a, nil
}

func (s *urlSource) wasAnswered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered
}

// secretsOf returns the secrets of a request: those of the address, and those of the URL that redirects led to.
func (a *address) secretsOf(req *http.Request, resp *http.Response) *secrets {
	at := req.URL
	if resp.Request != nil && resp.Request.URL != nil { // a caller's transport may not set it
		at = resp.Request.URL
	}
	if at.RawQuery == a.query {
		return a.secret
	}
	all := new(secrets)
	all.addQuery(a.query, a.signed)
	all.addQuery(at.RawQuery, false)
	return all
}

// withoutQuery removes from an error of net/http what it says of URLs: of this one, and of a redirect, whose host may be
// anything.
func (a *address) withoutQuery(err error) error {
	err = withoutURL(err)
	switch msg := err.Error(); {
	case a.query != "" && strings.Contains(msg, a.query), strings.Contains(msg, "Location header"):
		return &permanentError{errors.New("the server answered with a malformed redirect")}
	case errors.Is(err, errRedirects), strings.Contains(msg, "unsupported protocol scheme"):
		return &permanentError{a.secret.cleanCause(err)} // a redirect leads nowhere
	}
	return a.secret.cleanCause(err)
}
