package localfile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/fsys"
)

// The suffixes of the working files. All are gone after success.
const (
	PartSuffix       = ".part"      // the data, until the rename
	CheckpointSuffix = ".cp"        // which bytes of it are done
	LockSuffix       = ".part.lock" // held by the running call
)

const (
	CheckpointMode = 0o600
	// CheckpointLimit bounds what is saved, in bytes; checkpointReadLimit bounds what is read, so that a hostile
	// checkpoint cannot exhaust memory.
	CheckpointLimit     = 64 << 10
	CheckpointReadLimit = 1 << 20
)

// Config says where a download ends, and where its working files are until then.
type Config struct {
	FS     fsys.FS
	Log    *slog.Logger
	Path   string // of the file; its folder exists
	Base   string // of the working files' names, without their suffixes; "": path, after its symbolic links are resolved
	Folder string // holds base; it is made when it is missing, and others may remove it when it is empty; "": none
	Sparse bool   // reserve no space

	KeepPartial   bool   // keep a checkpoint, and after an error the partial file; otherwise a failure leaves nothing
	Checkpoint    string // the checkpoint's path; "": base + ".cp", unless checkpointDir is set
	CheckpointDir string // a folder for checkpoints of several downloads, made when it is missing
	Source        string // what is downloaded; with the path it makes the checkpoint's name in checkpointDir

	// IsCheckpointOf reports whether data is a checkpoint that calls its destination name.
	IsCheckpointOf func(data []byte, name string) bool
}

// Destination is a path where a download appears whole or not at all, with the working files that it needs until then.
// Only the rename in commit touches the path itself.
//
// The order of calls is lock, readCheckpoint, adopt, begin, then commit or abandon. After abandon a second attempt may
// follow, from begin on. Between begin and commit, WriteAt, ReadAt, reserve, sync and save may run concurrently.
type Destination struct {
	fs     fsys.FS
	log    *slog.Logger
	path   string
	base   string
	folder string
	sparse bool

	keepPartial bool
	checkpoint  string // "": none is kept

	isCheckpointOf func(data []byte, name string) bool

	content content // nil before adopt has found one or begin has made one
}

var _ engine.Sink = (*Destination)(nil)

// content is a file that holds a download's bytes: a partial file, or the complete file that is already at the path.
type content interface {
	io.ReaderAt
	io.WriterAt
	// prepare makes the file ready for size bytes, of which missing are still to be written.
	prepare(size, missing int64) error
	// reserve allocates the disk blocks that prepare did not, until ctx is done.
	reserve(ctx context.Context) error
	sync() error
	// syncFailed reports whether a sync has failed.
	syncFailed() bool
	// freeBallast makes room for a checkpoint on a full disk, if it can.
	freeBallast(last bool) (freed bool)
	// putInPlace makes the file, of size bytes, the one at the path. It closes the file.
	putInPlace(size int64, modified time.Time) error
	// discard closes the file, and removes it if it is a partial one.
	discard()
	// close closes the file. It may be called more than once.
	close() error
}

// Keep says what an attempt that failed leaves.
type Keep int

const (
	Nothing Keep = iota // neither partial file nor checkpoint
	Partial             // both, unless the destination was configured to keep neither
	AsFound             // what was there before the attempt, which another attempt replaces
)

// Check returns the destination of a download, or the reason why nothing can be written there. It does not
// touch the path, and makes no folder but the one for checkpoints.
func Check(cfg Config) (*Destination, error) {
	if cfg.Path == "" {
		return nil, errors.New("empty destination path")
	}
	if cfg.Base == "" {
		resolved, err := cfg.FS.Resolve(cfg.Path)
		if err != nil {
			return nil, err
		}
		cfg.Path, cfg.Base = resolved, resolved
	}
	d := newDestination(cfg)
	err := d.checkPath()
	if err == nil && d.keepPartial {
		d.checkpoint, err = d.checkpointPath(cfg)
	}
	if err != nil {
		return nil, d.NoSpace(err, 0)
	}
	return d, nil
}

// newDestination is a destination whose path and base are known, with the default checkpoint if it keeps one.
func newDestination(cfg Config) *Destination {
	d := &Destination{
		fs: cfg.FS, log: cfg.Log, path: cfg.Path, base: cfg.Base, folder: cfg.Folder, sparse: cfg.Sparse,
		keepPartial: cfg.KeepPartial, isCheckpointOf: cfg.IsCheckpointOf,
	}
	if d.keepPartial {
		d.checkpoint = d.base + CheckpointSuffix
	}
	return d
}

// checkPath returns an error unless path is absent or a writable regular file, in a writable folder.
func (d *Destination) checkPath() error {
	if err := d.fs.Writable(filepath.Dir(d.path)); err != nil {
		return fmt.Errorf("folder of %s: %w", d.path, err)
	}
	fi, err := d.fs.Lstat(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.IsDir():
		return fmt.Errorf("%s is a folder", d.path)
	case !fi.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file (%v)", d.path, fi.Mode().Type())
	}
	f, err := d.fs.OpenFile(d.path, os.O_WRONLY, 0)
	if err != nil {
		if errors.Is(err, syscall.ETXTBSY) { // a running program: after the rename it still has its old file
			return nil
		}
		return err
	}
	return f.Close()
}

// checkpointPath returns the path of the checkpoint. It checks the checkpoint's folder, and makes checkpointDir.
func (d *Destination) checkpointPath(cfg Config) (string, error) {
	switch {
	case cfg.CheckpointDir != "":
		if err := d.fs.Mkdir(cfg.CheckpointDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("checkpoint folder: %w", err)
		}
		dir, err := d.fs.Resolve(cfg.CheckpointDir) // the next call may use another name for it
		if err != nil {
			return "", fmt.Errorf("checkpoint folder: %w", err)
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%q\n", cfg.Source, d.path))
		return filepath.Join(dir, hex.EncodeToString(sum[:16])+CheckpointSuffix), nil
	case cfg.Checkpoint != "":
		resolved, err := d.fs.Resolve(cfg.Checkpoint)
		if err != nil {
			return "", fmt.Errorf("checkpoint: %w", err)
		}
		for _, taken := range []string{d.path, d.base + PartSuffix, d.base + LockSuffix} {
			// Some file systems are case-insensitive.
			if strings.EqualFold(resolved, taken) || strings.EqualFold(resolved+fsys.TempSuffix, taken) {
				return "", fmt.Errorf("checkpoint %s is a file of the download itself", cfg.Checkpoint)
			}
		}
		return resolved, nil
	}
	return d.checkpoint, nil
}

// Path is the path, with its symbolic links resolved.
func (d *Destination) Path() string { return d.path }

// HasCheckpoint reports whether the destination keeps a checkpoint.
func (d *Destination) HasCheckpoint() bool { return d.checkpoint != "" }

// CheckpointName is the path of the checkpoint, for messages; "" if there is none.
func (d *Destination) CheckpointName() string { return d.checkpoint }

// NameInCheckpoint is what a checkpoint must call this destination: its path relative to the checkpoint's folder.
func (d *Destination) NameInCheckpoint() string { return relativeTo(d.checkpoint, d.path) }

// relativeTo names path as seen from the folder of the checkpoint cp, so that both can be moved together.
func relativeTo(cp, path string) string {
	if rel, err := filepath.Rel(filepath.Dir(cp), path); err == nil {
		path = filepath.ToSlash(rel)
	}
	if !utf8.ValidString(path) {
		return strconv.Quote(path) // JSON cannot hold it as it is
	}
	return path
}

// Adopt opens the file of an earlier run whose checkpoint is of length bytes; complete says that it claims all of them.
// It returns false if there is none that may be written into. Only a regular file with one name is ever opened.
func (d *Destination) Adopt(length int64, complete bool) (found bool, err error) {
	defer func() { err = d.NoSpace(err, 0) }()
	name := d.base + PartSuffix
	fi, err := d.lstatRegular(name)
	if err != nil {
		return false, err
	}
	if fi == nil {
		if complete && d.adoptInPlace(length) {
			return true, nil
		}
		d.log.Warn("ignoring checkpoint; starting over", "reason", "the partial file is gone", "path", name)
		return false, nil
	}
	if fsys.Links(fi) > 1 {
		d.log.Warn("ignoring checkpoint; starting over", "reason", "the partial file has other names, it is not written into", "path", name)
		return false, nil
	}
	f, err := d.fs.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	opened, err := f.Stat()
	if err != nil {
		f.Close()
		return false, err
	}
	if !fsys.SameFile(fi, opened) || fsys.Links(opened) > 1 {
		return false, f.Close()
	}
	d.content = &partial{d: d, file: f, adopted: true}
	return true, nil
}

// lstatRegular returns what is at the name of a working file. If there is nothing it returns nil; if it is anything but a
// regular file, an error.
func (d *Destination) lstatRegular(name string) (fs.FileInfo, error) {
	fi, err := d.fs.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !fi.Mode().IsRegular():
		return nil, fmt.Errorf("%s is in the way: %w", name, fsys.ErrNotRegular)
	}
	return fi, nil
}

// Begin makes the partial file, unless adopt has found one, and reserves its space.
func (d *Destination) Begin(size, missing int64) error {
	if d.content == nil {
		p, err := d.createPartial()
		if err != nil {
			return err
		}
		d.content = p
	}
	return d.content.prepare(size, missing)
}

// createPartial makes an empty partial file. A file already there is replaced: no checkpoint describes it.
func (d *Destination) createPartial() (*partial, error) {
	name := d.base + PartSuffix
	fi, err := d.lstatRegular(name)
	if err != nil {
		return nil, err
	}
	d.DropCheckpoint() // it describes the file that is about to go
	if fi != nil {
		d.log.Info("replacing partial file of an earlier run", "path", name)
		if err := d.fs.Remove(name); err != nil {
			return nil, err
		}
	}
	f, err := d.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	return &partial{d: d, file: f}, nil
}

// WriteAt writes into the partial file. If the file is already at the path the error is errNotOurs.
func (d *Destination) WriteAt(b []byte, off int64) (int, error) { return d.content.WriteAt(b, off) }

// ReadAt reads what is on disk, for the proof and for the caller's digest.
func (d *Destination) ReadAt(b []byte, off int64) (int, error) { return d.content.ReadAt(b, off) }

// Reserve allocates the disk blocks that begin has left to it, until ctx is done.
func (d *Destination) Reserve(ctx context.Context) error { return d.content.reserve(ctx) }

// Sync puts the bytes written so far on stable storage.
//
// After a failed sync the kernel may report the bytes as written although they are lost. They can still be read, and
// would pass verification, until power is lost; no later sync writes them. So nothing that this sync was to cover may be
// trusted.
func (d *Destination) Sync() error { return d.content.sync() }

// SyncFailed reports whether a sync of this attempt has failed, in commit too.
func (d *Destination) SyncFailed() bool { return d.content != nil && d.content.syncFailed() }

// ReadCheckpoint returns the checkpoint, or fs.ErrNotExist. Errors that match fsys.ErrNotRegular or fsys.ErrTooLarge say
// that what is there is no checkpoint, and save may replace it.
func (d *Destination) ReadCheckpoint() ([]byte, error) {
	if d.checkpoint == "" {
		return nil, fs.ErrNotExist
	}
	data, err := fsys.ReadFile(d.fs, d.checkpoint, CheckpointReadLimit)
	if errors.Is(err, fsys.ErrNotRegular) {
		if fi, lerr := d.fs.Lstat(d.checkpoint); lerr == nil && fi.IsDir() {
			return nil, fmt.Errorf("checkpoint %s is a folder", d.checkpoint)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("checkpoint: %w", d.NoSpace(err, 0))
	}
	return data, err
}

// Saves reports whether save has anything to do: not if there is no checkpoint, nor if the file is already at the path.
func (d *Destination) Saves() bool {
	_, there := d.content.(*inPlace)
	return d.checkpoint != "" && !there
}

// Save replaces the checkpoint by data, at most checkpointLimit bytes. last says that it is the last one of an attempt:
// on a full disk it gets the ballast in any case. The ballast goes to an earlier one only if all blocks of the data are
// allocated: otherwise data still to come would take the room, and the last save would find none.
func (d *Destination) Save(data []byte, last bool) error {
	err := fsys.WriteFile(d.fs, d.checkpoint, data, CheckpointMode)
	if fsys.IsNoSpace(err) && d.content.freeBallast(last) {
		err = fsys.WriteFile(d.fs, d.checkpoint, data, CheckpointMode)
	}
	return err
}

// DropCheckpoint removes the checkpoint, and its temporary if a run was killed while writing it. A checkpoint without its
// file costs the next run only the reading of it, so a failure is logged and no more.
func (d *Destination) DropCheckpoint() {
	if d.checkpoint == "" {
		return
	}
	for _, name := range []string{d.checkpoint, d.checkpoint + fsys.TempSuffix} {
		if err := d.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("checkpoint left behind", "error", err)
		}
	}
}

// dropStray removes the checkpoint that an earlier call with other options has left at the default place: the file that
// it describes is gone. Anything there that is not a checkpoint of this destination is left alone.
func (d *Destination) dropStray() {
	stray := d.base + CheckpointSuffix
	if d.checkpoint == stray {
		return
	}
	data, err := fsys.ReadFile(d.fs, stray, CheckpointReadLimit)
	if err != nil || !d.isCheckpointOf(data, relativeTo(stray, d.path)) {
		return
	}
	if err := d.fs.Remove(stray); err != nil {
		d.log.Warn("checkpoint left behind", "error", err)
	}
}

// Abandon ends an attempt that failed. The partial file is closed, and removed with its checkpoint if k says so.
func (d *Destination) Abandon(k Keep) {
	if d.content == nil {
		return
	}
	if k == Nothing || k == Partial && !d.keepPartial {
		d.content.discard()
		d.DropCheckpoint()
		d.dropStray()
	} else if err := d.content.close(); err != nil {
		d.log.Warn("closing partial file failed", "error", err)
	}
	d.content = nil
}
