package ossdl_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/leaks"
	"github.com/ossdl/ossdl/internal/osstest"
)

// open makes a Reader that is closed with the test at the latest.
func open(t testing.TB, d *ossdl.Downloader, opts ...ossdl.Option) *ossdl.Reader {
	t.Helper()
	r, err := d.Open(t.Context(), "bkt", "k", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestReader(t *testing.T) {
	s := harness.NewServer(t)
	d := harness.NewDownloader(t, s)
	for _, size := range []int64{0, 1, 10_000, harness.BufferSize, 3<<20 + 1} {
		c := osstest.Random(1, size)
		content := harness.Bytes(t, c)
		s.Put("bkt", "k", c)
		for name, opts := range map[string][]ossdl.Option{
			"":                nil,
			"little memory":   {ossdl.WithReadAhead(ossdl.MinReadAhead)},
			"odd parts":       {ossdl.WithReadAhead(2 << 20), ossdl.WithPartSize(100_001)},
			"one connection":  {ossdl.WithConcurrency(1)},
			"large parts":     {ossdl.WithPartSize(ossdl.MaxPartSize), ossdl.WithReadAhead(2 << 20)},
			"many, and small": {ossdl.WithConcurrency(ossdl.MaxConcurrency), ossdl.WithReadAhead(1 << 20)},
		} {
			t.Run(fmt.Sprint(size, name), func(t *testing.T) {
				s.ResetLog()
				var reports harness.ProgressRecorder
				r := open(t, d, append(opts, ossdl.WithProgress(reports.Add))...)
				if r.Size() != size || r.Result() != nil {
					t.Errorf("size %d, result %v", r.Size(), r.Result())
				}
				got, err := io.ReadAll(r)
				if err != nil || !bytes.Equal(got, content) {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
				res := r.Result()
				if res == nil || res.Size != size || res.CRC64 != c.CRC64() || !res.Verified || res.Path != "" || res.DownloadedBytes < size {
					t.Errorf("%+v", res)
				}
				if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
					t.Errorf("after the end: %d, %v", n, err)
				}
				if last := reports.Last(); last.Done != size || last.Total != size {
					t.Errorf("last report: %+v", last)
				}
				if err := r.Close(); err != nil {
					t.Error(err)
				}
				if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrClosed) {
					t.Errorf("after Close: %d, %v", n, err)
				}
				if r.Result() != res {
					t.Error("Close changed the result")
				}
			})
		}
		if size < harness.BufferSize {
			if err := iotest.TestReader(open(t, d), content); err != nil {
				t.Error(err)
			}
		}
		var b bytes.Buffer
		r := open(t, d, ossdl.WithReadAhead(ossdl.MinReadAhead))
		if n, err := r.WriteTo(&b); n != size || err != nil || !bytes.Equal(b.Bytes(), content) || !r.Result().Verified {
			t.Errorf("%d bytes written, %v", n, err)
		}
		if n, err := r.WriteTo(&b); n != 0 || err != nil {
			t.Errorf("after the end: %d, %v", n, err)
		}
	}
}

func TestReaderOfARange(t *testing.T) {
	s := harness.NewServer(t)
	const size = 48_800_000_000_000
	c := osstest.Random(1, size)
	s.Put("bkt", "k", c)
	d := harness.NewDownloader(t, s)
	for _, off := range []int64{0, 1<<32 - 1000, size - 3<<20} {
		want := make([]byte, 3<<20)
		if _, err := c.ReadAt(want, off); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		r := open(t, d, ossdl.WithRange(off, int64(len(want))), ossdl.WithReadAhead(ossdl.MinReadAhead))
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		if res := r.Result(); res.Verified || res.CRC64 != crc64.Update(0, want) {
			t.Errorf("%+v", *res)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 1000))
	s.Put("bkt", "cold", osstest.Random(1, 1000), osstest.Archived(""))
	d := harness.NewDownloader(t, s)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		key  string
		opts []ossdl.Option
		want error
	}{
		"missing":   {t.Context(), "none", nil, ossdl.ErrNotFound},
		"archived":  {t.Context(), "cold", nil, ossdl.ErrArchived},
		"range":     {t.Context(), "k", []ossdl.Option{ossdl.WithRange(1000, 1)}, ossdl.ErrRange},
		"changed":   {t.Context(), "k", []ossdl.Option{ossdl.WithIfMatch("x")}, ossdl.ErrObjectChanged},
		"version":   {t.Context(), "k", []ossdl.Option{ossdl.WithVersionID("none")}, ossdl.ErrNotFound},
		"cancelled": {cancelled, "k", nil, context.Canceled},
	} {
		s.ResetLog()
		var reports harness.ProgressRecorder
		r, err := d.Open(c.ctx, "bkt", c.key, append(c.opts, ossdl.WithProgress(reports.Add))...)
		if r != nil || !errors.Is(err, c.want) || !strings.Contains(err.Error(), "oss://bkt/"+c.key) {
			t.Errorf("%s: %v", name, err)
		}
		if len(reports.All) != 1 {
			t.Errorf("%s: %d reports", name, len(reports.All))
		}
		// Where there is no Reader to ask for its Result, the last report says what was done.
		if got, want := reports.Last().Requests, s.Stats().Requests; got != want && name != "cancelled" || want == 0 && name != "cancelled" {
			t.Errorf("%s: %d requests reported, %d made", name, got, want)
		}
	}
	leaks.NoGoroutines(t)
	s.ResetLog()
	for want, open := range map[string]func() (*ossdl.Reader, error){
		"WithCheckpoint does not apply": func() (*ossdl.Reader, error) { return d.Open(t.Context(), "bkt", "k", ossdl.WithCheckpoint("x")) },
		"WithURLRefresh does not apply": func() (*ossdl.Reader, error) { return d.Open(t.Context(), "bkt", "k", ossdl.WithURLRefresh(nil)) },
		"below 1048576 bytes":           func() (*ossdl.Reader, error) { return d.Open(t.Context(), "bkt", "k", ossdl.WithReadAhead(1)) },
		`bucket name "B"`:               func() (*ossdl.Reader, error) { return d.Open(t.Context(), "B", "k") },
		"New was given no client":       func() (*ossdl.Reader, error) { return harness.NewURLDownloader(t).Open(t.Context(), "bkt", "k") },
	} {
		if r, err := open(); r != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if n := s.Stats().Requests; n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestReaderVerdict(t *testing.T) {
	s := harness.NewServer(t)
	c := osstest.Random(1, 2<<20)
	content := harness.Bytes(t, c)
	sum := sha256.Sum256(content)
	wrong := sha256.Sum256(nil)
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(256<<10), ossdl.WithReadAhead(2<<20))
	for name, k := range map[string]struct {
		put      []osstest.ObjectOption
		fault    *osstest.Fault
		opts     []ossdl.Option
		want     error
		verified bool
	}{
		"right":                 {nil, nil, nil, nil, true},
		"right digest":          {nil, nil, []ossdl.Option{ossdl.WithChecksum(sha256.New, sum[:])}, nil, true},
		"no CRC-64":             {[]osstest.ObjectOption{osstest.NoCRC()}, nil, nil, nil, false},
		"no CRC-64, but digest": {[]osstest.ObjectOption{osstest.NoCRC()}, nil, []ossdl.Option{ossdl.WithChecksum(sha256.New, sum[:])}, nil, true},
		"wrong digest":          {nil, nil, []ossdl.Option{ossdl.WithChecksum(sha256.New, wrong[:])}, ossdl.ErrChecksum, false},
		"wrong byte":            {nil, osstest.Inject().FlipByte(99), nil, ossdl.ErrChecksum, false},
		"wrong byte, digest":    {[]osstest.ObjectOption{osstest.NoCRC()}, osstest.Inject().FlipByte(99), []ossdl.Option{ossdl.WithChecksum(sha256.New, sum[:])}, ossdl.ErrChecksum, false},
	} {
		t.Run(name, func(t *testing.T) {
			s.Put("bkt", "k", c, k.put...)
			for how, read := range map[string]func(r *ossdl.Reader) ([]byte, error){
				"Read": func(r *ossdl.Reader) ([]byte, error) { return io.ReadAll(r) },
				"WriteTo": func(r *ossdl.Reader) ([]byte, error) {
					var b bytes.Buffer
					_, err := r.WriteTo(&b)
					return b.Bytes(), err
				},
				"Close": func(r *ossdl.Reader) ([]byte, error) {
					b := make([]byte, r.Size())
					if _, err := io.ReadFull(r, b); err != nil {
						t.Error(err)
					}
					return b, r.Close()
				},
			} {
				s.ResetLog()
				if k.fault != nil {
					s.Nth(3, k.fault)
				}
				r := open(t, d, k.opts...)
				got, err := read(r)
				if int64(len(got)) != c.Size() || bytes.Equal(got, content) != (k.fault == nil) {
					t.Errorf("%s: %d bytes", how, len(got))
				}
				if !errors.Is(err, k.want) || (err == nil) != (k.want == nil) {
					t.Errorf("%s: %v, want %v", how, err, k.want)
				}
				if res := r.Result(); res == nil || res.Verified != k.verified || (res.CRC64 != 0) != (k.want == nil) {
					t.Errorf("%s: %+v", how, res)
				}
				if err := r.Close(); err != nil {
					t.Errorf("%s: a verdict that was given is given again: %v", how, err)
				}
			}
		})
	}
}

// needDeliveredResets skips the test on Windows. There the server cannot wait until the client has what comes before a
// reset, and a reset discards it: many in a row may bring nothing, after which a download rightly gives up.
func needDeliveredResets(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("resets discard the bytes before them on Windows")
	}
}

func TestReaderNoticesNoResets(t *testing.T) {
	needDeliveredResets(t)
	s := harness.NewServer(t, osstest.ResetEvery(50<<10, 500<<10, 1))
	c := osstest.Random(1, 16<<20)
	s.Put("bkt", "k", c)
	s.Nth(3, osstest.Inject().StallAfter(1000).Maybe()) // the request may be for less, or time out before
	s.Nth(5, osstest.Error(503, "ServiceUnavailable"))
	s.Nth(7, osstest.Inject().HoldHeaders(nil))
	r := open(t, harness.NewDownloader(t, s), ossdl.WithReadAhead(4<<20), ossdl.WithStallTimeout(300*time.Millisecond))
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, harness.Bytes(t, c)) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if r.Result().Retries == 0 {
		t.Error("nothing was broken")
	}
}

func TestReaderFails(t *testing.T) {
	s := harness.NewServer(t)
	c := osstest.Random(1, 8<<20)
	content := harness.Bytes(t, c)
	s.Put("bkt", "k", c)
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(64<<10), ossdl.WithConcurrency(1), ossdl.WithReadAhead(1<<20))
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Start >= 1<<20 {
			return osstest.Error(403, "AccessDenied")
		}
		return nil
	})
	r := open(t, d)
	got, err := io.ReadAll(r)
	var part *ossdl.PartError
	if !bytes.Equal(got, content[:1<<20]) || !errors.As(err, &part) || part.Offset != 1<<20 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, again := r.Read(make([]byte, 1)); again != err {
		t.Errorf("then %v", again)
	}
	if res := r.Result(); res == nil || res.Size != c.Size() || res.Verified {
		t.Errorf("%+v", res)
	}

	// An object that is replaced meanwhile, and one whose versions are kept.
	for _, versions := range []osstest.VersioningStatus{"", osstest.Enabled} {
		s.ClearFaults()
		s.CreateBucket("bkt", osstest.Versioning(versions))
		s.Put("bkt", "k", c)
		s.Once(func(r *osstest.Request) bool { return r.Start >= 4<<20 }, osstest.Inject().Before(func() { s.Put("bkt", "k", osstest.Random(2, 8<<20)) }))
		got, err := io.ReadAll(open(t, d))
		if !bytes.Equal(got, content[:len(got)]) {
			t.Error("bytes of another version")
		}
		if versions == "" && !errors.Is(err, ossdl.ErrObjectChanged) || versions != "" && (err != nil || len(got) != len(content)) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
}

// TestReaderStaysWithinItsMemory checks that whatever the number of connections, nothing is asked for beyond what was read
// and the memory there is, and while that is full no request is in flight.
func TestReaderStaysWithinItsMemory(t *testing.T) {
	for _, conns := range []int{1, 4, 64} {
		const ahead = 4 << 20
		s := harness.NewServer(t)
		s.Put("bkt", "k", osstest.Zeros(1<<40))
		r := open(t, harness.NewDownloader(t, s), ossdl.WithReadAhead(ahead), ossdl.WithConcurrency(conns))
		b := make([]byte, 3<<20)
		for read := int64(0); read < 30<<20; read += int64(len(b)) {
			if _, err := io.ReadFull(r, b); err != nil {
				t.Fatal(err)
			}
			var end int64
			for _, q := range s.Requests() {
				end = max(end, q.End)
			}
			if end > read+int64(len(b))+ahead {
				t.Errorf("%d connections: %d bytes asked for when %d were read", conns, end, read+int64(len(b)))
			}
		}
		// Full, with nothing in flight: all that was asked for was sent, and was not read.
		harness.WaitFor(t, s, func() bool { return s.InFlight() == 0 && s.Stats().Sent >= 30<<20+ahead/4 })
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestUnreadReadersStopNobody checks that ten Readers that are not read leave the Downloader's few slots to others.
func TestUnreadReadersStopNobody(t *testing.T) {
	for _, quirk := range []osstest.Quirk{0, osstest.NoRanges} {
		for _, conns := range []int{1, 2} {
			s := harness.NewServer(t)
			s.Put("bkt", "k", osstest.Random(1, 3<<20))
			d := harness.NewDownloader(t, s, ossdl.WithConcurrency(conns))
			s.SetQuirks(quirk)
			var readers []*ossdl.Reader
			for range 10 {
				readers = append(readers, open(t, d, ossdl.WithReadAhead(ossdl.MinReadAhead)))
			}
			s.SetQuirks(0)
			c := osstest.Random(2, 2<<20)
			s.Put("bkt", "other", c)
			path := filepath.Join(t.TempDir(), "file")
			if _, err := d.Download(t.Context(), "bkt", "other", path); err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, path, c)
			s.SetQuirks(quirk)
			for _, r := range readers[:2] {
				got, err := io.ReadAll(r)
				if err != nil || int64(len(got)) != r.Size() {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			}
		}
	}
}

// TestReaderClosedAnywhere closes Readers at random moments; nothing of them is left, and no slot is lost.
func TestReaderClosedAnywhere(t *testing.T) {
	s := harness.NewServer(t, osstest.ResetEvery(10<<10, 3<<20, 1))
	s.Put("bkt", "k", osstest.Random(1, 6<<20))
	d := harness.NewDownloader(t, s, ossdl.WithConcurrency(3), ossdl.WithReadAhead(2<<20))
	rng := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		ctx, cancel := context.WithCancel(t.Context())
		var reports harness.ProgressRecorder
		r, err := d.Open(ctx, "bkt", "k", ossdl.WithPartSize(int64(1+rng.IntN(500_000))+50_000), ossdl.WithProgress(reports.Add))
		if err != nil {
			t.Fatal(err)
		}
		n := rng.Int64N(7 << 20)
		done := make(chan struct{})
		switch rng.IntN(3) {
		case 0: // read and close
			close(done)
			if _, err := io.CopyN(io.Discard, harness.OnlyReader{Reader: r}, n); err != nil && err != io.EOF {
				t.Error(err)
			}
		case 1: // close while another reads
			go func() {
				defer close(done)
				if _, err := io.Copy(io.Discard, r); err != nil && !errors.Is(err, os.ErrClosed) {
					t.Error(err)
				}
			}()
			harness.WaitFor(t, s, func() bool { return s.Stats().Sent >= n/4 })
		case 2: // cancel while another reads
			go func() {
				defer close(done)
				if _, err := io.Copy(io.Discard, harness.OnlyReader{Reader: r}); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, os.ErrClosed) {
					t.Error(err)
				}
			}()
			harness.WaitFor(t, s, func() bool { return s.Stats().Sent >= n/4 })
			cancel()
		}
		for range 2 {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		<-done
		if r.Result() == nil {
			t.Error("no result")
		}
		cancel()
		s.ResetLog()
	}
	leaks.NoGoroutines(t)
	got, err := io.ReadAll(open(t, d))
	if err != nil || len(got) != 6<<20 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	// No slot is lost: all of them can be in use at once.
	s.ClearFaults()
	release := make(chan struct{})
	s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().Gate(10, release).Maybe() }) // a request that another takes over may end before
	last := make(chan error, 1)
	go func() {
		_, err := d.Download(t.Context(), "bkt", "k", filepath.Join(t.TempDir(), "file"), ossdl.WithPartSize(1<<20))
		last <- err
	}()
	harness.WaitFor(t, s, func() bool { return s.InFlight() == 3 })
	close(release)
	if err := <-last; err != nil {
		t.Error(err)
	}
}

func TestReaderCancelled(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 8<<20))
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(64<<10), ossdl.WithConcurrency(1), ossdl.WithReadAhead(ossdl.MinReadAhead))
	cause := errors.New("enough")
	// While the network has nothing more, while there is something to read, and when all was fetched long ago.
	for _, name := range []string{"stalled", "in the middle"} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			s.ResetLog()
			if name == "stalled" {
				s.Nth(2, osstest.Inject().StallAfter(0))
			}
			r, err := d.Open(ctx, "bkt", "k")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			switch name {
			case "stalled":
				if _, err := io.ReadFull(r, make([]byte, 128<<10)); err != nil {
					t.Fatal(err)
				}
				harness.WaitFor(t, s, func() bool { return s.InFlight() == 1 && s.Stats().Requests == 3 })
				time.AfterFunc(10*time.Millisecond, func() { cancel(cause) })
			case "in the middle":
				harness.WaitFor(t, s, func() bool { return s.InFlight() == 0 && s.Stats().Requests > 5 })
				cancel(cause)
			}
			endsWith(t, r, cause)
		})
	}
	t.Run("all fetched", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := harness.NewBubbleClient(t, 8<<20, 64<<10, nil, ossdl.WithReadAhead(64<<20))
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			r, err := b.Downloader.Open(ctx, "bkt", "k")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			time.Sleep(time.Hour)
			synctest.Wait()
			if n := b.Service.Sent.Load(); n < 8<<20 || b.Service.Open.Load() != 0 {
				t.Errorf("%d bytes came within an hour", n)
			}
			cancel(cause)
			endsWith(t, r, cause)
		})
	})
}

// endsWith reads until the context of a Reader ends it, which may take a moment.
func endsWith(t *testing.T, r *ossdl.Reader, cause error) {
	t.Helper()
	var err error
	for err == nil {
		_, err = r.Read(make([]byte, 1))
	}
	if !errors.Is(err, cause) || !errors.Is(err, context.Canceled) || r.Result() == nil {
		t.Errorf("%v, %v", err, r.Result())
	}
}

// TestReaderClosedWhileAWriterBlocks checks that Close does not wait for a pipe that is not read.
func TestReaderClosedWhileAWriterBlocks(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 8<<20))
	r := open(t, harness.NewDownloader(t, s))
	pr, pw := io.Pipe()
	done := make(chan error)
	go func() {
		_, err := io.Copy(pw, r)
		done <- err
	}()
	if _, err := io.ReadFull(pr, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-done:
		t.Errorf("the copy ended by itself: %v", err)
	default:
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(pr, harness.BufferSize-1000)); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	// A writer that fails ends the copy, with its own error.
	r = open(t, harness.NewDownloader(t, s))
	pr, pw = io.Pipe()
	broken := errors.New("broken pipe")
	pr.CloseWithError(broken)
	if _, err := io.Copy(pw, r); err != broken {
		t.Error(err)
	}
}

// brokenHash calls a function in place of Write or Sum, which panics.
type brokenHash struct {
	hash.Hash
	write, sum func()
}

func (h brokenHash) Write(b []byte) (int, error) {
	if h.write != nil {
		h.write()
	}
	return h.Hash.Write(b)
}

func (h brokenHash) Sum(b []byte) []byte {
	if h.sum != nil {
		h.sum()
	}
	return h.Hash.Sum(b)
}

// TestReaderAfterAPanic checks that a panic of the caller's hash is raised once. If the caller recovers it, whatever is called
// next returns an error, and the bytes do not count as verified.
func TestReaderAfterAPanic(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 3<<20+1)
	s.Put("bkt", "k", content)
	digest := sha256.Sum256(harness.Bytes(t, content))
	d := harness.NewDownloader(t, s)
	errPlanned := errors.New("planned panic")
	planned := func(fn func()) bool {
		v := func() (v any) {
			defer func() { v = recover() }()
			fn()
			return nil
		}()
		err, _ := v.(error)
		if v != nil && !errors.Is(err, errPlanned) {
			t.Errorf("raised %v", v)
		}
		return v != nil
	}
	ways := map[string]func(*ossdl.Reader){
		"Read":    func(r *ossdl.Reader) { _, _ = io.Copy(io.Discard, struct{ io.Reader }{r}) },
		"WriteTo": func(r *ossdl.Reader) { _, _ = r.WriteTo(io.Discard) },
		"Close": func(r *ossdl.Reader) {
			_, _ = io.CopyN(io.Discard, struct{ io.Reader }{r}, content.Size())
			_ = r.Close()
		},
	}
	for way, read := range ways {
		for _, method := range []string{"Write", "Sum"} {
			for _, always := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s of the hash in %s, always %t", method, way, always), func(t *testing.T) {
					calls, made := 0, 0
					fail := func() {
						if calls++; calls == 2 || method == "Sum" && calls == 1 || always && calls > 2 {
							panic(errPlanned)
						}
					}
					r, err := d.Open(t.Context(), "bkt", "k", ossdl.WithChecksum(func() hash.Hash {
						switch made++; {
						case made == 1: // the one that the option looks at
							return sha256.New()
						case method == "Sum":
							return brokenHash{sha256.New(), nil, fail}
						}
						return brokenHash{sha256.New(), fail, nil}
					}, digest[:]))
					if err != nil {
						t.Fatal(err)
					}
					if !planned(func() { read(r) }) {
						t.Error("nothing was raised")
					}
					if planned(func() {
						for range 2 {
							if n, err := r.Read(make([]byte, 100)); n > 0 || err == nil || err == io.EOF {
								t.Errorf("Read: %d bytes, %v", n, err)
							}
							if n, err := r.WriteTo(io.Discard); n > 0 || err == nil {
								t.Errorf("WriteTo: %d bytes, %v", n, err)
							}
						}
					}) {
						t.Error("raised by a later Read")
					}
					for range 2 {
						if planned(func() { _ = r.Close() }) {
							t.Error("raised by a later Close")
						}
					}
					if res := r.Result(); res != nil && res.Verified {
						t.Errorf("%+v", *res)
					}
				})
			}
		}
	}
}
