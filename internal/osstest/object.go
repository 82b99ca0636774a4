package osstest

import (
	"crypto/md5"
	"fmt"
	"net/http"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// VersioningStatus is the state of a bucket's versioning.
type VersioningStatus string

const (
	Unversioned VersioningStatus = ""
	Enabled     VersioningStatus = "Enabled"
	Suspended   VersioningStatus = "Suspended"
)

// BucketOption is a property of a bucket.
type BucketOption func(*bucket)

// Versioning keeps old versions (Enabled), or keeps those there are and overwrites the null version (Suspended).
func Versioning(v VersioningStatus) BucketOption { return func(b *bucket) { b.versioning = v } }

// PublicRead lets requests without a signature read.
func PublicRead() BucketOption { return func(b *bucket) { b.publicRead = true } }

// RequesterPays refuses everyone but the owner who does not send x-oss-request-payer: requester.
func RequesterPays() BucketOption { return func(b *bucket) { b.requesterPays = true } }

// Elsewhere makes the bucket one of another region: requests are refused with the endpoint that would be right.
func Elsewhere(endpoint string) BucketOption { return func(b *bucket) { b.elsewhere = endpoint } }

// NotYours makes the bucket belong to someone else who has granted nothing.
func NotYours() BucketOption { return func(b *bucket) { b.notYours = true } }

type bucket struct {
	name          string
	versioning    VersioningStatus
	publicRead    bool
	requesterPays bool
	elsewhere     string
	notYours      bool
	directRead    bool // of objects of class Archive

	restores map[string]int       // how often one was begun, by key
	uploads  map[string]*upload   // by ID
	objects  map[string][]*Object // versions by key, the newest last
	keys     []string             // of objects, sorted; nil: to be made
	virtual  *virtual
}

// Object is one version of an object as it is stored. It is never changed; a change stores another.
type Object struct {
	Key          string
	VersionID    string // "" in a bucket that never had versions
	ETag         string // as it is sent, quotes included; "" sends none
	Type         string // Normal, Multipart, Appendable or Symlink
	Class        string // Standard, IA, Archive, ColdArchive or DeepColdArchive
	RestoreState string // x-oss-restore that the clock does not change; "": what was asked for by requests, or Restore
	ContentType  string
	Encoding     string // Content-Encoding the object was stored with
	LastModified time.Time
	CRC          string            // x-oss-hash-crc64ecma; "" sends none, "auto" the right one
	Target       string            // of a symbolic link
	Marker       bool              // a delete marker
	Header       map[string]string // further header fields, x-oss-meta-… among them
	Content      Content

	md5        string // base64, of content stored whole
	weak, bare bool   // W/ before the ETag that is made; none is made
	thaw       *thaw  // of an archived object; nil: frozen
	created    int64  // the order in which versions were stored
}

// Size is the object's length in bytes.
func (o *Object) Size() int64 { return o.Content.Size() }

// CRC64 is the CRC-64 of the content, whatever the header says.
func (o *Object) CRC64() uint64 { return o.Content.CRC64() }

// ObjectOption is a property of an object.
type ObjectOption func(*Object)

// NoCRC sends no x-oss-hash-crc64ecma, as for old or copied objects.
func NoCRC() ObjectOption { return CRCHeader("") }

// CRCHeader sends value as x-oss-hash-crc64ecma, be it a lie or no number.
func CRCHeader(value string) ObjectOption { return func(o *Object) { o.CRC = value } }

// Type is Normal (the default), Multipart, Appendable or Symlink. The ETag takes the form that goes with it.
func Type(t string) ObjectOption { return func(o *Object) { o.Type = t } }

// ETag is sent as it is; give it the quotes.
func ETag(etag string) ObjectOption { return func(o *Object) { o.ETag = etag } }

// NoETag sends none.
func NoETag() ObjectOption { return func(o *Object) { o.bare = true } }

// WeakETag sends W/ before the ETag.
func WeakETag() ObjectOption { return func(o *Object) { o.weak = true } }

// LastModified is the time of the object, to the second. By default it is the server's time.
func LastModified(t time.Time) ObjectOption { return func(o *Object) { o.LastModified = t } }

// ContentType is application/octet-stream by default.
func ContentType(t string) ObjectOption { return func(o *Object) { o.ContentType = t } }

// StoredEncoding is the Content-Encoding that was stored with the object. The content is sent as it is.
func StoredEncoding(e string) ObjectOption { return func(o *Object) { o.Encoding = e } }

// StorageClass is Standard by default. An object of an archive class can be read once it is restored.
func StorageClass(class string) ObjectOption { return func(o *Object) { o.Class = class } }

// Archived is storage class Archive with this x-oss-restore, whatever the clock says; "" is frozen.
func Archived(restore string) ObjectOption {
	return func(o *Object) { o.Class, o.RestoreState = "Archive", restore }
}

// Meta adds x-oss-meta-NAME.
func Meta(name, value string) ObjectOption { return Header("X-Oss-Meta-"+name, value) }

// Header adds a header field to the answers that describe the object: x-oss-server-side-encryption, for example.
func Header(name, value string) ObjectOption {
	return func(o *Object) {
		if o.Header == nil {
			o.Header = map[string]string{}
		}
		o.Header[http.CanonicalHeaderKey(name)] = value
	}
}

// CreateBucket makes a bucket, or changes the properties of the one there is; its objects stay.
func (s *Server) CreateBucket(name string, opts ...BucketOption) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[name]
	if b == nil {
		b = &bucket{name: name, objects: map[string][]*Object{}, restores: map[string]int{}, uploads: map[string]*upload{}}
		s.buckets[name] = b
	}
	for _, o := range opts {
		o(b)
	}
}

// Put stores an object. In a bucket that is missing it panics: that is a mistake of the test.
func (s *Server) Put(bucket, key string, c Content, opts ...ObjectOption) *Object {
	o := &Object{Key: key, Content: c, CRC: "auto"}
	for _, opt := range opts {
		opt(o)
	}
	s.finish(o)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustBucket(bucket).store(o, s)
	return o
}

// Symlink stores a symbolic link to another key of the bucket.
func (s *Server) Symlink(bucket, key, target string, opts ...ObjectOption) *Object {
	return s.Put(bucket, key, Bytes([]byte(target)),
		append([]ObjectOption{Type("Symlink"), func(o *Object) { o.Target = target }}, opts...)...)
}

// Delete removes the object, or puts a delete marker on top where the bucket has versions. It returns the marker's
// version, or "".
func (s *Server) Delete(bucket, key string) (marker string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.mustBucket(bucket)
	if b.versioning == Unversioned {
		b.remove(key, func(*Object) bool { return true })
		return ""
	}
	o := &Object{Key: key, Marker: true, Content: Bytes(nil), LastModified: s.now().UTC().Truncate(time.Second)}
	b.store(o, s)
	return o.VersionID
}

// DeleteVersion removes one version, which may be a delete marker.
func (s *Server) DeleteVersion(bucket, key, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustBucket(bucket).remove(key, func(o *Object) bool { return o.version() == version })
}

// Stat returns the current version of the object, or nil.
func (s *Server) Stat(bucket, key string) *Object {
	s.mu.RLock()
	defer s.mu.RUnlock()
	o := s.mustBucket(bucket).find(s, key, "")
	if o != nil && o.Marker {
		return nil
	}
	return o
}

func (s *Server) mustBucket(name string) *bucket {
	b := s.buckets[name]
	if b == nil {
		panic("osstest: no such bucket: " + name)
	}
	return b
}

// finish fills in what no option gave.
func (s *Server) finish(o *Object) {
	def := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	def(&o.Type, "Normal")
	def(&o.Class, "Standard")
	def(&o.ContentType, "application/octet-stream")
	if o.LastModified.IsZero() {
		o.LastModified = s.now()
	}
	o.LastModified = o.LastModified.UTC().Truncate(time.Second)
	if o.CRC == "auto" {
		o.CRC = strconv.FormatUint(o.Content.CRC64(), 10)
	}
	if o.ETag == "" && !o.bare {
		o.ETag = s.makeETag(o)
		if o.weak {
			o.ETag = "W/" + o.ETag
		}
	}
}

// md5Limit bounds the content whose MD5 is computed: above it, the ETag is as unique and no MD5.
const md5Limit = 32 << 20

// makeETag is the MD5 of a Normal object held in memory, and otherwise a value of its own for each content.
func (s *Server) makeETag(o *Object) string {
	var sum [md5.Size]byte
	switch c := o.Content.(type) {
	case *byteContent:
		if len(c.b) <= md5Limit {
			sum = md5.Sum(c.b)
			if o.Type == "Normal" {
				o.md5 = base64std(sum[:])
				return fmt.Sprintf("%q", fmt.Sprintf("%X", sum))
			}
		} else {
			sum = md5.Sum(fmt.Append(nil, len(c.b), c.CRC64()))
		}
	case identified:
		sum = md5.Sum([]byte(c.identity()))
	default:
		sum = md5.Sum(fmt.Append(nil, "content", s.serial.Add(1)))
	}
	if o.Type != "Normal" {
		sum = md5.Sum(append(sum[:], o.Type...))
	}
	if o.Type == "Appendable" {
		clear(sum[12:]) // in all examples of the documents
	}
	if o.Type == "Multipart" {
		return fmt.Sprintf(`"%X-%d"`, sum, max(1, min(10000, o.Size()>>20)))
	}
	return fmt.Sprintf(`"%X"`, sum)
}

// version is the ID by which the version is asked for.
func (o *Object) version() string {
	if o.VersionID == "" {
		return "null"
	}
	return o.VersionID
}

// shownVersion is the ID that the headers of an answer give.
func (s *Server) shownVersion(b *bucket, o *Object) string {
	if o.VersionID == "" && b.versioning != Unversioned && s.quirk(NullVersionHeader) {
		return "null"
	}
	return o.VersionID
}

func (b *bucket) store(o *Object, s *Server) {
	o.created = s.serial.Add(1)
	versioning := b.versioning
	if versioning == Enabled && o.Type == "Appendable" && s.quirk(AppendNullVersion) {
		versioning = Suspended
	}
	switch versioning {
	case Unversioned:
		b.remove(o.Key, func(*Object) bool { return true })
	case Suspended:
		b.remove(o.Key, func(v *Object) bool { return v.version() == "null" })
		o.VersionID = "null"
	case Enabled:
		o.VersionID = fmt.Sprintf("CAEQ%04dGIGBgID%08X", o.created, md5.Sum([]byte(o.Key)))[:28]
	}
	if len(b.objects[o.Key]) == 0 {
		b.keys = nil
	}
	b.objects[o.Key] = append(b.objects[o.Key], o)
}

// createdBy is when a version was stored, by its ID; 0 if the ID does not say.
func createdBy(id string) int64 {
	digits, _, _ := strings.Cut(strings.TrimPrefix(id, "CAEQ"), "G")
	n, _ := strconv.ParseInt(digits, 10, 64)
	return n
}

func (b *bucket) remove(key string, which func(*Object) bool) {
	// A new slice: one that was handed out must not change.
	rest := slices.DeleteFunc(slices.Clone(b.objects[key]), which)
	b.objects[key] = rest
	if len(rest) == 0 {
		delete(b.objects, key)
		b.keys = nil
	}
}

// change stores a changed copy in the place of a version.
func (b *bucket) change(key, version string, edit func(*Object)) *Object {
	versions := slices.Clone(b.objects[key])
	for i, o := range slices.Backward(versions) {
		if version == "" || o.version() == version {
			c := *o
			edit(&c)
			versions[i] = &c
			b.objects[key] = versions
			return &c
		}
	}
	panic("osstest: no such object: " + b.name + "/" + key)
}

// find returns the version asked for, or the current one for "", which may be a delete marker; nil where there is none.
func (b *bucket) find(s *Server, key, version string) *Object {
	versions := b.objects[key]
	if version == "" {
		if len(versions) > 0 {
			return versions[len(versions)-1]
		}
		return b.virtual.find(s, key)
	}
	for _, o := range versions {
		if o.version() == version {
			return o
		}
	}
	return nil
}

// sortedKeys must be called with the server's lock held for writing.
func (b *bucket) sortedKeys() []string {
	if b.keys == nil {
		b.keys = make([]string, 0, len(b.objects))
		for k := range b.objects {
			b.keys = append(b.keys, k)
		}
		sort.Strings(b.keys)
	}
	return b.keys
}

// virtual is a listing that is made up while it is read.
type virtual struct {
	n  int
	at func(i int) (key string, c Content)
}

// SetVirtual adds n objects to the bucket that are made when they are listed or read: at returns the i-th, keys in
// ascending order of their bytes. It must be safe for concurrent use. Objects put besides come on top.
func (s *Server) SetVirtual(bucket string, n int, at func(i int) (key string, c Content)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mustBucket(bucket).virtual = &virtual{n, at}
}

func (v *virtual) len() int {
	if v == nil {
		return 0
	}
	return v.n
}

func (v *virtual) key(i int) string {
	k, _ := v.at(i)
	return k
}

// search is the index of the first key at or after key.
func (v *virtual) search(key string) int {
	return sort.Search(v.len(), func(i int) bool { return v.key(i) >= key })
}

func (v *virtual) find(s *Server, key string) *Object {
	i := v.search(key)
	if i == v.len() || v.key(i) != key {
		return nil
	}
	return v.object(s, i, true)
}

// object makes the i-th object; for a listing without its CRC-64.
func (v *virtual) object(s *Server, i int, whole bool) *Object {
	key, c := v.at(i)
	o := &Object{Key: key, Content: c, LastModified: s.started}
	if whole {
		o.CRC = "auto"
	}
	if _, ok := c.(identified); !ok {
		o.ETag = fmt.Sprintf(`"%X"`, md5.Sum(fmt.Append(nil, key, c.Size()))) // the same each time
	}
	s.finish(o)
	return o
}
