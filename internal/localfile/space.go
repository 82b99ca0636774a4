package localfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"

	"github.com/ossdl/ossdl/internal/fsys"
)

// ErrNoSpace says that the disk, or the caller's quota on it, is full. The same call resumes once there is room.
var ErrNoSpace = errors.New("not enough disk space")

// ErrTooLarge says that the file would be longer than the file system, or the limit of the process (ulimit -f), allows.
var ErrTooLarge = errors.New("file too large for its destination")

// noSpaceError is an ErrNoSpace with its figures.
type noSpaceError struct {
	missing int64 // bytes still to be written; 0: none, or not known yet
	free    int64 // bytes that the file system has left; -1: unknown
	noFiles bool  // the file system takes no more files, however small
	err     error // the operating system's, if it was asked to write
}

func (e *noSpaceError) Error() string {
	msg := ErrNoSpace.Error()
	if e.missing > 0 {
		msg += fmt.Sprintf(": %d bytes are missing", e.missing)
	}
	if e.free >= 0 {
		msg += fmt.Sprintf(", %d are free", e.free)
	}
	if e.noFiles {
		msg += ", and no more files can be made: the inodes are used up"
	}
	if e.err != nil {
		msg += ": " + e.err.Error()
	}
	return msg
}

func (e *noSpaceError) Unwrap() []error {
	if e.err == nil {
		return []error{ErrNoSpace}
	}
	return []error{ErrNoSpace, e.err}
}

// NoSpace turns the error of a full disk or an exhausted quota into an [ErrNoSpace] with its figures, for the file system
// of the folder dir. missing is how many bytes were still to be written. A nil f is a file system that does not say how
// much is free. Other errors are returned as they are.
func NoSpace(f fsys.FS, dir string, missing int64, err error) error {
	if !fsys.IsNoSpace(err) || errors.Is(err, ErrNoSpace) {
		return err
	}
	return &noSpaceError{missing: missing, free: freeSpace(f, dir), noFiles: noFilesLeft(f, dir), err: err}
}

// noFilesLeft reports whether a file system is known to take no more files.
func noFilesLeft(f fsys.FS, dir string) bool {
	if f == nil {
		return false
	}
	v, err := f.Volume(dir)
	return err == nil && v.Files == 0
}

// tooLargeError is an ErrTooLarge with its figures.
type tooLargeError struct {
	size, most int64 // bytes; 0: not known
	err        error // the operating system's, if it was asked to write
}

func (e *tooLargeError) Error() string {
	msg := ErrTooLarge.Error()
	if e.size > 0 {
		msg += fmt.Sprintf(": it has %d bytes, and at most %d are allowed there by the file system or ulimit -f", e.size, e.most)
	}
	if e.err != nil {
		msg += ": " + e.err.Error()
	}
	return msg
}

func (e *tooLargeError) Unwrap() []error {
	if e.err == nil {
		return []error{ErrTooLarge}
	}
	return []error{ErrTooLarge, e.err}
}

// tooLarge turns the system's error for a file that is too large into an [ErrTooLarge]. Other errors are returned as they are.
func tooLarge(err error) error {
	if !fsys.IsTooLarge(err) || errors.Is(err, ErrTooLarge) {
		return err
	}
	return &tooLargeError{err: err}
}

// checkSize returns an [ErrTooLarge] if a file of size bytes is known to be too large for its place.
func (d *Destination) checkSize(size int64) error {
	v, err := d.fs.Volume(filepath.Dir(d.path))
	if err != nil || size <= v.MaxSize {
		return nil // the writes will say
	}
	return &tooLargeError{size: size, most: v.MaxSize}
}

// freeSpace returns how many bytes are free; -1: unknown.
func freeSpace(f fsys.FS, dir string) int64 {
	if f == nil {
		return -1
	}
	free, err := f.Free(dir)
	if err != nil {
		return -1
	}
	return free
}

// NoSpace turns the error of a full disk into an [ErrNoSpace] with its figures, whether the disk had no room for the data,
// the lock file or a rename. missing is how many bytes were still to be written.
func (d *Destination) NoSpace(missing int64, err error) error {
	return NoSpace(d.fs, filepath.Dir(d.path), missing, err)
}

const (
	// ballastSize is how much longer the partial file is than its data until the end. It is as much as a checkpoint
	// takes, and a little for folders. On a full disk the ballast makes room for the checkpoint. Without it everything
	// since the last checkpoint would be lost.
	ballastSize = 2 * CheckpointLimit
	// ballastFrom is the size of the data below which there is no ballast: downloading again costs as little.
	ballastFrom = 1 << 20
)

// prepare reserves the space for the data, and then the ballast. It reserves nothing if nobody knows how much is needed.
func (p *partial) prepare(size, missing int64) error {
	if size < 0 {
		p.back.begin(p.d.backlog, math.MaxInt64)
		return nil
	}
	if err := p.d.checkSize(size); err != nil {
		return err
	}
	if err := p.allocate(size, missing); err != nil {
		return p.d.explain("set the length of a file", tooLarge(err))
	}
	p.back.begin(p.d.backlog, missing)
	p.reserveBallast(size)
	return nil
}

// allocate makes the file as long as its data, and reserves its blocks or decides when that is done.
func (p *partial) allocate(size, missing int64) error {
	fi, err := p.dropOldBallast(size)
	if err != nil {
		return err
	}
	if p.d.sparse {
		return p.file.Truncate(size)
	}
	need := blocksNeeded(size, fsys.Allocated(fi), missing)
	free := int64(-1)
	if need > 0 {
		free = freeSpace(p.d.fs, filepath.Dir(p.d.path))
	}
	if free == 0 {
		free = -1 // so say also file systems that do not know, and writes succeed; a full disk refuses the reservation
	}
	switch choose(size, need, free, p.adopted) {
	case reserveNone:
		p.reserved.Store(true)
		return p.file.Truncate(size)
	case reserveBeside:
		p.toReserve, p.written = size, make(chan struct{})
		return p.file.Truncate(size)
	case reserveRefused:
		return &noSpaceError{missing: missing, free: free}
	}
	return p.reserveNow(size, fi.Size(), need, missing)
}

// blocksNeeded returns for how many bytes a file of size bytes still needs blocks, if it has blocks for held of them (-1: unknown)
// and missing are still to be written. What a file system compresses has fewer blocks than bytes.
func blocksNeeded(size, held, missing int64) int64 {
	if held < 0 {
		return missing
	}
	return min(size-held, missing)
}

// dropOldBallast cuts off the ballast of an earlier run, whose blocks do not count as data. It returns what the file is
// after that.
func (p *partial) dropOldBallast(size int64) (fs.FileInfo, error) {
	fi, err := p.file.Stat()
	if err != nil || fi.Size() <= size {
		return fi, err
	}
	if err := p.file.Truncate(size); err != nil {
		return nil, err
	}
	return p.file.Stat()
}

// reservation says when the blocks of a partial file are reserved.
type reservation int

const (
	reserveNone    reservation = iota // never: it has them all
	reserveNow                        // before the first write
	reserveBeside                     // in parallel with the writes
	reserveRefused                    // there is no room for them
)

// choose decides when to reserve the blocks of a file of size bytes, which needs blocks for need of them. free is what the
// file system has left, in bytes; -1: unknown. adopted says that an earlier run made the file.
func choose(size, need, free int64, adopted bool) reservation {
	switch {
	case need <= 0:
		return reserveNone
	case free < 0:
		return reserveNow // the system must say, before the first byte, whether there is room
	case free < need && adopted:
		// The system may reserve some blocks before it finds that they do not suffice. These could not be given back: they
		// fill holes of a file that has data behind them.
		return reserveRefused
	case free >= need && size > fsys.ReserveStep:
		return reserveBeside // there is room, so no write needs to wait
	}
	return reserveNow
}

// reserveNow reserves all blocks before the first byte is written, so that the system says whether there is room. The file
// is length bytes long and needs blocks for need more.
func (p *partial) reserveNow(size, length, need, missing int64) error {
	err := p.file.Reserve(0, size)
	if err == nil {
		p.reserved.Store(true)
		return nil
	}
	// What was reserved before the error is given back.
	if terr := p.file.Truncate(length); terr != nil {
		p.d.log.Warn("partial file keeps reserved space", "error", terr)
	}
	if isFull(err) {
		return err
	}
	p.cannotReserve(err)
	if free := freeSpace(p.d.fs, filepath.Dir(p.d.path)); free > 0 && free < need {
		return &noSpaceError{missing: missing, free: free}
	}
	return p.file.Truncate(size)
}

// isFull reports whether an error of a reservation would meet the writes as well. Every other error is one of the many ways in
// which file systems say that they cannot reserve.
func isFull(err error) bool { return fsys.IsNoSpace(err) || fsys.IsTooLarge(err) }

// cannotReserve says once that the data has no reserved space.
func (p *partial) cannotReserve(err error) {
	p.d.warnOnce("no space reserved: the disk may become full during the download", err)
}

// reserve allocates what allocate left to it, until ctx is done. It does so in steps, so that no write waits for long, and begins
// after the first write, which would wait for a whole step. After an error the blocks that it has stay: the data that is to fill
// them is on its way.
func (p *partial) reserve(ctx context.Context) error {
	if p.toReserve == 0 {
		return nil
	}
	select {
	case <-p.written:
	case <-ctx.Done():
	}
	for off := int64(0); off < p.toReserve; off += fsys.ReserveStep {
		if ctx.Err() != nil {
			return nil
		}
		err := p.file.Reserve(off, min(fsys.ReserveStep, p.toReserve-off))
		if isFull(err) {
			return tooLarge(err)
		}
		if err != nil {
			p.cannotReserve(err) // there was room when allocate looked
			return nil
		}
	}
	p.reserved.Store(true)
	return nil
}

// reserveBallast adds the ballast. There is none if the disk has no room for it, or if the system would fill everything
// before it with blocks or with zeros.
func (p *partial) reserveBallast(size int64) {
	if p.d.checkpoint == "" || size < ballastFrom {
		return
	}
	p.ballastAt = size
	err := errors.ErrUnsupported
	if !p.d.sparse {
		err = p.file.Reserve(size, ballastSize)
	}
	if err != nil && !isFull(err) && fsys.Holes {
		_, err = p.file.WriteAt(make([]byte, ballastSize), size)
	}
	if err != nil {
		p.d.log.Info("no ballast reserved: the checkpoint may fail on a full disk", "error", err)
	}
}

// freeBallast cuts the ballast off for a checkpoint. For one that is not the last it does so only if all blocks of the
// data are allocated.
func (p *partial) freeBallast(last bool) (freed bool) {
	if p.ballastAt == 0 || !last && !p.reserved.Load() {
		return false
	}
	return p.cutBallast() == nil
}

// cutBallast makes the file as long as its data.
func (p *partial) cutBallast() error {
	if p.ballastAt == 0 {
		return nil
	}
	size := p.ballastAt
	p.ballastAt = 0
	return p.file.Truncate(size)
}
