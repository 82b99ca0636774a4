package ossdl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
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
	"github.com/ossdl/ossdl/internal/slots"
	"github.com/ossdl/ossdl/internal/tree"
)

// PrefixResult describes what a call of [Downloader.DownloadPrefix] did. It is non-nil as soon as one request has been made,
// even if the error is non-nil.
type PrefixResult struct {
	Done    int   `json:"done"`    // objects that were downloaded, and folders that were made for keys that end in a slash
	Skipped int   `json:"skipped"` // objects and folders that were there already
	Failed  int   `json:"failed"`  // objects that could not be downloaded; those cut short by cancellation are not counted
	Bytes   int64 `json:"bytes"`   // of the files that were downloaded
	// Failures are the first 1,000 of Failed, in the order in which they happened. All are logged.
	Failures []KeyError `json:"failures"`
	// Listing is the error that ended the listing early; objects that were not listed are not counted anywhere. It is nil if
	// everything was listed, and after a cancellation.
	Listing error `json:"listing"`
}

// maxFailures limits PrefixResult.Failures.
const maxFailures = 1000

// DownloadPrefix downloads all objects whose keys begin with prefix to files below the folder dir.
//
// Each object is downloaded as by [Downloader.Download], and its file gets the object's Last-Modified. Small objects are
// downloaded many at a time, large ones in parts. [WithConcurrency] and [WithRateLimit] apply to the whole call, including the
// requests of the listing. The listing is read page by page, so a million keys need no more memory than a thousand.
//
// An empty prefix means the whole bucket. A prefix without objects is no error. dir is created if it does not exist, with its
// parents; all of it must be on one file system. Folders below it are created as needed. The permissions oss:ListObjects and
// oss:GetObject are needed.
//
// # Names of files
//
// The local name of an object is its key without the prefix up to its last slash. With the prefix "logs/2024" the key
// "logs/2024/may.gz" becomes DIR/2024/may.gz; with "logs/2024/" it becomes DIR/may.gz. A key that ends in a slash and has no
// content becomes a folder.
//
// Some keys can have no file. They fail without a request for the object:
//
//   - keys whose local name has an empty element, "." or "..", begins with a slash, contains a NUL, or is not UTF-8
//   - keys at or below .ossdl in dir, in any case or other spelling that leads there
//   - on Windows, keys with a backslash, a drive letter, or another character or name that Windows refuses; elsewhere these
//     characters are allowed
//   - keys that would lie below another key that is a file: of "a" and "a/b" the second, even if the first is skipped, fails
//     or belongs to another shard
//   - in a case-insensitive dir, keys that collide with an earlier key that differs only by case: with its name, with a folder
//     that it needs, or by lying below it. To detect that, the call remembers some 60 bytes per key.
//   - names that are too long for the file system, and names at which there is anything but a regular file
//   - names at or below a symbolic link inside dir, wherever it leads; dir itself may be a link
//   - keys that end in a slash and have content
//
// A file system may take still other names for the same, such as ß and ss, or the normal forms of Unicode. In a
// case-insensitive dir, except on Windows, and always on macOS, that is detected when a file gets its name. Of two such keys
// the second one fails, and its bytes are discarded; which one is the second can differ between calls. Elsewhere, for example
// on a ZFS that normalizes names, it is not detected: both keys count as downloaded, and the file is that of the last one.
// The next call downloads the other.
//
// # What is skipped
//
// A file that has the size and time of its object, to the second, is skipped. [WithCompareCRC64] compares the CRC-64 instead of
// the time. Any other file is replaced, by the object as it is then, which may not be as it was listed. Keys that
// [WithInclude], [WithExclude] or [WithShard] leave out are not counted.
//
// # Resuming
//
// To resume, repeat the call: it skips what is there, and continues objects that were interrupted. Working files are in
// DIR/.ossdl. It is removed at the end, unless parts of objects that failed or were interrupted are in it. It may be removed by
// hand while no call is running. [WithoutCheckpoint] leaves nothing of objects that fail. A [WithCheckpointDir] given to New has
// no effect.
//
// # Several calls at once
//
// Several calls may use the same folder at the same time, in any number of processes, for example one per shard. An object
// that another call is downloading fails with [ErrInUse], and its file is completed by the other call.
//
// Download or DownloadURL to a path in dir, and a DownloadPrefix that downloads the same file, exclude each other in the same
// way within one process. In two processes both continue, with working files of their own. The file is complete at any time:
// that of the call that ends last.
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
	p, err := d.newPrefixRun(bucket, prefix, dir, cfg)
	if err != nil {
		return nil, nameError("download", bucket, prefix, err)
	}
	if err := p.run(ctx); err != nil {
		return p.result(), fmt.Errorf("ossdl: download %s to %s: %w", objectName(bucket, prefix), dir, err)
	}
	return p.result(), nil
}

// prefixRun is one call of DownloadPrefix.
type prefixRun struct {
	d      *Downloader
	cfg    settings
	bucket *bucket.Client
	prefix string
	dir    string
	lane   *slots.Lane
	tries  *engine.Retrier  // of requests for no object's bytes
	dog    *engine.Watchdog // of the same
	tree   *tree.Folder     // dir, once open
	fs     fsys.FS          // within dir

	mu    sync.Mutex
	asked bool // a request was made
	res   PrefixResult
	first error           // the failure that happened first
	cut   error           // why an object was left unfinished
	sums  sums            // of the objects that have ended
	calls map[*call]int64 // those of the objects in flight, with the sizes listed
}

// sums sums up bytes, and the requests made for them.
type sums struct {
	done, total, resumed, received int64
	requests, retries              int
}

// newPrefixRun prepares a call. It finds what is wrong whatever bucket and folder contain.
func (d *Downloader) newPrefixRun(name, prefix, dir string, cfg settings) (*prefixRun, error) {
	b, err := d.bucketClient(name, &cfg)
	switch {
	case err != nil:
		return nil, err
	case len(prefix) > bucket.MaxKey || !utf8.ValidString(prefix) || strings.ContainsRune(prefix, 0):
		return nil, fmt.Errorf("prefix %q: up to %d bytes of UTF-8 without NUL are allowed", prefix, bucket.MaxKey)
	case dir == "":
		return nil, errors.New("empty destination folder; the current one is \".\"")
	}
	p := &prefixRun{
		d: d, cfg: cfg, bucket: b, prefix: prefix, dir: dir, lane: d.newLane(cfg.concurrency, cfg.rateLimit),
		dog: engine.NewWatchdog(cfg.stall), calls: map[*call]int64{},
	}
	p.tries = engine.NewRetrier(d.gate, p.lane, slots.Retry(cfg.retry), cfg.log, p.countRetry)
	return p, nil
}

// run opens the folder and downloads everything that is listed into it.
func (p *prefixRun) run(ctx context.Context) error {
	if err := os.MkdirAll(p.dir, 0o777); err != nil {
		return localfile.NoSpace(nil, p.dir, 0, err)
	}
	root, err := os.OpenRoot(p.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	p.fs = p.cfg.within(root)
	p.tree, err = tree.Open(p.fs, p.dir, p.cfg.log)
	if err != nil {
		return p.noSpace(err)
	}
	defer p.tree.Close()
	p.fs = p.tree.FS
	progress := report(p.cfg.progress, p.snapshot, p.received)
	err = p.verdict(ctx, p.fetchAll(ctx))
	progress.end(err)
	return err
}

// fetchAll lists the prefix and downloads its objects, many at a time. The error is that of the listing or the context; those
// of objects are counted.
func (p *prefixRun) fetchAll(ctx context.Context) error {
	stop := p.dog.Start(p.d.gate.Tick) // small objects are done before their own watchdogs look
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
	return p.cut
}

// list reads the pages of the listing, one after the other.
func (p *prefixRun) list(ctx context.Context, pages chan<- []bucket.Entry) error {
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

// dispatch starts with each wanted object as soon as there is room for it. It returns once all have ended.
func (p *prefixRun) dispatch(ctx context.Context, pages <-chan []bucket.Entry) error {
	room := p.objects()
	slots := semaphore.NewWeighted(room)
	var running sync.WaitGroup
	defer running.Wait()
	names := tree.NewNames(p.prefix, tree.Rules{Windows: runtime.GOOS == "windows", FoldsCase: p.tree.FoldsCase})
	for page := range pages {
		for _, o := range page {
			name, wanted := p.choose(names, o)
			if !wanted {
				continue
			}
			n := weight(o.Size, room)
			if err := slots.Acquire(ctx, n); err != nil {
				return context.Cause(ctx)
			}
			running.Go(func() {
				defer slots.Release(n)
				p.fetchObject(ctx, o, name)
			})
		}
	}
	return nil
}

// choose names the next object of the listing, and reports whether it is to be downloaded. One that is wanted but can have no
// name has failed.
func (p *prefixRun) choose(names *tree.Names, o bucket.Entry) (name string, wanted bool) {
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
func (p *prefixRun) objects() int64 {
	n := p.lane.Ceiling()
	return int64(n + n/4 + 2)
}

// result returns what was done, or nil if no request was made.
func (p *prefixRun) result() *PrefixResult {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.asked {
		return nil
	}
	res := p.res
	return &res
}

// verdict returns the error of the whole call; err is that of the listing or the context.
func (p *prefixRun) verdict(ctx context.Context, err error) error {
	if ctxErr := ctx.Err(); err != nil && ctxErr != nil && !errors.Is(err, ctxErr) && errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("%w: %w", ctxErr, err)
	}
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
func (p *prefixRun) expect(size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sums.total += size
}

// begun records that the call for an object of the size listed has begun.
func (p *prefixRun) begun(c *call, size int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[c] = size
}

// ended adds up the bytes of a call, and its object if it is complete.
func (p *prefixRun) ended(c *call, size int64, err error) {
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
	}
}

// skipped counts an object that is there already.
func (p *prefixRun) skipped(o bucket.Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.res.Skipped++
	p.sums.done += o.Size
	p.sums.resumed += o.Size
}

// madeFolder counts a folder that was made for a key.
func (p *prefixRun) madeFolder() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.res.Done++
}

// cutOff records that an object is unfinished because ctx is done. It has not failed.
func (p *prefixRun) cutOff(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = context.Cause(ctx)
}

// failed records and logs the failure of an object.
func (p *prefixRun) failed(o bucket.Entry, err error) {
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
func (p *prefixRun) snapshot() Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := Progress{
		Done: p.sums.done, Total: p.sums.total, Resumed: p.sums.resumed,
		Retries: p.sums.retries, Requests: p.sums.requests, InFlight: p.dog.InFlight(),
	}
	calls := slices.SortedFunc(maps.Keys(p.calls), func(a, b *call) int { return a.start.Compare(b.start) })
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
func (p *prefixRun) received() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.sums.received
	for c := range p.calls {
		n += c.stats.Downloaded.Load()
	}
	return n
}

// ask makes a request for something else than an object's bytes: a listing or a HEAD. It follows the same rules: the request
// takes a slot, is given up if it stalls, and is retried. What is asked for is named in log lines.
func (p *prefixRun) ask(ctx context.Context, what string, request func(context.Context, *engine.Meter) error) error {
	_, err := p.tries.TryUntil(ctx, func(ctx context.Context) error {
		p.countRequest()
		return p.dog.Do(ctx, request)
	}, "request", what)
	return err
}

func (p *prefixRun) countRequest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = true
	p.sums.requests++
}

func (p *prefixRun) countRetry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sums.retries++
}
