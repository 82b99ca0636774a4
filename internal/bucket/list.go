package bucket

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ossdl/ossdl/internal/object"
)

const (
	pageKeys = "1000" // in one page, the most that OSS returns
	maxKeys  = 1000
	// maxEntries bounds the entries of one page. Servers other than OSS may return more than they are asked for.
	maxEntries = 10 * maxKeys
	// pageLimit bounds how much of a page is read, in bytes. A thousand keys of 1023 bytes, all escaped, need half of it.
	pageLimit = 8 << 20
	// A page is read piece by piece, so that what a hostile one costs does not depend on how it is made. The bounds are on one
	// piece, in bytes, on all pieces, and on how deep elements are nested. OSS needs a tenth of each.
	pieceLimit = 64 << 10
	maxPieces  = 200 * maxKeys
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
	Appendable bool
}

// listPage is the part of ListObjectsV2's answer that is used here.
type listPage struct {
	encoding  string
	truncated bool
	next      string
	contents  []Entry // with keys as they are encoded
}

// Cursor says how far a listing has been read. The zero value is its beginning.
type Cursor struct {
	Token string // asks for the next page; "": the first one
	after string // the last key so far; "": none
	empty int    // pages in a row without a key
}

// After returns the cursor of the keys that come after one; that key need not exist. "" means from the beginning.
func After(key string) Cursor { return Cursor{after: key} }

// List asks for the page at a cursor of the keys that begin with prefix. It returns the page's entries and the cursor of the
// next page, whose token is "" if there is none. The answer is read through the reader that body returns for it.
func (c *Client) List(ctx context.Context, prefix string, at Cursor, body func(io.Reader) io.Reader) ([]Entry, Cursor, error) {
	params := map[string]any{"list-type": "2", "encoding-type": "url", "max-keys": pageKeys}
	if prefix != "" {
		params["prefix"] = prefix
	}
	if at.Token != "" {
		params["continuation-token"] = at.Token
	} else if at.after != "" {
		params["start-after"] = at.after
	}
	resp, err := c.open(ctx, http.MethodGet, "", params)
	if err != nil {
		return nil, Cursor{}, err
	}
	defer resp.Body.Close()
	in := &pageReader{from: body(resp.Body), left: pageLimit}
	entries, next, err := readPage(in, at)
	if in.err != nil {
		return nil, Cursor{}, fmt.Errorf("body of the listing: %w", object.WithoutURL(in.err))
	}
	return entries, next, err
}

// pageReader reads a page within its bounds.
type pageReader struct {
	from  io.Reader
	left  int   // bytes of the page
	piece int   // bytes of the piece
	err   error // of reading, apart from the end
}

var errPageBounds = errors.New("it is larger than a page of OSS can be")

func (r *pageReader) Read(b []byte) (int, error) {
	most := min(r.left, r.piece)
	if most <= 0 {
		return 0, errPageBounds
	}
	n, err := r.from.Read(b[:min(len(b), most)])
	r.left -= n
	r.piece -= n
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// parsePage reads the document of a page, up to the end of its root.
func parsePage(in *pageReader) (page listPage, err error) {
	d := xml.NewDecoder(in)
	var path []string // of the open elements
	var text []byte   // of the innermost
	for range maxPieces {
		in.piece = pieceLimit
		token, err := d.Token()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return listPage{}, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			name := token.Name.Local
			if len(path) == 0 && name != "ListBucketResult" {
				return listPage{}, fmt.Errorf("its root is <%.20s>", name)
			}
			if path, text = append(path, name), nil; len(path) > maxDepth {
				return listPage{}, errPageBounds
			}
			if len(path) == 2 && name == "Contents" {
				if len(page.contents) == maxEntries {
					return listPage{}, errPageBounds
				}
				page.contents = append(page.contents, Entry{})
			}
		case xml.CharData:
			if len(path) == 2 || len(path) == 3 {
				if text = append(text, token...); len(text) > pieceLimit {
					return listPage{}, errPageBounds
				}
			}
		case xml.EndElement:
			if err := page.take(path, string(text)); err != nil {
				return listPage{}, err
			}
			if path, text = path[:len(path)-1], nil; len(path) == 0 {
				return page, nil
			}
		}
	}
	return listPage{}, errPageBounds
}

// take sets what the text of an element says; its path begins with the root.
func (p *listPage) take(path []string, text string) (err error) {
	trimmed := strings.TrimSpace(text)
	switch {
	case len(path) == 2:
		switch path[1] {
		case "EncodingType":
			p.encoding = text
		case "IsTruncated":
			p.truncated = false
			if trimmed != "" {
				p.truncated, err = strconv.ParseBool(trimmed)
			}
		case "NextContinuationToken":
			p.next = text
		}
	case len(path) == 3 && path[1] == "Contents":
		e := &p.contents[len(p.contents)-1]
		switch path[2] {
		case "Key":
			e.Key = text
		case "Type":
			e.Symlink, e.Appendable = strings.EqualFold(text, "Symlink"), strings.EqualFold(text, "Appendable")
		case "ETag":
			e.ETag = text
		case "Size":
			e.Size = 0
			if trimmed != "" {
				e.Size, err = strconv.ParseInt(trimmed, 10, 64)
			}
		case "LastModified":
			err = e.Modified.UnmarshalText([]byte(text))
		}
	}
	return err
}

// readPage parses the page that was asked for at a cursor, and returns the cursor of the next one.
//
// Keys must come in the order of their bytes, each once, as OSS lists them. A listing that goes back might never end, and
// a single pass could not find out whether one key lies below another.
func readPage(in *pageReader, at Cursor) (entries []Entry, next Cursor, err error) {
	page, err := parsePage(in)
	if err != nil {
		return nil, Cursor{}, fmt.Errorf("the answer is no listing: %w", err)
	}
	unescape := func(s string) (string, error) { return s, nil }
	if page.encoding == "url" {
		unescape = url.QueryUnescape
	}
	next = Cursor{after: at.after, empty: at.empty + 1}
	for _, c := range page.contents {
		key, err := unescape(c.Key)
		if err != nil || key == "" || c.Size < 0 {
			return nil, Cursor{}, fmt.Errorf("the answer is no listing: object %q of %d bytes", c.Key, c.Size)
		}
		if key <= next.after {
			return nil, Cursor{}, &object.PermanentError{Err: fmt.Errorf("the listing is out of order: %q comes after %q", key, next.after)}
		}
		next.after, next.empty = key, 0
		c.Key = key
		entries = append(entries, c)
	}
	if !page.truncated {
		return entries, next, nil
	}
	if next.Token, err = unescape(page.next); err != nil || next.Token == "" || next.Token == at.Token {
		// Asking with the same token again would never end.
		return nil, Cursor{}, &object.PermanentError{Err: fmt.Errorf("the listing is cut short: token %q for the next page, after %q", page.next, at.Token)}
	}
	if next.empty >= maxEmpty {
		return nil, Cursor{}, &object.PermanentError{Err: fmt.Errorf("the listing does not end: %d pages in a row hold no key, after %q", next.empty, next.after)}
	}
	return entries, next, nil
}
