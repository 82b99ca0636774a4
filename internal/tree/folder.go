// Package tree places objects as files below a folder. It knows which file name belongs to a key, which names a file system
// refuses or takes for the same, and which folders exist. It must not know requests, downloads or checkpoints. Its
// invariant: no two keys of one call share a file, and no name leads through a symbolic link or out of the folder.
package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/ossdl/ossdl/internal/fsys"
)

// Folder is a folder that files are placed in by slash-separated names, with folders below it as needed. [Open] makes one. It
// follows no symbolic link, and never lets two names be the same file or folder unnoticed. It is safe for concurrent use.
type Folder struct {
	fs        fsys.FS // within the folder; refuses collisions of names, if there can be any
	dir       string  // for messages
	log       *slog.Logger
	foldsCase bool
	leftovers bool
	names     *collisionFS // nil: the file system takes no two names for the same

	making sync.Mutex // held while a folder is made

	mu    sync.Mutex
	known map[string]struct{} // some of the folders that exist
}

// Open opens the folder that f is the file system of, and makes its folder for working files. dir names it in messages.
func Open(f fsys.FS, dir string, log *slog.Logger) (*Folder, error) {
	d := &Folder{fs: f, dir: dir, log: log, known: map[string]struct{}{}}
	if err := d.openWorkDir(); err != nil {
		return nil, err
	}
	if d.foldsCase || runtime.GOOS == "darwin" { // whose file systems normalize names even if they are case-sensitive
		d.names = &collisionFS{FS: f, files: map[uint64]struct{}{}}
		d.fs = d.names
	}
	return d, nil
}

// Close removes the folder for working files, unless files are left in it.
func (f *Folder) Close() { f.closeWorkDir() }

// FS returns the file system within the folder. Its Rename fails with [ErrCollision] rather than give two keys one file.
func (f *Folder) FS() fsys.FS { return f.fs }

// FoldsCase reports whether the file system is case-insensitive.
func (f *Folder) FoldsCase() bool { return f.foldsCase }

// HasLeftovers reports whether there may be working files of another call, running or interrupted.
func (f *Folder) HasLeftovers() bool { return f.leftovers }

// Claim records that the existing file name belongs to a key of this call. It returns [ErrCollision] if the file belongs to
// another key.
func (f *Folder) Claim(name string) error {
	if f.names == nil {
		return nil
	}
	return f.names.claim(filepath.FromSlash(name))
}

// IsFolder reports whether name is a folder. A symbolic link is not one.
func (f *Folder) IsFolder(name string) bool {
	fi, err := f.fs.Lstat(filepath.FromSlash(name))
	return err == nil && fi.IsDir()
}

// Make makes the folder name and those above it. It is an error if anything else has that name, even a link to a folder: two
// paths to one place would let one object replace another unnoticed.
func (f *Folder) Make(name string) error {
	if name == "." || f.isKnown(name) {
		return nil
	}
	parent := path.Dir(name)
	if err := f.Make(parent); err != nil {
		return err
	}
	// No file may be placed in the folder before it is synced. One at a time is enough: keys come folder by folder.
	f.making.Lock()
	defer f.making.Unlock()
	if f.isKnown(name) {
		return nil
	}
	if err := f.makeOne(name, parent); err != nil {
		return err
	}
	f.remember(name)
	return nil
}

// makeOne makes the folder name in parent, which exists.
func (f *Folder) makeOne(name, parent string) error {
	err := f.fs.Mkdir(filepath.FromSlash(name), 0o777)
	if err == nil {
		// Without this sync a power loss could take the files that will be synced into the folder.
		err = f.fs.SyncDir(filepath.FromSlash(parent))
		if errors.Is(err, errors.ErrUnsupported) {
			err = nil // the file system has done what it can
		}
	} else if errors.Is(err, fs.ErrExist) {
		err = f.checkFolder(name)
	}
	if err == nil && parent == "." {
		err = f.notWorkDir(name)
	}
	return err
}

// checkFolder returns an error unless name is a folder.
func (f *Folder) checkFolder(name string) error {
	fi, err := f.fs.Lstat(filepath.FromSlash(name))
	switch {
	case err != nil:
		return err
	case fi.Mode()&fs.ModeSymlink != 0:
		return errLink(name)
	case !fi.IsDir():
		return fmt.Errorf("%s is not a folder (%v)", name, fi.Mode().Type())
	}
	return nil
}

// File returns what is at name: nil if there is nothing, an error if it is not a regular file.
func (f *Folder) File(name string) (fs.FileInfo, error) {
	fi, err := f.fs.Lstat(filepath.FromSlash(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case fi.Mode()&fs.ModeSymlink != 0:
		return nil, errLink(name)
	case !fi.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file (%v)", name, fi.Mode().Type())
	}
	return fi, nil
}

func errLink(name string) error {
	return fmt.Errorf("%s is a symbolic link; links inside the folder are not followed", name)
}

// maxKnown limits how many folders are remembered. Few are enough: keys are listed folder by folder.
const maxKnown = 1000

func (f *Folder) isKnown(name string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.known[name]
	return ok
}

func (f *Folder) remember(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.known) >= maxKnown {
		clear(f.known)
	}
	f.known[name] = struct{}{}
}
