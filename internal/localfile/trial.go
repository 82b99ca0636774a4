package localfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/ossdl/ossdl/internal/fsys"
)

// trialFrom is the size of the data from which the file system is tried before any of it is fetched. Below it, a failure at
// the end costs as little as the trial.
const trialFrom = ballastFrom

// Trials remember what the file systems of a call's folders cannot do. So each is tried once, however many files the call writes
// there, and once one has shown that it cannot do what a file needs, nothing is fetched for further such files.
//
// A [Destination] writes anywhere in its file, so its file system is tried before the first large one is fetched. A [Small] is
// written in one go. It needs nothing that mounts of object stores lack except the rename, which is tried after one has failed:
// until then no more was fetched than two batches hold.
type Trials struct {
	Dir string // the folder of the call, for messages

	mu sync.Mutex
	of map[string]*outcomes // by folder of working files
}

// outcomes are those of the trials in a folder of working files.
type outcomes struct{ whole, rename outcome }

// outcome is that of a trial.
type outcome struct {
	mu   sync.Mutex // held during the trial
	done bool
	err  error // what the file system cannot do
}

// at returns the outcomes for a folder of working files.
func (t *Trials) at(folder string) *outcomes {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of == nil {
		t.of = map[string]*outcomes{}
	}
	if t.of[folder] == nil {
		t.of[folder] = &outcomes{}
	}
	return t.of[folder]
}

// refuses returns the reason why no [Destination] can have its working files in a folder, if that is known.
func (t *Trials) refuses(folder string) error {
	if t == nil {
		return nil
	}
	if err := t.at(folder).whole.known(); err != nil {
		return err
	}
	return t.refusesRename(folder)
}

// refusesRename is refuses for a [Small].
func (t *Trials) refusesRename(folder string) error {
	if t == nil {
		return nil
	}
	return t.at(folder).rename.known()
}

// find tries, unless that was done. Only what the file system cannot do is remembered: other errors may pass.
func (o *outcome) find(try func() error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.done {
		return o.err
	}
	err := try()
	if err == nil || errors.Is(err, errors.ErrUnsupported) {
		o.done, o.err = true, err
	}
	return err
}

func (o *outcome) known() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// tryOut finds out with an empty file whether the file system can do what a download of size bytes needs: write anywhere in a
// file, set its length, rename it. Mounts of object stores often cannot, and most would say so only at the end.
func (d *Destination) tryOut(size int64) error {
	switch {
	case size < trialFrom:
		return nil
	case d.folders != nil:
		return d.tryAll()
	case d.trials != nil:
		return d.trials.at(d.work.folder).whole.find(d.tryAll)
	}
	return nil
}

func (d *Destination) tryAll() error {
	return d.try(os.O_RDWR, "open a file to read and write it", d.tryWrites)
}

// tryRename finds out whether the file system can rename a file.
func (d *Destination) tryRename() error {
	return d.try(os.O_WRONLY, "open a file to write it", func(fsys.File) error { return nil })
}

// try makes an empty file, opened in a way that has a name, does something with it, and renames it. Nothing is left of it.
func (d *Destination) try(flag int, opening string, do func(fsys.File) error) error {
	f, err := d.makeTrial(flag)
	if err != nil {
		return d.explain(opening, err)
	}
	err = do(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = d.explain("rename a file", d.fs.Rename(d.work.trial, d.work.moved))
	}
	if err == nil {
		return d.fs.Remove(d.work.moved)
	}
	d.dropTrial()
	return err
}

// makeTrial makes the file of a trial. The lock must be held: what has the name already was left by a call that was killed.
func (d *Destination) makeTrial(flag int) (fsys.File, error) {
	flag |= os.O_CREATE | os.O_EXCL
	f, err := d.fs.OpenFile(d.work.trial, flag, 0o600)
	if !errors.Is(err, fs.ErrExist) {
		return f, err
	}
	if _, err := d.ourFile(d.work.trial); err != nil {
		return nil, err
	}
	d.dropTrial()
	return d.fs.OpenFile(d.work.trial, flag, 0o600)
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
	for _, name := range []string{d.work.trial, d.work.moved} {
		err := d.fs.Remove(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("working file left behind", "error", err)
		}
	}
}

// dropLeftTrial is dropTrial for a folder that others use as well, in which an earlier call may have left the file.
func (d *Destination) dropLeftTrial() {
	if d.trialLeft {
		d.dropTrial()
	}
}

// explainRename explains the error of the rename to the path. If there are other files, a trial with names of our own tells a
// file system that cannot rename from one that only does not take this name, and the other files need not find out for themselves.
func (d *Destination) explainRename(err error) error {
	if d.trials == nil || !fsys.IsIncapable(err) {
		return d.explain("rename a file", err)
	}
	switch terr := d.trials.at(d.work.folder).rename.find(d.tryRename); {
	case terr == nil:
		return fmt.Errorf("the file system of %s renames files, but not to this name: %w", d.place(), fsys.Unsupported(err))
	case errors.Is(terr, errors.ErrUnsupported):
		return terr
	}
	return d.explain("rename a file", err)
}

// explain turns an error that says "the file system cannot" into one that says what to do. It wraps [errors.ErrUnsupported]
// then. Other errors are returned as they are.
func (d *Destination) explain(what string, err error) error {
	if !fsys.IsIncapable(err) {
		return err
	}
	return fmt.Errorf("the file system of %s cannot %s; download to another folder, or read the object as a stream (ossget: -): %w",
		d.place(), what, fsys.Unsupported(err))
}

// place returns the folder that has the file system of the path.
func (d *Destination) place() string {
	if d.trials != nil {
		return filepath.Join(d.trials.Dir, filepath.Dir(d.work.folder))
	}
	return filepath.Dir(d.path)
}
