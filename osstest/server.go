package osstest

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	fake "github.com/ossdl/ossdl/internal/osstest"
)

// The credentials that every server accepts, and its region. Version 4 signatures name the region.
const (
	AccessKeyID     = fake.AccessKeyID
	AccessKeySecret = fake.AccessKeySecret
	Region          = fake.Region
)

// Server is an OSS server on a loopback port. Its methods are safe for concurrent use.
//
// Methods that name a bucket panic if there is none: that is a mistake of the test.
type Server struct {
	fake  *fake.Server
	ahead atomic.Int64 // nanoseconds that its clock is ahead of this machine's
}

// Option configures a [Server].
type Option struct{ opt fake.Option }

// WithTLS makes the server speak HTTPS. [Server.Client] and [Server.HTTPClient] trust its certificate.
func WithTLS() Option { return Option{fake.WithTLS()} }

// WithLatency delays the first byte of each answer.
func WithLatency(d time.Duration) Option { return Option{fake.WithLatency(d)} }

// WithRate limits the bodies of all answers together, in bytes per second.
func WithRate(bytesPerSecond int64) Option { return Option{fake.WithTotalRate(bytesPerSecond)} }

// WithThawTime sets how long each restore of a frozen object takes, on the server's clock, which [Server.Advance] moves. By
// default it takes as long as OSS says: a minute for Archive, up to 48 hours for the others. With 0 it takes no time.
func WithThawTime(d time.Duration) Option { return Option{fake.WithThawTime(d)} }

// NewServer starts a server for a test. When the test ends, it reports faults that were planned and did not happen, and
// closes the server.
func NewServer(t testing.TB, opts ...Option) *Server {
	t.Helper()
	s, err := Start(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer s.Close()
		if t.Failed() {
			return // which may be why
		}
		for _, fault := range s.Unfired() {
			t.Errorf("osstest: this fault never happened: %s", fault)
		}
	})
	return s
}

// Start starts a server outside of a test, in an example or a demonstration. The caller closes it.
func Start(opts ...Option) (*Server, error) {
	var all []fake.Option
	for _, o := range opts {
		all = append(all, o.opt)
	}
	f, err := fake.New(all...)
	if err != nil {
		return nil, err
	}
	s := &Server{fake: f}
	f.SetNow(func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) })
	return s, nil
}

// Close ends all connections and stops the server. It returns when nothing of the server runs any more.
func (s *Server) Close() { _ = s.fake.Close() } // which has no errors

// Endpoint returns the base URL, such as http://127.0.0.1:43210. Give it to the client as its endpoint.
func (s *Server) Endpoint() string { return s.fake.Endpoint() }

// URL returns the URL of an object, without a signature.
func (s *Server) URL(bucket, key string) string { return s.fake.URL(bucket, key) }

// Client returns a client of the SDK with the server's credentials, which signs with version 4. Options come after the
// server's own and so can replace them.
func (s *Server) Client(opts ...oss.ClientOption) *oss.Client {
	client, err := s.fake.Client(append([]oss.ClientOption{oss.AuthVersion(oss.AuthV4)}, opts...)...)
	if err != nil {
		panic("osstest: " + err.Error()) // the endpoint is valid
	}
	return client
}

// HTTPClient returns an HTTP client that trusts the server's certificate. It is the same client each time.
func (s *Server) HTTPClient() *http.Client { return s.fake.HTTPClient() }

// Down closes the port and resets all connections, as if the machine had failed. [Server.Up] ends that.
func (s *Server) Down() { s.fake.Down() }

// Up opens the port again after [Server.Down], with the same number.
func (s *Server) Up() error { return s.fake.Up() }

// CutConns resets all open connections. New ones are accepted.
func (s *Server) CutConns() { s.fake.CutConns() }

// Advance moves the server's clock forward. Signed URLs and temporary credentials that end within d have expired then, and
// objects have thawed or are frozen again. The server goes on to accept what clients sign by the clock of this machine.
func (s *Server) Advance(d time.Duration) {
	s.fake.SetQuirks(fake.AnyClock)
	s.ahead.Add(int64(d))
}

// AddUser adds permanent credentials.
func (s *Server) AddUser(accessKeyID, accessKeySecret string) {
	s.fake.AddUser(accessKeyID, accessKeySecret)
}

// RemoveUser removes permanent credentials. Requests with them are answered with InvalidAccessKeyId.
func (s *Server) RemoveUser(accessKeyID string) { s.fake.RemoveUser(accessKeyID) }

// AddToken adds temporary credentials, as STS issues them. From expires on requests with them are answered with
// SecurityTokenExpired.
func (s *Server) AddToken(accessKeyID, accessKeySecret, token string, expires time.Time) {
	s.fake.AddToken(accessKeyID, accessKeySecret, token, expires)
}

// ExpireToken makes a token expire now.
func (s *Server) ExpireToken(token string) { s.fake.ExpireToken(token) }

// Sent returns the number of bytes in the bodies of all answers, since the start or [Server.ResetLog].
func (s *Server) Sent() int64 { return s.fake.Stats().Sent }

// WaitFor waits until cond returns true. It calls cond whenever a request arrives or ends, and every few milliseconds. If
// ctx ends first, it returns the cause.
func (s *Server) WaitFor(ctx context.Context, cond func() bool) error {
	return s.fake.WaitFor(ctx, cond)
}
