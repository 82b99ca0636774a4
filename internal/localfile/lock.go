package localfile

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/ossdl/ossdl/internal/fsys"
)

// ErrInUse: the destination is being written by another call or process. Of a DownloadPrefix in another process, only
// another DownloadPrefix into the same folder knows.
var ErrInUse = errors.New("destination in use")

// Lock keeps other calls and processes away from the destination until unlock. It must be held from before the checkpoint
// is read until after it is removed. ErrInUse says that somebody else has it.
//
// A Download and a DownloadPrefix of the same file have lock files of different names. So within this process the path
// itself is claimed, too.
func (d *Destination) Lock() (unlock func(), err error) {
	defer func() { err = d.NoSpace(err, 0) }()
	disclaim, err := fsys.Claim(d.fs, d.path)
	if errors.Is(err, fsys.ErrLocked) {
		return nil, fmt.Errorf("%w: %s", ErrInUse, d.path)
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			disclaim()
		}
	}()
	release, systemwide, err := d.takeLockFile()
	switch {
	case errors.Is(err, fsys.ErrLocked):
		return nil, fmt.Errorf("%w: %s", ErrInUse, d.path)
	case err != nil:
		return nil, err
	case !systemwide:
		d.log.Warn("the file system has no locks: other processes are not kept away", "path", d.path)
	}
	return func() {
		defer disclaim()
		if err := release(); err != nil {
			d.log.Warn("lock file left behind", "error", err)
		}
	}, nil
}

// folderTries bounds how often the folder of working files is made again because another call removed it before the lock
// file was in it. A call does so when it is done.
const folderTries = 100

func (d *Destination) takeLockFile() (release func() error, systemwide bool, err error) {
	for range folderTries {
		if d.folder != "" {
			if err := d.fs.Mkdir(d.folder, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, false, err
			}
		}
		release, systemwide, err = fsys.Lock(d.fs, d.base+LockSuffix)
		if d.folder == "" || !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return release, systemwide, err
}
