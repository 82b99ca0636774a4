//go:build unix

package fsys

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// rootFS does everything in a held folder, by system calls that follow no link.
type rootFS struct {
	held *heldFolders
	user uint32 // the effective one when the root was opened
}

func newRootFS(root *Root) *rootFS { return &rootFS{&root.below, uint32(os.Geteuid())} }

// openat is replaced by tests.
var openat = func(dir int, name string, flags int, mode uint32) (fd int, err error) {
	err = ignoringEINTR(func() error {
		fd, err = unix.Openat(dir, name, flags, mode)
		return err
	})
	return fd, err
}

// splitName is the folder of a name, and the last element; "." if it is the folder itself.
func splitName(name string) (dir, base string, err error) {
	switch {
	case isSimple(name):
		if i := strings.LastIndexByte(name, '/'); i >= 0 {
			return name[:i], name[i+1:], nil
		}
		return ".", name, nil
	case name == "":
		return "", "", unix.ENOENT
	case !filepath.IsLocal(name):
		return "", "", errEscapes
	case !isCanonical(name):
		dir, base = filepath.Split(name)
	case strings.HasSuffix(name, "/"), strings.HasSuffix(name, "/."): // what is before it must be a folder
		return filepath.Clean(name), ".", nil
	default:
		dir, base = filepath.Split(filepath.Clean(name))
	}
	if dir = strings.TrimRight(dir, "/"); dir == "" {
		dir = "."
	}
	if base == ".." {
		return "", "", errEscapes
	}
	return dir, base, nil
}

// isSimple reports whether a name is relative and made of names alone, each with one slash before the next. Most are.
func isSimple(name string) bool {
	for from := 0; ; {
		n := strings.IndexByte(name[from:], '/')
		element := name[from:]
		if n >= 0 {
			element = name[from : from+n]
		}
		if element == "" || element == "." || element == ".." {
			return false
		}
		if n < 0 {
			return true
		}
		from += n + 1
	}
}

// in runs fn with the folder of the name, and once more, in the folder that a new walk leads to, if it found nothing in one
// that is no longer at its name.
func (r *rootFS) in(op, name string, fn func(d *folder, base string) error) error {
	dir, base, err := splitName(name)
	for again := true; err == nil; again = false {
		var d *folder
		if d, err = r.held.acquire(dir); err != nil {
			break
		}
		err = fn(d, base)
		outdated := again && err != errNothing && r.held.isOutdated(d, err)
		if outdated {
			r.held.drop(d)
		}
		r.held.release(d)
		if !outdated {
			break
		}
		err = nil
	}
	if err == errNothing {
		err = unix.ENOENT
	}
	return pathError(op, name, err)
}

// The kinds of searches.
const (
	byLstat = iota
	byOpen
)

// search is in for an operation that looks for something. When nothing is found, the folder has to be looked at, too. So where
// the last search found nothing, the first question is whether anything is at the whole name: that is one system call instead
// of two. The kernel may follow links for it, even out of the root, so only the answer that nothing is there counts.
func (r *rootFS) search(kind int, op, name string, fn func(d *folder, base string) error) error {
	return r.in(op, name, func(d *folder, base string) error {
		if d != r.held.top && d.missing[kind].Load() {
			if _, err := statAt(r.held.top.fd, name); errors.Is(err, fs.ErrNotExist) {
				return errNothing
			}
		}
		err := fn(d, base)
		d.missing[kind].Store(isGone(err))
		return err
	})
}

// errNothing is ENOENT for a name at which nothing is, whatever folder is there.
var errNothing = fmt.Errorf("%w", unix.ENOENT)

// at runs fn with the folder itself, for a question about it.
func (r *rootFS) at(op, name string, fn func(d *folder) error) error {
	dir, err := folderName(name)
	var d *folder
	if err == nil {
		d, err = r.held.acquireThere(dir)
	}
	if err == nil {
		err = fn(d)
		r.held.release(d)
	}
	return pathError(op, name, err)
}

// folderName is the name by which a folder is held.
func folderName(name string) (string, error) {
	dir, base, err := splitName(name)
	if err != nil || base == "." {
		return dir, err
	}
	return filepath.Join(dir, base), nil
}

// pathError is err, perhaps that of a folder on the way, as the error of an operation on the name.
func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	if on, ok := errors.AsType[*fs.PathError](err); ok {
		err = on.Err
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// OpenFile needs a look at the file only if it was there before: what O_EXCL makes is a plain file. So that is tried first.
func (r *rootFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	var fd int
	made := false
	open := func(d *folder, base string) (err error) {
		if flag&os.O_CREATE != 0 {
			fd, err = openIn(d.fd, base, flag|os.O_EXCL, perm)
			if made = err == nil; made || flag&os.O_EXCL != 0 || !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		fd, err = openIn(d.fd, base, flag, perm)
		return err
	}
	var err error
	if flag&os.O_CREATE != 0 {
		err = r.in("open", name, open)
	} else {
		err = r.search(byOpen, "open", name, open)
	}
	if err != nil {
		return nil, explainOpen(name, err, r.Lstat)
	}
	file := &unixFile{name: name, fd: fd}
	if made {
		return file, nil
	}
	fi, err := file.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = notRegular("open", name, fi.Mode())
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// openIn opens a file in an open folder, as openNoFollow does.
func openIn(dir int, name string, flag int, perm fs.FileMode) (fd int, err error) {
	flag |= unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err = openat(dir, name, flag|openGuards, uint32(perm.Perm()))
	if refusesGuards(err) {
		if fi, serr := statAt(dir, name); serr == nil && fi.Mode().IsRegular() {
			fd, err = openat(dir, name, flag|waitGuards, uint32(perm.Perm()))
		}
	}
	return fd, err
}

func (r *rootFS) Lstat(name string) (fi fs.FileInfo, err error) {
	err = r.search(byLstat, "lstat", name, func(d *folder, base string) error {
		found, err := statAt(d.fd, base)
		if err == nil {
			found.name = filepath.Base(name)
			fi = found
		}
		return err
	})
	return fi, err
}

func (r *rootFS) Mkdir(name string, perm fs.FileMode) error {
	return r.in("mkdir", name, func(d *folder, base string) error {
		err := ignoringEINTR(func() error { return unix.Mkdirat(d.fd, base, uint32(perm.Perm())) })
		if err == nil {
			d.changes.Add(1)
		}
		return err
	})
}

func (r *rootFS) List(dir string, most int) (names []string, err error) {
	err = r.at("open", dir, func(d *folder) error {
		// Another descriptor: it has a position of its own.
		fd, err := openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		again := func(string, int, fs.FileMode) (*os.File, error) { return os.NewFile(uintptr(fd), dir), nil }
		names, err = listFolder(again, dir, most)
		return err
	})
	return names, err
}

func (r *rootFS) Rename(oldname, newname string) error {
	dir, base, err := splitName(oldname)
	for again := true; err == nil; again = false {
		var from *folder
		if from, err = r.held.acquire(dir); err != nil {
			break
		}
		err = r.renameFrom(from, base, newname)
		outdated := again && r.held.isOutdated(from, err)
		if outdated {
			r.held.drop(from)
		}
		r.held.release(from)
		if !outdated {
			break
		}
		err = nil
	}
	if err != nil {
		if on, ok := errors.AsType[*fs.PathError](err); ok {
			err = on.Err
		}
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	r.forget(oldname, newname) // if it was a folder
	return nil
}

func (r *rootFS) renameFrom(from *folder, oldbase, newname string) error {
	return r.in("rename", newname, func(to *folder, base string) error {
		err := ignoringEINTR(func() error { return unix.Renameat(from.fd, oldbase, to.fd, base) })
		if err == nil {
			to.changes.Add(1)
		}
		return err
	})
}

func (r *rootFS) Remove(name string) error {
	err := r.in("remove", name, func(d *folder, base string) error { return removeAt(d.fd, base) })
	if err == nil {
		r.forget(name)
	}
	return err
}

// removeAt removes what is at the name, whatever it is. The errors are chosen as os.Remove does.
func removeAt(dir int, name string) error {
	err := ignoringEINTR(func() error { return unix.Unlinkat(dir, name, 0) })
	if err == nil || isGone(err) {
		return err
	}
	asFolder := ignoringEINTR(func() error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) })
	if asFolder != unix.ENOTDIR {
		return asFolder
	}
	return err
}

// forget lets go of the folders at the names, which were moved or removed.
func (r *rootFS) forget(names ...string) {
	for i, name := range names {
		names[i] = filepath.Clean(name)
	}
	r.held.moved(names...)
}

func (r *rootFS) SyncDir(name string) error {
	dir, err := folderName(name)
	for again := true; err == nil; again = false {
		var d *folder
		if d, err = r.held.acquire(dir); err != nil {
			break
		}
		changes := d.changes.Load()
		err = SyncDirError(d.sync())
		there := r.held.isThere(d)
		switch {
		case there && (err == nil || errors.Is(err, errors.ErrUnsupported)):
			d.synced.Store(changes)
		case !there && changes > d.synced.Load():
			r.held.lose(d)
		}
		if !there {
			r.held.drop(d)
		}
		r.held.release(d)
		if there || !again || r.held.isLost(dir) {
			break
		}
		err = nil // nothing was placed in it
	}
	if r.held.isLost(dir) {
		err = ErrMoved
	}
	return pathError("sync", name, err)
}

// sync is fsync(2).
func (d *folder) sync() error {
	if d.readable {
		return fsyncFolder(d.fd)
	}
	fd, err := openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(fsyncFolder(fd), unix.Close(fd))
}

func (r *rootFS) Free(dir string) (int64, error) {
	var v Volume
	err := r.at("statfs", dir, func(d *folder) error {
		c, err := statfsFd(d.fd)
		v = c.volume(os.Geteuid() == 0, math.MaxInt64)
		return err
	})
	return freeOf(dir, v, err)
}

func (r *rootFS) Volume(dir string) (v Volume, err error) {
	err = r.at("statfs", dir, func(d *folder) error {
		v, err = volumeDir(d.fd)
		return err
	})
	return v, err
}

func (r *rootFS) User() (uid uint32, ok bool) { return r.user, true }

func (r *rootFS) MountPoint(name string) (is bool, err error) {
	err = r.in("stat", name, func(d *folder, base string) error {
		fi, err := statAt(d.fd, base)
		if err == nil {
			is = mountPoint(d.info, fi, d.fd, ".", base)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return is, err
}

func (r *rootFS) Writable(dir string) error {
	err := r.at("access", dir, func(d *folder) error { return certain(faccessat(d.fd, ".")) })
	if errors.Is(err, fs.ErrPermission) { // to look at the folder, or to write to it
		return nil
	}
	return err
}

func (r *rootFS) Chtimes(name string, mtime time.Time) error {
	times := make([]unix.Timespec, 2)
	for i, t := range []time.Time{time.Now(), mtime} {
		at, err := unix.TimeToTimespec(t)
		if err != nil {
			return pathError("chtimes", name, err)
		}
		times[i] = at
	}
	return r.in("chtimes", name, func(d *folder, base string) error {
		return ignoringEINTR(func() error { return unix.UtimesNanoAt(d.fd, base, times, unix.AT_SYMLINK_NOFOLLOW) })
	})
}

// Key is of the same kind as that of OS, so that the two exclude each other. Its path is the one that the folder had when it
// was opened.
func (r *rootFS) Key(name string) (key any, err error) {
	err = r.in("stat", name, func(d *folder, base string) error {
		key = filepath.Join(d.path, base)
		return nil
	})
	return key, err
}
