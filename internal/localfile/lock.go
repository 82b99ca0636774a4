package localfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
)

// ErrInUse says that another call or process is writing the destination. A DownloadPrefix in another process is noticed
// only by another DownloadPrefix into the same folder.
var ErrInUse = errors.New("destination in use")

// Lock keeps other calls and processes away from the destination until unlock is called. It must be held from before the
// checkpoint is read until after it is removed. The error is [ErrInUse] if another call or process has the lock. Lock chooses
// the working folder and makes it, and unlock removes it unless files are left in it.
//
// Two downloads of the same file may have lock files of different names, because their [Config].Base differs. So within
// this process the path itself is claimed, too.
func (d *Destination) Lock() (unlock func(), err error) {
	defer func() { err = fsys.Refusal(d.NoSpace(0, err)) }()
	disclaim, err := d.claim()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			disclaim()
		}
	}()
	release, systemwide, err := d.takeLock()
	switch {
	case errors.Is(err, fsys.ErrLocked):
		return nil, d.inUse(d.work.lock)
	case err != nil:
		return nil, err
	case !systemwide:
		d.warnOnce(noLocks, errors.ErrUnsupported)
	}
	return func() {
		defer disclaim()
		release()
	}, nil
}

const noLocks = "the file system has no locks: other processes are not kept away"

// claim keeps other calls of this process away from the path.
func (d *Destination) claim() (disclaim func(), err error) {
	disclaim, err = fsys.Claim(d.fs, d.path)
	if errors.Is(err, fsys.ErrLocked) {
		return nil, d.errInUse()
	}
	return disclaim, err
}

// folderTries limits how often the folder of working files is made again because another call, which is done, removed it
// before the lock file was in it.
const folderTries = 100

// takeLock makes the folder of working files, if that is missing, and locks the lock file in it. systemwide reports whether
// other processes are kept away.
func (d *Destination) takeLock() (release func(), systemwide bool, err error) {
	take := d.takeShared
	if d.folders != nil {
		take = d.takeFolder
	}
	for range folderTries {
		release, systemwide, err = take()
		if !errors.Is(err, errVanished) {
			break
		}
	}
	return release, systemwide, err
}

// errVanished says that a working folder has to be chosen again.
var errVanished = errors.New("the working folder came or went, or cannot have that name")

// vanished returns err as an errVanished, too, if it says that a folder is not there.
func vanished(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errVanished, err)
	}
	return err
}

// takeShared is takeLock for a folder of working files that other downloads use as well.
func (d *Destination) takeShared() (release func(), systemwide bool, err error) {
	if err := d.makeFolder(); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, false, d.cannotMake(err)
	}
	fi, err := d.ourFile(d.work.lock)
	if err == nil && fi != nil {
		err = checkOneName(d.work.lock, fi)
	}
	if err != nil {
		return nil, false, err
	}
	unlock, systemwide, err := d.lockFile()
	if err != nil {
		return nil, false, vanished(d.cannotMake(err))
	}
	if err := d.dropSmall(d.work.other, ""); err != nil {
		d.logLeft(unlock())
		return nil, false, err
	}
	d.dropLeftTrial()
	return func() { d.logLeft(unlock()) }, systemwide, nil
}

// dropSmall removes the working file of a [Small] that a killed call left. The error is [ErrInUse] if a call has it, or the lock
// file other; see [Small.closeFirst]. An empty name is that of no file.
func (d *Destination) dropSmall(name, other string) error {
	if name == "" {
		return nil
	}
	fi, err := d.ourFile(name)
	if fi == nil || err != nil {
		return err
	}
	if closesFirst { // the lock file of a Destination is held
		return d.removeStale(name)
	}
	f, err := d.fs.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() // nothing was written
	switch err := f.TryLock(); {
	case errors.Is(err, fsys.ErrLocked):
		return d.errInUse() // the file has the object, and says nothing of its holder
	case err != nil && !errors.Is(err, errors.ErrUnsupported):
		return err
	}
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	there, err := d.fs.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !fsys.SameFile(opened, there) {
		return nil // it got the path meanwhile, or was removed
	}
	if err != nil {
		return err
	}
	if other != "" {
		if _, held, _ := fsys.Holder(d.fs, other); held {
			return d.inUse(other)
		}
	}
	return d.removeStale(name)
}

func (d *Destination) removeStale(name string) error {
	err := d.fs.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// takeFolder is takeLock for a folder that is only this destination's.
func (d *Destination) takeFolder() (release func(), systemwide bool, err error) {
	there, disclaim, err := d.chooseFolder()
	if err != nil {
		return nil, false, vanished(err)
	}
	defer func() {
		if err != nil {
			disclaim()
		}
	}()
	if !there {
		if err := d.enterFolder(); err != nil {
			return nil, false, err
		}
	}
	unlock, systemwide, err := d.lockFile()
	if err != nil {
		err = d.NoSpace(0, err) // before the removal makes room for a file
		if !there {
			d.removeFolder()
		}
		return nil, false, vanished(d.cannotMake(err))
	}
	leave := func() {
		d.logLeft(unlock())
		d.removeFolder()
	}
	err = d.checkOther()
	if err == nil && there {
		d.dropTrial()
		err = d.cannotMake(d.tryOther())
	}
	if err != nil {
		leave()
		return nil, false, err
	}
	return func() {
		leave()
		disclaim()
	}, systemwide, nil
}

// enterFolder makes the working folder. That is also the proof that files can be made in the folder of the path, where the
// rename will have to be. What access(2) says is none.
func (d *Destination) enterFolder() error {
	err := d.makeFolder()
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%w: %w", errVanished, err)
	case errors.Is(err, syscall.ENAMETOOLONG) && len(d.folders) > 1:
		d.folders = d.folders[1:]
		return fmt.Errorf("%w: %w", errVanished, err)
	}
	return d.cannotMake(err)
}

// tryOther makes the other working folder and removes it, which proves what enterFolder proves. If a kill comes in between, the
// next call that finds it removes it. The lock must be held: until then another call may be doing the same.
func (d *Destination) tryOther() error {
	for _, folder := range d.folders {
		if folder == d.work.folder {
			continue
		}
		err := d.fs.Mkdir(folder, 0o700)
		switch {
		case err == nil:
			err = d.fs.Remove(folder)
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return err
		case !errors.Is(err, fs.ErrExist):
			return err
		}
		if there, err := d.inspect(folder); err == nil && there {
			_ = d.fs.Remove(folder) // unless something is in it
		}
	}
	return nil
}

// cannotMake names the folder of the path in the error of making a file there.
func (d *Destination) cannotMake(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		dir := filepath.Dir(d.path)
		return fmt.Errorf("no file can be made in %s: %w", dir, d.withOwner(dir, err))
	}
	return err
}

// checkOther returns [ErrInUse] if a call holds the lock in the other working folder. Each call takes its own lock before it
// looks, so of two calls at least one sees the other.
func (d *Destination) checkOther() error {
	for _, folder := range d.folders {
		lock := filesIn(folder).lock
		if folder == d.work.folder {
			continue
		}
		if _, held, _ := fsys.Holder(d.fs, lock); held { // a lock that cannot be asked about is nobody's
			return d.inUse(lock)
		}
	}
	return nil
}

// lockFile locks the lock file, and says in it who does.
func (d *Destination) lockFile() (unlock func() error, systemwide bool, err error) {
	dir, err := d.fs.Lstat(filepath.Dir(d.work.folder))
	if err != nil {
		return nil, false, err
	}
	note, err := json.Marshal(thisHolder())
	if err != nil {
		return nil, false, err
	}
	return fsys.LockNamed(d.fs, d.work.lock, fsys.ModeIn(dir, fileMode), string(note)+"\n")
}

func (d *Destination) logLeft(err error) {
	if err != nil {
		d.log.Warn("lock file left behind", "error", err)
	}
}

// holder is what a lock file says of the call that holds it.
type holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Start time.Time `json:"start"` // of the call
}

// thisHolder is the note of a call that begins now.
func thisHolder() holder {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return holder{PID: os.Getpid(), Host: host, Start: time.Now().UTC().Truncate(time.Second)}
}

// errInUse returns an [ErrInUse] that does not say who has the path.
func (d *Destination) errInUse() error { return fmt.Errorf("%w: %s", ErrInUse, d.path) }

// inUse returns an [ErrInUse] that says who holds the lock, if that can be read.
func (d *Destination) inUse(lock string) error {
	note, held, err := fsys.Holder(d.fs, lock)
	var by holder
	if err != nil || !held || json.Unmarshal([]byte(note), &by) != nil || by.PID == 0 {
		return d.errInUse()
	}
	return fmt.Errorf("%w: %s, by process %d on %q since %s", ErrInUse, d.path, by.PID, by.Host, by.Start.Format(time.RFC3339))
}
