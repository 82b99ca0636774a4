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

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/localfile"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/tree"
)

// item is an object of the call, from when its turn comes until it is settled.
type item struct {
	entry
	name     string // of its file; that of a folder ends in a slash, and "" is the folder of the call
	named    bool   // it can have a name
	start    time.Time
	there    int64         // bytes of the file that is there
	asked    int           // HEAD requests made
	found    *object.Facts // what the last of them said; nil: nothing
	crc      uint64        // of the file that was there; 0: not computed
	verified bool          // it is that of the object
	summed   bool          // the file that was there was read
	sha256   []byte        // of that file; nil: not computed
	call     *call         // its download; nil until that has begun
}

// objectResult describes what became of an object.
func (p *prefixCall) objectResult(o *item, status ObjectStatus, durable bool, err error) ObjectResult {
	r := ObjectResult{
		Status: status, Key: o.Key, ETag: o.ETag, Size: o.Size, LastModified: o.Modified, Durable: durable,
		Requests: o.asked, Retries: max(o.asked-1, 0), Duration: time.Since(o.start), Err: err,
	}
	if o.named {
		r.Name, r.Path = o.name, filepath.Join(p.dir, filepath.FromSlash(o.name))
	}
	if f := o.found; f != nil {
		r.VersionID, r.ETag, r.Size, r.LastModified = f.VersionID, f.ETag, f.Size, f.LastModified
	}
	if status == ObjectSkipped {
		r.Size, r.CRC64, r.Verified = o.there, o.crc, o.verified
	}
	if o.call == nil {
		return r
	}
	if f := o.call.figuresWithoutHeader(r.Path); f != nil {
		r.ResumedBytes, r.DownloadedBytes, r.Requests, r.Retries = f.ResumedBytes, f.DownloadedBytes, r.Requests+f.Requests, r.Retries+f.Retries
		if _, answered := o.call.engine.Facts(); answered {
			r.VersionID, r.ETag, r.Size, r.LastModified, r.Encrypted = f.VersionID, f.ETag, f.Size, f.LastModified, f.Encrypted
		}
		if status == ObjectDone {
			r.CRC64, r.Verified = f.CRC64, f.Verified
		}
	}
	return r
}

// fetchObject downloads one object to its file, unless it is there, or makes the folder that it stands for.
func (p *prefixCall) fetchObject(ctx context.Context, o *item) {
	fetch := p.fetchMissing
	if o.name == "" || strings.HasSuffix(o.name, "/") {
		fetch = p.makeFolder
	}
	switch err := fetch(ctx, o); {
	case err == nil:
	case ctx.Err() != nil:
		p.cutOff(ctx)
	default:
		p.failed(o, err)
	}
}

// makeFolder makes the folder that a key ending in a slash stands for.
func (p *prefixCall) makeFolder(ctx context.Context, o *item) error {
	name, size := strings.TrimSuffix(o.name, "/"), o.Size
	if !o.hasSize() {
		f, err := p.head(ctx, o)
		if err != nil {
			return err
		}
		size = f.Size
	}
	switch {
	case size > 0:
		return fmt.Errorf("it has %s of content, but its name is that of a folder", byteCount(size))
	case name == "" || p.folder.IsFolder(name):
		p.skipped(o, true)
		return nil
	}
	if err := p.folder.Make(name); err != nil {
		return p.noSpace(err)
	}
	if p.cfg.dryRun {
		p.planned(o)
	} else {
		p.madeFolder(o)
	}
	return nil
}

// noSpace turns the error of a full disk into ErrNoSpace.
func (p *prefixCall) noSpace(err error) error { return localfile.NoSpace(p.fs, ".", 0, err) }

// fetchMissing downloads an object to its file, unless it is there.
func (p *prefixCall) fetchMissing(ctx context.Context, o *item) error {
	if err := p.folder.Make(path.Dir(o.name)); err != nil {
		return p.noSpace(err)
	}
	there, err := p.isThere(ctx, o)
	if there && p.manifest != nil && !o.summed { // the manifest says what is in the file, not what should be
		err = p.read(ctx, o)
		there = o.givenCRC() == 0 || o.givenCRC() == o.crc
	}
	if err != nil {
		return err
	}
	if !there && p.cfg.dryRun {
		p.planned(o)
		return nil
	}
	if !there {
		return p.fetch(ctx, o)
	}
	if err := p.folder.Claim(o.name); err != nil {
		return err
	}
	if p.cfg.dryRun {
		p.skipped(o, true)
		return nil
	}
	durable, err := p.tidy(o.name)
	if err != nil {
		return err
	}
	p.skipped(o, durable)
	return nil
}

// isThere reports whether the file is the object already, judged by size and time, or by CRC-64 if the caller wants that, has
// given one or no time, or the file system does not keep times.
func (p *prefixCall) isThere(ctx context.Context, o *item) (bool, error) {
	fi, err := p.folder.File(o.name)
	if fi == nil || err != nil {
		return false, err
	}
	o.there = fi.Size()
	if p.keep != nil {
		p.wasThere()
	}
	byCRC := p.cfg.compareCRC
	if !o.Symlink && o.hasSize() {
		if fi.Size() != o.Size {
			return false, nil
		}
		if !byCRC && o.hasTime() {
			if same, sure := p.folder.SameTime(o.name, fi.ModTime(), o.Modified); sure && (same || o.givenCRC() == 0) {
				return same, nil
			}
			byCRC = true
		}
	}
	if want := o.givenCRC(); want != 0 {
		return p.hasCRC(ctx, o, want)
	}
	f, err := p.head(ctx, o)
	if err != nil || fi.Size() != f.Size {
		return false, err
	}
	if !byCRC || !f.HasCRC {
		if same, sure := p.folder.SameTime(o.name, fi.ModTime(), f.LastModified); sure || !f.HasCRC {
			return same, nil
		}
	}
	return p.hasCRC(ctx, o, f.CRC)
}

// head asks for the facts of an object.
func (p *prefixCall) head(ctx context.Context, o *item) (f object.Facts, err error) {
	err = p.ask(ctx, "HEAD", func(ctx context.Context, _ *engine.Meter) (err error) {
		o.asked++
		f, err = p.bucket.Head(ctx, o.Key, o.version())
		return err
	})
	if err == nil {
		err = o.contradicts(f)
	}
	if err == nil {
		o.found = &f
	}
	return f, err
}

// hasCRC reports whether the file has a CRC-64.
func (p *prefixCall) hasCRC(ctx context.Context, o *item, want uint64) (bool, error) {
	if err := p.read(ctx, o); err != nil {
		return false, err
	}
	o.verified = o.crc == want
	return o.verified, nil
}

// read computes the checksums of the file that is there.
func (p *prefixCall) read(ctx context.Context, o *item) error {
	sums, err := p.sum(ctx, o.name, p.cfg.manifestSHA256)
	o.summed, o.crc, o.sha256 = err == nil, sums.crc, sums.sha256
	return err
}

// digest returns the SHA-256 of the file; nil if it was not computed.
func (o *item) digest() []byte {
	if o.call != nil {
		return o.call.sha256
	}
	return o.sha256
}

// fileSums are the checksums of a file.
type fileSums struct {
	size   int64 // bytes that were read
	crc    uint64
	sha256 []byte // nil: not wanted
}

// sum returns the checksums of a file.
func (p *prefixCall) sum(ctx context.Context, name string, withSHA256 bool) (fileSums, error) {
	var sums fileSums
	f, err := p.fs.OpenFile(filepath.FromSlash(name), os.O_RDONLY, 0)
	if err != nil {
		return sums, err
	}
	defer f.Close()
	buf := p.d.buffers.Get()
	defer p.d.buffers.Put(buf)
	h := sha256.New()
	err = engine.ReadThrough(ctx, f, 0, -1, buf, func(b []byte) {
		sums.size += int64(len(b))
		sums.crc = crc64.Update(sums.crc, b)
		if withSHA256 {
			h.Write(b)
		}
	})
	if withSHA256 {
		sums.sha256 = h.Sum(nil)
	}
	return sums, err
}

// fetch downloads one object. Its working files are in the folder for them.
func (p *prefixCall) fetch(ctx context.Context, o *item) error {
	src, err := p.bucket.Object(o.Key)
	if err != nil {
		return err
	}
	files, err := p.fileConfig(o.name)
	if err != nil {
		return err
	}
	c := p.d.newCallIn(p.lane, src, p.cfg, p.panics)
	c.objectTimes, c.sumSHA256 = true, p.cfg.manifestSHA256
	if err := c.give(o.given); err != nil {
		return err
	}
	c.knownEmpty = o.hasSize() && o.Size == 0 && !o.Symlink
	if o.given == nil && !o.Symlink && !o.Appendable {
		c.listed = &object.Facts{Size: o.Size, ETag: o.ETag, LastModified: o.Modified}
	}
	p.begun(o, c)
	dst, err := localfile.Check(files)
	if err == nil {
		err = c.toFile(ctx, dst)
	}
	switch {
	case errors.Is(err, tree.ErrCollision): // every later call would end the same way
		p.discard(files)
	case err == nil && p.cfg.checkpoint.none() && p.folder.HasLeftovers(o.name): // a call with a checkpoint may have left it
		p.discard(files)
	}
	p.ended(o, err)
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
