package osstest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

func TestCloseLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, opts := range [][]osstest.Option{nil, {osstest.WithTLS()}, {osstest.WithLatency(time.Hour)}, {osstest.WithConnRate(1)}} {
		s, err := osstest.New(opts...)
		if err != nil {
			t.Fatal(err)
		}
		s.CreateBucket("bkt", osstest.PublicRead())
		s.Put("bkt", "k", osstest.Random(1, 64<<20))
		n := 0
		s.OnRequest(func(r *osstest.Request) *osstest.Fault {
			n++
			return []*osstest.Fault{
				nil, osstest.Inject().StallAfter(5), osstest.Inject().HoldHeaders(nil), osstest.Inject().Delay(time.Hour),
				osstest.Inject().Gate(1<<20, make(chan struct{})), osstest.Inject().Drip(time.Hour),
			}[n%6]
		})
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				if resp, err := s.HTTPClient().Get(s.URL("bkt", "k")); err == nil {
					_, _ = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
			})
		}
		idle, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.WaitFor(t.Context(), func() bool { return s.Stats().Requests == 12 }); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		wg.Wait()
		idle.Close()
		if n := s.OpenConns(); n != 0 {
			t.Errorf("%d connections are open", n)
		}
		if err := s.Up(); err == nil {
			t.Error("a closed server comes up")
		}
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

func TestDownAndUp(t *testing.T) {
	s := publicServer(t)
	endpoint := s.Endpoint()
	do(t, s, "GET", s.URL("bkt", "k"), nil)
	s.Down()
	if _, _, err := try(s, "GET", s.URL("bkt", "k"), nil); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("down: %v", err)
	}
	if err := errors.Join(s.Up(), s.Up()); err != nil {
		t.Fatal(err)
	}
	if s.Endpoint() != endpoint {
		t.Errorf("%s, was %s", s.Endpoint(), endpoint)
	}
	do(t, s, "GET", s.URL("bkt", "k"), nil)
	if _, err := osstest.New(osstest.WithAddr(s.Addr())); err == nil {
		t.Error("two servers on one address")
	}
	s.Nth(0, osstest.Inject().At(10, s.CutConns).Gate(11, make(chan struct{})))
	if _, _, err := try(s, "GET", s.URL("bkt", "k"), nil); err == nil {
		t.Error("CutConns did not")
	}
}

func TestLog(t *testing.T) {
	s := publicServer(t)
	began := time.Now()
	for _, r := range []string{"", "bytes=5-9", "bytes=990-", "bytes=-7", "bytes=900-2000"} {
		h := map[string]string{"X-Test": "1"}
		if r != "" {
			h["Range"] = r
		}
		do(t, s, "GET", s.URL("bkt", "k")+"?a=b", h)
	}
	do(t, s, "HEAD", s.URL("bkt", "none"), nil)
	var got []string
	for i, r := range s.Requests() {
		got = append(got, fmt.Sprint(r.Method, " ", r.Bucket, "/", r.Key, " ", r.Query, " ", r.Range, " ", r.Start, " ", r.End, " ", r.Status, " ", r.Sent))
		if r.Seq != i || r.Conn != 0 || r.RequestID != r.Response.Get("X-Oss-Request-Id") || r.Host != s.Addr() ||
			r.Started.Before(began) || r.Ended.Before(r.Started) || r.Fault != "" {
			t.Errorf("%+v", r)
		}
	}
	want := []string{
		"GET bkt/k a=b  -1 -1 200 1000", "GET bkt/k a=b bytes=5-9 5 10 206 5", "GET bkt/k a=b bytes=990- 990 -1 206 10",
		"GET bkt/k a=b bytes=-7 -1 -1 206 7", "GET bkt/k a=b bytes=900-2000 900 2001 200 1000", "HEAD bkt/none   -1 -1 404 0",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("log:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if st := s.Stats(); st != (osstest.Stats{Requests: 6, Sent: 2022, MaxInFlight: 1}) {
		t.Errorf("%+v", st)
	}
	s.ResetLog()
	if len(s.Requests()) != 0 || s.Stats() != (osstest.Stats{}) {
		t.Errorf("after ResetLog: %+v", s.Stats())
	}
}

// TestResetLogForgetsLateBytes checks that what is sent after ResetLog for a request that came before does not count.
func TestResetLogForgetsLateBytes(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("bkt", osstest.PublicRead())
	s.Put("bkt", "k", osstest.Random(1, 1000))
	reset := make(chan struct{})
	s.Nth(0, osstest.Inject().Gate(400, reset))
	done := make(chan struct{})
	go func() {
		defer close(done)
		do(t, s, "GET", s.URL("bkt", "k"), nil)
	}()
	if err := s.WaitFor(t.Context(), func() bool { return s.Stats().Sent >= 400 }); err != nil {
		t.Fatal(err)
	}
	s.ResetLog()
	close(reset)
	<-done
	do(t, s, "GET", s.URL("bkt", "k"), map[string]string{"Range": "bytes=0-6"})
	if st := s.Stats(); st.Sent != 7 {
		t.Errorf("%d bytes, want those of the last request: 7", st.Sent)
	}
}

// TestLogIsNotBehind asks the log the moment a client has its answer.
func TestLogIsNotBehind(t *testing.T) {
	s := publicServer(t)
	s.Put("bkt", "big", osstest.Random(1, 3<<20))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				for _, key := range []string{"k", "big"} {
					resp, err := s.HTTPClient().Get(s.URL("bkt", key))
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := io.Copy(io.Discard, resp.Body); err != nil {
						t.Error(err)
					}
					resp.Body.Close()
				}
			}
		})
	}
	wg.Wait()
	if st := s.Stats(); st.Sent != 100*(1000+3<<20) || st.MaxInFlight > 4 || s.InFlight() != 0 {
		t.Errorf("%+v, %d in flight", st, s.InFlight())
	}
	for _, r := range s.Requests() {
		if r.Status != 200 || r.Sent != 1000 && r.Sent != 3<<20 {
			t.Errorf("%+v", r)
		}
	}
}

func TestTLS(t *testing.T) {
	s := newServer(t, osstest.WithTLS())
	want := all(t, osstest.Random(1, 5<<20))
	s.Put("bkt", "k", osstest.Bytes(want))
	for name, opts := range auths {
		rd, err := sdkBucket(t, s, opts...).GetObject("k")
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := io.ReadAll(rd)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if _, err := http.Get(s.URL("bkt", "k")); err == nil {
		t.Error("a client that does not know the certificate got an answer")
	}
	h2 := newServer(t, osstest.WithTLS(), osstest.WithALPN("h2", "http/1.1"))
	h2.HTTPClient().Transport.(*http.Transport).ForceAttemptHTTP2 = true
	if _, err := h2.HTTPClient().Get(h2.URL("bkt", "k")); err == nil {
		t.Error("HTTP/2 was served")
	}
	if reqs := h2.Requests(); len(reqs) == 0 || reqs[0].Method != "PRI" {
		t.Errorf("HTTP/2 is not in the log: %+v", reqs)
	}
}

func TestPut(t *testing.T) {
	s := newServer(t, osstest.WithMaxPut(1000))
	b := sdkBucket(t, s)
	if err := b.PutObject("k", strings.NewReader(strings.Repeat("x", 1000))); err != nil {
		t.Error(err)
	}
	if err := b.PutObject("k", strings.NewReader(strings.Repeat("x", 1001))); !isCode(err, 400, "EntityTooLarge") {
		t.Error(err)
	}
	u, err := b.SignURL("e", "PUT", 60)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		body   io.Reader
		header map[string]string
		status int
	}{
		{strings.NewReader("abc"), map[string]string{"Expect": "100-continue"}, 200},
		{struct{ io.Reader }{strings.NewReader("chunked")}, nil, 200},
		{struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 2000))}, nil, 400},
	} {
		req, err := http.NewRequest("PUT", u, c.body)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range c.header {
			req.Header.Set(k, v)
		}
		resp, err := s.HTTPClient().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%v: %d, want %d", c.header, resp.StatusCode, c.status)
		}
	}
	if n := s.Stat("bkt", "e").Size(); n != 7 {
		t.Errorf("size %d", n)
	}
	s.Nth(0, osstest.Error(500, "InternalError"))
	if err := b.PutObject("never", strings.NewReader("x")); err == nil || s.Stat("bkt", "never") != nil {
		t.Errorf("a PUT that failed: %v, stored %v", err, s.Stat("bkt", "never"))
	}
}

// readerContent is a Content of a test's own.
type readerContent struct{ *bytes.Reader }

func (readerContent) CRC64() uint64 { return 0 }

func TestOwnContent(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("bkt", osstest.PublicRead())
	want := all(t, osstest.Random(1, 3<<20))
	s.Put("bkt", "k", readerContent{bytes.NewReader(want)})
	if _, body := do(t, s, "GET", s.URL("bkt", "k"), nil); body != string(want) {
		t.Error("differs")
	}
	if _, body := do(t, s, "GET", s.URL("bkt", "k"), map[string]string{"Range": "bytes=1000000-2999999"}); body != string(want[1000000:3000000]) {
		t.Error("range differs")
	}
}

// TestHuge reads at the far end of an object that no disk would hold.
func TestHuge(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("bkt", osstest.PublicRead())
	const size int64 = 488 * (1 << 40) / 10
	c := osstest.Random(3, size)
	s.Put("bkt", "k", c)
	want := make([]byte, 1000)
	if _, err := c.ReadAt(want, size-1000); err != nil {
		t.Fatal(err)
	}
	resp, body, err := try(s, "GET", s.URL("bkt", "k"), map[string]string{"Range": "bytes=-1000"})
	if err != nil || body != string(want) || resp.Header.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", size-1000, size-1, size) {
		t.Errorf("%v %v", resp.Header, err)
	}
}

// Bytes leave no note in the log, and WaitFor sees them all the same: here the server stands still after them, and nothing
// else would make it ask again.
func TestWaitForSeesBytes(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("bkt", osstest.PublicRead())
	s.Put("bkt", "k", osstest.Random(1, 8<<20))
	more, rest := make(chan struct{}), make(chan struct{})
	s.Nth(0, osstest.Inject().Gate(2<<20, more).Gate(4<<20, rest))
	resp, err := s.HTTPClient().Get(s.URL("bkt", "k"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	read := func(n int64) {
		t.Helper()
		if _, err := io.CopyN(io.Discard, resp.Body, n); err != nil {
			t.Fatal(err)
		}
	}
	read(2 << 20)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	asked, seen := make(chan struct{}), make(chan error, 1)
	once := sync.OnceFunc(func() { close(asked) })
	go func() {
		seen <- s.WaitFor(ctx, func() bool {
			defer once()
			return s.Stats().Sent >= 4<<20
		})
	}()
	<-asked
	close(more)
	read(2 << 20)
	if err := <-seen; err != nil {
		t.Error(err)
	}
	close(rest)
	read(4 << 20)
}
