package ossdl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/ossdl/ossdl/internal/fsys"
)

// PrefixResult describes what a DownloadPrefix did. It is non-nil as soon as one request has been made, even if the error is
// non-nil.
type PrefixResult struct {
	Done    int   `json:"done"`    // objects downloaded, and folders made for keys that end in a slash
	Skipped int   `json:"skipped"` // objects that were there already
	Failed  int   `json:"failed"`  // objects that could not be downloaded; those cut short by cancellation are not counted
	Bytes   int64 `json:"bytes"`   // of the files downloaded
	// Failures are the first 1,000 of Failed, as they happened. All are logged.
	Failures []KeyError `json:"failures"`
	// Listing is the error that ended the listing early; objects that it did not come to are in none of the figures. It is
	// nil if everything was listed, and after an interruption.
	Listing error `json:"listing"`
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
// how many there were and wraps the [*KeyError] of the first. These fail without a request:
//
//   - keys whose local name has an empty element, "." or "..", begins with a slash, or holds a NUL or no UTF-8
//   - keys at or below .ossdl in dir, in whatever case or other spelling that leads there
//   - on Windows, also those with a backslash, a drive letter or another character or name that it does not allow;
//     elsewhere these are characters like others
//   - keys that would lie below another key that is a file: of "a" and "a/b", the second, also if the first is skipped,
//     fails or belongs to another shard
//   - where dir does not tell upper from lower case, keys that clash with an earlier one but for case: with its name, with a
//     folder that it needs, or by lying below it. There the call remembers some 60 bytes a key.
//   - names too long for the file system, and names at which something else than a plain file is
//   - names at or below a symbolic link: none is followed inside dir, wherever it leads. The link dir itself may be one.
//   - keys that end in a slash and have content. Those without make a folder.
//
// A file system may take still more names for the same: ß and ss, or a letter in two normal forms of Unicode. Where it does
// not tell upper from lower case, on other systems than Windows, and always on macOS, that is found out as the files get
// their names: of two such keys the one that comes second fails, and its bytes are dropped; which one it is may differ from
// call to call. Elsewhere (a ZFS that normalizes names, say) it is not found out: both count as brought, the file is that of
// the one that came last, and the next call brings the other.
//
// Working files are in DIR/.ossdl. It goes at the end unless something is left in it: parts of objects that failed or were
// interrupted, for the next call. It may be removed by hand while no call runs. All of dir must be one file system.
//
// Several calls may run on one folder, in any number of processes, as shards do. An object that another call is at fails
// with ErrInUse, and comes whole from the other. A Download or DownloadURL to a path in dir and a DownloadPrefix that brings
// the same file keep each other out in the same way within one process. Two processes that do so go on both, each with
// working files of its own, and the file is whole at every moment: that of the one that ends last.
//
// The permissions oss:ListObjects and oss:GetObject are needed. The call ends with ctx, promptly; PrefixResult then tells
// what was done. A listing that fails, that is not in the order of the keys' bytes, or that has a thousand pages in a row
// without a key, ends the call once what was listed so far is done. Before the first request it fails for a malformed bucket
// or prefix, and for a dir that is no folder or cannot be written to.
//
// WithProgress adds all objects up: Total is that of those listed so far, Done and Resumed include what was skipped, and
// Objects are some of those in flight. WithCheckpointDir of New does not apply; WithoutCheckpoint leaves nothing of objects
// that fail.
//
// Errors: those of Download, in a [*KeyError]; ErrNotFound where there is no such bucket; oss.ServiceError wherever the
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

	fs       fsys.FS  // within dir
	leftover bool     // another call, running or interrupted, has working files there
	folds    bool     // the file system does not tell upper from lower case
	named    *namedFS // fs, where it may take names for the same; nil: it does not

	making sync.Mutex // held while a folder is made

	mu      sync.Mutex
	asked   bool // a request was made
	res     PrefixResult
	first   error               // the failure that happened first
	cut     error               // why an object was left unfinished
	folders map[string]struct{} // some that are known to be there
	bytes   tally               // of what is settled
	calls   map[*call]int64     // in flight, with the sizes listed
	meters  map[*meter]struct{} // of requests for no object's bytes
}

// tally are bytes, and the requests made for them.
type tally struct {
	done, total, resumed, received int64
	requests, retries              int
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
		return p.noSpace(err)
	}
	root, err := os.OpenRoot(p.dir)
	if err != nil {
		return err
	}
	defer root.Close()
	p.fs = p.cfg.within(root)
	if err := p.openWorkDir(); err != nil {
		return p.noSpace(err)
	}
	defer p.closeWorkDir()
	if p.folds || runtime.GOOS == "darwin" { // whose file systems normalize names in any case
		p.named = &namedFS{FS: p.fs, files: map[uint64]struct{}{}}
		p.fs = p.named
	}
	end := report(p.cfg.progress, p.look, p.received)
	err = p.verdict(ctx, p.fetchAll(ctx))
	end(err == nil)
	return err
}

// noSpace makes ErrNoSpace of the error of a disk that is too full for a folder.
func (p *prefixRun) noSpace(err error) error {
	if p.fs == nil { // dir itself could not be made
		if fsys.IsNoSpace(err) {
			err = &noSpaceError{free: -1, err: err}
		}
		return err
	}
	return (&destination{fs: p.fs, path: workDir}).noSpace(err)
}

// openWorkDir makes the folder of the working files, and tries with it how the file system takes names. Another call that
// ends just now may remove it under us; we need it only once an object takes its lock there, and then it is made again.
func (p *prefixRun) openWorkDir() (err error) {
	for range workTries {
		if err = p.tryWorkDir(); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

func (p *prefixRun) tryWorkDir() error {
	switch err := p.fs.Mkdir(workDir, 0o777); {
	case errors.Is(err, fs.ErrExist):
		p.leftover = true
	case err != nil:
		return err
	}
	fi, err := p.fs.Lstat(workDir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return fmt.Errorf("%s is in the way: it is no folder (%v)", filepath.Join(p.dir, workDir), fi.Mode().Type())
	}
	upper, err := p.fs.Lstat(strings.ToUpper(workDir))
	p.folds = err == nil && fsys.SameFile(fi, upper)
	if again, err := p.fs.Lstat(workDir); err != nil || !fsys.SameFile(fi, again) {
		return fs.ErrNotExist // it went meanwhile, and the answer says nothing
	}
	return p.fs.Writable(workDir)
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
	defer p.lane.open()()
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
	for at := (place{}); ; {
		var page []listed
		var next place
		err := p.ask(ctx, "listing", func(ctx context.Context, m *meter) (err error) {
			page, next, err = p.bucket.list(ctx, p.prefix, at, func(r io.Reader) io.Reader { return &metered{ctx, p.lane, m, r} })
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
		if next.token == "" {
			return nil
		}
		at = next
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
	n := p.lane.ceiling()
	return int64(n + n/4 + 2)
}

// weight is how much room an object takes: one that employs several requests that of several, but no more than a quarter
// of all, since at its end it employs few. So few large objects are in flight at once, and few unfinished ones are left
// by an interruption.
func weight(size, room int64) int64 {
	return max(1, min(size/firstPiece, room/4))
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
