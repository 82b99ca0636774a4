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
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/fsys"
)

// PrefixResult tells what a DownloadPrefix has done. It is not nil once a request was made, also beside an error.
type PrefixResult struct {
	Done    int   // objects that were brought, and folders that were made for keys that end in a slash
	Skipped int   // those that were there already
	Failed  int   // those that neither are there nor were brought; an interruption is nobody's failure
	Bytes   int64 // of the files brought
	// Failures are the first 1,000 of Failed, as they happened. All are logged.
	Failures []KeyError
}

// maxFailures bounds PrefixResult.Failures.
const maxFailures = 1000

// DownloadPrefix brings all objects whose keys begin with prefix to files below the folder dir, which is made, with those
// above it, where it does not exist. An empty prefix is the whole bucket; one without objects is no error. Folders below
// dir are made as needed. The local name is the key without the prefix up to its last slash: with the prefix "logs/2024"
// the key "logs/2024/may.gz" becomes DIR/2024/may.gz, with "logs/2024/" it becomes DIR/may.gz.
//
// Each object comes as Download brings it, whole and verified by one rename, and the file gets the object's Last-Modified.
// Small objects come many at once, large ones in parts; WithConcurrency and WithRateLimit bound the whole call, requests
// for the listing included. The listing is read page by page, so that a million keys need no more memory than a thousand.
//
// A file that is there with the size and time (to the second) of its object is skipped, see WithCompareCRC64; anything
// else is fetched and replaced, as the object is then and not as it was when it was listed. So the same call again does
// what is left, and objects of which an interrupted call had a part go on where they were. Keys that WithInclude,
// WithExclude or WithShard leave out are not counted.
//
// An object that fails does not stop the others: it is in PrefixResult.Failures, and the call ends with an error that says
// how many there were and wraps the KeyError of the first. These fail without a request:
//
//   - keys whose local name has an empty element, "." or "..", begins with a slash, or holds a NUL or no UTF-8
//   - keys at or below .ossdl in dir, in whatever case
//   - on Windows, also those with a backslash, a drive letter or another character or name that it does not allow;
//     elsewhere these are characters like others
//   - keys that would lie below another key that is a file: of "a" and "a/b", the second, also if the first is skipped,
//     fails or belongs to another shard
//   - where dir does not tell upper from lower case, keys that differ from an earlier one only by it; there the call
//     remembers some 20 bytes a key. Names that differ only in Unicode normalisation are not told apart where the file
//     system does not, and the last one stays.
//   - names too long for the file system, and names at which something else than a plain file is
//   - names at or below a symbolic link: none is followed inside dir, wherever it leads. The link dir itself may be one.
//   - keys that end in a slash and have content. Those without make a folder.
//
// Working files are in DIR/.ossdl. It goes at the end unless something is left in it: parts of objects that failed or were
// interrupted, for the next call. It may be removed by hand while no call runs. All of dir must be one file system.
//
// Several calls may run on one folder, in any number of processes, as shards do. An object that another call is at fails
// with ErrInUse, and comes whole from the other.
//
// The permissions oss:ListObjects and oss:GetObject are needed. The call ends with ctx, promptly; PrefixResult then tells what was done. A listing that fails ends the call once what
// was listed so far is done. Before the first request it fails for a malformed bucket or prefix, and for a dir that is
// none or cannot be written to. WithProgress adds all objects up: Total is that of those listed so far, Done and Resumed
// include what was skipped. WithCheckpointDir of New does not apply; WithoutCheckpoint leaves nothing of objects that
// fail.
//
// Errors: those of Download, in a KeyError; ErrNotFound where there is no such bucket; oss.ServiceError wherever the
// service answered; ctx's own.
func (d *Downloader) DownloadPrefix(ctx context.Context, bucket, prefix, dir string, opts ...Option) (*PrefixResult, error) {
	cfg, err := d.cfg.with(inDownloadPrefix, opts)
	if err != nil {
		return nil, fmt.Errorf("ossdl: download %s: %w", objectName(bucket, prefix), err)
	}
	p, err := d.newPrefixRun(bucket, prefix, dir, cfg)
	if err != nil {
		return nil, fmt.Errorf("ossdl: download %s: %w", objectName(bucket, prefix), err)
	}
	if err := p.run(ctx); err != nil {
		return p.result(), fmt.Errorf("ossdl: download %s to %s: %w", objectName(bucket, prefix), dir, err)
	}
	return p.result(), nil
}

// prefixRun is one DownloadPrefix.
type prefixRun struct {
	d      *Downloader
	cfg    settings
	bucket *bucketClient
	prefix string
	dir    string
	lane   *lane

	fs       fsys.FS // within dir
	leftover bool    // another call, running or interrupted, has working files there
	folds    bool    // the file system does not tell upper from lower case

	mu      sync.Mutex
	asked   bool // a request was made
	res     PrefixResult
	first   error               // the failure that happened first
	cut     error               // why an object was left unfinished
	folders map[string]struct{} // some that are known to be there
	bytes   tally               // of objects that are settled
	retries int                 // of requests for no object's bytes
	calls   map[*call]int64     // in flight, with the sizes listed
	meters  map[*meter]struct{} // of requests for no object's bytes
}

// tally are bytes, and the requests tried again for them.
type tally struct {
	done, total, resumed, received int64
	retries                        int
}

// newPrefixRun checks names as far as they can be wrong whatever is in bucket and folder.
func (d *Downloader) newPrefixRun(bucket, prefix, dir string, cfg settings) (*prefixRun, error) {
	b, err := d.bucketClient(bucket, &cfg)
	switch {
	case err != nil:
		return nil, err
	case len(prefix) > maxKey || !utf8.ValidString(prefix) || strings.ContainsRune(prefix, 0):
		return nil, fmt.Errorf("prefix %q: up to %d bytes of UTF-8 without NUL are allowed", prefix, maxKey)
	case dir == "":
		return nil, errors.New("empty destination folder; the current one is \".\"")
	}
	return &prefixRun{
		d: d, cfg: cfg, bucket: b, prefix: prefix, dir: dir, lane: d.newLane(cfg.concurrency, cfg.rateLimit),
		folders: map[string]struct{}{}, calls: map[*call]int64{}, meters: map[*meter]struct{}{},
	}, nil
}

// run is the story: the folder, all that is listed into it, the verdict.
func (p *prefixRun) run(ctx context.Context) error {
	if err := os.MkdirAll(p.dir, 0o777); err != nil {
		return err
	}
	root, err := os.OpenRoot(p.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	p.fs = p.cfg.within(root)
	if err := p.openWorkDir(); err != nil {
		return err
	}
	defer p.closeWorkDir()
	end := report(p.cfg.progress, p.look, p.received)
	err = p.verdict(ctx, p.fetchAll(ctx))
	end(err == nil)
	return err
}

// openWorkDir makes the folder of the working files, and tries with it how the file system takes names.
func (p *prefixRun) openWorkDir() error {
	if err := p.fs.Mkdir(workDir, 0o777); err != nil {
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		p.leftover = true
	}
	fi, err := p.fs.Lstat(workDir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return fmt.Errorf("%s is in the way: it is no folder (%v)", filepath.Join(p.dir, workDir), fi.Mode().Type())
	}
	if err := p.fs.Writable(workDir); err != nil {
		return err
	}
	upper, err := p.fs.Lstat(strings.ToUpper(workDir))
	p.folds = err == nil && fsys.SameFile(fi, upper)
	return nil
}

// closeWorkDir removes the folder of the working files if nothing is left in it; what is left is for the next call.
func (p *prefixRun) closeWorkDir() {
	if err := p.fs.Remove(workDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.cfg.log.Info("working files left for the next call", "dir", filepath.Join(p.dir, workDir), "reason", err)
	}
}

// fetchAll lists the prefix and brings the objects, many at once. An error is the listing's or the context's; those of
// objects are settled.
func (p *prefixRun) fetchAll(ctx context.Context) error {
	stop := p.watch()
	defer stop()
	pages := make(chan []listed, 1) // one ahead, so that the line is not idle between two
	group, listing := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(pages)
		return p.list(listing, pages)
	})
	group.Go(func() error { return p.dispatch(ctx, pages) })
	if err := group.Wait(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

// list reads page after page.
func (p *prefixRun) list(ctx context.Context, pages chan<- []listed) error {
	for token := ""; ; {
		var page []listed
		next := ""
		err := p.ask(ctx, "listing", func(ctx context.Context, m *meter) (err error) {
			page, next, err = p.bucket.list(ctx, p.prefix, token, func(r io.Reader) io.Reader { return &metered{ctx, p.lane, m, r} })
			return err
		})
		if err != nil {
			return fmt.Errorf("listing: %w", err)
		}
		select {
		case pages <- page:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if next == "" {
			return nil
		}
		token = next
	}
}

// dispatch starts with every object that is asked for, as soon as there is room for it. It returns once all have ended.
func (p *prefixRun) dispatch(ctx context.Context, pages <-chan []listed) error {
	room := p.objects()
	slots := semaphore.NewWeighted(room)
	var running sync.WaitGroup
	defer running.Wait()
	names := newNamer(p.prefix, runtime.GOOS == "windows", p.folds)
	for page := range pages {
		for _, o := range page {
			if !chosen(names.raw(o.key), p.cfg.include, p.cfg.exclude) {
				continue
			}
			// What other shards bring has names, too.
			name, err := names.name(o.key)
			if !p.cfg.shard.has(o.key) {
				continue
			}
			p.expect(o.size)
			if err != nil {
				p.failed(o, err)
				continue
			}
			n := weight(o.size, room)
			if err := slots.Acquire(ctx, n); err != nil {
				return context.Cause(ctx)
			}
			running.Go(func() {
				defer slots.Release(n)
				p.bring(ctx, o, name)
			})
		}
	}
	return nil
}

// objects is how many may be in flight: a quarter more than requests may be, so that while some are at the disk others
// keep the line full.
func (p *prefixRun) objects() int64 {
	n := p.d.gate.ceiling()
	if p.lane.own != nil {
		n = min(n, cap(p.lane.own))
	}
	return int64(n + n/4 + 2)
}

// weight is how much room an object takes: one that employs several requests that of several, but no more than a quarter
// of all, since at its end it employs few. So few large objects are in flight at once, and few unfinished ones are left
// by an interruption.
func weight(size, room int64) int64 {
	return max(1, min(size/firstPiece, room/4))
}

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
		return err
	}
	there, err := p.isThere(ctx, o, name)
	if err != nil {
		return err
	}
	if !there {
		return p.fetch(ctx, o, name)
	}
	p.tidy(name)
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
		p.failed(o, err)
		return
	}
	p.settle(func(r *PrefixResult) { r.Done++ }, tally{})
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
		return false, fmt.Errorf("%s is no plain file (%v)", name, fi.Mode().Type())
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
	err := p.fs.Mkdir(local(name), 0o777)
	if err == nil {
		// Without it a power loss could take the files that will be synced into it.
		err = p.fs.SyncDir(local(parent))
	} else if errors.Is(err, fs.ErrExist) {
		err = p.isFolder(name)
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
		return fmt.Errorf("%s is no folder (%v)", name, fi.Mode().Type())
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
	p.ended(c, o.size, err)
	return err
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

// tidy removes what a call that was killed left of a file that is there by now.
func (p *prefixRun) tidy(name string) {
	if !p.leftover {
		return
	}
	d := p.destination(name)
	d.cpPath = d.base + checkpointSuffix
	left := slices.ContainsFunc([]string{partSuffix, checkpointSuffix, lockSuffix}, func(suffix string) bool {
		_, err := p.fs.Lstat(d.base + suffix)
		return err == nil
	})
	if !left {
		return
	}
	unlock, err := d.lock()
	if err != nil {
		return // somebody is at it
	}
	defer unlock()
	d.begun = true
	d.discard()
}

// result is what was done, for the caller to keep.
func (p *prefixRun) result() *PrefixResult {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asked {
		return nil
	}
	res := p.res
	return &res
}

// verdict is the error of the whole, where err is that of the listing or the context.
func (p *prefixRun) verdict(ctx context.Context, err error) error {
	if ctxErr := ctx.Err(); err != nil && ctxErr != nil && !errors.Is(err, ctxErr) && errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("%w: %w", ctxErr, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first == nil {
		return err
	}
	failed := fmt.Errorf("%d of %d objects failed, the first: %w", p.res.Failed, p.res.Done+p.res.Skipped+p.res.Failed, p.first)
	if err != nil {
		return fmt.Errorf("%w; %w", err, failed)
	}
	return failed
}

// expect counts the size of an object that is not settled yet.
func (p *prefixRun) expect(size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes.total += size
}

func (p *prefixRun) begun(c *call, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[c] = size
}

// ended settles the bytes of a call, and its object if it is whole.
func (p *prefixRun) ended(c *call, size int64, err error) {
	now := c.look()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, c)
	p.bytes.received += c.stats.downloaded.Load()
	p.bytes.resumed += now.Resumed
	p.bytes.done += now.Done
	p.bytes.retries += now.Retries
	if now.Total > 0 || err == nil {
		p.bytes.total += now.Total - size // it is another object than was listed
	}
	if err == nil {
		p.res.Done++
		p.res.Bytes += now.Total
	}
}

func (p *prefixRun) skipped(o listed) {
	p.settle(func(r *PrefixResult) { r.Skipped++ }, tally{done: o.size, resumed: o.size})
}

func (p *prefixRun) settle(count func(*PrefixResult), t tally) {
	p.mu.Lock()
	defer p.mu.Unlock()
	count(&p.res)
	p.bytes.done += t.done
	p.bytes.resumed += t.resumed
}

// cutOff notes that an object is unfinished because ctx ended, which is no failure of it.
func (p *prefixRun) cutOff(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = context.Cause(ctx)
}

func (p *prefixRun) failed(o listed, err error) {
	failure := KeyError{Key: o.key, Err: err}
	p.cfg.log.Error("object failed", "bucket", p.bucket.bucket, "key", o.key, "error", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.res.Failed++
	if p.first == nil {
		p.first = failure
	}
	if len(p.res.Failures) < maxFailures {
		p.res.Failures = append(p.res.Failures, failure)
	}
}

// look is the state for a progress report.
func (p *prefixRun) look() Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := Progress{
		Done: p.bytes.done, Total: p.bytes.total, Resumed: p.bytes.resumed,
		Retries: p.bytes.retries, InFlight: len(p.meters),
	}
	for c, size := range p.calls {
		one := c.look()
		sum.Done += one.Done
		sum.Resumed += one.Resumed
		sum.InFlight += one.InFlight
		sum.Retries += one.Retries
		if one.Total > 0 {
			sum.Total += one.Total - size
		}
	}
	return sum
}

// received are the body bytes so far.
func (p *prefixRun) received() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.bytes.received
	for c := range p.calls {
		n += c.stats.downloaded.Load()
	}
	return n
}

// ask makes a request for something else than an object's bytes, under the same rules: with a slot, given up when it
// stalls, and tried again.
func (p *prefixRun) ask(ctx context.Context, what string, request func(context.Context, *meter) error) error {
	for fails := 1; ; fails++ {
		err := p.askOnce(ctx, request)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case fails >= p.cfg.retry.Attempts || !retryable(err):
			return err
		}
		p.mu.Lock()
		p.bytes.retries++
		p.mu.Unlock()
		p.cfg.log.Info("request failed, goes on", "request", what, "withoutProgress", fails, "error", err)
		if err := p.d.gate.backOff(ctx, p.cfg.retry, fails, err); err != nil {
			return err
		}
	}
}

func (p *prefixRun) askOnce(ctx context.Context, request func(context.Context, *meter) error) error {
	if err := p.lane.acquire(ctx); err != nil {
		return err
	}
	defer p.lane.release()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	m := &meter{cancel: cancel, start: time.Now()}
	p.mu.Lock()
	p.asked = true
	p.meters[m] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.meters, m)
	}()
	m.waits()
	err := request(ctx, m)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// metered reads a body as slowly as the limits ask for, and tells the meter of it.
type metered struct {
	ctx  context.Context
	lane *lane
	m    *meter
	from io.Reader
}

func (r *metered) Read(b []byte) (int, error) {
	r.m.waits()
	n, err := r.from.Read(b[:min(len(b), r.lane.readLimit())])
	r.m.got(n)
	if lerr := r.lane.throttle(r.ctx, n); lerr != nil {
		return n, lerr
	}
	return n, err
}

// watch ends requests that stall, and lets the gate judge how the call gets on: most objects are too short for it.
func (p *prefixRun) watch() (stop func()) {
	done := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		tick := time.NewTicker(tickTime)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case now := <-tick.C:
				p.d.gate.tick(now)
				p.mu.Lock()
				for m := range p.meters {
					if m.stalled(p.cfg.stall) {
						m.cancel(fmt.Errorf("%w of %v", errStalled, p.cfg.stall))
					}
				}
				p.mu.Unlock()
			}
		}
	})
	return func() {
		close(done)
		ended.Wait()
	}
}
