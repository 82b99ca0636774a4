package bucket

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ossdl/ossdl/internal/object"
)

const (
	pageKeys = "1000" // in one page, the most that OSS returns
	// pageLimit bounds how much of a page is read, in bytes. A thousand keys of 1023 bytes, all escaped, need a quarter of it.
	pageLimit = 16 << 20
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

// listDocument is the part of ListObjectsV2's answer that is used here.
type listDocument struct {
	XMLName     xml.Name `xml:"ListBucketResult"`
	Encoding    string   `xml:"EncodingType"`
	IsTruncated bool
	Next        string `xml:"NextContinuationToken"`
	Contents    []struct {
		Key, Type    string
		ETag         string
		Size         int64
		LastModified time.Time
	}
}

// Cursor says how far a listing has been read. The zero value is its beginning.
type Cursor struct {
	Token string // asks for the next page; "": the first one
	after string // the last key so far; "": none
	empty int    // pages in a row without a key
}

// List asks for the page at a cursor of the keys that begin with prefix. It returns the page's entries and the cursor of the
// next page, whose token is "" if there is none. The answer is read through the reader that body returns for it.
func (c *Client) List(ctx context.Context, prefix string, at Cursor, body func(io.Reader) io.Reader) ([]Entry, Cursor, error) {
	params := map[string]any{"list-type": "2", "encoding-type": "url", "max-keys": pageKeys}
	if prefix != "" {
		params["prefix"] = prefix
	}
	if at.Token != "" {
		params["continuation-token"] = at.Token
	}
	resp, err := c.open(ctx, http.MethodGet, "", params)
	if err != nil {
		return nil, Cursor{}, err
	}
	defer resp.Body.Close()
	doc, err := io.ReadAll(body(io.LimitReader(resp.Body, pageLimit)))
	if err != nil {
		return nil, Cursor{}, fmt.Errorf("body of the listing: %w", object.WithoutURL(err))
	}
	return readPage(doc, at)
}

// readPage parses the page that was asked for at a cursor, and returns the cursor of the next one.
//
// Keys must come in the order of their bytes, each once, as OSS lists them. A listing that goes back might never end, and
// a single pass could not find out whether one key lies below another.
func readPage(doc []byte, at Cursor) (entries []Entry, next Cursor, err error) {
	var d listDocument
	if err := xml.Unmarshal(doc, &d); err != nil {
		return nil, Cursor{}, fmt.Errorf("the answer is no listing: %w", err)
	}
	unescape := func(s string) (string, error) { return s, nil }
	if d.Encoding == "url" {
		unescape = url.QueryUnescape
	}
	next = Cursor{after: at.after, empty: at.empty + 1}
	for _, c := range d.Contents {
		key, err := unescape(c.Key)
		if err != nil || key == "" || c.Size < 0 {
			return nil, Cursor{}, fmt.Errorf("the answer is no listing: object %q of %d bytes", c.Key, c.Size)
		}
		if key <= next.after {
			return nil, Cursor{}, &object.PermanentError{Err: fmt.Errorf("the listing is out of order: %q comes after %q", key, next.after)}
		}
		next.after, next.empty = key, 0
		entries = append(entries, Entry{
			key, c.Size, c.LastModified, c.ETag, strings.EqualFold(c.Type, "Symlink"), strings.EqualFold(c.Type, "Appendable"),
		})
	}
	if !d.IsTruncated {
		return entries, next, nil
	}
	if next.Token, err = unescape(d.Next); err != nil || next.Token == "" || next.Token == at.Token {
		// Asking with the same token again would never end.
		return nil, Cursor{}, &object.PermanentError{Err: fmt.Errorf("the listing is cut short: token %q for the next page, after %q", d.Next, at.Token)}
	}
	if next.empty >= maxEmpty {
		return nil, Cursor{}, &object.PermanentError{Err: fmt.Errorf("the listing does not end: %d pages in a row hold no key, after %q", next.empty, next.after)}
	}
	return entries, next, nil
}
