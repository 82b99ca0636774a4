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
// One Downloader serves a whole program. Its calls are:
//
//   - [Downloader.Download] downloads an object to a file
//   - [Downloader.DownloadURL] downloads the object of a signed or public URL to a file
//   - [Downloader.DownloadTo] writes an object to an [io.WriterAt]
//   - [Downloader.Open] and [Downloader.OpenURL] return a [Reader]
//   - [Downloader.DownloadPrefix] downloads all objects whose keys begin with a prefix to a folder
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
// A download to a file that fails, or whose process is killed, leaves the partial file PATH.part and its checkpoint PATH.cp.
// To resume, repeat the call. The checkpoint is not trusted: a range counts as downloaded only if the bytes on disk have the
// recorded CRC-64. If the object has changed since, the download starts over. [WithCheckpoint], [WithCheckpointDir] and
// [WithoutCheckpoint] put the checkpoint elsewhere, or nowhere.
//
// # Verification
//
// The CRC-64 of the whole is compared with the service's, and its digest with that of [WithChecksum], if one was given. A
// mismatch is repaired if the disk or the network was at fault, and is [ErrChecksum] otherwise. Result.Verified reports
// whether there was anything to compare with: the service has no CRC-64 of some older or copied objects, nor of parts of
// objects.
//
// # Errors
//
// Errors that a caller can act on are found with [errors.Is]: [ErrNotFound], [ErrObjectChanged], [ErrChecksum], [ErrRange],
// [ErrInUse], [ErrArchived], [ErrExpired] and [ErrNoSpace]. A [*PartError] says which bytes could not be downloaded. Whenever
// the service answered, [errors.As] finds an oss.ServiceError with the request ID. No error, log line or file contains a
// credential, a token or the query of a signed URL.
//
// # Options
//
// Options given to [New] are the defaults of all calls, see [Option].
//
//   - requests: [WithPartSize], [WithConcurrency], [WithRateLimit], [WithRetry], [WithStallTimeout], [WithRequestOptions]
//   - what to download: [WithVersionID], [WithIfMatch], [WithRange], [WithChecksum]
//   - files: [WithCheckpoint], [WithCheckpointDir], [WithoutCheckpoint], [WithoutPreallocation]
//   - URLs: [WithURLRefresh], [WithHTTPClient]
//   - readers: [WithReadAhead]
//   - prefixes: [WithInclude], [WithExclude], [WithShard], [WithCompareCRC64]
//   - what is reported: [WithProgress], [WithLogger]
package ossdl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"golang.org/x/time/rate"
)

// Downloader downloads objects; [New] makes one. It is safe for concurrent use, and its concurrency and rate limit apply to
// all its calls together. It need not be closed. Connections that it keeps for URLs close after 50 s without use, or by
// [Downloader.CloseIdleConnections].
type Downloader struct {
	client  *oss.Client
	cfg     settings
	gate    *gate
	limits  []*rate.Limiter
	buffers buffers
	web     func() *http.Client // for URLs; made when first asked for
}

// New makes a Downloader for the buckets that client reaches, with the client's credentials. If there are none (an empty
// access key), its requests are not signed. A nil client serves [Downloader.DownloadURL] and [Downloader.OpenURL] alone.
//
// Make the client with oss.HTTPClient(ossdl.HTTPClient()): what needs a transport (connections for all ranges, proxies from
// the environment, redirects refused) is promised for that one only; see [HTTPClient].
//
// An option that does not apply is an error. So is an option of the SDK's client that has no effect beside oss.HTTPClient
// and is not at its default: oss.Proxy, oss.AuthProxy, oss.Timeout, oss.MaxConns, oss.InsecureSkipVerify, oss.SetLocalAddr and
// oss.RedirectEnabled. The error says what to set instead.
func New(client *oss.Client, opts ...Option) (*Downloader, error) {
	if err := checkClientOptions(client); err != nil {
		return nil, fmt.Errorf("ossdl: %w", err)
	}
	return newForClient(client, opts)
}

// newForClient is New for a client whose options are left as they are.
func newForClient(client *oss.Client, opts []Option) (*Downloader, error) {
	cfg, err := defaults().with(inNew, opts)
	if err != nil {
		return nil, fmt.Errorf("ossdl: %w", err)
	}
	d := &Downloader{
		client: client, cfg: cfg, gate: newGate(cfg.concurrency, AdaptiveConcurrency),
		web: sync.OnceValue(func() *http.Client { return HTTPClient() }),
	}
	if cfg.rateLimit > 0 {
		d.limits = append(d.limits, newLimiter(cfg.rateLimit, bufferSize))
	}
	// The Downloader's own bounds are kept by gate and limits; a call starts without one of its own.
	d.cfg.concurrency, d.cfg.rateLimit = 0, 0
	return d, nil
}

// Download downloads the object key of bucket to the file path, whose folder must exist.
//
// If path is a symbolic link, the file it points to is written. An existing file is replaced atomically once the new one is
// complete and verified. Until then, and after an error, it is untouched. The new file has mode 0666 less the umask, and the
// current time. A path that is a folder, a device or not writable is an error before any request.
//
// If the service has no CRC-64 of the bytes, the file appears all the same, and Result.Verified is false. That is so for some
// older or copied objects, for a part of an object, and for some symbolic links. [WithChecksum] verifies those as well.
//
// # Resuming
//
// To resume after an error, repeat the call: PATH.part holds the data, and PATH.cp says what of it is done. Any file that is
// at PATH.cp is taken for a checkpoint, and may be replaced. After [ErrChecksum], and with [WithoutCheckpoint], nothing is
// left behind.
//
// # Several calls at once
//
// While another call or process writes to path, Download fails with [ErrInUse] at once.
//
// # Errors
//
// Download returns promptly when ctx is done, with its error. Other errors are [ErrNotFound], [ErrObjectChanged],
// [ErrChecksum], [ErrRange], [ErrInUse], [ErrArchived], [ErrExpired] and [ErrNoSpace]. A [*PartError] says which range could
// not be downloaded. If the service answered, the error wraps an oss.ServiceError.
func (d *Downloader) Download(ctx context.Context, bucket, key, path string, opts ...Option) (*Result, error) {
	c, err := d.bucketCall(inDownload, "download", bucket, key, opts)
	if err != nil {
		return nil, err
	}
	return c.toFile(ctx, path)
}

// bucketCall makes a call for an object of a bucket. Its errors begin with what the entry point does, as verb says it.
func (d *Downloader) bucketCall(where entryPoints, verb, bucket, key string, opts []Option) (*call, error) {
	cfg, err := d.cfg.with(where, opts)
	if err != nil {
		return nil, nameError(verb, bucket, key, err)
	}
	src, err := d.bucketSource(bucket, key, &cfg)
	if err != nil {
		return nil, nameError(verb, bucket, key, err)
	}
	return d.newCall(src, cfg), nil
}

// nameError begins an error with what was to be done to which object.
func nameError(verb, bucket, key string, err error) error {
	return fmt.Errorf("ossdl: %s %s: %w", verb, objectName(bucket, key), err)
}

func (d *Downloader) bucketSource(bucket, key string, cfg *settings) (*bucketSource, error) {
	b, err := d.bucketClient(bucket, cfg)
	if err != nil {
		return nil, err
	}
	return b.object(key)
}

// bucketClient returns a client for a bucket. It rejects names that no bucket can have.
func (d *Downloader) bucketClient(name string, cfg *settings) (*bucketClient, error) {
	switch {
	case d.client == nil:
		return nil, errors.New("New was given no client")
	case oss.CheckBucketName(name) != nil:
		return nil, fmt.Errorf("bucket name %q: 3 to 63 lower-case letters, digits and hyphens are allowed", name)
	}
	return newBucketClient(d.client, name, cfg.request.withAgent(d.client.Config.UserAgent+" ossdl/"+Version))
}

// source is an engineSource that has a name.
type source interface {
	engineSource
	// identity names the object in the checkpoint, without credentials.
	identity() identity
	// String names the object in messages.
	fmt.Stringer
}

// job is what one call is to download, as far as its entry point knows.
type job struct {
	src           source
	objectOptions      // as given, or as the entry point knows better: the version in a URL, the range that a suffix is
	knownEmpty    bool // the object is said to have no bytes: do not ask for a range
	oneStream     bool // ask for neither ranges nor conditions
}

// call is one call of the library for one object: what it is to do, and what it has done so far.
type call struct {
	job
	d     *Downloader
	lane  *lane
	cfg   settings
	stats stats
	start time.Time

	verdict           // on the whole; zero until it is verified
	passing hash.Hash // of what a Reader returned; nil for other calls

	mu sync.Mutex
	t  *transfer // the current run; nil before the first
}

func (d *Downloader) newCall(src source, cfg settings) *call {
	return d.newCallIn(d.newLane(cfg.concurrency, cfg.rateLimit), src, cfg)
}

// newLane makes a lane with limits of the call's own; 0: none.
func (d *Downloader) newLane(concurrency int, bytesPerSecond int64) *lane {
	limits := d.limits
	if bytesPerSecond > 0 {
		limits = append(slices.Clip(limits), newLimiter(bytesPerSecond, bufferSize))
	}
	return d.gate.lane(concurrency, limits...)
}

// newCallIn makes one of several calls that share a lane.
func (d *Downloader) newCallIn(l *lane, src source, cfg settings) *call {
	id := src.identity()
	cfg.log = cfg.log.With("bucket", id.bucket, "key", id.key)
	return &call{job: job{src: src, objectOptions: cfg.object}, d: d, lane: l, cfg: cfg, start: time.Now()}
}

// toFile downloads to a file.
func (c *call) toFile(ctx context.Context, path string) (*Result, error) {
	progress := report(c.cfg.progress, c.look, c.stats.downloaded.Load)
	dst, err := checkDestination(c.fileConfig(path))
	if err == nil {
		path, err = dst.target(), c.into(ctx, dst)
	}
	progress.end(err)
	return c.result(ctx, path, err)
}

// fileConfig is what the options say about a file at path.
func (c *call) fileConfig(path string) destinationConfig {
	id := c.src.identity()
	cfg := destinationConfig{
		fs: c.cfg.fs, log: c.cfg.log, path: path, sparse: c.cfg.sparse, keepPartial: !c.cfg.checkpoint.none(),
		source:         fmt.Sprintf("%t\n%q\n%q", id.url, id.bucket, id.key),
		isCheckpointOf: isCheckpointOf,
	}
	switch c.cfg.checkpoint.kind {
	case placeFile:
		cfg.checkpoint = c.cfg.checkpoint.path
	case placeFolder:
		cfg.checkpointDir = c.cfg.checkpoint.path
	}
	return cfg
}

// into is the story of a download to a file. Each step either takes effect completely or leaves what was there before.
func (c *call) into(ctx context.Context, dst *destination) error {
	unlock, err := dst.lock()
	if err != nil {
		return err
	}
	defer unlock()
	cp, err := c.loadCheckpoint(dst) // after the lock: until then another call may be writing it
	if err != nil {
		return err
	}
	err = c.attempt(ctx, dst, cp)
	if cp == nil || !startsOver(err) {
		return err
	}
	c.cfg.log.Warn("ignoring checkpoint; starting over", "reason", err)
	c.stats.resumed.Store(0)
	return c.attempt(ctx, dst, nil)
}

// attempt fetches, verifies and commits once, from nothing or from the checkpoint cp. After an error the destination holds
// what the next call continues with.
func (c *call) attempt(ctx context.Context, dst *destination, cp *checkpoint) error {
	cfg, err := c.configure(dst, cp)
	if err != nil {
		dst.abandon(keepAsFound)
		return err
	}
	if !dst.hasCheckpoint() {
		cfg.set.setVolatile()
	}
	keep := newKeeper(dst, cfg.set, c.src.identity(), &c.objectOptions, c.cfg.log)
	cfg.disk, cfg.beside = dst, []func(context.Context) error{dst.reserve, keep.saves, keep.syncs}
	t := c.newTransfer(cfg)
	keep.run = t
	if err = c.fetchVerified(ctx, t); err == nil {
		err = dst.commit(t.set.totals().size, c.modTime(t))
	}
	if err != nil {
		return keep.abandon(err)
	}
	return nil
}

// modTime is the modification time for the file; zero: that of the download.
func (c *call) modTime(t *transfer) time.Time {
	if !c.cfg.objectTimes {
		return time.Time{}
	}
	f, _ := t.objectFacts()
	return f.lastModified
}

// configure says how the engine is to fetch into a sink. With a checkpoint, the sink must hold what that claims.
func (c *call) configure(to sink, earlier *checkpoint) (engineConfig, error) {
	sizes := partSizer{c.cfg.partSize}
	e := engineConfig{
		source: c.src, sink: to, gate: c.d.gate, lane: c.lane, buffers: &c.d.buffers, length: -1,
		want: wanted{etag: c.ifMatch, version: c.versionID, empty: c.knownEmpty, oneStream: c.oneStream},
		size: sizes.next, workers: sizes.workers, rangeError: c.partError,
		retry: retry(c.cfg.retry), stall: c.cfg.stall, stats: &c.stats, log: c.cfg.log,
	}
	if w := c.window; w != nil {
		e.base, e.length = w.offset, w.length
	}
	if earlier == nil {
		e.set = newSet(sizes.first(e.base, e.length))
		return e, nil
	}
	var err error
	e.set, err = earlier.set()
	e.want.earlier = earlier.facts()
	return e, err
}

// newTransfer makes the engine of a call, or of one more run of it.
func (c *call) newTransfer(e engineConfig) *transfer {
	t := newEngine(e)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = t
	return t
}

// partError names the object and the range of an error.
func (c *call) partError(s span, attempts int, err error) error {
	id := c.src.identity()
	return &PartError{Bucket: id.bucket, Key: id.key, Offset: s.off, Size: s.len(), Attempts: attempts, Err: err}
}

// maxRounds limits how often ranges that differ from their record on disk are downloaded again.
const maxRounds = 3

// fetchVerified fetches what is missing until the whole has the right checksum. After a mismatch it reads the disk. Ranges
// that differ from their record are fetched again. If none does, the network delivered wrong bytes, and everything is fetched
// once more.
func (c *call) fetchVerified(ctx context.Context, t *transfer) error {
	anew := false
	for round := 1; ; round++ {
		if err := t.run(ctx); err != nil {
			return err
		}
		v, err := c.verify(ctx, t)
		if err != nil {
			return err
		}
		if v.mismatch == nil {
			c.verdict = v
			return nil
		}
		if v.final {
			return v.mismatch
		}
		c.cfg.log.Warn("checksum mismatch", "error", v.mismatch)
		if t.disk != nil && round <= maxRounds {
			t.set.unprove()
			if err := t.prove(ctx, func(int64) {}); err != nil {
				return err
			}
			if sums := t.set.totals(); sums.done < sums.size {
				continue
			}
		}
		if anew {
			return v.mismatch
		}
		anew = true
		t.set.reset()
		c.stats.resumed.Store(0)
	}
}

// verdict says whether the bytes of a call are right.
type verdict struct {
	sum      uint64 // CRC-64 of the whole
	verified bool   // it is the service's, or the digest is the caller's
	mismatch error  // nil: nothing contradicts the bytes
	final    bool   // downloading again cannot repair the mismatch
}

// verify compares the whole with what the service and the caller say about it. The error is one of reading the bytes back.
func (c *call) verify(ctx context.Context, t *transfer) (verdict, error) {
	v := c.compareCRC(t)
	if v.mismatch != nil || c.newHash == nil {
		return v, nil
	}
	got, err := c.digest(ctx, t)
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
func (c *call) compareCRC(t *transfer) verdict {
	f, _ := t.objectFacts()
	v := verdict{sum: t.set.sum()}
	whole := t.base == 0 && t.set.totals().size == f.size
	switch {
	case !whole || !f.hasCRC:
	case v.sum == f.crc:
		v.verified = true
	case f.symlink:
		// The headers of a symbolic link's answer are the link's, except those that the protocol names. Whether the CRC-64
		// is one of them is not documented.
		c.cfg.log.Warn("CRC-64 of the answer for a symbolic link does not match its content; not verified", "got", v.sum, "want", f.crc)
	default:
		v.mismatch = &findingError{ErrChecksum, fmt.Sprintf("CRC-64 is %d, the service says %d", v.sum, f.crc), f.origin}
	}
	return v
}

// digest is the caller's hash of what was written. It reads the bytes back unless they were hashed as they passed.
func (c *call) digest(ctx context.Context, t *transfer) ([]byte, error) {
	if c.passing != nil {
		return c.passing.Sum(nil), nil
	}
	h := c.newHash()
	buf := t.buffers.get()
	defer t.buffers.put(buf)
	err := readThrough(ctx, t.disk, 0, t.set.totals().size, buf, func(b []byte) { h.Write(b) })
	return h.Sum(nil), err
}

// look returns the state for a progress report.
func (c *call) look() Progress {
	p := Progress{
		Resumed: c.stats.resumed.Load(), InFlight: int(c.stats.inFlight.Load()),
		Retries: int(c.stats.retries.Load()), Requests: int(c.stats.requests.Load()),
	}
	c.mu.Lock()
	t := c.t
	c.mu.Unlock()
	if t == nil {
		return p
	}
	if t.hasBegun() {
		sums := t.set.totals()
		p.Done, p.Total = sums.done, sums.size
	}
	return p
}

// result ends a call: the figures, and the error with the names of object and destination.
func (c *call) result(ctx context.Context, path string, err error) (*Result, error) {
	res := c.figures(path)
	if err == nil {
		return res, nil
	}
	if res != nil {
		res.CRC64, res.Verified = 0, false
	}
	return res, c.named(ctx, path, err)
}

// figures are nil where no request was made.
func (c *call) figures(path string) *Result {
	if c.stats.requests.Load() == 0 {
		return nil
	}
	id := c.src.identity()
	res := &Result{
		Path: path, Bucket: id.bucket, Key: id.key, CRC64: c.sum, Verified: c.verified,
		ResumedBytes: c.stats.resumed.Load(), DownloadedBytes: c.stats.downloaded.Load(),
		Requests: int(c.stats.requests.Load()), Retries: int(c.stats.retries.Load()), Duration: time.Since(c.start),
	}
	if f, fixed := c.t.objectFacts(); fixed {
		res.VersionID, res.ETag, res.LastModified = f.versionID, f.etag, f.lastModified
		res.Header = objectHeader(c.t.firstHeader(), f.size)
	}
	if c.t.hasBegun() {
		res.Size = c.t.set.totals().size
	}
	return res
}

// named adds the names of object and destination to an error.
func (c *call) named(ctx context.Context, path string, err error) error {
	// The cause that the caller gave its context is reported together with the error that errors.Is looks for.
	if ctxErr := ctx.Err(); ctxErr != nil && !errors.Is(err, ctxErr) && errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("%w: %w", ctxErr, err)
	}
	if path != "" {
		path = " to " + path
	}
	return fmt.Errorf("ossdl: download %s%s: %w", c.src, path, err)
}
