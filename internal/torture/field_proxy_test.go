package torture_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// connectProxy is a proxy for https that answers its first CONNECTs with a status, and tunnels the others.
type connectProxy struct {
	net.Listener
	status  int
	refusal int64 // how many are refused; -1: all
	seen    atomic.Int64
}

func newConnectProxy(t *testing.T, status int, refusals int64) *connectProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &connectProxy{Listener: l, status: status, refusal: refusals}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	return p
}

func (p *connectProxy) serve(conn net.Conn) {
	defer conn.Close()
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	if n := p.seen.Add(1); p.refusal < 0 || n <= p.refusal {
		fmt.Fprintf(conn, "HTTP/1.1 %d no\r\nContent-Length: 0\r\n\r\n", p.status)
		return
	}
	server, err := net.Dial("tcp", req.Host)
	if err != nil {
		return
	}
	defer server.Close()
	fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		_, _ = io.Copy(server, conn)
		server.Close()
	}()
	_, _ = io.Copy(conn, server)
}

func (p *connectProxy) use(st *serverStage) {
	u := &url.URL{Scheme: "http", Host: p.Addr().String(), User: url.UserPassword("proxyuser", "proxypassword")}
	st.transport().Proxy = http.ProxyURL(u)
}

// TestProxyRefuses checks that a proxy that refuses to connect ends the call at once, with an error that has its status and
// host and not its password, and that one that fails is tried again.
func TestProxyRefuses(t *testing.T) {
	for _, through := range []entryPoint{viaKey, viaUnsigned, viaURL, viaReader} {
		for _, status := range []int{403, 407, 400, 502, 503, 504, 429} {
			t.Run(fmt.Sprintf("%d, %s", status, through), func(t *testing.T) {
				fieldCase()
				st := newServerStage(t, stageConfig{through: through, server: []osstest.Option{osstest.WithTLS()}})
				final := status < 500 && status != 429
				refusals := int64(-1)
				if !final {
					refusals = 2
				}
				p := newConnectProxy(t, status, refusals)
				p.use(st)
				res, err := st.download()
				if !final {
					if err != nil || res.Size != st.content.Size() {
						t.Fatalf("%+v, %v", res, err)
					}
					return
				}
				if err == nil {
					t.Fatal("the call succeeded")
				}
				for _, want := range []string{p.Addr().String(), fmt.Sprint("status ", status)} {
					if !strings.Contains(err.Error(), want) {
						t.Errorf("%q is not in %v", want, err)
					}
				}
				if strings.Contains(err.Error(), "proxypassword") {
					t.Errorf("the password of the proxy is in %v", err)
				}
				if n := p.seen.Load(); n != 1 {
					t.Errorf("the proxy was asked %d times", n)
				}
			})
		}
	}
}

// TestDowngradeIsRefused checks that no redirect from https to http is followed.
func TestDowngradeIsRefused(t *testing.T) {
	for _, through := range []entryPoint{viaURL, viaUnsigned} {
		t.Run(string(through), func(t *testing.T) {
			fieldCase()
			plain := harness.NewServer(t)
			plain.CreateBucket("bkt", osstest.PublicRead())
			st := newServerStage(t, stageConfig{through: through, server: []osstest.Option{osstest.WithTLS()}})
			plain.Put("bkt", "key", st.content)
			st.s.Nth(0, osstest.Inject().Redirect(plain.URL("bkt", "key"), 302))
			_, err := st.download()
			if err == nil || !strings.Contains(err.Error(), "from https to http") {
				t.Errorf("the call ended with %v", err)
			}
			if n := plain.Conns(); n != 0 || st.requestsMade != 1 {
				t.Errorf("%d connections without TLS, %d requests", n, st.requestsMade)
			}
		})
	}
	t.Run("a client of the caller's", func(t *testing.T) {
		fieldCase()
		plain, secure := harness.NewServer(t), harness.NewServer(t, osstest.WithTLS())
		secure.Put("bkt", "key", osstest.Random(1, 1000))
		secure.Nth(0, osstest.Inject().Redirect(plain.URL("bkt", "key"), 302))
		d := harness.NewURLDownloader(t, ossdl.WithHTTPClient(secure.HTTPClient()))
		if _, err := d.DownloadURL(t.Context(), harness.Sign(t, secure, oss.AuthV1, time.Hour, "key"), t.TempDir()+"/file"); err == nil || plain.Conns() != 0 {
			t.Errorf("%v, %d connections", err, plain.Conns())
		}
	})
}
