package ossdl

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/osstest"
)

// plainDownloader has a server with the empty bucket "bkt". It is for tests that look inside: what they need to see is of this
// package, so that they cannot use the harness.
func plainDownloader(t *testing.T, opts ...Option) (*Downloader, *osstest.Server) {
	t.Helper()
	s, err := osstest.New()
	if err != nil {
		t.Fatal(err)
	}
	hc := HTTPClient()
	t.Cleanup(func() {
		hc.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	s.CreateBucket("bkt")
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := New(client, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return d, s
}

// TestPrefixProgressOfTheOldest checks that of ten objects in flight the eight that were begun first are reported, in that
// order.
func TestPrefixProgressOfTheOldest(t *testing.T) {
	d, _ := plainDownloader(t)
	p, err := d.newPrefixRun("bkt", "", t.TempDir(), d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for i := range int64(10) {
		src, err := p.bucket.Object(fmt.Sprint("k", i))
		if err != nil {
			t.Fatal(err)
		}
		c := d.newCallIn(p.lane, src, p.cfg)
		c.start = began.Add(time.Duration(i) * time.Second)
		p.begun(c, i)
	}
	got := p.snapshot().Objects
	for i := range int64(maxObjects) {
		if want := (ObjectProgress{Key: fmt.Sprint("k", i), Total: i}); len(got) != maxObjects || got[i] != want {
			t.Fatalf("got %+v, want %+v at %d", got, want, i)
		}
	}
}

// TestWithoutCheckpointPartsAreJoined checks that parts are joined without a checkpoint. No sync says then what may be
// joined, and nothing is to be lost. Otherwise there would be a part for every 8 MiB in the end, however large the object.
func TestWithoutCheckpointPartsAreJoined(t *testing.T) {
	d, s := plainDownloader(t, WithoutCheckpoint())
	s.Put("bkt", "k", osstest.Random(1, 1000))
	src, err := d.bucketSource("bkt", "k", &d.cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := d.newCall(src, d.cfg)
	if _, err := c.downloadToFile(t.Context(), filepath.Join(t.TempDir(), "file")); err != nil {
		t.Fatal(err)
	}
	if !c.engine.Parts.Volatile() {
		t.Error("done parts wait for a sync that never comes")
	}
}

// TestReaderHoldsNoMoreThanItsMemory checks that blocks and buffers stay within the read-ahead, however many connections
// there are, while nobody reads.
func TestReaderHoldsNoMoreThanItsMemory(t *testing.T) {
	const ahead = 4 << 20
	for _, conns := range []int{1, 4, 64} {
		d, s := plainDownloader(t, WithReadAhead(ahead), WithConcurrency(conns))
		s.Put("bkt", "k", osstest.Zeros(1<<40))
		r, err := d.Open(t.Context(), "bkt", "k")
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 3<<20)
		for range 10 {
			if _, err := io.ReadFull(r, b); err != nil {
				t.Fatal(err)
			}
		}
		for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
			memory, horizon := r.ahead.Held()
			if done := r.engine.Parts.Totals().Done; s.InFlight() > 0 || done < horizon {
				if time.Now().After(deadline) {
					t.Fatalf("%d requests in flight, %d bytes of %d", s.InFlight(), done, horizon)
				}
				continue
			}
			if memory += int64(min(conns, ahead/(4*engine.BufferSize)) * engine.BufferSize); memory > ahead {
				t.Errorf("%d connections: %d bytes held", conns, memory)
			}
			break
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestObjectHeaderIsACopy checks that a caller may change the headers of a result: nothing of the engine changes with them.
func TestObjectHeaderIsACopy(t *testing.T) {
	answer := http.Header{"X-Oss-Meta-Colour": {"blue"}, "Etag": {`"e"`}}
	h := objectHeader(answer, 100)
	h["X-Oss-Meta-Colour"][0] = "red"
	h.Del("Etag")
	if answer.Get("X-Oss-Meta-Colour") != "blue" || answer.Get("Etag") == "" {
		t.Errorf("%v", answer)
	}
}
