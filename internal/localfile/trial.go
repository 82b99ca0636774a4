package localfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ossdl/ossdl/internal/fsys"
)

// trialFrom is the size of the data from which the file system is tried before any of it is fetched. Below it, a failure at
// the end costs as little as the trial.
const trialFrom = ballastFrom

// tryOut finds out with an empty file whether the file system can do what a download of size bytes needs: write anywhere in a
// file, set its length, rename it. Mounts of object stores often cannot, and most would say so only at the end.
func (d *Destination) tryOut(size int64) error {
	if size < trialFrom || d.folders == nil {
		return nil
	}
	trial := filepath.Join(d.work.folder, trialName)
	f, err := d.fs.OpenFile(trial, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return d.explain("open a file to read and write it", err)
	}
	err = d.tryWrites(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = d.explain("rename a file", d.fs.Rename(trial, filepath.Join(d.work.folder, movedName)))
	}
	if err == nil {
		return d.fs.Remove(filepath.Join(d.work.folder, movedName))
	}
	d.dropTrial()
	return err
}

// tryWrites writes out of order, and cuts off what it wrote.
func (d *Destination) tryWrites(f fsys.File) error {
	for _, off := range []int64{4096, 0} {
		if _, err := f.WriteAt([]byte{1}, off); err != nil {
			return d.explain("write a file out of order", err)
		}
	}
	return d.explain("set the length of a file", f.Truncate(0))
}

// dropTrial removes the file of a trial that came to no end. The lock must be held.
func (d *Destination) dropTrial() {
	for _, name := range []string{trialName, movedName} {
		err := d.fs.Remove(filepath.Join(d.work.folder, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("working file left behind", "error", err)
		}
	}
}

// explain turns an error that says "the file system cannot" into one that says what to do. It wraps [errors.ErrUnsupported]
// then. Other errors are returned as they are.
func (d *Destination) explain(what string, err error) error {
	if !fsys.IsIncapable(err) {
		return err
	}
	return fmt.Errorf("the file system of %s cannot %s; download to another folder, or read the object as a stream (ossget: -): %w",
		filepath.Dir(d.path), what, fsys.Unsupported(err))
}
