package sealed

import (
	"context"
	"crypto/aes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/ossdl/ossdl/internal/object"
)

// Key is a master key. Both SDKs in Go have a MasterCipher that is one.
type Key interface {
	// Decrypt unwraps what the key has wrapped. It is the caller's code, and may ask a service. It must be safe for
	// concurrent use.
	Decrypt(wrapped []byte) ([]byte, error)
	// GetWrapAlgorithm returns what the wrap-alg of an envelope says if the key has wrapped it.
	GetWrapAlgorithm() string
	// GetMatDesc returns the description of the key, as JSON; "" if it has none.
	GetMatDesc() string
}

// Opener opens envelopes.
type Opener struct {
	Keys  []Key
	Guard func(fn func()) error // calls a function that uses the keys; the error is that of a panic
}

// Opening is an envelope that is being opened, or was.
type Opening struct {
	name   string // of the envelope; see nameOf
	done   chan struct{}
	stream *Stream // valid once done is closed
	err    error   // likewise; nil: there is a stream
}

// Open begins to open the envelope in the headers of an answer. It returns nil if the object was not encrypted by its writer.
//
// A key has no context, and may ask a service that does not answer. So it is used in a goroutine of its own, which whoever waits
// leaves behind when its context ends.
func (o *Opener) Open(h http.Header) *Opening {
	name := nameOf(h)
	if name == "" {
		return nil
	}
	opening := &Opening{name: name, done: make(chan struct{})}
	e, err := readEnvelope(h)
	if err != nil {
		opening.err = err
		close(opening.done)
		return opening
	}
	go func() {
		defer close(opening.done)
		var stream *Stream
		var err error
		if perr := o.Guard(func() { stream, err = e.open(o.Keys) }); perr != nil {
			stream, err = nil, perr
		}
		opening.stream, opening.err = stream, err
	}()
	return opening
}

// wait waits until it is known whether the envelope can be opened. It returns the cause of ctx if that ends first.
func (o *Opening) wait(ctx context.Context) error {
	select {
	case <-o.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Stream waits for the keystream of the object. The error wraps [ErrDecryption], or is the cause of ctx.
func (o *Opening) Stream(ctx context.Context) (*Stream, error) {
	if err := o.wait(ctx); err != nil {
		return nil, err
	}
	return o.stream, o.refusal(object.Origin{})
}

// refusal returns the error of an envelope that cannot be opened, and nil if it was.
func (o *Opening) refusal(by object.Origin) error {
	if o.err == nil {
		return nil
	}
	return &object.PermanentError{Err: &object.FindingError{Means: ErrDecryption, Why: o.err.Error(), Cause: o.err, Origin: by}}
}

// open returns the keystream of the object, by the first of the keys that opens the envelope.
func (e *envelope) open(keys []Key) (*Stream, error) {
	fit, err := e.choose(keys)
	if err != nil {
		return nil, err
	}
	for _, k := range fit {
		stream, kerr := e.openWith(k)
		if kerr == nil {
			return stream, nil
		}
		if err == nil {
			err = kerr
		} else {
			err = fmt.Errorf("%w; %w", err, kerr)
		}
	}
	return nil, err
}

// choose returns the keys that may have wrapped the envelope: those with its algorithm and its description. If there are none,
// it returns those with its algorithm of which one side has no description. SDK v2 then takes its default key.
func (e *envelope) choose(keys []Key) ([]Key, error) {
	var fit, maybe []Key
	var algorithms, descriptions []string
	for _, k := range keys {
		if algorithm := k.GetWrapAlgorithm(); algorithm != e.wrapAlgorithm {
			algorithms = append(algorithms, algorithm)
			continue
		}
		switch d := k.GetMatDesc(); {
		case sameDescription(d, e.description) || undescribed(d) && undescribed(e.description):
			fit = append(fit, k)
		case undescribed(d) || undescribed(e.description):
			maybe = append(maybe, k)
		default:
			descriptions = append(descriptions, shown(d))
		}
	}
	switch {
	case len(fit) > 0:
		return fit, nil
	case len(maybe) > 0:
		return maybe, nil
	case len(descriptions) > 0:
		return nil, fmt.Errorf("no key has the description in %s, %s; those given have %s",
			headerName("Matdesc"), shown(e.description), listed(descriptions))
	}
	return nil, fmt.Errorf("%s is %s; the keys given are for %s", headerName("Wrap-Alg"), shown(e.wrapAlgorithm), listed(algorithms))
}

// listed returns texts for a message, each once.
func listed(texts []string) string {
	slices.Sort(texts)
	return strings.Join(slices.Compact(texts), " and ")
}

// openWith opens the envelope with one key.
func (e *envelope) openWith(k Key) (*Stream, error) {
	key, err := unwrap(k, e.key, func(b []byte) bool { return len(b) == 16 || len(b) == 24 || len(b) == 32 })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", headerName("Key"), err)
	}
	start, err := unwrap(k, e.start, func(b []byte) bool { return len(b) == blockSize })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", headerName("Start"), err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return &Stream{block: block, start: [blockSize]byte(start)}, nil
}

// errWrongKey says that what a key unwrapped is not what was wrapped.
var errWrongKey = errors.New("the key unwraps it to something else; it is not the one that wrapped it")

// unwrap unwraps something with a key. By its source, the Python SDK wraps with KMS the text that KMS answers, rather than the
// bytes that this is the base64 of. So if the key refuses what is such a text, it is given the bytes.
func unwrap(k Key, wrapped []byte, fits func([]byte) bool) ([]byte, error) {
	b, err := k.Decrypt(slices.Clone(wrapped))
	if inner, terr := base64.StdEncoding.DecodeString(string(wrapped)); err != nil && terr == nil && len(inner) > 0 {
		if again, aerr := k.Decrypt(inner); aerr == nil {
			b, err = again, nil
		}
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("not unwrapped by the key for %s: %w", k.GetWrapAlgorithm(), err)
	case !fits(b):
		return nil, errWrongKey
	}
	return b, nil
}
