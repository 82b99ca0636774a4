package localfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// slowDisk keeps no bytes, and counts those that it is to write and to drop from the cache.
type slowDisk struct {
	fsys.FS
	stuck chan struct{} // until it is closed, nothing is dropped; nil: everything is at once
	fails error         // of what is to be dropped

	mu             sync.Mutex
	begun, dropped int64
}

func (s *slowDisk) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	f, err := s.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &slowFile{f, s}, nil
}

type slowFile struct {
	fsys.File
	s *slowDisk
}

func (f *slowFile) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

func (f *slowFile) WriteBack(_, size int64) error {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	f.s.begun += size
	return nil
}

func (f *slowFile) DropCache(_, size int64) error {
	if f.s.stuck != nil {
		<-f.s.stuck
	}
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	f.s.dropped += size
	return f.s.fails
}

// wrote are the bytes that the disk was told to write, and to drop.
func (s *slowDisk) wrote() (begun, dropped int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun, s.dropped
}

// slowDestination has a partial file of so many bytes, all of them missing. Memory is tight for more than four batches, or never.
func slowDestination(t *testing.T, disk *slowDisk, size int64, tight bool) *Destination {
	t.Helper()
	backlog := &Backlog{memory: math.MaxInt64}
	if tight {
		backlog.memory = 16 * batchSize
	}
	disk.FS = memfs.New(memfs.Config{})
	return oneOfSlowDestinations(t, disk, "/file", size, backlog)
}

func oneOfSlowDestinations(t *testing.T, disk *slowDisk, path string, size int64, backlog *Backlog) *Destination {
	t.Helper()
	d := newDestination(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: path, Sparse: true, Backlog: backlog})
	if err := disk.Mkdir(d.work.folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := d.Begin(size, size); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestWriteBackInBatches checks that the disk is told to write each batch once it is there, and to drop the batch before it if the
// cache cannot hold the file.
func TestWriteBackInBatches(t *testing.T) {
	const piece, batches = 1 << 20, 4
	for _, drops := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var disk slowDisk
			d := slowDestination(t, &disk, 2*batches*batchSize, drops)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- d.WriteBack(ctx) }()
			synctest.Wait()
			for n := range int64(batches) {
				// Two connections, one of them far behind.
				for i := range int64(batchSize / piece / 2) {
					for _, off := range []int64{0, batches * batchSize} {
						if _, err := d.WriteAt(make([]byte, piece), off+n*batchSize/2+i*piece); err != nil {
							t.Fatal(err)
						}
					}
				}
				synctest.Wait()
				wantDropped := int64(0)
				if drops {
					wantDropped = n * batchSize
				}
				if begun, dropped := disk.wrote(); begun != (n+1)*batchSize || dropped != wantDropped {
					t.Errorf("after %d batches: %d bytes are to be written, %d dropped, want %d and %d", n+1, begun, dropped, (n+1)*batchSize, wantDropped)
				}
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			// Nobody hands over any more, and nobody waits for that.
			for i := range int64(2 * batchSize / piece) {
				if _, err := d.WriteAt(make([]byte, piece), i*piece); err != nil {
					t.Fatal(err)
				}
			}
			d.Abandon(Nothing)
		})
	}
}

// TestWritesWaitForASlowDisk checks that a disk that takes nothing has the writes wait after three batches, and that they go on once
// it does, or once the call is cancelled.
func TestWritesWaitForASlowDisk(t *testing.T) {
	const piece, writers = 1 << 20, 4
	for _, cancelled := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			disk := slowDisk{stuck: make(chan struct{})}
			const size = 10 * batchSize
			d := slowDestination(t, &disk, size, true)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() { ended <- d.WriteBack(ctx) }()
			synctest.Wait()
			var mu sync.Mutex
			written := int64(0)
			var group sync.WaitGroup
			for w := range int64(writers) {
				group.Go(func() {
					for off := w * size / writers; off < (w+1)*size/writers; off += piece {
						if _, err := d.WriteAt(make([]byte, piece), off); err != nil {
							t.Error(err)
						}
						mu.Lock()
						written += piece
						mu.Unlock()
					}
				})
			}
			synctest.Wait()
			mu.Lock()
			n := written
			mu.Unlock()
			// A batch is taken when it is full. Each writer may have added a piece to it by then.
			if n > 3*(batchSize+writers*piece) || n < 3*batchSize-writers*piece {
				t.Errorf("%d bytes were written before the disk took any, want some %d", n, 3*batchSize)
			}
			if cancelled {
				cancel()
			}
			close(disk.stuck)
			group.Wait()
			synctest.Wait()
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if begun, _ := disk.wrote(); !cancelled && begun <= size-batchSize { // less than a batch is left to the sync
				t.Errorf("the writing of %d bytes was begun, want more than %d", begun, size-batchSize)
			}
			d.Abandon(Nothing)
		})
	}
}

// TestDropThatFails checks that an error of the disk ends the call, and that nothing counts as synced.
func TestDropThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := slowDisk{fails: syscall.EIO}
		d := slowDestination(t, &disk, 5*batchSize, true)
		ended := make(chan error)
		go func() { ended <- d.WriteBack(t.Context()) }()
		synctest.Wait()
		for i := range int64(2) {
			if _, err := d.WriteAt(make([]byte, batchSize), i*batchSize); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-ended; !errors.Is(err, syscall.EIO) || !d.SyncFailed() {
			t.Errorf("%v, a sync has failed: %t", err, d.SyncFailed())
		}
		d.Abandon(Nothing)
	})
}

// TestNoWriteBackOfALittle checks that a file of one write is left to the system, and to the sync at the end.
func TestNoWriteBackOfALittle(t *testing.T) {
	var disk slowDisk
	d := slowDestination(t, &disk, leastBatch, true)
	if err := d.WriteBack(t.Context()); err != nil { // returns, although the context does not end
		t.Error(err)
	}
	if _, err := d.WriteAt(make([]byte, leastBatch), 0); err != nil {
		t.Error(err)
	}
	if begun, dropped := disk.wrote(); begun != 0 || dropped != 0 {
		t.Errorf("%d bytes to be written, %d dropped", begun, dropped)
	}
	d.Abandon(Nothing)
}

// TestManyFilesShareABatch checks that files that are written at once hold back no more than one large file does, if memory is
// tight, and are left to their syncs otherwise. Files that are done make room for others.
func TestManyFilesShareABatch(t *testing.T) {
	const piece, files, size, memory = 256 << 10, 16, 12 << 20, 64 << 20
	for _, tight := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			disk := slowDisk{stuck: make(chan struct{}), FS: memfs.New(memfs.Config{})}
			backlog := &Backlog{memory: math.MaxInt64}
			if tight {
				backlog.memory = memory
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var all []*Destination
			for i := range files {
				all = append(all, oneOfSlowDestinations(t, &disk, fmt.Sprintf("/file%d", i), size, backlog))
			}
			var written atomic.Int64
			var handing, writing sync.WaitGroup
			for _, d := range all {
				handing.Go(func() {
					if err := d.WriteBack(ctx); err != nil {
						t.Error(err)
					}
				})
			}
			synctest.Wait()
			for _, d := range all {
				writing.Go(func() {
					for off := int64(0); off < size; off += piece {
						if _, err := d.WriteAt(make([]byte, piece), off); err != nil {
							t.Error(err)
						}
						written.Add(piece)
					}
				})
			}
			synctest.Wait()
			most := int64(files * size)
			if tight {
				most = 3*memory/16 + files*piece
			}
			if n := written.Load(); n > most || !tight && n < most {
				t.Errorf("%d bytes were written before the disk took any, want %d", n, most)
			}
			close(disk.stuck)
			writing.Wait()
			cancel()
			handing.Wait()
			if begun, dropped := disk.wrote(); !tight && (begun > 0 || dropped > 0) {
				t.Errorf("%d bytes to be written, %d dropped, although there is memory", begun, dropped)
			}
			for _, d := range all {
				d.Abandon(Nothing)
				d.Abandon(Nothing) // once more is nothing
			}
			if files, bytes := backlog.files.Load(), backlog.bytes.Load(); files != 0 || bytes != 0 {
				t.Errorf("%d files with %d bytes are left in the backlog", files, bytes)
			}
		})
	}
}

// TestBacklogOfUnknownSize checks that a file whose size nobody knows counts by what it has got.
func TestBacklogOfUnknownSize(t *testing.T) {
	disk := slowDisk{FS: memfs.New(memfs.Config{})}
	backlog := &Backlog{memory: 8 << 20}
	d := oneOfSlowDestinations(t, &disk, "/file", -1, backlog)
	for i := range int64(3) {
		if want := i > 2; backlog.tight() != want {
			t.Errorf("after %d MiB: tight %t", i, !want)
		}
		if _, err := d.WriteAt(make([]byte, 1<<20), i<<20); err != nil {
			t.Fatal(err)
		}
	}
	if !backlog.tight() {
		t.Error("3 MiB of 8 are not tight")
	}
	d.Abandon(Nothing)
	if backlog.tight() {
		t.Error("what is closed is still in the backlog")
	}
}
