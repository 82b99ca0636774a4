package tree

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
)

// times is how the files of a folder keep the modification time that is set.
type times int

const (
	unknownTimes times = iota
	exactTimes         // to the second at least
	coarseTimes        // to two seconds, as FAT does, which also keeps local time
	noTimes            // not at all: setting it is refused, or forgotten without an error
	unclear            // it could not be found out
)

// coarseStep is the step of the times of FAT, the coarsest there is.
const coarseStep = 2 * time.Second

// probeName is the file in a folder for working files whose time is set to find out what becomes of it. All calls set the same
// time, so several may do it at once.
const probeName = "times"

// probeTime is the time that is set: an odd second, not of today, that every file system can hold.
var probeTime = time.Date(2001, 2, 3, 4, 5, 7, 0, time.UTC)

// SameTime reports whether is, the modification time of the file name, is what the file system makes of want, to the second:
// times of OSS are no finer. sure is false if the times cannot say that the file is another one, because the file system does
// not keep them well enough.
func (f *Folder) SameTime(name string, is, want time.Time) (same, sure bool) {
	if f.readOnly { // it cannot be found out how times are kept
		equal := is.Unix() == want.Unix()
		return equal, equal || is.Sub(want).Abs() >= coarseStep
	}
	return sameTime(f.timesOf(name), is, want)
}

// sameTime is SameTime for a file whose mount keeps times in some way.
func sameTime(kept times, is, want time.Time) (same, sure bool) {
	equal := is.Unix() == want.Unix()
	switch kept {
	case exactTimes:
		return equal, true
	case coarseTimes:
		// Further away it may be another time zone than when the file was written.
		near := is.Sub(want).Abs() < coarseStep
		return near, near
	case unclear:
		return equal, equal
	}
	return false, false // equal times mean that the object was replaced in the second in which the file was made
}

// timesOf returns how the mount of the file name keeps times. That is found out once.
func (f *Folder) timesOf(name string) times {
	work, err := f.WorkDir(name)
	if err != nil {
		return unclear
	}
	return f.timesIn(work)
}

// timesIn is timesOf for the files whose working files are in a folder.
func (f *Folder) timesIn(work string) times {
	f.learning.Lock()
	defer f.learning.Unlock()
	t := f.times[work]
	if t == unknownTimes {
		t = f.learnTimes(work)
		f.times[work] = t
	}
	return t
}

// learnTimes sets a time, and looks at what became of it.
func (f *Folder) learnTimes(work string) times {
	var is time.Time
	var err error
	for range workDirTries { // another call that has ended may remove the folder
		if is, err = f.tryTime(work); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	dir := filepath.Join(f.dir, filepath.FromSlash(path.Dir(work)))
	switch d := is.Sub(probeTime).Abs(); {
	case err == nil && is.Unix() == probeTime.Unix():
		return exactTimes
	case err != nil && !refusesTimes(err):
		f.log.Info("not found out how the file system keeps times", "dir", dir, "error", err)
		return unclear
	case err == nil && d < coarseStep:
		f.log.Info("the file system rounds times; files of the same size and another time are compared by checksum", "dir", dir)
		return coarseTimes
	}
	f.log.Warn("the file system does not keep times; files of the same size are compared by checksum", "dir", dir, "error", err)
	return noTimes
}

// tryTime returns the time that a file in the folder has after probeTime was set. It returns [fs.ErrNotExist] if another call
// removed the file or the folder meanwhile.
func (f *Folder) tryTime(work string) (is time.Time, err error) {
	if _, err := f.makeWorkDir(work); err != nil {
		return time.Time{}, err
	}
	name := filepath.Join(filepath.FromSlash(work), probeName)
	file, err := f.fs.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return time.Time{}, err
	}
	// Closed first: Windows sets the time once more when a writer closes the file.
	if err = file.Close(); err == nil {
		is, err = fsys.SetTime(f.names.FS, name, probeTime)
	}
	if rerr := f.fs.Remove(name); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		f.log.Info("working file left behind", "error", rerr)
	}
	return is, err
}

// refusesTimes reports whether an error says that no time can be set, to a file of one's own.
func refusesTimes(err error) bool {
	return errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported)
}
