package bucket

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/object"
)

// versionCursor says how far the versions of the last key have been read.
type versionCursor struct {
	version string // the marker of the version; "": all of the last key were listed
	settled bool   // the last key's version is found, or was a delete marker
	before  string // the key before the last one; "": there was none
	lost    int    // how often the marker of a version of lostKey was gone
	lostKey string
	pages   int    // in a row that ended within the last key
	seen    string // the marker after one of them
}

// AsOf returns the cursor of the objects that were current at a time.
func (c Cursor) AsOf(t time.Time) Cursor {
	c.asOf = t
	return c
}

// Last returns the last key that was listed; "" if there was none.
func (c *Cursor) Last() string { return c.after }

// Settled reports whether the listing of versions has told all there is to tell about a key.
func (c *Cursor) Settled(key string) bool {
	return c.after > key || c.after == key && c.settled
}

// versionParams returns the parameters that ask for the page of versions at the cursor. Both markers are exclusive: without one
// of a version the listing goes on with the next key.
func (c *Cursor) versionParams() map[string]any {
	params := map[string]any{"versions": nil}
	if marker := cmp.Or(c.Token, c.after); marker != "" {
		params["key-marker"] = marker
	}
	if c.version != "" {
		params["version-id-marker"] = c.version
	}
	return params
}

// maxLost is how often the markers of one key may be gone.
const maxLost = 10

// withoutMarker moves the cursor to where the listing can go on if an answer refuses the marker of a version, and reports whether it
// does. What OSS answers if that version was deleted since the last page is not documented. If all that matters of its key is known,
// the next key follows. Otherwise the key is listed from its newest version on.
func (c *Cursor) withoutMarker(err error) bool {
	var se oss.ServiceError
	if c.version == "" || c.lost == maxLost && c.lostKey == c.after || !errors.As(err, &se) {
		return false
	}
	switch {
	case se.StatusCode == http.StatusBadRequest && se.Code == "InvalidArgument", se.StatusCode == http.StatusNotFound && se.Code == "NoSuchVersion":
	default:
		return false
	}
	c.Token, c.version, c.pages, c.seen = "", "", 0, ""
	switch {
	case c.settled:
		return true
	case c.lostKey != c.after:
		c.lostKey, c.lost = c.after, 0
	}
	c.lost++
	c.after = c.before
	return true
}

// begin notes that the versions of another key begin.
func (c *Cursor) begin(key string) {
	c.before, c.after, c.settled = c.after, key, false
}

// explain names the permission that is needed, if an answer refuses a listing of versions.
func (c *Cursor) explain(err error) error {
	var se oss.ServiceError
	if c.asOf.IsZero() || !errors.As(err, &se) || se.Code != "AccessDenied" {
		return err
	}
	return fmt.Errorf("%w; a listing of versions needs the permission oss:ListObjectVersions", err)
}

// asOf returns the objects of a page of versions that were current at the time of the cursor, and the cursor of the next page.
//
// Keys come in the order of their bytes, and the versions of a key newest first. So the first one that is not after the time is
// the one, and a delete marker hides the key.
func (p *listPage) asOf(at Cursor, unescape func(string) (string, error)) (current []Entry, next Cursor, err error) {
	next = at
	next.empty++
	current = p.contents[:0]
	for _, e := range p.contents {
		key, err := unescape(e.Key)
		if err != nil || key == "" || e.Size < 0 || e.Modified.IsZero() {
			return nil, Cursor{}, fmt.Errorf("the answer is no listing: version %q of object %q, of %d bytes and the time %v", e.Version, e.Key, e.Size, e.Modified)
		}
		// A page that begins within a key has older versions of it.
		again := key == at.after && (at.version == "" || e.Version == at.version)
		if key < next.after || again {
			return nil, Cursor{}, &object.PermanentError{Err: fmt.Errorf("the listing is out of order: version %q of %q comes after %q", e.Version, key, next.after)}
		}
		if key != next.after {
			next.begin(key)
		}
		next.empty = 0
		if next.settled || e.Modified.After(at.asOf) {
			continue
		}
		if next.settled = true; e.deleted {
			continue
		}
		e.Key = key
		if e.ArchiveStatus.Class == "" {
			e.ArchiveStatus = object.ArchiveStatus{}
		}
		current = append(current, e)
	}
	if !p.truncated {
		next.Token = ""
		return current, next, nil
	}
	if err := p.goOn(at, &next, unescape); err != nil {
		return nil, Cursor{}, err
	}
	return current, next, nil
}

// goOn sets the markers of the cursor of the next page. They must go on: asking with the same ones again would never end, and
// those of a later place would leave out versions.
func (p *listPage) goOn(at Cursor, next *Cursor, unescape func(string) (string, error)) (err error) {
	next.version = p.version
	next.Token, err = unescape(p.next)
	within := next.Token == next.after && len(p.contents) > 0 && !next.settled && p.contents[len(p.contents)-1].Version != ""
	switch {
	case err != nil || next.Token == "" || next.Token < next.after,
		next.Token == cmp.Or(at.Token, at.after) && next.version == at.version,
		within && next.version == "":
		return &object.PermanentError{Err: fmt.Errorf("the listing is cut short: markers %q and version %q for the next page, after %q and version %q",
			p.next, p.version, cmp.Or(at.Token, at.after), at.version)}
	case next.empty >= maxEmpty:
		return &object.PermanentError{Err: fmt.Errorf("the listing does not end: %d pages in a row hold no key, after %q", next.empty, next.after)}
	case next.Token != at.Token:
		next.pages, next.seen = 0, next.version
	case next.version == next.seen:
		return &object.PermanentError{Err: fmt.Errorf("the listing does not end: version %q of %q comes again", next.version, next.Token)}
	default:
		// One marker is remembered, a later one after each doubling, so that a circle is found in little memory.
		if next.pages++; next.pages&(next.pages-1) == 0 {
			next.seen = next.version
		}
	}
	if next.Token > next.after {
		next.begin(next.Token)
	}
	return nil
}
