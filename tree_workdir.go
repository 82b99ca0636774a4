package ossdl

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/ossdl/ossdl/internal/fsys"
)

// workDir is the name, below the folder of a tree, of the folder for files that are not complete yet.
const workDir = ".ossdl"

// workDirTries limits how often the folder of working files is made again because another call that ends removes it.
const workDirTries = 100

// openWorkDir makes the folder of working files and learns from it how the file system treats names. Another call that ends
// may remove the folder right after. That does no harm: whoever takes a lock in it makes it again.
func (f *treeFolder) openWorkDir() (err error) {
	for range workDirTries {
		if err = f.tryWorkDir(); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

func (f *treeFolder) tryWorkDir() error {
	switch err := f.fs.Mkdir(workDir, 0o777); {
	case errors.Is(err, fs.ErrExist):
		f.leftover = true
	case err != nil:
		return err
	}
	fi, err := f.fs.Lstat(workDir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return fmt.Errorf("%s is in the way: it is not a folder (%v)", filepath.Join(f.dir, workDir), fi.Mode().Type())
	}
	upper, err := f.fs.Lstat(strings.ToUpper(workDir))
	f.foldsCase = err == nil && fsys.SameFile(fi, upper)
	if again, err := f.fs.Lstat(workDir); err != nil || !fsys.SameFile(fi, again) {
		return fs.ErrNotExist // removed in between, so the answer about the other name means nothing
	}
	return f.fs.Writable(workDir)
}

// closeWorkDir removes the folder of working files if it is empty. Files left in it are for the next call.
func (f *treeFolder) closeWorkDir() {
	if err := f.fs.Remove(workDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.log.Info("working files kept for the next call", "dir", filepath.Join(f.dir, workDir), "reason", err)
	}
}

// notWorkDir returns an error if the file system takes name for the folder of working files, although it is spelled
// differently.
func (f *treeFolder) notWorkDir(name string) error {
	fi, err := f.fs.Lstat(filepath.FromSlash(name))
	if err != nil {
		return err
	}
	work, err := f.fs.Lstat(workDir)
	switch {
	case errors.Is(err, fs.ErrNotExist): // another call ended and removed it
		return nil
	case err != nil:
		return err
	case fsys.SameFile(fi, work):
		return fmt.Errorf("%s is reserved for the files of running downloads, and the file system takes %q for it", workDir, name)
	}
	return nil
}

// isWorkDir reports whether any file system could take the first element of a name for workDir: in any case, and on Windows
// by the short name that the folder may have.
func isWorkDir(element string) bool {
	return strings.EqualFold(element, workDir) || len(element) > 6 && strings.EqualFold(element[:6], "ossdl~")
}
