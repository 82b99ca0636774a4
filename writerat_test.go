package ossdl_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

func TestDownloadTo(t *testing.T) {
	s := harness.NewServer(t)
	d := harness.NewDownloader(t, s)
	for _, size := range []int64{0, 1, 100_000, 8<<20 + 1, 40 << 20} {
		c := osstest.Random(1, size)
		s.Put("bkt", "k", c)
		m := &harness.Memory{Content: make([]byte, size)}
		var reports harness.ProgressRecorder
		res, err := d.DownloadTo(t.Context(), "bkt", "k", m, ossdl.WithProgress(reports.Add))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.Content, harness.Bytes(t, c)) {
			t.Errorf("%d bytes: wrong", size)
		}
		if res.Path != "" || res.Size != size || res.CRC64 != c.CRC64() || !res.Verified || res.DownloadedBytes < size {
			t.Errorf("%+v", *res)
		}
		if m.Written != size || m.Largest > harness.BufferSize {
			t.Errorf("%d bytes written, in pieces of up to %d", m.Written, m.Largest)
		}
		if last := reports.Last(); last.Done != size || last.Total != size {
			t.Errorf("last report: %+v", last)
		}
	}
}

func TestDownloadToRange(t *testing.T) {
	s := harness.NewServer(t)
	const size = 5 << 40
	s.Put("bkt", "k", osstest.Random(1, size))
	d := harness.NewDownloader(t, s)
	m := &harness.Memory{Content: make([]byte, 3<<20)}
	const off = 1<<42 - 1<<20
	res, err := d.DownloadTo(t.Context(), "bkt", "k", m, ossdl.WithRange(off, int64(len(m.Content))))
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, len(m.Content))
	if _, err := osstest.Random(1, size).ReadAt(want, off); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Content, want) || res.CRC64 != crc64.Update(0, want) || res.Verified {
		t.Errorf("wrong bytes, or wrongly verified: %+v", *res)
	}
	if _, err := d.DownloadTo(t.Context(), "bkt", "k", m, ossdl.WithRange(size, 1)); !errors.Is(err, ossdl.ErrRange) {
		t.Error(err)
	}
}

func TestDownloadToRefusals(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 10))
	d := harness.NewDownloader(t, s)
	sum := sha256.Sum256(nil)
	for want, call := range map[string]func() (*ossdl.Result, error){
		"nil writer": func() (*ossdl.Result, error) { return d.DownloadTo(t.Context(), "bkt", "k", nil) },
		"WithChecksum needs a writer that is also an io.ReaderAt": func() (*ossdl.Result, error) {
			return d.DownloadTo(t.Context(), "bkt", "k", &harness.Memory{}, ossdl.WithChecksum(sha256.New, sum[:]))
		},
		"WithCheckpoint does not apply to DownloadTo": func() (*ossdl.Result, error) {
			return d.DownloadTo(t.Context(), "bkt", "k", &harness.Memory{}, ossdl.WithCheckpoint("x"))
		},
		"WithReadAhead does not apply to DownloadTo": func() (*ossdl.Result, error) {
			return d.DownloadTo(t.Context(), "bkt", "k", &harness.Memory{}, ossdl.WithReadAhead(1<<20))
		},
		`key ""`: func() (*ossdl.Result, error) { return d.DownloadTo(t.Context(), "bkt", "", &harness.Memory{}) },
	} {
		res, err := call()
		if err == nil || !strings.Contains(err.Error(), want) || res != nil {
			t.Errorf("got %v, %v, want %s", res, err, want)
		}
	}
	if n := s.Stats().Requests; n != 0 {
		t.Errorf("%d requests", n)
	}
	res, err := d.DownloadTo(t.Context(), "bkt", "none", &harness.Memory{})
	if !errors.Is(err, ossdl.ErrNotFound) || res == nil {
		t.Error(res, err)
	}
}

func TestDownloadToWritersError(t *testing.T) {
	s := harness.NewServer(t)
	c := osstest.Random(1, 32<<20)
	s.Put("bkt", "k", c)
	d := harness.NewDownloader(t, s, ossdl.WithConcurrency(4))
	full := errors.New("the writer is full")
	m := &harness.Memory{Content: make([]byte, c.Size()), OnWrite: func(off int64) error {
		if off > 20<<20 {
			return full
		}
		return nil
	}}
	res, err := d.DownloadTo(t.Context(), "bkt", "k", m)
	if !errors.Is(err, full) || res == nil {
		t.Fatal(res, err)
	}
	if errors.As(err, new(*ossdl.PartError)) {
		t.Errorf("the writer's own error is said to be of a part: %v", err)
	}
	m.OnWrite = func(int64) error { t.Error("written to after the return"); return nil }

	short := writerFunc(func(b []byte, off int64) (int, error) { return len(b) - 1, nil })
	if _, err := d.DownloadTo(t.Context(), "bkt", "k", short); !errors.Is(err, io.ErrShortWrite) {
		t.Error(err)
	}
	if n := s.Stats().Requests; n > 20 {
		t.Errorf("%d requests: tried again", n)
	}
}

type writerFunc func(b []byte, off int64) (int, error)

func (f writerFunc) WriteAt(b []byte, off int64) (int, error) { return f(b, off) }

func TestDownloadToPanickingWriter(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 32<<20))
	d := harness.NewDownloader(t, s, ossdl.WithConcurrency(2))
	cause := errors.New("boom")
	func() {
		defer func() {
			v, _ := recover().(error)
			if !errors.Is(v, cause) || !strings.Contains(v.Error(), "TestDownloadToPanickingWriter") {
				t.Errorf("recovered %v", v)
			}
		}()
		_, err := d.DownloadTo(t.Context(), "bkt", "k", writerFunc(func([]byte, int64) (int, error) { panic(cause) }))
		t.Errorf("returned %v", err)
	}()
	// Every slot came back.
	if _, err := d.DownloadTo(t.Context(), "bkt", "k", &harness.Memory{Content: make([]byte, 32<<20)}); err != nil {
		t.Error(err)
	}
}

func TestDownloadToChecksum(t *testing.T) {
	s := harness.NewServer(t)
	c := osstest.Random(1, 10<<20)
	s.Put("bkt", "k", c, osstest.NoCRC())
	d := harness.NewDownloader(t, s)
	m := &harness.ReadableMemory{Memory: harness.Memory{Content: make([]byte, c.Size())}}
	sum := sha256.Sum256(harness.Bytes(t, c))
	res, err := d.DownloadTo(t.Context(), "bkt", "k", m, ossdl.WithChecksum(sha256.New, sum[:]))
	if err != nil || !res.Verified {
		t.Errorf("%+v, %v", res, err)
	}
	sum[0]++
	if _, err := d.DownloadTo(t.Context(), "bkt", "k", m, ossdl.WithChecksum(sha256.New, sum[:])); !errors.Is(err, ossdl.ErrChecksum) {
		t.Error(err)
	}
	// A file opened for writing alone will do as long as nothing is to be read from it.
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "f"), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s.Put("bkt", "k", c)
	if _, err := d.DownloadTo(t.Context(), "bkt", "k", f); err != nil {
		t.Error(err)
	}
}

func TestDownloadToWrongCRC(t *testing.T) {
	s := harness.NewServer(t)
	c := osstest.Random(1, 4<<20)
	s.Put("bkt", "k", c)
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(1<<20))
	m := &harness.Memory{Content: make([]byte, c.Size())}
	s.Nth(2, osstest.Inject().FlipByte(1000))
	res, err := d.DownloadTo(t.Context(), "bkt", "k", m)
	if err != nil || !res.Verified || !bytes.Equal(m.Content, harness.Bytes(t, c)) {
		t.Errorf("%+v, %v", res, err)
	}
	if m.Written != 2*c.Size() {
		t.Errorf("%d bytes written, want all of them twice", m.Written)
	}
	m.Written = 0
	s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().FlipByte(1000).Maybe() }) // a request that takes over may be for less
	if res, err := d.DownloadTo(t.Context(), "bkt", "k", m); !errors.Is(err, ossdl.ErrChecksum) || res.CRC64 != 0 || res.Verified {
		t.Errorf("%+v, %v", res, err)
	}
	if m.Written != 2*c.Size() {
		t.Errorf("%d bytes written, want all of them twice", m.Written)
	}
}

func TestDownloadToContinuesAfterResets(t *testing.T) {
	needDeliveredResets(t)
	s := harness.NewServer(t, osstest.ResetEvery(100<<10, 1<<20, 1))
	c := osstest.Random(1, 16<<20)
	s.Put("bkt", "k", c)
	m := &harness.Memory{Content: make([]byte, c.Size())}
	res, err := harness.NewDownloader(t, s).DownloadTo(t.Context(), "bkt", "k", m)
	if err != nil || !bytes.Equal(m.Content, harness.Bytes(t, c)) {
		t.Fatal(err)
	}
	if m.Written != c.Size() || res.Retries == 0 {
		t.Errorf("%d bytes written, %d retries", m.Written, res.Retries)
	}
}

func TestDownloadToCancelled(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Zeros(1<<40))
	d := harness.NewDownloader(t, s)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	var n atomic.Int64
	_, err := d.DownloadTo(ctx, "bkt", "k", writerFunc(func(b []byte, _ int64) (int, error) {
		if n.Add(int64(len(b))) > 10<<20 {
			cancel(cause)
		}
		return len(b), nil
	}))
	if !errors.Is(err, context.Canceled) || !errors.Is(err, cause) {
		t.Error(err)
	}
}

// TestDownloadToMemoryIsFlat checks that a large object needs little memory: 64 GiB with OSSDL_LONG=1, otherwise 256 MiB.
func TestDownloadToMemoryIsFlat(t *testing.T) {
	size := int64(256 << 20)
	if os.Getenv("OSSDL_LONG") == "1" {
		size = 64 << 30
	}
	s := harness.NewServer(t, osstest.WithoutLog())
	s.Put("bkt", "k", osstest.Zeros(size))
	d := harness.NewDownloader(t, s, ossdl.WithConcurrency(4))
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var mu sync.Mutex
	n, most := 0, uint64(0)
	res, err := d.DownloadTo(t.Context(), "bkt", "k", writerFunc(func(b []byte, off int64) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		if n++; n%100 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
		return len(b), nil
	}), ossdl.WithPartSize(4<<20))
	if err != nil || !res.Verified {
		t.Fatal(res, err)
	}
	if most > before.HeapAlloc+16<<20 {
		t.Errorf("the heap grew by %d bytes", most-before.HeapAlloc)
	}
}
