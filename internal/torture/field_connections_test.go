package torture_test

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// fewConnections is a proxy that serves a few connections at a time. What it does with one more is up to refuse, which owns
// the connection.
type fewConnections struct {
	server string
	most   int
	refuse func(net.Conn)

	mu      sync.Mutex
	open    int
	refused int
	held    []net.Conn // that refuse has kept open
}

// serve serves connections until the test ends, and returns the address.
func (f *fewConnections) serve(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		f.mu.Lock()
		for _, c := range f.held {
			c.Close()
		}
		f.mu.Unlock()
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if f.admit() {
				all.Go(func() { f.pass(c) })
			} else {
				all.Go(func() { f.refuse(c) })
			}
		}
	})
	return l.Addr().String()
}

func (f *fewConnections) admit() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == f.most {
		f.refused++
		return false
	}
	f.open++
	return true
}

// pass copies both ways until either side ends.
func (f *fewConnections) pass(c net.Conn) {
	defer func() {
		f.mu.Lock()
		f.open--
		f.mu.Unlock()
	}()
	defer c.Close()
	s, err := net.Dial("tcp", f.server)
	if err != nil {
		return
	}
	defer s.Close()
	var up sync.WaitGroup
	up.Go(func() {
		// The end of one direction ends the other: a proxy of this kind does not know half-open connections.
		_, _ = io.Copy(s, c)
		s.Close()
	})
	_, _ = io.Copy(c, s)
	c.Close()
	up.Wait()
}

// hold keeps a connection open and says nothing.
func (f *fewConnections) hold(c net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = append(f.held, c)
}

// resets ends a connection before a byte.
func (*fewConnections) resets(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// ends ends a connection instead of answering.
func (*fewConnections) ends(c net.Conn) {
	_, _ = c.Read(make([]byte, 1<<10))
	c.Close()
}

// forbids answers what a proxy does.
func (*fewConnections) forbids(c net.Conn) {
	_, _ = c.Read(make([]byte, 1<<10))
	_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: 9\r\nConnection: close\r\n\r\n<h1>403\r\n")
	c.Close()
}

// TestFewConnectionsAllowed checks that a download ends well through a proxy that serves fewer connections than there are
// requests in flight by default, whatever it does with the others, and that the policy for retries is not needed for them.
func TestFewConnectionsAllowed(t *testing.T) {
	quietHTTP(t)
	for _, c := range []struct {
		name   string
		most   int
		refuse func(*fewConnections, net.Conn)
	}{
		{"the fifth is reset", 4, (*fewConnections).resets},
		{"the fifth ends without an answer", 4, (*fewConnections).ends},
		{"the fifth gets a 403", 4, (*fewConnections).forbids},
		{"the fifth is ignored", 4, (*fewConnections).hold},
		{"the second is ignored", 1, (*fewConnections).hold},
	} {
		for _, prefix := range []bool{false, true} {
			name := c.name
			if prefix {
				name += ", many objects"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				harness.Tried.Add("cases from the field", 1)
				s := harness.NewServer(t, osstest.WithConnRate(4<<20))
				f := &fewConnections{server: s.Addr(), most: c.most}
				f.refuse = func(conn net.Conn) { c.refuse(f, conn) }
				hc, addr := ossdl.HTTPClient(), f.serve(t)
				t.Cleanup(hc.CloseIdleConnections) // before the proxy waits for them
				client, err := oss.New("http://"+addr, osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(hc))
				if err != nil {
					t.Fatal(err)
				}
				d, err := ossdl.New(client, ossdl.WithStallTimeout(250*time.Millisecond))
				if err != nil {
					t.Fatal(err)
				}
				if prefix {
					sizes := map[string]int64{}
					for i := range 60 {
						sizes[fmt.Sprint("k", i)] = 100 << 10
					}
					content, dir := harness.Put(s, sizes), t.TempDir()
					res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
					harness.CheckCounts(t, res, err, len(sizes), 0, 0)
					harness.CheckTree(t, dir, content)
				} else {
					content := osstest.Random(17, 8<<20)
					s.Put("bkt", "k", content)
					path := t.TempDir() + "/file"
					if _, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithPartSize(256<<10)); err != nil {
						t.Fatal(err)
					}
					harness.CheckFile(t, path, content)
				}
				f.mu.Lock()
				defer f.mu.Unlock()
				if f.refused == 0 {
					t.Error("no connection was one too many")
				}
				t.Logf("%d connections were refused", f.refused)
			})
		}
	}
}

// TestFewConnectionsWhateverThePolicy is TestFewConnectionsAllowed with policies of the caller that give up soon. Before those that
// are served have received a byte, each request that is one too many has failed as often as the policy allows.
func TestFewConnectionsWhateverThePolicy(t *testing.T) {
	const most, tooMany = 4, 2
	quietHTTP(t)
	for refusal, refuse := range map[string]func(*fewConnections, net.Conn){
		"reset": (*fewConnections).resets, "ended": (*fewConnections).ends, "403": (*fewConnections).forbids, "ignored": (*fewConnections).hold,
	} {
		for name, c := range map[string]struct {
			policy   ossdl.RetryPolicy
			failures int // of each request, before it is given up
		}{
			"two attempts": {ossdl.RetryPolicy{Attempts: 2, MinDelay: time.Millisecond, MaxDelay: time.Millisecond}, 2},
			"no time":      {ossdl.RetryPolicy{MaxElapsed: time.Nanosecond, MinDelay: time.Millisecond, MaxDelay: time.Millisecond}, 1},
		} {
			t.Run(refusal+", "+name, func(t *testing.T) {
				t.Parallel()
				harness.Tried.Add("cases from the field", 1)
				s := harness.NewServer(t)
				content := osstest.Random(17, 1<<20)
				s.Put("bkt", "k", content)
				served := make(chan struct{}) // bodies come from then on
				s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().Gate(0, served) })
				f := &fewConnections{server: s.Addr(), most: most}
				var refused atomic.Int32
				f.refuse = func(conn net.Conn) {
					refuse(f, conn)
					if refused.Add(1) == int32(tooMany*c.failures) {
						close(served)
					}
				}
				hc, addr := ossdl.HTTPClient(), f.serve(t)
				t.Cleanup(hc.CloseIdleConnections) // before the proxy waits for them
				client, err := oss.New("http://"+addr, osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(hc))
				if err != nil {
					t.Fatal(err)
				}
				opts := []ossdl.Option{ossdl.WithConcurrency(most + tooMany), ossdl.WithPartSize(64 << 10), ossdl.WithRetry(c.policy)}
				if refusal == "ignored" { // those that are served would stall as well
					opts = append(opts, ossdl.WithStallTimeout(250*time.Millisecond))
					if c.policy.MaxElapsed > 0 {
						opts = append(opts, ossdl.WithRetry(ossdl.RetryPolicy{MaxElapsed: time.Hour}))
					}
					close(served)
					refused.Store(1 << 16) // it is not closed again
				}
				d, err := ossdl.New(client, opts...)
				if err != nil {
					t.Fatal(err)
				}
				path := t.TempDir() + "/file"
				if _, err := d.Download(t.Context(), "bkt", "k", path); err != nil {
					t.Fatal(err)
				}
				harness.CheckFile(t, path, content)
			})
		}
	}
}
