package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/ossdl/ossdl/internal/fsys"
)

// WorkDir is the name, in the folder of a tree, of the folder for working files: those of objects that are not complete yet.
// Folders below have one of their own where it must be; see [Folder.WorkDir].
const WorkDir = ".ossdl"

// workDirTries limits how often the folder for working files is made again because another call, which has ended, removed it.
const workDirTries = 100

// WorkDir returns the folder for working files of the file name, whose folder exists. That is [WorkDir] at the top, or else
// one in the uppermost folder from where the files can be renamed to name (not from another mount), and where they get the
// group, the access list and the label that a file made beside name gets. It need not exist: who takes a lock in it makes it.
func (f *Folder) WorkDir(name string) (string, error) {
	p, err := f.place(path.Dir(name))
	if err != nil {
		return "", err
	}
	return p.work, f.useWorkDir(p.work)
}

// useWorkDir returns an error if what is not ours has the name of a folder for working files below the top. The call may make
// that folder from now on, so Close removes it.
func (f *Folder) useWorkDir(name string) error {
	if f.isUsed(name) {
		return nil
	}
	fi, err := f.fs.Lstat(filepath.FromSlash(name))
	there := &left{}
	switch {
	case err == nil:
		if err := f.isOurs(name, fi); err != nil {
			return err
		}
		there = f.lookFor(name)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, used := f.workDirs[name]; !used { // what another worker found first was there before this call
		f.workDirs[name] = there
	}
	return nil
}

// left is what was in a folder for working files when this call first looked: the files of other calls, running or
// interrupted.
type left struct {
	unknown bool // the folder could not be listed, or holds too much
	names   map[string]struct{}
}

// maxLeft limits how many working files of other calls are remembered. One call leaves some hundred at most.
const maxLeft = 1 << 16

// lookFor lists a folder for working files.
func (f *Folder) lookFor(name string) *left {
	names, err := f.fs.List(filepath.FromSlash(name), maxLeft+1)
	if errors.Is(err, fs.ErrNotExist) {
		return &left{}
	}
	if err != nil || len(names) > maxLeft {
		return &left{unknown: true}
	}
	l := &left{names: make(map[string]struct{}, len(names))}
	for _, n := range names {
		l.names[n] = struct{}{}
	}
	return l
}

// Left returns the names of the working files of other calls that were in the folder workDir when this call began to use it.
// known is false if they are not known.
func (f *Folder) Left(workDir string) (names map[string]struct{}, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.workDirs[workDir]
	if l == nil || l.unknown {
		return nil, false
	}
	return l.names, true
}

// HasLeft reports whether there may have been working files of other calls where those of the file name are.
func (f *Folder) HasLeft(name string) bool {
	dir, err := f.WorkDir(name)
	if err != nil {
		return false
	}
	return f.mayBeLeft(dir)
}

// mayBeLeft reports whether there may have been working files of other calls in a folder for working files.
func (f *Folder) mayBeLeft(workDir string) bool {
	names, known := f.Left(workDir)
	return !known || len(names) > 0
}

func (f *Folder) isUsed(workDir string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, used := f.workDirs[workDir]
	return used
}

// isWorking reports whether name is that of a working file.
func (f *Folder) isWorking(name string) bool {
	dir := filepath.ToSlash(filepath.Dir(name))
	return f.isUsed(dir)
}

// makeWorkDir makes a folder for working files, unless there is one of ours.
func (f *Folder) makeWorkDir(name string) (made bool, err error) {
	dir, err := f.fs.Lstat(filepath.FromSlash(path.Dir(name)))
	if err != nil {
		return false, err
	}
	// Strangers share a sticky folder: only we may look into ours there.
	err = f.fs.Mkdir(filepath.FromSlash(name), fsys.ModeIn(dir, 0o777))
	if !errors.Is(err, fs.ErrExist) {
		return err == nil, err
	}
	fi, err := f.fs.Lstat(filepath.FromSlash(name))
	if err != nil {
		return false, err
	}
	return false, f.isOurs(name, fi)
}

// openWorkDir makes the folder for working files and learns from it how the file system treats names. Another call that has
// ended may remove the folder right after. That does no harm: a call that takes a lock in it makes it again.
func (f *Folder) openWorkDir() (err error) {
	for range workDirTries {
		if err = f.tryWorkDir(); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

// tryWorkDir makes the folder for working files once. It returns [fs.ErrNotExist] if the folder was removed meanwhile.
func (f *Folder) tryWorkDir() error {
	made, err := f.makeWorkDir(WorkDir)
	if err != nil {
		return err
	}
	fi, err := f.fs.Lstat(WorkDir)
	if err != nil {
		return err
	}
	if err := f.isOurs(WorkDir, fi); err != nil {
		return err
	}
	folds, _ := foldsCase(f.fs, WorkDir, fi)
	f.foldsCase = folds
	if again, err := f.fs.Lstat(WorkDir); err != nil || !fsys.SameFile(fi, again) {
		return fs.ErrNotExist // removed in between, so the answer about the other name means nothing
	}
	if err := f.fs.Writable(WorkDir); err != nil {
		return err
	}
	f.workDirs[WorkDir] = &left{}
	if !made {
		f.workDirs[WorkDir] = f.lookFor(WorkDir)
	}
	return nil
}

// isOurs returns an error unless what is at the name of a folder for working files is a folder of ours.
func (f *Folder) isOurs(name string, fi fs.FileInfo) error {
	inTheWay := filepath.Join(f.dir, filepath.FromSlash(name))
	if !fi.IsDir() {
		return fsys.Unusable(fmt.Errorf("%s is in the way: it is not a folder (%v)", inTheWay, fi.Mode().Type()))
	}
	ours, err := fsys.Ours(f.fs, filepath.FromSlash(path.Dir(name)), fi)
	if err != nil {
		return err
	}
	if !ours {
		owner, _ := fsys.Owner(fi)
		return fsys.Unusable(fmt.Errorf("%s is in the way: it belongs to user %d, who could change what is written there; remove it", inTheWay, owner))
	}
	return nil
}

// closeWorkDir removes a folder for working files if it is empty. Files left in it are for the next call.
func (f *Folder) closeWorkDir(name string) {
	at := filepath.FromSlash(name)
	err := f.fs.Remove(at)
	if err != nil && f.fs.Remove(filepath.Join(at, probeName)) == nil { // of a call that was killed
		err = f.fs.Remove(at)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.log.Info("working files kept for the next call", "dir", filepath.Join(f.dir, at), "reason", err)
	}
}

// notWorkDir returns an error if the file system takes name for the folder for working files, although it is spelled
// differently.
func (f *Folder) notWorkDir(name, workDir string) error {
	fi, err := f.fs.Lstat(filepath.FromSlash(name))
	if err != nil {
		return err
	}
	work, err := f.fs.Lstat(filepath.FromSlash(workDir))
	switch {
	case errors.Is(err, fs.ErrNotExist): // another call ended and removed it
		return nil
	case err != nil:
		return err
	case fsys.SameFile(fi, work):
		return fsys.Unusable(fmt.Errorf("%s is reserved for the files of running downloads, and the file system takes %q for it", workDir, name))
	}
	return nil
}

// isReserved reports whether name, in the folder above, is that of the folder for working files there.
func (f *Folder) isReserved(name string, above place) bool {
	return isWorkDir(path.Base(name)) && path.Dir(above.work) == path.Dir(name)
}

func errReserved(name string) error {
	return fsys.Unusable(fmt.Errorf("%s is reserved for the files of running downloads", path.Join(path.Dir(name), WorkDir)))
}

// isWorkDir reports whether any file system could take the first element of a name for [WorkDir]: in any case, and on
// Windows by the short name that the folder may have.
func isWorkDir(element string) bool {
	return strings.EqualFold(element, WorkDir) || len(element) > 6 && strings.EqualFold(element[:6], "ossdl~")
}
