package ossdl

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/localfile"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/thaw"
	"github.com/ossdl/ossdl/internal/tree"
)

// item is an object of the call, from when its turn comes until it is settled.
type item struct {
	entry
	name     string // of its file; that of a folder ends in a slash, and "" is the folder of the call
	named    bool   // it can have a name
	start    time.Time
	there    int64         // bytes of the file that is there
	asked    int           // requests made for anything but its bytes
	retried  int           // of them, those that followed a failure
	found    *object.Facts // what the last of them said; nil: nothing
	crc      uint64        // of the file that was there; 0: not computed
	verified bool          // it is that of the object
	summed   bool          // the file that was there was read
	sha256   []byte        // of that file; nil: not computed
	call     *call         // its download; nil until that has begun
	header   http.Header   // of the HEAD request, if the object was encrypted and is to be decrypted; else nil
	restore  restoreWork
}

// restoreWork is what a call has done for an object that is archived.
type restoreWork struct {
	asked   thaw.Asked
	apart   bool  // it is looked at apart from the objects that are downloaded, and must not be downloaded there
	refused uint8 // how often it was refused as frozen
}

// isFolder reports whether the key stands for a folder.
func (o *item) isFolder() bool { return o.name == "" || strings.HasSuffix(o.name, "/") }

// objectResult describes what became of an object.
func (p *prefixCall) objectResult(o *item, status ObjectStatus, durable bool, err error) ObjectResult {
	r := ObjectResult{
		Status: status, Key: o.Key, VersionID: o.Version, ETag: o.ETag, Size: o.Size, LastModified: o.Modified, Durable: durable,
		Requests: o.asked, Retries: o.retried, Restored: o.restore.asked.Begun, Duration: time.Since(o.start), Err: err,
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

// fetchObject downloads one object to its file, unless it is there, or makes the folder that it stands for. missing says that the
// file is known not to be there.
func (p *prefixCall) fetchObject(ctx context.Context, o *item, missing bool) {
	var err error
	switch {
	case o.isFolder():
		err = p.makeFolder(ctx, o)
	case missing:
		err = p.fetch(ctx, o, false)
	default:
		err = p.fetchMissing(ctx, o)
	}
	if err == errThaws {
		return
	}
	if err != errHandedOver {
		p.settle(ctx, o, err)
	}
	if p.restoring != nil {
		p.restoring.queue.Release()
	}
}

// errHandedOver says that an object is with the committer, which settles it.
var errHandedOver = errors.New("the object is with the committer")

// settle counts an object that was not downloaded, by the reason.
func (p *prefixCall) settle(ctx context.Context, o *item, err error) {
	switch {
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
		return fsys.Unusable(fmt.Errorf("it has %s of content, but its name is that of a folder", byteCount(size)))
	case name == "":
		p.skipped(o, p.folder.Keeps("."))
		return nil
	}
	there := p.folder.IsFolder(name)
	if err := p.folder.Make(name); err != nil {
		return p.noSpace(err)
	}
	switch {
	case there:
		p.skipped(o, p.folder.Keeps(name))
	case p.cfg.dryRun:
		p.planned(o)
	default:
		p.madeFolder(o)
	}
	return nil
}

// noSpace turns the error of a full disk into ErrNoSpace.
func (p *prefixCall) noSpace(err error) error { return localfile.NoSpace(p.fs, ".", 0, err) }

// fetchMissing downloads an object to its file, unless it is there. The error is errHandedOver if that has still to get its path.
func (p *prefixCall) fetchMissing(ctx context.Context, o *item) error {
	if err := p.folder.Make(path.Dir(o.name)); err != nil {
		return p.noSpace(err)
	}
	fi, err := p.folder.File(o.name)
	if err != nil {
		return err
	}
	there, err := p.isThere(ctx, o, fi)
	if there && p.manifest != nil && !o.summed { // the manifest says what is in the file, not what should be
		if err = p.read(ctx, o); err == nil && o.givenCRC() != 0 {
			there, err = p.hasGivenCRC(ctx, o)
		}
	}
	if err != nil {
		return err
	}
	if !there && p.cfg.startsOnly() {
		return p.restoreFirst(ctx, o)
	}
	if !there && p.cfg.dryRun {
		p.planned(o)
		return nil
	}
	if !there {
		return p.fetch(ctx, o, fi != nil)
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

// isThere reports whether fi, the file at the object's name, is the object already, judged by size and time, or by CRC-64 if the
// caller wants that, has given one or no time, or the file system does not keep times.
func (p *prefixCall) isThere(ctx context.Context, o *item, fi fs.FileInfo) (bool, error) {
	if fi == nil {
		return false, nil
	}
	o.there = fi.Size()
	if p.keep != nil {
		p.wasThere()
	}
	switch planted, err := p.folder.Planted(o.name, fi); {
	case err != nil:
		return false, err
	case planted:
		owner, _ := fsys.Owner(fi)
		p.cfg.log.Warn("file of another user in a sticky folder does not count as downloaded", "bucket", p.bucket.Name(), "key", o.Key, "user", owner)
		return false, nil
	}
	byCRC := p.cfg.compareCRC
	if !o.Symlink && o.hasSize() {
		if fi.Size() != o.Size {
			return false, nil
		}
		if !byCRC && o.hasTime() {
			same, sure := p.folder.SameTime(o.name, fi.ModTime(), o.Modified)
			if sure && (same || o.givenCRC() == 0 && !p.cfg.wantsTime()) {
				return same, nil
			}
			byCRC = !sure
		}
	}
	if o.givenCRC() != 0 {
		return p.hasGivenCRC(ctx, o)
	}
	f, err := p.head(ctx, o)
	if err != nil || fi.Size() != f.Size {
		return false, err
	}
	if !byCRC || !f.HasCRC {
		same, sure := p.folder.SameTime(o.name, fi.ModTime(), p.timeOf(f))
		if !f.HasCRC && !same && !sure {
			p.sayFetchedAgain(o)
		}
		if sure && (same || !p.cfg.wantsTime()) || !f.HasCRC {
			return same, nil
		}
		// A time of metadata may be one that the file system cannot keep. That must not make every call fetch the file again.
	}
	return p.hasCRC(ctx, o, f.CRC)
}

// sayFetchedAgain logs, once, that nothing can tell whether files are their objects, so that these come again.
func (p *prefixCall) sayFetchedAgain(o *item) {
	p.fetchedAgain.Do(func() {
		p.cfg.log.Warn("fetched again: the file system does not keep times exactly, and the object has no CRC-64; further ones are not logged",
			"bucket", p.bucket.Name(), "key", o.Key)
	})
}

// head asks for the facts of an object.
func (p *prefixCall) head(ctx context.Context, o *item) (object.Facts, error) {
	return p.headBy(ctx, o, p.bucket.Head)
}

// headBy is head with one of the bucket's methods for it.
func (p *prefixCall) headBy(ctx context.Context, o *item, head func(context.Context, string, string) (object.Facts, http.Header, error)) (f object.Facts, err error) {
	var h http.Header
	err = p.askAbout(ctx, o, "HEAD", func(ctx context.Context) (err error) {
		f, h, err = head(ctx, o.Key, o.version())
		return err
	})
	if err == nil {
		err = o.contradicts(f)
	}
	if err == nil {
		err = (&objectOptions{versionID: o.Version, asOf: p.cfg.object.asOf}).isAsOf(f)
	}
	if err == nil {
		o.found = &f
		if p.cfg.keys != nil && object.IsEncrypted(h) {
			o.header = h
		}
		if f.ArchiveStatus.Class != "" {
			o.ArchiveStatus = f.ArchiveStatus
		}
	}
	return f, err
}

// askAbout makes a request for an object that does not ask for its bytes.
func (p *prefixCall) askAbout(ctx context.Context, o *item, what string, request func(context.Context) error) error {
	again := 0
	return p.ask(ctx, what, func(ctx context.Context, _ *engine.Meter) error {
		o.asked++
		o.retried += again
		again = 1
		return request(ctx)
	})
}

// hasGivenCRC reports whether the file is that of an object with the CRC-64 that the caller has given.
func (p *prefixCall) hasGivenCRC(ctx context.Context, o *item) (bool, error) {
	has, err := p.hasCRC(ctx, o, o.givenCRC())
	if has || err != nil || p.cfg.keys == nil || o.found != nil {
		return has, err
	}
	// If the object is encrypted, that of the file is another one.
	if _, err := p.head(ctx, o); err != nil || o.header == nil {
		return false, err
	}
	return p.hasCRC(ctx, o, o.givenCRC())
}

// hasCRC reports whether the file is that of an object with a CRC-64.
func (p *prefixCall) hasCRC(ctx context.Context, o *item, want uint64) (bool, error) {
	if !o.summed {
		if err := p.read(ctx, o); err != nil {
			return false, err
		}
	}
	stored, err := p.storedCRC(ctx, o, o.crc, o.there)
	o.verified = err == nil && stored == want
	return o.verified, err
}

// storedCRC returns the CRC-64 of an object as it is stored, from that of its file, which has size bytes.
func (p *prefixCall) storedCRC(ctx context.Context, o *item, crc uint64, size int64) (uint64, error) {
	if o.header == nil {
		return crc, nil
	}
	stream, err := newOpener(p.cfg.keys, p.panics).Open(o.header).Stream(ctx)
	if err != nil {
		return 0, err
	}
	buf := p.d.buffers.Get()
	defer p.d.buffers.Put(buf)
	return stream.Stored(ctx, crc, size, buf)
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

// fetch downloads one object. Its working files are in the folder for them. replaces says that there is a file. The error is
// errHandedOver if the file has still to get its path.
func (p *prefixCall) fetch(ctx context.Context, o *item, replaces bool) error {
	if p.restoring != nil {
		if err := p.restoreFirst(ctx, o); err != nil {
			return err
		}
	}
	err := p.fetchReadable(ctx, o, replaces)
	if errors.Is(err, ErrArchived) {
		return p.frozenAfterAll(ctx, o, err)
	}
	return err
}

// fetchReadable does it for an object that need not be restored, as far as is known.
func (p *prefixCall) fetchReadable(ctx context.Context, o *item, replaces bool) error {
	src, err := p.bucket.Object(o.Key)
	if err != nil {
		return err
	}
	files, err := p.fileConfig(o.name)
	if err != nil {
		return err
	}
	c := p.d.newCallIn(p.lane, src, p.cfg, p.panics)
	c.objectTimes, c.sumSHA256, c.parks = true, p.cfg.manifestSHA256, true
	if err := c.give(o.given); err != nil {
		return err
	}
	c.knownEmpty = o.hasSize() && o.Size == 0 && !o.Symlink
	if o.given == nil {
		c.versionID = o.Version
	}
	if o.given == nil && !o.Symlink && !o.Appendable {
		c.listed = &object.Facts{Size: o.Size, ETag: o.ETag, LastModified: o.Modified}
	}
	p.begun(o, c)
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
	p.ended(o, err)
	return err
}

// frozenAfterAll returns the error of an object that was refused as frozen. If the call restores objects, it waits with those
// that thaw, and the next look decides.
func (p *prefixCall) frozenAfterAll(ctx context.Context, o *item, err error) error {
	if p.restoring != nil && o.restore.refused < maxRefused {
		o.restore.refused++
		o.asked += int(o.call.stats.Requests.Load())
		o.retried += int(o.call.stats.Retries.Load())
		o.call = nil
		p.restoring.queue.Add(o)
		return errThaws
	}
	f := o.ArchiveStatus
	if f.Class == "" || p.restoring != nil {
		f, _ = (&frozenItem{p, o}).Look(ctx)
	}
	return archived(f, err)
}

// maxRefused is how often an object may be refused as frozen although it seemed to be readable.
const maxRefused = 3

// smallCall is what a call needs for objects that stay in memory until they are verified.
type smallCall struct {
	committer *localfile.Committer
	bodies    *localfile.Bodies
	smallDogs *engine.Watchdog    // of the requests for their bytes
	unsynced  map[string]struct{} // folders with files of earlier calls that a power loss may undo
	allMay    bool                // any folder may be one of them
}

// isSmall reports whether an object is one that stays in memory until it is verified, by what is listed: it takes one request.
func (p *prefixCall) isSmall(o *item) bool {
	return o.hasSize() && !o.Symlink && o.Size <= localfile.MaxSmall && o.Size <= partSizer{p.cfg.partSize}.first(0, -1)
}

// fetchSmall fetches an object into memory and hands it to the committer, which gives it its path with many others. The error
// is errHandedOver then. It is localfile.ErrNotSmall if the object has grown since it was listed. Otherwise the call has ended.
func (p *prefixCall) fetchSmall(ctx context.Context, c *call, o *item, files localfile.Config, replaces bool) error {
	small, err := localfile.OpenSmall(ctx, files, p.bodies, o.Size, replaces)
	if err != nil {
		p.ended(o, err)
		return err
	}
	err = c.toMemory(ctx, small, p.smallDogs)
	if err == nil {
		p.fetched(c)
		err = p.committer.Add(ctx, small, func(durable bool, err error) {
			c.durable = durable
			p.ended(o, err)
			p.settle(ctx, o, err)
		})
	}
	if err == nil {
		return errHandedOver
	}
	small.Abandon()
	if !errors.Is(err, localfile.ErrNotSmall) {
		p.ended(o, err)
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
		Sparse: p.cfg.sparse, KeepPartial: !p.cfg.checkpoint.none(), IsCheckpoint: isCheckpoint, Notices: &p.notices, Trials: &p.trials,
		Left: left, AreLeft: known,
		Backlog: &p.d.backlog,
	}, nil
}

// tidy removes the working files that a killed call left for a file that is complete by now.
func (p *prefixCall) tidy(name string) (durable bool, err error) {
	unsynced := p.mayBeUnsynced(name)
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

// mayBeUnsynced reports whether a power loss may undo the rename of a file of an earlier call, or take its folder.
func (p *prefixCall) mayBeUnsynced(name string) bool {
	if p.allMay || !p.folder.Keeps(name) {
		return true
	}
	if len(p.unsynced) == 0 {
		return false
	}
	_, unsynced := p.unsynced[filepath.Dir(filepath.FromSlash(name))]
	return unsynced
}

// startCommitter finishes what calls that were killed have left unsynced, and starts the committer of this call. stop returns
// once every object that was handed over is settled.
func (p *prefixCall) startCommitter(ctx context.Context) (stop func()) {
	cfg := localfile.Config{FS: p.fs, Log: p.cfg.log, Path: tree.WorkDir, Folder: tree.WorkDir, Base: filepath.Join(tree.WorkDir, "x"), Notices: &p.notices}
	left, listed := p.folder.Left(tree.WorkDir)
	unsynced, known := localfile.SyncLeftBatches(cfg, slices.Sorted(maps.Keys(left)))
	p.unsynced, p.allMay = map[string]struct{}{}, !listed || !known
	for _, dir := range unsynced {
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

const (
	lookers   = 16 // goroutines that look for files, on file systems that are far away
	lookBatch = 32 // objects that one of them takes at a time: to hand over each alone would cost more than to look for it
)

// looking finds out which objects are there already, in batches, and begins with the others.
type looking struct {
	ctx     context.Context
	group   *errgroup.Group
	batches chan []*item
	batch   []*item // that is being filled
}

// startLooking returns a looking that calls begin for each object that does not seem to be there; begin may wait. An error of
// begin ends it.
func (p *prefixCall) startLooking(ctx context.Context, begin func(o *item, missing bool) error) *looking {
	l := &looking{batches: make(chan []*item)}
	l.group, l.ctx = errgroup.WithContext(ctx)
	for range lookers {
		l.group.Go(func() error {
			for batch := range l.batches {
				if err := p.lookAt(l.ctx, batch, begin); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return l
}

// add hands over an object.
func (l *looking) add(o *item) {
	if l.batch = append(l.batch, o); len(l.batch) == lookBatch {
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
	case <-l.ctx.Done(): // what follows is not looked at
	}
	l.batch = nil
}

// end waits until all that was handed over is settled or begun.
func (l *looking) end() error {
	close(l.batches)
	return l.group.Wait()
}

// lookAt looks for the files of some objects, and begins with those that are not there.
func (p *prefixCall) lookAt(ctx context.Context, batch []*item, begin func(o *item, missing bool) error) error {
	for _, o := range batch {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		settled, missing := p.look(ctx, o)
		if settled {
			continue
		}
		if err := begin(o, missing); err != nil {
			return err
		}
	}
	return nil
}

// look reports whether there is nothing to do for an object any more, which is counted then, or whether its file is missing. It
// makes no request: if it would take one, or a second look, to know, the answer is neither.
func (p *prefixCall) look(ctx context.Context, o *item) (settled, missing bool) {
	if o.isFolder() || o.given != nil || o.Symlink || p.cfg.compareCRC || p.cfg.dryRun || p.manifest != nil {
		return false, false
	}
	is, err := p.folder.Look(o.name, o.Size, o.Modified)
	if err != nil {
		p.settle(ctx, o, p.noSpace(err))
		return true, false
	}
	if is != tree.Unchanged || p.folder.Claim(o.name) != nil {
		return false, is == tree.Missing
	}
	o.there = o.Size
	p.wasThere()
	p.skipped(o, !p.mayBeUnsynced(o.name))
	return true, false
}
