// Package ossdl downloads objects from Alibaba Cloud OSS. It fetches an object in parallel ranges, resumes interrupted
// downloads where they stopped, and verifies the checksum before a file appears at its path.
//
// A [Downloader] is made from a client of github.com/aliyun/aliyun-oss-go-sdk/oss, version 3:
//
//	client, err := oss.New("https://oss-cn-hangzhou.aliyuncs.com", accessKeyID, accessKeySecret,
//		oss.Region("cn-hangzhou"), oss.AuthVersion(oss.AuthV4), oss.HTTPClient(ossdl.HTTPClient()))
//	if err != nil {
//		return err
//	}
//	d, err := ossdl.New(client)
//	if err != nil {
//		return err
//	}
//	res, err := d.Download(ctx, "backups", "db.dump", "/data/db.dump")
//
// One Downloader serves a whole program. Its methods are:
//
//   - [Downloader.Download] downloads an object to a file
//   - [Downloader.DownloadURL] downloads the object of a signed or public URL to a file
//   - [Downloader.DownloadTo] writes an object to an [io.WriterAt]
//   - [Downloader.Open] and [Downloader.OpenURL] return a [Reader]
//   - [Downloader.DownloadPrefix] downloads all objects whose keys begin with a prefix to a folder
//   - [Downloader.DownloadObjects] downloads the objects of a list to a folder
//   - [Downloader.DownloadAll] downloads the objects and URLs of a list, each to a file of its own
//   - [Downloader.VerifyPrefix] and [Downloader.VerifyManifest] compare a folder with a prefix, or with what a download has written
//   - [Downloader.Stat], [Downloader.StatURL] and [Downloader.List] look at objects, and download nothing
//
// [DownloadFile] has the signature of the SDK's Bucket.DownloadFile, for programs that move over.
//
// # How it works
//
//  1. The destination is checked and locked, and the checkpoint of an earlier call is loaded.
//  2. The first request asks for the first missing range. Its answer pins the object: size, ETag, version, CRC-64. Every
//     later request names the ETag, and every answer is compared with the pin.
//  3. Workers fetch what is missing, one range at a time. A request that fails or stalls continues on a new connection at the
//     byte it had reached. When no range is left, a worker takes over part of the one that would finish last.
//  4. Meanwhile the checkpoint is saved, and the data of an earlier call is verified.
//  5. The checksum of the whole is verified. The file is synced and renamed to its path, the folder is synced, and the
//     checkpoint is removed.
//
// So whatever happens, the path holds no file, the old file, or the complete new one.
//
// # Resuming
//
// A download to a file that fails, or whose process is killed, leaves the folder PATH.cp with data and checkpoint. To resume,
// repeat the call. The checkpoint is not trusted: a range counts as downloaded only if the bytes on disk have the recorded
// CRC-64. If the object has changed since, the download starts over. [WithCheckpoint], [WithCheckpointDir] and
// [WithoutCheckpoint] put the checkpoint elsewhere, or nowhere.
//
// # Verification
//
// The CRC-64 of the whole is compared with the service's, and its digest with that of [WithChecksum], if one was given. If the
// disk or the network caused a mismatch, the wrong bytes are downloaded again. A mismatch that remains is [ErrChecksum].
// Result.Verified reports whether there was anything to compare with: the service has no CRC-64 for some older or copied
// objects, nor for parts of objects.
//
// # Errors
//
// Errors that a caller can act on are found with [errors.Is]: [ErrNotFound], [ErrObjectChanged], [ErrChecksum], [ErrRange],
// [ErrInUse], [ErrArchived], [ErrRestoring], [ErrDecryption], [ErrExpired], [ErrNoSpace], [ErrTooLarge] and [ErrDifferent]. A
// [*PartError] says which bytes could not be downloaded, an [*ArchivedError] what state an archived object is in. If the service
// answered, [errors.As] finds an oss.ServiceError with the request ID. No error, log line or file
// contains a credential, a token or the query of a signed URL.
//
// # Options
//
// Options given to [New] are the defaults of all calls; see [Option].
//
//   - requests: [WithPartSize], [WithConcurrency], [WithRateLimit], [WithRetry], [WithStallTimeout], [WithRequestOptions],
//     [WithFallback]
//   - what to download: [WithVersionID], [WithAsOf], [WithIfMatch], [WithRange], [WithSnapshot], [WithChecksum],
//     [WithDecryption], [WithRestore]
//   - files: [WithCheckpoint], [WithCheckpointDir], [WithoutCheckpoint], [WithoutPreallocation], [WithMkdirAll],
//     [WithObjectTime], [WithMetadata], [WithIfChanged], [WithWait]
//   - URLs: [WithURLRefresh], [WithHTTPClient], [WithHeader]
//   - readers: [WithReadAhead]
//   - prefixes and lists: [WithInclude], [WithExclude], [WithShard], [WithKeyRange], [WithCompareCRC64], [WithDelete], [WithDryRun]
//   - what is reported: [WithProgress], [WithObjectResult], [WithManifest], [WithManifestSHA256], [WithDifference], [WithLogger]
package ossdl

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"golang.org/x/time/rate"

	"github.com/ossdl/ossdl/internal/bucket"
	"github.com/ossdl/ossdl/internal/callers"
	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/localfile"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/parts"
	"github.com/ossdl/ossdl/internal/sealed"
	"github.com/ossdl/ossdl/internal/slots"
	"github.com/ossdl/ossdl/internal/span"
)

// Version is the version of this library. Every request names it in its User-Agent: after what the SDK's client sends
// there, or alone if the library makes the request itself. A User-Agent given with [WithRequestOptions] is sent as it is.
const Version = "0.1.0"

// userAgent names the library in requests that the SDK does not make.
var userAgent = "ossdl/" + Version + " (" + runtime.GOOS + "/" + runtime.GOARCH + "; " + runtime.Version() + ")"

// Downloader downloads objects; [New] makes one. It is safe for concurrent use, and its concurrency and rate limit apply to
// all its calls together. It need not be closed. Connections that it keeps for URLs close after 50 s without use, or by
// [Downloader.CloseIdleConnections].
type Downloader struct {
	client    *oss.Client
	route     *bucket.Route // over the endpoints of client and others; nil: there are no others
	given     []Option      // to New
	gate      *slots.Gate
	limits    []*rate.Limiter
	buffers   engine.Buffers
	backlog   localfile.Backlog
	urlClient func() *http.Client // for URLs; made when first asked for
}

// New makes a Downloader for the buckets that client reaches, with the client's credentials. If there are none (an empty
// access key), its requests are not signed. With a nil client only [Downloader.DownloadURL], [Downloader.OpenURL] and
// [Downloader.VerifyManifest] work. New makes no request.
//
// Make the client with oss.HTTPClient(ossdl.HTTPClient()). What depends on the transport (connections for all ranges, proxies
// from the environment, redirects refused) is guaranteed only with that client; see [HTTPClient].
//
// An option that does not apply is an error. So is an option of the SDK's client that has no effect together with
// oss.HTTPClient and is not at its default: oss.Proxy, oss.AuthProxy, oss.Timeout, oss.MaxConns, oss.InsecureSkipVerify,
// oss.SetLocalAddr and oss.RedirectEnabled. The error says what to set instead. A client without an endpoint is an error.
func New(client *oss.Client, opts ...Option) (*Downloader, error) {
	if err := bucket.CheckClient(client); err != nil {
		return nil, fmt.Errorf("ossdl: %w", err)
	}
	return newForClient(client, opts)
}

// Download downloads the object key of bucket to the file path, whose folder must exist.
//
// If path is a symbolic link, the file it points to is written. An existing file is replaced atomically once the new one is
// complete and verified. Until then, and after an error, it is untouched. The new file has the current time, and mode 0666 less
// the umask, unless [WithObjectTime] or [WithMetadata] says otherwise. If it replaces one, it gets no permission that the old one
// does not give, and stays executable. A path that is a folder, a device or not writable is an error before any request.
//
// If the service has no CRC-64 of the bytes, the file appears all the same, and Result.Verified is false. That is so for some
// older or copied objects, for a part of an object, and for some symbolic links. [WithChecksum] verifies those as well.
//
// Before Download returns, the file and its name are synced. Result.Durable is false if the file system cannot do so, or if the
// folder could not be synced after the rename: the file is in place then, and a power loss may undo that. A warning is logged. With
// [WithMkdirAll] the same goes for the folders above in which this call has made one, or an earlier one may have.
//
// # Resuming
//
// To resume after an error, repeat the call: the folder PATH.cp holds the data and says which ranges of it are done. After
// [ErrChecksum], and with [WithoutCheckpoint], nothing is left behind.
//
// If something else has that name, or if it belongs to another user, it is left alone, and the folder has another name beside
// path. If that is taken as well, the error says so before any request.
//
// # Several calls at once
//
// While another call or process writes to path, Download fails with [ErrInUse] immediately.
//
// # Errors
//
// Download returns promptly when ctx is done, with the error of ctx. Other errors are [ErrNotFound], [ErrObjectChanged],
// [ErrChecksum], [ErrRange], [ErrInUse], [ErrArchived], [ErrDecryption], [ErrExpired], [ErrNoSpace] and [ErrTooLarge]. A
// [*PartError] says which range could not be downloaded. If the service answered, the error wraps an oss.ServiceError. [errors.ErrUnsupported] says
// that the file system cannot do what a download needs, as on some mounts of object stores; [Downloader.Open] needs no file system.
func (d *Downloader) Download(ctx context.Context, bucket, key, path string, opts ...Option) (*Result, error) {
	c, err := d.bucketCall(ctx, inDownload, "download", bucket, key, opts)
	if err != nil {
		return nil, err
	}
	if err := c.comparable(); err != nil {
		return nil, nameError("download", bucket, key, err)
	}
	return c.downloadToFile(ctx, path)
}

// call is one call of the library for one object: what it is to do, and what it has done so far.
type call struct {
	job
	d     *Downloader
	lane  *slots.Lane
	cfg   settings
	stats engine.Stats
	start time.Time
	nth   int // which object of a prefix it is, in the order in which they are begun

	fetched bool // all bytes of an object of a prefix are there

	parks    bool        // an object that is frozen is an error: the call of the prefix restores it
	thawing  atomic.Bool // the object is being restored
	restored atomic.Bool // a restore that this call has asked for was accepted

	panics *callers.Panics // of the caller's functions

	verdict              // on the whole; zero until it is verified
	durable    bool      // a power loss leaves the file as it is
	streamHash hash.Hash // of what a Reader returned; nil for other calls
	passing    *passing  // the sink of the current attempt, if a SHA-256 is wanted

	folders *fsys.Folders                  // makes those that are missing
	inTurn  func(place func() error) error // calls place, unless the file is that of another item of the list; nil: there is no list

	there  *present // the file that made the download needless; nil: there was none
	waited *waited  // for another call; nil: this one has not

	sealed *sealed.Source   // the source, if it decrypts; nil: it does not
	memory *localfile.Small // of an object that stays in memory until it is verified; nil otherwise

	mu     sync.Mutex
	engine *engine.Engine // that of the current attempt; nil before the first
}

// job is what one call is to download, as far as its entry point knows.
type job struct {
	src           source
	versions      *bucket.Client           // lists the versions, to find the one of a time; nil: it is known
	objectOptions                          // as given, or as the entry point knows better: the version in a URL, the range that a suffix is
	listed        *object.Facts            // what a listing said of the object; nil: it was not listed
	check         func(object.Facts) error // what the caller said of it, but for its ETag; nil: nothing
	wantCRC       uint64                   // the CRC-64 that the caller said it has; 0: none
	knownEmpty    bool                     // the object is said to have no bytes: do not ask for a range
	oneStream     bool                     // ask for neither ranges nor conditions
	objectTimes   bool                     // give the file the object's Last-Modified
	sumSHA256     bool                     // the SHA-256 of the whole is wanted
}

// source is an [engine.Source] that has a name.
type source interface {
	engine.Source
	// Identity names the object in the checkpoint, without credentials.
	Identity() object.Identity
	// String names the object in messages.
	fmt.Stringer
}

// downloadToFile downloads to the file path, if something can be written there.
func (c *call) downloadToFile(ctx context.Context, path string) (*Result, error) {
	ctx, done := c.panics.During(ctx)
	defer done()
	progress := startReporter(c.cfg.progress, c.snapshot, c.stats.Downloaded.Load)
	path, err := c.intoPlace(ctx, path)
	progress.end(err)
	c.panics.Raise(err)
	return c.result(ctx, path, err)
}

// toFile is the story of a download to a file. Each step either takes effect completely or leaves what was there before.
func (c *call) toFile(ctx context.Context, dst *localfile.Destination) error {
	unlock, err := dst.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	if c.inTurn == nil {
		return c.locked(ctx, dst)
	}
	return c.inTurn(func() error { return c.locked(ctx, dst) })
}

// locked is toFile once the lock is held.
func (c *call) locked(ctx context.Context, dst *localfile.Destination) error {
	if c.cfg.ifChanged || c.waited != nil {
		if done, err := c.skip(ctx, dst); done || err != nil {
			return err
		}
	}
	if err := c.findVersion(ctx); err != nil {
		return err
	}
	cp, err := c.loadCheckpoint(dst) // after the lock: until then another call may be writing it
	if err != nil {
		return err
	}
	err = c.attempt(ctx, dst, cp)
	if cp == nil || !startsOver(err) {
		return err
	}
	c.cfg.log.Warn("ignoring checkpoint; starting over", "reason", err)
	c.stats.Resumed.Store(0)
	return c.attempt(ctx, dst, nil)
}

// attempt fetches, verifies and commits once: from the start if cp is nil, or from the checkpoint cp. After an error the
// destination holds what the next call continues with.
func (c *call) attempt(ctx context.Context, dst *localfile.Destination, cp *checkpoint) error {
	e, keep, err := c.newFileEngine(dst, cp)
	if err != nil {
		dst.Abandon(localfile.AsFound)
		return err
	}
	c.verdict, err = c.fetchUntilVerified(ctx, e)
	if err == nil {
		c.useMetadata(e, dst)
		c.durable, err = dst.Commit(e.Parts.Totals().Size, c.modTime(e))
	}
	if err != nil {
		return keep.abandon(err)
	}
	return nil
}

// toMemory fetches and verifies an object that stays in memory until then, and stores it in its file. dogs watch its request.
func (c *call) toMemory(ctx context.Context, dst *localfile.Small, dogs *engine.Watchdog) error {
	config, err := c.engineConfig(dst, nil)
	if err != nil {
		return err
	}
	config.Parts.SetVolatile()
	config.Watch = dogs
	c.memory = dst
	e := c.newEngine(config)
	if c.verdict, err = c.fetchUntilVerified(ctx, e); err != nil {
		return err
	}
	c.useMetadata(e, dst)
	return dst.Store(c.modTime(e))
}

// maxRounds limits how often ranges that differ from their record on disk are downloaded again.
const maxRounds = 3

// fetchUntilVerified fetches what is missing until the whole has the right checksum. After a mismatch it reads the disk. Ranges
// that differ from their record are fetched again. If none does, the network delivered wrong bytes, and everything is fetched
// once more. If they came from several addresses of the host, one of them is avoided then. If that does not help, it is another
// one. The mismatch of an object that has grown since an earlier run means that it is another object now.
func (c *call) fetchUntilVerified(ctx context.Context, e *engine.Engine) (verdict, error) {
	anew := false
	for round := 1; ; round++ {
		if err := c.run(ctx, e); err != nil {
			return verdict{}, err
		}
		v, err := c.verify(ctx, e)
		if err != nil {
			return verdict{}, err
		}
		if v.mismatch == nil {
			return v, nil
		}
		if v.final {
			return verdict{}, v.mismatch
		}
		c.cfg.log.Warn("checksum mismatch", "error", v.mismatch)
		if e.Disk != nil && round <= maxRounds {
			e.Parts.Unprove()
			if err := e.Prove(ctx, func(int64) {}); err != nil {
				return verdict{}, err
			}
			if sums := e.Parts.Totals(); sums.Done < sums.Size {
				continue
			}
		}
		if e.Outgrown() && e.Want.Earlier != nil {
			return verdict{}, fmt.Errorf("%w: %w", engine.ErrStale, v.mismatch)
		}
		if another := e.Suspect(); anew && !another {
			return verdict{}, v.mismatch
		}
		anew = true
		e.Parts.Reset()
		c.stats.Resumed.Store(0)
	}
}

// ask makes a request for anything but the object's bytes, by the same rules.
func (c *call) ask(ctx context.Context, what string, request func(context.Context) error) error {
	return c.askMetered(ctx, what, func(ctx context.Context, _ *engine.Meter) error { return request(ctx) })
}

// askMetered is ask for a request whose answer has a body.
func (c *call) askMetered(ctx context.Context, what string, request func(context.Context, *engine.Meter) error) error {
	dog := engine.NewWatchdog(c.cfg.stall)
	defer dog.Start(c.d.gate.Tick)()
	retrier := engine.NewRetrier(c.d.gate, c.lane, slots.Retry(c.cfg.retry), c.cfg.log, func() { c.stats.Retries.Add(1) })
	_, err := retrier.TryUntil(ctx, func(ctx context.Context) error {
		c.stats.Requests.Add(1)
		return dog.Do(ctx, request)
	}, "request", what)
	return err
}

// newForClient is New for a client whose options are left as they are.
func newForClient(client *oss.Client, opts []Option) (*Downloader, error) {
	cfg, err := defaults().with(inNew, opts)
	if err == nil {
		err = bucket.CheckEndpoint(client)
	}
	if err == nil {
		err = bucket.CheckSignature(client)
	}
	if err == nil && cfg.fallback != nil {
		if err = bucket.CheckFallback(client, cfg.fallback); err != nil {
			err = fmt.Errorf("WithFallback: %w", err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ossdl: %w", err)
	}
	d := &Downloader{
		client: client, given: slices.Clone(opts), gate: slots.NewGate(cfg.concurrency, AdaptiveConcurrency),
		urlClient: sync.OnceValue(func() *http.Client { return HTTPClient() }),
	}
	if cfg.fallback != nil {
		d.route = bucket.NewRoute(append([]*oss.Client{client}, cfg.fallback...)...)
	}
	if cfg.rateLimit > 0 {
		d.limits = append(d.limits, slots.NewLimiter(cfg.rateLimit, engine.BufferSize))
	}
	return d, nil
}

// bucketCall makes a call for an object of a bucket. Its errors begin with verb, which says what the entry point does.
func (d *Downloader) bucketCall(ctx context.Context, where entryPoints, verb, bucket, key string, opts []Option) (*call, error) {
	cfg, err := d.settings(where, opts)
	if err != nil {
		return nil, nameError(verb, bucket, key, err)
	}
	if cfg.object.versionID != "" && !cfg.object.asOf.IsZero() {
		return nil, nameError(verb, bucket, key, errors.New("WithAsOf and WithVersionID exclude each other"))
	}
	b, err := d.bucketClient(ctx, bucket, &cfg)
	if err != nil {
		return nil, nameError(verb, bucket, key, err)
	}
	src, err := b.Object(key)
	if err != nil {
		return nil, nameError(verb, bucket, key, err)
	}
	c := d.newCall(src, cfg)
	if !c.asOf.IsZero() {
		c.versions = b
	}
	return c, nil
}

// bucketSource makes the source for an object of a bucket.
func (d *Downloader) bucketSource(ctx context.Context, bucket, key string, cfg *settings) (*bucket.Source, error) {
	b, err := d.bucketClient(ctx, bucket, cfg)
	if err != nil {
		return nil, err
	}
	return b.Object(key)
}

// findVersion finds the version that was current at the time that the caller gave. It asks for no page beyond those with versions of
// the key.
func (c *call) findVersion(ctx context.Context) error {
	if c.versions == nil {
		return nil
	}
	key, when := c.src.Identity().Key, c.asOf.UTC().Format(time.RFC3339Nano)
	for at := (bucket.Cursor{}).AsOf(c.asOf); ; {
		var page []bucket.Entry
		err := c.askMetered(ctx, "listing", func(ctx context.Context, m *engine.Meter) (err error) {
			var next bucket.Cursor
			page, next, err = c.versions.List(ctx, key, at, func(r io.Reader) io.Reader { return m.Reader(ctx, c.lane, r) })
			if err == nil {
				at = next
			}
			return err
		})
		switch {
		case err != nil:
			return fmt.Errorf("listing of the versions as of %s: %w", when, err)
		case len(page) > 0 && page[0].Key == key:
			c.versionID = page[0].Version
			c.versions = nil
			return nil
		case at.Token == "" || at.Settled(key):
			return fmt.Errorf("%w: it had no version as of %s", ErrNotFound, when)
		}
	}
}

// isAsOf returns an error if f are facts of another version than the one that was current at the time that the caller gave. The
// version "null" may have been replaced since the listing.
func (o *objectOptions) isAsOf(f object.Facts) error {
	why := ""
	switch {
	case o.asOf.IsZero():
	case o.versionID != "" && f.VersionID != "" && f.VersionID != o.versionID: // of a cache that drops the parameter
		why = fmt.Sprintf("version %s, wanted %s", f.VersionID, o.versionID)
	case f.Symlink: // the time may be that of the target
	case f.LastModified.After(o.asOf):
		why = fmt.Sprintf("written %s, wanted as of %s", f.LastModified.UTC().Format(time.RFC3339), o.asOf.UTC().Format(time.RFC3339Nano))
	}
	if why == "" {
		return nil
	}
	return &object.FindingError{Means: ErrObjectChanged, Why: why, Origin: f.Origin}
}

// bucketClient returns a client for a bucket. It rejects names that no bucket can have.
func (d *Downloader) bucketClient(ctx context.Context, name string, cfg *settings) (*bucket.Client, error) {
	if d.client == nil {
		return nil, errors.New("New was given no client")
	}
	if err := checkBucketName(name); err != nil {
		return nil, err
	}
	extra := func(c *oss.Client) bucket.Extra {
		return cfg.request.WithAgent(c.Config.UserAgent + " ossdl/" + Version)
	}
	b, err := bucket.New(ctx, d.client, name, extra(d.client))
	new(callers.Panics).Raise(err) // of the credentials provider; nothing has begun
	if err == nil && d.route != nil {
		b.UseRoute(d.route, extra, cfg.log)
	}
	return b, err
}

// checkBucketName returns an error unless a bucket can have this name.
func checkBucketName(name string) error {
	if oss.CheckBucketName(name) != nil {
		return fmt.Errorf("bucket name %q: 3 to 63 lower-case letters, digits and hyphens are allowed", name)
	}
	return nil
}

// newCall makes a call with a lane of its own.
func (d *Downloader) newCall(src source, cfg settings) *call {
	return d.newCallIn(d.newLane(cfg.concurrency, cfg.rateLimit), src, cfg, &callers.Panics{})
}

// newCallIn makes one of several calls that share a lane and a record of panics.
func (d *Downloader) newCallIn(lane *slots.Lane, src source, cfg settings, p *callers.Panics) *call {
	id := src.Identity()
	cfg.log = p.Logger(cfg.log).With("bucket", id.Bucket, "key", id.Key)
	cfg.progress = callers.Until(p, "the function of WithProgress", cfg.progress)
	c := &call{
		job: job{src: src, objectOptions: cfg.object, objectTimes: cfg.objectTimes},
		d:   d, lane: lane, cfg: cfg, start: time.Now(), panics: p, folders: &fsys.Folders{},
	}
	if cfg.keys != nil {
		c.sealed = sealed.NewSource(src, newOpener(cfg.keys, p))
		c.src = c.sealed
	}
	return c
}

// newOpener makes what opens encrypted objects with keys of the caller.
func newOpener(keys []sealed.Key, p *callers.Panics) *sealed.Opener {
	return &sealed.Opener{Keys: keys, Guard: func(fn func()) error { return p.Guard("a key of WithDecryption", fn) }}
}

// newLane makes a lane with a call's own limits; 0: none.
func (d *Downloader) newLane(concurrency int, bytesPerSecond int64) *slots.Lane {
	limits := d.limits
	if bytesPerSecond > 0 {
		limits = append(slices.Clip(limits), slots.NewLimiter(bytesPerSecond, engine.BufferSize))
	}
	return d.gate.Lane(concurrency, limits...)
}

// fileConfig says where the file path and its working files are.
func (c *call) fileConfig(path string) localfile.Config {
	id := c.src.Identity()
	cfg := localfile.Config{
		FS: c.cfg.fs, Log: c.cfg.log, Path: path, Mkdir: c.cfg.mkdir, Sparse: c.cfg.sparse, KeepPartial: !c.cfg.checkpoint.none() && !c.oneStream, // one stream cannot be resumed
		Backlog:      &c.d.backlog,
		Folders:      c.folders,
		Source:       fmt.Sprintf("%t\n%q\n%q", id.URL, id.Bucket, id.Key),
		IsCheckpoint: isCheckpoint,
	}
	switch c.cfg.checkpoint.kind {
	case placeFile:
		cfg.Checkpoint = c.cfg.checkpoint.path
	case placeFolder:
		cfg.CheckpointDir = c.cfg.checkpoint.path
	}
	return cfg
}

// newFileEngine makes the engine of an attempt at a file, and the keeper of its checkpoint.
func (c *call) newFileEngine(dst *localfile.Destination, cp *checkpoint) (*engine.Engine, *keeper, error) {
	config, err := c.engineConfig(dst, cp)
	if err != nil {
		return nil, nil, err
	}
	if !dst.HasCheckpoint() {
		config.Parts.SetVolatile()
	}
	keep := newKeeper(dst, config.Parts, c.src.Identity(), &c.objectOptions, c.cfg.log)
	config.Disk, config.Beside = dst, []func(context.Context) error{dst.Reserve, dst.WriteBack, keep.saves, keep.savesRecent, keep.syncs}
	if c.sumSHA256 {
		c.passing = &passing{Sink: dst, hash: sha256.New()}
		config.Sink = c.passing
	}
	if cp != nil {
		keep.bases.Store(&localfile.Bases{cp.sum, cp.sum})
	}
	e := c.newEngine(config)
	keep.engine = e
	return e, keep, nil
}

// engineConfig says how the engine is to fetch into a sink. With a checkpoint, the sink must hold what that claims.
func (c *call) engineConfig(to engine.Sink, cp *checkpoint) (engine.Config, error) {
	sizes := partSizer{c.cfg.partSize}
	config := engine.Config{
		Source: c.src, Sink: to, Gate: c.d.gate, Lane: c.lane, Buffers: &c.d.buffers, Length: -1,
		Want: engine.Want{ETag: c.ifMatch, Version: c.versionID, Listed: c.listed, Check: c.fits, Snapshot: c.cfg.snapshot && c.asked == nil, Empty: c.knownEmpty, OneStream: c.oneStream},
		Size: sizes.next, Workers: sizes.workers, RangeError: c.partError,
		Retry: slots.Retry(c.cfg.retry), Stall: c.cfg.stall, Stats: &c.stats, Log: c.cfg.log,
	}
	if r := c.asked; r != nil {
		config.Base, config.Length = r.offset, r.length
	}
	if cp == nil {
		config.Parts = parts.New(sizes.first(config.Base, config.Length))
		return config, nil
	}
	var err error
	config.Parts, err = cp.partsMap()
	config.Want.Earlier = cp.facts()
	return config, err
}

// fits returns an error if f are facts of another object than the caller said, or of one that no key decrypts.
func (c *call) fits(f object.Facts) error {
	if err := c.isAsOf(f); err != nil {
		return err
	}
	if c.check != nil {
		if err := c.check(f); err != nil {
			return err
		}
	}
	if c.sealed != nil {
		return c.sealed.Check(f)
	}
	return nil
}

// newEngine makes the engine of a call, or that of its next attempt.
func (c *call) newEngine(config engine.Config) *engine.Engine {
	var e *engine.Engine
	if c.sealed != nil && config.Watch == nil {
		config.Beside = append(slices.Clip(config.Beside), func(ctx context.Context) error {
			c.sumKeystream(ctx, e)
			return nil
		})
	}
	e = engine.New(config)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.engine = e
	return e
}

// partError makes the error of a range that could not be fetched.
func (c *call) partError(s span.Span, attempts int, err error) error {
	id := c.src.Identity()
	return &PartError{Bucket: id.Bucket, Key: id.Key, Offset: s.Off, Size: s.Len(), Attempts: attempts, Err: err}
}

// modTime returns the modification time for the file; zero means that of the download.
func (c *call) modTime(e *engine.Engine) time.Time {
	f, _ := e.Facts()
	if c.cfg.wantsTime() && f.Stored.MTime != "" {
		t, err := f.Stored.Time()
		if err == nil {
			return t
		}
		c.cfg.log.Warn("metadata ignored", "error", err)
	}
	if !c.objectTimes {
		return time.Time{}
	}
	return f.LastModified
}

// ownerReadsAndWrites are permissions that a file keeps whatever its object's metadata says: without them no later call could
// replace the file or resume it.
const ownerReadsAndWrites = 0o600

// useMetadata gives the file the owner and the mode that the object's metadata has, if those are wanted.
func (c *call) useMetadata(e *engine.Engine, dst interface {
	UseMode(fs.FileMode)
	UseOwner(uid, gid int)
}) {
	f, _ := e.Facts()
	if c.cfg.metadata&MetadataOwner != 0 && f.Stored.UID+f.Stored.GID != "" {
		if uid, gid, err := f.Stored.Owner(); err != nil {
			c.cfg.log.Warn("metadata ignored", "error", err)
		} else {
			dst.UseOwner(uid, gid)
		}
	}
	if c.cfg.metadata&MetadataMode == 0 || f.Stored.Mode == "" || runtime.GOOS == "windows" {
		return
	}
	mode, err := f.Stored.Permissions()
	if err != nil {
		c.cfg.log.Warn("metadata ignored", "error", err)
		return
	}
	dst.UseMode(mode | ownerReadsAndWrites)
}

// verdict says whether the bytes of a call are right.
type verdict struct {
	crc      uint64 // CRC-64 of the whole
	verified bool   // it is the service's, or the digest is the one that the caller gave
	mismatch error  // nil: nothing contradicts the bytes
	final    bool   // downloading again cannot repair the mismatch
	sha256   []byte // of the whole; nil: not wanted
}

// verify compares the whole with what the service and the caller say about it. It returns an error only if the bytes could
// not be read back.
func (c *call) verify(ctx context.Context, e *engine.Engine) (verdict, error) {
	v, err := c.compareCRC(ctx, e)
	if err != nil {
		return verdict{}, err
	}
	if f, _ := e.Facts(); v.mismatch == nil && c.check != nil && isWhole(e) {
		v.mismatch = c.check(f) // again: no answer may have said the size before the end of the body
	}
	if v.mismatch == nil && c.sumSHA256 {
		sum, err := c.wholeSHA256(ctx, e)
		if err != nil {
			return verdict{}, err
		}
		v.sha256 = sum
	}
	if v.mismatch != nil || c.newHash == nil {
		return v, nil
	}
	got, err := c.digest(ctx, e)
	if err != nil {
		return verdict{}, err
	}
	if !bytes.Equal(got, c.want) {
		v.final = v.verified // the service vouches for these bytes
		v.verified = false
		v.mismatch = fmt.Errorf("%w: digest is %x, want %x", ErrChecksum, got, c.want)
		return v, nil
	}
	v.verified = true
	return v, nil
}

// compareCRC compares the CRC-64 of the whole with that of the object, if the service has one.
func (c *call) compareCRC(ctx context.Context, e *engine.Engine) (verdict, error) {
	f, _ := e.Facts()
	v := verdict{crc: e.Parts.Sum()}
	whole := isWhole(e)
	stored, err := c.storedCRC(ctx, e, v.crc)
	if err != nil {
		return verdict{}, err
	}
	switch {
	case c.wantCRC != 0 && stored == c.wantCRC:
		v.verified = true
	case c.wantCRC != 0:
		v.mismatch = fmt.Errorf("%w: CRC-64 is %d, want %d", ErrChecksum, stored, c.wantCRC)
		v.final = whole && f.HasCRC && stored == f.CRC // the service vouches for these bytes
	case !whole || !f.HasCRC:
	case stored == f.CRC:
		v.verified = true
	case f.Symlink:
		// The headers of a symbolic link's answer are the link's, except those that the protocol names. Whether the CRC-64
		// is one of them is not documented.
		c.cfg.log.Warn("CRC-64 of the answer for a symbolic link does not match its content; not verified", "got", stored, "want", f.CRC)
	case e.Outgrown():
		v.mismatch = &object.FindingError{Means: errReplaced, Origin: f.Origin, Why: fmt.Sprintf(
			"it has grown beyond %d bytes, but their CRC-64 is %d and was %d: it is another object", f.Size, stored, f.CRC,
		)}
	default:
		v.mismatch = &object.FindingError{Means: ErrChecksum, Why: fmt.Sprintf("CRC-64 is %d, the service says %d", stored, f.CRC), Origin: f.Origin}
	}
	return v, nil
}

// isWhole reports whether a call that has ended has fetched the whole object.
func isWhole(e *engine.Engine) bool {
	f, _ := e.Facts()
	return e.Base == 0 && e.Parts.Totals().Size == f.Size
}

// storedCRC returns the CRC-64 of the object as it is stored, from that of the bytes: if they were decrypted, it is another one.
func (c *call) storedCRC(ctx context.Context, e *engine.Engine, crc uint64) (uint64, error) {
	f, _ := e.Facts()
	if f.Envelope == "" || !isWhole(e) {
		return crc, nil
	}
	if err := c.sealed.Check(f); err != nil {
		return 0, err
	}
	buf := e.Buffers.Get()
	defer e.Buffers.Put(buf)
	return c.sealed.Stream(f).Stored(ctx, crc, f.Size, buf)
}

// sumKeystream does most of what storedCRC will have to do, beside the fetching, as far as that gives it time.
func (c *call) sumKeystream(ctx context.Context, e *engine.Engine) {
	f, _ := e.Facts()
	if f.Envelope == "" || f.Size == object.UnknownSize || e.Base != 0 || e.Length >= 0 || c.sealed.Check(f) != nil {
		return
	}
	buf := e.Buffers.Get()
	defer e.Buffers.Put(buf)
	_ = c.sealed.Stream(f).Sum(ctx, f.Size, buf) // an error is the end of ctx
}

// digest returns the hash that the caller gave, of what was written. It reads the bytes back unless they were hashed as they
// were read.
func (c *call) digest(ctx context.Context, e *engine.Engine) ([]byte, error) {
	var sum []byte
	var err error
	if perr := c.panics.Guard("the hash of WithChecksum", func() { sum, err = c.computeDigest(ctx, e) }); perr != nil {
		return nil, perr
	}
	return sum, err
}

func (c *call) computeDigest(ctx context.Context, e *engine.Engine) ([]byte, error) {
	if c.streamHash != nil {
		return c.streamHash.Sum(nil), nil
	}
	h, err := c.makeHash()
	if err != nil {
		return nil, err
	}
	return readBack(ctx, e, h)
}

// readBack returns the hash of what was written.
func readBack(ctx context.Context, e *engine.Engine, h hash.Hash) ([]byte, error) {
	buf := e.Buffers.Get()
	defer e.Buffers.Put(buf)
	err := engine.ReadThrough(ctx, e.Disk, 0, e.Parts.Totals().Size, buf, func(b []byte) { h.Write(b) })
	return h.Sum(nil), err
}

// wholeSHA256 returns the SHA-256 of the whole. It reads the bytes back unless they are in memory, or were hashed as they were
// written.
func (c *call) wholeSHA256(ctx context.Context, e *engine.Engine) ([]byte, error) {
	if e.Disk == nil {
		sum := sha256.Sum256(c.memory.Body())
		return sum[:], nil
	}
	if sum := c.passing.sum(e.Parts.Totals().Size); sum != nil {
		return sum, nil
	}
	return readBack(ctx, e, sha256.New())
}

// maxPassing is the size of the largest object that is hashed as it is written, in bytes. The parts of larger ones come at the
// same time, and would wait for each other.
const maxPassing = 1 << 20

// passing is a sink that hashes what is written to another one, as long as that comes in order.
type passing struct {
	engine.Sink

	mu   sync.Mutex
	hash hash.Hash
	next int64 // bytes hashed; -1: some did not come in order
}

// Begin begins to hash, if the whole is still to come and small.
func (p *passing) Begin(size, missing int64) error {
	p.mu.Lock()
	p.hash.Reset()
	p.next = 0
	if size != missing || size > maxPassing || size < 0 {
		p.next = -1
	}
	p.mu.Unlock()
	return p.Sink.Begin(size, missing)
}

func (p *passing) WriteAt(b []byte, off int64) (int, error) {
	n, err := p.Sink.WriteAt(b, off)
	p.mu.Lock()
	defer p.mu.Unlock()
	if off != p.next || err != nil {
		p.next = -1
	} else {
		p.hash.Write(b[:n])
		p.next += int64(n)
	}
	return n, err
}

// sum returns the hash of size bytes; nil unless these were hashed.
func (p *passing) sum(size int64) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next != size {
		return nil
	}
	return p.hash.Sum(nil)
}

// snapshot returns the state for a progress report.
func (c *call) snapshot() Progress {
	p := Progress{
		Resumed: c.stats.Resumed.Load(), InFlight: int(c.stats.InFlight.Load()),
		Retries: int(c.stats.Retries.Load()), Requests: int(c.stats.Requests.Load()),
	}
	if c.thawing.Load() {
		p.Restoring = 1
	}
	c.mu.Lock()
	e, there := c.engine, c.there
	c.mu.Unlock()
	if there != nil {
		p.Done, p.Total = there.size, there.size
	}
	if e == nil {
		return p
	}
	if e.HasBegun() {
		p.Done = e.Parts.Totals().Done
		p.Total, _ = e.Total()
	}
	return p
}
