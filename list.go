package ossdl

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/ossdl/ossdl/internal/bucket"
	"github.com/ossdl/ossdl/internal/callers"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/slots"
	"github.com/ossdl/ossdl/internal/tree"
	"github.com/ossdl/ossdl/internal/weburl"
)

// Item is a file for [Downloader.DownloadAll]. Source and Path are needed; a field that is zero is not known. What is known is
// compared, and saves requests together with [WithIfChanged].
type Item struct {
	// Source is oss://BUCKET/KEY, or a signed or public http(s) URL as [Downloader.DownloadURL] takes it. The key is taken literally:
	// nothing in it is an escape.
	Source string
	// Path is that of the file, as for [Downloader.Download].
	Path string
	// VersionID is the version of an oss:// source to download, instead of the current one. That of a URL is in its query.
	VersionID string
	// Size is in bytes. An object of another size is [ErrObjectChanged]. 0 means that the size is not known, even if the object
	// is empty.
	Size int64
	// CRC64 is the CRC-64 (ECMA-182) of the object, as the service has it; of an encrypted object, that of the ciphertext. Other bytes
	// are [ErrChecksum]. 0 means that it is not known; it is also the CRC-64 of an empty object.
	CRC64 uint64
	// SHA256 has the 32 bytes of the file's SHA-256. Other bytes are [ErrChecksum]. Nil means that it is not known.
	SHA256 []byte
}

// ItemError says that an item of the list of [Downloader.DownloadAll] is malformed, or that its file is that of an earlier one. Nothing
// was requested or written then. [errors.As] finds it as an *ItemError.
type ItemError struct {
	Index  int    // of the item in the list, counted from 0
	Source string // of the item, without the query of a URL; "" if nothing of it may be shown
	Err    error
}

// Error returns the number of the item, counted from 1, its source and the text of Err.
func (e *ItemError) Error() string {
	if e.Source == "" {
		return fmt.Sprintf("item %d: %v", e.Index+1, e.Err)
	}
	return fmt.Sprintf("item %d, %q: %v", e.Index+1, e.Source, e.Err)
}

// Unwrap returns Err.
func (e *ItemError) Unwrap() error { return e.Err }

// DownloadAll downloads the items of a list, each from a source to a file of its own. Sources can be objects of several buckets,
// and URLs.
//
// Each item is downloaded as by [Downloader.Download] or [Downloader.DownloadURL], with all that these promise: locks, resuming,
// verification, and [WithIfChanged] and [WithWait], which compare a file with SHA256 or CRC64 if they are known. Several items are
// downloaded at a time. [WithConcurrency] and [WithRateLimit] apply to all of them together. To resume, repeat the call.
// WithIfChanged skips what is there already; without it, files that are there are downloaded again.
//
// # The list
//
// The whole list is read and checked before the first request: it is kept in memory, some hundred bytes and the texts for each
// item. An item with a malformed source, digest or path is an [*ItemError], and nothing is downloaded then. So is one whose file
// is that of an earlier item, also by a link, or if names are case-insensitive there; one whose file would have to be a folder for
// that of another; and one whose file would lie in the folder that another download works in, Path + ".cp". If the list yields an
// error, nothing is downloaded, and the call returns that error.
//
// An empty folder does not show how it treats names. Of two items whose files turn out to be one, after the first is in place, the
// second fails. Items whose paths differ only by case are downloaded one after the other for that. An item whose file is in use is
// tried once more after all others: what uses it may be one of them, under another name, such as another normal form of Unicode.
//
// # Results
//
// The result counts items as [Downloader.DownloadPrefix] counts objects. [WithObjectResult] reports each item when it is settled,
// with its source. [WithProgress] reports the sums of all items. Total grows as sizes become known, unless items have their Size.
//
// [WithHeader] is for the host of the URLs alone: if they have several, or differ in scheme or port, it is an error. A default of New
// that does not apply to DownloadAll has no effect, such as [WithRestore]: an archived object fails with [ErrArchived].
//
// # Errors
//
// An item that fails does not stop the others. It is in PrefixResult.Failures, as a KeyError whose Key is the source, without the
// query of a URL. The call returns an error that says how many failed and wraps the [*KeyError] of the first.
//
// DownloadAll returns promptly when ctx is done, with its error; the PrefixResult then says what was done. A credentials provider that
// fails before the first request ends the call.
func (d *Downloader) DownloadAll(ctx context.Context, items iter.Seq2[Item, error], opts ...Option) (*PrefixResult, error) {
	cfg, err := d.settings(inDownloadAll, opts)
	if err == nil && items == nil {
		err = errors.New("nil list")
	}
	if err != nil {
		return nil, fmt.Errorf("ossdl: download list: %w", err)
	}
	l := d.newListCall(cfg)
	ctx, done := l.panics.During(ctx)
	defer done()
	err = l.read(ctx, items)
	if err == nil {
		err = l.reachBuckets(ctx)
	}
	if err == nil {
		err = l.run(ctx)
	}
	l.panics.Raise(err)
	if err = withContextError(ctx, err); err != nil {
		return l.result(err), fmt.Errorf("ossdl: download list: %w", err)
	}
	return l.result(nil), nil
}

// listCall is one call of DownloadAll.
type listCall struct {
	account
	d         *Downloader
	cfg       settings
	lane      *slots.Lane
	panics    *callers.Panics // of the caller's functions
	files     *tree.Destinations
	folders   fsys.Folders // makes those of the files
	items     []*listed
	buckets   map[string]*bucket.Client // by name; nil: not needed yet
	urlClient *http.Client              // nil: not needed yet

	inUse []*listed // those whose file was in use; guarded by account.mu
}

// listed is an item of the list, once it was checked.
type listed struct {
	Item
	address     *weburl.Address // nil: the source is an object of a bucket
	bucket, key string          // otherwise
	turn        tree.Turn       // of its file
	next        *listed         // the one whose turn is after this one's; nil: there is none
	follows     bool            // it is the next of another one
	again       bool            // its file was in use, and it is begun again after the others
}

// name returns the source as it may be shown.
func (it *listed) name() string {
	if it.address != nil {
		return it.address.String()
	}
	return objectName(it.bucket, it.key)
}

func (d *Downloader) newListCall(cfg settings) *listCall {
	caught := &callers.Panics{}
	cfg.log = caught.Logger(cfg.log)
	l := &listCall{
		account: account{calls: map[*call]int64{}}, d: d, panics: caught, buckets: map[string]*bucket.Client{},
		lane: d.newLane(cfg.concurrency, cfg.rateLimit),
	}
	cfg.progress, cfg.objectResult = callers.Until(caught, "the function of WithProgress", cfg.progress), callers.OneByOne(caught, "the function of WithObjectResult", cfg.objectResult)
	l.cfg = cfg
	return l
}

// read reads the whole list and checks it.
func (l *listCall) read(ctx context.Context, items iter.Seq2[Item, error]) (err error) {
	l.files = tree.NewDestinations(l.cfg.fs, runtime.GOOS == "windows" || runtime.GOOS == "darwin")
	origin := "" // of the URLs
	perr := l.panics.Guard("the list of DownloadAll", func() {
		for item, ierr := range items {
			if err = context.Cause(ctx); err == nil && ierr != nil {
				err = ierr
			}
			if err != nil {
				return
			}
			if err = l.add(item, &origin); err != nil {
				return
			}
		}
	})
	return errors.Join(perr, err)
}

// add checks the next item of the list. origin is that of the URLs before it.
func (l *listCall) add(item Item, origin *string) error {
	it := &listed{Item: item}
	bad := func(err error) error {
		e := &ItemError{Index: len(l.items), Err: err}
		if it.address != nil || it.bucket != "" {
			e.Source = it.name()
		}
		return e
	}
	if err := it.parseSource(); err != nil {
		return bad(err)
	}
	if err := it.check(&l.cfg); err != nil {
		return bad(err)
	}
	if it.address == nil && l.d.client == nil {
		return bad(errors.New("New was given no client"))
	}
	if it.address != nil && l.cfg.headers != nil {
		if *origin != "" && *origin != it.address.Origin() {
			return bad(fmt.Errorf("WithHeader is for one host, and earlier items are of %s", *origin))
		}
		*origin = it.address.Origin()
	}
	var err error
	if it.turn, err = l.files.Add(it.Path); err != nil {
		return bad(fmt.Errorf("path %q: %w", it.Path, err))
	}
	it.SHA256 = bytes.Clone(it.SHA256)
	l.items = append(l.items, it)
	return nil
}

// parseSource reads the source.
func (it *listed) parseSource() (err error) {
	rest, isObject := strings.CutPrefix(it.Source, "oss://")
	if !isObject {
		it.address, err = weburl.Parse(it.Source)
		if err != nil {
			return fmt.Errorf("%w; or oss://BUCKET/KEY", err)
		}
		return nil
	}
	it.bucket, it.key, _ = strings.Cut(rest, "/")
	if err := checkBucketName(it.bucket); err != nil {
		return err
	}
	return bucket.CheckKey(it.key)
}

// check returns an error if the item is malformed, but for its source.
func (it *listed) check(cfg *settings) error {
	switch {
	case it.Path == "":
		return errors.New("empty path")
	case strings.ContainsRune(it.Path, 0):
		return fmt.Errorf("path %q contains a NUL", it.Path)
	case it.Size < 0:
		return fmt.Errorf("size %d is negative", it.Size)
	case it.SHA256 != nil && len(it.SHA256) != sha256.Size:
		return fmt.Errorf("the SHA-256 has %s, want %d", byteCount(int64(len(it.SHA256))), sha256.Size)
	case it.address == nil:
		return nil
	case it.VersionID != "":
		return errors.New("VersionID is for oss:// sources; that of a URL is in its query")
	case it.address.Processed() && cfg.ifChanged && it.SHA256 == nil && it.CRC64 == 0:
		return errors.New("WithIfChanged applies to a URL with x-oss-process only with SHA256 or CRC64")
	}
	return nil
}

// reachBuckets makes a client for each bucket of the list. That may ask the caller's credentials provider.
func (l *listCall) reachBuckets(ctx context.Context) error {
	for _, it := range l.items {
		if it.address != nil {
			if l.urlClient == nil {
				l.urlClient = l.d.clientForURLs(&l.cfg)
			}
			continue
		}
		if l.buckets[it.bucket] != nil {
			continue
		}
		b, err := l.d.bucketClient(ctx, it.bucket, &l.cfg)
		if err != nil {
			return fmt.Errorf("%s: %w", it.name(), err)
		}
		l.buckets[it.bucket] = b
	}
	return nil
}

// run downloads the items.
func (l *listCall) run(ctx context.Context) error {
	for _, it := range l.items {
		l.expect(it.Size)
	}
	progress := startReporter(l.cfg.progress, l.snapshot, l.received)
	err := l.verdict(ctx, l.fetchAll(ctx))
	progress.end(err)
	return err
}

// unknownShare is which part of the room for items in flight one takes whose size is not known. A list may have many of them, and
// all may be large.
const unknownShare = 16

// fetchAll downloads each item as soon as there is room for it. It returns once all have ended.
func (l *listCall) fetchAll(ctx context.Context) error {
	defer l.lane.Begin()()
	l.fetchEach(ctx, l.items)
	l.fetchEach(ctx, l.inUse) // by another item, perhaps, under a name that the file system takes for the same
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unfinished
}

// takeTurns has items that may have one file follow each other.
func takeTurns(items []*listed) {
	last := make(map[tree.Turn]*listed, len(items))
	for _, it := range items {
		it.next, it.follows = nil, false
		if before := last[it.turn]; before != nil {
			before.next, it.follows = it, true
		}
		last[it.turn] = it
	}
}

// fetchEach does it for some items. One that follows another is begun after that, and takes no room until then.
func (l *listCall) fetchEach(ctx context.Context, items []*listed) {
	takeTurns(items)
	room := objectsIn(l.lane)
	inFlight := semaphore.NewWeighted(room)
	enter := func(it *listed) (leave func()) {
		n := weight(it.Size, room)
		if it.Size == 0 {
			n = max(1, room/unknownShare)
		}
		if inFlight.Acquire(ctx, n) != nil {
			l.cutOff(ctx)
			return nil
		}
		return func() { inFlight.Release(n) }
	}
	var running sync.WaitGroup
	defer running.Wait()
	for _, it := range items {
		if it.follows {
			continue
		}
		leave := enter(it)
		if leave == nil {
			return
		}
		running.Go(func() {
			for leave != nil {
				l.fetch(ctx, it)
				leave()
				if it = it.next; it == nil {
					return
				}
				leave = enter(it)
			}
		})
	}
}

// fetch downloads an item.
func (l *listCall) fetch(ctx context.Context, it *listed) {
	c, err := l.newCall(it)
	if err != nil {
		l.failed(it, c, it.Path, err)
		return
	}
	l.began(c, it.Size)
	path, err := c.intoPlace(ctx, it.Path)
	l.count(c, err)
	switch {
	case err == nil && c.there != nil:
		l.settled(it, c, path, ObjectSkipped, nil)
	case err == nil:
		if !c.verified {
			c.cfg.log.Warn("object not verified: there is no checksum to compare with")
		}
		l.settled(it, c, path, ObjectDone, nil)
	case ctx.Err() != nil:
		l.panics.Note(err)
		l.cutOff(ctx)
	case errors.Is(err, ErrInUse) && !it.again && c.cfg.wait == 0:
		c.cfg.log.Info("file in use: trying again after the other items", "path", path, "error", err)
		l.putOff(it)
	default:
		l.failed(it, c, path, err)
	}
}

// putOff has an item tried again once all others have ended.
func (l *listCall) putOff(it *listed) {
	it.again = true
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inUse = append(l.inUse, it)
}

// newCall makes the call for an item. Beside an error it is nil.
func (l *listCall) newCall(it *listed) (*call, error) {
	cfg := l.cfg
	if it.SHA256 != nil {
		cfg.object.newHash, cfg.object.want = sha256.New, it.SHA256
	}
	var c *call
	if it.address != nil {
		c = l.d.urlCallIn(l.lane, l.urlClient, it.address, cfg, l.panics)
	} else {
		src, err := l.buckets[it.bucket].Object(it.key)
		if err != nil {
			return nil, err
		}
		c = l.d.newCallIn(l.lane, src, cfg, l.panics)
		c.versionID = it.VersionID
	}
	c.folders = &l.folders
	c.inTurn = func(place func() error) error { return l.files.Place(it.turn, it.Path, place) }
	if it.Size != 0 || it.CRC64 != 0 || it.VersionID != "" {
		said := Object{VersionID: it.VersionID, Size: it.Size, CRC64: it.CRC64}
		c.wantCRC, c.check = it.CRC64, said.contradicts
	}
	return c, nil
}

// failed records and logs the failure of an item. c may be nil.
func (l *listCall) failed(it *listed, c *call, path string, err error) {
	l.panics.Note(err)
	bucket, key := it.identity()
	l.cfg.log.Error("object failed", "bucket", bucket, "key", key, "path", path, "error", err)
	l.countFailure(KeyError{Key: it.name(), Err: err})
	l.settled(it, c, path, ObjectFailed, err)
}

// identity returns bucket and key; of a URL, host and path.
func (it *listed) identity() (bucket, key string) {
	if it.address != nil {
		id := it.address.Identity()
		return id.Bucket, id.Key
	}
	return it.bucket, it.key
}

// settled reports what became of an item.
func (l *listCall) settled(it *listed, c *call, path string, status ObjectStatus, err error) {
	debug := l.cfg.log.Enabled(context.Background(), slog.LevelDebug)
	if !debug && l.cfg.objectResult == nil {
		return
	}
	res := it.result(c, path, status, err)
	if debug {
		l.cfg.log.Debug("object settled", "bucket", res.Bucket, "object", res)
	}
	if l.cfg.objectResult != nil {
		l.cfg.objectResult(res)
	}
}

// result describes what became of the item.
func (it *listed) result(c *call, path string, status ObjectStatus, err error) ObjectResult {
	r := ObjectResult{Status: status, Source: it.name(), Name: filepath.Base(path), Path: path, VersionID: it.VersionID, Size: it.Size, Err: err}
	r.Bucket, r.Key = it.identity()
	if c == nil {
		return r
	}
	f := c.figuresWithoutHeader(path)
	if f == nil {
		return r
	}
	r.ResumedBytes, r.DownloadedBytes, r.Requests, r.Retries, r.Duration = f.ResumedBytes, f.DownloadedBytes, f.Requests, f.Retries, f.Duration
	if status == ObjectFailed && f.ETag == "" && f.LastModified.IsZero() { // there was no answer about it
		return r
	}
	r.VersionID, r.ETag, r.Size, r.LastModified, r.Encrypted = f.VersionID, f.ETag, f.Size, f.LastModified, f.Encrypted
	if status != ObjectFailed {
		r.CRC64, r.Verified, r.Durable = f.CRC64, f.Verified, f.Durable
	}
	return r
}

// snapshot returns the state for a progress report.
func (l *listCall) snapshot() Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.totals()
}
