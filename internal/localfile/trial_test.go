package localfile

import (
	"errors"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// TestTrial checks that a file system which cannot do what a download needs is found with an empty file, that the error says
// what works, and that nothing is left.
func TestTrial(t *testing.T) {
	const size = 2 << 20
	for name, plan := range map[string]faultfs.Plan{
		"write a file out of order":          {Kind: faultfs.Write, Name: trialName, Err: syscall.EINVAL, Forever: true},
		"write a file out of order, at last": {Kind: faultfs.Write, Name: trialName, At: 1, Err: syscall.ESPIPE, Forever: true},
		"set the length of a file":           {Kind: faultfs.Truncate, Err: syscall.ENOTSUP, Forever: true},
		"rename a file":                      {Kind: faultfs.Rename, Err: syscall.ENOSYS, Forever: true},
		"open a file to read and write it":   {Kind: faultfs.Open, Name: trialName, Err: syscall.EINVAL, Forever: true},
	} {
		t.Run(name, func(t *testing.T) {
			below := memfs.New(memfs.Config{})
			disk := faultfs.New(below, plan)
			d := newDestination(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file", KeepPartial: true})
			unlock, err := d.Lock()
			if err != nil {
				t.Fatal(err)
			}
			err = d.Begin(size, size)
			d.Abandon(Nothing)
			unlock()
			what, _, _ := strings.Cut(name, ",")
			if !errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, plan.Err) || !strings.Contains(err.Error(), "cannot "+what) ||
				!strings.Contains(err.Error(), "another folder") || !strings.Contains(err.Error(), "ossget: -") {
				t.Errorf("%v", err)
			}
			if left := below.Names(); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

// TestTrialOfASmallFile checks that a file system is not tried for a little, and that its errors say what works all the same.
func TestTrialOfASmallFile(t *testing.T) {
	disk := faultfs.New(memfs.New(memfs.Config{}), faultfs.Plan{Kind: faultfs.Rename, Err: syscall.ENOSYS})
	d := newDestination(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file"})
	if err := disk.Mkdir(d.work.folder, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := beginAndCommit(d); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "another folder") {
		t.Errorf("%v", err)
	}
	d.Abandon(Nothing)
}

// TestEveryOperationOfATrialFails fails each operation of a trial. The error names the cause, nothing is left, and the next
// call succeeds.
func TestEveryOperationOfATrialFails(t *testing.T) {
	const size = trialFrom
	for _, shape := range []faultfs.Plan{{}, {Done: true}, {Stop: true}} {
		for at, tried := 0, 0; ; at++ {
			below := memfs.New(memfs.Config{})
			plan := shape
			plan.At, plan.Err = at, syscall.EIO
			disk := faultfs.New(below, plan)
			d := newDestination(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file"})
			if err := below.Mkdir(d.work.folder, 0o777); err != nil {
				t.Fatal(err)
			}
			err := d.tryOut(size)
			if !disk.Fired() {
				if err != nil || tried < 5 {
					t.Errorf("%d operations, and then %v", tried, err)
				}
				break
			}
			tried++
			if !plan.Stop && !errors.Is(err, syscall.EIO) || plan.Stop && !errors.Is(err, faultfs.ErrStopped) {
				t.Errorf("%v: %v", disk, err)
			}
			left := len(below.Names()) - 1 // the folder
			if !plan.Stop && left > 0 && !(plan.Done && disk.Ops()[at].Kind == faultfs.Open) && disk.Ops()[at].Kind != faultfs.Remove {
				t.Errorf("%v: left %v", disk, below.Names())
			}
			// The folder is there with what a kill has left in it.
			d = newDestination(Config{FS: below, Log: slog.New(slog.DiscardHandler), Path: "/file"})
			unlock, err := d.Lock()
			if err == nil {
				err = d.Begin(size, size)
			}
			if err == nil {
				_, err = d.Commit(size, time.Time{})
			}
			if err != nil {
				t.Fatalf("%v: then %v", disk, err)
			}
			unlock()
			if got := strings.Join(below.Names(), " "); got != "/file" {
				t.Errorf("%v: then there are %s", disk, got)
			}
		}
	}
}

// TestPathThatCannotBeOpened checks that an old file which cannot be opened for now, or not in this way, is replaced.
func TestPathThatCannotBeOpened(t *testing.T) {
	for _, c := range []struct {
		err    error
		refuse bool
	}{
		{syscall.EWOULDBLOCK, false}, // under a lease
		{syscall.EINVAL, false}, {syscall.ENOTSUP, false}, {syscall.ETXTBSY, false},
		{syscall.EACCES, true}, {syscall.EROFS, true},
	} {
		below := memfs.New(memfs.Config{})
		if err := fsys.WriteFile(below, "/file", []byte("old"), 0o666); err != nil {
			t.Fatal(err)
		}
		disk := faultfs.New(below, faultfs.Plan{Kind: faultfs.Open, Name: "file", Err: c.err, Forever: true})
		if _, err := Check(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file"}); (err != nil) != c.refuse || !disk.Fired() {
			t.Errorf("%v: %v, fired %t", c.err, err, disk.Fired())
		}
	}
}
