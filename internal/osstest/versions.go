package osstest

import (
	"cmp"
	"encoding/xml"
	"slices"
	"strings"
)

type versionListing struct {
	XMLName             xml.Name `xml:"ListVersionsResult"`
	Name                string
	Prefix              string
	KeyMarker           string
	VersionIDMarker     string `xml:"VersionIdMarker"`
	MaxKeys             int
	Delimiter           string
	EncodingType        string `xml:",omitempty"`
	IsTruncated         bool
	NextKeyMarker       string `xml:",omitempty"`
	NextVersionIDMarker string `xml:"NextVersionIdMarker,omitempty"`
	Entries             []any  // listedVersion and listedMarker, as they come
	CommonPrefixes      []listedPrefix
}

type listedVersion struct {
	XMLName      xml.Name `xml:"Version"`
	Key          string
	VersionID    string `xml:"VersionId"`
	IsLatest     bool
	LastModified string
	ETag, Type   string
	Size         int64
	StorageClass string
	RestoreInfo  string `xml:",omitempty"`
	Owner        owner
}

type listedMarker struct {
	XMLName      xml.Name `xml:"DeleteMarker"`
	Key          string
	VersionID    string `xml:"VersionId"`
	IsLatest     bool
	LastModified string
	Owner        owner
}

type owner struct{ ID, DisplayName string }

var theOwner = owner{"1234567890123456", "1234567890123456"}

// listVersions answers ListObjectVersions.
func (s *Server) listVersions(q *query, b *bucket) (*reply, *apiError) {
	l := &versionListing{
		Name: b.name, Prefix: q.get("prefix"), Delimiter: q.get("delimiter"), KeyMarker: q.get("key-marker"),
		VersionIDMarker: q.get("version-id-marker"), EncodingType: q.get("encoding-type"),
	}
	var e *apiError
	if l.MaxKeys, e = pageSize(q); e != nil {
		return nil, e
	}
	if l.VersionIDMarker != "" && l.KeyMarker == "" {
		e := badArgument("version-id-marker", l.VersionIDMarker, "A version-id marker cannot be specified without a key marker.")
		e.ec = "0012-00000106"
		return nil, e
	}
	if e := s.walkVersions(b, l); e != nil {
		return nil, e
	}
	if l.EncodingType == "url" {
		for _, p := range []*string{&l.Prefix, &l.Delimiter, &l.KeyMarker, &l.NextKeyMarker} {
			*p = escape(*p)
		}
		for i := range l.CommonPrefixes {
			l.CommonPrefixes[i].Prefix = escape(l.CommonPrefixes[i].Prefix)
		}
	}
	return xmlReply(l)
}

// walkVersions fills one page.
func (s *Server) walkVersions(b *bucket, l *versionListing) *apiError {
	c := s.cursor(b)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e := s.seekVersion(b, l, c); e != nil {
		return e
	}
	count := 0
	full := func() bool {
		l.IsTruncated = count == l.MaxKeys
		count++
		return l.IsTruncated
	}
	defer func() {
		if !l.IsTruncated {
			l.NextKeyMarker, l.NextVersionIDMarker = "", ""
		}
	}()
	for {
		key, made, ok := c.next()
		if !ok || !strings.HasPrefix(key, l.Prefix) {
			return nil
		}
		versions := b.objects[key]
		latest := len(versions) - 1
		if made != nil {
			versions, latest = []*Object{made}, 0
		}
		if key == l.KeyMarker {
			versions, _ = olderThan(versions, l.VersionIDMarker)
		}
		if len(versions) == 0 {
			continue // deleted since the keys were sorted, or listed already
		}
		if common, ok := commonPrefix(key, l.Prefix, l.Delimiter); ok {
			if full() {
				return nil
			}
			l.CommonPrefixes = append(l.CommonPrefixes, listedPrefix{common})
			l.NextKeyMarker, l.NextVersionIDMarker = common, ""
			c.seek(beyond(common))
			continue
		}
		for i, o := range slices.Backward(versions) {
			if full() {
				return nil
			}
			id := o.version()
			if b.versioning == Unversioned && s.quirk(EmptyVersionID) {
				id = ""
			}
			l.Entries = append(l.Entries, s.listVersion(l, o, id, i == latest))
			l.NextKeyMarker, l.NextVersionIDMarker = key, id
		}
	}
}

// seekVersion puts the cursor where the markers say.
func (s *Server) seekVersion(b *bucket, l *versionListing, c *cursor) *apiError {
	switch common, grouped := commonPrefix(l.KeyMarker, l.Prefix, l.Delimiter); {
	case l.KeyMarker < l.Prefix:
		c.seek(l.Prefix)
	case grouped:
		c.seek(beyond(common))
	case l.VersionIDMarker != "":
		if _, ok := olderThan(b.objects[l.KeyMarker], l.VersionIDMarker); !ok && s.quirk(MarkerMustExist) {
			return badArgument("version-id-marker", l.VersionIDMarker, "The version-id marker does not exist.")
		}
		c.seek(l.KeyMarker)
	default:
		c.seek(l.KeyMarker + "\x00")
	}
	return nil
}

// olderThan returns the versions that were created before the one with this ID, and whether that is still there. A version
// that was deleted since has its place in time in its ID; a null version has not, and then nothing is older.
func olderThan(versions []*Object, id string) ([]*Object, bool) {
	if i := slices.IndexFunc(versions, func(o *Object) bool { return o.version() == id }); i >= 0 {
		return versions[:i], true
	}
	created := createdBy(id)
	n, _ := slices.BinarySearchFunc(versions, created, func(o *Object, t int64) int { return cmp.Compare(o.created, t) })
	return versions[:n], false
}

func (s *Server) listVersion(l *versionListing, o *Object, id string, latest bool) any {
	key := o.Key
	if l.EncodingType == "url" {
		key = escape(key)
	}
	if o.Marker {
		return listedMarker{Key: key, VersionID: id, IsLatest: latest, LastModified: iso(o.LastModified), Owner: theOwner}
	}
	_, restoreInfo := s.archiveState(o)
	return listedVersion{
		Key: key, VersionID: id, IsLatest: latest, LastModified: iso(o.LastModified), ETag: o.ETag, Type: o.Type,
		Size: o.Size(), StorageClass: o.Class, RestoreInfo: restoreInfo, Owner: theOwner,
	}
}
