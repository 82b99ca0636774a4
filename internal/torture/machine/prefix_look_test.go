package machine_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
)

// lookedAt is a file system that counts how often files are looked at, and calls at for each time.
type lookedAt struct {
	fsys.FS
	looks, opened atomic.Int64
	at            func(n int64)
}

func (f *lookedAt) Lstat(name string) (fs.FileInfo, error) {
	if n := f.looks.Add(1); f.at != nil {
		f.at(n)
	}
	return f.FS.Lstat(name)
}

func (f *lookedAt) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	if strings.Contains(name, "k0") {
		f.opened.Add(1)
	}
	return f.FS.OpenFile(name, flag, perm)
}

// on returns the option that puts the files there.
func (f *lookedAt) on(disk fsys.FS) ossdl.Option {
	f.FS = disk
	return harness.WithFolderFS(func(*fsys.Root) fsys.FS { return f })
}

// manyFiles returns a Downloader for the objects of a few folders, and a disk on which they are.
func manyFiles(t *testing.T) (d *ossdl.Downloader, disk fsys.FS, n int) {
	s := harness.NewServer(t)
	sizes := map[string]int64{}
	for i := range 400 {
		sizes[fmt.Sprintf("f%d/k%04d", i%4, i)] = 10
	}
	harness.Put(s, sizes)
	d, disk = harness.NewDownloader(t, s), memfs.New(memfs.Config{})
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), new(lookedAt).on(disk))
	harness.CheckCounts(t, res, err, len(sizes), 0, 0)
	return d, disk, len(sizes)
}

// TestPrefixLooksOnce checks that a file that is there is looked at once, and not opened.
func TestPrefixLooksOnce(t *testing.T) {
	d, files, n := manyFiles(t)
	disk := &lookedAt{}
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), disk.on(files))
	harness.CheckCounts(t, res, err, 0, n, 0)
	const folders = 50 // looks at folders, and at what they make of names
	if looks := disk.looks.Load(); looks < int64(n) || looks > int64(n+folders) {
		t.Errorf("%d files were looked at %d times", n, looks)
	}
	if opened := disk.opened.Load(); opened > 0 {
		t.Errorf("%d of %d files were opened", opened, n)
	}
}

// TestPrefixCanceledWhileLooking checks that a call that is canceled while it looks at what is there says so, and counts what it
// has seen.
func TestPrefixCanceledWhileLooking(t *testing.T) {
	d, files, n := manyFiles(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	disk := &lookedAt{at: func(looks int64) {
		if looks == int64(n/2) {
			cancel()
		}
	}}
	res, err := d.DownloadPrefix(ctx, "bkt", "", t.TempDir(), disk.on(files))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("err %v, want %v", err, context.Canceled)
	}
	if res.Skipped < 100 || res.Skipped >= n || res.Done+res.Failed != 0 {
		t.Errorf("of %d files, half of them looked at: %+v", n, res)
	}
}
