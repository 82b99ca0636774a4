package ossdl

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ossdl/ossdl/internal/bucket"
	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/localfile"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/tree"
)

// fetchObject downloads one object to its file, unless it is there, or makes the folder that it stands for.
func (p *prefixCall) fetchObject(ctx context.Context, o bucket.Entry, name string) {
	if name == "" || strings.HasSuffix(name, "/") {
		p.makeFolder(o, strings.TrimSuffix(name, "/"))
		return
	}
	if err := p.fetchMissing(ctx, o, name); err != errHandedOver {
		p.settle(ctx, o, err)
	}
}

// errHandedOver says that an object is with the committer, which settles it.
var errHandedOver = errors.New("the object is with the committer")

// settle counts an object that was not downloaded, by the reason.
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

// fetchMissing downloads an object to its file, unless it is there. The error is errHandedOver if that has still to get its path.
func (p *prefixCall) fetchMissing(ctx context.Context, o bucket.Entry, name string) error {
	if err := p.folder.Make(path.Dir(name)); err != nil {
		return p.noSpace(err)
	}
	fi, err := p.folder.File(name)
	if err != nil {
		return err
	}
	there, err := p.isThere(ctx, o, name, fi)
	if err != nil {
		return err
	}
	if !there {
		return p.fetch(ctx, o, name, fi != nil)
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

// isThere reports whether fi, the file name, is the object already, judged by size and time, or by CRC-64 if the caller wants that or the
// file system does not keep times.
func (p *prefixCall) isThere(ctx context.Context, o bucket.Entry, name string, fi fs.FileInfo) (bool, error) {
	if fi == nil {
		return false, nil
	}
	byCRC := p.cfg.compareCRC
	if !o.Symlink {
		if fi.Size() != o.Size {
			return false, nil
		}
		if !byCRC {
			if same, sure := p.folder.SameTime(name, fi.ModTime(), o.Modified); sure {
				return same, nil
			}
			byCRC = true
		}
	}
	var f object.Facts
	err := p.ask(ctx, "HEAD", func(ctx context.Context, _ *engine.Meter) (err error) {
		f, err = p.bucket.Head(ctx, o.Key)
		return err
	})
	if err != nil || fi.Size() != f.Size {
		return false, err
	}
	if !byCRC || !f.HasCRC {
		if same, sure := p.folder.SameTime(name, fi.ModTime(), f.LastModified); sure || !f.HasCRC {
			return same, nil
		}
	}
	sum, err := p.sum(ctx, name)
	return err == nil && sum == f.CRC, err
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

// fetch downloads one object. Its working files are in the folder for them. replaces says that there is a file. The error is
// errHandedOver if the file has still to get its path.
func (p *prefixCall) fetch(ctx context.Context, o bucket.Entry, name string, replaces bool) error {
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
	if p.isSmall(o) && !localfile.CanResume(files) {
		err := p.fetchSmall(ctx, c, o, files, replaces)
		if !errors.Is(err, localfile.ErrNotSmall) {
			return err
		}
		c.knownEmpty = false
	}
	dst, err := localfile.Check(files)
	if err == nil {
		err = c.toFile(ctx, dst)
	}
	switch {
	case errors.Is(err, tree.ErrCollision): // every later call would end the same way
		files.AreLeft = false // they are of this call
		p.discard(files)
	case err == nil && p.cfg.checkpoint.none(): // a call with a checkpoint may have left it
		p.discard(files)
	}
	p.ended(c, o.Size, err)
	return err
}

// smallCall is what a call needs for objects that stay in memory until they are verified.
type smallCall struct {
	committer *localfile.Committer
	bodies    *localfile.Bodies
	smallDogs *engine.Watchdog    // of the requests for their bytes
	unsynced  map[string]struct{} // folders with files of earlier calls that a power loss may undo
}

// isSmall reports whether an object is one that stays in memory until it is verified, by what is listed: it takes one request.
func (p *prefixCall) isSmall(o bucket.Entry) bool {
	return !o.Symlink && o.Size <= localfile.MaxSmall && o.Size <= partSizer{p.cfg.partSize}.first(0, -1)
}

// fetchSmall fetches an object into memory and hands it to the committer, which gives it its path with many others. The error
// is errHandedOver then. It is localfile.ErrNotSmall if the object has grown since it was listed. Otherwise the call has ended.
func (p *prefixCall) fetchSmall(ctx context.Context, c *call, o bucket.Entry, files localfile.Config, replaces bool) error {
	small, err := localfile.OpenSmall(ctx, files, p.bodies, o.Size, replaces)
	if err != nil {
		p.ended(c, o.Size, err)
		return err
	}
	err = c.toMemory(ctx, small, p.smallDogs)
	if err == nil {
		p.fetched(c)
		err = p.committer.Add(ctx, small, func(durable bool, err error) {
			c.durable = durable
			p.ended(c, o.Size, err)
			p.settle(ctx, o, err)
		})
	}
	if err == nil {
		return errHandedOver
	}
	small.Abandon()
	if !errors.Is(err, localfile.ErrNotSmall) {
		p.ended(c, o.Size, err)
	}
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
	dir, err := p.folder.WorkDir(name)
	if err != nil {
		return localfile.Config{}, err
	}
	work := filepath.FromSlash(dir)
	sum := sha256.Sum256([]byte(name))
	left, known := p.folder.Left(dir)
	return localfile.Config{
		FS: p.fs, Log: p.cfg.log, Path: filepath.FromSlash(name), Folder: work,
		Base:   filepath.Join(work, hex.EncodeToString(sum[:16])),
		Sparse: p.cfg.sparse, KeepPartial: !p.cfg.checkpoint.none(), IsCheckpoint: isCheckpoint, Notices: &p.notices,
		Left: left, AreLeft: known,
	}, nil
}

// tidy removes the working files that a killed call left for a file that is complete by now.
func (p *prefixCall) tidy(name string) (durable bool, err error) {
	_, unsynced := p.unsynced[filepath.Dir(filepath.FromSlash(name))]
	if !p.folder.HasLeft(name) {
		return !unsynced, nil
	}
	files, err := p.fileConfig(name)
	if err != nil {
		return !unsynced, nil // not ours
	}
	durable, err = localfile.RemoveLeftovers(files)
	return durable && !unsynced, err
}

// startCommitter finishes what calls that were killed have left unsynced, and starts the committer of this call. stop returns
// once every object that was handed over is settled.
func (p *prefixCall) startCommitter(ctx context.Context) (stop func()) {
	cfg := localfile.Config{FS: p.fs, Log: p.cfg.log, Path: tree.WorkDir, Folder: tree.WorkDir, Base: filepath.Join(tree.WorkDir, "x"), Notices: &p.notices}
	left, _ := p.folder.Left(tree.WorkDir)
	p.unsynced = map[string]struct{}{}
	for _, dir := range localfile.SyncLeftBatches(cfg, slices.Sorted(maps.Keys(left))) {
		p.unsynced[dir] = struct{}{}
	}
	p.bodies = localfile.NewBodies()
	p.smallDogs = engine.NewWatchdog(p.cfg.stall)
	unwatch := p.smallDogs.Start(func(time.Time) {})
	p.committer = localfile.NewCommitter(ctx, cfg)
	return func() {
		p.committer.Close()
		unwatch()
	}
}
