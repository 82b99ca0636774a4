package localfile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ossdl/ossdl/internal/fsys"
)

// CheckpointLimit is the most that a checkpoint may have, in bytes. The ballast makes room for that much.
const CheckpointLimit = 64 << 10

const (
	checkpointMode      = 0o600
	checkpointReadLimit = 1 << 20 // bytes; so a hostile checkpoint cannot exhaust memory
)

// HasCheckpoint reports whether the destination keeps a checkpoint.
func (d *Destination) HasCheckpoint() bool { return d.checkpoint != "" }

// CheckpointPath returns the path of the checkpoint, for messages; "" if none is kept.
func (d *Destination) CheckpointPath() string { return d.checkpoint }

// NameInCheckpoint returns what a checkpoint must call this destination: its path relative to the checkpoint's folder.
func (d *Destination) NameInCheckpoint() string { return relativeTo(d.checkpoint, d.path) }

// ReadCheckpoint returns the checkpoint, or [fs.ErrNotExist] if there is none. [fsys.ErrNotRegular] and [fsys.ErrTooLarge]
// say that what is there is no checkpoint, and that Save may replace it.
func (d *Destination) ReadCheckpoint() ([]byte, error) {
	if d.checkpoint == "" {
		return nil, fs.ErrNotExist
	}
	data, err := fsys.ReadFile(d.fs, d.checkpoint, checkpointReadLimit)
	if errors.Is(err, fsys.ErrNotRegular) {
		if fi, lerr := d.fs.Lstat(d.checkpoint); lerr == nil && fi.IsDir() {
			return nil, fmt.Errorf("checkpoint %s is a folder", d.checkpoint)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("checkpoint: %w", d.NoSpace(0, err))
	}
	return data, err
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
	err := fsys.WriteFile(d.fs, d.checkpoint, data, checkpointMode)
	if fsys.IsNoSpace(err) && d.content.freeBallast(last) {
		err = fsys.WriteFile(d.fs, d.checkpoint, data, checkpointMode)
	}
	return err
}

// DropCheckpoint removes the checkpoint, and its temporary if a run was killed while writing it. A checkpoint without its
// file costs the next run only the reading of it, so a failure is logged and no more.
func (d *Destination) DropCheckpoint() {
	if d.checkpoint == "" {
		return
	}
	for _, name := range []string{d.checkpoint, d.checkpoint + fsys.TempSuffix} {
		if err := d.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.log.Warn("checkpoint left behind", "error", err)
		}
	}
}

// dropStray removes the checkpoint that an earlier call with other options left at the default place, because the file that
// it describes is gone. Anything there that is not a checkpoint of this destination is left alone.
func (d *Destination) dropStray() {
	stray := d.base + checkpointSuffix
	if d.checkpoint == stray {
		return
	}
	data, err := fsys.ReadFile(d.fs, stray, checkpointReadLimit)
	if err != nil || !d.isCheckpointOf(data, relativeTo(stray, d.path)) {
		return
	}
	if err := d.fs.Remove(stray); err != nil {
		d.log.Warn("checkpoint left behind", "error", err)
	}
}

// checkpointPath returns the path of the checkpoint that cfg asks for. It makes the folder for checkpoints, if there is one.
func (d *Destination) checkpointPath(cfg Config) (string, error) {
	switch {
	case cfg.CheckpointDir != "":
		if err := d.fs.Mkdir(cfg.CheckpointDir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("checkpoint folder: %w", err)
		}
		dir, err := d.fs.Resolve(cfg.CheckpointDir) // the next call may use another name for it
		if err != nil {
			return "", fmt.Errorf("checkpoint folder: %w", err)
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%q\n", cfg.Source, d.path))
		return filepath.Join(dir, hex.EncodeToString(sum[:16])+checkpointSuffix), nil
	case cfg.Checkpoint != "":
		resolved, err := d.fs.Resolve(cfg.Checkpoint)
		if err != nil {
			return "", fmt.Errorf("checkpoint: %w", err)
		}
		for _, taken := range []string{d.path, d.base + partSuffix, d.base + lockSuffix} {
			// Some file systems are case-insensitive.
			if strings.EqualFold(resolved, taken) || strings.EqualFold(resolved+fsys.TempSuffix, taken) {
				return "", fmt.Errorf("checkpoint %s is a file of the download itself", cfg.Checkpoint)
			}
		}
		return resolved, nil
	}
	return d.checkpoint, nil
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
