package harness

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/osstest"
)

// Interrupt starts a download of "bkt/k" and cancels it as its n-th request, counted from 0, arrives.
func Interrupt(t testing.TB, s *osstest.Server, d *ossdl.Downloader, path string, n int, opts ...ossdl.Option) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Nth(n, osstest.Inject().Before(cancel).HoldHeaders(nil))
	if _, err := d.Download(ctx, "bkt", "k", path, opts...); !errors.Is(err, context.Canceled) {
		t.Fatalf("not interrupted: %v", err)
	}
	s.ClearFaults()
	s.ResetLog()
}

// PartSize is that of the downloads which Interrupted has begun.
const PartSize = 64 << 10

// Interrupted is a download of 16 parts that was cut off after 5 of them, by one worker and so in order.
func Interrupted(t testing.TB, opts ...ossdl.Option) (s *osstest.Server, d *ossdl.Downloader, path string, content osstest.Content) {
	t.Helper()
	s = NewServer(t)
	content = osstest.Random(1, 16*PartSize)
	s.Put("bkt", "k", content)
	d = NewDownloader(t, s, ossdl.WithPartSize(PartSize), ossdl.WithConcurrency(1))
	path = filepath.Join(t.TempDir(), "file")
	Interrupt(t, s, d, path, 5, opts...)
	return s, d, path, content
}

// InterruptURL lets a download by URL run until its n-th request, from 0, and cancels it there.
func InterruptURL(t testing.TB, s *osstest.Server, d *ossdl.Downloader, raw, path string, n int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Nth(n, osstest.Inject().Before(cancel).HoldHeaders(nil))
	if _, err := d.DownloadURL(ctx, raw, path); !errors.Is(err, context.Canceled) {
		t.Fatalf("not interrupted: %v", err)
	}
	s.ClearFaults()
	s.ResetLog()
}
