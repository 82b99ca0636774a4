package sealed

import (
	"context"
	"crypto/cipher"
	"fmt"
	"io"
	"sync"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/object"
)

// Inner is the source of an object as it is stored.
type Inner interface {
	engine.Source
	Identity() object.Identity
	fmt.Stringer
}

var _ engine.Source = (*Source)(nil)

// Source is the source of an object as its writer has seen it. What was not encrypted comes as it is stored.
//
// Each answer brings the envelope along. Its name is among the facts of the answer, so that answers with another envelope count
// as those of another object.
type Source struct {
	Inner
	opener *Opener

	mu     sync.Mutex
	opened map[string]*Opening // by the names of the envelopes
}

// NewSource makes the source that decrypts what inner gives.
func NewSource(inner Inner, opener *Opener) *Source {
	return &Source{Inner: inner, opener: opener, opened: map[string]*Opening{}}
}

// Get makes one request. The body of the answer is plaintext. Whether there is a key for it is left to Check, since the
// answer may be of another object than the one that is wanted: until then a read of the body is an error.
func (s *Source) Get(ctx context.Context, r object.Request) (*object.Answer, error) {
	a, err := s.Inner.Get(ctx, r)
	if err != nil {
		return nil, err
	}
	opening := s.opening(a)
	if opening == nil {
		return a, nil
	}
	if err := opening.wait(ctx); err != nil {
		a.Body.Close()
		return nil, err
	}
	a.Envelope = opening.name
	a.Body = &body{ReadCloser: a.Body, opening: opening, off: a.Off}
	return a, nil
}

// opening returns the envelope of an answer, which is opened once for all answers that have it; nil: there is none.
func (s *Source) opening(a *object.Answer) *Opening {
	name := nameOf(a.Header)
	if name == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened[name] == nil {
		s.opened[name] = s.opener.Open(a.Header)
	}
	return s.opened[name]
}

// Check returns an error if f are facts of an object that cannot be decrypted.
func (s *Source) Check(f object.Facts) error {
	s.mu.Lock()
	opening := s.opened[f.Envelope]
	s.mu.Unlock()
	if opening == nil {
		return nil
	}
	return opening.refusal(f.Origin)
}

// Stream returns the keystream of the object with these facts; nil if it is not encrypted.
func (s *Source) Stream(f object.Facts) *Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if opening := s.opened[f.Envelope]; opening != nil {
		return opening.stream
	}
	return nil
}

// body decrypts a body that begins at an offset of the object.
type body struct {
	io.ReadCloser
	opening *Opening
	off     int64
	stream  cipher.Stream // nil until the first read
}

func (b *body) Read(p []byte) (int, error) {
	if b.stream == nil {
		if err := b.opening.refusal(object.Origin{}); err != nil {
			return 0, err
		}
		b.stream = b.opening.stream.At(b.off)
	}
	n, err := b.ReadCloser.Read(p)
	b.stream.XORKeyStream(p[:n], p[:n])
	return n, err
}
