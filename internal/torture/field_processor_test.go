package torture_test

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
)

// oneProcessor serves whoever came last first, as run queues may: some wait for long.
type oneProcessor struct {
	harness.Memory
	wanted chan chan struct{}
}

// run serves until ctx is done.
func (p *oneProcessor) run(ctx context.Context, slice time.Duration) {
	var waiting []chan struct{}
	for {
		var next <-chan time.Time
		if len(waiting) > 0 {
			next = time.After(slice)
		}
		for served := false; !served; {
			select {
			case w := <-p.wanted:
				waiting = append(waiting, w)
				served = next == nil
			case <-next:
				close(waiting[len(waiting)-1])
				waiting = waiting[:len(waiting)-1]
				served = true
			case <-ctx.Done():
				return
			}
		}
	}
}

// WriteAt is what takes the processor.
func (p *oneProcessor) WriteAt(b []byte, off int64) (int, error) {
	turn := make(chan struct{})
	p.wanted <- turn
	<-turn
	return p.Memory.WriteAt(b, off)
}

// TestNothingIsTakenOverForWantOfAProcessor checks that idle workers make no requests for the ranges of others if the processor is
// what all of them wait for, while every body has bytes ready. The order of goroutines may add requests, so one run of a few
// decides; if they are taken over, none needs so few.
func TestNothingIsTakenOverForWantOfAProcessor(t *testing.T) {
	const conns, tries = 64, 6
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2)) // for more, fewer requests are too many
	harness.Tried.Add("cases from the field", 1)
	var requests []int
	for range tries {
		n := requestsOfOneProcessor(t, conns)
		if n <= conns*5/4 { // some are made before it shows what is the limit, and a few at the end, when few requests are left
			return
		}
		requests = append(requests, n)
	}
	t.Errorf("%d requests, where %d do", requests, conns)
}

// requestsOfOneProcessor downloads with a processor that is what all requests wait for, and returns how many requests were made.
func requestsOfOneProcessor(t *testing.T, conns int) (n int) {
	const size = 128 << 20
	synctest.Test(t, func(t *testing.T) {
		b := harness.NewBubbleClient(t, size, size, func(_ *http.Request, resp *http.Response) error {
			resp.Body = &ready{ReadCloser: resp.Body, rest: make([]byte, resp.ContentLength)}
			return nil
		}, ossdl.WithConcurrency(conns))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p := &oneProcessor{harness.Memory{Content: make([]byte, size)}, make(chan chan struct{})}
		go p.run(ctx, 4*time.Millisecond)
		res, err := b.Downloader.DownloadTo(ctx, "bkt", "k", p)
		if err != nil {
			t.Fatal(err)
		}
		n = res.Requests
	})
	return n
}

// ready is a body whose bytes are all there once the first is.
type ready struct {
	io.ReadCloser
	rest []byte
	read bool
}

func (r *ready) Read(b []byte) (int, error) {
	if !r.read {
		if _, err := io.ReadFull(r.ReadCloser, r.rest); err != nil {
			return 0, err
		}
		r.read = true
	}
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
