package osstest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"hash/crc64"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// answer is the honest answer to a request.
func (s *Server) answer(q *query) (*reply, *apiError) {
	if e := s.authenticate(q); e != nil {
		return nil, e
	}
	if q.bucket == "" {
		return nil, fail(http.StatusNotImplemented, "NotImplemented", "Listing buckets is not imitated.", "")
	}
	s.mu.RLock()
	b := s.buckets[q.bucket]
	s.mu.RUnlock()
	if e := s.authorize(q, b); e != nil {
		return nil, e
	}
	switch {
	case q.key == "" && q.method == http.MethodGet && q.has("bucketArchiveDirectRead"):
		return s.directRead(b)
	case q.key == "" && q.method == http.MethodGet && q.has("versions"):
		return s.listVersions(q, b)
	case q.key == "" && q.method == http.MethodGet:
		return s.list(q, b)
	case q.key == "":
		return nil, fail(http.StatusNotImplemented, "NotImplemented", "This bucket request is not imitated.", "")
	case len(q.key) > 1023:
		return nil, fail(http.StatusBadRequest, "InvalidObjectName", "The length of object name must be less than 1024.", "0016-00000002",
			[2]string{"ObjectName", q.key})
	}
	switch q.method {
	case http.MethodGet, http.MethodHead:
		return s.get(q, b)
	case http.MethodPut:
		return s.put(q, b)
	case http.MethodDelete:
		return s.delete(q, b)
	case http.MethodPost:
		return s.post(q, b)
	}
	return nil, fail(http.StatusMethodNotAllowed, "MethodNotAllowed", "The specified method is not allowed against this resource.", "0016-00000001",
		[2]string{"Method", q.method}, [2]string{"ResourceType", "Object"})
}

// get answers GET and HEAD of an object.
func (s *Server) get(q *query, b *bucket) (*reply, *apiError) {
	if e := onlyParameters(q, "versionId", "objectMeta", "x-oss-process", "response-content-type", "response-content-language",
		"response-expires", "response-cache-control", "response-content-disposition", "response-content-encoding"); e != nil {
		return nil, e
	}
	f, e := s.lookup(q, b)
	if e != nil {
		return nil, e
	}
	o := f.object
	objectMeta := q.method == http.MethodHead && q.has("objectMeta")
	if q.method == http.MethodGet && f.unreadable {
		return nil, fail(http.StatusForbidden, "InvalidObjectState", "The operation is not valid for the object's state", "0016-00000404",
			[2]string{"ObjectName", q.key})
	}
	rate, e := trafficLimit(q)
	if e != nil {
		return nil, e
	}

	r := newReply(http.StatusOK)
	r.rate = rate
	s.describe(r, f, objectMeta)
	if e := s.conditions(q, o, r); e != nil {
		return nil, e
	}
	if q.user != nil {
		for _, name := range []string{"Content-Type", "Content-Language", "Expires", "Cache-Control", "Content-Disposition", "Content-Encoding"} {
			if v := q.get("response-" + strings.ToLower(name)); v != "" {
				r.header.Set(name, v)
			}
		}
	} else {
		for _, p := range q.values {
			if strings.HasPrefix(p.key, "response-") {
				return nil, fail(http.StatusBadRequest, "InvalidRequest", "Can't override response header in anonymous request.", "0016-00000203")
			}
		}
	}

	if spec := q.get("x-oss-process"); spec != "" && q.method == http.MethodGet {
		out := Processed(o.Content, spec)
		r.header.Del("Content-Md5")
		r.setBody(out, 0, out.Size()) // whatever range was asked for
		return r, nil
	}
	size := o.Size()
	r.setBody(o.Content, 0, size)
	if objectMeta {
		return r, nil
	}
	spec := q.req.Header.Get("Range")
	if spec != "" && !s.quirk(NoRanges) && (q.method == http.MethodGet || s.quirk(RangeOnHead)) {
		standard := q.req.Header.Get("X-Oss-Range-Behavior") == "standard" && !s.quirk(IgnoreRangeBehavior)
		start, end, verdict := resolveRange(spec, size, standard)
		switch {
		case verdict == rangePart:
			r.status = http.StatusPartialContent
			r.header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end-1, size))
			r.header.Del("Content-Md5")
			r.setBody(o.Content, start, end-start)
			return r, nil
		case verdict == rangeOutside:
			e := fail(http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The requested range cannot be satisfied", "0016-00000206",
				[2]string{"ActualObjectSize", strconv.FormatInt(size, 10)}, [2]string{"RangeRequested", spec})
			if s.quirk(ContentRangeOn416) {
				e.header = append(e.header, [2]string{"Content-Range", fmt.Sprintf("bytes */%d", size)})
			}
			return nil, e
		case s.quirk(RangeOutside206):
			r.status = http.StatusPartialContent
		}
	}
	if zips(q, o) {
		r.gzip()
	}
	return r, nil
}

// Processed is what the server makes of a content under x-oss-process: other bytes, of another length, the same each time.
// They come with the headers of the object, its ETag and CRC-64 included.
func Processed(c Content, spec string) Content {
	return Random(crc64.Checksum([]byte(spec), crc64.MakeTable(crc64.ECMA))^c.CRC64(), c.Size()/2+int64(len(spec)))
}

// found is what a GET or HEAD is about, with what depends on the bucket at that moment.
type found struct {
	object     *Object
	link       *Object // by which the object was found; mostly nil
	version    string  // as it is shown
	unreadable bool
}

// lookup finds the version asked for, and through a symbolic link its target.
func (s *Server) lookup(q *query, b *bucket) (*found, *apiError) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	o, e := s.pick(q, b)
	if e != nil {
		return nil, e
	}
	f := &found{object: o, version: s.shownVersion(b, o)}
	if o.Type != "Symlink" || q.has("objectMeta") {
		f.unreadable = s.unreadable(b, o)
		return f, nil
	}
	target := b.find(s, o.Target, "")
	switch {
	case target == nil || target.Marker:
		return nil, fail(http.StatusNotFound, "SymlinkTargetNotExist", "The symlink object target does not exist.", "0016-00000007",
			[2]string{"Key", q.key})
	case target.Type == "Symlink":
		return nil, fail(http.StatusBadRequest, "InvalidTargetType", "The symbolic's target object type is invalid.", "0016-00000008",
			[2]string{"Key", q.key})
	}
	f.object, f.link, f.unreadable = target, o, s.unreadable(b, target)
	return f, nil
}

// pick finds the version asked for; it must not be a delete marker. The server's lock must be held.
func (s *Server) pick(q *query, b *bucket) (*Object, *apiError) {
	version := q.get("versionId")
	o := b.find(s, q.key, version)
	unknown := version == "null" && b.versioning == Unversioned && s.quirk(NoNullVersion)
	if unknown || o == nil && version != "" && version != "null" && !s.quirk(UnknownVersionNoSuchKey) {
		return nil, fail(http.StatusNotFound, "NoSuchVersion", "The specified version does not exist.", "0026-00000005",
			[2]string{"Key", q.key}, [2]string{"VersionId", version})
	}
	if o == nil {
		return nil, noSuchKey(q)
	}
	if o.Marker {
		e := noSuchKey(q)
		if version != "" {
			e = fail(http.StatusMethodNotAllowed, "MethodNotAllowed", "The specified method is not allowed against this resource.", "0016-00000001",
				[2]string{"Method", q.method}, [2]string{"ResourceType", "DeleteMarker"})
			e.header = append(e.header, [2]string{"Allow", "DELETE"})
		}
		e.header = append(e.header, [2]string{"X-Oss-Delete-Marker", "true"}, [2]string{"X-Oss-Version-Id", o.version()})
		return nil, e
	}
	return o, nil
}

func noSuchKey(q *query) *apiError {
	return fail(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.", "0026-00000001", [2]string{"Key", q.key})
}

// trafficLimit reads x-oss-traffic-limit, bits a second, and returns bytes a second.
func trafficLimit(q *query) (int64, *apiError) {
	h, v := q.req.Header.Get("X-Oss-Traffic-Limit"), q.get("x-oss-traffic-limit")
	if h != "" && v != "" {
		return 0, fail(http.StatusBadRequest, "InvalidArgument", "The traffic limit is set both in header and in query.", "0004-00000501")
	}
	if h+v == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(h+v, 10, 64)
	if err != nil || n < 819200 || n > 838860800 {
		return 0, fail(http.StatusBadRequest, "InvalidArgument", "The value of x-oss-traffic-limit is invalid.", "0004-00000502",
			[2]string{"ArgumentName", "x-oss-traffic-limit"}, [2]string{"ArgumentValue", h + v})
	}
	return n / 8, nil
}

// describe sets the header fields that belong to the object. Of a symbolic link they are the link's, but for length,
// ETag, MD5 and storage class.
func (s *Server) describe(r *reply, f *found, objectMeta bool) {
	o, link := f.object, f.link
	own, modified, crc := o, o.LastModified, o.CRC
	if link != nil {
		own = link
		if link.LastModified.After(modified) {
			modified = link.LastModified
		}
		if s.quirk(LinkCRC) {
			crc = link.CRC
		}
	}
	set := func(name, value string) {
		if value != "" {
			r.header.Set(name, value)
		}
	}
	set("Etag", o.ETag)
	set("Last-Modified", httpTime(modified))
	set("X-Oss-Version-Id", f.version)
	set("X-Oss-Hash-Crc64ecma", crc)
	if objectMeta {
		return
	}
	set("Content-Type", own.ContentType)
	set("Content-Encoding", own.Encoding)
	set("Content-Md5", o.md5)
	set("X-Oss-Object-Type", own.Type)
	set("X-Oss-Storage-Class", o.Class)
	_, restore := s.archiveState(o)
	set("X-Oss-Restore", restore)
	if !s.quirk(NoRanges) {
		set("Accept-Ranges", "bytes")
	}
	if o.Type == "Appendable" {
		set("X-Oss-Next-Append-Position", strconv.FormatInt(o.Size(), 10))
	}
	for k, v := range own.Header {
		set(k, v)
	}
}

// conditions judges If-Match and its like: 412, 304, or nil.
func (s *Server) conditions(q *query, o *Object, r *reply) *apiError {
	failed := func(name string) *apiError {
		return fail(http.StatusPreconditionFailed, "PreconditionFailed",
			"At least one of the pre-conditions you specified did not hold.", "0016-00000501", [2]string{"Condition", name})
	}
	notModified := func() *apiError {
		e := fail(http.StatusNotModified, "NotModified", "", "")
		for _, name := range []string{"Etag", "Last-Modified", "X-Oss-Version-Id"} {
			if v := r.header.Get(name); v != "" {
				e.header = append(e.header, [2]string{name, v})
			}
		}
		return e
	}
	h := q.req.Header
	if match := h.Get("If-Match"); match != "" && !s.quirk(IgnoreIfMatch) {
		if s.quirk(IfMatchWithRangeUnsupported) && h.Get("Range") != "" || !listed(match, o.ETag) {
			return failed("If-Match")
		}
	}
	if t, ok := parseTime(h.Get("If-Unmodified-Since")); ok && o.LastModified.After(t) {
		return failed("If-Unmodified-Since")
	}
	if match := h.Get("If-None-Match"); match != "" && listed(match, o.ETag) {
		return notModified()
	}
	if t, ok := parseTime(h.Get("If-Modified-Since")); ok && !o.LastModified.After(t) {
		return notModified()
	}
	return nil
}

// parseTime reads a date, if there is one.
func parseTime(v string) (time.Time, bool) {
	if v == "" {
		return time.Time{}, false // by far the most frequent, and three errors to net/http
	}
	t, err := http.ParseTime(v)
	return t, err == nil
}

// listed reports whether the header names the ETag, exactly as it was sent.
func listed(header, etag string) bool {
	for one := range strings.SplitSeq(header, ",") {
		if one = strings.TrimSpace(one); one == "*" || one == etag && etag != "" {
			return true
		}
	}
	return false
}

type rangeVerdict int

const (
	rangeIgnored rangeVerdict = iota // the whole object is sent
	rangePart
	rangeOutside // 416
)

// resolveRange reads a Range header for an object of that size and returns the half-open range. Without standard, a
// range that is invalid or not wholly inside of the object is ignored; with it, ends are cut and 416 is possible.
func resolveRange(spec string, size int64, standard bool) (start, end int64, verdict rangeVerdict) {
	first, last, ok := splitRange(spec)
	if !ok {
		return 0, size, rangeIgnored
	}
	switch {
	case first < 0: // the last bytes
		if last == 0 || last > size && !standard || size == 0 {
			break
		}
		return max(size-last, 0), size, rangePart
	case first >= size:
	case last < 0:
		return first, size, rangePart
	case last < size:
		return first, last + 1, rangePart
	case standard:
		return first, size, rangePart
	}
	if standard {
		return 0, 0, rangeOutside
	}
	return 0, size, rangeIgnored
}

// splitRange reads bytes=a-b, bytes=a- (last is -1) and bytes=-n (first is -1).
func splitRange(spec string) (first, last int64, ok bool) {
	spec, ok = strings.CutPrefix(spec, "bytes=")
	if !ok {
		return 0, 0, false
	}
	a, b, ok := strings.Cut(spec, "-")
	if !ok {
		return 0, 0, false
	}
	number := func(s string) int64 {
		if s == "" {
			return -1
		}
		for _, c := range []byte(s) {
			if c < '0' || c > '9' {
				return -2
			}
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return math.MaxInt64 - 1
		}
		return min(n, math.MaxInt64-1)
	}
	first, last = number(a), number(b)
	if first == -2 || last == -2 || first == -1 && last == -1 || last >= 0 && first > last {
		return 0, 0, false
	}
	return first, last, true
}

// askedRange is the range of a header for the log.
func askedRange(spec string) (start, end int64) {
	first, last, ok := splitRange(spec)
	if !ok || first < 0 {
		return -1, -1
	}
	if last < 0 {
		return first, -1
	}
	return first, last + 1
}

var zipped = []string{
	"text/cache-manifest", "text/xml", "text/css", "text/html", "text/plain", "application/javascript",
	"application/x-javascript", "application/rss+xml", "application/json", "text/json",
}

// zipLimit bounds what is compressed, in memory.
const zipLimit = 64 << 20

// zips reports whether the service would compress the object for this request.
func zips(q *query, o *Object) bool {
	t, _, _ := strings.Cut(o.ContentType, ";")
	return strings.Contains(q.req.Header.Get("Accept-Encoding"), "gzip") && o.Encoding == "" &&
		o.Size() >= 1024 && o.Size() <= zipLimit && slices.Contains(zipped, strings.TrimSpace(t))
}

// gzip compresses the body as the service does on the fly.
func (r *reply) gzip() {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	var scratch [stampSize]byte
	for n := int64(0); n < r.n; {
		v := r.body.view(r.off+n, scratch[:])
		v = v[:min(int64(len(v)), r.n-n)]
		_, _ = z.Write(v) // a bytes.Buffer does not fail
		n += int64(len(v))
	}
	_ = z.Close()
	r.setBody(Bytes(out.Bytes()), 0, int64(out.Len()))
	r.declared = chunked
	r.header.Set("Content-Encoding", "gzip")
	r.header.Set("Vary", "Accept-Encoding")
	for _, name := range []string{"Etag", "Accept-Ranges", "Content-Length"} {
		r.header.Del(name)
	}
}

// iso is how the service writes times in XML.
func iso(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
