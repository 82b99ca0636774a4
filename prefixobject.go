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
)

// fetchObject downloads one object to its file, unless it is there, or makes the folder that it stands for.
func (p *prefixRun) fetchObject(ctx context.Context, o listed, name string) {
	if name == "" || strings.HasSuffix(name, "/") {
		p.makeFolder(o, strings.TrimSuffix(name, "/"))
		return
	}
	switch err := p.fetchMissing(ctx, o, name); {
	case err == nil:
	case ctx.Err() != nil:
		p.cutOff(ctx)
	default:
		p.failed(o, err)
	}
}

// makeFolder makes the folder that a key ending in a slash stands for.
func (p *prefixRun) makeFolder(o listed, name string) {
	switch {
	case o.size > 0:
		p.failed(o, fmt.Errorf("it has %d bytes of content, but its name is that of a folder", o.size))
		return
	case name == "" || p.tree.isFolder(name):
		p.skipped(o)
		return
	}
	if err := p.tree.make(name); err != nil {
		p.failed(o, p.noSpace(err))
		return
	}
	p.madeFolder()
}

// noSpace makes ErrNoSpace of the error of a full disk.
func (p *prefixRun) noSpace(err error) error { return noSpace(p.fs, ".", 0, err) }

// fetchMissing downloads an object to its file, unless it is there.
func (p *prefixRun) fetchMissing(ctx context.Context, o listed, name string) error {
	if err := p.tree.make(path.Dir(name)); err != nil {
		return p.noSpace(err)
	}
	there, err := p.isThere(ctx, o, name)
	if err != nil {
		return err
	}
	if !there {
		return p.fetch(ctx, o, name)
	}
	if err := p.tree.claim(name); err != nil {
		return err
	}
	if err := p.tidy(name); err != nil {
		return err
	}
	p.skipped(o)
	return nil
}

// isThere reports whether the file is the object already, by size and time or by CRC-64.
func (p *prefixRun) isThere(ctx context.Context, o listed, name string) (bool, error) {
	fi, err := p.tree.file(name)
	if fi == nil || err != nil {
		return false, err
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

// sameTime compares times to the second; OSS has none that are finer.
func sameTime(a, b time.Time) bool { return a.Unix() == b.Unix() }

// sum returns the CRC-64 of a file.
func (p *prefixRun) sum(ctx context.Context, name string) (crc uint64, err error) {
	f, err := p.fs.OpenFile(filepath.FromSlash(name), os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := p.d.buffers.get()
	defer p.d.buffers.put(buf)
	err = readThrough(ctx, f, 0, -1, buf, func(b []byte) { crc = crc64.Update(crc, b) })
	return crc, err
}

// fetch downloads one object, with its working files in the folder for them.
func (p *prefixRun) fetch(ctx context.Context, o listed, name string) error {
	src, err := p.bucket.object(o.key)
	if err != nil {
		return err
	}
	cfg := p.cfg
	cfg.objectTimes = true
	c := p.d.newCallIn(p.lane, src, cfg)
	c.knownEmpty = o.size == 0 && !o.symlink
	p.begun(c, o.size)
	dst, err := checkDestination(p.destination(name))
	if err == nil {
		err = c.into(ctx, dst)
	}
	switch {
	case errors.Is(err, errTwin): // every later call would end the same way
		p.discard(name)
	case err == nil && p.cfg.checkpoint.none() && p.tree.leftover: // a call with a checkpoint may have left it
		p.discard(name)
	}
	p.ended(c, o.size, err)
	return err
}

// discard removes the working files of a file.
func (p *prefixRun) discard(name string) {
	if err := removeLeftovers(p.destination(name)); err != nil {
		p.cfg.log.Warn("working files left behind", "path", name, "error", err)
	}
}

// destination names the working files by a hash of the file's name. So no name is too long, and two calls for one file use
// the same ones.
func (p *prefixRun) destination(name string) destinationConfig {
	sum := sha256.Sum256([]byte(name))
	return destinationConfig{
		fs: p.fs, log: p.cfg.log, path: filepath.FromSlash(name), folder: workDir,
		base:   filepath.Join(workDir, hex.EncodeToString(sum[:16])),
		sparse: p.cfg.sparse, keepPartial: !p.cfg.checkpoint.none(), isCheckpointOf: isCheckpointOf,
	}
}

// tidy removes what a call that was killed left of a file that is there by now.
func (p *prefixRun) tidy(name string) error {
	if !p.tree.leftover {
		return nil
	}
	return removeLeftovers(p.destination(name))
}
