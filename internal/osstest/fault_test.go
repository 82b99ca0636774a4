package osstest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/osstest"
)

// seen is what a client sees of one answer.
type seen struct {
	resp *http.Response // nil: none came
	body string
	err  error
}

func TestFaultsOnTheWire(t *testing.T) {
	whole := string(all(t, osstest.Random(1, 1000)))
	part := whole[100:200]
	reset := func(err error) bool { return errors.Is(err, syscall.ECONNRESET) }
	early := func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }
	for _, c := range []struct {
		fault *osstest.Fault
		ok    func(seen) bool
	}{
		{osstest.Error(503, "ServiceUnavailable", "Thread pool is almost full"), func(s seen) bool {
			return s.resp.StatusCode == 503 && strings.Contains(s.body, "<Code>ServiceUnavailable</Code>") && s.resp.Header.Get("X-Oss-Ec") != ""
		}},
		{osstest.Inject().HTML(502).Header("Retry-After", "7"), func(s seen) bool {
			return s.resp.StatusCode == 502 && strings.HasPrefix(s.body, "<html>") && s.resp.Header.Get("Retry-After") == "7" && s.resp.Header.Get("X-Oss-Request-Id") == ""
		}},
		{osstest.Inject().Empty(503), func(s seen) bool { return s.resp.StatusCode == 503 && s.body == "" && s.err == nil }},
		{osstest.Inject().Reply(500, "application/json", "{}"), func(s seen) bool { return s.resp.StatusCode == 500 && s.body == "{}" }},
		{osstest.Inject().LoginPage(), func(s seen) bool {
			return s.resp.StatusCode == 200 && strings.Contains(s.resp.Header.Get("Content-Type"), "text/html") && len(s.body) > 10
		}},
		{osstest.Inject().Redirect("http://127.0.0.1:1/", 302), func(s seen) bool {
			return s.resp.StatusCode == 302 && s.resp.Header.Get("Location") == "http://127.0.0.1:1/"
		}},
		{osstest.Inject().NotModified(), func(s seen) bool { return s.resp.StatusCode == 304 && s.body == "" }},
		{osstest.Inject().Status(200), func(s seen) bool { return s.resp.StatusCode == 200 && s.body == part }},
		{osstest.Inject().Raw([]byte("HTTP/1.1 junk\r\n\r\n")), func(s seen) bool { return s.resp == nil && strings.Contains(s.err.Error(), "malformed") }},
		{osstest.Inject().ResetBeforeHead(), func(s seen) bool { return s.resp == nil && reset(s.err) }},
		{osstest.Inject().CloseBeforeHead(), func(s seen) bool { return s.resp == nil && s.err != nil && !reset(s.err) }},
		{osstest.Inject().CutHead(20), func(s seen) bool { return s.resp == nil && early(s.err) }},
		{osstest.Inject().ResetAfter(0), func(s seen) bool { return s.resp.StatusCode == 206 && s.body == "" && reset(s.err) }},
		{osstest.Inject().ResetAfter(30), func(s seen) bool { return s.body == part[:30] && reset(s.err) }},
		{osstest.Inject().ResetAfter(100), func(s seen) bool { return s.body == part && s.err == nil }},
		{osstest.Inject().CloseAfter(30), func(s seen) bool { return s.body == part[:30] && early(s.err) }},
		{osstest.Inject().ShortBody(1), func(s seen) bool { return s.resp.ContentLength == 100 && s.body == part[:99] && early(s.err) }},
		{osstest.Inject().LongBody(5).CloseConn(), func(s seen) bool { return s.resp.ContentLength == 100 && s.body == part && s.err == nil }},
		{osstest.Inject().NoContentLength().LongBody(5), func(s seen) bool { return s.resp.ContentLength == -1 && s.body == part+"\x00\x00\x00\x00\x00" }},
		{osstest.Inject().NoContentLength(), func(s seen) bool { return s.resp.ContentLength == -1 && s.body == part && s.err == nil }},
		{osstest.Inject().NoContentLength().CloseAfter(50), func(s seen) bool { return s.body == part[:50] && early(s.err) }},
		{osstest.Inject().UntilClose(), func(s seen) bool { return s.resp.ContentLength == -1 && s.body == part && s.err == nil && s.resp.Close }},
		{osstest.Inject().UntilClose().CloseAfter(50), func(s seen) bool { return s.body == part[:50] && s.err == nil }},
		{osstest.Inject().FlipByte(7), func(s seen) bool {
			return len(s.body) == 100 && s.body[:7] == part[:7] && s.body[7] == ^part[7] && s.body[8:] == part[8:]
		}},
		{osstest.Inject().FlipObjectByte(107), func(s seen) bool { return s.body[7] == ^part[7] && s.body[8:] == part[8:] }},
		{osstest.Inject().WrongContentRange(1), func(s seen) bool { return s.resp.Header.Get("Content-Range") == "bytes 101-200/1000" && s.body == part }},
		{osstest.Inject().ContentRange("bytes x"), func(s seen) bool { return s.resp.Header.Get("Content-Range") == "bytes x" }},
		{osstest.Inject().ContentRange(""), func(s seen) bool { return s.resp.StatusCode == 206 && s.resp.Header.Get("Content-Range") == "" }},
		{osstest.Inject().WrongTotal(5), func(s seen) bool { return s.resp.Header.Get("Content-Range") == "bytes 100-199/1005" }},
		{osstest.Inject().OtherETag(`"other"`), func(s seen) bool { return s.resp.Header.Get("ETag") == `"other"` }},
		{osstest.Inject().NoETag(), func(s seen) bool { return s.resp.Header.Get("ETag") == "" && s.body == part }},
		{osstest.Inject().WeakETag(), func(s seen) bool { return strings.HasPrefix(s.resp.Header.Get("ETag"), `W/"`) }},
		{osstest.Inject().CRC("12x"), func(s seen) bool { return s.resp.Header.Get("X-Oss-Hash-Crc64ecma") == "12x" }},
		{osstest.Inject().NoCRC(), func(s seen) bool { return s.resp.Header.Get("X-Oss-Hash-Crc64ecma") == "" }},
		{osstest.Inject().IgnoreRange(), func(s seen) bool {
			return s.resp.StatusCode == 200 && s.body == whole && s.resp.Header.Get("Content-Range") == ""
		}},
		{osstest.Inject().OtherBytes(osstest.Zeros(1000)), func(s seen) bool { return s.resp.StatusCode == 206 && s.body == strings.Repeat("\x00", 100) }},
		{osstest.Inject().GzipAnyway(), func(s seen) bool {
			return s.resp.StatusCode == 206 && s.resp.Header.Get("Content-Encoding") == "gzip" && s.resp.Header.Get("ETag") != "" && strings.HasPrefix(s.body, "\x1f\x8b")
		}},
		{osstest.Inject().Drip(time.Microsecond), func(s seen) bool { return s.body == part && s.err == nil }},
		{osstest.Inject().Rate(1 << 20), func(s seen) bool { return s.body == part && s.err == nil }},
		{osstest.Inject().Delay(time.Millisecond), func(s seen) bool { return s.body == part && s.err == nil }},
		{osstest.Inject().CloseConn(), func(s seen) bool { return s.body == part && s.err == nil && s.resp.Close }},
		{osstest.Inject().StallAfter(30), func(s seen) bool { return s.body == part[:30] && errors.Is(s.err, context.Canceled) }},
		{osstest.Inject().HoldHeaders(nil), func(s seen) bool { return s.resp == nil && errors.Is(s.err, context.Canceled) }},
		{osstest.Inject().OtherETag(`"o"`).WrongTotal(1).FlipByte(0).ResetAfter(2), func(s seen) bool {
			return s.resp.Header.Get("ETag") == `"o"` && s.body == string([]byte{^part[0], part[1]}) && reset(s.err)
		}},
	} {
		for _, tls := range []bool{false, true} {
			name := c.fault.String()
			var opts []osstest.Option
			if tls {
				name += ", TLS"
				opts = append(opts, osstest.WithTLS())
			}
			t.Run(name, func(t *testing.T) {
				s := publicServer(t, opts...)
				s.Nth(0, c.fault)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				came := func(int) {}
				switch { // what never ends is cancelled once all has come that does come
				case strings.Contains(name, "Stall"):
					came = func(n int) {
						if n == 30 {
							cancel()
						}
					}
				case strings.Contains(name, "Hold"):
					go func() {
						if s.WaitFor(ctx, func() bool { return s.InFlight() == 1 }) == nil {
							cancel()
						}
					}()
				}
				got := fetch(ctx, s, "bytes=100-199", came)
				if got.resp == nil && got.err == nil || !c.ok(got) {
					t.Errorf("status %v, header %v\n%d bytes %q\n%v", got.resp, header(got.resp), len(got.body), got.body, got.err)
				}
				if err := s.WaitFor(t.Context(), func() bool { return s.InFlight() == 0 }); err != nil {
					t.Fatal(err)
				}
				reqs := s.Requests()
				if len(reqs) != 1 || reqs[0].Fault != c.fault.String() {
					t.Errorf("log: %+v", reqs)
				}
				if got.resp != nil && !strings.Contains(name, "Long") && reqs[0].Sent != int64(len(got.body)) {
					t.Errorf("the log says %d bytes were sent, %d were received", reqs[0].Sent, len(got.body))
				}
			})
		}
	}
}

func header(r *http.Response) http.Header {
	if r == nil {
		return nil
	}
	return r.Header
}

// fetch is one request that follows no redirect. On a fresh connection net/http does not repeat it. After each read, came is
// called with the number of bytes of the body so far.
func fetch(ctx context.Context, s *osstest.Server, rng string, came func(int)) seen {
	client := *s.HTTPClient()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	req, err := http.NewRequestWithContext(ctx, "GET", s.URL("bkt", "k"), nil)
	if err != nil {
		return seen{err: err}
	}
	req.Header.Set("Range", rng)
	resp, err := client.Do(req)
	if err != nil {
		return seen{err: err}
	}
	defer resp.Body.Close()
	var body strings.Builder
	buf := make([]byte, 512)
	for {
		n, err := resp.Body.Read(buf)
		body.Write(buf[:n])
		came(body.Len())
		if err == io.EOF {
			return seen{resp, body.String(), nil}
		}
		if err != nil {
			return seen{resp, body.String(), err}
		}
	}
}

func TestUnfired(t *testing.T) {
	s := publicServer(t)
	s.Nth(0, osstest.Inject().OtherETag(`"x"`).ResetAfter(1001))
	s.Nth(5, osstest.Inject().NoETag())
	s.Nth(6, osstest.Inject().NoCRC().Maybe())
	s.Once(func(r *osstest.Request) bool { return r.Key == "other" }, osstest.Inject().Delay(1))
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Seq != 1 {
			return nil
		}
		return osstest.Inject().WrongTotal(1)
	})
	for range 3 {
		do(t, s, "GET", s.URL("bkt", "k"), nil)
	}
	want := []string{
		"Delay(1ns) of Delay(1ns) (planned)",
		"NoHeader(\"ETag\") of NoHeader(\"ETag\") (planned)",
		"ResetAfter(1001) of Header(\"ETag\", \"\\\"x\\\"\").ResetAfter(1001) (planned)",
		"WrongTotal(1) of WrongTotal(1) (request 1)",
	}
	if got := s.Unfired(); !slices.Equal(got, want) {
		t.Errorf("unfired:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	s.ClearFaults()
	s.Nth(0, osstest.Inject().NoETag())
	do(t, s, "GET", s.URL("bkt", "k"), nil)
	if got := s.Unfired(); !slices.Equal(got, want) {
		t.Errorf("after ClearFaults, unfired:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestScriptsAddUp shows that scripts see the requests in order and that what they return is combined.
func TestScriptsAddUp(t *testing.T) {
	s := publicServer(t)
	seq := -1
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Seq != seq+1 {
			t.Errorf("request %d comes after %d", r.Seq, seq)
		}
		seq = r.Seq
		return osstest.Inject().Header("X-One", "1")
	})
	s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().Header("X-Two", "2") })
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			resp, _, err := try(s, "GET", s.URL("bkt", "k"), nil)
			if err != nil || resp.Header.Get("X-One") != "1" || resp.Header.Get("X-Two") != "2" {
				t.Errorf("%v %v", resp, err)
			}
		})
	}
	wg.Wait()
}

// TestHooks shows what a client finds done at which moment.
func TestHooks(t *testing.T) {
	s := publicServer(t)
	put := func(n int) func() { return func() { s.Put("bkt", "k", osstest.Zeros(int64(n))) } }
	s.Nth(0, osstest.Inject().Before(put(5)))
	if _, body := do(t, s, "GET", s.URL("bkt", "k"), nil); len(body) != 5 {
		t.Errorf("Before: %d bytes", len(body))
	}
	for i := range 200 {
		f := osstest.Inject().Then(put(i + 10))
		if i%3 == 1 {
			f.NoContentLength()
		}
		if i%3 == 2 {
			f.ResetAfter(3)
		}
		s.Nth(0, f)
		_, _, _ = try(s, "GET", s.URL("bkt", "k"), nil)
		if got := s.Stat("bkt", "k").Size(); got != int64(i+10) {
			t.Fatalf("Then has not been called when the answer is there: size %d, want %d", got, i+10)
		}
	}
	var at atomic.Int64
	s.Nth(0, osstest.Inject().At(50, func() { at.Store(s.Stats().Sent) }))
	s.ResetLog()
	do(t, s, "GET", s.URL("bkt", "k"), nil)
	if at.Load() != 50 {
		t.Errorf("At(50) came after %d bytes", at.Load())
	}
	if u := s.Unfired(); u != nil {
		t.Error(u)
	}
}

// TestGate checks that one answer is held while another is served, and that its connection then serves on.
func TestGate(t *testing.T) {
	s := publicServer(t)
	open := make(chan struct{})
	s.Nth(0, osstest.Inject().Gate(10, open))
	held, err := net.Dial("tcp", s.Addr()) // the pool of an HTTP client may give up a connection
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	br := bufio.NewReader(held)
	ask := func() *http.Response {
		t.Helper()
		if _, err := io.WriteString(held, "GET /bkt/k HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	resp := ask()
	first := make([]byte, 10)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	if n := s.InFlight(); n != 1 {
		t.Errorf("%d in flight, want 1", n)
	}
	do(t, s, "GET", s.URL("bkt", "k"), nil)
	close(open)
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) != 990 {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
	if n := s.MaxInFlight(); n != 2 {
		t.Errorf("%d at most, want 2", n)
	}
	resp.Body.Close()
	resp = ask()
	if whole, err := io.ReadAll(resp.Body); err != nil || len(whole) != 1000 {
		t.Errorf("on the same connection: %d bytes, %v", len(whole), err)
	}
	resp.Body.Close()
}

// TestResetDelivers shows that the bytes before a reset arrive, be they more than the kernel's buffers hold.
func TestResetDelivers(t *testing.T) {
	s := publicServer(t)
	s.Put("bkt", "big", osstest.Random(2, 64<<20))
	const n = 20<<20 + 12345
	s.Nth(0, osstest.Inject().ResetAfter(n))
	resp, err := s.HTTPClient().Get(s.URL("bkt", "big"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.Copy(io.Discard, resp.Body)
	if got != n || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("%d bytes and %v, want %d and a reset", got, err, n)
	}
}

// TestPipelined holds an answer while the next request is there already.
func TestPipelined(t *testing.T) {
	s := publicServer(t)
	open := make(chan struct{})
	s.Nth(0, osstest.Inject().HoldHeaders(open))
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const request = "GET /bkt/k HTTP/1.1\r\nHost: 127.0.0.1\r\nRange: bytes=%d-%d\r\n\r\n"
	if _, err := fmt.Fprintf(conn, request+request, 1, 1, 2, 2); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitFor(t.Context(), func() bool { return len(s.Requests()) == 1 }); err != nil {
		t.Fatal(err)
	}
	close(open)
	br := bufio.NewReader(conn)
	for i := range 2 {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.Header.Get("Content-Range") != fmt.Sprintf("bytes %d-%[1]d/1000", i+1) {
			t.Errorf("answer %d: %v %v", i, resp.Header, err)
		}
	}
}
