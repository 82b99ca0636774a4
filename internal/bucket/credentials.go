package bucket

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/transport"
)

// A credentials provider is the caller's code, and its interface in the SDK has no context: it may ask a service that does
// not answer. So it is never called in a goroutine that a call must wait for.

// keys says where the credentials of a client come from.
type keys int

const (
	providedKey keys = iota // from a provider of the caller
	fixedKey                // given to oss.New
	noKey                   // nowhere: requests are not signed
)

// askForKey asks the provider of client for its credentials, until ctx ends. Requests are not signed if the client was made
// with an empty access key and no provider. A provider that returns an empty key is an error.
func askForKey(ctx context.Context, client *oss.Client) (keys, error) {
	provider := client.Config.CredentialsProvider
	switch {
	case provider == nil:
		return 0, errors.New("the credentials provider of the client is nil; for unsigned requests give oss.New an empty access key and no provider")
	case isDefault(provider) && isEmpty(provider.GetCredentials()):
		return noKey, nil
	case isDefault(provider):
		return fixedKey, nil
	}
	cred, err := provided(ctx, newQuestion(), func() (oss.Credentials, error) { return credentials(provider) })
	var blocked *noKeyError
	switch {
	case errors.As(err, &blocked) && !errors.Is(err, ctx.Err()):
		return 0, fmt.Errorf("%w: %w", ctx.Err(), err) // the cause that the caller gave its context, and the error itself
	case err != nil:
		return 0, err
	case isEmpty(cred):
		return 0, transport.ErrEmptyKey
	}
	return providedKey, nil
}

func credentials(provider oss.CredentialsProvider) (oss.Credentials, error) {
	if p, ok := provider.(oss.CredentialsProviderE); ok {
		cred, err := p.GetCredentialsE()
		if err != nil {
			return nil, fmt.Errorf("credentials provider: %w", err)
		}
		return cred, nil
	}
	return provider.GetCredentials(), nil
}

func isEmpty(cred oss.Credentials) bool {
	return cred == nil || cred.GetAccessKeyID() == "" && cred.GetAccessKeySecret() == ""
}

// isDefault reports whether a provider is the one that the SDK makes of the access key given to oss.New. The SDK does not
// export its type.
func isDefault(provider oss.CredentialsProvider) bool {
	plain, err := oss.New("oss.invalid", "", "")
	return err == nil && reflect.TypeOf(provider) == reflect.TypeOf(plain.Config.CredentialsProvider)
}

// question is a question to a credentials provider. Either the request that it is for is signed, or the question is given
// up; never both.
type question struct {
	once   sync.Once
	signed chan struct{}
}

func newQuestion() *question { return &question{signed: make(chan struct{})} }

// giveUp reports whether the request is not signed yet. Then it never will be sent.
func (q *question) giveUp() (givenUp bool) {
	q.once.Do(func() { givenUp = true })
	return givenUp
}

// isSigned reports whether the request was signed.
func (q *question) isSigned() bool {
	select {
	case <-q.signed:
		return true
	default:
		return false
	}
}

// ProgressChanged implements [oss.ProgressListener]. The SDK calls it between the signature and the sending. If the question
// was given up, it ends the goroutine: the SDK has no other way to stop a request there.
func (q *question) ProgressChanged(e *oss.ProgressEvent) {
	if e.EventType != oss.TransferStartedEvent {
		return
	}
	signed := false
	q.once.Do(func() { signed = true })
	if !signed {
		runtime.Goexit()
	}
	close(q.signed)
}

// provided calls fn, which asks a credentials provider, in a goroutine of its own and waits for it. If ctx ends before the
// answer, provided gives the question up, leaves fn behind and returns a [noKeyError]. Once the request is signed, fn ends
// with ctx. A panic of fn is returned as an error.
func provided[T any](ctx context.Context, q *question, fn func() (T, error)) (T, error) {
	var o struct {
		v   T
		err error
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				o.err = engine.NewPanic("the credentials provider or the HTTP client", v, debug.Stack())
			}
		}()
		o.v, o.err = fn()
	}()
	select {
	case <-done:
	case <-q.signed:
		<-done
	case <-ctx.Done():
		if q.giveUp() {
			var none T
			return none, &noKeyError{context.Cause(ctx), done}
		}
		<-done
	}
	return o.v, o.err
}

// noKeyError says that a credentials provider had not answered when a context ended.
type noKeyError struct {
	cause  error
	behind <-chan struct{} // closed once nothing of the question is left
}

func (e *noKeyError) Error() string {
	return fmt.Sprintf("the credentials provider has not answered: %v", e.cause)
}

func (e *noKeyError) Unwrap() error { return e.cause }
