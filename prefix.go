package ossdl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/ossdl/ossdl/internal/bucket"
	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/localfile"
	"github.com/ossdl/ossdl/internal/object"
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
// rounds times or does not keep them. [WithMetadata] says what is skipped if times come from there. Any other file is replaced, by the object as it is then, which may not be as it was listed. Keys that
// [WithInclude], [WithExclude] or [WithShard] leave out are not counted.
//
// # Resuming
//
// To resume, repeat the call: it skips what is there, and continues objects that were interrupted. Working files are in
// DIR/.ossdl. A folder below, with those below it, has an .ossdl of its own if it is on another mount, or if its files get
// another group, default access list or label than those of the folder above. An .ossdl is removed at the end, unless parts of
// objects that failed or were interrupted are in it. It may be removed by hand while no call is running. [WithoutCheckpoint] leaves nothing of objects that fail. A [WithCheckpointDir] given to New has
// no effect.
//
// # Several calls at once
//
// Several calls may use the same folder at the same time, in any number of processes, for example one per shard. An object
// that another call is downloading fails with [ErrInUse], and its file is completed by the other call.
//
// Download or DownloadURL to a path in dir, and a DownloadPrefix that downloads the same file, exclude each other in the same
// way within one process. In two processes both continue, with working files of their own. The file is always complete; the
// call that ends last wins.
//
// # Progress
//
// [WithProgress] reports the sums of all objects. Total is that of the objects listed so far. Done and Resumed include what was
// skipped.
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
// DownloadPrefix returns promptly when ctx is done, with its error; the PrefixResult then says what was done.
func (d *Downloader) DownloadPrefix(ctx context.Context, bucket, prefix, dir string, opts ...Option) (*PrefixResult, error) {
	cfg, err := d.cfg.with(inDownloadPrefix, opts)
	if err != nil {
		return nil, nameError("download", bucket, prefix, err)
	}
	p, err := d.newPrefixCall(ctx, bucket, prefix, dir, cfg)
	if err != nil {
		return nil, nameError("download", bucket, prefix, err)
	}
	ctx, done := p.panics.during(ctx)
	defer done()
	err = p.run(ctx)
	p.panics.raise(err)
	if err != nil {
		return p.result(), fmt.Errorf("ossdl: download %s to %s: %w", objectName(bucket, prefix), dir, err)
	}
	return p.result(), nil
}

// prefixCall is one call of DownloadPrefix.
type prefixCall struct {
	d        *Downloader
	cfg      settings
	bucket   *bucket.Client
	prefix   string
	dir      string
	lane     *slots.Lane
	panics   *panics          // of the caller's functions
	retrier  *engine.Retrier  // of requests for anything but an object's bytes
	watchdog *engine.Watchdog // of the same
	folder   *tree.Folder     // dir; nil until it is open
	fs       fsys.FS          // within dir; nil until then
	notices  localfile.Notices

	mu         sync.Mutex
	requested  bool // a request was made
	res        PrefixResult
	first      error           // the failure that happened first
	unfinished error           // why an object was left unfinished
	sums       sums            // of the objects that have ended
	calls      map[*call]int64 // those of the objects in flight, with the sizes listed
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
	}
	caught := &panics{}
	cfg.log, cfg.progress = caught.logger(cfg.log), caught.progress(cfg.progress)
	p := &prefixCall{
		d: d, cfg: cfg, panics: caught, bucket: b, prefix: prefix, dir: dir, lane: d.newLane(cfg.concurrency, cfg.rateLimit),
		watchdog: engine.NewWatchdog(cfg.stall), calls: map[*call]int64{},
	}
	p.retrier = engine.NewRetrier(d.gate, p.lane, slots.Retry(cfg.retry), cfg.log, p.countRetry)
	return p, nil
}

// run opens the folder and downloads everything that is listed into it.
func (p *prefixCall) run(ctx context.Context) error {
	root, err := fsys.OpenFolder(p.dir)
	if err != nil {
		return localfile.NoSpace(nil, p.dir, 0, err)
	}
	defer root.Close()
	p.fs = p.cfg.folderFS(root)
	p.folder, err = tree.Open(p.fs, p.dir, p.cfg.log)
	if err != nil {
		return p.noSpace(err)
	}
	defer p.folder.Close()
	p.fs = p.folder.FS()
	progress := startReporter(p.cfg.progress, p.snapshot, p.received)
	err = p.verdict(ctx, p.fetchAll(ctx))
	progress.end(err)
	return err
}

// fetchAll lists the prefix and downloads its objects, many at a time. The error is that of the listing or the context; those
// of objects are counted.
func (p *prefixCall) fetchAll(ctx context.Context) error {
	stop := p.watchdog.Start(p.d.gate.Tick) // small objects are done before their own watchdogs look
	defer stop()
	end := p.lane.Begin()
	defer end()
	pages := make(chan []bucket.Entry, 1) // one ahead, so that the line is not idle between two pages
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
	return p.unfinished
}

// list reads the pages of the listing, one after the other.
func (p *prefixCall) list(ctx context.Context, pages chan<- []bucket.Entry) error {
	for at := (bucket.Cursor{}); ; {
		var page []bucket.Entry
		var next bucket.Cursor
		err := p.ask(ctx, "listing", func(ctx context.Context, m *engine.Meter) (err error) {
			page, next, err = p.bucket.List(ctx, p.prefix, at, func(r io.Reader) io.Reader { return m.Reader(ctx, p.lane, r) })
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
		if next.Token == "" {
			return nil
		}
		at = next
	}
}

// dispatch starts with each wanted object that is not there as soon as there is room for it. It returns once all have ended.
func (p *prefixCall) dispatch(ctx context.Context, pages <-chan []bucket.Entry) error {
	room := p.objects()
	inFlight := semaphore.NewWeighted(room)
	var running sync.WaitGroup
	defer running.Wait()
	look := p.startLooking(ctx, func(o bucket.Entry, name string, missing bool) error {
		n := weight(o.Size, room)
		if err := inFlight.Acquire(ctx, n); err != nil {
			return context.Cause(ctx)
		}
		running.Go(func() {
			defer inFlight.Release(n)
			p.fetchObject(ctx, o, name, missing)
		})
		return nil
	})
	names := tree.NewNames(p.prefix, tree.Rules{Windows: runtime.GOOS == "windows", FoldsCase: p.folder.FoldsCase()})
	for page := range pages {
		for _, o := range page {
			if name, wanted := p.choose(names, o); wanted {
				look.add(o, name)
			}
		}
		look.flush()
	}
	return look.end()
}

// choose names the next object of the listing, and reports whether it is to be downloaded. One that is wanted but can have no
// name has failed.
func (p *prefixCall) choose(names *tree.Names, o bucket.Entry) (name string, wanted bool) {
	if !tree.Match(names.Relative(o.Key), p.cfg.include, p.cfg.exclude) {
		return "", false
	}
	name, err := names.Name(o.Key) // also those of other shards: they have files, too
	if !p.cfg.shard.Has(o.Key) {
		return "", false
	}
	p.expect(o.Size)
	if err != nil {
		p.failed(o, err)
		return "", false
	}
	return name, true
}

// objects returns how many objects may be in flight: a quarter more than requests, so that the line stays full while some
// wait for the disk.
func (p *prefixCall) objects() int64 {
	n := p.lane.Ceiling()
	return int64(n + n/4 + 2)
}

// result returns what was done, or nil if no request was made.
func (p *prefixCall) result() *PrefixResult {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.requested {
		return nil
	}
	res := p.res
	return &res
}

// verdict returns the error of the whole call; err is that of the listing or the context.
func (p *prefixCall) verdict(ctx context.Context, err error) error {
	err = withContextError(ctx, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() == nil {
		p.res.Listing = err
	}
	if p.first == nil {
		return err
	}
	failed := fmt.Errorf("%d of %d objects failed, the first: %w", p.res.Failed, p.res.Done+p.res.Skipped+p.res.Failed, p.first)
	if err != nil {
		return fmt.Errorf("%w; %w", err, failed)
	}
	return failed
}

// expect adds the size of an object that is to be downloaded, unless it is there.
func (p *prefixCall) expect(size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sums.total += size
}

// begun records that the call for an object has begun. size is the one that was listed.
func (p *prefixCall) begun(c *call, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nth++
	c.nth = p.nth
	p.calls[c] = size
}

// ended adds the bytes of a call to the sums, and counts its object if it is complete.
func (p *prefixCall) ended(c *call, size int64, err error) {
	now := c.snapshot()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.calls, c)
	p.sums.received += c.stats.Downloaded.Load()
	p.sums.resumed += now.Resumed
	p.sums.done += now.Done
	p.sums.retries += now.Retries
	p.sums.requests += now.Requests
	if now.Total > 0 || err == nil {
		p.sums.total += now.Total - size // the object is not as it was listed
	}
	if err == nil {
		p.res.Done++
		p.res.Bytes += now.Total
		if object.IsEncrypted(c.engine.Header()) {
			p.res.Encrypted++
		}
		if !c.durable {
			p.res.NotDurable++
		}
	}
}

// skipped counts an object that is there already.
func (p *prefixCall) skipped(o bucket.Entry, durable bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.res.Skipped++
	if !durable {
		p.res.NotDurable++
	}
	p.sums.done += o.Size
	p.sums.resumed += o.Size
}

// madeFolder counts a folder that was made for a key.
func (p *prefixCall) madeFolder() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.res.Done++
}

// cutOff records that an object is unfinished because ctx is done. That is not a failure.
func (p *prefixCall) cutOff(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unfinished = context.Cause(ctx)
}

// failed records and logs the failure of an object.
func (p *prefixCall) failed(o bucket.Entry, err error) {
	p.panics.note(err)
	failure := KeyError{Key: o.Key, Err: err}
	p.cfg.log.Error("object failed", "bucket", p.bucket.Name(), "key", o.Key, "error", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.res.Failed++
	if p.first == nil {
		p.first = &failure
	}
	if len(p.res.Failures) < maxFailures {
		p.res.Failures = append(p.res.Failures, failure)
	}
}

// maxObjects limits Progress.Objects.
const maxObjects = 8

// snapshot returns the state for a progress report.
func (p *prefixCall) snapshot() Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := Progress{
		Done: p.sums.done, Total: p.sums.total, Resumed: p.sums.resumed,
		Retries: p.sums.retries, Requests: p.sums.requests, InFlight: p.watchdog.InFlight(),
	}
	calls := slices.SortedFunc(maps.Keys(p.calls), func(a, b *call) int { return cmp.Compare(a.nth, b.nth) })
	for _, c := range calls {
		size, one := p.calls[c], c.snapshot()
		sum.Done += one.Done
		sum.Resumed += one.Resumed
		sum.InFlight += one.InFlight
		sum.Retries += one.Retries
		sum.Requests += one.Requests
		if one.Total > 0 {
			sum.Total += one.Total - size
			size = one.Total
		}
		if len(sum.Objects) < maxObjects {
			sum.Objects = append(sum.Objects, ObjectProgress{Key: c.src.Identity().Key, Done: one.Done, Total: size})
		}
	}
	return sum
}

// received returns how many body bytes were read so far.
func (p *prefixCall) received() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.sums.received
	for c := range p.calls {
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
func (p *prefixCall) countRequest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requested = true
	p.sums.requests++
}

// countRetry counts a retry made by ask.
func (p *prefixCall) countRetry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sums.retries++
}
