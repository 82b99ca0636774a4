package engine

import (
	"errors"
	"slices"
	"sync"

	"github.com/ossdl/ossdl/internal/object"
)

// maxSuspects bounds how many addresses are avoided in turn after the bytes of several turned out wrong.
const maxSuspects = 3

// suspects are the addresses that gave the bytes of an engine, for hosts that have several.
type suspects struct {
	mu      sync.Mutex
	all     []object.Peer // each once
	tried   int           // of all, from the first
	avoided object.Peer   // nil: none
}

// add records that an address gives bytes.
func (s *suspects) add(p object.Peer) {
	if p == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) < maxSuspects && !slices.Contains(s.all, p) {
		s.all = append(s.all, p)
	}
}

// next avoids the next suspect in place of the last one. It returns false if none is left.
func (s *suspects) next() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.avoided != nil {
		s.avoided.Trust()
		s.avoided = nil
	}
	for s.tried < len(s.all) {
		p := s.all[s.tried]
		s.tried++
		if p.Avoid() {
			s.avoided = p
			return true
		}
	}
	return false
}

// Suspect is for bytes of several addresses that turned out wrong as a whole. It makes the next run avoid one of these
// addresses, each time another one, and returns false if none is left.
func (e *Engine) Suspect() bool { return e.suspects.next() }

// disputed reports whether the host has another address to ask, after one has answered about another object. Then that one is
// avoided. OSS gives each answer a request ID, and is believed at once.
func disputed(a *object.Answer, err error) bool {
	return a.From != nil && a.RequestID == "" && (errors.Is(err, ErrStale) || errors.Is(err, object.ErrObjectChanged)) && a.From.Avoid()
}
