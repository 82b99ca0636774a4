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
	"sync"
	"sync/atomic"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
)

// Folder is a folder that files are placed in by slash-separated names, with folders below it as needed. [Open] makes one. It
// follows no symbolic link, and never lets two names be the same file or folder unnoticed. It is safe for concurrent use.
type Folder struct {
	fs        fsys.FS // within the folder; refuses collisions of names
	dir       string  // for messages
	log       *slog.Logger
	foldsCase bool
	readOnly  bool // nothing may be made or changed; see [Look]
	names     *collisionFS
	top       place

	making   sync.Mutex       // held while a folder is made
	learning sync.Mutex       // held while it is found out how a mount keeps times
	times    map[string]times // by the folder for working files

	mu       sync.Mutex
	known    map[string]place // some of the folders that exist
	sharing  map[string]fsys.Sharing
	workDirs map[string]*left    // the folders for working files that were used
	unsynced map[string]struct{} // folders that could not be synced when they were found, or after one was made in them

	someUnsynced atomic.Bool // unsynced is not empty
	mayGo        bool        // a power loss may take the folder itself; set before others use it
	saidUnsynced sync.Once
}

// place is what is known of one folder.
type place struct {
	volume fsys.Volume
	work   string // the folder for working files of the files in it, slash-separated
}

// Open opens the folder that f is the file system of, and makes its folder for working files. dir names it in messages.
func Open(f fsys.FS, dir string, log *slog.Logger) (*Folder, error) {
	d := &Folder{
		fs: f, dir: dir, log: log,
		known: map[string]place{}, sharing: map[string]fsys.Sharing{}, workDirs: map[string]*left{}, unsynced: map[string]struct{}{},
		times: map[string]times{},
	}
	if err := d.openWorkDir(); err != nil {
		return nil, err
	}
	d.top = place{work: WorkDir}
	if v, err := f.Volume("."); err == nil { // a hint
		d.top.volume = v
	}
	d.names = newCollisionFS(f, d.foldsCase, d.isWorking, log)
	d.fs = d.names
	if err := d.sync("."); err != nil {
		return nil, err
	}
	return d, nil
}

// Close removes the folders for working files, unless files are left in them.
func (f *Folder) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.workDirs {
		if name != WorkDir {
			f.closeWorkDir(name)
		}
	}
	f.closeWorkDir(WorkDir)
}

// FS returns the file system within the folder. Its Rename fails with [ErrCollision] rather than give two keys one file.
func (f *Folder) FS() fsys.FS { return f.fs }

// FoldsCase reports whether the file system is case-insensitive.
func (f *Folder) FoldsCase() bool { return f.foldsCase }

// Claim records that the existing file name belongs to a key of this call. It returns [ErrCollision] if the file belongs to
// another key.
func (f *Folder) Claim(name string) error { return f.names.claim(filepath.FromSlash(name)) }

// IsFolder reports whether name is a folder. A symbolic link is not one.
func (f *Folder) IsFolder(name string) bool {
	fi, err := f.fs.Lstat(filepath.FromSlash(name))
	return err == nil && fi.IsDir()
}

// Make makes the folder name and those above it. It is an error if anything else has that name, even a link to a folder: two
// paths to one place would let one object replace another unnoticed. After [Look] it only finds out whether that is so.
func (f *Folder) Make(name string) error {
	_, err := f.place(name)
	if f.readOnly && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// place makes the folder name and those above it, and returns what is known of it.
func (f *Folder) place(name string) (place, error) {
	if p, known := f.recall(name); known {
		return p, nil
	}
	parent, err := f.place(path.Dir(name))
	if err != nil {
		return place{}, err
	}
	if f.readOnly {
		return f.lookAt(name, parent)
	}
	// No file may be placed in the folder before it is synced. One at a time is enough: keys come folder by folder.
	f.making.Lock()
	defer f.making.Unlock()
	if p, known := f.recall(name); known {
		return p, nil
	}
	if err := f.makeOne(name, parent); err != nil {
		return place{}, fsys.Refusal(fsys.NameError(f.fs, err))
	}
	p := f.look(name, parent)
	f.remember(name, p)
	return p, nil
}

// lookAt finds out whether the folder name could be made, or is there; if not, the error is [fs.ErrNotExist].
func (f *Folder) lookAt(name string, above place) (place, error) {
	if f.isReserved(name, above) {
		return place{}, errReserved(name)
	}
	if err := f.checkFolder(name); err != nil {
		return place{}, fsys.Refusal(fsys.NameError(f.fs, err))
	}
	f.remember(name, above)
	return above, nil
}

// look finds out about the folder name, which exists. Its files have their working files in it, rather than where those of
// the folder above are, if they could not be moved from there, or would be other files than those that are made in it.
func (f *Folder) look(name string, above place) place {
	v, err := f.fs.Volume(filepath.FromSlash(name))
	if err != nil { // a hint
		return above
	}
	p := place{volume: v, work: above.work}
	if needsWorkDir(v, above.volume) {
		p.work = path.Join(name, WorkDir)
	}
	return p
}

// needsWorkDir reports whether the files of a folder could not be moved there from the folder above, or would be other files.
func needsWorkDir(v, above fsys.Volume) bool {
	return !fsys.SameMount(v, above) || v.Inherit != above.Inherit
}

// makeOne makes the folder name in the one above, which exists.
func (f *Folder) makeOne(name string, above place) error {
	if f.isReserved(name, above) {
		return errReserved(name)
	}
	parent := path.Dir(name)
	err := f.fs.Mkdir(filepath.FromSlash(name), 0o777)
	if err == nil {
		err = f.sync(parent)
	} else if errors.Is(err, fs.ErrExist) {
		if err = f.checkFolder(name); err == nil {
			err = f.sync(name)
		}
	}
	if err == nil && path.Dir(above.work) == parent {
		err = f.notWorkDir(name, above.work)
	}
	if err == nil {
		f.names.observe(filepath.FromSlash(name))
	}
	return err
}

// sync syncs a folder after one was made in it, and once when it is found: what an earlier call made in it may not be on the disk.
// Otherwise a power loss could take files that were synced. If it cannot be done, [Folder.Keeps] says so, and it is logged once. It is
// an error only if the folder is no longer the one at its name.
func (f *Folder) sync(name string) error {
	err := f.fs.SyncDir(filepath.FromSlash(name))
	if err == nil || errors.Is(err, fsys.ErrMoved) {
		return err
	}
	f.mu.Lock()
	if len(f.unsynced) >= maxKnown {
		name = "." // all of them are in it
	}
	f.unsynced[name] = struct{}{}
	f.mu.Unlock()
	f.someUnsynced.Store(true)
	f.saidUnsynced.Do(func() {
		f.log.Warn("a folder could not be synced: a power loss may take folders and files in it; further ones are not logged",
			"dir", filepath.Join(f.dir, filepath.FromSlash(name)), "error", err)
	})
	return nil
}

// MayGo notes that a power loss may take the folder itself, because one above it could not be synced. It must be called before
// others use the folder.
func (f *Folder) MayGo(err error) {
	f.mayGo = true
	f.log.Warn("a folder above could not be synced: a power loss may take the folder of the files", "dir", f.dir, "error", err)
}

// Keeps reports whether a file or folder that was there, or a folder that was made, is there after a power loss, as far as is known.
// It may not be if one of the folders that lead to it could not be synced.
func (f *Folder) Keeps(name string) bool {
	if f.mayGo {
		return false
	}
	if !f.someUnsynced.Load() {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for name = path.Clean(name); name != "."; {
		name = path.Dir(name)
		if _, unsynced := f.unsynced[name]; unsynced {
			return false
		}
	}
	return true
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
		return fsys.Unusable(fmt.Errorf("%s is not a folder (%v)", name, fi.Mode().Type()))
	}
	return nil
}

// File returns what is at name: nil if there is nothing, an error if it is not a regular file or can be none. Its folder is
// made, unless nothing may be.
func (f *Folder) File(name string) (fs.FileInfo, error) {
	above, err := f.place(path.Dir(name))
	if f.readOnly && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if f.isReserved(name, above) {
		return nil, errReserved(name)
	}
	fi, err := f.fs.Lstat(filepath.FromSlash(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fsys.Refusal(fsys.CheckName(f.fs, filepath.FromSlash(name)))
	case err != nil:
		return nil, fsys.Refusal(fsys.NameError(f.fs, err))
	case fi.Mode()&fs.ModeSymlink != 0:
		return nil, errLink(name)
	case !fi.Mode().IsRegular():
		return nil, fsys.Unusable(fmt.Errorf("%s is not a regular file (%v)", name, fi.Mode().Type()))
	}
	return fi, nil
}

// Finding is what [Folder.Look] finds.
type Finding uint8

const (
	Unclear   Finding = iota // the other methods say what there is
	Missing                  // there is nothing, and a file can have the name
	Unchanged                // a regular file with the size and the time that may count, and no working files of another call
)

// Look looks for the file name with a size and a time, to the second. The folder of the file is made; an error is that of making
// it. Look is for the many files of which it says all there is to know: it makes one call to the file system if the folder is
// known.
func (f *Folder) Look(name string, size int64, modified time.Time) (Finding, error) {
	above, err := f.place(path.Dir(name))
	if err != nil || f.isReserved(name, above) {
		return Unclear, err
	}
	fi, err := f.fs.Lstat(filepath.FromSlash(name))
	switch {
	case errors.Is(err, fs.ErrNotExist) && fsys.CheckName(f.fs, filepath.FromSlash(name)) == nil:
		return Missing, nil
	case err != nil || !fi.Mode().IsRegular() || fi.Size() != size:
		return Unclear, nil
	case f.mayBeLeft(above.work):
		return Unclear, nil
	}
	if planted, err := f.Planted(name, fi); planted || err != nil {
		return Unclear, nil
	}
	if same, sure := sameTime(f.timesIn(above.work), fi.ModTime(), modified); !same || !sure {
		return Unclear, nil
	}
	return Unchanged, nil
}

func errLink(name string) error {
	return fsys.Unusable(fmt.Errorf("%s is a symbolic link; links inside the folder are not followed", name))
}

// maxKnown limits how many folders are remembered. Few are enough: keys are listed folder by folder.
const maxKnown = 1000

// recall returns what is known of a folder, if it is remembered.
func (f *Folder) recall(name string) (p place, known bool) {
	if name == "." {
		return f.top, true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p, known = f.known[name]
	return p, known
}

func (f *Folder) remember(name string, p place) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.known) >= maxKnown {
		clear(f.known)
	}
	f.known[name] = p
}
