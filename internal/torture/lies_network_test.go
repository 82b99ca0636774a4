package torture_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
	"github.com/ossdl/ossdl/internal/osstest"
)

// Connections that end before there is an answer. Where one that was idle ends so, net/http itself asks again.
var noAnswer = []struct {
	name  string
	fault func() *osstest.Fault
}{
	{"reset", func() *osstest.Fault { return osstest.Inject().ResetBeforeHead() }},
	{"closed", func() *osstest.Fault { return osstest.Inject().CloseBeforeHead() }},
	{"half a head", func() *osstest.Fault { return osstest.Inject().CutHead(60) }},
	{"one byte", func() *osstest.Fault { return osstest.Inject().CutHead(1) }},
	{"another protocol", func() *osstest.Fault { return osstest.Inject().Raw([]byte("SSH-2.0-OpenSSH_9.9\r\n")) }},
	{"HTTP/2", func() *osstest.Fault { return osstest.Inject().Raw([]byte("HTTP/2 200\r\n\r\n")) }},
	{"status without a number", func() *osstest.Fault { return osstest.Inject().Raw([]byte("HTTP/1.1 OK\r\n\r\n")) }},
	{"a negative Content-Length", func() *osstest.Fault {
		return osstest.Inject().Raw([]byte("HTTP/1.1 206 Partial Content\r\nContent-Length: -1\r\n\r\n"))
	}},
	{"two lengths", func() *osstest.Fault {
		return osstest.Inject().Raw([]byte("HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"))
	}},
	{"a head without end", func() *osstest.Fault {
		return osstest.Inject().Raw([]byte("HTTP/1.1 206 Partial Content\r\nX-Long: " + strings.Repeat("x", 3<<20)))
	}},
	{"lines without end", func() *osstest.Fault {
		return osstest.Inject().Raw([]byte("HTTP/1.1 206 Partial Content\r\n" + strings.Repeat("X-Another: field\r\n", 1<<17)))
	}},
	{"informational answers without end", func() *osstest.Fault {
		return osstest.Inject().Raw([]byte(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n", 1000)))
	}},
}

func TestNoAnswer(t *testing.T) {
	countLies(t)
	quietHTTP(t)
	for i, lie := range noAnswer {
		for _, m := range momentsOf(i) {
			t.Run(lie.name+"/"+m.name, func(t *testing.T) {
				st := newServerStage(t, stageConfig{size: m.size, v4: m.v4})
				st.httpRepeats = true
				st.answerOnceOrAlways(m, lie.fault(), 0)
			})
		}
	}
	t.Run("informational answers before the right one", func(t *testing.T) {
		st := newServerStage(t, stageConfig{size: lieSmall})
		o := st.s.Stat("bkt", "key")
		body := make([]byte, lieSmall)
		if _, err := o.Content.ReadAt(body, 0); err != nil {
			t.Fatal(err)
		}
		st.s.Nth(0, osstest.Inject().Raw(fmt.Appendf(nil, "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n"+
			"HTTP/1.1 206 Partial Content\r\nETag: %s\r\nx-oss-request-id: 5F\r\nx-oss-hash-crc64ecma: %s\r\nContent-Range: bytes 0-%d/%d\r\nContent-Length: %d\r\n\r\n%s",
			o.ETag, o.CRC, lieSmall-1, lieSmall, lieSmall, body)))
		res, err := st.download()
		st.mustSucceed(res, err, 1)
	})
	t.Run("switching protocols", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.s.Nth(0, osstest.Inject().Raw([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")))
		_, err := st.download()
		var se oss.ServiceError
		if !errors.As(err, &se) || se.StatusCode != 101 {
			t.Errorf("%v holds %+v", err, se)
		}
		st.mustFailAndHeal(err, errSomehow, 1)
	})
	t.Run("a head beyond the bound", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.answerAlways(osstest.Inject().Header("X-Long", strings.Repeat("x", 2*harness.HeadLimit)))
		_, err := st.download()
		gaveUp(t, err, lieAttempts)
		if !strings.Contains(err.Error(), fmt.Sprint(harness.HeadLimit)) {
			t.Error(err)
		}
		st.mustFailAndHeal(err, errSomehow, lieAttempts)
	})
	t.Run("a head within the bound", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.answerAlways(osstest.Inject().Header("X-Long", strings.Repeat("x", harness.HeadLimit/2)))
		res, err := st.download()
		st.mustSucceed(res, err, lieParts)
	})
	t.Run("a certificate of nobody", func(t *testing.T) {
		st := newServerStage(t, stageConfig{server: []osstest.Option{osstest.WithTLS()}})
		trusted := st.transport().TLSClientConfig
		st.transport().TLSClientConfig = nil
		_, err := st.download()
		var cert *tls.CertificateVerificationError
		if !errors.As(err, &cert) || st.s.Conns() != 1 {
			t.Errorf("%v after %d connections", err, st.s.Conns())
		}
		st.mustFail(err, errSomehow, 0, false)
		st.transport().TLSClientConfig = trusted
		st.mustResume(0)
	})
	t.Run("an address that answers nothing", func(t *testing.T) {
		st := newServerStage(t, stageConfig{})
		st.s.Down()
		_, err := st.download()
		st.mustFail(err, syscall.ECONNREFUSED, 0, false)
		harness.NoLeftovers(t, st.path)
		gaveUp(t, err, lieAttempts)
		if err := st.s.Up(); err != nil {
			t.Fatal(err)
		}
		st.mustResume(0)
	})
}

// TestBodyCutAnywhere checks that the rest of a body that ends anywhere is fetched, and nothing twice.
func TestBodyCutAnywhere(t *testing.T) {
	countLies(t)
	rounds := 12
	if os.Getenv("OSSDL_LONG") != "" {
		rounds = 500
	}
	cut := 0
	t.Cleanup(func() {
		if cut < rounds {
			t.Errorf("%d bodies were cut in %d rounds", cut, rounds)
		}
	})
	for i := range rounds {
		seed := uint64(i)
		if os.Getenv("OSSDL_LONG") != "" {
			seed = rand.Uint64()
		}
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 3))
			part := 1 + rnd.Int64N(300_000)
			c := stageConfig{v4: seed%2 == 0, opts: []ossdl.Option{ossdl.WithPartSize(part), ossdl.WithConcurrency(1 + rnd.IntN(6))}}
			if seed%3 == 0 {
				c.server = append(c.server, osstest.WithTLS())
			}
			st := newServerStage(t, c)
			resumed := seed%4 == 0
			if resumed {
				st.opts = append(st.opts, ossdl.WithPartSize(liePart))
				st.interrupt()
				st.opts = st.opts[:len(st.opts)-1]
			}
			cuts := 0
			st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
				n := r.End - r.Start
				if n < 1 || r.End > lieSize || rnd.IntN(3) > 0 {
					return nil
				}
				cuts++
				// A cut at the very end, or in what another worker has taken over, may come too late to happen.
				if at := rnd.Int64N(n + 1); rnd.IntN(2) == 0 {
					return osstest.Inject().ResetAfter(at).Maybe()
				} else {
					return osstest.Inject().CloseAfter(at).Maybe()
				}
			})
			res, err := st.download(ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 50, MinDelay: 1, MaxDelay: 1}))
			st.mustSucceed(res, err, int(lieSize/part)+1+cuts+2*6) // and takings over
			cut += res.Retries
			if st.mustFetch(res, lieSize-res.ResumedBytes); !res.Verified || res.Retries > cuts || (res.ResumedBytes > 0) != resumed {
				t.Errorf("%d cuts: %+v", cuts, *res)
			}
		})
	}
	t.Run("always after 100 kB", func(t *testing.T) {
		// Each request makes progress, so that none is waited for: the delays would be hours.
		st := newServerStage(t, stageConfig{opts: []ossdl.Option{ossdl.WithPartSize(1 << 20), ossdl.WithConcurrency(1), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 2, MinDelay: time.Hour})}})
		st.answerAlways(osstest.Inject().ResetAfter(100_000))
		res, err := st.download()
		st.mustSucceed(res, err, 12)
		st.mustFetch(res, lieSize)
	})
	t.Run("what came before the end is kept", func(t *testing.T) {
		st := newServerStage(t, stageConfig{size: lieSmall})
		st.s.Nth(0, osstest.Inject().ResetAfter(7000))
		st.s.Nth(1, osstest.Error(403, "AccessDenied"))
		_, err := st.download()
		if pe := partError(t, err); pe.Offset != 7000 || pe.Size != lieSmall-7000 {
			t.Errorf("%+v", *pe)
		}
		st.mustBeRefusal(err, 403, "AccessDenied")
		st.mustFail(err, errSomehow, 2, false)
		if kept := st.claimedBytes(); kept != 7000 {
			t.Errorf("%d bytes kept", kept)
		}
		st.mustResume(7000)
	})
	for _, size := range []int64{lieSmall, lieSize} {
		for n := range int64(3) {
			t.Run(fmt.Sprintf("always after %d bytes, %d bytes", n, size), func(t *testing.T) {
				st := newServerStage(t, stageConfig{size: size})
				st.putOldFile()
				st.answerAlways(osstest.Inject().ResetAfter(n))
				res, err := st.download()
				if pe := partError(t, err); pe.Attempts != lieAttempts || !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%+v", *pe)
				}
				workers := int64(1)
				if size > liePart {
					workers = 4
				}
				st.mustFail(err, syscall.ECONNRESET, int(workers*lieAttempts), true)
				if res.DownloadedBytes > n*workers*lieAttempts {
					t.Errorf("%+v", *res)
				}
				st.mustResume(st.claimedBytes())
			})
		}
	}
}

// lieStall is short, so that a busy machine may make an honest answer look stalled.
const lieStall = 200 * time.Millisecond

// Answers that stop, or crawl.
var answersStalled = []struct {
	name   string
	fault  func() *osstest.Fault
	leeway leeway // allStart: the answer is right but for its body
}{
	{"headers never come", func() *osstest.Fault { return osstest.Inject().HoldHeaders(nil) }, mayStall},
	{"body never comes", func() *osstest.Fault { return osstest.Inject().StallAfter(0) }, mayStall | allStart},
	{"body stops", func() *osstest.Fault { return osstest.Inject().StallAfter(5000) }, mayStall | allStart},
	{"a few bytes a second", func() *osstest.Fault { return osstest.Inject().Drip(20 * time.Millisecond) }, mayStall | allStart},
	{"error document stops", func() *osstest.Fault { return osstest.Error(500, "InternalError").StallAfter(20) }, mayStall},
}

func TestStalls(t *testing.T) {
	countLies(t)
	for i, lie := range answersStalled {
		for _, m := range momentsOf(i) {
			t.Run(lie.name+"/"+m.name, func(t *testing.T) {
				t.Parallel()
				st := newServerStage(t, stageConfig{size: m.size, v4: m.v4, opts: []ossdl.Option{ossdl.WithStallTimeout(lieStall)}})
				st.answerOnceOrAlways(m, lie.fault(), lie.leeway)
			})
		}
	}
	t.Run("the trial of another range never ends", func(t *testing.T) {
		t.Parallel()
		st := newServerStage(t, stageConfig{server: []osstest.Option{osstest.WithQuirks(osstest.NoRanges)}})
		tried := make(chan struct{}) // the stream is not through before
		st.s.Nth(0, osstest.Inject().Gate(lieSize/2, tried))
		st.s.Once(func(r *osstest.Request) bool { return r.Start > 0 }, osstest.Inject().Before(func() { close(tried) }).HoldHeaders(nil))
		res, err := st.download()
		st.mustSucceed(res, err, 2)
	})
	t.Run("the question without If-Match is not answered", func(t *testing.T) {
		t.Parallel()
		st := newServerStage(t, stageConfig{opts: []ossdl.Option{ossdl.WithStallTimeout(lieStall)}})
		st.s.SetQuirks(osstest.IfMatchWithRangeUnsupported)
		st.s.Once(func(r *osstest.Request) bool { return r.Range == "bytes=0-0" }, osstest.Inject().HoldHeaders(nil))
		res, err := st.download()
		st.mustSucceed(res, err, 2*lieParts+3*4)
	})
	for _, always := range []bool{false, true} {
		t.Run(fmt.Sprintf("all is there, and the question whether it still fits is not answered, always %t", always), func(t *testing.T) {
			t.Parallel()
			st := newServerStage(t, stageConfig{opts: []ossdl.Option{ossdl.WithStallTimeout(lieStall)}})
			st.complete()
			f := osstest.Inject().HoldHeaders(nil)
			st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
				if always || r.Seq == 0 {
					return f
				}
				return nil
			})
			res, err := st.download()
			if !always {
				st.mustSucceed(res, err, lieAttempts)
				return
			}
			gaveUp(t, err, lieAttempts)
			st.mustFail(err, errSomehow, lieAttempts, false)
			if !harness.StalledOut(err) {
				t.Errorf("%v does not say that it stalled", err)
			}
			if res, err := st.download(); err != nil || res.ResumedBytes != lieSize {
				t.Errorf("%+v, %v", res, err)
			}
		})
	}
}

// complete leaves what a run leaves that is killed before its rename: all bytes, and a checkpoint that says so.
func (st *serverStage) complete() {
	st.t.Helper()
	st.interrupt()
	cp := checkpoints.Read(st.t, st.path+harness.CheckpointSuffix)
	all := harness.Bytes(st.t, st.content)
	cp.Claim(all, checkpoints.Span{End: cp.Size})
	checkpoints.Write(st.t, st.path+harness.CheckpointSuffix, cp)
	if err := os.WriteFile(st.path+harness.PartSuffix, all, 0o600); err != nil {
		st.t.Fatal(err)
	}
}

// TestServerGone is about a server that is gone for a while: refused connections are counted, and it comes back after some
// of them.
func TestServerGone(t *testing.T) {
	countLies(t)
	for _, resumed := range []bool{false, true} {
		for _, from := range []int{0, 7} {
			t.Run(fmt.Sprintf("from answer %d on, resumed %t", from, resumed), func(t *testing.T) {
				st := newServerStage(t, stageConfig{opts: []ossdl.Option{ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1000, MinDelay: time.Millisecond, MaxDelay: time.Millisecond})}})
				st.httpRepeats = true
				if resumed {
					st.interrupt()
				}
				var refused atomic.Int64
				var away atomic.Bool
				dial := st.transport().DialContext
				st.transport().DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
					c, err := dial(ctx, network, addr)
					if err != nil && refused.Add(1) == 10 {
						away.Store(false)
						if err := st.s.Up(); err != nil {
							t.Error(err)
						}
					}
					return c, err
				}
				gone, held := osstest.Inject().Before(st.s.Down), osstest.Inject().HoldHeaders(nil)
				st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
					switch {
					case r.Seq == from:
						away.Store(true)
						return gone
					case away.Load(): // it came before its connection was cut
						return held
					}
					return nil
				})
				res, err := st.download()
				st.mustSucceed(res, err, lieParts+2*4)
				if n := refused.Load(); n < 10 || res.ResumedBytes != map[bool]int64{true: lieKept}[resumed] {
					t.Errorf("%d connections refused, %+v", n, *res)
				}
			})
		}
	}
	t.Run("connections cut again and again", func(t *testing.T) {
		st := newServerStage(t, stageConfig{opts: []ossdl.Option{ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 50, MinDelay: 1, MaxDelay: 1})}})
		st.httpRepeats = true
		n := 0
		var cuts atomic.Int64
		st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
			if n++; n%5 != 0 || n > 100 {
				return nil
			}
			// What is asked for may be less by then, or the connection gone with another.
			return osstest.Inject().At(1000, func() { cuts.Add(1); st.s.CutConns() }).Maybe()
		})
		res, err := st.download()
		st.mustSucceed(res, err, 200)
		if cuts.Load() == 0 || res.Retries == 0 {
			t.Errorf("%d times cut, %+v", cuts.Load(), *res)
		}
	})
}

// TestEndlessErrorBody checks that bodies of refusals that never end are not read to their end.
func TestEndlessErrorBody(t *testing.T) {
	countLies(t)
	for _, lie := range []struct {
		status int
		most   int
		means  error
	}{{503, lieAttempts, nil}, {500, lieAttempts, nil}, {404, 1, ossdl.ErrNotFound}, {302, 1, nil}, {308, 1, nil}, {600, lieAttempts, nil}} {
		t.Run(fmt.Sprint(lie.status), func(t *testing.T) {
			const endless = 64 << 30
			st := newServerStage(t, stageConfig{})
			st.s.Put("bkt", "key", osstest.Zeros(endless))
			st.answerAlways(osstest.Inject().IgnoreRange().NoContentLength().Status(lie.status).Header("Content-Type", "application/xml"))
			_, err := st.download()
			if sent := st.s.Stats().Sent; sent > int64(lie.most)*(64<<20) {
				t.Errorf("%d bytes sent", sent)
			}
			st.mustBeRefusal(err, lie.status, "")
			if lie.most > 1 {
				gaveUp(t, err, lie.most)
			}
			want := lie.means
			if want == nil {
				want = errSomehow
			}
			st.mustFail(err, want, lie.most, false)
			harness.NoLeftovers(t, st.path)
		})
	}
}

// TestShrinkingObject is about a server that says each time that the object ends a byte before the end of the range.
func TestShrinkingObject(t *testing.T) {
	countLies(t)
	st := newServerStage(t, stageConfig{})
	st.s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		return osstest.Inject().Reply(200, "application/octet-stream", strings.Repeat("x", int(r.End-1))).Header("ETag", `"5"`)
	})
	_, err := st.download(ossdl.WithRange(1000, -1))
	// It learns the size anew each time, which counts as an attempt but for the first.
	if gaveUp(t, err, lieAttempts+1); !strings.Contains(err.Error(), "the object has ") {
		t.Errorf("%v does not say how long the object is said to be", err)
	}
	st.mustFail(err, errSomehow, lieAttempts+1, false)
	harness.NoLeftovers(t, st.path)
}
