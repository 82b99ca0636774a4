package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/object"
)

// PageKeys is how many keys a page has at most.
const PageKeys = 1000

const (
	pageKeys = "1000" // PageKeys, as it is sent
	maxKeys  = PageKeys
	// maxEntries bounds the entries of one page. Servers other than OSS may return more than they are asked for.
	maxEntries = 10 * maxKeys
	// pageLimit bounds how much of a page is read, in bytes. A thousand keys of 1023 bytes, all escaped, need half of it.
	pageLimit = 8 << 20
	// A page is read token by token, so that what a hostile one costs does not depend on how it is made. The bounds are on one
	// token, in bytes, on all tokens, and on how deep elements are nested. OSS needs a tenth of each.
	tokenLimit = 64 << 10
	maxTokens  = 200 * maxKeys
	maxDepth   = 50
	// maxEmpty bounds how many pages in a row may hold no key and yet say that there are more. OSS may skip deleted keys to
	// find one that is left, but not a thousand pages of them.
	maxEmpty = 1000
)

// Entry is an object as a listing describes it.
type Entry struct {
	Key      string
	Size     int64
	Modified time.Time
	ETag     string // "": the listing has none
	// Symlink says that size and time may be those of the link and not of its target.
	Symlink bool
	// Appendable says that the object may grow. Whether its ETag changes then is not documented.
	Appendable    bool
	Version       string               // of a listing of versions; "": it has none
	Class         string               // the storage class
	ArchiveStatus object.ArchiveStatus // of objects of the archive classes; zero for others
	deleted       bool                 // a delete marker
}

// listPage is the part that is used here of the answer of ListObjectsV2, or of ListObjectVersions.
type listPage struct {
	versions  bool
	encoding  string
	truncated bool
	next      string  // the token for the next page; of versions, the marker of the key
	version   string  // the marker of the version
	contents  []Entry // with keys as they are encoded

	inContents bool // the last element below the root was an object, a version or a delete marker
	strings    keeper
}

// Cursor says how far a listing has been read. The zero value is its beginning.
type Cursor struct {
	Token string // asks for the next page; "": the first one
	after string // the last key so far; "": none
	empty int    // pages in a row without a key

	asOf time.Time // the versions of this time are listed; zero: the current ones
	versionCursor
}

// After returns the cursor of the keys that come after one; that key need not exist. "" means from the beginning.
func After(key string) Cursor { return Cursor{after: key} }

// List asks for the page at a cursor of the keys that begin with prefix. It returns the page's entries and the cursor of the
// next page, whose token is "" if there is none. The answer is read through the reader that body returns for it.
func (c *Client) List(ctx context.Context, prefix string, at Cursor, body func(io.Reader) io.Reader) ([]Entry, Cursor, error) {
	resp, err := c.openList(ctx, prefix, &at)
	if err != nil && at.withoutMarker(err) {
		resp, err = c.openList(ctx, prefix, &at)
	}
	if err != nil {
		return nil, Cursor{}, at.explain(err)
	}
	defer resp.Body.Close()
	in := &pageReader{from: body(resp.Body), left: pageLimit}
	entries, next, err := readPage(in, at)
	if in.err != nil {
		return nil, Cursor{}, fmt.Errorf("body of the listing: %w", object.WithoutURL(in.err))
	}
	return entries, next, err
}

// openList asks for the page at a cursor.
func (c *Client) openList(ctx context.Context, prefix string, at *Cursor) (*oss.Response, error) {
	params := at.params()
	params["encoding-type"], params["max-keys"] = "url", pageKeys
	if prefix != "" {
		params["prefix"] = prefix
	}
	return c.open(ctx, http.MethodGet, "", params)
}

// params returns the parameters that ask for the page at the cursor.
func (c *Cursor) params() map[string]any {
	if !c.asOf.IsZero() {
		return c.versionParams()
	}
	params := map[string]any{"list-type": "2"}
	if c.Token != "" {
		params["continuation-token"] = c.Token
	} else if c.after != "" {
		params["start-after"] = c.after
	}
	return params
}

// pageReader reads a page within its bounds.
type pageReader struct {
	from io.Reader
	left int   // bytes of the page
	err  error // of reading, apart from the end
}

var errPageBounds = errors.New("it is larger than a page of OSS can be")

func (r *pageReader) Read(b []byte) (int, error) {
	if r.left <= 0 {
		return 0, errPageBounds
	}
	n, err := r.from.Read(b[:min(len(b), r.left)])
	r.left -= n
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// parsePage reads the document of a page, up to the end of its root.
func parsePage(d *document, versions bool) (*listPage, error) {
	page := &listPage{versions: versions}
	var text []byte // of the innermost element
	for range maxTokens {
		kind, said, err := d.next()
		if err != nil {
			return nil, err
		}
		depth := len(d.open)
		switch kind {
		case charData:
			if depth == 2 || depth == 3 {
				if text = append(text, said...); len(text) > tokenLimit {
					return nil, errPageBounds
				}
			}
		case startTag:
			text = text[:0]
			err = page.begin(depth, said)
		case emptyTag:
			text = text[:0]
			if err = page.begin(depth+1, said); err == nil {
				err = page.take(depth+1, said, nil)
			}
		case endTag:
			err = page.take(depth+1, said, text)
			text = text[:0]
		}
		if err != nil {
			return nil, err
		}
		if depth == 0 && (kind == endTag || kind == emptyTag) {
			return page, nil
		}
	}
	return nil, errPageBounds
}

// begin notes that an element begins. Its depth counts the root.
func (p *listPage) begin(depth int, name []byte) error {
	switch {
	case depth > maxDepth:
		return errPageBounds
	case depth == 1 && string(name) != p.root():
		return fmt.Errorf("its root is <%.20s>", name)
	case depth == 2:
		deleted := p.versions && string(name) == "DeleteMarker"
		if p.inContents = deleted || string(name) == p.element(); !p.inContents {
			return nil
		}
		if len(p.contents) == maxEntries {
			return errPageBounds
		}
		p.contents = append(p.contents, Entry{deleted: deleted})
	}
	return nil
}

// root returns the name of the root.
func (p *listPage) root() string {
	if p.versions {
		return "ListVersionsResult"
	}
	return "ListBucketResult"
}

// element returns the name of the element of an object.
func (p *listPage) element() string {
	if p.versions {
		return "Version"
	}
	return "Contents"
}

// take sets what the text of an element says, which ends.
func (p *listPage) take(depth int, name, text []byte) (err error) {
	switch {
	case depth == 2:
		switch string(name) {
		case "EncodingType":
			p.encoding = string(text)
		case "IsTruncated":
			p.truncated = false
			if text = bytes.TrimSpace(text); len(text) > 0 {
				p.truncated, err = strconv.ParseBool(string(text))
			}
		case "NextContinuationToken", "NextKeyMarker":
			if p.versions == (string(name) == "NextKeyMarker") {
				p.next = string(text)
			}
		case "NextVersionIdMarker":
			p.version = string(text)
		}
	case depth == 3 && p.inContents:
		err = p.takeEntry(&p.contents[len(p.contents)-1], name, text)
	}
	return err
}

// takeEntry sets what an element says about an object.
func (p *listPage) takeEntry(e *Entry, name, text []byte) (err error) {
	switch string(name) {
	case "Key":
		e.Key = p.strings.keep(text)
	case "Type":
		e.Symlink, e.Appendable = bytes.EqualFold(text, []byte("Symlink")), bytes.EqualFold(text, []byte("Appendable"))
	case "ETag":
		e.ETag = p.strings.keep(text)
	case "VersionId":
		if p.versions {
			e.Version = p.strings.keep(text)
		}
	case "StorageClass":
		if e.Class = classes[string(text)]; e.Class == "" {
			e.Class = p.strings.keep(text)
		}
		if class := object.ArchiveClass(text); class != "" {
			e.ArchiveStatus.Class = class
			e.ArchiveStatus.State = max(e.ArchiveStatus.State, object.Frozen)
		}
	case "RestoreInfo":
		class := e.ArchiveStatus.Class
		e.ArchiveStatus = object.ReadArchiveStatus(object.Archive, string(text))
		e.ArchiveStatus.Class = class // which may come after it
	case "Size":
		e.Size = 0
		if text = bytes.TrimSpace(text); len(text) > 0 {
			e.Size, err = strconv.ParseInt(string(text), 10, 64)
		}
	case "LastModified":
		e.Modified, err = parseTime(text)
	}
	return err
}

// classes are the storage classes: a listing of many keys need not keep each on its own.
var classes = map[string]string{
	"Standard": "Standard", "IA": "IA", "Archive": "Archive", "ColdArchive": "ColdArchive", "DeepColdArchive": "DeepColdArchive",
}

// parseTime parses a time as RFC 3339 has it. It does by itself the form that OSS uses, which time.Parse takes a while for.
func parseTime(text []byte) (t time.Time, err error) {
	const form = "2006-01-02T15:04:05.000Z"
	var n [len(form)]int // of the number that ends at each byte
	ok := len(text) == len(form)
	for i := 0; ok && i < len(form); i++ {
		switch digit := int(text[i]) - '0'; {
		case form[i] < '0' || form[i] > '9':
			ok = text[i] == form[i]
		case digit < 0 || digit > 9:
			ok = false
		case i > 0:
			n[i] = 10*n[i-1] + digit
		default:
			n[i] = digit
		}
	}
	year, month, day, hour, minute, second := n[3], n[6], n[9], n[12], n[15], n[18]
	if !ok || month < 1 || month > 12 || day < 1 || day > 28 || hour > 23 || minute > 59 || second > 59 {
		err = t.UnmarshalText(text)
		return t, err
	}
	return time.Date(year, time.Month(month), day, hour, minute, second, n[22]*1e6, time.UTC), nil
}

// keeper makes strings of bytes, many with one allocation. Each string keeps its block in memory: so blocks are small, in case
// that a few keys of many pages are kept.
type keeper struct {
	block   strings.Builder
	scratch []byte
}

const keeperBlock = 4 << 10 // bytes

func (k *keeper) keep(b []byte) string {
	if k.block.Cap()-k.block.Len() < len(b) {
		k.block = strings.Builder{}
		k.block.Grow(max(keeperBlock, len(b)))
	}
	from := k.block.Len()
	k.block.Write(b)
	return k.block.String()[from:]
}

// unescape is [url.QueryUnescape].
func (k *keeper) unescape(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s, nil
	}
	k.scratch = k.scratch[:0]
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			if i+2 >= len(s) {
				return "", url.EscapeError(s[i:])
			}
			high, low := hexDigit(s[i+1]), hexDigit(s[i+2])
			if high < 0 || low < 0 {
				return "", url.EscapeError(s[i : i+3])
			}
			c = byte(high<<4 | low)
			i += 2
		}
		k.scratch = append(k.scratch, c)
	}
	return k.keep(k.scratch), nil
}

// hexDigit returns the value of a hexadecimal digit, or -1.
func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}

// readPage parses the page that was asked for at a cursor, and returns the cursor of the next one.
//
// Keys must come in the order of their bytes, each once, as OSS lists them. A listing that goes back might never end, and
// a single pass could not find out whether one key lies below another.
func readPage(in *pageReader, at Cursor) (entries []Entry, next Cursor, err error) {
	page, err := parsePage(newDocument(in), !at.asOf.IsZero())
	if err != nil {
		return nil, Cursor{}, fmt.Errorf("the answer is no listing: %w", err)
	}
	unescape := func(s string) (string, error) { return s, nil }
	if page.encoding == "url" {
		unescape = page.strings.unescape
	}
	if page.versions {
		return page.asOf(at, unescape)
	}
	next = Cursor{after: at.after, empty: at.empty + 1}
	for i := range page.contents {
		c := &page.contents[i]
		key, err := unescape(c.Key)
		if err != nil || key == "" || c.Size < 0 {
			return nil, Cursor{}, fmt.Errorf("the answer is no listing: object %q of %d bytes", c.Key, c.Size)
		}
		if key <= next.after {
			return nil, Cursor{}, &object.PermanentError{Err: fmt.Errorf("the listing is out of order: %q comes after %q", key, next.after)}
		}
		next.after, next.empty = key, 0
		c.Key = key
		if c.ArchiveStatus.Class == "" {
			c.ArchiveStatus = object.ArchiveStatus{}
		}
	}
	if !page.truncated {
		return page.contents, next, nil
	}
	if next.Token, err = unescape(page.next); err != nil || next.Token == "" || next.Token == at.Token {
		// Asking with the same token again would never end.
		return nil, Cursor{}, &object.PermanentError{Err: fmt.Errorf("the listing is cut short: token %q for the next page, after %q", page.next, at.Token)}
	}
	if next.empty >= maxEmpty {
		return nil, Cursor{}, &object.PermanentError{Err: fmt.Errorf("the listing does not end: %d pages in a row hold no key, after %q", next.empty, next.after)}
	}
	return page.contents, next, nil
}
