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
	"io"
	"math"
	"net/http"
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
	buffers sync.Pool
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
	d := &Downloader{client: client, cfg: cfg, gate: newGate(cfg.concurrency), web: sync.OnceValue(func() *http.Client { return HTTPClient() })}
	d.buffers.New = func() any { b := make([]byte, bufferSize); return &b }
	if cfg.rateLimit > 0 {
		d.limits = append(d.limits, newLimiter(cfg.rateLimit))
	}
	// The Downloader's own bounds are kept by gate and limits; a call starts without one of its own.
	d.cfg.concurrency, d.cfg.rateLimit = 0, 0
	return d, nil
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

// maxKey is OSS's limit for an object name, in bytes: "must be less than 1024" (its page on error responses).
const maxKey = 1023

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

// newCallIn makes a call, or one of several for objects that share a lane.
func (d *Downloader) newCallIn(l *lane, src source, cfg settings) *call {
	id := src.identity()
	cfg.log = cfg.log.With("bucket", id.bucket, "key", id.key)
	return &call{d: d, lane: l, src: src, cfg: cfg, start: time.Now()}
}

func (c *call) toFile(ctx context.Context, path string) (*Result, error) {
	end := report(c.cfg.progress, c.look, c.stats.downloaded.Load)
	dst, err := checkDestination(path, c.src.identity(), &c.cfg)
	if err == nil {
		path, err = dst.path, c.into(ctx, dst)
	}
	end(err == nil)
	return c.result(ctx, path, err)
}

// into is the story of a download to a file. Each step either has its effect whole or leaves what was there before.
func (c *call) into(ctx context.Context, dst *destination) (err error) {
	defer func() { err = dst.noSpace(err) }()
	unlock, err := dst.lock()
	if err != nil {
		return err
	}
	defer unlock()
	earlier, err := c.earlier(dst)
	if err != nil {
		return err
	}
	if err = c.fetchInto(ctx, dst, earlier); !errors.Is(err, errStale) {
		return err
	}
	c.cfg.log.Warn("fresh start", "reason", err)
	c.stats.resumed.Store(0)
	if err := dst.forget(); err != nil {
		return err
	}
	return c.fetchInto(ctx, dst, nil)
}

// earlier is what an interrupted run left and this one can use: its checkpoint, with the partial file open.
func (c *call) earlier(dst *destination) (*checkpoint, error) {
	cp, err := readCheckpoint(dst, c.src.identity(), &c.cfg)
	if cp == nil || err != nil {
		return nil, err
	}
	ok, err := dst.adopt(cp)
	if !ok || err != nil {
		return nil, err
	}
	c.cfg.log.Info("resuming", "path", dst.path, "parts", len(cp.Parts))
	return cp, nil
}

// fetchInto brings the file to its path, from nothing or from what an earlier run left. What it leaves after an error is
// what the next call continues with.
func (c *call) fetchInto(ctx context.Context, dst *destination, earlier *checkpoint) (err error) {
	t, err := c.newTransfer(dst, earlier)
	if err != nil {
		return err
	}
	t.disk = dst
	if dst.cpPath == "" {
		t.set.setVolatile()
	}
	keep := &keeper{d: dst, t: t, cfg: &c.cfg}
	t.beside = []func(context.Context) error{t.onceReady(dst.reserve), keep.run, t.onceReady(keep.syncs)}
	defer func() {
		if err != nil {
			c.leave(dst, keep, err)
		}
	}()
	if err := c.fetchVerified(ctx, t); err != nil {
		return err
	}
	if c.cfg.objectTimes {
		f, _ := t.pin.now()
		dst.modified = f.lastModified
	}
	return dst.commit(t.set.totals().size)
}

// leave ends a destination after an error: with a checkpoint of all that was done, or with nothing.
func (c *call) leave(dst *destination, keep *keeper, err error) {
	if t := keep.t; t.hasBegun() {
		sums := t.set.totals()
		dst.left = sums.size - sums.have
	}
	if dst.syncFailed {
		keep.t.set.distrust()
		dst.dropCheckpoint() // should the next save fail too, nothing is better than its claims
	}
	switch {
	case errors.Is(err, errStale):
	case !dst.keeps, errors.Is(err, ErrChecksum), errors.Is(err, errTwin), keep.t.set.totals().have == 0:
		dst.discard()
	case dst.cpPath != "" && dst.begun:
		keep.save(true)
	}
	if err := dst.close(); err != nil {
		c.cfg.log.Warn("partial file", "error", err)
	}
}

// newTransfer makes a run of the engine into a sink, which for what an earlier run left must hold that.
func (c *call) newTransfer(to sink, earlier *checkpoint) (*transfer, error) {
	t := &transfer{
		src: c.src, sink: to, cfg: &c.cfg, log: c.cfg.log, gate: c.d.gate, lane: c.lane, buffers: &c.d.buffers,
		length: -1, stats: &c.stats, meters: map[*meter]struct{}{},
		began: make(chan struct{}), ready: make(chan struct{}),
		pin: &pin{log: c.cfg.log, wantETag: c.cfg.ifMatch, version: c.cfg.versionID, noVersion: !c.src.versions(), empty: c.cfg.knownEmpty,
			noRanges: c.cfg.oneStream, noIfMatch: c.cfg.oneStream},
	}
	if w := c.cfg.window; w != nil {
		t.base, t.length = w.offset, w.length
	}
	if earlier != nil {
		set, err := earlier.set()
		if err != nil {
			return nil, err
		}
		t.set, t.pin.earlier = set, earlier.facts()
	} else {
		t.set = newSet(t.firstSpan())
	}
	c.mu.Lock()
	c.t = t
	c.mu.Unlock()
	return t, nil
}

// firstSpan is how much the first request of a fresh start asks for: the size of the object is not known.
func (t *transfer) firstSpan() int64 {
	n := int64(firstPiece)
	if t.cfg.partSize > 0 {
		n = t.cfg.partSize
	}
	if t.length > 0 {
		n = min(n, t.length)
	}
	return min(n, math.MaxInt64-t.base)
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
	f, _ := t.pin.now()
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

// digest reads what was written, in order, through the caller's hash, unless all went through one already.
func (c *call) digest(ctx context.Context, t *transfer) ([]byte, error) {
	if c.passing != nil {
		return c.passing.Sum(nil), nil
	}
	h := c.cfg.newHash()
	buf := t.buffers.Get().(*[]byte)
	defer t.buffers.Put(buf)
	for off, size := int64(0), t.set.totals().size; off < size; {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		b := (*buf)[:min(int64(len(*buf)), size-off)]
		n, err := t.disk.ReadAt(b, off)
		h.Write(b[:n])
		off += int64(n)
		if err != nil && !(err == io.EOF && off == size) {
			return nil, err
		}
	}
	return h.Sum(nil), nil
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
	if f, fixed := c.t.pin.now(); fixed {
		res.VersionID, res.ETag, res.LastModified = f.versionID, f.etag, f.lastModified
		res.Header = objectHeader(c.t.pin.firstHeader(), f.size)
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
