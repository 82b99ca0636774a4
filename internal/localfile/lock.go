package localfile

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/ossdl/ossdl/internal/fsys"
)

// ErrInUse says that another call or process is writing the destination. A DownloadPrefix in another process is noticed
// only by another DownloadPrefix into the same folder.
var ErrInUse = errors.New("destination in use")

// Lock keeps other calls and processes away from the destination until unlock is called. It must be held from before the
// checkpoint is read until after it is removed. The error is [ErrInUse] if another call or process has the lock.
//
// Two downloads of the same file may have lock files of different names, because their [Config].Base differs. So within
// this process the path itself is claimed, too.
func (d *Destination) Lock() (unlock func(), err error) {
	defer func() { err = d.NoSpace(0, err) }()
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
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("no file can be made in %s: %w", filepath.Dir(d.path), err)
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

// folderTries limits how often the folder of working files is made again because another call, which is done, removed it
// before the lock file was in it.
const folderTries = 100

// takeLockFile locks the lock file. It makes the folder of working files before, if there is to be one. systemwide reports
// whether other processes are kept away.
func (d *Destination) takeLockFile() (release func() error, systemwide bool, err error) {
	for range folderTries {
		if d.folder != "" {
			if err := d.fs.Mkdir(d.folder, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, false, err
			}
		}
		release, systemwide, err = fsys.Lock(d.fs, d.base+lockSuffix)
		if d.folder == "" || !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return release, systemwide, err
}
