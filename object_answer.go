package ossdl

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
)

// answer is a success that fits its request.
type answer struct {
	facts
	span                // the bytes that the body holds, in the object
	partial bool        // a 206
	header  http.Header // as received
	body    io.ReadCloser
}

// facts are what an answer says of the object. A run is pinned to those of its first answer.
type facts struct {
	size         int64
	etag         string // as received, with its quotes; "" if there was none
	versionID    string // "" if there was none
	crc          uint64
	hasCRC       bool
	lastModified time.Time
	symlink      bool // the headers may be the link's, not the target's
	origin
}

// origin identifies the answer that something was learned from.
type origin struct {
	status    int
	requestID string // "" if there was none
}

// suffix returns what error messages add about the answer.
func (o origin) suffix() string {
	if o.requestID == "" {
		return ""
	}
	return ", request ID " + o.requestID
}

// service returns the SDK's error with the request ID, for errors.As. It is nil if there was no request ID.
func (o origin) service() error {
	if o.requestID == "" {
		return nil
	}
	return oss.ServiceError{StatusCode: o.status, RequestID: o.requestID}
}

// strong reports whether the ETag identifies bytes, so that it may be sent as If-Match. OSS calls the ETag of a folder object
// of a hierarchical bucket "null".
func (f facts) strong() bool {
	return len(f.etag) > 2 && f.etag[0] == '"' && f.etag[len(f.etag)-1] == '"' && f.etag != `"null"`
}

// nameless reports whether nothing identifies the object. OSS sends ETag, CRC-64 and time; if it omits one of the first two,
// the time is still there.
func (f facts) nameless() bool { return f.etag == "" && !f.hasCRC && f.lastModified.IsZero() }

// differs says how the object of another answer is not this one. It returns "" if both may be the same object.
func (f facts) differs(g facts) string {
	switch {
	case f.size != g.size:
		return fmt.Sprintf("size %d, was %d", g.size, f.size)
	case f.etag != g.etag:
		return fmt.Sprintf("ETag %s, was %s", orNone(g.etag), orNone(f.etag))
	case f.versionID != "" && g.versionID != "" && f.versionID != g.versionID && !f.strong():
		return fmt.Sprintf("version %s, was %s", g.versionID, f.versionID)
	case f.hasCRC && g.hasCRC && f.crc != g.crc:
		return fmt.Sprintf("CRC-64 %d, was %d", g.crc, f.crc)
	case !f.strong() && !f.lastModified.Equal(g.lastModified):
		return fmt.Sprintf("Last-Modified %v, was %v", g.lastModified, f.lastModified)
	}
	return ""
}

// sameETag compares the ETag that a caller gave with the one that the service sent. OSS writes upper-case hex in quotes;
// callers may not.
func sameETag(a, b string) bool {
	return strings.EqualFold(strings.Trim(a, `"`), strings.Trim(b, `"`))
}

// orNone returns s for a message, or "none" if it is empty.
func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// readAnswer judges status and headers of an answer to r that came from a server of kind k. A 200 is accepted if the range
// starts at 0, and then its body is the whole object. For any other range it is refused.
func readAnswer(r request, status int, h http.Header, k kind) (*answer, error) {
	a := &answer{facts: readFacts(h), header: h}
	a.status = status
	length, hasLength := contentLength(h)
	// A stored Content-Encoding is metadata of the object and comes with ETag and length. A body that was compressed on the
	// way lacks one of them, and its bytes are not the object's.
	if enc := h.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") && (a.etag == "" || !hasLength) {
		return nil, mismatch(r, a.origin, "a body compressed on the way (Content-Encoding %q)", enc)
	}
	if k == kindOSS && (a.requestID == "" || a.nameless()) {
		return nil, mismatch(r, a.origin, "%d with request ID %s, ETag %s (%s): not an object of OSS", status, orNone(a.requestID), orNone(a.etag), orNone(h.Get("Content-Type")))
	}
	var err error
	switch {
	case status == http.StatusPartialContent && !r.whole:
		err = a.readPartial(r, length, hasLength)
	case status == http.StatusOK:
		err = a.readWhole(r, length, hasLength)
	default:
		err = mismatch(r, a.origin, "status %d", status)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// readPartial takes a 206, which must hold what was asked for as far as the object has it.
func (a *answer) readPartial(r request, length int64, hasLength bool) error {
	field := strings.Join(a.header.Values("Content-Range"), ", ") // two such headers are as useless as two ranges in one
	got, total, ok := parseContentRange(field)
	switch {
	case !ok:
		return mismatch(r, a.origin, "206 with Content-Range %q", field)
	case got != span{r.off, min(r.end, total)}:
		return mismatch(r, a.origin, "206 with bytes %d-%d of %d", got.off, got.end-1, total)
	case hasLength && length != got.len():
		return mismatch(r, a.origin, "206 with bytes %d-%d and a Content-Length of %d", got.off, got.end-1, length)
	}
	a.span, a.size, a.partial = got, total, true
	return nil
}

// readWhole takes a 200. Without a length nothing could tell whether its body is complete.
func (a *answer) readWhole(r request, length int64, hasLength bool) error {
	contentRange := a.header.Get("Content-Range")
	switch {
	case !hasLength:
		return mismatch(r, a.origin, "200 without Content-Length")
	case contentRange != "":
		return mismatch(r, a.origin, "200 with Content-Range %q", contentRange)
	case r.off != 0:
		return oversized(r, a.origin, length)
	}
	a.span, a.size = span{0, length}, length
	return nil
}

// readHead reads what the answer to a HEAD says of the object.
func readHead(h http.Header) (facts, error) {
	f := readFacts(h)
	var ok bool
	if f.size, ok = contentLength(h); !ok {
		return facts{}, errors.New("answer to HEAD without Content-Length")
	}
	return f, nil
}

// readFacts reads all facts but the size, which depends on the kind of answer.
func readFacts(h http.Header) facts {
	f := facts{
		etag:      h.Get("Etag"),
		versionID: h.Get("X-Oss-Version-Id"), // spelled as net/http does: other spellings cost an allocation each
		symlink:   strings.EqualFold(h.Get("X-Oss-Object-Type"), "Symlink"),
		origin:    origin{requestID: h.Get("X-Oss-Request-Id")},
	}
	if v, err := strconv.ParseUint(h.Get("X-Oss-Hash-Crc64ecma"), 10, 64); err == nil {
		f.crc, f.hasCRC = v, true
	}
	if t, err := http.ParseTime(h.Get("Last-Modified")); err == nil {
		f.lastModified = t
	}
	return f
}

func contentLength(h http.Header) (int64, bool) {
	v := h.Get("Content-Length")
	n, err := strconv.ParseInt(v, 10, 64)
	return n, err == nil && n >= 0 && v[0] != '+'
}

// parseContentRange reads "bytes a-b/total". It refuses a field that does not give all three numbers, or gives numbers that
// contradict each other.
func parseContentRange(v string) (got span, total int64, ok bool) {
	rest, ok := strings.CutPrefix(v, "bytes ")
	if !ok {
		return span{}, 0, false
	}
	ends, size, ok := strings.Cut(rest, "/")
	if !ok {
		return span{}, 0, false
	}
	first, last, ok := strings.Cut(ends, "-")
	if !ok {
		return span{}, 0, false
	}
	var n [3]int64
	for i, s := range []string{first, last, size} {
		if s == "" || strings.Trim(s, "0123456789") != "" {
			return span{}, 0, false
		}
		var err error
		if n[i], err = strconv.ParseInt(s, 10, 64); err != nil {
			return span{}, 0, false
		}
	}
	if n[0] > n[1] || n[1] >= n[2] {
		return span{}, 0, false
	}
	return span{n[0], n[1] + 1}, n[2], true
}
