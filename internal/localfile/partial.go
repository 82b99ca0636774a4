package localfile

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
)

// partial is a partial file, which Commit moves to the path.
type partial struct {
	d       *Destination
	file    fsys.File // nil once closed
	adopted bool      // an earlier run made it

	replaces bool        // there is a file at the path
	mode     fs.FileMode // what the file is to have then

	toReserve  int64         // bytes from 0 on whose blocks reserve is to allocate
	written    chan struct{} // closed after the first write, for reserve
	firstWrite sync.Once
	reserved   atomic.Bool // all blocks of the data are allocated
	ballastAt  int64       // where the ballast begins; 0: there is none
	failedSync atomic.Bool // a sync failed: nothing that no sync has covered may be trusted
	back       writeBack
}

// createPartial makes an empty partial file, for size bytes. A file of ours already there is replaced: no checkpoint describes
// it.
func (d *Destination) createPartial(size int64) (*partial, error) {
	fi, err := d.ourFile(d.work.data)
	if err != nil {
		return nil, err
	}
	d.DropCheckpoint() // it describes the file that is about to go
	if fi != nil {
		d.log.Info("replacing partial file of an earlier run", "path", d.work.data)
		if err := d.fs.Remove(d.work.data); err != nil {
			return nil, err
		}
	}
	if err := d.tryOut(size); err != nil {
		return nil, err
	}
	mode := fs.FileMode(fileMode)
	if old, err := d.fs.Lstat(d.path); err == nil { // the file is not to be readable for more people, not even for a moment
		mode = fsys.ReplacedMode(old.Mode(), fileMode) | ownerMode
	}
	f, err := d.fs.OpenFile(d.work.data, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return nil, d.explain("open a file to read and write it", err)
	}
	p := &partial{d: d, file: f}
	p.fitMode()
	return p, nil
}

// ownerMode is what the owner needs to write the file and to resume.
const ownerMode = 0o600

// fitMode gives the partial file the mode that it is to have where it replaces a file: not wider than that one's, and executable
// if that one is.
func (p *partial) fitMode() {
	old, err := p.d.fs.Lstat(p.d.path)
	if err != nil {
		return // most often there is none
	}
	fi, err := p.file.Stat()
	if err != nil {
		return // the next call of the file says so as well
	}
	p.mode, p.replaces = fsys.ReplacedMode(old.Mode(), fi.Mode()), true
	p.chmod(fi, p.mode|ownerMode)
}

// finishMode gives the partial file, of which fi is known, the owner and the mode of the file that it becomes, where those are
// others. The owner comes first: until then nobody else gets what the mode allows.
func (p *partial) finishMode(fi fs.FileInfo) {
	if p.d.hasOwner {
		if err := p.file.Chown(p.d.uid, p.d.gid); err != nil {
			p.d.log.Warn("could not set the owner of the file", "path", p.d.path, "uid", p.d.uid, "gid", p.d.gid, "error", err)
		}
	}
	switch {
	case p.d.hasMode:
		p.chmod(fi, p.d.mode)
	case p.replaces:
		p.chmod(fi, p.mode)
	}
}

// chmod sets the mode of the partial file, unless it has that.
func (p *partial) chmod(fi fs.FileInfo, mode fs.FileMode) {
	if fi.Mode().Perm() == mode {
		return
	}
	if err := p.file.Chmod(mode); err != nil {
		p.d.log.Warn("could not set the mode of the file", "path", p.d.path, "mode", mode, "error", err)
	}
}

func (p *partial) name() string { return p.d.work.data }

func (p *partial) WriteAt(b []byte, off int64) (int, error) {
	n, err := p.file.WriteAt(b, off)
	if n > 0 {
		if p.toReserve > 0 {
			p.firstWrite.Do(func() { close(p.written) })
		}
		p.back.wrote(off, int64(n))
	}
	return n, err
}

func (p *partial) ReadAt(b []byte, off int64) (int, error) { return p.file.ReadAt(b, off) }

// sync puts the data on stable storage; see [Destination.Sync].
func (p *partial) sync() error {
	_, err := p.trySync()
	return err
}

// trySync is sync, and reports whether there is such a thing. That the file system cannot sync is no error.
func (p *partial) trySync() (synced bool, err error) {
	err = p.file.Sync()
	if errors.Is(err, errors.ErrUnsupported) {
		p.d.warnOnce("the file system cannot sync: a power loss may cost the file", err)
		return false, nil
	}
	if err != nil {
		p.failedSync.Store(true)
	}
	return err == nil, err
}

func (p *partial) syncFailed() bool { return p.failedSync.Load() }

// putInPlace syncs the partial file and renames it to the path.
func (p *partial) putInPlace(size int64, modified time.Time) (synced bool, err error) {
	if err := p.cutBallast(); err != nil {
		return false, err
	}
	// The rename must not be on disk before the bytes are.
	synced, err = p.trySync()
	if err != nil {
		return false, err
	}
	return synced, p.rename(size, modified)
}

// rename closes the partial file and renames it to the path.
func (p *partial) rename(size int64, modified time.Time) error {
	ours, err := p.file.Stat()
	if err != nil {
		return err
	}
	p.finishMode(ours)
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
	return p.d.explainRename(p.d.fs.Rename(p.name(), p.d.path))
}

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
	p.back.end()
	return f.Close()
}
