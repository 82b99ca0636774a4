package object

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/span"
)

// Answer is a success that fits its request.
type Answer struct {
	Facts
	span.Span             // the bytes that the body holds, in the object
	Partial   bool        // a 206
	Header    http.Header // as received
	Body      io.ReadCloser
	From      Peer // nil: not known, or the only address of the host
}

// Peer is one of several addresses of a host. Two of the same address are equal.
type Peer interface {
	// Avoid makes later requests go to other addresses. It does nothing, and returns false, if none is left.
	Avoid() bool
	// Trust ends what Avoid has begun.
	Trust()
}

// Facts are what an answer says about the object.
type Facts struct {
	Size         int64
	ETag         string // as received, with its quotes; "": there was none
	VersionID    string // "": there was none
	CRC          uint64 // CRC-64 of the whole object, if HasCRC
	HasCRC       bool
	LastModified time.Time
	Symlink      bool // the headers may be those of the link and not of its target
	Origin
}

// Origin identifies the answer that something was learned from.
type Origin struct {
	status    int
	RequestID string // "": there was none
}

// suffix returns what error messages add about the answer.
func (o Origin) suffix() string {
	if o.RequestID == "" {
		return ""
	}
	return ", request ID " + o.RequestID
}

// service returns the SDK's error with the request ID, for errors.As. It is nil if there was no request ID.
func (o Origin) service() error {
	if o.RequestID == "" {
		return nil
	}
	return oss.ServiceError{StatusCode: o.status, RequestID: o.RequestID}
}

// Strong reports whether the ETag identifies bytes, so that it may be sent as If-Match. OSS calls the ETag of a folder object
// of a hierarchical bucket "null".
func (f Facts) Strong() bool {
	return len(f.ETag) > 2 && f.ETag[0] == '"' && f.ETag[len(f.ETag)-1] == '"' && f.ETag != `"null"`
}

// nameless reports whether nothing identifies the object. OSS sends ETag, CRC-64 and Last-Modified. If it omits one of the
// first two, the time is still there.
func (f Facts) nameless() bool { return f.ETag == "" && !f.HasCRC && f.LastModified.IsZero() }

// Differs says how the object of another answer differs from this one. It returns "" if both may be the same object.
func (f Facts) Differs(g Facts) string {
	switch {
	case f.Size != g.Size:
		return fmt.Sprintf("size %d, was %d", g.Size, f.Size)
	case f.ETag != g.ETag:
		return fmt.Sprintf("ETag %s, was %s", OrNone(g.ETag), OrNone(f.ETag))
	case f.VersionID != "" && g.VersionID != "" && f.VersionID != g.VersionID && !f.Strong():
		return fmt.Sprintf("version %s, was %s", g.VersionID, f.VersionID)
	case f.HasCRC && g.HasCRC && f.CRC != g.CRC:
		return fmt.Sprintf("CRC-64 %d, was %d", g.CRC, f.CRC)
	case !f.Strong() && !f.LastModified.Equal(g.LastModified):
		return fmt.Sprintf("Last-Modified %v, was %v", g.LastModified, f.LastModified)
	}
	return ""
}

// SameETag reports whether the ETag that a caller gave is the one that the service sent. OSS writes upper-case hex in quotes;
// callers may not.
func SameETag(a, b string) bool {
	return strings.EqualFold(strings.Trim(a, `"`), strings.Trim(b, `"`))
}

// OrNone returns s for a message, or "none" if it is empty.
func OrNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Read makes an Answer, without a body, from status and headers of an answer to r. It returns a [*MismatchError] if a server
// of kind k does not answer like that, or if the answer does not fit r. A 200 fits a range that starts at 0, and its body is
// the whole object.
func Read(r Request, status int, h http.Header, k Kind) (*Answer, error) {
	a := &Answer{Facts: readFacts(h), Header: h}
	a.status = status
	length, hasLength := contentLength(h)
	// A stored Content-Encoding is metadata of the object and comes with ETag and length. A body that was compressed on the
	// way lacks one of them, and its bytes are not those of the object.
	if enc := h.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") && (a.ETag == "" || !hasLength) {
		return nil, Mismatch(r, a.Origin, "a body compressed on the way (Content-Encoding %q)", enc)
	}
	if k == OSS && (a.RequestID == "" || a.nameless()) {
		return nil, Mismatch(r, a.Origin, "%d with request ID %s, ETag %s (%s): not an object of OSS", status, OrNone(a.RequestID), OrNone(a.ETag), OrNone(h.Get("Content-Type")))
	}
	var err error
	switch {
	case status == http.StatusPartialContent && !r.Whole:
		err = a.readPartial(r, length, hasLength)
	case status == http.StatusOK:
		err = a.readWhole(r, length, hasLength)
	default:
		err = Mismatch(r, a.Origin, "status %d", status)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// readPartial reads a 206, which must hold what was asked for as far as the object has it.
func (a *Answer) readPartial(r Request, length int64, hasLength bool) error {
	field := strings.Join(a.Header.Values("Content-Range"), ", ") // two such headers are as useless as two ranges in one
	got, total, ok := parseContentRange(field)
	switch {
	case !ok:
		return Mismatch(r, a.Origin, "206 with Content-Range %q", field)
	case got != span.Span{Off: r.Off, End: min(r.End, total)}:
		return Mismatch(r, a.Origin, "206 with bytes %d-%d of %d", got.Off, got.End-1, total)
	case hasLength && length != got.Len():
		return Mismatch(r, a.Origin, "206 with bytes %d-%d and a Content-Length of %d", got.Off, got.End-1, length)
	}
	a.Span, a.Size, a.Partial = got, total, true
	return nil
}

// readWhole reads a 200. Without a length, a body that breaks off would seem complete.
func (a *Answer) readWhole(r Request, length int64, hasLength bool) error {
	contentRange := a.Header.Get("Content-Range")
	switch {
	case !hasLength:
		return Mismatch(r, a.Origin, "200 without Content-Length")
	case contentRange != "":
		return Mismatch(r, a.Origin, "200 with Content-Range %q", contentRange)
	case r.Off != 0:
		return wholeInstead(r, a.Origin, length)
	}
	a.Span, a.Size = span.Span{Off: 0, End: length}, length
	return nil
}

// ReadHead reads what the answer to a HEAD says of the object.
func ReadHead(h http.Header) (Facts, error) {
	f := readFacts(h)
	var ok bool
	if f.Size, ok = contentLength(h); !ok {
		return Facts{}, errors.New("answer to HEAD without Content-Length")
	}
	return f, nil
}

// readFacts reads all facts but the size, which depends on the kind of answer.
func readFacts(h http.Header) Facts {
	f := Facts{
		ETag:      h.Get("Etag"),
		VersionID: h.Get("X-Oss-Version-Id"), // spelled as net/http does: other spellings cost an allocation each
		Symlink:   strings.EqualFold(h.Get("X-Oss-Object-Type"), "Symlink"),
		Origin:    Origin{RequestID: h.Get("X-Oss-Request-Id")},
	}
	if v, err := strconv.ParseUint(h.Get("X-Oss-Hash-Crc64ecma"), 10, 64); err == nil {
		f.CRC, f.HasCRC = v, true
	}
	if t, err := http.ParseTime(h.Get("Last-Modified")); err == nil {
		f.LastModified = t
	}
	return f
}

func contentLength(h http.Header) (int64, bool) {
	v := h.Get("Content-Length")
	n, err := strconv.ParseInt(v, 10, 64)
	return n, err == nil && n >= 0 && v[0] != '+'
}

// parseContentRange parses "bytes a-b/total". It rejects a field that does not give all three numbers, or gives numbers that
// contradict each other.
func parseContentRange(v string) (got span.Span, total int64, ok bool) {
	rest, ok := strings.CutPrefix(v, "bytes ")
	if !ok {
		return span.Span{}, 0, false
	}
	ends, size, ok := strings.Cut(rest, "/")
	if !ok {
		return span.Span{}, 0, false
	}
	first, last, ok := strings.Cut(ends, "-")
	if !ok {
		return span.Span{}, 0, false
	}
	var n [3]int64
	for i, s := range []string{first, last, size} {
		if s == "" || strings.Trim(s, "0123456789") != "" {
			return span.Span{}, 0, false
		}
		var err error
		if n[i], err = strconv.ParseInt(s, 10, 64); err != nil {
			return span.Span{}, 0, false
		}
	}
	if n[0] > n[1] || n[1] >= n[2] {
		return span.Span{}, 0, false
	}
	return span.Span{Off: n[0], End: n[1] + 1}, n[2], true
}
