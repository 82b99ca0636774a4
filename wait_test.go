package ossdl_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// told calls fn when a message is logged for the first time.
type told struct {
	slog.Handler
	message string
	once    *sync.Once
	fn      func()
}

func (h told) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h told) Enabled(context.Context, slog.Level) bool { return true }

func (h told) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.message {
		h.once.Do(h.fn)
	}
	return nil
}

// TestWait checks what becomes of a call that waits for another one, which begins before it and ends or fails while it waits.
func TestWait(t *testing.T) {
	const part = 64 << 10
	c := osstest.Random(1, 16*part)
	sum := sha256.Sum256(harness.Bytes(t, c))
	other := sha256.Sum256([]byte("something else"))
	for name, test := range map[string]struct {
		opts  []ossdl.Option
		fails bool // the other call
		check func(t *testing.T, s *osstest.Server, res *ossdl.Result, err error)
	}{
		"it brings the object": {nil, false, func(t *testing.T, _ *osstest.Server, res *ossdl.Result, err error) {
			if err != nil || !res.Skipped || !res.Verified || res.Requests != 1 || res.DownloadedBytes != 0 {
				t.Errorf("%+v, %v; want what the other call has brought, for a HEAD", res, err)
			}
		}},
		"it brings the digest": {[]ossdl.Option{ossdl.WithChecksum(sha256.New, sum[:])}, false, func(t *testing.T, _ *osstest.Server, res *ossdl.Result, err error) {
			if err != nil || !res.Skipped || !res.Verified || res.Requests != 0 {
				t.Errorf("%+v, %v; want what the other call has brought, without a request", res, err)
			}
		}},
		"it brings another digest": {[]ossdl.Option{ossdl.WithChecksum(sha256.New, other[:])}, false, func(t *testing.T, _ *osstest.Server, res *ossdl.Result, err error) {
			if !errors.Is(err, ossdl.ErrChecksum) || res != nil {
				t.Errorf("%+v, %v; want ErrChecksum", res, err)
			}
		}},
		"it fails": {nil, true, func(t *testing.T, _ *osstest.Server, res *ossdl.Result, err error) {
			if err != nil || res.Skipped || res.ResumedBytes < part || res.ResumedBytes == c.Size() {
				t.Errorf("%+v, %v; want the rest of what the other call has left", res, err)
			}
		}},
		"it fails, with a digest": {[]ossdl.Option{ossdl.WithChecksum(sha256.New, sum[:])}, true, func(t *testing.T, _ *osstest.Server, res *ossdl.Result, err error) {
			if err != nil || res.Skipped || !res.Verified {
				t.Errorf("%+v, %v", res, err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewServer(t)
			s.Put("bkt", "k", c)
			path := filepath.Join(t.TempDir(), "f")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			held, goOn := make(chan struct{}), make(chan struct{})
			s.Nth(8, osstest.Inject().Before(func() { close(held) }).Gate(0, goOn))
			first := make(chan error, 1)
			go func() {
				_, err := harness.NewDownloader(t, s, ossdl.WithPartSize(part), ossdl.WithConcurrency(1)).Download(ctx, "bkt", "k", path)
				first <- err
			}()
			<-held
			waits := told{message: "waiting for another call", once: new(sync.Once), fn: func() {
				if test.fails {
					cancel()
				}
				close(goOn)
			}}
			d := harness.NewDownloader(t, s, ossdl.WithWait(time.Minute), ossdl.WithLogger(slog.New(waits)))
			res, err := d.Download(t.Context(), "bkt", "k", path, test.opts...)
			if ferr := <-first; (ferr != nil) != test.fails {
				t.Fatal(ferr)
			}
			test.check(t, s, res, err)
			harness.CheckFile(t, path, c)
			harness.NoLeftovers(t, path)
		})
	}
}

// TestWaitForAnotherUser checks that a file that another user puts into a sticky folder meanwhile is not taken for what the other
// call was to bring.
func TestWaitForAnotherUser(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no owners")
	}
	s := harness.NewServer(t)
	c := osstest.Random(1, 3000)
	s.Put("bkt", "k", c)
	disk := memfs.New(memfs.Config{})
	if err := disk.Chmod("/", 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	held, goOn := make(chan struct{}), make(chan struct{})
	s.Nth(0, osstest.Inject().Before(func() { close(held) }).Gate(0, goOn))
	d := harness.NewDownloader(t, s, harness.WithFS(disk))
	first := make(chan error, 1)
	go func() {
		_, err := d.Download(ctx, "bkt", "k", "/f")
		first <- err
	}()
	<-held
	waits := told{message: "waiting for another call", once: new(sync.Once), fn: func() {
		if err := errors.Join(fsys.WriteFile(disk, "/f", harness.Bytes(t, c), 0o666), disk.Chown("/f", 4242)); err != nil {
			t.Error(err)
		}
		cancel()
	}}
	res, err := d.Download(t.Context(), "bkt", "k", "/f", ossdl.WithWait(time.Minute), ossdl.WithLogger(slog.New(waits)))
	ferr := <-first
	close(goOn) // not before: the whole body could come before the end of ctx is noticed
	if !errors.Is(ferr, context.Canceled) {
		t.Fatal(ferr)
	}
	if err != nil || res.Skipped {
		t.Errorf("%+v, %v", res, err)
	}
	fi, err := disk.Lstat("/f")
	if err != nil {
		t.Fatal(err)
	}
	if owner, _ := fsys.Owner(fi); owner != 0 {
		t.Errorf("the file belongs to user %d", owner)
	}
}

// TestWaitEnds checks that a call waits no longer than it may.
func TestWaitEnds(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 1000))
	path := filepath.Join(t.TempDir(), "f")
	held, goOn := make(chan struct{}), make(chan struct{})
	s.Nth(0, osstest.Inject().Before(func() { close(held) }).Gate(0, goOn))
	d := harness.NewDownloader(t, s)
	first := make(chan error, 1)
	go func() {
		_, err := d.Download(t.Context(), "bkt", "k", path)
		first <- err
	}()
	<-held
	if _, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithWait(time.Millisecond)); !errors.Is(err, ossdl.ErrInUse) {
		t.Errorf("after its time: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	waits := told{message: "waiting for another call", once: new(sync.Once), fn: cancel}
	if _, err := d.Download(ctx, "bkt", "k", path, ossdl.WithWait(time.Hour), ossdl.WithLogger(slog.New(waits))); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: %v", err)
	}
	if _, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithWait(0)); err == nil {
		t.Error("no time to wait is an error")
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Error(err)
	}
}
