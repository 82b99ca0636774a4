package localfile

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
)

// ErrNotOurs says that the file at the path is not what the checkpoint says. It may be any file, so it is not written into,
// and the download starts over.
var ErrNotOurs = errors.New("the file at the path is not what the checkpoint says")

// inPlace is the file at the path itself, completed by an earlier run that was killed between its rename and the removal of
// its checkpoint. The checkpoint's claims are verified as always. The file is read, but never written.
type inPlace struct {
	d    *Destination
	file fsys.File // nil once closed
}

// adoptInPlace opens the file at the path if it is length bytes long.
func (d *Destination) adoptInPlace(length int64) bool {
	f, err := d.fs.OpenFile(d.path, os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	if !d.isOursOf(f, length) {
		f.Close()
		return false
	}
	d.content = &inPlace{d: d, file: f}
	return true
}

// isOursOf reports whether an open file, that at the path, is known to have this size and to be ours. Another user's file may
// be changed by that user once it has been verified.
func (d *Destination) isOursOf(f fsys.File, size int64) bool {
	fi, err := f.Stat()
	return err == nil && fi.Size() == size && d.checkOwner(d.path, fi) == nil
}

func (p *inPlace) ReadAt(b []byte, off int64) (int, error) { return p.file.ReadAt(b, off) }

// WriteAt refuses: a range that must be written is one that the file does not hold.
func (p *inPlace) WriteAt([]byte, int64) (int, error) { return 0, ErrNotOurs }

func (p *inPlace) prepare(int64, int64) error { return nil }

func (p *inPlace) reserve(context.Context) error { return nil }

func (p *inPlace) sync() error { return nil }

func (p *inPlace) syncFailed() bool { return false }

func (p *inPlace) writeBack(context.Context) error { return nil }

func (p *inPlace) freeBallast(bool) bool { return false }

// putInPlace has nothing to move. The call that did so synced the bytes first, if the file system can do that.
func (p *inPlace) putInPlace(size int64, _ time.Time) (synced bool, err error) {
	err = p.file.Sync()
	// Some systems sync only a file that is open for writing.
	if err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
		return false, err
	}
	return err == nil, p.confirmInPlace(size)
}

// confirmInPlace returns an error unless the file that was verified is still at the path, with all its bytes. It closes the
// file.
func (p *inPlace) confirmInPlace(size int64) error {
	ours, err := p.file.Stat()
	if err == nil {
		err = p.d.isAt(p.d.path, ours, size)
	}
	if err != nil {
		return err
	}
	return p.close()
}

// discard closes the file. It stays at the path: it is complete, if not what was asked for.
func (p *inPlace) discard() {
	if err := p.close(); err != nil {
		p.d.log.Warn("closing file failed", "path", p.d.path, "error", err)
	}
}

func (p *inPlace) close() error {
	if p.file == nil {
		return nil
	}
	f := p.file
	p.file = nil
	return f.Close()
}
