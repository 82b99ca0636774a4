// Package localfile writes a download to a path at which it appears complete or not at all. It knows the working files
// beside the path (partial file, checkpoint, lock file) and whose they are, the space on the disk, and the order of syncs
// and renames. It must not know what is downloaded, from where, or what a checkpoint says: to it a checkpoint is bytes that
// it keeps for its caller. Its invariants: nothing but the rename in Commit, or that of a [Committer], changes what is at the
// path, and that comes after all bytes were synced. What belongs to another user is not written into, replaced or removed.
package localfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/fsys"
)

// Config says where a download ends, and where its working files are until then.
type Config struct {
	FS     fsys.FS
	Log    *slog.Logger
	Path   string // of the file; its folder exists, unless Mkdir is set
	Mkdir  bool   // make the folder of Path, with its parents, if it is missing
	Base   string // of the working files' names, without their suffixes; "": they are in a folder of their own beside Path
	Folder string // holds Base; it is made if it is missing, and others may remove it if it is empty
	Sparse bool   // reserve no space

	KeepPartial   bool   // keep a checkpoint, and after an error the partial file; otherwise a failure leaves nothing
	Checkpoint    string // the checkpoint's path; "": with the other working files, unless CheckpointDir is set
	CheckpointDir string // a folder for checkpoints of several downloads, made if it is missing
	Source        string // what is downloaded; with the path it makes the checkpoint's name in CheckpointDir

	// If AreLeft is set, Left has the names of those files in Folder that may be of earlier calls; otherwise they are looked for.
	Left    map[string]struct{}
	AreLeft bool

	Backlog *Backlog      // of the Downloader; nil: of this destination alone
	Folders *fsys.Folders // of the call, for Mkdir; nil: of this destination alone
	Notices *Notices      // of the call, if it has several destinations; nil: of this one
	Trials  *Trials       // of the call, if it has a Base; nil: the file system is not tried

	// IsCheckpoint reports whether a file that begins with data is a checkpoint of any version, be it a torn one. If data is zeros, it
	// is the whole file, or longer than [CheckpointLimit].
	IsCheckpoint func(data []byte) bool
}

// Notices are the warnings about a file system that a call has logged. It logs each once, however many files it writes there.
type Notices struct{ said sync.Map }

// Destination is a path at which a download appears complete or not at all, with the working files that it needs until
// then. Only the rename in Commit touches the path itself. [Check] makes one.
//
// The order of calls is Lock, ReadCheckpoint, Adopt, Begin, then Commit or Abandon. After Abandon a second attempt may
// follow, from Begin on. Between Begin and Commit, WriteAt, ReadAt, Reserve, Sync and Save may run concurrently.
type Destination struct {
	fs      fsys.FS
	log     *slog.Logger
	path    string
	folders []string  // those that the working files may be in; nil: work is what the caller asked for
	work    workFiles // chosen by Lock
	trials  *Trials   // nil: of this destination alone
	sparse  bool
	notices *Notices
	backlog *Backlog

	mode    fs.FileMode // that the file gets, if hasMode
	hasMode bool
	uid     int // that the file gets, if hasOwner; -1: the one that it has
	gid     int // likewise

	hasOwner bool

	keepPartial   bool
	checkpoint    string // "": none is kept
	ownCheckpoint bool   // its place is the caller's choice
	folderSynced  bool   // the names of folder and data are on disk
	folderMayGo   bool   // a power loss may take the path's folder
	trialLeft     bool   // a call that was killed left the file of a trial, in a folder that others use as well

	isCheckpoint func(data []byte) bool

	recent  recent
	content content // nil before Adopt has found one or Begin has made one
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
	// writeBack has the system write to the disk what comes, batch by batch, until ctx is done.
	writeBack(ctx context.Context) error
	// freeBallast makes room for a checkpoint on a full disk, if it can.
	freeBallast(last bool) (freed bool)
	// putInPlace makes the file, of size bytes, the one at the path. It closes the file. synced is false if the file system
	// cannot sync its bytes.
	putInPlace(size int64, modified time.Time) (synced bool, err error)
	// discard closes the file, and removes it if it is a partial one.
	discard()
	// close closes the file. It may be called more than once.
	close() error
}

// Keep says what an attempt that failed leaves.
type Keep int

// What an attempt can leave.
const (
	Nothing Keep = iota // neither partial file nor checkpoint
	Partial             // both, unless the destination was configured to keep neither
	AsFound             // what was there before the attempt, which another attempt replaces
)

// Check returns the destination of a download, or the reason why nothing can be written there. It does not touch the path.
// It makes no folder except that of the path, if Mkdir is set, and the one for checkpoints.
func Check(cfg Config) (*Destination, error) {
	if cfg.Path == "" {
		return nil, errors.New("empty destination path")
	}
	var unsynced error
	if dir, _ := filepath.Split(cfg.Path); cfg.Mkdir && dir != "" {
		var err error
		if _, unsynced, err = cmp.Or(cfg.Folders, new(fsys.Folders)).Make(cfg.FS, dir, folderMode); err != nil {
			return nil, fsys.Refusal(NoSpace(cfg.FS, dir, 0, fsys.NameError(cfg.FS, err)))
		}
	}
	if cfg.Base == "" {
		resolved, err := cfg.FS.Resolve(cfg.Path)
		if err != nil {
			return nil, fsys.Refusal(fsys.NameError(cfg.FS, err))
		}
		cfg.Path = resolved
	}
	d := newDestination(cfg)
	if unsynced != nil {
		d.folderMayGo = true
		d.warnOnce("a folder above could not be synced: a power loss may take the folder of the file", unsynced)
	}
	if err := d.trials.refuses(d.work.folder); err != nil {
		return nil, err
	}
	err := d.checkPath()
	if err == nil && d.keepPartial {
		err = d.placeCheckpoint(cfg)
	}
	if err != nil {
		return nil, fsys.Refusal(d.NoSpace(0, err))
	}
	return d, nil
}

// newDestination returns a destination whose Path is resolved, with the default checkpoint if it keeps one.
func newDestination(cfg Config) *Destination {
	if cfg.Base != "" {
		return newDestinationOf(cfg, filesAt(cfg.Folder, cfg.Base))
	}
	folders := foldersOf(cfg.Path)
	d := newDestinationOf(cfg, filesIn(folders[0]))
	d.folders = folders
	return d
}

// newDestinationOf is newDestination with these working files.
func newDestinationOf(cfg Config, files workFiles) *Destination {
	d := &Destination{
		fs: cfg.FS, log: cfg.Log, path: cfg.Path, sparse: cfg.Sparse, keepPartial: cfg.KeepPartial, isCheckpoint: cfg.IsCheckpoint,
		notices: cmp.Or(cfg.Notices, new(Notices)), backlog: cmp.Or(cfg.Backlog, new(Backlog)),
	}
	d.use(files)
	if cfg.Base != "" {
		d.trials, d.trialLeft = cfg.Trials, cfg.AreLeft && cfg.anyLeft(d.work.trial, d.work.moved)
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
		return fsys.CheckName(d.fs, d.path)
	case err != nil:
		return err
	case fi.IsDir():
		if _, held, _ := fsys.Holder(d.fs, filesIn(d.path).lock); held {
			return fmt.Errorf("%w: %s is the working folder of a running download", ErrInUse, d.path)
		}
		return fsys.Unusable(fmt.Errorf("%s is a folder", d.path))
	case !fi.Mode().IsRegular():
		return fsys.Unusable(fmt.Errorf("%s is not a regular file (%v)", d.path, fi.Mode().Type()))
	}
	if err := fsys.CheckReplaceable(d.fs, d.path); err != nil {
		return err
	}
	f, err := d.fs.OpenFile(d.path, os.O_WRONLY, 0)
	switch {
	case err == nil:
		return f.Close()
	case errors.Is(err, syscall.ETXTBSY), // a running program: after the rename it still has its old file
		errors.Is(err, syscall.EWOULDBLOCK), fsys.IsIncapable(err): // that it cannot be opened so says nothing about the rename
		return nil
	}
	return d.withOwner(d.path, err)
}

// withOwner adds to an error of permissions whose the file or folder at name is, if it is not ours.
func (d *Destination) withOwner(name string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	fi, lerr := d.fs.Lstat(name)
	if lerr != nil {
		return err
	}
	owner, known := fsys.Owner(fi)
	if user, ok := d.fs.User(); !ok || !known || owner == user {
		return err
	}
	return fmt.Errorf("%w: %s belongs to user %d and has mode %v", err, name, owner, fi.Mode())
}

// warnOnce logs a warning about the file system, unless the call has done so.
func (d *Destination) warnOnce(message string, err error) {
	if _, said := d.notices.said.LoadOrStore(message, true); !said {
		d.log.Warn(message, "path", d.path, "error", err)
	}
}

// FolderMayGo reports whether a power loss may take the folder of the path, because one above it could not be synced.
func (d *Destination) FolderMayGo() bool { return d.folderMayGo }

// Path returns the path, with its symbolic links resolved.
func (d *Destination) Path() string { return d.path }

// Adopt opens the file that an earlier run left with its checkpoint. The checkpoint is for length bytes; complete says that
// it claims all of them. Adopt returns false if there is no file that may be used, and logs why. Only a regular file with
// one name is opened for writing.
func (d *Destination) Adopt(length int64, complete bool) (found bool, err error) {
	defer func() { err = d.NoSpace(0, err) }()
	name := d.work.data
	fi, err := d.ourFile(name)
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
	p := &partial{d: d, file: f, adopted: true}
	p.fitMode()
	d.content = p
	return true, nil
}

// Begin makes the partial file, unless Adopt has found a file, and reserves its space. size is that of the whole file, of
// which missing bytes are still to be written; both are negative if that is not known. It implements [engine.Sink].
func (d *Destination) Begin(size, missing int64) error {
	if d.content == nil {
		p, err := d.createPartial(size)
		if err != nil {
			return err
		}
		d.content = p
	}
	return d.content.prepare(size, missing)
}

// WriteAt writes into the partial file. If the file is already at the path the error is [ErrNotOurs].
func (d *Destination) WriteAt(b []byte, off int64) (int, error) {
	n, err := d.content.WriteAt(b, off)
	return n, tooLarge(err)
}

// ReadAt reads what is on disk, to compare it with the checkpoint and with the digest that the caller gave.
func (d *Destination) ReadAt(b []byte, off int64) (int, error) { return d.content.ReadAt(b, off) }

// Reserve allocates the disk blocks that Begin has left to it, until ctx is done.
func (d *Destination) Reserve(ctx context.Context) error { return d.content.reserve(ctx) }

// WriteBack has the system write to the disk what was written to the partial file, each time that so many bytes have come, until
// ctx is done. Meanwhile writes wait for the disk: otherwise a fast network fills the memory of the machine, or of its
// container, with bytes that a slow disk has still to take. An error is as that of Sync.
func (d *Destination) WriteBack(ctx context.Context) error { return d.content.writeBack(ctx) }

// Sync puts the bytes written so far on stable storage.
//
// After a failed sync the kernel may report the bytes as written although they are lost. They can still be read, and
// would pass verification, until power is lost; no later sync writes them. So nothing that this sync was to cover may be
// trusted.
func (d *Destination) Sync() error { return d.content.sync() }

// SyncFailed reports whether a sync of this attempt has failed, including that of Commit.
func (d *Destination) SyncFailed() bool { return d.content != nil && d.content.syncFailed() }

// Abandon ends an attempt that failed. The partial file is closed. It is removed with its checkpoint if k is Nothing, or if
// the destination was configured to keep neither.
func (d *Destination) Abandon(k Keep) {
	if d.content == nil {
		return
	}
	d.closeRecent()
	if k == Nothing || k == Partial && !d.keepPartial {
		d.content.discard()
		d.DropCheckpoint()
		d.dropStray()
	} else if err := d.content.close(); err != nil {
		d.log.Warn("closing partial file failed", "error", err)
	}
	d.content = nil
}
