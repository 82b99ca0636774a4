package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// maxLinks bounds a chain of links, as the kernel does.
const maxLinks = 40

// ErrForeignLink is the cause when a symbolic link is not followed because of the folder it is in and of its owner. The
// error is fs.ErrPermission too, and names the link and its owner.
var ErrForeignLink = errors.New("link of another user in a folder that everybody may write to")

// Resolve is OS().Resolve.
func Resolve(path string) (string, error) { return resolvePath(path) }

// MakeFolder makes the folder dir if it is missing; its parent must exist. It returns the path of the folder without links. Links
// on the way are resolved by f, never by the kernel, so a folder is made behind a link only if MayFollow allows the link.
func MakeFolder(f FS, dir string, perm fs.FileMode) (real string, err error) {
	real, _, err = makeFolder(f, dir, perm, false)
	return real, err
}

// MakeFolders is MakeFolder, and makes missing parents too. It syncs each folder in which it makes one. unsynced is the first
// failure of that: a power loss may take the new folder, with what is in it.
func MakeFolders(f FS, dir string, perm fs.FileMode) (real string, unsynced, err error) {
	return makeFolder(f, dir, perm, true)
}

func makeFolder(f FS, dir string, perm fs.FileMode, parents bool) (real string, unsynced, err error) {
	// Not filepath.Clean: the parent of "link/../dir" is beside the link's target, not beside the link.
	plain := strings.TrimRightFunc(dir, isSeparator)
	real, err = f.Resolve(plain + string(filepath.Separator) + ".")
	if !errors.Is(err, fs.ErrNotExist) {
		return real, nil, err
	}
	if i := strings.LastIndexFunc(plain, isSeparator); i > 0 && parents {
		if _, unsynced, err = makeFolder(f, plain[:i], perm, true); err != nil {
			return "", nil, err
		}
	}
	if real, err = f.Resolve(plain); err != nil {
		return "", nil, err
	}
	if err := f.Mkdir(real, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", nil, err
	}
	if err := f.SyncDir(filepath.Dir(real)); unsynced == nil {
		unsynced = err
	}
	return real, unsynced, nil
}

func isSeparator(r rune) bool { return r < utf8.RuneSelf && os.IsPathSeparator(uint8(r)) }

// OpenFolder opens the folder dir as a root, and makes it and its parents if they are missing. Of the links on the way, and
// at dir itself, only those are followed that MayFollow allows. unsynced is that of [MakeFolders].
func OpenFolder(dir string) (root *Root, unsynced, err error) { return openFolder(dir) }

// OpenExistingFolder is OpenFolder for a folder that exists. It makes nothing.
func OpenExistingFolder(dir string) (*Root, error) { return openExistingFolder(dir) }
