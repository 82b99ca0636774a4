package ossdl

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/ossdl/ossdl/internal/bucket"
	"github.com/ossdl/ossdl/internal/object"
)

// Object is an object for [Downloader.DownloadObjects]. Only Key is needed; a field that is zero is not known. What is known
// saves requests for files that are there already, and must be true of the object when it is downloaded.
type Object struct {
	Key string
	// VersionID is the version to download, instead of the current one. It needs the permission oss:GetObjectVersion.
	VersionID string
	// Name is the name of the file, relative to the folder and with slashes; "" means the key. One that ends in a slash is that
	// of a folder.
	Name string
	// Size is in bytes. An object of another size is [ErrObjectChanged]. 0 means that the size is not known, even if the object
	// is empty.
	Size int64
	// CRC64 is the CRC-64 (ECMA-182) of the object, as the service has it; of an encrypted object, that of the ciphertext. Other bytes are [ErrChecksum], whether or not the
	// service has a CRC-64 to compare with. 0 means that it is not known; it is also the CRC-64 of an empty object.
	CRC64 uint64
	// ETag is as the service writes it; the quotes may be omitted. An object with another ETag is [ErrObjectChanged].
	ETag string
	// LastModified is compared with the time of a file that is there already. The file gets the time that the service says.
	LastModified time.Time
}

// DownloadObjects downloads the objects of a list to files below the folder dir. The list may come from an inventory, a
// database or a file.
//
// Everything is as with [Downloader.DownloadPrefix], which does the same with a listing: names, progress, options, resuming, errors
// and the result, with the differences below. The permission oss:GetObject is needed, oss:ListObjects is not.
//
// # The list
//
// The list is read as objects are downloaded, some tens ahead of them. It is read in one goroutine, which need not be that of
// the caller, and no longer once the call has returned. If it yields an error, the call ends once the objects before it are
// done, and returns that error. So does a panic, which is raised again in the caller's goroutine. An iterator that blocks holds up
// the call, even when ctx is done: it should return then.
//
// # Names of files
//
// The local name of an object is its Name, or its whole key if that is empty. Names that cannot have a file fail without a
// request, as listed under DownloadPrefix. The list may have any order:
//
//   - of two objects with one name the second fails, even if they are the same, unless it is the name of a folder
//   - of two names of which one is a file and the other a folder, or lies below it, the second fails
//
// To detect that, the call remembers some 20 to 60 bytes per object. [WithInclude] and [WithExclude] compare the local name,
// [WithShard] the key.
//
// # What is skipped
//
// A file that is there is skipped if it has the Size and the LastModified of its object. If one of them differs or is not given,
// CRC64 decides, if that is given; with [WithCompareCRC64] always. Otherwise a HEAD request is made, and the file compared with what
// the service says. A file whose size is not Size is downloaded again.
//
// # Objects that are not as the list says
//
// An object with another ETag or Size is [ErrObjectChanged], and one with another CRC64 is [ErrChecksum]. Its file is not replaced.
// The size of a symbolic link's target may not be that of the link; for those Size is not compared.
func (d *Downloader) DownloadObjects(ctx context.Context, bucket string, objects iter.Seq2[Object, error], dir string, opts ...Option) (*PrefixResult, error) {
	cfg, err := d.settings(inDownloadObjects, opts)
	if err == nil && objects == nil {
		err = errors.New("nil list of objects")
	}
	if err != nil {
		return nil, nameError("download", bucket, "", err)
	}
	p, err := d.newPrefixCall(ctx, bucket, "", dir, cfg)
	if err != nil {
		return nil, nameError("download", bucket, "", err)
	}
	p.unordered = true
	return p.download(ctx, func(ctx context.Context) iter.Seq2[[]entry, error] { return p.given(ctx, objects) })
}

// given yields the objects of the caller's list, and at the end the error that ended it early, if there is one.
func (p *prefixCall) given(ctx context.Context, objects iter.Seq2[Object, error]) iter.Seq2[[]entry, error] {
	return func(yield func([]entry, error) bool) {
		wanted := true
		err := p.panics.Guard("the list of DownloadObjects", func() {
			for o, err := range objects {
				if err != nil {
					err = fmt.Errorf("list of objects: %w", err)
				} else {
					err = context.Cause(ctx)
				}
				if wanted = yield([]entry{givenEntry(o)}, err); !wanted {
					return
				}
			}
		})
		if err != nil && wanted {
			yield(nil, err)
		}
	}
}

func givenEntry(o Object) entry {
	return entry{Entry: bucket.Entry{Key: o.Key, Size: o.Size, Modified: o.LastModified, ETag: o.ETag}, given: &o}
}

// localName returns what the name of the file is made from: the key, unless the caller has given a name.
func (e entry) localName() string {
	if e.given != nil && e.given.Name != "" {
		return e.given.Name
	}
	return e.Key
}

// hasSize reports whether the size is known.
func (e entry) hasSize() bool { return e.given == nil || e.Size > 0 }

// hasTime reports whether the time is known.
func (e entry) hasTime() bool { return e.given == nil || !e.Modified.IsZero() }

// version returns the version to ask for; "" means the current one.
func (e entry) version() string {
	if e.given == nil {
		return e.Version
	}
	return e.given.VersionID
}

// givenCRC returns the CRC-64 that the caller has given; 0: none.
func (e entry) givenCRC() uint64 {
	if e.given == nil {
		return 0
	}
	return e.given.CRC64
}

// check returns an error if no object can be as the caller says.
func (e entry) check() error {
	if e.given == nil {
		return nil
	}
	if err := bucket.CheckKey(e.Key); err != nil {
		return err
	}
	if e.Size < 0 {
		return fmt.Errorf("size %d is negative", e.Size)
	}
	if e.ETag != "" {
		_, err := strongETag(e.ETag)
		return err
	}
	return nil
}

// contradicts returns an error if an object is not the one that the caller has given.
func (e entry) contradicts(f object.Facts) error {
	if e.given == nil {
		return nil
	}
	if err := e.given.contradicts(f); err != nil {
		return err
	}
	if e.ETag != "" && f.ETag != "" && !object.SameETag(e.ETag, f.ETag) {
		return &object.FindingError{Means: ErrObjectChanged, Why: fmt.Sprintf("ETag %s, wanted %s", f.ETag, e.ETag), Origin: f.Origin}
	}
	return nil
}

// contradicts returns an error if the object has another size or CRC-64.
func (o *Object) contradicts(f object.Facts) error {
	switch {
	case o.VersionID != "" && f.VersionID != "" && f.VersionID != o.VersionID: // of a cache that drops the parameter
		return &object.FindingError{Means: ErrObjectChanged, Why: fmt.Sprintf("version %s, wanted %s", f.VersionID, o.VersionID), Origin: f.Origin}
	case f.Symlink: // size and CRC-64 may be those of the link
	case o.Size > 0 && f.Size != object.UnknownSize && f.Size != o.Size:
		return &object.FindingError{Means: ErrObjectChanged, Why: fmt.Sprintf("size %d, wanted %d", f.Size, o.Size), Origin: f.Origin}
	case o.CRC64 != 0 && f.HasCRC && f.CRC != o.CRC64:
		return &object.PermanentError{Err: &object.FindingError{
			Means: ErrChecksum, Why: fmt.Sprintf("CRC-64 is %d, wanted %d", f.CRC, o.CRC64), Origin: f.Origin,
		}}
	}
	return nil
}

// give says which object the call is for, as its caller has described it.
func (c *call) give(o *Object) error {
	if o == nil {
		return nil
	}
	c.versionID, c.wantCRC, c.check = o.VersionID, o.CRC64, o.contradicts
	if o.ETag == "" {
		return nil
	}
	var err error
	c.ifMatch, err = strongETag(o.ETag)
	return err
}
