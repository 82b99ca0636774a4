package ossdl

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ossdl/ossdl/internal/bucket"
	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/localfile"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/tree"
)

// fetchObject downloads one object to its file, unless it is there, or makes the folder that it stands for. missing says that the file
// is known not to be there.
func (p *prefixCall) fetchObject(ctx context.Context, o bucket.Entry, name string, missing bool) {
	if name == "" || strings.HasSuffix(name, "/") {
		p.makeFolder(o, strings.TrimSuffix(name, "/"))
		return
	}
	var err error
	if missing {
		err = p.fetch(ctx, o, name)
	} else {
		err = p.fetchMissing(ctx, o, name)
	}
	p.settle(ctx, o, err)
}

// settle records the error with which an object has ended, if any.
func (p *prefixCall) settle(ctx context.Context, o bucket.Entry, err error) {
	switch {
	case err == nil:
	case ctx.Err() != nil:
		p.cutOff(ctx)
	default:
		p.failed(o, err)
	}
}

// makeFolder makes the folder that a key ending in a slash stands for.
func (p *prefixCall) makeFolder(o bucket.Entry, name string) {
	switch {
	case o.Size > 0:
		p.failed(o, fmt.Errorf("it has %s of content, but its name is that of a folder", byteCount(o.Size)))
		return
	case name == "" || p.folder.IsFolder(name):
		p.skipped(o, true)
		return
	}
	if err := p.folder.Make(name); err != nil {
		p.failed(o, p.noSpace(err))
		return
	}
	p.madeFolder()
}

// noSpace turns the error of a full disk into ErrNoSpace.
func (p *prefixCall) noSpace(err error) error { return localfile.NoSpace(p.fs, ".", 0, err) }

// fetchMissing downloads an object to its file, unless it is there.
func (p *prefixCall) fetchMissing(ctx context.Context, o bucket.Entry, name string) error {
	if err := p.folder.Make(path.Dir(name)); err != nil {
		return p.noSpace(err)
	}
	there, err := p.isThere(ctx, o, name)
	if err != nil {
		return err
	}
	if !there {
		return p.fetch(ctx, o, name)
	}
	if err := p.folder.Claim(name); err != nil {
		return err
	}
	durable, err := p.tidy(name)
	if err != nil {
		return err
	}
	p.skipped(o, durable)
	return nil
}

// isThere reports whether the file is the object already, judged by size and time, or by CRC-64 if the caller wants that or the
// file system does not keep times.
func (p *prefixCall) isThere(ctx context.Context, o bucket.Entry, name string) (bool, error) {
	fi, err := p.folder.File(name)
	if fi == nil || err != nil {
		return false, err
	}
	byCRC := p.cfg.compareCRC
	if !o.Symlink {
		if fi.Size() != o.Size {
			return false, nil
		}
		if !byCRC {
			same, sure := p.folder.SameTime(name, fi.ModTime(), o.Modified)
			if sure && (same || !p.cfg.wantsTime()) {
				return same, nil
			}
			byCRC = !sure
		}
	}
	var f object.Facts
	err = p.ask(ctx, "HEAD", func(ctx context.Context, _ *engine.Meter) (err error) {
		f, err = p.bucket.Head(ctx, o.Key)
		return err
	})
	if err != nil || fi.Size() != f.Size {
		return false, err
	}
	if !byCRC || !f.HasCRC {
		same, sure := p.folder.SameTime(name, fi.ModTime(), p.timeOf(f))
		if sure && (same || !p.cfg.wantsTime()) || !f.HasCRC {
			return same, nil
		}
		// A time of metadata may be one that the file system cannot keep. That must not make every call fetch the file again.
	}
	sum, err := p.sum(ctx, name)
	return err == nil && sum == f.CRC, err
}

// timeOf returns the time that the file of an object gets.
func (p *prefixCall) timeOf(f object.Facts) time.Time {
	if p.cfg.wantsTime() {
		if t, err := f.Stored.Time(); err == nil {
			return t
		}
	}
	return f.LastModified
}

// sum returns the CRC-64 of a file.
func (p *prefixCall) sum(ctx context.Context, name string) (crc uint64, err error) {
	f, err := p.fs.OpenFile(filepath.FromSlash(name), os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := p.d.buffers.Get()
	defer p.d.buffers.Put(buf)
	err = engine.ReadThrough(ctx, f, 0, -1, buf, func(b []byte) { crc = crc64.Update(crc, b) })
	return crc, err
}

// fetch downloads one object. Its working files are in the folder for them.
func (p *prefixCall) fetch(ctx context.Context, o bucket.Entry, name string) error {
	src, err := p.bucket.Object(o.Key)
	if err != nil {
		return err
	}
	files, err := p.fileConfig(name)
	if err != nil {
		return err
	}
	c := p.d.newCallIn(p.lane, src, p.cfg, p.panics)
	c.objectTimes = true
	c.knownEmpty = o.Size == 0 && !o.Symlink
	if !o.Symlink && !o.Appendable {
		c.listed = &object.Facts{Size: o.Size, ETag: o.ETag, LastModified: o.Modified}
	}
	p.begun(c, o.Size)
	dst, err := localfile.Check(files)
	if err == nil {
		err = c.toFile(ctx, dst)
	}
	switch {
	case errors.Is(err, tree.ErrCollision): // every later call would end the same way
		p.discard(files)
	case err == nil && p.cfg.checkpoint.none() && p.folder.HasLeftovers(name): // a call with a checkpoint may have left it
		p.discard(files)
	}
	p.ended(c, o.Size, err)
	return err
}

// discard removes the working files of a file, which no later call can use.
func (p *prefixCall) discard(files localfile.Config) {
	if _, err := localfile.RemoveLeftovers(files); err != nil {
		p.cfg.log.Warn("working files left behind", "path", files.Path, "error", err)
	}
}

// fileConfig names the working files by a hash of the file's name. So no name is too long, and two calls for one file use
// the same ones.
func (p *prefixCall) fileConfig(name string) (localfile.Config, error) {
	work, err := p.folder.WorkDir(name)
	if err != nil {
		return localfile.Config{}, err
	}
	work = filepath.FromSlash(work)
	sum := sha256.Sum256([]byte(name))
	return localfile.Config{
		FS: p.fs, Log: p.cfg.log, Path: filepath.FromSlash(name), Folder: work,
		Base:   filepath.Join(work, hex.EncodeToString(sum[:16])),
		Sparse: p.cfg.sparse, KeepPartial: !p.cfg.checkpoint.none(), IsCheckpoint: isCheckpoint, Notices: &p.notices,
	}, nil
}

// tidy removes the working files that a killed call left for a file that is complete by now.
func (p *prefixCall) tidy(name string) (durable bool, err error) {
	if !p.folder.HasLeftovers(name) {
		return true, nil
	}
	files, err := p.fileConfig(name)
	if err != nil {
		return true, nil // not ours
	}
	return localfile.RemoveLeftovers(files)
}

const (
	lookers   = 16 // goroutines that look for files, on file systems that are far away
	lookBatch = 32 // objects that one of them takes at a time: to hand over each alone would cost more than to look for it
)

// looking finds out which objects are there already, in batches, and begins with the others.
type looking struct {
	ctx     context.Context
	group   *errgroup.Group
	batches chan []wantedObject
	batch   []wantedObject // that is being filled
}

// wantedObject is an object that is to be downloaded, and the name of its file.
type wantedObject struct {
	bucket.Entry
	name string
}

// startLooking returns a looking that calls begin for each object that does not seem to be there; begin may wait. An error of begin ends
// it.
func (p *prefixCall) startLooking(ctx context.Context, begin func(o bucket.Entry, name string, missing bool) error) *looking {
	l := &looking{batches: make(chan []wantedObject)}
	l.group, l.ctx = errgroup.WithContext(ctx)
	for range lookers {
		l.group.Go(func() error {
			for batch := range l.batches {
				for _, o := range batch {
					if l.ctx.Err() != nil {
						return context.Cause(l.ctx)
					}
					settled, missing := p.look(ctx, o.Entry, o.name)
					if settled {
						continue
					}
					if err := begin(o.Entry, o.name, missing); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return l
}

// add hands over an object.
func (l *looking) add(o bucket.Entry, name string) {
	if l.batch = append(l.batch, wantedObject{o, name}); len(l.batch) == lookBatch {
		l.flush()
	}
}

// flush hands over what was added so far.
func (l *looking) flush() {
	if len(l.batch) == 0 {
		return
	}
	select {
	case l.batches <- l.batch:
	case <-l.ctx.Done(): // end says why
	}
	l.batch = nil
}

// end waits until all that was handed over is settled or begun.
func (l *looking) end() error {
	close(l.batches)
	return l.group.Wait()
}

// look reports whether there is nothing to do for an object any more, which is counted then, or whether its file is missing. It makes
// no request: if it would take one, or a second look, to know, the answer is neither.
func (p *prefixCall) look(ctx context.Context, o bucket.Entry, name string) (settled, missing bool) {
	if name == "" || strings.HasSuffix(name, "/") || p.cfg.compareCRC || o.Symlink {
		return false, false
	}
	is, err := p.folder.Look(name, o.Size, o.Modified)
	if err != nil {
		p.settle(ctx, o, p.noSpace(err))
		return true, false
	}
	if is != tree.Unchanged || p.folder.Claim(name) != nil {
		return false, is == tree.Missing
	}
	p.skipped(o, true)
	return true, false
}
