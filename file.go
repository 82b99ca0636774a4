package ossdl

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
)

// The suffixes of the files beside a destination. All are gone after success.
const (
	partSuffix       = ".part"      // data, until the rename
	checkpointSuffix = ".cp"        // what of it is done
	lockSuffix       = ".part.lock" // held by the running call
)

// destination is a path that a download ends at, and the files beside it that it passes through. It is a sink. Nothing
// but the rename in commit touches the path itself.
type destination struct {
	fs     fsys.FS
	log    *slog.Logger
	path   string // links resolved
	base   string // the working files' names without their suffixes: path, or one in work
	work   string // a folder of working files, made as needed; "": none
	sparse bool
	keeps  bool   // a failed download leaves its partial file
	cpPath string // "" where there is no checkpoint

	file      fsys.File // the partial file, once open
	committed bool      // file is the one at path: an earlier run was killed right after its rename
	begun     bool
	toReserve int64       // bytes from 0 on whose blocks reserve is to allocate
	reserved  atomic.Bool // all blocks of the data are allocated
	modified  time.Time   // what the file's time is set to before the rename; zero: left alone
	left      int64       // bytes that are still to be written, as far as is known

	syncFailed bool  // what no sync has covered is not to be believed
	spareAt    int64 // where the spare begins; 0: there is none
}

// checkDestination finds what stands against a download to path before anything is asked of a server.
func checkDestination(path string, id identity, cfg *settings) (*destination, error) {
	if path == "" {
		return nil, errors.New("empty destination path")
	}
	resolved, err := cfg.fs.Resolve(path)
	if err != nil {
		return nil, err
	}
	d := &destination{fs: cfg.fs, log: cfg.log, path: resolved, base: resolved, sparse: cfg.sparse, keeps: !cfg.checkpoint.none()}
	if err = d.checkPath(); err == nil {
		d.cpPath, err = d.checkpointPath(id, cfg)
	}
	if err != nil {
		return nil, d.noSpace(err)
	}
	return d, nil
}

// checkPath: the path may be absent or a plain file that can be written, in a folder that can.
func (d *destination) checkPath() error {
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
		if errors.Is(err, syscall.ETXTBSY) { // a running program: the rename leaves it its file
			return nil
		}
		return err
	}
	return f.Close()
}

// checkpointPath is where the checkpoint goes, with its folder checked or made.
func (d *destination) checkpointPath(id identity, cfg *settings) (string, error) {
	switch {
	case cfg.checkpoint.none():
		return "", nil
	case cfg.checkpoint.kind == placeFolder:
		if err := d.fs.Mkdir(cfg.checkpoint.path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("checkpoint folder: %w", err)
		}
		dir, err := d.fs.Resolve(cfg.checkpoint.path) // whatever it is called the next time
		if err != nil {
			return "", fmt.Errorf("checkpoint folder: %w", err)
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "%t\n%q\n%q\n%q\n", id.url, id.bucket, id.key, d.path))
		return filepath.Join(dir, hex.EncodeToString(sum[:16])+checkpointSuffix), nil
	case cfg.checkpoint.kind == placeFile:
		resolved, err := d.fs.Resolve(cfg.checkpoint.path)
		if err != nil {
			return "", fmt.Errorf("checkpoint: %w", err)
		}
		for _, taken := range []string{d.path, d.base + partSuffix, d.base + lockSuffix} {
			// Some file systems take upper and lower case for the same.
			if strings.EqualFold(resolved, taken) || strings.EqualFold(resolved+fsys.TempSuffix, taken) {
				return "", fmt.Errorf("checkpoint %s is a file of the download itself", cfg.checkpoint.path)
			}
		}
		return resolved, nil
	}
	return d.base + checkpointSuffix, nil
}

// lock keeps other calls and processes away from the destination until unlock. A Download and a DownloadPrefix that bring
// the same file have lock files of different names: within this process the path itself is claimed, too.
func (d *destination) lock() (unlock func(), err error) {
	disclaim, err := fsys.Claim(d.fs, d.path)
	if errors.Is(err, fsys.ErrLocked) {
		return nil, fmt.Errorf("%w: %s", ErrInUse, d.path)
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			disclaim()
		}
	}()
	release, systemwide, err := d.takeLock()
	switch {
	case errors.Is(err, fsys.ErrLocked):
		return nil, fmt.Errorf("%w: %s", ErrInUse, d.path)
	case err != nil:
		return nil, err
	case !systemwide:
		d.log.Warn("the file system has no locks: other processes are not kept away", "path", d.path)
	}
	return func() {
		defer disclaim()
		if err := release(); err != nil {
			d.log.Warn("lock file left behind", "error", err)
		}
	}, nil
}

// workTries bounds how often the folder of working files is made again because another call, which was done with it,
// removed it before the lock was in it.
const workTries = 100

func (d *destination) takeLock() (release func() error, systemwide bool, err error) {
	for range workTries {
		if d.work != "" {
			if err := d.fs.Mkdir(d.work, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, false, err
			}
		}
		release, systemwide, err = fsys.Lock(d.fs, d.base+lockSuffix)
		if d.work == "" || !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return release, systemwide, err
}

// adopt opens the partial file of an earlier run for the ranges that a checkpoint claims. It returns false where there is
// none that may be written into: what is not a plain file of one name is never touched.
func (d *destination) adopt(cp *checkpoint) (bool, error) {
	fi, err := d.plain(d.base + partSuffix)
	if err != nil {
		return false, err
	}
	if fi == nil {
		if cp.complete() && d.adoptCommitted(cp) {
			return true, nil
		}
		d.log.Warn("fresh start", "reason", "the partial file is gone", "path", d.base+partSuffix)
		return false, nil
	}
	if fsys.Links(fi) > 1 {
		d.log.Warn("fresh start", "reason", "the partial file has other names: it is not written into", "path", d.base+partSuffix)
		return false, nil
	}
	f, err := d.fs.OpenFile(d.base+partSuffix, os.O_RDWR, 0)
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
	d.file = f
	return true, nil
}

// adoptCommitted takes the file at the path itself for what an earlier run has finished: it was killed between its rename
// and the removal of its checkpoint. The claims are proved as always.
func (d *destination) adoptCommitted(cp *checkpoint) bool {
	f, err := d.fs.OpenFile(d.path, os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	length, err := cp.length()
	if err != nil || !hasSize(f, length) {
		f.Close()
		return false
	}
	d.file, d.committed = f, true
	return true
}

func hasSize(f fsys.File, size int64) bool {
	fi, err := f.Stat()
	return err == nil && fi.Size() == size
}

// plain returns what is at a working file's name: nil for nothing, an error for what is not a plain file.
func (d *destination) plain(name string) (fs.FileInfo, error) {
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

const (
	// spareSize is how much longer the partial file is than the data until the end: as much as a checkpoint takes, and a
	// little for folders. On a disk that has become full it is given up for the checkpoint, or all would be lost that came
	// since the last one.
	spareSize = 2 * checkpointLimit
	// spareFrom is the size of the data below which it is as well fetched again.
	spareFrom = 1 << 20
)

// reserveSpare makes the spare. Where the disk has no room for it there is none, nor where the system would fill all that
// is before it, with blocks or with zeros.
func (d *destination) reserveSpare(size int64) {
	if d.cpPath == "" || size < spareFrom {
		return
	}
	d.spareAt = size
	err := errors.ErrUnsupported
	if !d.sparse {
		err = d.file.Reserve(size, spareSize)
	}
	if errors.Is(err, errors.ErrUnsupported) && fsys.Holes {
		_, err = d.file.WriteAt(make([]byte, spareSize), size)
	}
	if err != nil {
		d.log.Info("no room to spare for the checkpoint", "error", err)
	}
}

// giveSpare cuts the spare off, if there is one.
func (d *destination) giveSpare() (given bool, err error) {
	if d.spareAt == 0 {
		return false, nil
	}
	size := d.spareAt
	d.spareAt = 0
	return true, d.file.Truncate(size)
}

// begin makes the partial file, unless one was adopted, and sees to its space.
func (d *destination) begin(size, missing int64) error {
	if err := d.prepare(size, missing); err != nil || d.committed {
		return err
	}
	d.reserveSpare(size)
	return nil
}

// prepare reserves the space for the data.
func (d *destination) prepare(size, missing int64) error {
	if d.committed {
		return nil
	}
	fresh := d.file == nil
	if fresh {
		if err := d.create(); err != nil {
			return err
		}
	}
	d.begun = true
	fi, err := d.file.Stat()
	if err != nil {
		return err
	}
	if fi.Size() > size { // the spare of an earlier run, whose blocks are none of the data's
		if err := d.file.Truncate(size); err != nil {
			return err
		}
		if fi, err = d.file.Stat(); err != nil {
			return err
		}
	}
	held := fsys.Allocated(fi)
	if held < 0 {
		held = size - missing
	}
	if d.sparse || held >= size {
		d.reserved.Store(!d.sparse)
		return d.file.Truncate(size)
	}
	switch free, err := d.fs.Free(filepath.Dir(d.path)); {
	case err != nil:
	case free < size-held && !fresh:
		// Of what the system would reserve before it finds out, nothing could be given back: the file has holes.
		return &noSpaceError{missing: missing, free: free}
	case free >= size-held && size > fsys.ReserveStep:
		// There is room: writes need not wait for it to be reserved, which reserve does beside them.
		d.toReserve = size
		return d.file.Truncate(size)
	}
	// Whether there is room is for the system to say, before the first byte.
	err = d.file.Reserve(0, size)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		if free, err := d.fs.Free(filepath.Dir(d.path)); err == nil && free < size-held {
			return &noSpaceError{missing: missing, free: free}
		}
		return d.file.Truncate(size)
	case err != nil:
		// What was reserved before the disk was full is given back.
		if terr := d.file.Truncate(min(fi.Size(), size)); terr != nil {
			d.log.Warn("partial file keeps reserved space", "error", terr)
		}
	}
	d.reserved.Store(err == nil)
	return err
}

// reserve allocates what begin has left to it, in steps that keep no write waiting for long, until ctx ends.
func (d *destination) reserve(ctx context.Context) error {
	if d.toReserve == 0 {
		return nil
	}
	for off := int64(0); off < d.toReserve; off += fsys.ReserveStep {
		if ctx.Err() != nil {
			return nil
		}
		err := d.file.Reserve(off, min(fsys.ReserveStep, d.toReserve-off))
		if errors.Is(err, errors.ErrUnsupported) {
			return nil // there was room when begin looked
		}
		if err != nil {
			return err
		}
	}
	d.reserved.Store(true)
	return nil
}

// create makes an empty partial file. What is at its name, under our lock and a plain file, nobody vouches for.
func (d *destination) create() error {
	name := d.base + partSuffix
	fi, err := d.plain(name)
	if err != nil {
		return err
	}
	d.dropCheckpoint() // it is of the file that goes
	if fi != nil {
		d.log.Info("partial file of an earlier run replaced", "path", name)
		if err := d.fs.Remove(name); err != nil {
			return err
		}
	}
	d.file, err = d.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	return err
}

func (d *destination) WriteAt(b []byte, off int64) (int, error) {
	if d.committed {
		return 0, errStale // the file at the path is not what the checkpoint says, and not ours to mend
	}
	return d.file.WriteAt(b, off)
}

// ReadAt reads what is on disk, for the proof and for the caller's digest.
func (d *destination) ReadAt(b []byte, off int64) (int, error) { return d.file.ReadAt(b, off) }

// noSpace makes ErrNoSpace, with its figures, of the error of a full disk or of a used-up quota, whatever met it: the
// data, but also the lock or a rename.
func (d *destination) noSpace(err error) error {
	if !fsys.IsNoSpace(err) || errors.Is(err, ErrNoSpace) {
		return err
	}
	free, ferr := d.fs.Free(filepath.Dir(d.path))
	if ferr != nil {
		free = -1
	}
	return &noSpaceError{missing: d.left, free: free, err: err}
}

// sync puts the bytes written so far on stable storage. Where it fails the system may count them as written although they
// are lost: they can be read, and so proved, until the power goes, and no later sync brings them to the disk.
func (d *destination) sync() error {
	err := d.file.Sync()
	d.syncFailed = d.syncFailed || err != nil
	return err
}

// commit makes the verified partial file the file at the path. Another process sees the old file or the whole new one.
func (d *destination) commit(size int64) error {
	settle := d.rename
	if d.committed {
		settle = d.keep
	}
	if err := settle(size); err != nil {
		return err
	}
	// A power loss after the return must not bring the old file back.
	if err := d.fs.SyncDir(filepath.Dir(d.path)); err != nil {
		return err
	}
	d.dropCheckpoint()
	d.dropStray()
	return nil
}

// keep is for a file that is at the path already: what was proved must still be there, and all of it.
func (d *destination) keep(size int64) error {
	ours, err := d.file.Stat()
	if err == nil {
		err = d.isAt(d.path, ours, size)
	}
	if err != nil {
		return err
	}
	return d.close()
}

func (d *destination) rename(size int64) error {
	name := d.base + partSuffix
	if _, err := d.giveSpare(); err != nil {
		return err
	}
	// The rename must not be on disk before the bytes are.
	if err := d.sync(); err != nil {
		return err
	}
	ours, err := d.file.Stat()
	if err != nil {
		return err
	}
	// Some network file systems tell only now that they could not write.
	if err := d.close(); err != nil {
		return err
	}
	if !d.modified.IsZero() { // with the file closed: Windows sets the time once more when a writer closes it
		if err := d.fs.Chtimes(name, d.modified); err != nil {
			d.log.Warn("the file does not get the object's time", "path", d.path, "error", err)
		}
	}
	if err := d.isAt(name, ours, size); err != nil { // last: what is swapped in after it gets the path
		return err
	}
	return d.fs.Rename(name, d.path)
}

// isAt is an error unless the file that is ours is at name, with its size.
func (d *destination) isAt(name string, ours fs.FileInfo, size int64) error {
	there, err := d.fs.Lstat(name)
	if err != nil {
		return err
	}
	if !fsys.SameFile(ours, there) || ours.Size() != size {
		return fmt.Errorf("%s was changed by somebody else during the download", name)
	}
	return nil
}

// close closes the partial file. It may be called more than once.
func (d *destination) close() error {
	if d.file == nil {
		return nil
	}
	f := d.file
	d.file = nil
	return f.Close()
}

// forget lets go of what an earlier run left, for a fresh start. The files stay until the new run replaces them.
func (d *destination) forget() error {
	d.committed = false
	return d.close()
}

// discard removes what this run has made.
func (d *destination) discard() {
	if err := d.close(); err != nil {
		d.log.Warn("partial file", "error", err)
	}
	if d.committed {
		d.dropCheckpoint() // it is of a file that is not what was asked for
		return
	}
	if !d.begun {
		return
	}
	if err := d.fs.Remove(d.base + partSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn("partial file left behind", "error", err)
	}
	d.dropCheckpoint()
	d.dropStray()
}

// dropCheckpoint removes the checkpoint, and what a killed run left of writing one. A checkpoint without its file costs
// the next run nothing but the reading of it, so a failure is only logged.
func (d *destination) dropCheckpoint() {
	if d.cpPath == "" {
		return
	}
	for _, name := range []string{d.cpPath, d.cpPath + fsys.TempSuffix} {
		if err := d.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("checkpoint left behind", "error", err)
		}
	}
}
