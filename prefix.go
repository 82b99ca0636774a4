package ossdl

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/semaphore"

	"github.com/ossdl/ossdl/internal/bucket"
	"github.com/ossdl/ossdl/internal/callers"
	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/localfile"
	"github.com/ossdl/ossdl/internal/manifest"
	"github.com/ossdl/ossdl/internal/slots"
	"github.com/ossdl/ossdl/internal/tree"
)

// maxFailures limits PrefixResult.Failures.
const maxFailures = 1000

// DownloadPrefix downloads all objects whose keys begin with prefix to files below the folder dir.
//
// Each object is downloaded as by [Downloader.Download], and its file gets the object's Last-Modified. Small objects are
// downloaded many at a time, large ones in parts. [WithConcurrency] and [WithRateLimit] apply to the whole call, including the
// requests of the listing. The listing is read page by page, so a million keys need no more memory than a thousand.
//
// An object of 1 MiB or less stays in memory until it is verified; those of one call take 24 MiB at most, all together. Up to 256
// such files are then synced together, get their names, and count as done.
//
// Archived objects fail with [ErrArchived], unless [WithRestore] restores them.
//
// An empty prefix means the whole bucket. A prefix without objects is not an error. dir is created if it does not exist, with its
// parents; a link on the way is followed as [Downloader.Download] does. Folders below it are created as needed, and may be on
// other file systems. The permissions oss:ListObjects and oss:GetObject are needed.
//
// # Names of files
//
// The local name of an object is its key without the prefix up to its last slash. With the prefix "logs/2024" the key
// "logs/2024/may.gz" becomes DIR/2024/may.gz; with "logs/2024/" it becomes DIR/may.gz. A key that ends in a slash and has no
// content becomes a folder.
//
// Some keys cannot have a file. They fail without a request for the object:
//
//   - keys whose local name has an empty element, "." or "..", begins with a slash, contains a NUL, or is not UTF-8
//   - keys at or below .ossdl in dir, in any case or other spelling that leads there, or at or below .ossdl in another folder
//     that needs one; see Resuming
//   - on Windows, keys with a backslash, a drive letter, or another character or name that Windows refuses; elsewhere these
//     characters are allowed
//   - keys that would lie below another key that is a file: of "a" and "a/b" the second, even if the first is skipped, fails
//     or belongs to another shard
//   - in a case-insensitive dir, keys that collide with an earlier key that differs only by case: with its name, with a folder
//     that it needs, or by lying below it. To detect that, the call remembers some 20 to 60 bytes per key.
//   - names that are too long for the file system, and names at which there is anything but a regular file
//   - names at or below a symbolic link inside dir, wherever it leads; dir itself may be a link
//   - keys that end in a slash and have content
//
// A file system may treat other names as equal, too, such as ß and ss, or different normal forms of Unicode. In a
// case-insensitive dir, except on Windows, and always on macOS, that is detected when a file gets its name. Of two such keys
// the second one fails, and its bytes are discarded; which one is the second can differ between calls. The same goes for names
// that differ only by case in a case-insensitive folder below a dir that is not. Elsewhere, for example
// on a ZFS that normalizes names, it is not detected: both keys count as downloaded, and the file is that of the last one.
// The next call downloads the other.
//
// # What is skipped
//
// A file that has the size and time of its object, to the second, is skipped. [WithCompareCRC64] compares the CRC-64 instead of
// the time. So does the call by itself, with a HEAD request for each file of the same size and another time, if the file system
// rounds times or does not keep them. [WithMetadata] says what is skipped if times come from there. Any other file is replaced, by
// the object as it is then, which may not be as it was listed. Keys that [WithInclude], [WithExclude], [WithShard] or
// [WithKeyRange] leave out are not counted.
//
// Files without a key are left alone, unless [WithDelete] makes the folder a mirror. [WithDryRun] reports what a call would do.
//
// # Resuming
//
// To resume, repeat the call: it skips what is there, and continues objects that were interrupted. Those of 1 MiB or less begin
// anew. Working files are in DIR/.ossdl. A folder below, with those below it, has an .ossdl of its own if it is on another mount,
// or if its files get another group, default access list or label than those of the folder above. An .ossdl is removed at the
// end, unless parts of objects that failed or were interrupted are in it. It may be removed by hand while no call is running.
// [WithoutCheckpoint] leaves nothing of objects that fail.
//
// # Several calls at once
//
// Several calls may use the same folder at the same time, in any number of processes, for example one per share of the keys; see
// [WithShard] and [WithKeyRange]. An object that another call is downloading fails with [ErrInUse], and its file is completed by
// the other call.
//
// Download or DownloadURL to a path in dir, and a DownloadPrefix that downloads the same file, exclude each other in the same
// way within one process. In two processes both continue, with working files of their own. The file is always complete; the
// call that ends last wins.
//
// # Progress
//
// [WithProgress] reports the sums of all objects. Total is that of the objects listed so far. Done and Resumed include what was
// skipped. [WithObjectResult] reports each object once, when it is settled.
//
// # Errors
//
// An object that fails does not stop the others. It is in PrefixResult.Failures, and the call returns an error that says how
// many failed and wraps the [*KeyError] of the first. A KeyError wraps the errors of Download.
//
// A listing that fails ends the call once what was listed is done. So does one that is not in the order of the keys' bytes, or
// that has a thousand pages in a row without a key. If there is no such bucket the error is [ErrNotFound]. If the service
// answered, the error wraps an oss.ServiceError.
//
// A malformed bucket or prefix, and a dir that is not a folder or not writable, is an error before the first request.
// DownloadPrefix returns promptly when ctx is done, with its error; the PrefixResult then says what was done. Small
// objects that are written by then still get their names, but no sync of a file begins later than a second after the end.
func (d *Downloader) DownloadPrefix(ctx context.Context, bucket, prefix, dir string, opts ...Option) (*PrefixResult, error) {
	cfg, err := d.settings(inDownloadPrefix, opts)
	if err != nil {
		return nil, nameError("download", bucket, prefix, err)
	}
	p, err := d.newPrefixCall(ctx, bucket, prefix, dir, cfg)
	if err != nil {
		return nil, nameError("download", bucket, prefix, err)
	}
	return p.download(ctx, p.listed)
}

// download downloads what source yields. Objects that source has together are yielded together.
func (p *prefixCall) download(ctx context.Context, source func(context.Context) iter.Seq2[[]entry, error]) (*PrefixResult, error) {
	ctx, done := p.panics.During(ctx)
	defer done()
	err := p.run(ctx, source)
	p.panics.Raise(err)
	if err != nil {
		return p.result(err), fmt.Errorf("ossdl: download %s to %s: %w", objectName(p.bucket.Name(), p.prefix), p.dir, err)
	}
	return p.result(nil), nil
}

// entry is an object that a listing or the caller of DownloadObjects has named.
type entry struct {
	bucket.Entry
	given *Object // what the caller said of it; nil: it was listed, so that size and time are known
}

// prefixCall is one call of DownloadPrefix or DownloadObjects.
type prefixCall struct {
	d         *Downloader
	cfg       settings
	bucket    *bucket.Client
	prefix    string // "" for DownloadObjects
	dir       string
	unordered bool // objects come in any order, and two may have one name
	lane      *slots.Lane
	panics    *callers.Panics  // of the caller's functions
	retrier   *engine.Retrier  // of requests for anything but an object's bytes
	watchdog  *engine.Watchdog // of the same
	folder    *tree.Folder     // dir; nil until it is open
	fs        fsys.FS          // within dir; nil until then
	notices   localfile.Notices
	trials    localfile.Trials
	manifest  *manifest.Writer // nil: none is wanted
	root      *fsys.Root       // dir; nil until it is open, and if it is missing for a dry run
	smallCall
	restoring *restoring // nil: archived objects are not restored

	account
	present int // files of keys that were there already; account.mu guards it

	keep *tree.Keep // the names of the keys, if files without one are to be deleted; nil otherwise

	fetchedAgain sync.Once // see sayFetchedAgain
}

// account is what a call for many objects has done so far.
type account struct {
	mu         sync.Mutex
	res        PrefixResult
	first      error           // the failure that happened first
	unfinished error           // why an object was left unfinished
	sums       sums            // of the objects that have ended
	calls      map[*call]int64 // those of the objects in flight, with the sizes that were expected
	nth        int             // how many were begun
}

// sums are the bytes of several objects, and the requests made for them.
type sums struct {
	done, total, resumed, received int64
	requests, retries              int
}

// newPrefixCall prepares a call. It returns the errors that do not depend on what bucket and folder contain.
func (d *Downloader) newPrefixCall(ctx context.Context, name, prefix, dir string, cfg settings) (*prefixCall, error) {
	b, err := d.bucketClient(ctx, name, &cfg)
	switch {
	case err != nil:
		return nil, err
	case len(prefix) > bucket.MaxKey || !utf8.ValidString(prefix) || strings.ContainsRune(prefix, 0):
		return nil, fmt.Errorf("prefix %q: up to %d bytes of UTF-8 without NUL are allowed", prefix, bucket.MaxKey)
	case dir == "":
		return nil, errors.New("empty destination folder; the current one is \".\"")
	case cfg.dryRun && cfg.manifest != "":
		return nil, errors.New("WithManifest and WithDryRun exclude each other: a dry run writes nothing")
	case cfg.startsOnly() && (cfg.manifest != "" || cfg.mirror):
		return nil, errors.New("StartOnly of WithRestore excludes WithManifest and WithDelete: the call only asks for restores")
	case cfg.mirror && cfg.shard.Count > 1:
		return nil, errors.New("WithDelete and WithShard exclude each other: a share does not know the keys of the others")
	case cfg.mirror && (cfg.after != "" || cfg.until != ""):
		return nil, errors.New("WithDelete and WithKeyRange exclude each other: a part of the keys does not know the others")
	}
	cfg.manifestSHA256 = cfg.manifestSHA256 && cfg.manifest != ""
	if cfg.dryRun {
		cfg.restore = nil
	}
	cfg.dryRun = cfg.dryRun || cfg.startsOnly()
	caught := &callers.Panics{}
	cfg.log, cfg.progress = caught.Logger(cfg.log), callers.Until(caught, "the function of WithProgress", cfg.progress)
	cfg.objectResult = callers.OneByOne(caught, "the function of WithObjectResult", cfg.objectResult)
	p := &prefixCall{
		d: d, cfg: cfg, panics: caught, bucket: b, prefix: prefix, dir: dir, lane: d.newLane(cfg.concurrency, cfg.rateLimit),
		watchdog: engine.NewWatchdog(cfg.stall), trials: localfile.Trials{Dir: dir}, account: account{calls: map[*call]int64{}},
	}
	if cfg.mirror {
		p.keep = tree.NewKeep()
	}
	p.retrier = engine.NewRetrier(d.gate, p.lane, slots.Retry(cfg.retry), cfg.log, p.countRetry)
	return p, nil
}

// run opens the folder and downloads everything that source yields into it.
func (p *prefixCall) run(ctx context.Context, source func(context.Context) iter.Seq2[[]entry, error]) error {
	closeFolder, err := p.openFolder()
	if err != nil {
		return err
	}
	defer closeFolder()
	p.fs = p.folder.FS()
	if err := p.beginManifest(); err != nil {
		return err
	}
	progress := startReporter(p.cfg.progress, p.snapshot, p.received)
	err = p.fetchAll(ctx, source(ctx))
	p.listingEnded(ctx, err)
	if err == nil && p.keep != nil {
		err = p.deleteExtras(ctx)
	}
	err = p.endManifest(p.verdict(ctx, err))
	progress.end(err)
	return err
}

// openFolder opens the folder, and makes it if it is missing. For a dry run it only looks whether it is there.
func (p *prefixCall) openFolder() (closeFolder func(), err error) {
	folds := runtime.GOOS == "windows" || runtime.GOOS == "darwin"
	if p.cfg.dryRun {
		if _, err := os.Stat(p.dir); errors.Is(err, fs.ErrNotExist) {
			p.folder = tree.Look(nil, p.dir, folds, p.cfg.log)
			return func() {}, nil
		}
	}
	var root *fsys.Root
	var unsynced error
	if p.cfg.dryRun {
		root, err = fsys.OpenExistingFolder(p.dir)
	} else {
		root, unsynced, err = fsys.OpenFolder(p.dir)
	}
	if err != nil {
		return nil, localfile.NoSpace(nil, p.dir, 0, err)
	}
	p.root, p.fs = root, p.cfg.folderFS(root)
	if p.cfg.dryRun {
		p.folder = tree.Look(p.fs, p.dir, folds, p.cfg.log)
		return func() { root.Close() }, nil
	}
	p.folder, err = tree.Open(p.fs, p.dir, p.cfg.log)
	if err != nil {
		err = p.noSpace(err)
		root.Close()
		return nil, err
	}
	if unsynced != nil {
		p.folder.MayGo(unsynced)
	}
	return func() {
		p.folder.Close()
		root.Close()
	}, nil
}

// beginManifest begins the manifest, if one is wanted.
func (p *prefixCall) beginManifest() (err error) {
	if p.cfg.manifest == "" {
		return nil
	}
	path, err := p.cfg.fs.Resolve(p.cfg.manifest)
	if err == nil {
		err = p.notBelow(path)
	}
	if err == nil {
		p.manifest, err = manifest.Create(p.cfg.fs, path)
	}
	if errors.Is(err, fsys.ErrLocked) {
		err = fmt.Errorf("%w: another call is writing it", ErrInUse)
	}
	return p.manifestError(err)
}

// notBelow returns an error if a file of the call, or a working file, could have the path.
func (p *prefixCall) notBelow(path string) error {
	top, err := p.root.Stat(".")
	if err != nil {
		return err
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		fi, err := p.cfg.fs.Lstat(dir)
		switch {
		case err != nil:
			return err
		case fsys.SameFile(fi, top):
			return fmt.Errorf("it is in the folder %s, where a key could have its name; give it a place outside", p.dir)
		case dir == filepath.Dir(dir):
			return nil
		}
	}
}

// endManifest puts the manifest in place. err is that of the call. If nothing was settled then, the old manifest stays.
func (p *prefixCall) endManifest(err error) error {
	switch {
	case p.manifest == nil:
		return err
	case err != nil && p.manifest.Lines() == 0:
		if derr := p.manifest.Discard(); derr != nil {
			p.cfg.log.Warn("temporary file of the manifest left behind", "error", derr)
		}
		return err
	}
	unsynced, merr := p.manifest.Commit()
	if unsynced != nil {
		p.cfg.log.Warn("the folder of the manifest could not be synced: a power loss may bring the old one back", "path", p.cfg.manifest, "error", unsynced)
	}
	merr = p.manifestError(merr)
	if err == nil || merr == nil {
		return cmp.Or(err, merr)
	}
	return fmt.Errorf("%w; %w", err, merr)
}

// manifestError adds to an error that it is about the manifest.
func (p *prefixCall) manifestError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("manifest %s: %w", p.cfg.manifest, localfile.NoSpace(p.cfg.fs, filepath.Dir(p.cfg.manifest), 0, err))
}

// fetchAll downloads the objects, many at a time. The error is that of the listing or the context; those of objects are counted.
func (p *prefixCall) fetchAll(ctx context.Context, groups iter.Seq2[[]entry, error]) error {
	stop := p.watchdog.Start(p.d.gate.Tick) // small objects are done before their own watchdogs look
	defer stop()
	end := p.lane.Begin()
	defer end()
	committed := p.startCommitter(ctx)
	err := p.dispatch(ctx, groups)
	committed()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unfinished
}

// listed yields the objects below the prefix, and at the end the error of the listing, if there is one. A page is asked for
// while the one before it is being dispatched.
func (p *prefixCall) listed(ctx context.Context) iter.Seq2[[]entry, error] {
	return func(yield func([]entry, error) bool) {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		pages := make(chan []bucket.Entry, 1) // one ahead, so that the line is not idle between two pages
		var err error
		var listing sync.WaitGroup
		defer listing.Wait()
		defer stop()
		listing.Go(func() {
			defer close(pages)
			err = p.list(ctx, pages)
		})
		for page := range pages {
			group := make([]entry, len(page))
			for i, o := range page {
				group[i].Entry = o
			}
			if !yield(group, nil) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
		}
	}
}

// page asks for a page of the listing. It may be called concurrently.
func (p *prefixCall) page(ctx context.Context, at bucket.Cursor) (page []bucket.Entry, next bucket.Cursor, err error) {
	err = p.ask(ctx, "listing", func(ctx context.Context, m *engine.Meter) (err error) {
		page, next, err = p.bucket.List(ctx, p.prefix, at, func(r io.Reader) io.Reader { return m.Reader(ctx, p.lane, r) })
		return err
	})
	if err != nil {
		return nil, next, fmt.Errorf("listing: %w", err)
	}
	return page, next, nil
}

// list reads the pages of the listing, one after the other.
func (p *prefixCall) list(ctx context.Context, pages chan<- []bucket.Entry) error {
	for at := bucket.After(p.cfg.after).AsOf(p.cfg.object.asOf); ; {
		page, next, err := p.page(ctx, at)
		if err != nil {
			return err
		}
		select {
		case pages <- p.withinRange(page):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if next.Token == "" || p.cfg.until != "" && next.Last() > p.cfg.until {
			return nil
		}
		at = next
	}
}

// withinRange returns the entries of a page that are within the range of keys.
func (p *prefixCall) withinRange(page []bucket.Entry) []bucket.Entry {
	if p.cfg.until == "" || len(page) == 0 || page[len(page)-1].Key <= p.cfg.until {
		return page
	}
	return page[:slices.IndexFunc(page, func(o bucket.Entry) bool { return o.Key > p.cfg.until })]
}

// dispatch starts with each wanted object that is not there as soon as there is room for it. It returns once all have ended.
func (p *prefixCall) dispatch(ctx context.Context, groups iter.Seq2[[]entry, error]) error {
	room := objectsIn(p.lane)
	inFlight := semaphore.NewWeighted(room)
	c := newCrew(room)
	defer c.end()
	begin := func(o *item, missing bool) error {
		n := weight(o.Size, room)
		if err := inFlight.Acquire(ctx, n); err != nil {
			return context.Cause(ctx)
		}
		c.run(func() { p.fetchObject(ctx, o, missing) }, func() { inFlight.Release(n) })
		return nil
	}
	if p.cfg.restore != nil {
		return p.dispatchRestoring(ctx, groups, begin)
	}
	return p.lookAtAll(ctx, groups, begin)
}

// crew runs functions side by side, in goroutines that it keeps: a new one would have to grow its stack for each object.
type crew struct {
	running sync.WaitGroup
	idle    chan struct{} // one for each goroutine that has nothing to do
	tasks   chan task
}

type task struct{ do, done func() }

// newCrew returns a crew for at most so many functions at once.
func newCrew(most int64) *crew { return &crew{idle: make(chan struct{}, most), tasks: make(chan task)} }

// run calls do, and then done, from which on another function may come.
func (c *crew) run(do, done func()) {
	t := task{do, done}
	select {
	case <-c.idle:
		c.tasks <- t
	default:
		c.running.Go(func() {
			for more := true; more; t, more = <-c.tasks {
				c.perform(t)
			}
		})
	}
}

// perform runs a task. If a function of the caller ends the goroutine (runtime.Goexit), no token of it is left behind.
func (c *crew) perform(t task) {
	defer t.done()
	t.do()
	c.idle <- struct{}{}
}

// end returns once all functions have. There must be no more.
func (c *crew) end() {
	close(c.tasks)
	c.running.Wait()
}

// lookAtAll calls begin for each wanted object that does not seem to be there; begin may wait.
func (p *prefixCall) lookAtAll(ctx context.Context, groups iter.Seq2[[]entry, error], begin func(o *item, missing bool) error) error {
	look := p.startLooking(ctx, begin)
	err := p.chooseAll(groups, look)
	if lerr := look.end(); lerr != nil {
		return lerr
	}
	return err
}

// chooseAll hands the wanted objects to look, until that has failed.
func (p *prefixCall) chooseAll(groups iter.Seq2[[]entry, error], look *looking) error {
	names := p.names()
	for group, err := range groups {
		if err != nil {
			return err
		}
		for _, o := range group {
			if it, wanted := p.choose(names, o); wanted {
				look.add(it)
			}
		}
		if look.flush(); look.ctx.Err() != nil {
			return context.Cause(look.ctx)
		}
	}
	return nil
}

// names returns what names the files of the call.
func (p *prefixCall) names() *tree.Names {
	rules := tree.Rules{Windows: runtime.GOOS == "windows", FoldsCase: p.folder.FoldsCase()}
	if p.unordered {
		return tree.NewUnordered(rules)
	}
	return tree.NewNames(p.prefix, rules)
}

// choose names the next object, and reports whether it is to be downloaded. One that is wanted but can have no name has failed.
func (p *prefixCall) choose(names *tree.Names, o entry) (it *item, wanted bool) {
	local := names.Relative(o.localName())
	if !tree.Match(local, p.cfg.include, p.cfg.exclude) {
		return nil, false
	}
	name, err := names.Name(o.localName()) // also those of other shards: they have files, too
	if !p.cfg.shard.Has(o.Key) {
		return nil, false
	}
	if bad := o.check(); bad != nil {
		err = bad
	}
	it = &item{entry: o, name: name, named: err == nil, start: time.Now()}
	p.expect(max(0, o.Size))
	if err != nil {
		p.failed(it, err)
		return nil, false
	}
	if p.keep != nil && name != "" {
		p.keep.Add(name)
	}
	return it, true
}

// objectsIn returns how many objects of a call may be in flight: a quarter more than requests, so that the line stays full while
// some wait for the disk.
func objectsIn(lane *slots.Lane) int64 {
	n := lane.Ceiling()
	return int64(n + n/4 + 2)
}

// result returns what was done. It is nil if the call failed before a request was made and an object was settled.
func (a *account) result(err error) *PrefixResult {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil && a.sums.requests+a.res.Done+a.res.Skipped+a.res.Failed == 0 {
		return nil
	}
	res := a.res
	res.Requests, res.Retries, res.DownloadedBytes = a.sums.requests, a.sums.retries, a.sums.received
	return &res
}

// listingEnded records the error that ended the listing, unless it is that of the context.
func (a *account) listingEnded(ctx context.Context, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ctx.Err() == nil {
		a.res.Listing = err
	}
}

// verdict returns the error of the whole call; err is that of the listing, of a deletion or the context.
func (a *account) verdict(ctx context.Context, err error) error {
	err = withContextError(ctx, err)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && a.res.Restoring > 0 {
		err = fmt.Errorf("%w: %d objects still thaw", ErrRestoring, a.res.Restoring)
	}
	if a.first == nil {
		return err
	}
	failed := fmt.Errorf("%d of %d objects failed, the first: %w", a.res.Failed, a.res.Done+a.res.Skipped+a.res.Failed, a.first)
	if err != nil {
		return fmt.Errorf("%w; %w", err, failed)
	}
	return failed
}

// expect adds the size of an object that is to be downloaded, unless it is there.
func (a *account) expect(size int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sums.total += size
}

// begun records that the download of an object has begun.
func (p *prefixCall) begun(o *item, c *call) {
	o.call = c
	p.began(c, o.Size)
}

// began records that a call for an object, of which so many bytes were expected, has begun.
func (a *account) began(c *call, expected int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.nth++
	c.nth = a.nth
	a.calls[c] = expected
}

// fetched records that all bytes of a call are there: only its file has still to get its path.
func (a *account) fetched(c *call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c.fetched = true
}

// ended adds the bytes of a download to the sums. Without an error its object is settled; with one it is up to the caller
// whether that is a failure.
func (p *prefixCall) ended(o *item, err error) {
	o.call.durable = o.call.durable && p.folder.Keeps(path.Dir(o.name))
	p.count(o.call, err)
	if err != nil {
		return
	}
	if !o.call.verified {
		p.cfg.log.Warn("object not verified: there is no checksum to compare with", "bucket", p.bucket.Name(), "key", o.Key)
	}
	p.settled(o, ObjectDone, o.call.durable, nil)
}

// count adds the bytes of a call for an object to the sums, and counts the object if it is complete.
func (a *account) count(c *call, err error) {
	now := c.snapshot()
	a.mu.Lock()
	defer a.mu.Unlock()
	expected := a.calls[c]
	delete(a.calls, c)
	a.sums.received += c.stats.Downloaded.Load()
	a.sums.retries += now.Retries
	a.sums.requests += now.Requests
	if err == nil && c.there != nil {
		a.haveSkipped(expected, c.there.size, c.durable)
		return
	}
	a.sums.resumed += now.Resumed
	a.sums.done += now.Done
	a.res.ResumedBytes += now.Resumed
	if now.Total > 0 || err == nil {
		a.sums.total += now.Total - expected // the object is not as it was listed
	}
	if err == nil {
		a.res.Done++
		a.res.Bytes += now.Total
		if c.engine.IsCiphertext() {
			a.res.Encrypted++
		}
		if !c.durable {
			a.res.NotDurable++
		}
		if !c.verified {
			a.res.Unverified++
		}
	}
}

// haveSkipped counts an object whose file, of size bytes, is there already. The mutex must be held.
func (a *account) haveSkipped(expected, size int64, durable bool) {
	a.res.Skipped++
	if !durable {
		a.res.NotDurable++
	}
	a.sums.total += size - expected // which may not have been known
	a.sums.done += size
	a.sums.resumed += size
}

// skipped counts an object that is there already.
func (p *prefixCall) skipped(o *item, durable bool) {
	p.mu.Lock()
	p.haveSkipped(o.Size, o.there, durable)
	p.mu.Unlock()
	p.settled(o, ObjectSkipped, durable, nil)
}

// madeFolder counts a folder that was made for a key.
func (p *prefixCall) madeFolder(o *item) {
	durable := p.folder.Keeps(o.name)
	p.mu.Lock()
	p.res.Done++
	if !durable {
		p.res.NotDurable++
	}
	p.mu.Unlock()
	p.settled(o, ObjectFolder, durable, nil)
}

// planned counts an object that would be downloaded.
func (p *prefixCall) planned(o *item) {
	if p.cfg.startsOnly() {
		return // it is left to a later call
	}
	p.mu.Lock()
	p.res.Done++
	p.res.Bytes += o.Size
	p.mu.Unlock()
	p.settled(o, ObjectWouldDownload, false, nil)
}

// wasThere counts a file of a key that was there before.
func (p *prefixCall) wasThere() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.present++
}

// cutOff records that an object is unfinished because ctx is done. That is not a failure.
func (a *account) cutOff(ctx context.Context) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unfinished = context.Cause(ctx)
}

// failed records and logs the failure of an object.
func (p *prefixCall) failed(o *item, err error) {
	p.panics.Note(err)
	p.cfg.log.Error("object failed", "bucket", p.bucket.Name(), "key", o.Key, "error", err)
	p.countFailure(KeyError{Key: o.Key, Err: err})
	p.settled(o, ObjectFailed, false, err)
}

// countFailure counts the failure of an object, and keeps the first ones.
func (a *account) countFailure(failure KeyError) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.res.Failed++
	if a.first == nil {
		a.first = &failure
	}
	if len(a.res.Failures) < maxFailures {
		a.res.Failures = append(a.res.Failures, failure)
	}
}

// settled reports what became of an object. It may be called from any goroutine.
func (p *prefixCall) settled(o *item, status ObjectStatus, durable bool, err error) {
	debug := p.cfg.log.Enabled(context.Background(), slog.LevelDebug)
	inManifest := p.manifest != nil && (status == ObjectDone || status == ObjectSkipped || status == ObjectFolder)
	if !debug && !inManifest && p.cfg.objectResult == nil {
		return
	}
	res := p.objectResult(o, status, durable, err)
	if inManifest {
		p.manifest.Add(manifest.Line{
			Name: res.Name, Key: res.Key, Size: res.Size, ETag: res.ETag, Version: res.VersionID, CRC64: res.CRC64,
			LastModified: res.LastModified, SHA256: hex.EncodeToString(o.digest()), Restored: res.Restored,
		})
	}
	p.report(res, debug)
}

// report logs and reports what became of an object or a file.
func (p *prefixCall) report(res ObjectResult, debug bool) {
	if debug {
		p.cfg.log.Debug("object settled", "bucket", p.bucket.Name(), "object", res)
	}
	if p.cfg.objectResult != nil {
		p.cfg.objectResult(res)
	}
}

// deleteExtras deletes the files that no key has, unless an object has failed.
func (p *prefixCall) deleteExtras(ctx context.Context) error {
	p.mu.Lock()
	failed, there := p.first != nil, p.present
	p.mu.Unlock()
	if failed {
		p.cfg.log.Info("nothing is deleted: some objects failed", "bucket", p.bucket.Name(), "prefix", p.prefix)
		return nil
	}
	most, wanted := p.cfg.deleteMost, p.cfg.deleteMost
	if p.cfg.dryRun {
		wanted = math.MaxInt // all are reported
	} else {
		there = p.keep.Files()
	}
	extras, n, err := p.folder.Extras(ctx, p.keep, there, p.concerns, wanted)
	if err != nil {
		return fmt.Errorf("nothing is deleted: %w", err)
	}
	if n <= most || p.cfg.dryRun {
		err = p.deleteAll(ctx, extras)
	}
	if n > most {
		return fmt.Errorf("nothing is deleted: %d files have no key, and at most %d may be deleted", n, most)
	}
	return err
}

// deleteAll deletes files that no key has. One that cannot be deleted does not keep the others.
func (p *prefixCall) deleteAll(ctx context.Context, extras []tree.Extra) (err error) {
	undone := 0
	for _, e := range extras {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if failed := p.deleteExtra(e); failed != nil {
			undone++
			err = cmp.Or(err, failed)
		}
	}
	if err != nil {
		return fmt.Errorf("%d of %d files without a key could not be deleted, the first: %w", undone, len(extras), err)
	}
	return nil
}

// deleteExtra deletes a file that no key has.
func (p *prefixCall) deleteExtra(e tree.Extra) error {
	res := ObjectResult{
		Status: ObjectWouldDelete, Name: e.Name, Path: filepath.Join(p.dir, filepath.FromSlash(e.Name)), Size: e.Size, LastModified: e.ModTime,
	}
	if !p.cfg.dryRun {
		began := time.Now()
		if err := p.folder.Delete(e, p.keep); err != nil {
			p.cfg.log.Error("file not deleted", "path", res.Path, "error", err)
			return fmt.Errorf("%s: %w", res.Path, err)
		}
		res.Status, res.Duration = ObjectDeleted, time.Since(began)
	}
	p.mu.Lock()
	p.res.Deleted++
	p.mu.Unlock()
	p.report(res, p.cfg.log.Enabled(context.Background(), slog.LevelDebug))
	return nil
}

// concerns reports whether a file could be that of a key below the prefix that is not left out.
func (p *prefixCall) concerns(name string) bool {
	rest := p.prefix[strings.LastIndexByte(p.prefix, '/')+1:]
	return strings.HasPrefix(name, rest) && tree.Match(name, p.cfg.include, p.cfg.exclude)
}

// maxObjects limits Progress.Objects.
const maxObjects = 8

// snapshot returns the state for a progress report.
func (p *prefixCall) snapshot() Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := p.totals()
	sum.InFlight += p.watchdog.InFlight()
	sum.Restoring = p.res.Restoring
	if p.restoring != nil {
		sum.Restoring = max(sum.Restoring, p.restoring.queue.Len())
	}
	return sum
}

// totals returns the sums of all objects, with some of those in flight. The mutex must be held.
func (a *account) totals() Progress {
	sum := Progress{
		Done: a.sums.done, Total: a.sums.total, Resumed: a.sums.resumed, Retries: a.sums.retries, Requests: a.sums.requests,
	}
	calls := slices.SortedFunc(maps.Keys(a.calls), func(a, b *call) int { return cmp.Compare(a.nth, b.nth) })
	for _, c := range calls {
		size, one := a.calls[c], c.snapshot()
		sum.Done += one.Done
		sum.Resumed += one.Resumed
		sum.InFlight += one.InFlight
		sum.Retries += one.Retries
		sum.Requests += one.Requests
		if one.Total > 0 {
			sum.Total += one.Total - size
			size = one.Total
		}
		if len(sum.Objects) < maxObjects && !c.fetched {
			sum.Objects = append(sum.Objects, ObjectProgress{Key: c.src.Identity().Key, Done: one.Done, Total: size})
		}
	}
	return sum
}

// received returns how many body bytes were read so far.
func (a *account) received() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.sums.received
	for c := range a.calls {
		n += c.stats.Downloaded.Load()
	}
	return n
}

// ask makes a request for anything but an object's bytes: a listing or a HEAD. The same rules apply: the request takes a slot,
// is abandoned if it stalls, and is retried. what names it in log lines.
func (p *prefixCall) ask(ctx context.Context, what string, request func(context.Context, *engine.Meter) error) error {
	_, err := p.retrier.TryUntil(ctx, func(ctx context.Context) error {
		p.countRequest()
		return p.watchdog.Do(ctx, request)
	}, "request", what)
	return err
}

// countRequest counts a request made by ask.
func (a *account) countRequest() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sums.requests++
}

// countRetry counts a retry made by ask.
func (a *account) countRetry() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sums.retries++
}
