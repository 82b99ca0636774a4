package localfile

import (
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
)

// TestCommitWithoutSync checks that a sync that is not supported, or one of the folder that fails after the rename, is a warning:
// the file is in place, nothing is left, and the answer is that it is not durable.
func TestCommitWithoutSync(t *testing.T) {
	for _, c := range []struct {
		kind    faultfs.Kind
		err     error
		wrong   bool // the call fails
		durable bool
	}{
		{faultfs.Sync, syscall.EINVAL, false, false},
		{faultfs.Sync, syscall.ENOSYS, false, false},
		{faultfs.Sync, syscall.EPERM, false, false},
		{faultfs.Sync, syscall.EIO, true, false},
		{faultfs.Sync, syscall.ENOSPC, true, false},
		{faultfs.SyncDir, syscall.EINVAL, false, false},
		{faultfs.SyncDir, syscall.EIO, false, false},
		{faultfs.SyncDir, syscall.EPERM, false, false},
		{faultfs.SyncDir, syscall.EACCES, false, false},
		{faultfs.Lock, syscall.ENOTSUP, false, true}, // it has nothing to do with it
	} {
		log, text := logTo()
		below := memfs.New(memfs.Config{})
		disk := faultfs.New(below, faultfs.Plan{Kind: c.kind, Err: c.err, Forever: true})
		d := newDestination(Config{FS: disk, Log: log, Path: "/file", KeepPartial: true})
		if err := below.Mkdir(d.work.folder, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := d.Begin(4, 4); err != nil {
			t.Fatal(err)
		}
		durable, err := d.Commit(4, time.Time{})
		if durable != c.durable || errors.Is(err, c.err) != c.wrong || (err != nil) != c.wrong {
			t.Errorf("%s, %v: durable %t, %v", c.kind, c.err, durable, err)
		}
		if warned := strings.Contains(text.String(), "level=WARN"); warned != (!c.durable && !c.wrong) {
			t.Errorf("%s, %v: logged %q", c.kind, c.err, text)
		}
		if err != nil {
			d.Abandon(Nothing)
		}
		if _, err := below.Lstat("/file"); errors.Is(err, fs.ErrNotExist) != c.wrong {
			t.Errorf("%s, %v: the file: %v", c.kind, c.err, err)
		}
		d.removeFolder()
		if n := len(below.Names()); n != map[bool]int{true: 0, false: 1}[c.wrong] {
			t.Errorf("%s, %v: left %v", c.kind, c.err, below.Names())
		}
	}
}

// TestLeftoversWithoutSync checks that the working files of a file that is complete go although the folder cannot be synced: no
// later call could do more.
func TestLeftoversWithoutSync(t *testing.T) {
	below := memfs.New(memfs.Config{})
	ownerFile(t, below, "/work/x"+partSuffix, "x", 0)
	disk := faultfs.New(below, faultfs.Plan{Kind: faultfs.SyncDir, Err: syscall.EACCES, Forever: true})
	durable, err := RemoveLeftovers(Config{FS: disk, Log: slog.New(slog.DiscardHandler), Path: "/file", Folder: "/work", Base: "/work/x"})
	if _, lerr := below.Lstat("/work/x" + partSuffix); err != nil || durable || !errors.Is(lerr, fs.ErrNotExist) {
		t.Errorf("durable %t, %v; the partial file: %v", durable, err, lerr)
	}
}
