package tree

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/ossdl/ossdl/internal/fsys"
)

// WorkDir is the name, in the folder of a tree, of the folder for working files: those of objects that are not complete yet.
const WorkDir = ".ossdl"

// workDirTries limits how often the folder for working files is made again because another call, which has ended, removed it.
const workDirTries = 100

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
	dir, err := f.fs.Lstat(".")
	if err != nil {
		return err
	}
	// Strangers share a sticky folder: only we may look into ours there.
	switch err := f.fs.Mkdir(WorkDir, fsys.ModeIn(dir, 0o777)); {
	case errors.Is(err, fs.ErrExist):
		f.leftovers = true
	case err != nil:
		return err
	}
	fi, err := f.fs.Lstat(WorkDir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return fmt.Errorf("%s is in the way: it is not a folder (%v)", filepath.Join(f.dir, WorkDir), fi.Mode().Type())
	}
	ours, err := fsys.Ours(f.fs, ".", fi)
	if err != nil {
		return err
	}
	if !ours {
		owner, _ := fsys.Owner(fi)
		return fmt.Errorf("%s is in the way: it belongs to user %d, who could change what is written there; remove it", filepath.Join(f.dir, WorkDir), owner)
	}
	upper, err := f.fs.Lstat(strings.ToUpper(WorkDir))
	f.foldsCase = err == nil && fsys.SameFile(fi, upper)
	if again, err := f.fs.Lstat(WorkDir); err != nil || !fsys.SameFile(fi, again) {
		return fs.ErrNotExist // removed in between, so the answer about the other name means nothing
	}
	return f.fs.Writable(WorkDir)
}

// closeWorkDir removes the folder for working files if it is empty. Files left in it are for the next call.
func (f *Folder) closeWorkDir() {
	if err := f.fs.Remove(WorkDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.log.Info("working files kept for the next call", "dir", filepath.Join(f.dir, WorkDir), "reason", err)
	}
}

// notWorkDir returns an error if the file system takes name for the folder for working files, although it is spelled
// differently.
func (f *Folder) notWorkDir(name string) error {
	fi, err := f.fs.Lstat(filepath.FromSlash(name))
	if err != nil {
		return err
	}
	work, err := f.fs.Lstat(WorkDir)
	switch {
	case errors.Is(err, fs.ErrNotExist): // another call ended and removed it
		return nil
	case err != nil:
		return err
	case fsys.SameFile(fi, work):
		return fmt.Errorf("%s is reserved for the files of running downloads, and the file system takes %q for it", WorkDir, name)
	}
	return nil
}

// isWorkDir reports whether any file system could take the first element of a name for [WorkDir]: in any case, and on
// Windows by the short name that the folder may have.
func isWorkDir(element string) bool {
	return strings.EqualFold(element, WorkDir) || len(element) > 6 && strings.EqualFold(element[:6], "ossdl~")
}
