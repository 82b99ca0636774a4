package ossdl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/localfile"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/slots"
)

// This file has what calls for one file do with a file that may be what they were to download: WithIfChanged looks at it before
// anything else, and WithWait once another call has written it.

// intoPlace brings the object to its file, after another call if that has the file. It returns the path with links resolved.
func (c *call) intoPlace(ctx context.Context, path string) (string, error) {
	dst, err := localfile.Check(c.fileConfig(path))
	if err != nil {
		return path, err
	}
	err = c.toFile(ctx, dst)
	if c.cfg.wait > 0 && errors.Is(err, ErrInUse) {
		err = c.afterOthers(ctx, path, dst.Path(), err)
	}
	return dst.Path(), err
}

// The pauses between two tries of a lock. They grow.
const (
	firstLockPause = 20 * time.Millisecond
	lastLockPause  = time.Second
)

// waited is what a call remembers that waits for another one.
type waited struct {
	before fs.FileInfo // the file when it began; nil: there was none
}

// replaced reports whether the file is another one than before. A call that has not waited does not know.
func (w *waited) replaced(now fs.FileInfo) bool {
	return w != nil && (w.before == nil || !fsys.SameFile(w.before, now) || !w.before.ModTime().Equal(now.ModTime()))
}

// afterOthers waits until no other call has the file, and then takes what that has brought, or does what that has left undone. If that
// takes too long, the last ErrInUse is returned.
func (c *call) afterOthers(ctx context.Context, path, resolved string, inUse error) error {
	c.cfg.log.Info("waiting for another call", "path", resolved, "error", inUse)
	c.waited = &waited{}
	if fi, err := c.cfg.fs.Lstat(resolved); err == nil {
		c.waited.before = fi
	}
	end := time.Now().Add(c.cfg.wait)
	for pause := firstLockPause; ; pause = min(2*pause, lastLockPause) {
		left := time.Until(end)
		if left <= 0 {
			return inUse
		}
		if err := slots.Sleep(ctx, min(pause, left)); err != nil {
			return err
		}
		dst, err := localfile.Check(c.fileConfig(path)) // its working folder may be another one now
		if err == nil {
			err = c.toFile(ctx, dst)
		}
		if !errors.Is(err, ErrInUse) {
			return err
		}
		inUse = err
	}
}

// present is a file that is what a call was to download.
type present struct {
	size  int64
	facts object.Facts // of the object; zero if the digest was enough
}

// comparable returns an error if no file can be compared with what [WithIfChanged] would download.
func (c *call) comparable() error {
	switch {
	case !c.cfg.ifChanged || c.newHash != nil:
	case c.oneStream:
		return errors.New("WithIfChanged applies to a URL with x-oss-process only with WithChecksum")
	case c.asked != nil:
		return errors.New("WithIfChanged applies to a part of an object (WithRange) only with WithChecksum")
	}
	return nil
}

// skip ends the call if the file at the path is what it would download. Its lock must be held.
func (c *call) skip(ctx context.Context, dst *localfile.Destination) (done bool, err error) {
	there, err := c.find(ctx, dst.Path())
	if err != nil || there == nil {
		c.verdict = verdict{}
		return false, err
	}
	c.mu.Lock()
	c.there = there
	c.mu.Unlock()
	c.durable = c.syncThere(dst.Path()) && !dst.FolderMayGo()
	c.cfg.log.Info("skipped; the file is there", "path", dst.Path())
	dst.Discard()
	return true, nil
}

// syncThere syncs a file and its name, and reports whether both succeeded: whoever made the file need not have done so.
func (c *call) syncThere(path string) bool {
	err := fsys.SyncFile(c.cfg.fs, path)
	if err == nil {
		err = c.cfg.fs.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		c.cfg.log.Warn("file that is there could not be synced", "path", path, "error", err)
	}
	return err == nil
}

// find returns the file at path if it is what the call would download, and its verdict.
func (c *call) find(ctx context.Context, path string) (*present, error) {
	fi, err := c.cfg.fs.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !fi.Mode().IsRegular() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	switch planted, err := fsys.Planted(c.cfg.fs, filepath.Dir(path), fi); {
	case err != nil:
		return nil, err
	case planted:
		owner, _ := fsys.Owner(fi)
		c.cfg.log.Warn("file of another user in a sticky folder does not count as downloaded", "path", path, "user", owner)
		return nil, nil
	}
	there := &present{size: fi.Size()}
	if c.newHash != nil || c.wantCRC != 0 && c.sealed == nil {
		same, err := c.hasDigest(ctx, path, fi.Size())
		switch {
		case err != nil:
			return nil, err
		case !same && c.waited.replaced(fi):
			return nil, fmt.Errorf("%w: another call has brought %s meanwhile, without %s", ErrChecksum, path, c.wanted())
		case !same:
			return nil, nil
		}
		return there, nil
	}
	if c.asked != nil || c.oneStream { // the CRC-64 of the object is not that of the file
		return nil, nil
	}
	if err := c.findVersion(ctx); err != nil {
		return nil, err
	}
	if there.facts, err = c.lookUp(ctx); err != nil {
		return nil, err
	}
	f := there.facts
	if c.wantCRC != 0 { // of the ciphertext
		f.CRC, f.HasCRC = c.wantCRC, true
	}
	switch {
	case f.Size != fi.Size(), c.ifMatch != "" && !object.SameETag(c.ifMatch, f.ETag), c.fits(there.facts) != nil: // the download reports the last two
		return nil, nil
	case !f.HasCRC: // only the time is left; that of a link may be older than what it leads to
		if f.Symlink || f.LastModified.IsZero() || fi.ModTime().Sub(f.LastModified).Abs() >= timeError {
			return nil, nil
		}
		c.crc, err = fileCRC(ctx, c.cfg.fs, path, nil)
		return there, err
	}
	if c.crc, err = fileCRC(ctx, c.cfg.fs, path, nil); err != nil {
		return nil, err
	}
	stored := c.crc
	if f.Envelope != "" && c.sealed != nil {
		buf := make([]byte, engine.BufferSize)
		if stored, err = c.sealed.Stream(f).Stored(ctx, c.crc, f.Size, buf); err != nil {
			return nil, err
		}
	}
	if c.verified = stored == f.CRC; !c.verified {
		return nil, nil
	}
	return there, nil
}

// hasDigest reports whether the file at path, of size bytes, has the digest, the CRC-64 and the size that the caller gave.
func (c *call) hasDigest(ctx context.Context, path string, size int64) (same bool, err error) {
	if c.check != nil && c.check(object.Facts{Size: size}) != nil {
		return false, nil
	}
	perr := c.panics.Guard("the hash of WithChecksum", func() {
		var h hash.Hash
		if c.newHash != nil {
			if h, err = c.makeHash(); err != nil {
				return
			}
		}
		if c.crc, err = fileCRC(ctx, c.cfg.fs, path, h); err == nil {
			same = (h == nil || bytes.Equal(h.Sum(nil), c.want)) && (c.wantCRC == 0 || c.sealed != nil || c.crc == c.wantCRC)
		}
	})
	c.verified = same
	return same, errors.Join(perr, err)
}

// wanted names what the caller said of the bytes.
func (c *call) wanted() string {
	if c.newHash == nil {
		return fmt.Sprintf("the CRC-64 %d", c.wantCRC)
	}
	return fmt.Sprintf("the digest %x", c.want)
}

// lookUp asks what the object is, without its bytes; of a URL, with the first one.
func (c *call) lookUp(ctx context.Context) (f object.Facts, err error) {
	src, ok := c.src.(frozenSource) // false if it decrypts: then the envelope is needed
	if ok {
		err = c.ask(ctx, "HEAD", func(ctx context.Context) (err error) {
			f, err = src.Head(ctx, c.versionID)
			return err
		})
		return f, err
	}
	err = c.ask(ctx, "first byte", func(ctx context.Context) error {
		if err := c.src.Ready(ctx); err != nil {
			return err
		}
		a, err := c.firstByte(ctx)
		if err == nil {
			f = a.Facts
			a.Body.Close()
		}
		return err
	})
	return f, err
}
