package ossdl

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/fsys"
)

// bring brings one object to its file, unless it is there, or makes a folder.
func (p *prefixRun) bring(ctx context.Context, o listed, name string) {
	if name == "" || strings.HasSuffix(name, "/") {
		p.bringFolder(o, strings.TrimSuffix(name, "/"))
		return
	}
	switch err := p.bringFile(ctx, o, name); {
	case err == nil:
	case ctx.Err() != nil:
		p.cutOff(ctx)
	default:
		p.failed(o, err)
	}
}

func (p *prefixRun) bringFile(ctx context.Context, o listed, name string) error {
	if err := p.folder(path.Dir(name)); err != nil {
		return p.noSpace(err)
	}
	there, err := p.isThere(ctx, o, name)
	if there && p.named != nil {
		err = p.named.claim(local(name))
	}
	if err != nil {
		return err
	}
	if !there {
		return p.fetch(ctx, o, name)
	}
	if err := p.tidy(name); err != nil {
		return err
	}
	p.skipped(o)
	return nil
}

// bringFolder makes the folder that a key ending in a slash stands for.
func (p *prefixRun) bringFolder(o listed, name string) {
	if o.size > 0 {
		p.failed(o, fmt.Errorf("it has %d bytes of content, and by its name it is a folder", o.size))
		return
	}
	if name == "" {
		p.skipped(o)
		return
	}
	if fi, err := p.fs.Lstat(local(name)); err == nil && fi.IsDir() {
		p.skipped(o)
		return
	}
	if err := p.folder(name); err != nil {
		p.failed(o, p.noSpace(err))
		return
	}
	p.madeFolder()
}

// local is a slash-separated name as the file system takes it.
func local(name string) string { return filepath.FromSlash(name) }

// isThere reports whether the file is what the object is, by size and time or by CRC-64.
func (p *prefixRun) isThere(ctx context.Context, o listed, name string) (bool, error) {
	fi, err := p.fs.Lstat(local(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case fi.Mode()&fs.ModeSymlink != 0:
		return false, fmt.Errorf("%s is a symbolic link; none is followed in the folder", name)
	case !fi.Mode().IsRegular():
		return false, fmt.Errorf("%s is not a regular file (%v)", name, fi.Mode().Type())
	}
	if !o.symlink {
		if fi.Size() != o.size {
			return false, nil
		}
		if !p.cfg.compareCRC {
			return sameTime(fi.ModTime(), o.modified), nil
		}
	}
	var f facts
	err = p.ask(ctx, "HEAD", func(ctx context.Context, _ *meter) (err error) {
		f, err = p.bucket.head(ctx, o.key)
		return err
	})
	if err != nil || fi.Size() != f.size {
		return false, err
	}
	if !p.cfg.compareCRC || !f.hasCRC {
		return sameTime(fi.ModTime(), f.lastModified), nil
	}
	sum, err := p.sum(ctx, name)
	return err == nil && sum == f.crc, err
}

// sameTime compares to the second: OSS has no finer time.
func sameTime(a, b time.Time) bool { return a.Unix() == b.Unix() }

// sum is the CRC-64 of a file.
func (p *prefixRun) sum(ctx context.Context, name string) (crc uint64, err error) {
	f, err := p.fs.OpenFile(local(name), os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := p.d.buffers.Get().(*[]byte)
	defer p.d.buffers.Put(buf)
	for off := int64(0); ; {
		n, err := f.ReadAt(*buf, off)
		crc = crc64.Update(crc, (*buf)[:n])
		off += int64(n)
		if err == io.EOF {
			return crc, nil
		}
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return 0, err
		}
	}
}

// folder makes a folder, with those above it. What stands in its place is an error, a link to a folder too: two names of
// one place would let one object replace another unseen.
func (p *prefixRun) folder(name string) error {
	if name == "." || p.known(name) {
		return nil
	}
	parent := path.Dir(name)
	if err := p.folder(parent); err != nil {
		return err
	}
	// Nobody else may go on with the folder before it is synced, and one at a time is enough: keys come folder by folder.
	p.making.Lock()
	defer p.making.Unlock()
	if p.known(name) {
		return nil
	}
	err := p.fs.Mkdir(local(name), 0o777)
	if err == nil {
		// Without it a power loss could take the files that will be synced into it.
		err = p.fs.SyncDir(local(parent))
	} else if errors.Is(err, fs.ErrExist) {
		err = p.isFolder(name)
	}
	if err == nil && parent == "." {
		err = p.notWorkDir(name)
	}
	if err == nil {
		p.know(name)
	}
	return err
}

func (p *prefixRun) isFolder(name string) error {
	fi, err := p.fs.Lstat(local(name))
	switch {
	case err != nil:
		return err
	case fi.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("%s is a symbolic link; none is followed in the folder", name)
	case !fi.IsDir():
		return fmt.Errorf("%s is not a folder (%v)", name, fi.Mode().Type())
	}
	return nil
}

// notWorkDir refuses a folder that is that of the working files under a name of which only the file system knows.
func (p *prefixRun) notWorkDir(name string) error {
	fi, err := p.fs.Lstat(local(name))
	if err != nil {
		return err
	}
	work, err := p.fs.Lstat(workDir)
	switch {
	case errors.Is(err, fs.ErrNotExist): // another call ended and removed it
		return nil
	case err != nil:
		return err
	case fsys.SameFile(fi, work):
		return fmt.Errorf("%s is kept for the files of running downloads, and the file system takes %q for it", workDir, name)
	}
	return nil
}

// namedFS is a file system that takes some names for the same. It keeps two keys of one call from being one file unseen:
// that they are is known to the file system alone, which folds more than case.
type namedFS struct {
	fsys.FS
	mu    sync.Mutex
	files map[uint64]struct{} // those that a key of this call has its name at
}

var errTwin = errors.New("the file system takes its name for that of another key, whose file is there")

// Rename does not replace the file of another key.
func (f *namedFS) Rename(from, to string) error {
	if strings.HasPrefix(to, workDir+string(filepath.Separator)) {
		return f.FS.Rename(from, to)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if fi, err := f.FS.Lstat(to); err == nil && f.taken(fi) {
		return errTwin
	}
	if err := f.FS.Rename(from, to); err != nil {
		return err
	}
	return f.add(to)
}

// claim takes a file that is there already for a key's, unless another key has it.
func (f *namedFS) claim(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.add(name)
}

// taken reports whether a file is some key's. One that has several names, as the user may give it, need not be a twin's.
func (f *namedFS) taken(fi fs.FileInfo) bool {
	id, ok := fsys.ID(fi)
	if _, known := f.files[id]; known && ok {
		return fsys.Links(fi) == 1
	}
	return false
}

// add must be called with the mutex held.
func (f *namedFS) add(name string) error {
	fi, err := f.FS.Lstat(name)
	if err != nil {
		return err
	}
	if f.taken(fi) {
		return errTwin
	}
	if id, ok := fsys.ID(fi); ok {
		f.files[id] = struct{}{}
	}
	return nil
}

// maxKnown bounds how many folders are remembered. Keys of one folder are listed one after the other.
const maxKnown = 1000

func (p *prefixRun) known(folder string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.folders[folder]
	return ok
}

func (p *prefixRun) know(folder string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.folders) >= maxKnown {
		clear(p.folders)
	}
	p.folders[folder] = struct{}{}
}

// fetch is a Download of one object, with its working files in their own folder.
func (p *prefixRun) fetch(ctx context.Context, o listed, name string) error {
	src, err := p.bucket.object(o.key)
	if err != nil {
		return err
	}
	cfg := p.cfg
	cfg.fs, cfg.progress, cfg.objectTimes = p.fs, nil, true
	cfg.checkpoint, cfg.cpDir = "", ""
	cfg.knownEmpty = o.size == 0 && !o.symlink
	c := p.d.newCallIn(p.lane, src, cfg)
	p.begun(c, o.size)
	dst := p.destination(name)
	if err = dst.checkPath(); err == nil {
		err = c.into(ctx, dst)
	}
	if err == nil && p.cfg.noCheckpoint { // a call that did keep one may have left it
		if terr := p.tidy(name); terr != nil {
			p.cfg.log.Warn("working files left behind", "path", name, "error", terr)
		}
	}
	p.ended(c, o.size, err)
	return dst.noSpace(err)
}

// destination names the working files by the file's name, so that no name is too long, and two calls for one file meet.
func (p *prefixRun) destination(name string) *destination {
	sum := sha256.Sum256([]byte(name))
	d := &destination{
		fs: p.fs, log: p.cfg.log, path: local(name), work: workDir,
		base:   filepath.Join(workDir, hex.EncodeToString(sum[:16])),
		sparse: p.cfg.sparse, keeps: !p.cfg.noCheckpoint,
	}
	if d.keeps {
		d.cpPath = d.base + checkpointSuffix
	}
	return d
}

// tidy removes what a call that was killed left of a file that is there by now. That call may have come to its rename and
// no further: a power loss must not take the file back once it is counted.
func (p *prefixRun) tidy(name string) error {
	if !p.leftover {
		return nil
	}
	d := p.destination(name)
	d.cpPath = d.base + checkpointSuffix
	left := slices.ContainsFunc([]string{partSuffix, checkpointSuffix, lockSuffix}, func(suffix string) bool {
		_, err := p.fs.Lstat(d.base + suffix)
		return err == nil
	})
	if !left {
		return nil
	}
	unlock, err := d.lock()
	if err != nil {
		return nil // somebody is at it
	}
	defer unlock()
	if err := d.fs.SyncDir(filepath.Dir(d.path)); err != nil {
		return err
	}
	d.begun = true
	d.discard()
	return nil
}
