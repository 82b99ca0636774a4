package torture_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/leaks"
	"github.com/ossdl/ossdl/internal/osstest"
)

const (
	cancelSize = 4 << 20
	cancelPart = 1 << 20
)

// cancelled is a bubble in which the object takes some seven seconds on two connections.
func cancelled(t *testing.T, change func(*http.Request, *http.Response) error, opts ...ossdl.Option) *harness.BubbleClient {
	return harness.NewBubbleClient(t, cancelSize, 64<<10, change, append([]ossdl.Option{ossdl.WithPartSize(cancelPart), ossdl.WithConcurrency(2)}, opts...)...)
}

// stalled is a body that brings nothing more, after so many bytes, until its request ends.
type stalled struct {
	io.ReadCloser
	ctx  context.Context
	left int
}

func (s *stalled) Read(p []byte) (int, error) {
	if s.left <= 0 {
		<-s.ctx.Done()
		return 0, s.ctx.Err()
	}
	n, err := s.ReadCloser.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// stallsOnly lets the bodies of one path bring nothing.
func stallsOnly(path string) func(*http.Request, *http.Response) error {
	return func(r *http.Request, resp *http.Response) error {
		if r.URL.Path == path {
			resp.Body = &stalled{resp.Body, r.Context(), 0}
		}
		return nil
	}
}

// occupy lets another call have both slots of a Downloader, until the bubble's release.
func occupy(t *testing.T, b *harness.BubbleClient) []ossdl.Option {
	b.Service.Objects["held"] = b.Content
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		to := &harness.Memory{Content: make([]byte, len(b.Content))}
		_, err := b.Downloader.DownloadTo(ctx, "bkt", "held", to, ossdl.WithStallTimeout(10000*time.Hour))
		ended <- err
	}()
	b.Release = func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the other call ended with %v", err)
		}
	}
	time.Sleep(time.Second)
	if n := b.Service.Open.Load(); n != 2 {
		t.Fatalf("%d slots are in use", n)
	}
	return nil
}

// slowReads is a disk on which reading the partial file takes a second each time.
func slowReads(disk fsys.FS) fsys.FS {
	f := faultfs.New(disk)
	f.OnOp(func(op faultfs.Op) error {
		if op.Kind == faultfs.Read && strings.HasSuffix(op.Name, harness.PartSuffix) {
			time.Sleep(time.Second)
		}
		return nil
	})
	return f
}

// TestCancelledAnywhere checks that whatever a call waits for, it returns at once when its context ends, with the context's
// error and cause, and a call to a file that follows keeps what came.
func TestCancelledAnywhere(t *testing.T) {
	const file = "Download DownloadURL"
	const all = file + " DownloadTo Open"
	stall := func(after int) func(*http.Request, *http.Response) error {
		return func(r *http.Request, resp *http.Response) error {
			resp.Body = &stalled{resp.Body, r.Context(), after}
			return nil
		}
	}
	breaks := func(_ *http.Request, resp *http.Response) error {
		resp.Body = &breaking{resp.Body, 3 << 10}
		return nil
	}
	n := 0
	for name, c := range map[string]struct {
		entryPoints string
		change      func(*http.Request, *http.Response) error
		begin       func(t *testing.T, b *harness.BubbleClient) []ossdl.Option // before the call; its options
		after       time.Duration                                              // from its start, to the end of the context
		within      time.Duration                                              // from then on
		kept        int64                                                      // at least, by the call that follows
	}{
		"before the first answer": {all, nil, nil, harness.ServicePause / 2, 0, 0},
		"before the first byte":   {all, stall(0), nil, time.Second, 0, 0},
		"in a body that stalls":   {all, stall(300 << 10), nil, 10 * time.Second, 0, 600 << 10},
		"waiting for a slot":      {all, stallsOnly("/held"), occupy, time.Hour, 0, 0},
		"in back-off": {all, breaks, func(*testing.T, *harness.BubbleClient) []ossdl.Option {
			return []ossdl.Option{ossdl.WithRetry(ossdl.RetryPolicy{MinDelay: 100 * time.Hour, MaxDelay: 100 * time.Hour})}
		}, 30 * time.Second, 0, 6 << 10},
		"at the rate limit": {all, nil, func(*testing.T, *harness.BubbleClient) []ossdl.Option {
			return []ossdl.Option{ossdl.WithRateLimit(1), ossdl.WithStallTimeout(10000 * time.Hour)} // a read of one byte takes as long as any
		}, time.Hour, 0, 0},
		"in the proof": {file, nil, func(t *testing.T, b *harness.BubbleClient) []ossdl.Option {
			// The last bytes come after the claims are read, as the network is slower than the disk is here.
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
			defer cancel()
			if _, err := b.Downloader.Download(ctx, "bkt", "k", harness.BubblePath); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			return []ossdl.Option{harness.WithFS(slowReads(b.Disk))}
		}, 5500 * time.Millisecond, time.Second, 3 << 20},
		"in the caller's digest": {file, nil, func(_ *testing.T, b *harness.BubbleClient) []ossdl.Option {
			sum := sha256.Sum256(b.Content)
			return []ossdl.Option{ossdl.WithChecksum(sha256.New, sum[:]), harness.WithFS(slowReads(b.Disk))}
		}, 10500 * time.Millisecond, time.Second, cancelSize},
	} {
		for _, entryPoint := range strings.Fields(c.entryPoints) {
			if name == "in the proof" && entryPoint == "DownloadURL" {
				continue // the checkpoint is of the other source
			}
			if n++; harness.LeaveOut(n, 2) {
				continue
			}
			t.Run(name+"/"+entryPoint, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := cancelled(t, c.change)
					var opts []ossdl.Option
					if c.begin != nil {
						opts = c.begin(t, b)
					}
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					cause := errors.New("enough")
					start := time.Now()
					time.AfterFunc(c.after, func() { cancel(cause) })
					_, err := b.Download(t, ctx, entryPoint, harness.BubblePath, opts...)
					if took := time.Since(start); took < c.after || took > c.after+c.within {
						t.Errorf("returned after %v, the context ended after %v", took, c.after)
					}
					if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
						t.Errorf("%v", err)
					}
					b.Release()
					synctest.Wait()
					if left := leaks.OthersInBubble(); left != "" {
						t.Errorf("goroutines left running:\n%s", left)
					}
					if n := b.Service.Open.Load(); n != 0 {
						t.Errorf("%d bodies left open", n)
					}
					if !strings.Contains(file, entryPoint) {
						return
					}
					again := cancelled(t, nil, harness.WithFS(b.Disk))
					res, err := again.Download(t, t.Context(), entryPoint, harness.BubblePath)
					if err != nil {
						t.Fatal(err)
					}
					if res.ResumedBytes < c.kept || res.ResumedBytes+again.Service.Sent.Load() != cancelSize {
						t.Errorf("%d bytes kept, want %d; %d came", res.ResumedBytes, c.kept, again.Service.Sent.Load())
					}
					if got, err := fsys.ReadFile(b.Disk, harness.BubblePath, 1<<30); err != nil || string(got) != string(b.Content) {
						t.Errorf("the file is wrong, %v", err)
					}
				})
			})
		}
	}
}

// TestCancelledWhileAURLIsRenewed checks that the caller's function is given a context that ends with the call's, and the
// next call asks for a URL again and goes on.
func TestCancelledWhileAURLIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		expires := time.Now().Add(3 * time.Second)
		signed := "http://service.test/k?OSSAccessKeyId=a&Signature=b&Expires="
		var served int64
		b := cancelled(t, func(r *http.Request, resp *http.Response) error {
			if r.URL.Query().Get("Expires") == "1" && time.Now().After(expires) {
				resp.StatusCode = http.StatusForbidden
				resp.Body.Close()
				resp.Body = io.NopCloser(strings.NewReader("<Error><Code>AccessDenied</Code><Message>Request has expired.</Message></Error>"))
			}
			return nil
		})
		web := ossdl.WithHTTPClient(b.HTTP)
		ctx, cancel := context.WithCancel(t.Context())
		asked := 0
		time.AfterFunc(time.Hour, cancel)
		start := time.Now()
		_, err := b.Downloader.DownloadURL(ctx, signed+"1", harness.BubblePath, web, ossdl.WithURLRefresh(func(ctx context.Context) (string, error) {
			if asked++; asked == 1 {
				return signed + "1", nil // new, and by this machine's clock expired: it is tried
			}
			<-ctx.Done()
			return "", ctx.Err()
		}))
		if !errors.Is(err, context.Canceled) || time.Since(start) != time.Hour || asked != 2 {
			t.Fatalf("%v after %v, asked %d times", err, time.Since(start), asked)
		}
		served = b.Service.Sent.Load()
		res, err := b.Downloader.DownloadURL(t.Context(), signed+"1", harness.BubblePath, web, ossdl.WithURLRefresh(func(context.Context) (string, error) {
			return signed + "4102444800", nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		if res.ResumedBytes != served || res.ResumedBytes == 0 || b.Service.Sent.Load() != cancelSize {
			t.Errorf("%d bytes kept of %d that came; %d came in all", res.ResumedBytes, served, b.Service.Sent.Load())
		}
	})
}

// ending answers as the call is cancelled, with an object that has no bytes.
type ending struct{ cancel func() }

func (e ending) RoundTrip(r *http.Request) (*http.Response, error) {
	e.cancel()
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r, Body: http.NoBody, Header: http.Header{
			"Etag": {`"E"`}, "Content-Length": {"0"}, "X-Oss-Hash-Crc64ecma": {"0"}, "X-Oss-Request-Id": {harness.ServiceRequestID},
			"Last-Modified": {harness.ServiceTime.Format(http.TimeFormat)},
		},
	}, nil
}

// TestEmptyObjectAsTheCallIsCancelled checks that a call which is cancelled as its only answer comes has made the file, or
// says that it was cancelled.
func TestEmptyObjectAsTheCallIsCancelled(t *testing.T) {
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		web := &http.Client{Transport: ending{cancel}}
		client, err := oss.New("http://service.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(web))
		if err != nil {
			t.Fatal(err)
		}
		d, err := ossdl.New(client)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "file")
		_, err = d.Download(ctx, "bkt", "k", path)
		if err == nil != harness.Exists(path) || err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		cancel()
	}
}
