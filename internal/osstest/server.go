package osstest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// The credentials every server knows, and the region it signs for.
const (
	AccessKeyID     = "LTAI5tOsstestOsstest0001"
	AccessKeySecret = "osstest-secret-0123456789abcdef"
	Region          = "cn-hangzhou"
)

// Server is an OSS service on a loopback port. Its methods are safe for concurrent use.
type Server struct {
	cfg     config
	tls     *tls.Config
	roots   *x509.CertPool
	client  *http.Client
	addr    string
	started time.Time
	done    chan struct{} // closed by Close
	wg      sync.WaitGroup
	serial  atomic.Int64 // of versions, requests, contents
	quirks  atomic.Uint32
	clock   atomic.Pointer[func() time.Time]
	total   *pace

	mu      sync.RWMutex
	buckets map[string]*bucket
	users   map[string]*user // by access key, and for temporary ones by token
	cnames  map[string]string

	thawTime func(o *Object, tier string) time.Duration // of a restore; nil: as long as with OSS

	net struct {
		sync.Mutex
		listener net.Listener // nil while down
		conns    map[*conn]struct{}
		accepted int
		closed   bool
	}

	log    requestLog
	faults faultPlan
}

type config struct {
	addr       string
	tls        bool
	alpn       []string
	latency    time.Duration
	rate       int64
	totalRate  int64
	shape      func(conn int) Shape
	quirks     Quirk
	maxPut     int64
	noLog      bool
	resetEvery func() *Fault
	thawTime   func(*Object, string) time.Duration
	users      []user
}

// Option configures a server.
type Option func(*config)

// WithAddr listens on addr instead of 127.0.0.1:0.
func WithAddr(addr string) Option { return func(c *config) { c.addr = addr } }

// WithTLS serves HTTPS with a certificate of its own, which HTTPClient trusts.
func WithTLS() Option { return func(c *config) { c.tls = true } }

// WithALPN names the protocols offered in the TLS handshake, http/1.1 by default. A client that picks h2 is recorded in
// the log as a request with method PRI and cut off.
func WithALPN(protocols ...string) Option { return func(c *config) { c.alpn = protocols } }

// WithMaxPut bounds the body of a PUT, 256 MiB by default.
func WithMaxPut(bytes int64) Option { return func(c *config) { c.maxPut = bytes } }

// WithoutLog keeps no requests: for millions of them. The counters still count.
func WithoutLog() Option { return func(c *config) { c.noLog = true } }

// WithQuirks sets quirks from the start.
func WithQuirks(q Quirk) Option { return func(c *config) { c.quirks = q } }

// Quirk is a behaviour of the service, or of something before it, that the documents leave open.
type Quirk uint32

const (
	// IfMatchWithRangeUnsupported answers 412 to every request with both If-Match and Range.
	IfMatchWithRangeUnsupported Quirk = 1 << iota
	// IgnoreIfMatch answers as if there were no If-Match.
	IgnoreIfMatch
	// NoRanges answers every request with the whole object, as a server that knows no ranges.
	NoRanges
	// IgnoreRangeBehavior acts as if x-oss-range-behavior were not sent.
	IgnoreRangeBehavior
	// ContentRangeOn416 adds Content-Range: bytes */SIZE to a 416.
	ContentRangeOn416
	// RangeOutside206 answers a range outside of the object with the whole object, status 206 and no Content-Range.
	RangeOutside206
	// LinkCRC sends the CRC-64 of the link's own data with a symbolic link, not the target's.
	LinkCRC
	// RangeOnHead answers a HEAD with Range by 206 and the range's length, as a CDN does.
	RangeOnHead
	// NoErrHeader sends no x-oss-err on an error to a HEAD.
	NoErrHeader
	// NoTierUpgrade answers 409 to every RestoreObject while a restore is under way, as the page of the operation says. The
	// guide lets a higher tier make it faster.
	NoTierUpgrade
	// TierUpgrade200 answers 200 instead of 202 to a higher tier.
	TierUpgrade200
	// LowerTier400 answers 400 OperationNotSupported instead of 409 to a lower tier.
	LowerTier400
	// RestoreInvalidArgument answers InvalidArgument instead of MalformedXML to a wrong tier or number of days.
	RestoreInvalidArgument
	// UnknownVersionNoSuchKey answers NoSuchKey instead of NoSuchVersion to a version that is not there.
	UnknownVersionNoSuchKey
	// NullVersionHeader sends x-oss-version-id: null with objects that are older than the bucket's versioning.
	NullVersionHeader
	// EmptyVersionID lists versions with an empty VersionId in a bucket that never had versions, not with null.
	EmptyVersionID
	// NoNullVersion answers NoSuchVersion to versionId=null in a bucket that never had versions.
	NoNullVersion
	// MarkerMustExist answers 400 to a version-id-marker whose version was deleted since.
	MarkerMustExist
	// AppendKeepsETag leaves the ETag as it is when something is appended.
	AppendKeepsETag
	// AppendNullVersion gives Appendable objects the version null, as an old document says.
	AppendNullVersion
	// AnyClock accepts the signature of a client whose clock is wrong: for a server whose clock runs ahead by hours, so that
	// objects thaw and freeze. Signed URLs and tokens expire as ever.
	AnyClock
)

// New starts a server. It serves until Close.
func New(opts ...Option) (*Server, error) {
	cfg := config{addr: "127.0.0.1:0", maxPut: 256 << 20}
	for _, o := range opts {
		o(&cfg)
	}
	s := &Server{
		cfg:     cfg,
		done:    make(chan struct{}),
		buckets: map[string]*bucket{},
		users:   map[string]*user{},
		cnames:  map[string]string{},
		started: time.Now().UTC().Truncate(time.Second),

		thawTime: cfg.thawTime,
	}
	s.net.conns = map[*conn]struct{}{}
	s.log.init(cfg.noLog)
	s.SetNow(time.Now)
	s.SetQuirks(cfg.quirks)
	s.AddUser(AccessKeyID, AccessKeySecret)
	for _, u := range cfg.users {
		s.AddUser(u.ak, u.sk)
	}
	if cfg.totalRate > 0 {
		s.total = &pace{}
	}
	if cfg.tls {
		if err := s.makeCertificate(); err != nil {
			return nil, fmt.Errorf("osstest: certificate: %w", err)
		}
	}
	s.addr = cfg.addr
	if err := s.Up(); err != nil {
		return nil, err
	}
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	if s.roots != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: s.roots}
	}
	s.client = &http.Client{Transport: transport}
	return s, nil
}

// Close ends every connection and returns when nothing of the server runs any more.
func (s *Server) Close() error {
	s.net.Lock()
	if s.net.closed {
		s.net.Unlock()
		return nil
	}
	s.net.closed = true
	close(s.done)
	s.net.Unlock()
	s.Down()
	s.wg.Wait()
	s.client.CloseIdleConnections()
	return nil
}

// Down closes the listener and resets all connections, as a machine that restarts. Up listens again.
func (s *Server) Down() {
	s.net.Lock()
	defer s.net.Unlock()
	if s.net.listener != nil {
		_ = s.net.listener.Close()
		s.net.listener = nil
	}
	for c := range s.net.conns {
		c.abort()
	}
}

// CutConns resets all connections there are; new ones are accepted.
func (s *Server) CutConns() {
	s.net.Lock()
	defer s.net.Unlock()
	for c := range s.net.conns {
		c.abort()
	}
}

// Up listens, on the address it had before. It does nothing where the server is up.
func (s *Server) Up() error {
	s.net.Lock()
	defer s.net.Unlock()
	if s.net.closed {
		return errors.New("osstest: server is closed")
	}
	if s.net.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("osstest: %w", err)
	}
	s.net.listener, s.addr = l, l.Addr().String()
	s.wg.Go(func() { s.accept(l) })
	return nil
}

func (s *Server) accept(l net.Listener) {
	for {
		nc, err := l.Accept()
		if err != nil {
			if ne, ok := err.(net.Error); ok && !errors.Is(err, net.ErrClosed) && ne.Timeout() {
				continue
			}
			return
		}
		s.net.Lock()
		if s.net.closed || s.net.listener != l {
			s.net.Unlock()
			_ = nc.Close()
			continue
		}
		c := newConn(s, s.net.accepted, nc.(*net.TCPConn))
		s.net.accepted++
		s.net.conns[c] = struct{}{}
		s.wg.Go(c.serve)
		s.net.Unlock()
	}
}

// Endpoint is http://127.0.0.1:PORT. The SDK uses path style with it.
func (s *Server) Endpoint() string {
	if s.tls != nil {
		return "https://" + s.addr
	}
	return "http://" + s.addr
}

// Addr is HOST:PORT.
func (s *Server) Addr() string { return s.addr }

// URL is the plain URL of an object.
func (s *Server) URL(bucket, key string) string {
	u := url.URL{Path: "/" + bucket + "/" + key}
	return s.Endpoint() + strings.ReplaceAll(u.EscapedPath(), "+", "%2B")
}

// Client is an SDK client with the server's credentials and region.
func (s *Server) Client(opts ...oss.ClientOption) (*oss.Client, error) {
	return s.ClientFor(AccessKeyID, AccessKeySecret, opts...)
}

// ClientFor is an SDK client with credentials of your own; for a token add oss.SecurityToken.
func (s *Server) ClientFor(ak, sk string, opts ...oss.ClientOption) (*oss.Client, error) {
	all := []oss.ClientOption{oss.Region(Region)}
	if s.tls != nil {
		all = append(all, oss.HTTPClient(s.HTTPClient()))
	}
	return oss.New(s.Endpoint(), ak, sk, append(all, opts...)...)
}

// HTTPClient is a client that trusts the server's certificate. It is the same on each call.
func (s *Server) HTTPClient() *http.Client { return s.client }

// Roots is the pool with the server's certificate; nil without TLS.
func (s *Server) Roots() *x509.CertPool { return s.roots }

// Conns is the number of connections accepted so far.
func (s *Server) Conns() int {
	s.net.Lock()
	defer s.net.Unlock()
	return s.net.accepted
}

// OpenConns is the number of connections that are open.
func (s *Server) OpenConns() int {
	s.net.Lock()
	defer s.net.Unlock()
	return len(s.net.conns)
}

// SetNow sets the server's clock, by which it judges signatures and dates its answers.
func (s *Server) SetNow(now func() time.Time) { s.clock.Store(&now) }

func (s *Server) now() time.Time { return (*s.clock.Load())() }

// SetQuirks replaces the quirks.
func (s *Server) SetQuirks(q Quirk) { s.quirks.Store(uint32(q)) }

func (s *Server) quirk(q Quirk) bool { return Quirk(s.quirks.Load())&q != 0 }

// CNAME makes host a custom domain of the bucket.
func (s *Server) CNAME(host, bucket string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cnames[host] = bucket
}

func httpTime(t time.Time) string { return t.UTC().Format(http.TimeFormat) }
