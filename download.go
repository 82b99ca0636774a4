// Package ossdl downloads objects of Alibaba Cloud OSS: in parallel ranges, resuming what was interrupted, and proving
// that the result is right.
//
// Download works as follows.
//
//  1. The destination is checked and locked, and the checkpoint of an earlier run loaded.
//  2. The first request asks for the first missing range. Its answer pins the object: size, ETag, version, CRC-64. Every
//     later request names the ETag, and every answer is held against the pin.
//  3. Workers fetch what is missing, each a range at a time. A request that fails or stalls goes on at the byte it reached
//     over a new connection; when no range is left, a worker takes a share of the one that would end last.
//  4. Meanwhile the checkpoint is saved, and what an earlier run left is proved: it counts only if the bytes on disk have
//     the recorded CRC-64.
//  5. The CRC-64 of the whole is compared with the service's, where it has one, and the digest with the caller's. The file
//     is synced and renamed to its path, the folder synced, the checkpoint removed.
//
// The path therefore holds no file, the old file, or the whole new one with every checksum that there is of it, whatever
// happens. A run that fails leaves PATH.part and its checkpoint PATH.cp, and the same call later continues with them.
//
// The client that New takes is that of github.com/aliyun/aliyun-oss-go-sdk/oss, version 3.
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

// Downloader downloads objects. It is safe for concurrent use, and its concurrency and rate limit bound all its calls
// together. It needs no closing; the connections that DownloadURL keeps for later calls go after 50 s without use, or with
// CloseIdleConnections.
type Downloader struct {
	client  *oss.Client
	cfg     settings
	gate    *gate
	limits  []*rate.Limiter
	buffers buffers
	web     func() *http.Client // for URLs; made when first asked for
}

// New makes a Downloader for the buckets that client reaches, with the client's credentials; without any (an empty
// access key) its requests are unsigned. A nil client serves DownloadURL and OpenURL alone. What needs a transport
// (connections for all ranges, proxies from the environment, redirects refused) is promised for a client that was made
// with oss.HTTPClient(ossdl.HTTPClient()). An option that does not apply is an error.
func New(client *oss.Client, opts ...Option) (*Downloader, error) {
	cfg, err := defaults().with(inNew, opts)
	if err != nil {
		return nil, fmt.Errorf("ossdl: %w", err)
	}
	d := &Downloader{client: client, cfg: cfg, gate: newGate(cfg.concurrency, AdaptiveConcurrency), web: sync.OnceValue(HTTPClient)}
	if cfg.rateLimit > 0 {
		d.limits = append(d.limits, newLimiter(cfg.rateLimit, bufferSize))
	}
	// The Downloader's own bounds are kept by gate and limits; a call starts without one of its own.
	d.cfg.concurrency, d.cfg.rateLimit = 0, 0
	return d, nil
}

// Result tells what a call has done. It is not nil once a request was made, also beside an error.
type Result struct {
	Path            string // links resolved; "" where the bytes did not go to a file
	Bucket, Key     string // of a URL: host and path
	VersionID       string // as the service says: "" where the bucket has no versions
	ETag            string // as received, with its quotes
	Size            int64  // bytes of the file (of the range, if one was asked)
	CRC64           uint64 // of those bytes; 0 beside an error
	Verified        bool   // the service's CRC-64, or the caller's digest, matched
	ResumedBytes    int64  // kept from an earlier run
	DownloadedBytes int64  // body bytes read from the network, those that came twice included
	Requests        int    // made, those tried again included
	Retries         int    // of them, those that followed a failure
	Duration        time.Duration
	LastModified    time.Time // of the object, to the second
}

// Download brings the object key of bucket to the file path, whose folder must exist. A link at path is resolved first;
// a file at path is replaced, in one instant, once the new one is whole and verified, and left alone otherwise. The new one
// has its mode from the umask and the time of the download. A path that is a folder, a device or not writable is refused
// before any request; one that another call or process is writing to is ErrInUse at once.
//
// Where the service has no CRC-64 of the bytes (of some older or copied objects, of a part of an object, of some symlinks)
// the file appears all the same, and Result.Verified is false; WithChecksum verifies those, too.
//
// The call ends with ctx, promptly. After an error PATH.part and PATH.cp hold what was done, and the same call continues;
// after ErrChecksum, and with WithoutCheckpoint, nothing is left. Whatever is at PATH.cp is taken for a checkpoint, and
// replaced.
//
// Errors: ErrNotFound, ErrObjectChanged, ErrChecksum, ErrRange, ErrInUse, ErrArchived, ErrExpired, ErrNoSpace; a *PartError
// where a range could not be fetched; oss.ServiceError wherever the service answered; ctx's own.
func (d *Downloader) Download(ctx context.Context, bucket, key, path string, opts ...Option) (*Result, error) {
	cfg, err := d.cfg.with(inDownload, opts)
	if err != nil {
		return nil, fmt.Errorf("ossdl: download %s: %w", objectName(bucket, key), err)
	}
	src, err := d.bucketSource(bucket, key, &cfg)
	if err != nil {
		return nil, fmt.Errorf("ossdl: download %s: %w", objectName(bucket, key), err)
	}
	return d.newCall(src, cfg).toFile(ctx, path)
}

func (d *Downloader) bucketSource(bucket, key string, cfg *settings) (*bucketSource, error) {
	b, err := d.bucketClient(bucket, cfg)
	if err != nil {
		return nil, err
	}
	return b.object(key)
}

// bucketClient checks a name as far as it can be wrong whatever the buckets there are.
func (d *Downloader) bucketClient(bucket string, cfg *settings) (*bucketClient, error) {
	switch {
	case d.client == nil:
		return nil, errors.New("New was given no client")
	case oss.CheckBucketName(bucket) != nil:
		return nil, fmt.Errorf("bucket name %q: 3 to 63 lower-case letters, digits and hyphens are allowed", bucket)
	}
	return newBucketClient(d.client, bucket, cfg.request)
}

// call is one call of an entrance: what it was asked for, and what it has done so far.
type call struct {
	d     *Downloader
	lane  *lane
	src   source
	cfg   settings
	stats stats
	start time.Time

	sum      uint64 // CRC-64 of the whole, once it is verified as far as it can be
	verified bool
	passing  hash.Hash // of what a Reader gave out; nil elsewhere

	mu sync.Mutex
	t  *transfer // the run under way; nil before the first
}

func (d *Downloader) newCall(src source, cfg settings) *call {
	return d.newCallIn(d.newLane(cfg.concurrency, cfg.rateLimit), src, cfg)
}

// newLane makes a lane with bounds given to the call; 0: none.
func (d *Downloader) newLane(concurrency int, bytesPerSecond int64) *lane {
	limits := d.limits
	if bytesPerSecond > 0 {
		limits = append(slices.Clip(limits), newLimiter(bytesPerSecond, bufferSize))
	}
	return d.gate.lane(concurrency, limits...)
}

// newCallIn makes a call, or one of several for objects that share a lane.
func (d *Downloader) newCallIn(l *lane, src source, cfg settings) *call {
	id := src.identity()
	cfg.log = cfg.log.With("bucket", id.bucket, "key", id.key)
	return &call{d: d, lane: l, src: src, cfg: cfg, start: time.Now()}
}

// toFile downloads to a path.
func (c *call) toFile(ctx context.Context, path string) (*Result, error) {
	end := report(c.cfg.progress, c.look, c.stats.downloaded.Load)
	dst, err := checkDestination(c.fileConfig(path))
	if err == nil {
		path, err = dst.target(), c.into(ctx, dst)
	}
	end(err == nil)
	return c.result(ctx, path, err)
}

// fileConfig is what the options say about a file at path.
func (c *call) fileConfig(path string) destinationConfig {
	id := c.src.identity()
	return destinationConfig{
		fs: c.cfg.fs, log: c.cfg.log, path: path, sparse: c.cfg.sparse,
		keepPartial: !c.cfg.noCheckpoint, checkpoint: c.cfg.checkpoint, checkpointDir: c.cfg.cpDir,
		source:         fmt.Sprintf("%t\n%q\n%q", id.url, id.bucket, id.key),
		isCheckpointOf: isCheckpointOf,
	}
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
	keep := newKeeper(dst, cfg.set, c.src.identity(), &c.cfg)
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
		want: wanted{etag: c.cfg.ifMatch, version: c.cfg.versionID, empty: c.cfg.knownEmpty, oneStream: c.cfg.oneStream},
		size: sizes.next, workers: sizes.workers, rangeError: c.partError,
		retry: retry(c.cfg.retry), stall: c.cfg.stall, stats: &c.stats, log: c.cfg.log,
	}
	if w := c.cfg.window; w != nil {
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

// maxRounds bounds how often ranges that differ from their record on disk are fetched again.
const maxRounds = 3

// fetchVerified fetches what is missing until the whole has the right checksum. Where it has not, the disk is read: ranges
// that differ from their record are fetched again; if none does, what came over the network was wrong, and everything is
// fetched once more.
func (c *call) fetchVerified(ctx context.Context, t *transfer) error {
	anew := false
	for round := 1; ; round++ {
		if err := t.run(ctx); err != nil {
			return err
		}
		wrong, final, err := c.verify(ctx, t)
		if wrong == nil || err != nil {
			return err
		}
		if final {
			return wrong
		}
		c.cfg.log.Warn("checksum mismatch", "error", wrong)
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
			return wrong
		}
		anew = true
		t.set.reset()
		c.stats.resumed.Store(0)
	}
}

// verify compares the whole with what the service and the caller say of it. A wrong result is final where fetching again
// cannot mend it.
func (c *call) verify(ctx context.Context, t *transfer) (wrong error, final bool, err error) {
	f, _ := t.objectFacts()
	sum := t.set.sum()
	verified := false
	if whole := t.base == 0 && t.set.totals().size == f.size; whole && f.hasCRC {
		switch {
		case sum == f.crc:
			verified = true
		case f.symlink:
			// The headers of a symlink's answer are the link's, except those that the protocol names; whether the CRC-64
			// is one of them is not documented.
			c.cfg.log.Warn("CRC-64 of a symlink's answer is not that of its content; not verified", "got", sum, "want", f.crc)
		default:
			return &findingError{ErrChecksum, fmt.Sprintf("CRC-64 is %d, the service says %d", sum, f.crc), f.origin}, false, nil
		}
	}
	if c.cfg.newHash != nil {
		got, err := c.digest(ctx, t)
		if err != nil {
			return nil, false, err
		}
		if !bytes.Equal(got, c.cfg.want) {
			return fmt.Errorf("%w: digest is %x, want %x", ErrChecksum, got, c.cfg.want), verified, nil
		}
		verified = true
	}
	c.sum, c.verified = sum, verified
	return nil, false, nil
}

// digest is the caller's hash of what was written. It reads the bytes back unless they were hashed as they passed.
func (c *call) digest(ctx context.Context, t *transfer) ([]byte, error) {
	if c.passing != nil {
		return c.passing.Sum(nil), nil
	}
	h := c.cfg.newHash()
	buf := t.buffers.get()
	defer t.buffers.put(buf)
	err := readThrough(ctx, t.disk, 0, t.set.totals().size, buf, func(b []byte) { h.Write(b) })
	return h.Sum(nil), err
}

// look is the state for a progress report.
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
	}
	if c.t.hasBegun() {
		res.Size = c.t.set.totals().size
	}
	return res
}

// named gives an error the names of object and destination.
func (c *call) named(ctx context.Context, path string, err error) error {
	// The cause that a caller gave its context is reported beside what errors.Is looks for.
	if ctxErr := ctx.Err(); ctxErr != nil && !errors.Is(err, ctxErr) && errors.Is(err, context.Cause(ctx)) {
		err = fmt.Errorf("%w: %w", ctxErr, err)
	}
	if path != "" {
		path = " to " + path
	}
	return fmt.Errorf("ossdl: download %s%s: %w", c.src, path, err)
}
