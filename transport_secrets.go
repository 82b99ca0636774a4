package ossdl

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// secrets are what a request carries that no error, log line or file may tell. Something between here and the service that
// sends back what it is sent may put them into any field of an answer, so they are taken out before anything reads it.
type secrets struct {
	mu    sync.Mutex // the transport may still write the request while its answer is read
	all   []string
	first [6]string // where all begins: no request through the SDK has more
}

const (
	// minSecret keeps short words out, which stand in answers for other reasons.
	minSecret = 8
	hidden    = "***"
)

// add is cheap: each request has secrets of its own, and hardly an answer has any of them.
func (s *secrets) add(values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = s.first[:0]
	}
	for _, v := range values {
		if len(v) >= minSecret && !slices.Contains(s.all, v) {
			s.all = append(s.all, v)
		}
	}
}

// addHeader adds those of a header that was sent, its name as net/http spells it.
func (s *secrets) addHeader(name string, values []string) {
	switch name {
	case "Authorization":
		for _, v := range values {
			// "OSS ID:SIGNATURE", or "OSS4-HMAC-SHA256 Credential=ID/SCOPE,Signature=SIGNATURE" with more between.
			_, v, _ = strings.Cut(v, " ")
			for field := range strings.SplitSeq(v, ",") {
				name, value, ok := strings.Cut(field, "=")
				if id, signature, v1 := strings.Cut(field, ":"); v1 {
					s.add(id, signature)
				} else if ok && strings.TrimSpace(name) != "AdditionalHeaders" {
					id, _, _ := strings.Cut(value, "/")
					s.add(value, id)
				}
			}
		}
	case "Proxy-Authorization":
		for _, v := range values {
			_, v, _ = strings.Cut(v, " ")
			s.add(v)
		}
	case "X-Oss-Security-Token":
		s.add(values...)
	}
}

// sentKey is where the context of a request has the secrets that the transport of HTTPClient is to add to.
type sentKey struct{}

// watch learns the secrets of a request that the SDK signs: from the transport of HTTPClient, or else from what net/http
// tells of what it writes.
func (s *secrets) watch(ctx context.Context, client *http.Client) context.Context {
	if client != nil {
		if _, ours := client.Transport.(*transport); ours {
			return context.WithValue(ctx, sentKey{}, s)
		}
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaderField: s.addHeader})
}

// learn is the other end of watch.
func learn(r *http.Request) {
	if s, ok := r.Context().Value(sentKey{}).(*secrets); ok {
		for _, name := range []string{"Authorization", "Proxy-Authorization", "X-Oss-Security-Token"} {
			if v := r.Header[name]; v != nil {
				s.addHeader(name, v)
			}
		}
	}
}

// addQuery adds those of a URL's query: all of it, each parameter, and the value of each that may be a credential. All of
// a signed URL of OSS may be, but the version it names.
func (s *secrets) addQuery(query string, signed bool) {
	s.add(query)
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name == "versionId" || value == "" {
			continue
		}
		s.add(pair)
		if signed || mayBeCredential(name) {
			s.add(value)
			if plain, err := url.QueryUnescape(value); err == nil {
				s.add(plain)
				id, _, _ := strings.Cut(plain, "/") // of a credential of V4
				s.add(id)
			}
		}
	}
}

// mayBeCredential judges a parameter by its name. Others, as v=ETAG is one, may stand in an answer for a good reason.
func mayBeCredential(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc([]string{"sig", "token", "key", "auth", "cred", "secret", "pass"}, func(word string) bool {
		return strings.Contains(name, word)
	})
}

// hide is text without the secrets, as they are or escaped as in a URL.
func (s *secrets) hide(text string) string {
	if len(text) < minSecret {
		return text
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	escaped := strings.Contains(text, "%")
	if !slices.ContainsFunc(s.all, func(secret string) bool {
		return strings.Contains(text, secret) || escaped && strings.Contains(text, url.QueryEscape(secret))
	}) {
		return text
	}
	all := slices.Clone(s.all)
	for _, secret := range s.all {
		all = append(all, url.QueryEscape(secret))
	}
	// The longest first: one may be a part of another.
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, secret := range all {
		text = strings.ReplaceAll(text, secret, hidden)
	}
	return text
}

// clean takes the secrets out of the head of an answer. An ETag or a version with one in it identifies nothing.
func (s *secrets) clean(h http.Header) {
	for name, values := range h {
		for i, v := range values {
			clean := s.hide(v)
			if clean == v {
				continue
			}
			if values[i] = clean; name == "Etag" || name == "X-Oss-Version-Id" {
				values[i] = ""
			}
		}
	}
}

// cleanError takes the secrets out of a refusal.
func (s *secrets) cleanError(se oss.ServiceError) oss.ServiceError {
	for _, field := range []*string{&se.Code, &se.Message, &se.RequestID, &se.HostID, &se.Endpoint, &se.Ec} {
		*field = s.hide(*field)
	}
	return se
}

// cleanCause is err, or its text alone where that holds a secret.
func (s *secrets) cleanCause(err error) error {
	if text := err.Error(); s.hide(text) != text {
		return errors.New(s.hide(text))
	}
	return err
}

// cleanResponse takes the secrets out of what the SDK returns.
func (s *secrets) cleanResponse(resp *oss.Response, err error) (*oss.Response, error) {
	if resp != nil {
		s.clean(resp.Headers)
	}
	var se oss.ServiceError
	if errors.As(err, &se) {
		err = s.cleanError(se)
	}
	return resp, err
}
