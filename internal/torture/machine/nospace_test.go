package machine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestNoSpaceTellsFigures checks that the error says how many bytes are missing and how many are free, as the disk has
// them, for a fresh download and for one that has a part already.
func TestNoSpaceTellsFigures(t *testing.T) {
	const size = 4 << 20
	for _, kept := range []bool{false, true} {
		for name, config := range map[string]memfs.Config{"reserved": {}, "no reservation": {NoReserve: true}} {
			synctest.Test(t, func(t *testing.T) {
				disk := memfs.New(config)
				b := harness.NewBubbleClient(t, size, 64<<10, nil, ossdl.WithPartSize(1<<20), ossdl.WithConcurrency(2))
				if err := disk.Mkdir("/dir", 0o755); err != nil {
					t.Fatal(err)
				}
				missing := int64(size)
				if kept {
					// Without preallocation the partial file has what came, and no more.
					ctx, cancel := context.WithTimeout(t.Context(), 3*harness.ServicePause)
					defer cancel()
					res, err := b.Download(t, ctx, "Download", harness.BubblePath, harness.WithFS(disk), ossdl.WithoutPreallocation())
					if !errors.Is(err, context.DeadlineExceeded) {
						t.Fatal(err)
					}
					missing -= res.DownloadedBytes
				}
				disk.SetCapacity(1 << 20)
				sent := b.Service.Sent.Load()
				_, err := b.Download(t, t.Context(), "Download", harness.BubblePath, harness.WithFS(disk))
				free, ferr := disk.Free("/dir") // the ballast of the earlier run is gone
				if ferr != nil {
					t.Fatal(ferr)
				}
				free -= 4096 // the block of the lock file, which is there during the call
				want := fmt.Sprintf("%d bytes are missing, %d are free", missing, free)
				if !errors.Is(err, ossdl.ErrNoSpace) || !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v, want %s", name, err, want)
				}
				if n := b.Service.Sent.Load() - sent; n > 2*64<<10 {
					t.Errorf("%s: %d bytes came before it was known", name, n)
				}
			})
		}
	}
}

// TestNoSpaceForAPrefix checks that the object that finds no room fails with the figures, and those that find some are
// brought.
func TestNoSpaceForAPrefix(t *testing.T) {
	s := harness.NewServer(t)
	want := harness.Put(s, map[string]int64{"large": 3 << 20, "small": 100})
	disk := memfs.New(memfs.Config{Capacity: 1 << 20})
	res, err := harness.NewDownloader(t, s, ossdl.WithConcurrency(1)).DownloadPrefix(t.Context(), "bkt", "", t.TempDir(),
		harness.WithFolderFS(func(*fsys.Root) fsys.FS { return disk }))
	if res == nil || res.Done != 1 || res.Failed != 1 || !errors.Is(err, ossdl.ErrNoSpace) {
		t.Fatalf("%+v, %v", res, err)
	}
	var missing, free int64
	_, figures, _ := strings.Cut(res.Failures[0].Error(), ossdl.ErrNoSpace.Error()+": ")
	if _, err := fmt.Sscanf(figures, "%d bytes are missing, %d are free", &missing, &free); err != nil || res.Failures[0].Key != "large" ||
		missing != 3<<20 || free <= 0 || free > 1<<20 {
		t.Errorf("%v, %v", res.Failures[0], err)
	}
	if got, err := fsys.ReadFile(disk, "small", 1<<20); err != nil || string(got) != string(harness.Bytes(t, want["small"])) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	// Once there is room the same call brings the rest.
	disk.SetCapacity(0)
	res, err = harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "large", t.TempDir(), harness.WithFolderFS(func(*fsys.Root) fsys.FS { return disk }))
	harness.CheckCounts(t, res, err, 1, 0, 0)
	if got, err := fsys.ReadFile(disk, "large", 1<<30); err != nil || osstest.Bytes(got).CRC64() != want["large"].CRC64() {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
