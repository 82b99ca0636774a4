package osstest

import (
	"io"
	"time"

	fake "github.com/ossdl/ossdl/internal/osstest"
)

// BucketOption is a property of a bucket.
type BucketOption struct{ opt fake.BucketOption }

// PublicRead lets requests without a signature read objects.
func PublicRead() BucketOption { return BucketOption{fake.PublicRead()} }

// Versioned keeps the old versions of objects.
func Versioned() BucketOption { return BucketOption{fake.Versioning(fake.Enabled)} }

// VersioningSuspended keeps the old versions that there are. A new version has the ID null, and replaces the one that had it.
func VersioningSuspended() BucketOption { return BucketOption{fake.Versioning(fake.Suspended)} }

// ArchiveDirectRead lets objects of storage class Archive be read without a restore. It does not concern ColdArchive and
// DeepColdArchive.
func ArchiveDirectRead() BucketOption { return BucketOption{fake.ArchiveDirectRead(true)} }

// Forbidden makes the bucket belong to someone else. Requests are answered with AccessDenied.
func Forbidden() BucketOption { return BucketOption{fake.NotYours()} }

// CreateBucket creates a bucket. If it exists, the options are added to those it has.
func (s *Server) CreateBucket(name string, opts ...BucketOption) {
	var all []fake.BucketOption
	for _, o := range opts {
		all = append(all, o.opt)
	}
	s.fake.CreateBucket(name, all...)
}

// Content is the data of an object. Its methods are safe for concurrent use and return the same each time.
type Content interface {
	io.ReaderAt
	Size() int64
	CRC64() uint64 // the CRC-64 that OSS uses, ECMA-182, of all bytes
}

// Bytes returns b as a Content. The caller must not change b afterwards.
func Bytes(b []byte) Content { return fake.Bytes(b) }

// Random returns size pseudo-random bytes, which are the same for the same seed. It holds at most 1 MiB of memory,
// whatever the size.
func Random(seed uint64, size int64) Content { return fake.Random(seed, size) }

// Zeros returns size zero bytes. It holds no memory, whatever the size.
func Zeros(size int64) Content { return fake.Zeros(size) }

// Object is an object as the server stores it.
type Object struct {
	Key          string
	VersionID    string // empty in a bucket that is not versioned
	ETag         string // with its quotes
	LastModified time.Time
	Content      Content
}

func newObject(o *fake.Object) *Object {
	if o == nil {
		return nil
	}
	return &Object{o.Key, o.VersionID, o.ETag, o.LastModified, o.Content}
}

// Size returns the length of the content in bytes.
func (o *Object) Size() int64 { return o.Content.Size() }

// CRC64 returns the CRC-64 of the content.
func (o *Object) CRC64() uint64 { return o.Content.CRC64() }

// ObjectOption is a property of an object.
type ObjectOption struct{ opt fake.ObjectOption }

// Header adds a header field to all answers that describe the object, such as Content-Type or x-oss-meta-owner. To change
// a header in one answer only, use [Fault.Header].
func Header(name, value string) ObjectOption { return ObjectOption{fake.Header(name, value)} }

// ETag sets the ETag, which includes its quotes. By default it is the MD5 of the content, as OSS has it for objects that
// were uploaded in one request. For [Random] and [Zeros] it is some other unique value.
func ETag(etag string) ObjectOption { return ObjectOption{fake.ETag(etag)} }

// LastModified sets the time of the object, to the second. By default it is the time of the call.
func LastModified(t time.Time) ObjectOption { return ObjectOption{fake.LastModified(t)} }

// NoCRC leaves out x-oss-hash-crc64ecma, which OSS does not have for some old or copied objects.
func NoCRC() ObjectOption { return ObjectOption{fake.NoCRC()} }

// Archived puts the object into storage class Archive. It is frozen: see [StorageClass].
func Archived() ObjectOption { return StorageClass("Archive") }

// StorageClass sets the storage class: Standard (the default), IA, Archive, ColdArchive or DeepColdArchive. An object of the
// last three is frozen. It can be read once a restore has ended that a client has asked for, or after [Server.Restore].
func StorageClass(class string) ObjectOption { return ObjectOption{fake.StorageClass(class)} }

// Put stores an object, in place of the one that has the key. In a versioned bucket it becomes the current version.
func (s *Server) Put(bucket, key string, c Content, opts ...ObjectOption) *Object {
	var all []fake.ObjectOption
	for _, o := range opts {
		all = append(all, o.opt)
	}
	return newObject(s.fake.Put(bucket, key, c, all...))
}

// Stat returns the object, in its current version, or nil if there is none.
func (s *Server) Stat(bucket, key string) *Object { return newObject(s.fake.Stat(bucket, key)) }

// Delete deletes the object. In a versioned bucket it adds a delete marker instead and returns its version.
func (s *Server) Delete(bucket, key string) (marker string) { return s.fake.Delete(bucket, key) }

// DeleteVersion deletes one version, which may be a delete marker. It does nothing if there is no such version.
func (s *Server) DeleteVersion(bucket, key, version string) {
	s.fake.DeleteVersion(bucket, key, version)
}

// Append appends to the object, which becomes an Appendable one if it was not. It panics if there is no such object.
func (s *Server) Append(bucket, key string, more []byte) *Object {
	return newObject(s.fake.Append(bucket, key, more))
}

// Restores returns how many restores of the object clients have begun, which is what OSS charges for.
func (s *Server) Restores(bucket, key string) int { return s.fake.Restores(bucket, key) }

// Restore makes a frozen object readable until expires, whether or not a client has asked for that. It panics if there is no
// such object.
func (s *Server) Restore(bucket, key string, expires time.Time) {
	s.fake.Restore(bucket, key, expires)
}
