package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxLinks bounds a chain of links, as the kernel does.
const maxLinks = 40

// Resolve is where a file written to path belongs: the absolute path with all symbolic links resolved, also the last
// element if it is a link. A dangling link's target is that place too, as for open(2). The file need not exist; its
// folder must, and the error names it otherwise. Links in a circle are an error.
func Resolve(path string) (string, error) {
	return resolve(path, func(dir string) (string, error) { return resolveFolder(dir) }, os.Lstat, os.Readlink)
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
