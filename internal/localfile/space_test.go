package localfile

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// logTo returns a logger, and what it has logged.
func logTo() (*slog.Logger, *strings.Builder) {
	var text strings.Builder
	return slog.New(slog.NewTextHandler(&text, nil)), &text
}

// TestBlocksNeeded checks how much space a partial file still needs.
func TestBlocksNeeded(t *testing.T) {
	for _, c := range []struct {
		name                       string
		size, held, missing, needs int64
	}{
		{"fresh", 100, 0, 100, 100},
		{"half", 100, 50, 50, 50},
		{"reserved", 100, 100, 50, 0},
		{"more blocks than bytes", 100, 4096, 100, -3996},
		{"compressed: fewer blocks than bytes", 100, 10, 50, 50},
		{"everything is there, compressed", 100, 10, 0, 0},
		{"unknown", 100, -1, 60, 60},
	} {
		if got := blocksNeeded(c.size, c.held, c.missing); got != c.needs {
			t.Errorf("%s: %d, want %d", c.name, got, c.needs)
		}
	}
}

// TestReservationThatFails checks which errors of a reservation end a download, on the first call and on a later one. The
// others are logged once, and what was reserved before them is given back.
func TestReservationThatFails(t *testing.T) {
	step := int64(fsys.ReserveStep)
	if step > 1<<30 {
		t.Skip("here space is reserved in one step")
	}
	const enotsupp = syscall.Errno(524)
	for cause, ends := range map[error]bool{
		syscall.ENOSPC: true, syscall.EDQUOT: true, syscall.EFBIG: true,
		syscall.EPERM: false, syscall.EINVAL: false, syscall.EIO: false, syscall.ENODEV: false, syscall.EACCES: false, syscall.ENOSYS: false,
		enotsupp: false,
	} {
		t.Run(cause.Error(), func(t *testing.T) {
			for at := range 3 {
				log, text := logTo()
				below := memfs.New(memfs.Config{})
				// Done: the system reserves, or a part of it, before it gives up.
				disk := faultfs.New(below, faultfs.Plan{Kind: faultfs.Reserve, At: at, Err: cause, Done: true, Forever: true})
				d := newDestination(Config{FS: disk, Log: log, Path: "/file", Notices: new(Notices)})
				size := int64(1000) // reserved before the first write
				if at > 0 {
					size = 2*step + 1 // reserved in parallel, in three calls
				}
				if err := disk.Mkdir(d.work.folder, 0o777); err != nil {
					t.Fatal(err)
				}
				err := d.Begin(size, size)
				if err == nil && at > 0 {
					_, err = d.WriteAt([]byte("x"), size-1) // a reservation in parallel begins after it
				}
				if err == nil {
					err = d.Reserve(t.Context())
				}
				if !disk.Fired() || errors.Is(err, cause) != ends || (err != nil) != ends {
					t.Errorf("call %d: %v\n%v", at, err, disk)
				}
				if want := map[bool]int{true: 0, false: 1}[ends]; strings.Count(text.String(), "no space reserved") != want {
					t.Errorf("call %d: logged %q, want it %d times", at, text, want)
				}
				if fi, err := d.content.(*partial).file.Stat(); err != nil || at == 0 && fsys.Allocated(fi) != 0 || !ends && fi.Size() != size {
					t.Errorf("call %d: it holds %d bytes of blocks, and has %d bytes, %v", at, fsys.Allocated(fi), fi.Size(), err)
				}
				d.Abandon(Nothing)
			}
		})
	}
}

// TestReservationWaitsForTheFirstWrite checks that no write at the beginning finds the file locked by a reservation: that begins
// once there was one, and not at all if ctx ends before.
func TestReservationWaitsForTheFirstWrite(t *testing.T) {
	size := int64(fsys.ReserveStep)
	if size > 1<<30 {
		t.Skip("here space is reserved in one step")
	}
	size += 1 << 20
	for _, write := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			disk := faultfs.New(memfs.New(memfs.Config{}))
			d := newDestination(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file"})
			err := disk.Mkdir(d.work.folder, 0o777)
			if err == nil {
				err = d.Begin(size, size)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer d.Abandon(Nothing)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			reserved := make(chan error)
			go func() { reserved <- d.Reserve(ctx) }()
			synctest.Wait()
			if n := disk.Count(faultfs.Reserve); n != 0 {
				t.Errorf("%d reservations before the first write", n)
			}
			want := 0
			if write {
				want = 2
				if _, err := d.WriteAt([]byte("x"), 1<<20); err != nil {
					t.Fatal(err)
				}
			} else {
				cancel()
			}
			if err := <-reserved; err != nil || disk.Count(faultfs.Reserve) != want {
				t.Errorf("written %t: %d reservations, want %d; %v", write, disk.Count(faultfs.Reserve), want, err)
			}
		})
	}
}

// TestNoticesOfACall checks that several files of a call log what the file system cannot do once.
func TestNoticesOfACall(t *testing.T) {
	log, text := logTo()
	disk := memfs.New(memfs.Config{NoReserve: true, NoSync: true, NoSyncDir: true, NoLocks: true})
	var notices Notices
	for _, path := range []string{"/a", "/b", "/c"} {
		d := newDestination(Config{FS: disk, Log: log, Path: path, Notices: &notices})
		unlock, err := d.Lock()
		if err != nil {
			t.Fatal(err)
		}
		if err := beginAndCommit(d); err != nil {
			t.Error(err)
		}
		unlock()
	}
	if n := strings.Count(text.String(), "level=WARN"); n != 4 {
		t.Errorf("%d warnings, want one each for locks, reservation, sync of the file and of the folder:\n%s", n, text)
	}
}

// noFigures says that nothing is free, as file systems do that do not know.
type noFigures struct{ fsys.FS }

func (noFigures) Free(string) (int64, error) { return 0, nil }

// TestNothingFreeIsUnknown checks that a file system which says that nothing is free is written to, whether or not it can reserve
// space, and that a full one is still found before the first byte.
func TestNothingFreeIsUnknown(t *testing.T) {
	const size = 2 << 20
	for name, config := range map[string]memfs.Config{"reserves": {}, "does not": {NoReserve: true}} {
		d := newDestination(Config{FS: noFigures{memfs.New(config)}, Log: slog.New(slog.DiscardHandler), Path: "/file"})
		if err := d.fs.Mkdir(d.work.folder, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := d.Begin(size, size); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		d.Abandon(Nothing)
		d, _ = adopted(t, noFigures{memfs.New(config)}, "/file", size, size/2)
		if err := d.Begin(size, size/2); err != nil {
			t.Errorf("%s, on a resume: %v", name, err)
		}
	}
	d := newDestination(Config{FS: noFigures{memfs.New(memfs.Config{Capacity: size / 2})}, Log: slog.New(slog.DiscardHandler), Path: "/file"})
	if err := d.fs.Mkdir(d.work.folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := d.NoSpace(size, d.Begin(size, size)); !errors.Is(err, ErrNoSpace) {
		t.Errorf("full: %v", err)
	}
	d.Abandon(Nothing)
}

// TestFileTooLarge checks that a file that is longer than its file system allows is an error before the first byte, and that an
// error of a write is of the same type where no bound is known.
func TestFileTooLarge(t *testing.T) {
	const most = 1000
	d := newDestination(Config{FS: memfs.New(memfs.Config{MaxFileSize: most}), Log: slog.New(slog.DiscardHandler), Path: "/file"})
	if err := d.fs.Mkdir(d.work.folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := d.Begin(most, most); err != nil {
		t.Error(err)
	}
	if _, err := d.WriteAt(make([]byte, 10), most-5); !errors.Is(err, ErrTooLarge) || !errors.Is(err, syscall.EFBIG) {
		t.Errorf("a write: %v", err)
	}
	d.Abandon(Nothing)
	err := d.Begin(most+1, most+1)
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "1001 bytes") || !strings.Contains(err.Error(), "at most 1000") {
		t.Error(err)
	}
	d.Abandon(Nothing)
	// A file system that does not know its bound.
	for _, sparse := range []bool{false, true} {
		full := faultfs.New(memfs.New(memfs.Config{}), faultfs.Plan{Kind: faultfs.Reserve, Err: syscall.EFBIG, Forever: true},
			faultfs.Plan{Kind: faultfs.Truncate, Err: syscall.EFBIG, Forever: true})
		d := newDestination(Config{FS: full, Log: slog.New(slog.DiscardHandler), Path: "/file", Sparse: sparse})
		if err := full.Mkdir(d.work.folder, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := d.Begin(most, most); !errors.Is(err, ErrTooLarge) {
			t.Errorf("sparse %t: %v", sparse, err)
		}
		d.Abandon(Nothing)
	}
}

// TestInodesUsedUp checks that the error says so, whether the lock file or the partial file found no inode.
func TestInodesUsedUp(t *testing.T) {
	for most := int64(1); most < 3; most++ { // the working folder, the lock file
		disk := memfs.New(memfs.Config{MaxFiles: most})
		d := newDestination(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file"})
		unlock, err := d.Lock()
		if err == nil {
			err = d.NoSpace(4, d.Begin(4, 4))
			unlock()
		}
		if !errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "inodes are used up") {
			t.Errorf("%d files: %v", most, err)
		}
	}
	full := &noSpaceError{free: 0}
	if strings.Contains(full.Error(), "inodes") {
		t.Errorf("%v", full)
	}
}
