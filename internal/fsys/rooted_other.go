//go:build !unix

package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// heldFolders is what a Root holds open below its folder: nothing, os.Root walks to each name.
type heldFolders struct{}

func (*heldFolders) openTop(*os.Root) error { return nil }

func (*heldFolders) close() {}

func newRootFS(root *Root) *rootFS { return &rootFS{root: root.Root, base: pathOfRoot(root.Root)} }

type rootFS struct {
	root *os.Root
	base string // absolute path of the root when it was opened
}

// openAttempts bounds how often OpenFile starts again because the name came or went, or was given to another file,
// between two steps.
const openAttempts = 100

func (r *rootFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	for range openAttempts {
		f, err := r.open(name, flag, perm)
		if err != errAgain {
			return f, tooLong(name, err)
		}
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: errAgain}
}

// open does not let os.Root follow a link inside the root, for which it has no flag: creation is always exclusive, which
// never follows; a file that exists is opened without creating or cutting anything, and then compared with what is at
// the name.
func (r *rootFS) open(name string, flag int, perm fs.FileMode) (File, error) {
	const creating = os.O_CREATE | os.O_EXCL
	if flag&os.O_CREATE != 0 {
		f, err := r.root.OpenFile(name, flag|creating|openGuards, perm)
		if err == nil {
			return plainFile(f)
		}
		if flag&os.O_EXCL != 0 || !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	plain := flag &^ (creating | os.O_TRUNC)
	f, err := r.root.OpenFile(name, plain|openGuards, perm)
	if refusesGuards(err) && isPlain(r.root.Lstat, name) {
		f, err = r.root.OpenFile(name, plain|waitGuards, perm)
	}
	if errors.Is(err, fs.ErrNotExist) {
		if fi, lerr := r.root.Lstat(name); lerr == nil && fi.Mode()&fs.ModeSymlink != 0 {
			return nil, notRegular("open", name, fi.Mode()) // a dangling link
		}
		if flag&os.O_CREATE != 0 {
			return nil, errAgain
		}
	}
	if err != nil {
		return nil, explainOpen(name, err, r.root.Lstat)
	}
	file, err := plainFile(f)
	if err != nil {
		return nil, err
	}
	same, err := isAt(r, file, name)
	if err == nil && !same {
		err = errAgain
		if fi, lerr := r.root.Lstat(name); lerr == nil && !fi.Mode().IsRegular() {
			err = notRegular("open", name, fi.Mode())
		}
	}
	if err == nil && flag&os.O_TRUNC != 0 {
		err = file.Truncate(0)
	}
	if err != nil {
		if cerr := file.Close(); cerr != nil {
			err = errors.Join(err, cerr)
		}
		return nil, err
	}
	return file, nil
}

func (r *rootFS) Lstat(name string) (fs.FileInfo, error) {
	fi, err := r.root.Lstat(name)
	return fi, tooLong(name, err)
}

func (r *rootFS) Mkdir(name string, perm fs.FileMode) error {
	return tooLong(name, r.root.Mkdir(name, perm))
}

func (r *rootFS) List(dir string, most int) ([]string, error) {
	return listFolder(r.root.OpenFile, dir, most)
}

func (r *rootFS) Rename(oldname, newname string) error { return renameIn(r.root, oldname, newname) }

func (r *rootFS) Remove(name string) error {
	return patiently(func() error { return r.root.Remove(name) })
}

func (r *rootFS) SyncDir(name string) error { return r.withDir(name, syncDir) }

func (r *rootFS) Free(dir string) (int64, error) {
	v, err := r.Volume(dir)
	return freeOf(dir, v, err)
}

func (r *rootFS) Volume(dir string) (v Volume, err error) {
	err = r.atDir(dir, func(d *os.File) error {
		v, err = volumeDir(d)
		return err
	})
	return v, err
}

func (r *rootFS) User() (uid uint32, ok bool) { return effectiveUser() }

func (r *rootFS) MountPoint(name string) (is bool, err error) {
	fi, err := r.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = r.atDir(filepath.Dir(name), func(d *os.File) error {
		is, err = mountPointDir(d, fi, filepath.Base(name))
		return err
	})
	return is, err
}

func (r *rootFS) Writable(dir string) error {
	err := r.atDir(dir, writableDir)
	if errors.Is(err, fs.ErrPermission) { // to look at the folder, or to write to it
		return nil
	}
	return err
}

// withDir opens the folder within the root: by its path it would be looked up again, links and all.
func (r *rootFS) withDir(name string, fn func(*os.File) error) error {
	return withFolder(r.root.OpenFile, name, 0, fn)
}

// atDir is withDir for a folder that need not be readable, if the system can open such a one.
func (r *rootFS) atDir(name string, fn func(*os.File) error) error {
	return withFolder(r.root.OpenFile, name, openAt, fn)
}

func (r *rootFS) Chtimes(name string, mtime time.Time) error {
	return r.root.Chtimes(name, time.Now(), mtime)
}

// Key is of the same kind as that of OS, so that the two exclude each other.
func (r *rootFS) Key(name string) (any, error) {
	dir, base := filepath.Split(name)
	if dir == "" {
		dir = "."
	}
	if err := r.withDir(dir, func(*os.File) error { return nil }); err != nil {
		return nil, err
	}
	dir = filepath.Join(r.base, dir)
	if real, err := resolveFolder(dir); err == nil {
		dir = real
	}
	return filepath.Join(dir, base), nil
}
