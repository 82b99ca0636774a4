package machine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/leaks"
	"github.com/ossdl/ossdl/internal/osstest"
)

// stuckService is an object of which every body brings some bytes and then no more, and whose heads may not come either.
type stuckService struct {
	harness.Service
	size   int64
	brings int          // bytes of each body
	heads  atomic.Int64 // answers with a head that are left; negative: no bound
}

func (s *stuckService) RoundTrip(r *http.Request) (*http.Response, error) {
	s.Requests.Add(1)
	if s.heads.Add(-1) == -1 {
		s.heads.Store(0)
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	var off, last int64
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &off, &last); err != nil {
		return nil, fmt.Errorf("the service wants a range: %w", err)
	}
	last = min(last, s.size-1)
	resp := s.Answer(r, http.StatusPartialContent, nil, map[string]string{
		"Content-Range": fmt.Sprintf("bytes %d-%d/%d", off, last, s.size), "Content-Length": fmt.Sprint(last + 1 - off),
		"ETag": `"E"`, "Last-Modified": harness.ServiceTime.Format(http.TimeFormat),
	})
	resp.Header.Set("Content-Length", fmt.Sprint(last+1-off))
	resp.Body = &stuckBody{ServiceBody: resp.Body.(*harness.ServiceBody), left: s.brings}
	return resp, nil
}

type stuckBody struct {
	*harness.ServiceBody
	left int
}

func (b *stuckBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		<-b.Ctx.Done()
		return 0, b.Ctx.Err()
	}
	n := min(len(p), b.left)
	b.left -= n
	return n, nil
}

// newStuck makes the service and a Downloader for it, within a bubble.
func newStuck(t *testing.T, size int64, brings int, heads int64, opts ...ossdl.Option) (*stuckService, *ossdl.Downloader) {
	t.Helper()
	s := &stuckService{size: size, brings: brings}
	s.heads.Store(heads)
	client, err := oss.New("http://service.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(&http.Client{Transport: s}))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ossdl.New(client, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

// TestReaderClosedWhileTheServerStalls checks that Close waits for nothing: no time passes, no request, body or goroutine
// is left, and the memory is free while the Reader itself is still held.
func TestReaderClosedWhileTheServerStalls(t *testing.T) {
	for name, c := range map[string]struct {
		brings int
		heads  int64
		read   int // bytes read before
		waits  bool
	}{
		"no byte came":         {0, -1, 0, false},
		"a Read waits":         {0, -1, 0, true},
		"no further head":      {1 << 20, 1, 1000, false},
		"bytes were read":      {1 << 20, -1, 300 << 10, false},
		"and another is asked": {1 << 20, -1, 300 << 10, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, d := newStuck(t, 1<<30, c.brings, c.heads)
				before := heapInUse()
				r, err := d.Open(t.Context(), "bkt", "k")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.CopyN(io.Discard, harness.OnlyReader{Reader: r}, int64(c.read)); err != nil {
					t.Fatal(err)
				}
				waiting := make(chan error, 1)
				if c.waits {
					go func() {
						_, err := io.Copy(io.Discard, r)
						waiting <- err
					}()
				}
				synctest.Wait() // for the server, all of them
				if held, least := heapInUse()-before, int64(c.brings-c.read)/2; held < least {
					t.Errorf("%d bytes of memory are held of %d that came", held, 2*least)
				}
				start := time.Now()
				if err := r.Close(); err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took > 0 {
					t.Errorf("Close took %v", took)
				}
				if c.waits {
					if err := <-waiting; !errors.Is(err, os.ErrClosed) {
						t.Errorf("the Read that waited: %v", err)
					}
				}
				synctest.Wait()
				if left := leaks.OthersInBubble(); left != "" {
					t.Errorf("goroutines left running:\n%s", left)
				}
				if n := s.Open.Load(); n != 0 {
					t.Errorf("%d bodies left open", n)
				}
				if held := heapInUse() - before; held >= harness.BufferSize {
					t.Errorf("%d bytes of memory are still held", held)
				}
				runtime.KeepAlive(r)
			})
		})
	}
}

// TestReaderIsAsFastAsAFile checks that with its default memory a Reader has as many requests in flight as a download to a
// file, from the start, at the adaptive ceiling, and at what a caller asks for.
func TestReaderIsAsFastAsAFile(t *testing.T) {
	for _, conns := range []int64{0, 3, ossdl.AdaptiveConcurrency} {
		var opts []ossdl.Option
		want := int64(harness.StartConcurrency)
		if conns > 0 {
			opts, want = append(opts, ossdl.WithConcurrency(int(conns))), conns
		}
		inFlight := func(call func(context.Context, *ossdl.Downloader) error) (n int64) {
			synctest.Test(t, func(t *testing.T) {
				s, d := newStuck(t, 64<<30, 0, -1, opts...)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- call(ctx, d) }()
				synctest.Wait()
				n = s.Open.Load()
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
			return n
		}
		file := inFlight(func(ctx context.Context, d *ossdl.Downloader) error {
			_, err := d.Download(ctx, "bkt", "k", "/file", harness.WithFS(memfs.New(memfs.Config{NoReserve: true})), ossdl.WithoutPreallocation())
			return err
		})
		reader := inFlight(func(ctx context.Context, d *ossdl.Downloader) error {
			r, err := d.Open(ctx, "bkt", "k")
			if err != nil {
				return err
			}
			defer r.Close()
			_, err = io.Copy(io.Discard, r)
			return err
		})
		if file != want || reader != want {
			t.Errorf("%d requests in flight of a file, %d of a Reader, want %d", file, reader, want)
		}
	}
}
