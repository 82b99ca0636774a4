package ossdl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// DownloadURL brings the object of a URL to the file path, with all that Download promises. The URL is a signed GET URL of
// OSS (V1 or V4), or any other that a web server answers without further credentials; ranges are used where the server
// knows them, and a single request where it does not. Nothing but Range, If-Match, Accept-Encoding and User-Agent is sent
// with it, since other headers could break the signature.
//
// The object is known by host, path, version (versionId in the query) and ETag, or Last-Modified where there is no strong
// ETag: another URL of the same object resumes what one left. Result.Bucket and Result.Key are host and path. The rest of
// the query is in no file, error or log line.
//
// A URL has the form http(s)://HOST[:PORT]/PATH[?QUERY]; one with a user name or a fragment is refused. A signed URL whose
// own date is past, or that the server calls expired, is replaced by what WithURLRefresh brings, while all requests wait for
// the one answer; it may be of another host or path, but what it leads to must be the same object. Without a refresh the
// call fails with ErrExpired, and the same call with a new URL continues. So it is with a URL that was signed with a
// temporary key, once its token has ended, whatever date the URL names.
//
// Redirects are followed, also to other hosts. What a signed URL leads to must be an answer of OSS, with a request ID and
// something that identifies the object: anything else, such as the sign-in page of a network, is tried again and then an
// error, and neither path nor partial file change for it. An answer without Content-Length is an error too: there would be
// no telling whether its body is whole.
//
// With x-oss-process in the query, what comes is made of the object and is not the object: the whole is asked for, in one
// stream without conditions, and the service's CRC-64 is not of it, so that Result.Verified rests on WithChecksum. A stream
// that breaks starts again, and what is written already stays if the answer has the same size and ETag, or Last-Modified
// where there is no strong ETag; a later call starts anew. Checkpoint options have no effect; WithRange and WithIfMatch are
// refused.
//
// Errors: those of Download. The call ends with ctx, promptly.
func (d *Downloader) DownloadURL(ctx context.Context, signedURL, path string, opts ...Option) (*Result, error) {
	c, err := d.urlCall(inDownloadURL, signedURL, opts)
	if err != nil {
		return nil, fmt.Errorf("ossdl: download %w", err)
	}
	return c.toFile(ctx, path)
}

// OpenURL returns a reader of the object of a URL, or of the part of it that WithRange asks for: in order, within
// WithReadAhead bytes of memory, with the verdict at the last Read, all as Open has it. The URL is what DownloadURL takes,
// and is sent, refreshed and named as there. Nothing is kept between calls: after ErrExpired a new one starts anew. The
// options are those of Open but for WithVersionID and WithRequestOptions, since version and parameters are in the URL, and
// besides WithURLRefresh and WithHTTPClient.
//
// A malformed URL, and an option that does not apply, is an error before any request. OpenURL waits for the first answer,
// and returns the errors that come instead of it: those that Download names. Later ones come from Read, after the bytes
// before them. When ctx is done before the end, Read returns its error at once. The Reader must be closed.
func (d *Downloader) OpenURL(ctx context.Context, signedURL string, opts ...Option) (*Reader, error) {
	c, err := d.urlCall(inOpenURL, signedURL, opts)
	if err != nil {
		return nil, fmt.Errorf("ossdl: open %w", err)
	}
	return c.toReader(ctx)
}

// urlCall is a call for the object of a URL. Its errors begin with the name of that, as far as there is one.
func (d *Downloader) urlCall(where entrances, signedURL string, opts []Option) (*call, error) {
	addr, err := parseAddress(signedURL)
	if err != nil {
		return nil, err
	}
	cfg, err := d.cfg.with(where, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	cfg.versionID = addr.version
	if addr.process != "" {
		switch {
		case cfg.window != nil:
			return nil, fmt.Errorf("%s: WithRange does not apply to a URL with x-oss-process", addr)
		case cfg.ifMatch != "":
			return nil, fmt.Errorf("%s: WithIfMatch does not apply to a URL with x-oss-process", addr)
		}
		cfg.checkpoint, cfg.cpDir, cfg.noCheckpoint = "", "", true
		cfg.oneStream = true
	}
	src := &urlSource{client: d.webClient(&cfg), first: addr, now: addr, refresh: cfg.refresh}
	return d.newCall(src, cfg), nil
}

// CloseIdleConnections closes the connections that DownloadURL and OpenURL keep for later calls. Those of the SDK's
// client, and of a client given with WithHTTPClient, are their owners' business.
func (d *Downloader) CloseIdleConnections() { d.web().CloseIdleConnections() }

// webClient is the client for URLs: the caller's, with our rules for redirects unless it has its own, or one that all
// calls share.
func (d *Downloader) webClient(cfg *settings) *http.Client {
	if cfg.httpClient == nil {
		return d.web()
	}
	client := *cfg.httpClient
	if theirs := client.CheckRedirect; theirs == nil {
		client.CheckRedirect = checkRedirect
	} else {
		client.CheckRedirect = func(next *http.Request, via []*http.Request) error {
			next.Header.Del("Referer") // the address just left may hold a signature in its query
			return theirs(next, via)
		}
	}
	return &client
}

// address is one URL of an object.
type address struct {
	url     string // all of it; it goes nowhere but into a request
	query   string
	secret  *secrets
	scheme  string
	id      identity
	version string
	process string    // what is made of the object (x-oss-process in the query); "": nothing
	signed  bool      // by OSS
	token   bool      // with a temporary key, which may end before the URL does
	expires time.Time // what it says itself; zero: nothing
	spent   bool      // the server says that it has expired
}

// String names the address without its query.
func (a *address) String() string { return a.scheme + "://" + a.id.bucket + a.id.key }

const addressForm = "the form is http(s)://HOST[:PORT]/PATH[?QUERY], without user name and fragment"

// parseAddress reads a URL. Its errors name it without what may be secret.
func parseAddress(raw string) (*address, error) {
	bad := func(why string) (*address, error) {
		name := "URL"
		if shown := harmless(raw); shown != "" {
			name += fmt.Sprintf(" %q", shown)
		}
		return nil, fmt.Errorf("%s: %s; %s", name, why, addressForm)
	}
	if strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return bad("white space or a control character in it")
	}
	if strings.Contains(raw, "#") {
		return bad("a fragment is in it (a # of the path is written %23)")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return bad("malformed")
	}
	port, portErr := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return bad("neither http nor https")
	case u.User != nil:
		return bad("a user name is in it")
	case u.Hostname() == "":
		return bad("no host")
	case u.Port() != "" && (portErr != nil || port == 0):
		return bad("the port is not one of 1 to 65535")
	}
	q := u.Query()
	a := &address{
		url: raw, query: u.RawQuery, scheme: u.Scheme, version: q.Get("versionId"),
		id:      identity{url: true, bucket: hostOf(u), key: u.EscapedPath()},
		process: q.Get("x-oss-process"),
		signed:  q.Has("OSSAccessKeyId") && q.Has("Signature") || q.Has("x-oss-signature"),
		token:   q.Has("security-token") || q.Has("x-oss-security-token"),
	}
	if a.id.key == "" {
		a.id.key = "/"
	}
	if a.signed {
		a.expires = expiry(q)
	}
	a.secret = new(secrets)
	a.secret.addQuery(a.query, a.signed)
	return a, nil
}

// harmless is what a message may show of a URL that is malformed in any way: no user name, password or query. What stands
// between :// and the last @ of all may be a password, with a ? in it too; where that @ may as well be of a query, nothing
// behind :// is shown, and where there is no scheme, nothing at all.
func harmless(raw string) string {
	scheme, rest, _ := strings.Cut(raw, "://")
	if !schemeForm.MatchString(scheme) || len(scheme) == len(raw) {
		return ""
	}
	at, query := strings.LastIndexByte(rest, '@'), strings.IndexAny(rest, "?#")
	switch {
	case query >= 0 && at > query:
		rest = ""
	case query >= 0:
		rest = rest[at+1 : query]
	default:
		rest = rest[at+1:]
	}
	return scheme + "://" + rest
}

var schemeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*$`)

// hostOf is the host as an identity has it: with the port unless it is the scheme's own.
func hostOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if u.Scheme == "http" {
		host = strings.TrimSuffix(host, ":80")
	} else {
		host = strings.TrimSuffix(host, ":443")
	}
	return strings.TrimSuffix(host, ":")
}

// expiry is the date of a signed URL: Expires in V1, x-oss-date and x-oss-expires in V4; zero where it has none.
func expiry(q url.Values) time.Time {
	name := "Expires"
	if q.Has("x-oss-signature") {
		name = "x-oss-expires"
	}
	seconds, err := strconv.ParseInt(q.Get(name), 10, 64)
	if err != nil || seconds < 0 || seconds > 1<<40 {
		return time.Time{}
	}
	if !q.Has("x-oss-date") {
		return time.Unix(seconds, 0)
	}
	from, err := time.Parse("20060102T150405Z", q.Get("x-oss-date"))
	if err != nil {
		return time.Time{}
	}
	return from.Add(time.Duration(min(seconds, maxLife)) * time.Second)
}

const (
	// maxLife is OSS's limit for a signed URL, in seconds.
	maxLife = 7 * 24 * 3600
	// maxSkew is how far a clock may be wrong, as OSS allows for signatures in headers. A URL that is past its date by
	// less is tried: the clock that counts is the server's.
	maxSkew = 15 * time.Minute
	// maxBarren bounds how many URLs in a row may be new and expired.
	maxBarren = 3
)

// urlSource is the object of a URL, asked for without the SDK.
type urlSource struct {
	client  *http.Client
	first   *address
	refresh func(context.Context) (string, error) // nil: none

	mu       sync.Mutex
	now      *address
	renewing chan struct{} // closed when the refresh under way has ended; nil: none is
	failed   error         // of the refresh
	barren   int           // URLs brought since one was good for an answer
	answered bool
}

func (s *urlSource) String() string { return s.first.String() }

func (s *urlSource) identity() identity { return s.first.id }

func (s *urlSource) versions() bool { return false } // a version is in the URL, and signed

// ready sees that there is a URL that has not expired. All who wait for a new one wait for the same answer.
func (s *urlSource) ready(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.mu.Lock()
		switch wait := s.renewing; {
		case s.failed != nil:
			s.mu.Unlock()
			return s.failed
		case !s.over(time.Now()):
			s.mu.Unlock()
			return nil
		case s.refresh == nil:
			s.mu.Unlock()
			return fmt.Errorf("%w: the URL was good until %v", ErrExpired, s.now.expires.UTC().Format(time.RFC3339))
		case wait == nil:
			s.renewing = make(chan struct{})
			s.mu.Unlock()
			s.renew(ctx)
		default:
			s.mu.Unlock()
			select {
			case <-wait:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

// over reports whether the URL is of no more use. The mutex is held.
func (s *urlSource) over(now time.Time) bool {
	a := s.now
	if a.spent || a.expires.IsZero() {
		return a.spent
	}
	if s.refresh != nil {
		return now.After(a.expires)
	}
	return now.After(a.expires.Add(maxSkew))
}

// renew asks the caller for a new URL, once for all.
func (s *urlSource) renew(ctx context.Context) {
	next, err := s.ask(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case context.Cause(ctx) != nil: // this run is over, the next one may ask
	case err != nil:
		s.failed = err
	default:
		s.now = next
		s.barren++
	}
	close(s.renewing)
	s.renewing = nil
}

func (s *urlSource) ask(ctx context.Context) (*address, error) {
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
		// Brand-new and past its date: this machine's clock is wrong, and the date tells nothing.
		next.expires = time.Time{}
	}
	return next, nil
}

func (s *urlSource) get(ctx context.Context, r request) (*answer, error) {
	s.mu.Lock()
	addr := s.now
	s.mu.Unlock()
	a, err := s.once(ctx, addr, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		s.barren, s.answered = 0, true
	case s.refresh != nil && errors.Is(err, ErrExpired) && s.barren < maxBarren:
		addr.spent = true
		return nil, &expiredError{err}
	}
	return a, err
}

// once makes one request.
func (s *urlSource) once(ctx context.Context, addr *address, r request) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, addr.url, nil)
	if err != nil {
		return nil, &permanentError{withoutURL(err)}
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept-Encoding", "identity")
	if !r.whole {
		req.Header.Set("Range", r.header())
	}
	if r.ifMatch != "" {
		req.Header.Set("If-Match", r.ifMatch)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, addr.withoutQuery(err)
	}
	at, secret := req.URL, addr.secret
	if resp.Request != nil && resp.Request.URL != nil { // a transport of the caller's may not say
		at = resp.Request.URL
	}
	if at.RawQuery != addr.query { // a redirect was followed
		secret = new(secrets)
		secret.addQuery(addr.query, addr.signed)
		secret.addQuery(at.RawQuery, false)
	}
	secret.clean(resp.Header)
	if resp.StatusCode/100 != 2 {
		// Whatever of the body cannot be read leaves the status, which says most.
		body, _ := io.ReadAll(io.LimitReader(resp.Body, errorBodyLimit))
		resp.Body.Close()
		refusal := newStatusError(resp.StatusCode, resp.Header, secret.cleanError(serviceErrorOf(body)))
		if addr.signed && s.keyEnded(addr, refusal) {
			refusal.means = ErrExpired
		}
		return nil, refusal
	}
	// Where a signed URL is redirected to, too: a page that a network puts in between must not become the file.
	a, err := readAnswer(r, resp.StatusCode, resp.Header, addr.signed && addr.process == "")
	if err == nil && addr.signed && a.requestID == "" { // what identifies output is not documented
		err = &answerError{asked: r, got: fmt.Sprintf("%d without a request ID (%s): no output of OSS", resp.StatusCode, orNone(resp.Header.Get("Content-Type"))), size: -1}
	}
	if err != nil {
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK && resp.ContentLength < 0 && !s.wasAnswered() {
			return nil, &permanentError{err} // a page made on the way out: it has no length the next time either
		}
		return nil, err
	}
	if addr.process != "" {
		a.crc, a.hasCRC = 0, false // it is the object's, if it is anything's
	}
	a.body = resp.Body
	return a, nil
}

// keyEnded reports whether a signature is refused because the temporary key it was made with has ended.
func (s *urlSource) keyEnded(addr *address, refusal *statusError) bool {
	if refusal.service.StatusCode != http.StatusForbidden {
		return false
	}
	switch refusal.service.Code {
	case "SecurityTokenExpired", "InvalidSecurityToken", "AccessKeyIdAndSecurityTokenNotMatch":
		return true
	case "InvalidAccessKeyId":
		// What an ended temporary key can surface as. A permanent one that never worked is wrong.
		return addr.token || s.wasAnswered()
	}
	return false
}

func (s *urlSource) wasAnswered() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered
}

// withoutQuery removes from an error of net/http what it says of URLs: this one's, and that of a redirect, whose host may
// be anything.
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
