//go:build !unix

package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

func resolvePath(path string) (string, error) {
	return resolve(path, resolveFolder, os.Lstat, os.Readlink)
}

func resolve(
	path string,
	folder func(dir string) (string, error),
	lstat func(name string) (fs.FileInfo, error),
	readlink func(name string) (string, error),
) (string, error) {
	if path == "" {
		return "", &fs.PathError{Op: "resolve", Path: path, Err: fs.ErrNotExist}
	}
	name := path
	for range maxLinks {
		// Not filepath.Clean: "link/../file" is beside the link's target, not beside the link.
		dir, base := filepath.Split(name)
		if base == "" || base == "." || base == ".." {
			return folder(name) // cannot be anything else
		}
		dir, err := folder(dir)
		if err != nil {
			return "", err
		}
		name = filepath.Join(dir, base)
		fi, err := lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
		if fi.Mode()&fs.ModeSymlink == 0 {
			return name, nil
		}
		target, err := readlink(name)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(target) {
			target = dir + string(filepath.Separator) + target
		}
		name = target
	}
	return "", &fs.PathError{Op: "resolve", Path: path, Err: syscall.ELOOP}
}

// openFolder is OpenFolder. Files have no owners here that would forbid a link, and folders are not synced.
func openFolder(dir string) (root *Root, unsynced, err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, nil, err
	}
	root, err = OpenRoot(dir)
	return root, nil, err
}

// openExistingFolder is OpenExistingFolder.
func openExistingFolder(dir string) (*Root, error) { return OpenRoot(dir) }

// resolveFolder is the absolute path of an existing folder without links.
func resolveFolder(dir string) (string, error) {
	if dir == "" {
		dir = "."
	}
	// The system's own look first: its errors name the folder and the cause, those of EvalSymlinks the element.
	fi, err := os.Stat(dir)
	if err == nil && !fi.IsDir() {
		err = &fs.PathError{Op: "resolve", Path: dir, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	return filepath.Abs(real)
}

// MayFollow has no rule here: files have no owners that the system compares.
func MayFollow(uint32, fs.FileInfo, fs.FileInfo) error { return nil }

// Resolve follows links within the root only, and does not rewrite links to folders on the way: os.Root follows those
// itself, safely.
func (r *rootFS) Resolve(name string) (string, error) {
	return resolve(name, func(dir string) (string, error) {
		if dir == "" {
			dir = "."
		}
		err := r.withDir(dir, func(*os.File) error { return nil })
		return dir, err
	}, r.root.Lstat, r.root.Readlink)
}
