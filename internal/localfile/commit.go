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

// Commit makes the verified content, of size bytes, the file at the path. modified is its modification time; zero: the
// time of the last write. Another process sees the old file or the complete new one.
func (d *Destination) Commit(size int64, modified time.Time) error {
	if err := d.content.putInPlace(size, modified); err != nil {
		return err
	}
	// A power loss after the return must not bring the old file back.
	if err := d.fs.SyncDir(filepath.Dir(d.path)); err != nil {
		return err
	}
	// Last: until the rename is on disk a crash may leave the partial file, and it needs its checkpoint.
	d.DropCheckpoint()
	d.dropStray()
	return nil
}

// putInPlace syncs the partial file and renames it to the path.
func (p *partial) putInPlace(size int64, modified time.Time) error {
	if err := p.cutBallast(); err != nil {
		return err
	}
	// The rename must not be on disk before the bytes are.
	if err := p.sync(); err != nil {
		return err
	}
	ours, err := p.file.Stat()
	if err != nil {
		return err
	}
	// Some network file systems report only here that they could not write.
	if err := p.close(); err != nil {
		return err
	}
	// The file is closed by now: Windows sets the time once more when a writer closes it.
	if !modified.IsZero() {
		if err := p.d.fs.Chtimes(p.name(), modified); err != nil {
			p.d.log.Warn("could not set modification time", "path", p.d.path, "error", err)
		}
	}
	// The last look: what is swapped in after it gets the path.
	if err := p.d.isAt(p.name(), ours, size); err != nil {
		return err
	}
	return p.d.fs.Rename(p.name(), p.d.path)
}

// isAt returns an error unless the file ours is at name and has this size.
func (d *Destination) isAt(name string, ours fs.FileInfo, size int64) error {
	there, err := d.fs.Lstat(name)
	if err != nil {
		return err
	}
	if !fsys.SameFile(ours, there) || ours.Size() != size {
		return fmt.Errorf("%s was changed by somebody else during the download", name)
	}
	return nil
}

// sync puts the data on stable storage, see destination.sync.
func (p *partial) sync() error {
	err := p.file.Sync()
	p.failedSync = p.failedSync || err != nil
	return err
}

func (p *partial) syncFailed() bool { return p.failedSync }

// discard closes and removes the partial file.
func (p *partial) discard() {
	if err := p.close(); err != nil {
		p.d.log.Warn("closing partial file failed", "error", err)
	}
	p.d.removePartial()
}

func (p *partial) close() error {
	if p.file == nil {
		return nil
	}
	f := p.file
	p.file = nil
	return f.Close()
}

func (d *Destination) removePartial() {
	if err := d.fs.Remove(d.base + PartSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.log.Warn("partial file left behind", "error", err)
	}
}

// RemoveLeftovers removes the working files that a killed call left beside a file that is complete by now. cfg has a base.
// If another call is writing the file, the working files are its own and stay.
func RemoveLeftovers(cfg Config) error {
	cfg.KeepPartial = true // the call that was killed may have kept a checkpoint
	d := newDestination(cfg)
	left := slices.ContainsFunc([]string{PartSuffix, CheckpointSuffix, LockSuffix}, func(suffix string) bool {
		_, err := d.fs.Lstat(d.base + suffix)
		return err == nil
	})
	if !left {
		return nil
	}
	unlock, err := d.Lock()
	if err != nil {
		return nil // in use
	}
	defer unlock()
	// The killed call may have come to its rename and no further. A power loss must not undo the rename of a file that is
	// reported as complete.
	if err := d.fs.SyncDir(filepath.Dir(d.path)); err != nil {
		return err
	}
	d.removePartial()
	d.DropCheckpoint()
	return nil
}
