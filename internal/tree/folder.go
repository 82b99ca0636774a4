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

// Folder is a folder that files are placed in by slash-separated names, with folders below it as needed. It follows no
// symbolic link, and never lets two names be the same file or folder unnoticed. It is safe for concurrent use.
type Folder struct {
	FS        fsys.FS // within the folder; refuses collisions of names, if there can be any
	dir       string  // for messages
	log       *slog.Logger
	FoldsCase bool         // the file system is case-insensitive
	Leftover  bool         // working files of another call, running or interrupted, may be there
	names     *collisionFS // nil: the file system takes no two names for the same

	making sync.Mutex // held while a folder is made

	mu    sync.Mutex
	known map[string]struct{} // some of the folders that exist
}

// Open opens the folder that f is the file system of, and makes its folder of working files. dir names it in messages.
func Open(f fsys.FS, dir string, log *slog.Logger) (*Folder, error) {
	t := &Folder{FS: f, dir: dir, log: log, known: map[string]struct{}{}}
	if err := t.openWorkDir(); err != nil {
		return nil, err
	}
	if t.FoldsCase || runtime.GOOS == "darwin" { // whose file systems normalize names even if they are case-sensitive
		t.names = &collisionFS{FS: f, files: map[uint64]struct{}{}}
		t.FS = t.names
	}
	return t, nil
}

// Close removes the folder of working files, unless files are left in it.
func (f *Folder) Close() { f.closeWorkDir() }

// Claim records that the existing file name belongs to a key of this call. It returns errTwin if it is another key's.
func (f *Folder) Claim(name string) error {
	if f.names == nil {
		return nil
	}
	return f.names.claim(filepath.FromSlash(name))
}

// IsFolder reports whether name is a folder. A symbolic link is none.
func (f *Folder) IsFolder(name string) bool {
	fi, err := f.FS.Lstat(filepath.FromSlash(name))
	return err == nil && fi.IsDir()
}

// Make makes the folder name and those above it. It is an error if anything else has that name, also a link to a folder: two
// paths to one place would let one object replace another unnoticed.
func (f *Folder) Make(name string) error {
	if name == "." || f.isKnown(name) {
		return nil
	}
	parent := path.Dir(name)
	if err := f.Make(parent); err != nil {
		return err
	}
	// Nobody may use the folder before it is synced. One at a time is enough: keys come folder by folder.
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

func (f *Folder) makeOne(name, parent string) error {
	err := f.FS.Mkdir(filepath.FromSlash(name), 0o777)
	if err == nil {
		// Without this sync a power loss could take the files that will be synced into the folder.
		err = f.FS.SyncDir(filepath.FromSlash(parent))
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
	fi, err := f.FS.Lstat(filepath.FromSlash(name))
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

// File returns what is at name: nil if nothing is, an error if it is anything but a regular file.
func (f *Folder) File(name string) (fs.FileInfo, error) {
	fi, err := f.FS.Lstat(filepath.FromSlash(name))
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
