package bucket

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/transport"
)

// A credentials provider is the caller's code, and its interface in the SDK has no context: it may ask a service that does
// not answer. So it is never called in a goroutine that a call must wait for.

// askForKey asks the provider of client for its credentials, until ctx ends. It reports whether requests are to be unsigned:
// if the client was made with an empty access key and no provider. A provider that returns an empty key is an error.
func askForKey(ctx context.Context, client *oss.Client) (unsigned bool, err error) {
	provider := client.Config.CredentialsProvider
	if provider == nil {
		return false, errors.New("the credentials provider of the client is nil; for unsigned requests give oss.New an empty access key and no provider")
	}
	if isDefault(provider) {
		return isEmpty(provider.GetCredentials()), nil
	}
	cred, err := provided(ctx, nil, func() (oss.Credentials, error) { return credentials(provider) })
	var blocked *noKeyError
	switch {
	case errors.As(err, &blocked) && !errors.Is(err, ctx.Err()):
		return false, fmt.Errorf("%w: %w", ctx.Err(), err) // the cause that the caller gave its context, and the error itself
	case err != nil:
		return false, err
	case isEmpty(cred):
		return false, transport.ErrEmptyKey
	}
	return false, nil
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

// provided calls fn, which asks a credentials provider, in a goroutine of its own and waits for it. If ctx ends first,
// provided returns its cause and leaves fn behind, unless begun is closed by then: from there on fn ends with ctx. A panic of
// fn is returned as an error. With an [noKeyError], behind is closed once fn has ended.
func provided[T any](ctx context.Context, begun <-chan struct{}, fn func() (T, error)) (T, error) {
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
	case <-begun:
		<-done
	case <-ctx.Done():
		select {
		case <-done:
		case <-begun:
			<-done
		default:
			var none T
			return none, &noKeyError{context.Cause(ctx), done}
		}
	}
	return o.v, o.err
}

// noKeyError says that a credentials provider had not answered when a context ended.
type noKeyError struct {
	cause  error
	behind <-chan struct{} // closed once the provider has answered
}

func (e *noKeyError) Error() string {
	return fmt.Sprintf("the credentials provider has not answered: %v", e.cause)
}

func (e *noKeyError) Unwrap() error { return e.cause }
