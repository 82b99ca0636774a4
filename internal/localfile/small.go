package localfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"time"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/fsys"
)

// ErrNotSmall says that an object does not fit into the memory that was set aside for it: it has another size than was
// expected. It is to be fetched into a [Destination].
var ErrNotSmall = errors.New("the object does not fit into the memory for it")

// closesFirst says that a file must be closed before it is renamed and gets its time. Only tests change it.
var closesFirst = runtime.GOOS == "windows"

// Small is the destination of an object whose body stays in memory until it is verified. Its only working file is the one that
// gets the path. It needs no checkpoint, since nothing of it is worth keeping. [OpenSmall] makes one.
//
// A Small goes through these states:
//
//  1. It is taken: the working file is there, empty and locked, and the path is claimed. So other calls keep away.
//  2. Its body is in memory, by Begin and WriteAt.
//  3. It is stored: the body, which is verified, is in the file, and its memory is lent to others.
//  4. Its bytes are on stable storage.
//  5. It is named: the file has the path. Only now is anything at the path changed.
//  6. It has ended: the file is closed, and the path is not claimed any more.
//
// Until it is stored, it belongs to the worker that fetches it. [Committer.Add] gives it to the committer, which does the rest
// for many at a time. Abandon leads from each of the first four states to the end, and removes the working file.
//
// The lock is one on the working file itself. Its name goes with the rename, and a lock counts only if its file is at the
// name. So whoever waited for the file cannot take the one at the path for a working file: it is not written into before that
// was compared. Where a file must be closed before it is renamed, its lock would end too soon. There the lock file of a
// Destination is held instead.
type Small struct {
	d      *Destination
	bodies *Bodies

	release  func() // of the bound on files without a path
	disclaim func()
	unlock   func()      // of the lock file of a Destination; nil: the file itself is locked
	ours     fs.FileInfo // the working file, when it was empty
	content  *partial

	body     *body // nil: it is given back
	size     int64
	modified time.Time
	synced   bool
}

var _ engine.Sink = (*Small)(nil)

// OpenSmall takes the path for an object of some size bytes, at most [MaxSmall]. cfg must have a Base. replaces says that there is
// a file at the path, which is to be replaced. The error is [ErrInUse] if another call or process writes to the path. It waits
// until there is memory for the object and few enough others wait for their paths, or ctx ends.
func OpenSmall(ctx context.Context, cfg Config, bodies *Bodies, size int64, replaces bool) (s *Small, err error) {
	cfg.KeepPartial = false
	d := newDestinationOf(cfg, smallFilesAt(cfg.Folder, cfg.Base))
	release, err := bodies.hold(ctx, size)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	if err := d.trials.refusesRename(d.work.folder); err != nil {
		return nil, err
	}
	defer func() { err = fsys.Refusal(d.NoSpace(size, err)) }()
	if replaces {
		if err := d.checkPath(); err != nil {
			return nil, err
		}
	}
	body, err := bodies.get(ctx, size)
	if err != nil {
		return nil, err
	}
	s = &Small{d: d, bodies: bodies, body: body, release: release}
	if s.disclaim, err = d.claim(); err == nil {
		if err = s.take(replaces); err == nil {
			return s, nil
		}
		s.disclaim()
	}
	s.giveBack()
	return nil, err
}

// take makes the working file and locks it.
func (s *Small) take(replaces bool) (err error) {
	if closesFirst {
		if err := s.lockOther(); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				s.unlock()
			}
		}()
	}
	mode := fs.FileMode(fileMode)
	if replaces { // the file is not to be readable for more people, not even for a moment
		if old, lerr := s.d.fs.Lstat(s.d.path); lerr == nil {
			mode = fsys.ReplacedMode(old.Mode(), fileMode) | ownerMode
		}
	}
	for range folderTries {
		if err = s.tryTake(mode); !errors.Is(err, errVanished) {
			break
		}
	}
	if err == nil && replaces {
		s.content.fitMode()
	}
	return err
}

// lockOther takes the lock file of a Destination.
func (s *Small) lockOther() error {
	unlock, _, err := s.d.takeLock()
	if errors.Is(err, fsys.ErrLocked) {
		return s.d.inUse(s.d.work.lock)
	}
	if err == nil {
		s.unlock = unlock
	}
	return err
}

// tryTake is take, once. It returns errVanished if it is to be tried again.
func (s *Small) tryTake(mode fs.FileMode) error {
	d := s.d
	f, err := d.fs.OpenFile(d.work.data, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	switch {
	case errors.Is(err, fs.ErrExist):
		if err := d.dropSmall(d.work.data, d.work.lock); err != nil {
			return err
		}
		return fmt.Errorf("%w: %w", errVanished, err)
	case errors.Is(err, fs.ErrNotExist):
		if merr := d.makeFolder(); merr != nil && !errors.Is(merr, fs.ErrExist) {
			return d.cannotMake(merr)
		}
		return vanished(err)
	case err != nil:
		return d.explain("open a file to write it", d.cannotMake(err))
	}
	s.content = &partial{d: d, file: f}
	locked, err := s.lock()
	if err == nil {
		err = s.lookAtOther()
	}
	switch {
	case err == nil:
		d.dropLeftTrial()
	case locked:
		s.drop()
	default:
		s.logClose(s.content.close())
		if !errors.Is(err, ErrInUse) {
			_ = d.dropSmall(d.work.data, d.work.lock) // the next call does it otherwise
		}
	}
	return err
}

// lock locks the working file, which was made. Another call may have found it in between, taken it for one that a killed call
// left, and removed it.
func (s *Small) lock() (locked bool, err error) {
	d := s.d
	if s.unlock == nil {
		err = s.content.file.TryLock()
		switch {
		case errors.Is(err, fsys.ErrLocked):
			return false, d.errInUse()
		case errors.Is(err, errors.ErrUnsupported):
			d.warnOnce(noLocks, errors.ErrUnsupported)
		case err != nil:
			return false, err
		}
	}
	s.ours, err = s.content.file.Stat()
	if err != nil || s.unlock != nil {
		return err == nil, err
	}
	// The number of its names does not tell: NFS and FUSE give a file that was removed while it is open another name.
	there, err := s.isThere()
	if err == nil && !there {
		err = fmt.Errorf("%w: %s", errVanished, d.work.data)
	}
	return true, err
}

// lookAtOther returns [ErrInUse] if a Destination has the path. It takes its own lock before it looks for this one, as a Small
// does. So of two calls at least one sees the other.
func (s *Small) lookAtOther() error {
	if s.unlock != nil {
		return nil
	}
	if _, held, _ := fsys.Holder(s.d.fs, s.d.work.lock); held { // a lock that cannot be asked about is nobody's
		return s.d.inUse(s.d.work.lock)
	}
	return nil
}

// isThere reports whether the working file is the one at its name.
func (s *Small) isThere() (bool, error) {
	there, err := s.d.fs.Lstat(s.content.name())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && fsys.SameFile(s.ours, there), err
}

// Begin implements [engine.Sink]. The error is [ErrNotSmall] if the size is not known or larger than was expected.
func (s *Small) Begin(size, _ int64) error {
	if size < 0 || size > int64(len(s.body.bytes)) {
		return ErrNotSmall
	}
	s.size = size
	return nil
}

// WriteAt implements [engine.Sink].
func (s *Small) WriteAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > s.size {
		return 0, ErrNotSmall
	}
	return copy(s.body.bytes[off:], b), nil
}

// Memory returns where the bytes of the body from off to end are; nil if there is no such memory.
func (s *Small) Memory(off, end int64) []byte {
	if off < 0 || end > s.size {
		return nil
	}
	return s.body.bytes[off:end]
}

// Store writes the body to the file, and gives its memory back. modified is the modification time that the file gets; zero
// means the time of the write. After an error Abandon must be called.
func (s *Small) Store(modified time.Time) error {
	s.modified = modified
	n, err := 0, error(nil)
	if s.size > 0 {
		n, err = s.content.file.WriteAt(s.body.bytes[:s.size], 0)
	}
	s.giveBack()
	if err == nil && int64(n) < s.size {
		err = io.ErrShortWrite
	}
	if err != nil {
		return s.d.NoSpace(s.size-int64(n), tooLarge(err))
	}
	// A hint, so that the sync finds little to do; if it fails, the sync says why.
	_ = s.content.file.WriteBack(0, s.size)
	return nil
}

func (s *Small) giveBack() {
	if s.body != nil {
		s.bodies.put(s.body)
		s.body = nil
	}
}

// sync puts the bytes on stable storage. That the file system cannot do so is no error.
func (s *Small) sync() (err error) {
	s.synced, err = s.content.trySync()
	return s.d.NoSpace(0, err)
}

// rename makes the working file the one at the path.
func (s *Small) rename() error {
	if err := s.finishMode(); err != nil {
		return err
	}
	if closesFirst || !s.synced {
		if err := s.closeFirst(); err != nil {
			return s.d.NoSpace(0, err)
		}
	}
	d, name := s.d, s.content.name()
	if !s.modified.IsZero() {
		if err := d.fs.Chtimes(name, s.modified); err != nil {
			d.log.Warn("could not set modification time", "path", d.path, "error", err)
		}
	}
	// The last look: what is swapped in after it gets the path.
	there, err := d.fs.Lstat(name)
	if err == nil && (!fsys.SameFile(s.ours, there) || there.Size() != s.size) {
		err = changedMeanwhile(name)
	}
	if err == nil {
		err = d.explainRename(d.fs.Rename(name, d.path))
	}
	return d.NoSpace(0, err)
}

// Body returns the bytes of the object. It may be called between Begin and Store.
func (s *Small) Body() []byte { return s.body.bytes[:s.size] }

// UseMode is that of [Destination]. It must be called before the committer has the file.
func (s *Small) UseMode(mode fs.FileMode) { s.d.UseMode(mode) }

// UseOwner is that of [Destination]. It must be called before the committer has the file.
func (s *Small) UseOwner(uid, gid int) { s.d.UseOwner(uid, gid) }

// finishMode gives the file its owner and its mode, where those are not the ones it was made with.
func (s *Small) finishMode() error {
	if !s.content.replaces && !s.d.hasMode && !s.d.hasOwner {
		return nil
	}
	fi, err := s.content.file.Stat()
	if err == nil {
		s.content.finishMode(fi)
	}
	return err
}

// closeFirst closes the file before its rename: some systems demand it, and some network file systems report only here that
// they could not write. The lock file of a Destination replaces the lock that ends with that.
func (s *Small) closeFirst() error {
	if s.unlock == nil {
		if err := s.lockOther(); err != nil {
			return err
		}
	}
	return s.content.close()
}

// end ends a Small that has its path.
func (s *Small) end() {
	if err := s.content.close(); err != nil { // its bytes were synced
		s.d.log.Info("closing file failed", "path", s.d.path, "error", err)
	}
	s.free()
}

// Abandon ends a Small that does not get its path.
func (s *Small) Abandon() {
	s.giveBack()
	s.drop()
	s.free()
}

// drop removes the working file and closes it.
func (s *Small) drop() {
	if closesFirst {
		s.logClose(s.content.close())
	}
	// If someone tidied up under us there may be a newcomer's file at the name.
	there, err := s.isThere()
	if there {
		s.d.removePartial()
	} else if err != nil {
		s.d.log.Warn("working file left behind", "error", err)
	}
	s.logClose(s.content.close())
}

func (s *Small) logClose(err error) {
	if err != nil {
		s.d.log.Info("closing working file failed", "path", s.d.path, "error", err)
	}
}

// free lets others have the path.
func (s *Small) free() {
	if s.unlock != nil {
		s.unlock()
	}
	s.disclaim()
	s.release()
}
