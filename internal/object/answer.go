package object

import (
	"errors"
	"fmt"
	"io"
	"math"
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
	span.Span             // the bytes that the body holds, in the object; the first one asked for is among them
	Partial   bool        // a 206
	NoLength  bool        // it does not say where the object ends
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
	Size          int64  // in bytes, or UnknownSize
	ETag          string // as received, with its quotes; "": there was none
	VersionID     string // "": there was none
	CRC           uint64 // CRC-64 of the whole object, if HasCRC
	HasCRC        bool
	LastModified  time.Time
	Symlink       bool  // the headers may be those of the link and not of its target
	Appendable    bool  // the object can grow
	NextAppend    int64 // where the next append begins: the length of an Appendable object; 0: it was not said
	Stored        Stored
	Envelope      string        // a name for how the writer encrypted the object, if the body is decrypted; "": it comes as it is stored
	ArchiveStatus ArchiveStatus // only of a HEAD
	Origin
}

// UnknownSize is the size of an object whose answer does not say it: its end is that of the body.
const UnknownSize = -1

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

// Nameless reports whether nothing identifies the object. OSS sends ETag, CRC-64 and Last-Modified. If it omits one of the
// first two, the time is still there.
func (f Facts) Nameless() bool { return f.ETag == "" && !f.HasCRC && f.LastModified.IsZero() }

// Differs says how the object of another answer differs from this one. It returns "" if both may be the same object. It
// compares what both answers say: a cache may send W/ before the ETag, another ETag for the same bytes, or none.
func (f Facts) Differs(g Facts) string {
	bothCRCs := f.HasCRC && g.HasCRC
	switch {
	case f.Size != g.Size && f.Size != UnknownSize && g.Size != UnknownSize:
		return fmt.Sprintf("size %d, was %d", g.Size, f.Size)
	case f.Envelope != g.Envelope: // the same ciphertext may then be of other bytes
		return fmt.Sprintf("client-side encryption %.40q, was %.40q", OrNone(g.Envelope), OrNone(f.Envelope))
	case bothCRCs && f.CRC == g.CRC && !f.Symlink && !g.Symlink: // a link's CRC-64 says nothing about its target
		return ""
	case f.ETag != "" && g.ETag != "" && !sameTag(f.ETag, g.ETag):
		return fmt.Sprintf("ETag %s, was %s", g.ETag, f.ETag)
	case bothCRCs && f.CRC != g.CRC:
		return fmt.Sprintf("CRC-64 %d, was %d", g.CRC, f.CRC)
	case f.Strong() && g.Strong():
		return ""
	case f.VersionID != "" && g.VersionID != "" && f.VersionID != g.VersionID:
		return fmt.Sprintf("version %s, was %s", g.VersionID, f.VersionID)
	case !f.LastModified.IsZero() && !g.LastModified.IsZero() && !f.LastModified.Equal(g.LastModified):
		return fmt.Sprintf("Last-Modified %v, was %v", g.LastModified, f.LastModified)
	}
	return ""
}

// DiffersFromRecord is Differs for facts that were read from a checkpoint. Someone may have altered that, so an ETag that no
// service sends, such as *, is that of another object even if the CRC-64 is the same.
func (f Facts) DiffersFromRecord(g Facts) string {
	if why := f.Differs(g); why != "" || f.ETag == "" || g.ETag == "" || isQuoted(f.ETag) || sameTag(f.ETag, g.ETag) {
		return why
	}
	return fmt.Sprintf("ETag %s, was %s", g.ETag, f.ETag)
}

// GrownTo reports whether another answer may be of this object after something was appended to it. The target of a link may
// have been replaced: the CRC-64 of a link, which need not be that of its target, would not show that.
func (f Facts) GrownTo(g Facts) bool {
	return g.Appendable && !f.Symlink && !g.Symlink && f.Envelope == g.Envelope && f.Size != UnknownSize && f.Size < g.Size
}

// Before returns what is known of this object if g is of the same one, after something was appended to it.
func (f Facts) Before(g Facts) Facts {
	f.Appendable, f.VersionID, f.Stored, f.Origin = true, g.VersionID, g.Stored, g.Origin
	return f
}

// Torn reports whether an answer says two things about the length of an Appendable object: what is appended came in between, or a
// cache has mixed two answers. Its CRC-64 may not be of the bytes that it announces.
func (f Facts) Torn() bool {
	return f.NextAppend != 0 && !f.Symlink && f.Size != UnknownSize && f.NextAppend != f.Size
}

// SameButSize reports whether an answer has ETag and time of this object and another size. Something on the way has replaced
// the bytes: a style that is applied to images, or a filter that sends nothing.
func (f Facts) SameButSize(g Facts) bool {
	return f.Size != g.Size && g.Size != UnknownSize && f.ETag != "" && sameTag(f.ETag, g.ETag) && !f.LastModified.IsZero() &&
		f.LastModified.Truncate(time.Second).Equal(g.LastModified)
}

// Outranks reports whether another answer says too little to be believed about this object, be it that the object is the
// same or that it has changed. The sign-in page of a network is such an answer.
func (f Facts) Outranks(g Facts) bool {
	switch {
	case f.Nameless():
		return false
	case g.Nameless():
		return true
	case f.HasCRC && !g.HasCRC && g.RequestID == "": // this one is of OSS, and that one is not
		return f.Differs(g) != "" || !f.shares(g)
	case f.ETag != "" && g.ETag == "" && !g.HasCRC:
		return f.Differs(g) != "" || !f.shares(g)
	}
	return !f.shares(g)
}

// shares reports whether the answers have something in common by which they can be compared, apart from the size.
func (f Facts) shares(g Facts) bool {
	return f.ETag != "" && g.ETag != "" || f.HasCRC && g.HasCRC || !f.LastModified.IsZero() && !g.LastModified.IsZero()
}

// SizeText returns the size for messages.
func (f Facts) SizeText() string {
	if f.Size == UnknownSize {
		return "unknown size"
	}
	return fmt.Sprintf("%d bytes", f.Size)
}

// Names returns what identifies the object, for messages.
func (f Facts) Names() string {
	crc, modified := "none", "none"
	if f.HasCRC {
		crc = strconv.FormatUint(f.CRC, 10)
	}
	if !f.LastModified.IsZero() {
		modified = f.LastModified.UTC().Format(http.TimeFormat)
	}
	return fmt.Sprintf("ETag %s, CRC-64 %s, Last-Modified %s", OrNone(f.ETag), crc, modified)
}

// SameETag reports whether the ETag that a caller gave is the one that the service sent. OSS writes upper-case hex in quotes;
// callers may not.
func SameETag(a, b string) bool { return strings.EqualFold(opaque(a), opaque(b)) }

// sameTag reports whether two answers have the same ETag, whichever way it is spelled. Case only matters in a tag that is
// not a number in hex.
func sameTag(a, b string) bool {
	a, b = opaque(a), opaque(b)
	return a == b || strings.Trim(a, "0123456789abcdefABCDEF-") == "" && strings.EqualFold(a, b)
}

// isQuoted reports whether an ETag has the form that HTTP gives it.
func isQuoted(etag string) bool {
	tag := strings.TrimPrefix(etag, "W/")
	return len(tag) >= 2 && tag[0] == '"' && tag[len(tag)-1] == '"'
}

// opaque returns an ETag without the mark of a weak one and without quotes.
func opaque(etag string) string { return strings.Trim(strings.TrimPrefix(etag, "W/"), `"`) }

// OrNone returns s for a message, or "none" if it is empty.
func OrNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Read makes an Answer, without a body, from status and headers of an answer to r. It returns a [*MismatchError] if a server
// of kind k does not answer like that, or if the answer does not fit r. A 200 fits a range that starts at 0, and its body is
// the whole object. delimited says that the end of the body is marked, so that a body that breaks off is an error even without
// a Content-Length. OSS always sends one.
func Read(r Request, status int, h http.Header, k Kind, delimited bool) (*Answer, error) {
	a := &Answer{Facts: readFacts(h), Header: h}
	a.status = status
	length, hasLength := contentLength(h)
	// A stored Content-Encoding is metadata of the object and comes with length and a strong ETag or CRC-64. A body that was
	// compressed on the way lacks one of them, and its bytes are not those of the object.
	if enc := h.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") &&
		(a.ETag == "" || !hasLength || strings.HasPrefix(a.ETag, "W/") && !a.HasCRC) {
		return nil, Mismatch(r, a.Origin, "a body compressed on the way (Content-Encoding %q)", enc)
	}
	if k == OSS && (a.RequestID == "" || a.Nameless()) {
		return nil, Mismatch(r, a.Origin, "%d with request ID %s, ETag %s (%s): not an object of OSS", status, OrNone(a.RequestID), OrNone(a.ETag), OrNone(h.Get("Content-Type")))
	}
	var err error
	switch {
	case status == http.StatusPartialContent && !r.Whole:
		err = a.readPartial(r, length, hasLength)
	case status == http.StatusOK:
		if !hasLength && delimited && k == Plain {
			length, hasLength = UnknownSize, true
		}
		err = a.readWhole(r, length, hasLength)
	default:
		err = Mismatch(r, a.Origin, "status %d", status)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// maxLead is how many bytes before those asked for are read and dropped at most. Caches that store an object in blocks may
// begin with the start of a block.
const maxLead = 8 << 20

// readPartial reads a 206. It must hold the first byte that was asked for, but may begin before it and end anywhere. What is
// missing can be asked for in another request. A 206 with the whole object instead of a part is what a 200 would be: from a
// server that ignores ranges.
func (a *Answer) readPartial(r Request, length int64, hasLength bool) error {
	field := strings.Join(a.Header.Values("Content-Range"), ", ") // two such headers are as useless as two ranges in one
	got, total, ok := parseContentRange(field)
	switch {
	case !ok:
		return Mismatch(r, a.Origin, "206 with Content-Range %q", field)
	case hasLength && length != got.Len():
		return Mismatch(r, a.Origin, "206 with bytes %d-%d and a Content-Length of %d", got.Off, got.End-1, length)
	}
	// Of a range that ends with the object, all that comes before it may be a lead.
	ignored := got.Len() == total && (r.Off > maxLead || r.End < total)
	a.Span, a.Size, a.Partial = got, total, !ignored
	switch {
	case ignored && r.Off > 0:
		return wholeInstead(r, a.Facts)
	case r.Off < got.Off || r.Off >= got.End || r.Off-got.Off > maxLead:
		return Mismatch(r, a.Origin, "206 with bytes %d-%d of %d", got.Off, got.End-1, total)
	}
	return nil
}

// readWhole reads a 200. Without a length, a body that breaks off would seem complete, unless its end is marked.
func (a *Answer) readWhole(r Request, length int64, hasLength bool) error {
	contentRange := a.Header.Get("Content-Range")
	switch {
	case !hasLength:
		return Mismatch(r, a.Origin, "200 without Content-Length")
	case contentRange != "":
		return Mismatch(r, a.Origin, "200 with Content-Range %q", contentRange)
	case r.Off != 0:
		a.Size = length
		return wholeInstead(r, a.Facts)
	}
	a.Span, a.Size = span.Span{Off: 0, End: length}, length
	if length == UnknownSize {
		a.End, a.NoLength = math.MaxInt64, true
	}
	return nil
}

// ReadHead reads what the answer to a HEAD says of the object.
func ReadHead(h http.Header) (Facts, error) {
	f := readFacts(h)
	f.ArchiveStatus = ReadArchiveStatus(h.Get("X-Oss-Storage-Class"), h.Get("X-Oss-Restore"))
	var ok bool
	if f.Size, ok = contentLength(h); !ok {
		return Facts{}, errors.New("answer to HEAD without Content-Length")
	}
	return f, nil
}

// readFacts reads all facts but the size, which depends on the kind of answer.
func readFacts(h http.Header) Facts {
	f := Facts{
		ETag:      first(h, "Etag"),
		VersionID: first(h, "X-Oss-Version-Id"),
		Symlink:   strings.EqualFold(first(h, "X-Oss-Object-Type"), "Symlink"),
		Stored: Stored{
			MTime: first(h, "X-Oss-Meta-Mtime"), Mode: first(h, "X-Oss-Meta-Mode"), UID: first(h, "X-Oss-Meta-Uid"), GID: first(h, "X-Oss-Meta-Gid"),
		},
		Origin: Origin{RequestID: first(h, "X-Oss-Request-Id")},
	}
	position := first(h, "X-Oss-Next-Append-Position")
	f.Appendable = strings.EqualFold(first(h, "X-Oss-Object-Type"), "Appendable") || position != ""
	if position != "" { // most have none, and an error costs an allocation
		if n, err := strconv.ParseInt(position, 10, 64); err == nil {
			f.NextAppend = n
		}
	}
	if v, err := strconv.ParseUint(first(h, "X-Oss-Hash-Crc64ecma"), 10, 64); err == nil {
		f.CRC, f.HasCRC = v, true
	}
	if t, err := http.ParseTime(first(h, "Last-Modified")); err == nil {
		f.LastModified = t
	}
	return f
}

// first is h.Get for a name that is spelled as net/http does: it does not look at each letter of that.
func first(h http.Header, name string) string {
	if v := h[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func contentLength(h http.Header) (int64, bool) {
	v := h.Get("Content-Length")
	n, err := strconv.ParseInt(v, 10, 64)
	return n, err == nil && n >= 0 && v[0] != '+'
}

// parseContentRange parses "bytes a-b/total". It rejects a field that does not give all three numbers, or gives numbers that
// contradict each other. An end beyond the total is clipped: Alibaba's emulator of OSS repeats what was asked for.
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
	if n[0] > n[1] || n[0] >= n[2] {
		return span.Span{}, 0, false
	}
	return span.Span{Off: n[0], End: min(n[1], n[2]-1) + 1}, n[2], true
}
