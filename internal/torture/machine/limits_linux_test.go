package machine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// smallDisk is a folder with a file system of its own, of 8 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("no tmpfs may be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// growDisk gives a small disk room.
func growDisk(t *testing.T, dir string) {
	t.Helper()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
}

// TestRealDiskFills is TestDiskFills on a disk.
func TestRealDiskFills(t *testing.T) {
	s := harness.NewServer(t)
	const size = 12<<20 + 1
	content := osstest.Random(1, size)
	s.Put("bkt", "k", content)
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(1<<20), ossdl.WithConcurrency(4))
	for name, opts := range map[string][]ossdl.Option{"reserved": nil, "sparse": {ossdl.WithoutPreallocation()}} {
		t.Run(name, func(t *testing.T) {
			dir := smallDisk(t)
			path := filepath.Join(dir, "file")
			harness.WriteFile(t, path, "old")
			_, err := d.Download(t.Context(), "bkt", "k", path, opts...)
			missing := missingIn(t, err)
			if got, err := os.ReadFile(path); string(got) != "old" {
				t.Errorf("the old file is %q, %v", got, err)
			}
			if early := missing == size; early != (opts == nil) || early && harness.Exists(path+harness.PartSuffix) {
				t.Errorf("%d bytes are missing: %v", missing, err)
			}
			growDisk(t, dir)
			res, err := d.Download(t.Context(), "bkt", "k", path, opts...)
			if err != nil {
				t.Fatal(err)
			}
			if res.DownloadedBytes != missing || res.ResumedBytes != size-missing {
				t.Errorf("%d bytes were missing; resumed %d, downloaded %d", missing, res.ResumedBytes, res.DownloadedBytes)
			}
			harness.CheckFile(t, path, content)
		})
	}
}

// TestRealDiskFilledByOthers fills the disk under a download that has its space reserved, and interrupts it.
func TestRealDiskFilledByOthers(t *testing.T) {
	s := harness.NewServer(t)
	const size = 6 << 20
	content := osstest.Random(1, size)
	s.Put("bkt", "k", content)
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(256<<10), ossdl.WithConcurrency(1))
	dir := smallDisk(t)
	path, filler := filepath.Join(dir, "file"), filepath.Join(dir, "filler")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Nth(13, osstest.Inject().Before(func() {
		if err := os.WriteFile(filler, make([]byte, 8<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("the disk is not full: %v", err)
		}
		cancel()
	}).HoldHeaders(nil))
	first, err := d.Download(ctx, "bkt", "k", path)
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	res, err := d.Download(t.Context(), "bkt", "k", path)
	if err != nil {
		t.Fatal(err)
	}
	if first.DownloadedBytes < size/2 || res.DownloadedBytes != size-first.DownloadedBytes {
		t.Errorf("downloaded %d bytes, and then %d of %d", first.DownloadedBytes, res.DownloadedBytes, size)
	}
	harness.CheckFile(t, path, content)
}
