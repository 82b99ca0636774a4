package bucket

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/object"
)

// lateKeys is a credentials provider that answers its first question, and each later one once it is let go.
type lateKeys struct {
	calls atomic.Int64
	asked chan struct{} // closed with the second question
	free  chan struct{}
}

func (k *lateKeys) GetCredentials() oss.Credentials {
	if k.calls.Add(1) == 2 {
		close(k.asked)
		<-k.free
	}
	return lateKey{}
}

type lateKey struct{}

func (lateKey) GetAccessKeyID() string     { return "id" }
func (lateKey) GetAccessKeySecret() string { return "secret" }
func (lateKey) GetSecurityToken() string   { return "" }

// countingTransport answers each request, whether or not its context has ended.
type countingTransport struct{ requests atomic.Int64 }

func (c *countingTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	c.requests.Add(1)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

// TestRequestLeftBehindIsNeverSent checks that a request whose context ended before its credentials were there does not
// reach the HTTP client, even one that does not look at contexts.
func TestRequestLeftBehindIsNeverSent(t *testing.T) {
	sent := &countingTransport{}
	provider := &lateKeys{asked: make(chan struct{}), free: make(chan struct{})}
	client, err := oss.New("http://service.test", "", "", oss.SetCredentialsProvider(provider), oss.HTTPClient(&http.Client{Transport: sent}))
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(t.Context(), client, "bkt", Extra{})
	if err != nil {
		t.Fatal(err)
	}
	src, err := c.Object("key")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-provider.asked
		cancel()
	}()
	if _, err := src.Get(ctx, object.Request{Whole: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("the request ended with %v", err)
	}
	close(provider.free)
	<-c.behind.Load().behind
	if n := sent.requests.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	// The next one is not delayed by it.
	if _, err := src.Get(t.Context(), object.Request{Whole: true}); sent.requests.Load() != 1 {
		t.Errorf("the next request was not sent: %v", err)
	}
}
