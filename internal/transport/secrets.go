package transport

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

// Secrets holds the credentials of one request, to remove them from errors, logs and files. A server or proxy may echo what
// it was sent in any field of an answer. So the answer is cleaned before anything else reads it.
type Secrets struct {
	mu    sync.Mutex // the transport may still be writing the request while its answer is read
	all   []string
	first [6]string // the first array behind all: no request through the SDK has more
}

const (
	// minSecret is the length of the shortest secret, in bytes. Shorter words appear in answers for other reasons.
	minSecret = 8
	hidden    = "***"
)

// add must be cheap: it runs for every request, and answers rarely contain a secret.
func (s *Secrets) add(values ...string) {
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

// addHeader adds the secrets of a header that was sent. The name is in net/http's canonical form.
func (s *Secrets) addHeader(name string, values []string) {
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

// AddValue adds the value of a header that the caller has added, with and without the scheme before it.
func (s *Secrets) AddValue(value string) {
	s.add(value)
	if _, v, ok := strings.Cut(value, " "); ok {
		s.add(strings.TrimSpace(v))
	}
}

// sentKey is the key of the Secrets in the context of a request, to which a [Transport] adds what it sends.
type sentKey struct{}

// Watch returns the context for a request that client is to make, so that s learns its secrets. The SDK signs a request when
// it sends it, so they are not known earlier. A [Transport] reports the headers that it sends; for any other, net/http's
// trace does.
func (s *Secrets) Watch(ctx context.Context, client *http.Client) context.Context {
	if client != nil {
		if _, ours := client.Transport.(*Transport); ours {
			return context.WithValue(ctx, sentKey{}, s)
		}
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaderField: s.addHeader})
}

// learn adds the secrets of a request to the Secrets that Watch put into its context.
func learn(r *http.Request) {
	if s, ok := r.Context().Value(sentKey{}).(*Secrets); ok {
		for _, name := range []string{"Authorization", "Proxy-Authorization", "X-Oss-Security-Token"} {
			if v := r.Header[name]; v != nil {
				s.addHeader(name, v)
			}
		}
	}
}

// ErrEmptyKey ends a request that would be signed with an empty access key.
var ErrEmptyKey = errors.New("the credentials provider returned an empty access key; for unsigned requests give oss.New an empty access key and no provider")

// isSignedWithoutKey reports whether a request is signed with an empty access key: OSS calls that an unknown key.
func isSignedWithoutKey(r *http.Request) bool {
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.HasPrefix(scheme, "OSS") && (strings.HasPrefix(rest, ":") || strings.HasPrefix(rest, "Credential=/") ||
		strings.HasPrefix(rest, "AccessKeyId:,"))
}

// AddQuery adds the secrets of a URL's query: the whole query, each parameter, and each value that may be a credential. In a
// URL that is signed for OSS, any value but the version ID may be one.
func (s *Secrets) AddQuery(query string, signed bool) {
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
				id, _, _ := strings.Cut(plain, "/") // a credential of V4 is ID/SCOPE
				s.add(id)
			}
		}
	}
}

// mayBeCredential judges a parameter by its name. Other values, such as that of v=ETAG, may be part of the answer.
func mayBeCredential(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc([]string{"sig", "token", "key", "auth", "cred", "secret", "pass"}, func(word string) bool {
		return strings.Contains(name, word)
	})
}

// hide returns text without the secrets, whether they appear in it verbatim or escaped as in a URL.
func (s *Secrets) hide(text string) string { return hideAll(text, s.known()) }

// known returns the secrets that were added so far. They must not be changed.
func (s *Secrets) known() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

// hideAll is hide for these secrets.
func hideAll(text string, secrets []string) string {
	if len(text) < minSecret {
		return text
	}
	escaped := strings.Contains(text, "%")
	if !slices.ContainsFunc(secrets, func(secret string) bool {
		return strings.Contains(text, secret) || escaped && strings.Contains(text, url.QueryEscape(secret))
	}) {
		return text
	}
	all := slices.Clone(secrets)
	for _, secret := range secrets {
		all = append(all, url.QueryEscape(secret))
	}
	// The longest first, because one may be part of another.
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, secret := range all {
		text = strings.ReplaceAll(text, secret, hidden)
	}
	return text
}

// Clean removes the secrets from the head of an answer. An ETag or version ID that held one identifies nothing, so it is
// removed altogether.
func (s *Secrets) Clean(h http.Header) {
	secrets := s.known()
	for name, values := range h {
		for i, v := range values {
			clean := hideAll(v, secrets)
			if clean == v {
				continue
			}
			if values[i] = clean; name == "Etag" || name == "X-Oss-Version-Id" {
				values[i] = ""
			}
		}
	}
}

// CleanError removes the secrets from what the service said about an error.
func (s *Secrets) CleanError(se oss.ServiceError) oss.ServiceError {
	for _, field := range []*string{&se.Code, &se.Message, &se.RequestID, &se.HostID, &se.Endpoint, &se.Ec} {
		*field = s.hide(*field)
	}
	return se
}

// CleanCause returns err, or an error with only the cleaned text of err if that holds a secret.
func (s *Secrets) CleanCause(err error) error {
	if text := err.Error(); s.hide(text) != text {
		return errors.New(s.hide(text))
	}
	return err
}
