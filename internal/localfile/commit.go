package localfile

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
)

// Commit makes the verified content, of size bytes, the file at the path. modified is its modification time; zero means the
// time of the last write. Another process sees the old file or the complete new one. After an error that is so, too, and
// Abandon must be called.
//
// durable reports whether a power loss leaves the file as it is. It does not if the file system cannot sync, if the folder could not
// be synced after the rename, or with [Destination.FolderMayGo]. That is no error: the file is in place, and every later call would
// end the same way.
func (d *Destination) Commit(size int64, modified time.Time) (durable bool, err error) {
	synced, err := d.content.putInPlace(size, modified)
	if err != nil {
		return false, err
	}
	// A power loss after the return must not bring the old file back.
	named, err := d.syncFolder()
	if err != nil {
		return false, err
	}
	// Last: until the rename is on disk a crash may leave the partial file, and it needs its checkpoint.
	d.DropCheckpoint()
	d.dropStray()
	return synced && named && !d.folderMayGo, nil
}

// UseMode makes Commit give the file these permissions, rather than those of a file that is made there, or replaces the one at the
// path.
func (d *Destination) UseMode(mode fs.FileMode) { d.mode, d.hasMode = mode.Perm(), true }

// UseOwner makes Commit give the file to this user and this group; -1: to the one that it would belong to anyway.
func (d *Destination) UseOwner(uid, gid int) { d.uid, d.gid, d.hasOwner = uid, gid, true }

// RemoveLeftovers removes the working files that a killed call left for a file that is complete by now. cfg must have a
// Base. If another call is writing the file, the working files belong to that call and stay. durable is false if the killed call
// may have got as far as its rename, and a power loss may undo that.
func RemoveLeftovers(cfg Config) (durable bool, err error) {
	cfg.KeepPartial = true // the call that was killed may have kept a checkpoint
	d := newDestination(cfg)
	if !cfg.anyLeft(d.work.data, d.work.checkpoint, d.work.recent, d.work.lock, d.work.other, d.work.trial, d.work.moved) {
		return true, nil
	}
	unlock, err := d.Lock()
	if err != nil {
		return true, nil // in use, or not ours
	}
	defer unlock()
	durable, err = d.syncFolder() // before the leftovers go, which show that the file may need it
	if err != nil {
		return false, err
	}
	for _, name := range []string{d.work.data, d.work.checkpoint} {
		if _, err := d.ourFile(name); err != nil {
			return false, err
		}
	}
	d.removePartial()
	d.DropCheckpoint()
	d.dropTrial()
	return durable, nil
}

// CanResume reports whether an earlier call may have left something of the file that is worth continuing. cfg must have a Base.
func CanResume(cfg Config) bool {
	if cfg.AreLeft && len(cfg.Left) == 0 {
		return false
	}
	w := filesAt(cfg.Folder, cfg.Base)
	return cfg.anyLeft(w.data, w.checkpoint)
}

// anyLeft reports whether one of the working files may be of an earlier call.
func (c *Config) anyLeft(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		if c.AreLeft {
			_, left := c.Left[filepath.Base(name)]
			return left
		}
		_, err := c.FS.Lstat(name)
		return err == nil
	})
}

// syncFolder makes the names in the path's folder durable, and reports whether they are. A failure is logged, once. It is an error
// only if the folder is no longer the one at its name: then the file is not at the path.
func (d *Destination) syncFolder() (durable bool, err error) {
	err = d.fs.SyncDir(filepath.Dir(d.path))
	if errors.Is(err, fsys.ErrMoved) {
		return false, err
	}
	if err != nil {
		d.warnOnce("the folder could not be synced: a power loss may undo the rename of the file", err)
	}
	return err == nil, nil
}

// isAt returns an error unless the file ours is at name and has this size.
func (d *Destination) isAt(name string, ours fs.FileInfo, size int64) error {
	there, err := d.fs.Lstat(name)
	if err != nil {
		return err
	}
	if !fsys.SameFile(ours, there) || ours.Size() != size {
		return changedMeanwhile(name)
	}
	return nil
}

func changedMeanwhile(name string) error {
	return fmt.Errorf("%s was changed by another program during the download", name)
}

// removePartial removes the partial file. A failure is logged and no more.
func (d *Destination) removePartial() {
	if err := d.fs.Remove(d.work.data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn("partial file left behind", "error", err)
	}
}
