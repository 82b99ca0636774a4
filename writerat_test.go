package ossdl

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

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/osstest"
)

// memory is a writer that notes what is written where, and how many do so at once.
type memory struct {
	mu       sync.Mutex
	b        []byte
	now, max int
	largest  int
	written  int64
	onWrite  func(off int64) error
}

func (m *memory) WriteAt(b []byte, off int64) (int, error) {
	m.mu.Lock()
	m.now++
	m.max = max(m.max, m.now)
	m.largest = max(m.largest, len(b))
	m.written += int64(len(b))
	fn := m.onWrite
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		m.now--
		m.mu.Unlock()
	}()
	if fn != nil {
		if err := fn(off); err != nil {
			return 0, err
		}
	}
	return copy(m.b[off:], b), nil
}

// readable is a memory that can be read back.
type readable struct{ memory }

func (m *readable) ReadAt(b []byte, off int64) (int, error) {
	if n := copy(b, m.b[off:]); n < len(b) {
		return n, io.EOF
	}
	return len(b), nil
}

func contentBytes(t testing.TB, c osstest.Content) []byte {
	t.Helper()
	b := make([]byte, c.Size())
	if _, err := c.ReadAt(b, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b
}

func TestDownloadTo(t *testing.T) {
	s := newServer(t)
	d := newDownloader(t, s)
	for _, size := range []int64{0, 1, 100_000, 8<<20 + 1, 40 << 20} {
		c := osstest.Random(1, size)
		s.Put("bkt", "k", c)
		m := &memory{b: make([]byte, size)}
		var reports progress
		res, err := d.DownloadTo(t.Context(), "bkt", "k", m, WithProgress(reports.add))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.b, contentBytes(t, c)) {
			t.Errorf("%d bytes: wrong", size)
		}
		if res.Path != "" || res.Size != size || res.CRC64 != c.CRC64() || !res.Verified || res.DownloadedBytes < size {
			t.Errorf("%+v", *res)
		}
		if m.written != size || m.largest > BufferSize {
			t.Errorf("%d bytes written, in pieces of up to %d", m.written, m.largest)
		}
		if last := reports.last(); last.Done != size || last.Total != size {
			t.Errorf("last report: %+v", last)
		}
	}
}

func TestDownloadToRange(t *testing.T) {
	s := newServer(t)
	const size = 5 << 40
	s.Put("bkt", "k", osstest.Random(1, size))
	d := newDownloader(t, s)
	m := &memory{b: make([]byte, 3<<20)}
	const off = 1<<42 - 1<<20
	res, err := d.DownloadTo(t.Context(), "bkt", "k", m, WithRange(off, int64(len(m.b))))
	if err != nil {
		t.Fatal(err)
	}
	want := make([]byte, len(m.b))
	if _, err := osstest.Random(1, size).ReadAt(want, off); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.b, want) || res.CRC64 != crc64.Update(0, want) || res.Verified {
		t.Errorf("wrong bytes, or wrongly verified: %+v", *res)
	}
	if _, err := d.DownloadTo(t.Context(), "bkt", "k", m, WithRange(size, 1)); !errors.Is(err, ErrRange) {
		t.Error(err)
	}
}

func TestDownloadToRefusals(t *testing.T) {
	s := newServer(t)
	s.Put("bkt", "k", osstest.Random(1, 10))
	d := newDownloader(t, s)
	sum := sha256.Sum256(nil)
	for want, call := range map[string]func() (*Result, error){
		"nil writer": func() (*Result, error) { return d.DownloadTo(t.Context(), "bkt", "k", nil) },
		"WithChecksum needs a writer that is also an io.ReaderAt": func() (*Result, error) {
			return d.DownloadTo(t.Context(), "bkt", "k", &memory{}, WithChecksum(sha256.New, sum[:]))
		},
		"WithCheckpoint does not apply to DownloadTo": func() (*Result, error) {
			return d.DownloadTo(t.Context(), "bkt", "k", &memory{}, WithCheckpoint("x"))
		},
		"WithReadAhead does not apply to DownloadTo": func() (*Result, error) {
			return d.DownloadTo(t.Context(), "bkt", "k", &memory{}, WithReadAhead(1<<20))
		},
		`key ""`: func() (*Result, error) { return d.DownloadTo(t.Context(), "bkt", "", &memory{}) },
	} {
		res, err := call()
		if err == nil || !strings.Contains(err.Error(), want) || res != nil {
			t.Errorf("got %v, %v, want %s", res, err, want)
		}
	}
	if n := s.Stats().Requests; n != 0 {
		t.Errorf("%d requests", n)
	}
	res, err := d.DownloadTo(t.Context(), "bkt", "none", &memory{})
	if !errors.Is(err, ErrNotFound) || res == nil {
		t.Error(res, err)
	}
}

func TestDownloadToWritersError(t *testing.T) {
	s := newServer(t)
	c := osstest.Random(1, 32<<20)
	s.Put("bkt", "k", c)
	d := newDownloader(t, s, WithConcurrency(4))
	full := errors.New("the writer is full")
	m := &memory{b: make([]byte, c.Size()), onWrite: func(off int64) error {
		if off > 20<<20 {
			return full
		}
		return nil
	}}
	res, err := d.DownloadTo(t.Context(), "bkt", "k", m)
	if !errors.Is(err, full) || res == nil {
		t.Fatal(res, err)
	}
	if errors.As(err, new(*PartError)) {
		t.Errorf("the writer's own error is said to be of a part: %v", err)
	}
	m.onWrite = func(int64) error { t.Error("written to after the return"); return nil }

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
	s := newServer(t)
	s.Put("bkt", "k", osstest.Random(1, 32<<20))
	d := newDownloader(t, s, WithConcurrency(2))
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
	if _, err := d.DownloadTo(t.Context(), "bkt", "k", &memory{b: make([]byte, 32<<20)}); err != nil {
		t.Error(err)
	}
}

func TestDownloadToChecksum(t *testing.T) {
	s := newServer(t)
	c := osstest.Random(1, 10<<20)
	s.Put("bkt", "k", c, osstest.NoCRC())
	d := newDownloader(t, s)
	m := &readable{memory{b: make([]byte, c.Size())}}
	sum := sha256.Sum256(contentBytes(t, c))
	res, err := d.DownloadTo(t.Context(), "bkt", "k", m, WithChecksum(sha256.New, sum[:]))
	if err != nil || !res.Verified {
		t.Errorf("%+v, %v", res, err)
	}
	sum[0]++
	if _, err := d.DownloadTo(t.Context(), "bkt", "k", m, WithChecksum(sha256.New, sum[:])); !errors.Is(err, ErrChecksum) {
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
	s := newServer(t)
	c := osstest.Random(1, 4<<20)
	s.Put("bkt", "k", c)
	d := newDownloader(t, s, WithPartSize(1<<20))
	m := &memory{b: make([]byte, c.Size())}
	s.Nth(2, osstest.Inject().FlipByte(1000))
	res, err := d.DownloadTo(t.Context(), "bkt", "k", m)
	if err != nil || !res.Verified || !bytes.Equal(m.b, contentBytes(t, c)) {
		t.Errorf("%+v, %v", res, err)
	}
	if m.written != 2*c.Size() {
		t.Errorf("%d bytes written, want all of them twice", m.written)
	}
	m.written = 0
	s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().FlipByte(1000) })
	if res, err := d.DownloadTo(t.Context(), "bkt", "k", m); !errors.Is(err, ErrChecksum) || res.CRC64 != 0 || res.Verified {
		t.Errorf("%+v, %v", res, err)
	}
	if m.written != 2*c.Size() {
		t.Errorf("%d bytes written, want all of them twice", m.written)
	}
}

func TestDownloadToContinuesAfterResets(t *testing.T) {
	s := newServer(t, osstest.ResetEvery(100<<10, 1<<20, 1))
	c := osstest.Random(1, 16<<20)
	s.Put("bkt", "k", c)
	m := &memory{b: make([]byte, c.Size())}
	res, err := newDownloader(t, s).DownloadTo(t.Context(), "bkt", "k", m)
	if err != nil || !bytes.Equal(m.b, contentBytes(t, c)) {
		t.Fatal(err)
	}
	if m.written != c.Size() || res.Retries == 0 {
		t.Errorf("%d bytes written, %d retries", m.written, res.Retries)
	}
}

func TestDownloadToCancelled(t *testing.T) {
	s := newServer(t)
	s.Put("bkt", "k", osstest.Zeros(1<<40))
	d := newDownloader(t, s)
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

// TestDownloadToMemoryIsFlat downloads far more than could be kept: 64 GiB with OSSDL_LONG=1, else 256 MiB.
func TestDownloadToMemoryIsFlat(t *testing.T) {
	size := int64(256 << 20)
	if os.Getenv("OSSDL_LONG") == "1" {
		size = 64 << 30
	}
	s := newServer(t, osstest.WithoutLog())
	s.Put("bkt", "k", osstest.Zeros(size))
	d := newDownloader(t, s, WithConcurrency(4))
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
	}), WithPartSize(4<<20))
	if err != nil || !res.Verified {
		t.Fatal(res, err)
	}
	if most > before.HeapAlloc+16<<20 {
		t.Errorf("the heap grew by %d bytes", most-before.HeapAlloc)
	}
}
