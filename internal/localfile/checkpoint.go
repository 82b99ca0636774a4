package localfile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ossdl/ossdl/internal/fsys"
)

// CheckpointLimit is the most that a checkpoint may have, in bytes. The ballast makes room for that much.
const CheckpointLimit = 64 << 10

const checkpointReadLimit = 1 << 20 // bytes; so a hostile checkpoint cannot exhaust memory

// HasCheckpoint reports whether the destination keeps a checkpoint.
func (d *Destination) HasCheckpoint() bool { return d.checkpoint != "" }

// CheckpointPath returns the path of the checkpoint, for messages; "" if none is kept.
func (d *Destination) CheckpointPath() string { return d.checkpoint }

// NameInCheckpoint returns what a checkpoint must call this destination: its path relative to the checkpoint's folder.
func (d *Destination) NameInCheckpoint() string { return relativeTo(d.checkpoint, d.path) }

// ReadCheckpoint returns the checkpoint, or [fs.ErrNotExist] if there is none. [fsys.ErrTooLarge] says that what is there can
// be no complete one, and that Save may replace it. What is no checkpoint of ours is another error, and must not be replaced.
func (d *Destination) ReadCheckpoint() ([]byte, error) {
	if d.checkpoint == "" {
		return nil, fs.ErrNotExist
	}
	data, err := d.readOurs()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("checkpoint: %w", d.withOwner(filepath.Dir(d.checkpoint), d.NoSpace(0, err)))
	}
	return data, err
}

func (d *Destination) readOurs() ([]byte, error) {
	fi, err := d.ourFile(d.checkpoint)
	if err == nil && fi == nil {
		err = fs.ErrNotExist
	}
	if err == nil {
		err = d.checkCheckpoint(d.checkpoint)
	}
	if err != nil {
		return nil, err
	}
	return fsys.ReadFile(d.fs, d.checkpoint, checkpointReadLimit)
}

// Saves reports whether there is anything to save: not if no checkpoint is kept, nor if the file is already at the path.
func (d *Destination) Saves() bool {
	_, there := d.content.(*inPlace)
	return d.checkpoint != "" && !there
}

// Save replaces the checkpoint with data, at most [CheckpointLimit] bytes. last says that it is the last one of an attempt.
// On a full disk the last one gets the ballast in any case. An earlier one gets it only if all blocks of the data are
// allocated: otherwise data still to come would take the room, and the last save would find none.
func (d *Destination) Save(data []byte, last bool) error {
	dir, err := d.fs.Lstat(d.placeOf(d.checkpoint))
	if err != nil {
		return err
	}
	mode := fsys.ModeIn(dir, fileMode)
	err = fsys.WriteFile(d.fs, d.checkpoint, data, mode)
	if fsys.IsNoSpace(err) && d.content.freeBallast(last) {
		err = fsys.WriteFile(d.fs, d.checkpoint, data, mode)
	}
	d.syncNames()
	return err
}

// placeOf returns the folder that a working file is in, or, for one in the working folder, the folder that this is in.
func (d *Destination) placeOf(name string) string {
	dir := filepath.Dir(name)
	if dir == d.work.folder {
		dir = filepath.Dir(dir)
	}
	return dir
}

// syncNames makes the names of the working folder and the partial file durable, once: a power loss takes a file whose folder is
// not on disk. It only makes more of the download survive, so a failure is logged and no more.
func (d *Destination) syncNames() {
	if d.folders == nil || d.folderSynced {
		return
	}
	d.folderSynced = true
	for _, dir := range []string{d.work.folder, filepath.Dir(d.work.folder)} {
		if err := d.fs.SyncDir(dir); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			d.log.Info("folder not synced: a power loss may cost what was downloaded", "error", err)
			return
		}
	}
}

// DropCheckpoint removes the checkpoint, the recent saves, and the checkpoint's temporary if a run was killed while writing it.
// A checkpoint without its file costs the next run only the reading of it, so a failure is logged and no more.
func (d *Destination) DropCheckpoint() {
	d.DropRecent() // it is of no use without the checkpoint
	if d.checkpoint == "" {
		return
	}
	for _, name := range []string{d.checkpoint, fsys.TempName(d.checkpoint)} {
		if err := d.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("checkpoint left behind", "error", err)
		}
	}
}

// Discard removes what an earlier call has left of a download that is not needed any more. The lock must be held, and there must
// be no attempt.
func (d *Destination) Discard() {
	if fi, err := d.ourFile(d.work.data); err == nil && fi != nil {
		d.removePartial()
	}
	if d.checkpoint != "" && d.checkCheckpoint(d.checkpoint) == nil {
		d.DropCheckpoint()
	}
	d.DropRecent() // also where this call keeps no checkpoint
	d.dropStray()
}

// dropStray removes the checkpoint that an earlier call with other options left at the default place, because the file that
// it describes is gone. Anything there that is not a checkpoint is left alone.
func (d *Destination) dropStray() {
	stray := d.work.checkpoint
	if d.checkpoint == stray {
		return
	}
	if fi, err := d.ourFile(stray); err != nil || fi == nil || d.checkCheckpoint(stray) != nil {
		return
	}
	if err := d.fs.Remove(stray); err != nil {
		d.log.Warn("checkpoint left behind", "error", err)
	}
}

// placeCheckpoint sets the path of the checkpoint to the one that cfg asks for. It makes the folder for checkpoints, if there is
// one.
func (d *Destination) placeCheckpoint(cfg Config) error {
	switch {
	case cfg.CheckpointDir != "":
		dir, err := fsys.MakeFolder(d.fs, cfg.CheckpointDir, 0o700) // resolved, as the next call may use another name for it
		if err != nil {
			return fmt.Errorf("checkpoint folder: %w", err)
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%q\n", cfg.Source, d.path))
		d.checkpoint, d.ownCheckpoint = filepath.Join(dir, hex.EncodeToString(sum[:16])+checkpointSuffix), true
	case cfg.Checkpoint != "":
		resolved, err := d.fs.Resolve(cfg.Checkpoint)
		if err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		if resolved == d.folders[0] { // the name that the SDK's users give it, and that of the folder which has it by default
			return nil
		}
		if d.isWorking(resolved) || d.isWorking(fsys.TempName(resolved)) {
			return fmt.Errorf("checkpoint %s is a file of the download itself", cfg.Checkpoint)
		}
		d.checkpoint, d.ownCheckpoint = resolved, true
	}
	return nil
}

// isWorking reports whether a file is the path or a working folder, or in one. Some file systems are case-insensitive.
func (d *Destination) isWorking(name string) bool {
	if strings.EqualFold(name, d.path) {
		return true
	}
	return slices.ContainsFunc(d.folders, func(folder string) bool {
		return strings.EqualFold(name, folder) || strings.EqualFold(filepath.Dir(name), folder)
	})
}

// relativeTo returns path as seen from the folder of the checkpoint cp, so that both can be moved together.
func relativeTo(cp, path string) string {
	if rel, err := filepath.Rel(filepath.Dir(cp), path); err == nil {
		path = filepath.ToSlash(rel)
	}
	if !utf8.ValidString(path) {
		return strconv.Quote(path) // JSON cannot hold it as it is
	}
	return path
}
