package ossdl

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/ossdl/ossdl/internal/bucket"
	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/engine"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/localfile"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/span"
	"github.com/ossdl/ossdl/internal/tree"
)

// ObjectInfo describes an object: what [Downloader.Stat] and [Downloader.StatURL] find out about it, or what a listing says of it.
// What is not known is zero.
type ObjectInfo struct {
	Bucket       string       `json:"bucket"` // of a URL: the host
	Key          string       `json:"key"`    // of a URL: the path
	URL          bool         `json:"url"`    // Bucket and Key are those of a URL
	VersionID    string       `json:"versionId"`
	ETag         string       `json:"etag"`         // as received, with its quotes
	Size         int64        `json:"size"`         // bytes; -1 if a web server does not say it
	CRC64        uint64       `json:"crc64,string"` // as the service says, if HasCRC64
	HasCRC64     bool         `json:"hasCrc64"`     // never from a listing
	LastModified time.Time    `json:"lastModified,omitzero"`
	StorageClass string       `json:"storageClass"`         // Standard, IA, Archive, ColdArchive, DeepColdArchive
	ArchiveState ArchiveState `json:"archiveState"`         // "" unless it is of an archive class
	ThawedUntil  time.Time    `json:"thawedUntil,omitzero"` // when a restored object freezes again
	Encrypted    bool         `json:"encrypted"`            // by its writer
	// Header holds the object's headers, as Result.Header does. It is nil from a listing.
	Header http.Header `json:"-"`

	link bool // a symbolic link, whose time may be older than what it leads to
}

// LocalInfo says what is at the path of a download; see [ObjectInfo.Local].
type LocalInfo struct {
	Path    string    `json:"path"` // symbolic links resolved
	Exists  bool      `json:"exists"`
	Size    int64     `json:"size"` // of the file
	ModTime time.Time `json:"modTime,omitzero"`
	// Same says that the file is the object: it has its size and CRC-64, or, if the service has no CRC-64, its size and time.
	Same bool `json:"same"`
	// KeptBytes are those that an interrupted download of the same object says it has left, and that the next one need not fetch. They
	// are claims: that download verifies them, and Result.ResumedBytes counts those that hold.
	KeptBytes int64 `json:"keptBytes"`
	// Holder is the call that is writing the file now, with its process, host and start; "" if there is none.
	Holder string `json:"holder"`
}

// Stat returns what the service says about an object, without its bytes. It makes one HEAD request, repeated as those of
// downloads are. Some servers refuse HEAD; then the first byte is asked for.
//
// Its options are those of [Downloader.Download]. Those that have an effect are [WithVersionID], [WithAsOf], [WithRequestOptions],
// [WithRetry], [WithStallTimeout] and [WithLogger].
//
// The errors are those of Download: [ErrNotFound], and an oss.ServiceError wherever the service answered. An archived object is no
// error.
func (d *Downloader) Stat(ctx context.Context, bucket, key string, opts ...Option) (*ObjectInfo, error) {
	c, err := d.bucketCall(ctx, inDownload, "stat", bucket, key, opts)
	if err != nil {
		return nil, err
	}
	b, err := d.bucketClient(ctx, bucket, &c.cfg)
	if err != nil {
		return nil, nameError("stat", bucket, key, err)
	}
	var f object.Facts
	var header http.Header
	if err = withContextError(ctx, c.findVersion(ctx)); err == nil {
		err = c.inquire(ctx, "HEAD", func(ctx context.Context) (err error) {
			f, header, err = b.Head(ctx, key, c.versionID)
			return err
		})
	}
	if err == nil {
		err = c.isAsOf(f)
	}
	if err != nil {
		return nil, nameError("stat", bucket, key, err)
	}
	return infoOf(object.Identity{Bucket: bucket, Key: key}, f, header), nil
}

// StatURL returns what the server says about the object of a URL. Since a signed URL is good for GET alone, it asks for the first
// byte. If the server does not support ranges, it breaks off the answer.
//
// Its options are those of [Downloader.DownloadURL]. Those that have an effect are [WithURLRefresh], [WithHTTPClient], [WithHeader],
// [WithRetry], [WithStallTimeout] and [WithLogger]. The errors are those of DownloadURL.
func (d *Downloader) StatURL(ctx context.Context, signedURL string, opts ...Option) (*ObjectInfo, error) {
	c, err := d.urlCall(inDownloadURL, signedURL, opts)
	if err != nil {
		return nil, fmt.Errorf("ossdl: stat %w", err)
	}
	var a *object.Answer
	err = c.inquire(ctx, "first byte", func(ctx context.Context) (err error) {
		if err := c.src.Ready(ctx); err != nil {
			return err
		}
		a, err = c.firstByte(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ossdl: stat %s: %w", c.src, err)
	}
	a.Body.Close()
	return infoOf(c.src.Identity(), a.Facts, a.Header), nil
}

// firstByte asks for the first byte of an object, or for all of one that has none or is not an object of its own.
func (c *call) firstByte(ctx context.Context) (*object.Answer, error) {
	var resent atomic.Int64
	if !c.oneStream {
		a, err := c.src.Get(ctx, object.Request{Span: span.Span{Off: 0, End: 1}, Resent: &resent})
		if !errors.Is(err, object.ErrRange) { // an empty object has no first byte
			return a, err
		}
	}
	return c.src.Get(ctx, object.Request{Whole: true, Resent: &resent})
}

// inquire is ask for a call of its own.
func (c *call) inquire(ctx context.Context, what string, once func(context.Context) error) error {
	ctx, done := c.panics.During(ctx)
	defer done()
	err := c.ask(ctx, what, once)
	c.panics.Raise(err)
	return withContextError(ctx, err)
}

// List yields the objects of a bucket whose keys begin with prefix, in the order of their keys. A page of up to 1000 is asked for
// while the one before is read. The permission oss:ListObjects is needed.
//
// Its options are those of [Downloader.VerifyPrefix]. Those that have an effect are [WithInclude], [WithExclude], [WithShard],
// [WithKeyRange], [WithAsOf], [WithRequestOptions], [WithRetry], [WithStallTimeout] and [WithLogger].
//
// An error is the last that it yields, with an ObjectInfo that is zero.
func (d *Downloader) List(ctx context.Context, bucket, prefix string, opts ...Option) iter.Seq2[ObjectInfo, error] {
	return func(yield func(ObjectInfo, error) bool) {
		cfg, err := d.settings(inVerifyPrefix, opts)
		var p *prefixCall
		if err == nil {
			p, err = d.newPrefixCall(ctx, bucket, prefix, ".", cfg)
		}
		if err != nil {
			yield(ObjectInfo{}, nameError("list", bucket, prefix, err))
			return
		}
		err = p.yieldAll(ctx, yield)
		p.panics.Raise(err)
		if err != nil {
			yield(ObjectInfo{}, nameError("list", bucket, prefix, withContextError(ctx, err)))
		}
	}
}

// yieldAll yields the wanted objects below the prefix. It returns nil if the caller has had enough.
func (p *prefixCall) yieldAll(ctx context.Context, yield func(ObjectInfo, error) bool) error {
	ctx, done := p.panics.During(ctx)
	defer done()
	defer p.watchdog.Start(p.d.gate.Tick)()
	names := tree.NewNames(p.prefix, tree.Rules{Windows: runtime.GOOS == "windows"})
	for group, err := range p.listed(ctx) {
		if err != nil {
			return err
		}
		for _, o := range group {
			if !tree.Match(names.Relative(o.Key), p.cfg.include, p.cfg.exclude) || !p.cfg.shard.Has(o.Key) {
				continue
			}
			if !yield(entryInfo(p.bucket.Name(), o.Entry), nil) {
				return nil
			}
		}
	}
	return nil
}

// infoOf describes an object as an answer does.
func infoOf(id object.Identity, f object.Facts, header http.Header) *ObjectInfo {
	i := &ObjectInfo{
		Bucket: id.Bucket, Key: id.Key, URL: id.URL, VersionID: f.VersionID, ETag: f.ETag, Size: f.Size, CRC64: f.CRC, HasCRC64: f.HasCRC,
		LastModified: f.LastModified, Header: objectHeader(header, f.Size), Encrypted: object.IsEncrypted(header), link: f.Symlink,
	}
	status := object.ReadArchiveStatus(header.Get("X-Oss-Storage-Class"), header.Get("X-Oss-Restore"))
	i.StorageClass = status.Class
	i.setArchiveStatus(status)
	return i
}

// entryInfo describes an object as a listing does.
func entryInfo(bucket string, e bucket.Entry) ObjectInfo {
	i := ObjectInfo{Bucket: bucket, Key: e.Key, VersionID: e.Version, ETag: e.ETag, Size: e.Size, LastModified: e.Modified, StorageClass: e.Class, link: e.Symlink}
	i.setArchiveStatus(e.ArchiveStatus)
	return i
}

// setArchiveStatus sets the state of an object of an archive class.
func (i *ObjectInfo) setArchiveStatus(f object.ArchiveStatus) {
	if f.Archived() {
		i.ArchiveState, i.ThawedUntil = archiveState(f), f.Until
	}
}

// Local compares the object with what is at a path: the file there, and what an interrupted download to that path has left beside
// it. It changes nothing. A file of the right size is read for its CRC-64 if the service has one of the object, until ctx is
// done.
//
// A checkpoint elsewhere ([WithCheckpoint], [WithCheckpointDir]) is not looked for. A path where no download can make a file, such as a
// folder, is an error.
func (i *ObjectInfo) Local(ctx context.Context, path string) (*LocalInfo, error) {
	files := fsys.OS()
	found, err := localfile.Look(files, path, isCheckpoint)
	if err != nil {
		return nil, fmt.Errorf("ossdl: %w", err)
	}
	l := &LocalInfo{Path: found.Path, KeptBytes: i.kept(found.Left), Holder: found.Holder}
	if found.File == nil {
		return l, nil
	}
	l.Exists, l.Size, l.ModTime = true, found.File.Size(), found.File.ModTime()
	switch {
	case l.Size != i.Size:
	case !i.HasCRC64:
		l.Same = !i.link && !i.LastModified.IsZero() && l.ModTime.Sub(i.LastModified).Abs() < timeError
	default:
		crc, err := fileCRC(ctx, files, found.Path, nil)
		if err != nil {
			return l, fmt.Errorf("ossdl: %w", withContextError(ctx, err))
		}
		l.Same = crc == i.CRC64
	}
	return l, nil
}

// timeError is how far the time of a file may be from the one that it was given: file systems round it.
const timeError = 2 * time.Second

// kept returns how many bytes of the object an interrupted download says it has done. What counts is what counts for the next one:
// the checkpoint, or a recent save.
func (i *ObjectInfo) kept(left *localfile.Destination) int64 {
	if left == nil {
		return 0
	}
	id := object.Identity{URL: i.URL, Bucket: i.Bucket, Key: i.Key}
	cp, _, err := findCheckpoint(left, id, &objectOptions{})
	if err != nil || cp == nil || !i.isOf(cp) {
		return 0
	}
	return cp.claimed()
}

// isOf reports whether a checkpoint is of the object as it is now.
func (i *ObjectInfo) isOf(cp *checkpoint) bool {
	f := cp.facts()
	switch {
	case f.Size != i.Size:
		return false
	case f.ETag != "" && i.ETag != "":
		return object.SameETag(f.ETag, i.ETag)
	case f.HasCRC && i.HasCRC64:
		return f.CRC == i.CRC64
	}
	return !f.LastModified.IsZero() && f.LastModified.Equal(i.LastModified)
}

// fileCRC returns the CRC-64 of a file. Its bytes are written to also, too, unless that is nil.
func fileCRC(ctx context.Context, files fsys.FS, path string, also hash.Hash) (crc uint64, err error) {
	f, err := files.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close() // nothing was written
	buf := make([]byte, engine.BufferSize)
	for off := int64(0); ; {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		n, err := f.ReadAt(buf, off)
		crc = crc64.Update(crc, buf[:n])
		if also != nil {
			also.Write(buf[:n]) // never returns an error
		}
		off += int64(n)
		if err == io.EOF {
			return crc, nil
		}
		if err != nil {
			return 0, err
		}
	}
}
