package osstest

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"sort"
	"strconv"
	"strings"
)

type listing struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	Name                  string
	Prefix                string
	StartAfter            string `xml:",omitempty"`
	ContinuationToken     string `xml:",omitempty"`
	MaxKeys               int
	Delimiter             string
	EncodingType          string `xml:",omitempty"`
	IsTruncated           bool
	NextContinuationToken string `xml:",omitempty"`
	Contents              []listed1
	CommonPrefixes        []listedPrefix
	KeyCount              int
}

type listed1 struct {
	Key, LastModified, ETag, Type string
	Size                          int64
	StorageClass                  string
	RestoreInfo                   string `xml:",omitempty"`
}

type listedPrefix struct{ Prefix string }

// pageSize reads max-keys, and checks encoding-type.
func pageSize(q *query) (int, *apiError) {
	if v := q.get("encoding-type"); v != "" && v != "url" {
		return 0, badArgument("encoding-type", v, "encoding-type must be url.")
	}
	v, ok := q.value("max-keys")
	if !ok {
		return 100, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > 1000 {
		return 0, badArgument("max-keys", v, "max-keys must be 1 to 1000.")
	}
	return n, nil
}

// list answers ListObjectsV2.
func (s *Server) list(q *query, b *bucket) (*reply, *apiError) {
	if q.get("list-type") != "2" {
		return nil, fail(http.StatusNotImplemented, "NotImplemented", "Of the requests to a bucket only ListObjectsV2 and ListObjectVersions are imitated.", "")
	}
	l := &listing{
		Name: b.name, Prefix: q.get("prefix"), Delimiter: q.get("delimiter"), StartAfter: q.get("start-after"),
		ContinuationToken: q.get("continuation-token"), EncodingType: q.get("encoding-type"),
	}
	var e *apiError
	if l.MaxKeys, e = pageSize(q); e != nil {
		return nil, e
	}
	// What is listed comes after this: a key, or all keys that begin with a common prefix.
	after, wasPrefix := l.StartAfter, false
	if l.ContinuationToken != "" {
		mine, ok := strings.CutPrefix(l.ContinuationToken, tokenMark)
		raw, err := base64.StdEncoding.DecodeString(mine)
		if !ok || err != nil || len(raw) == 0 {
			return nil, badArgument("continuation-token", l.ContinuationToken, "The continuation token is wrong.")
		}
		after, wasPrefix = string(raw[1:]), raw[0] == 'p'
	}
	s.walk(b, l, after, wasPrefix)
	l.KeyCount = len(l.Contents) + len(l.CommonPrefixes)
	if l.EncodingType == "url" {
		for _, p := range []*string{&l.Prefix, &l.Delimiter, &l.StartAfter, &l.NextContinuationToken} {
			*p = escape(*p)
		}
		for i := range l.Contents {
			l.Contents[i].Key = escape(l.Contents[i].Key)
		}
		for i := range l.CommonPrefixes {
			l.CommonPrefixes[i].Prefix = escape(l.CommonPrefixes[i].Prefix)
		}
	}
	return xmlReply(l)
}

// xmlReply answers with a document.
func xmlReply(v any) (*reply, *apiError) {
	doc, err := xml.Marshal(v)
	if err != nil {
		return nil, fail(http.StatusInternalServerError, "InternalError", err.Error(), "")
	}
	r := newReply(http.StatusOK)
	r.header.Set("Content-Type", "application/xml")
	doc = append([]byte(xml.Header), doc...)
	r.setBody(Bytes(doc), 0, int64(len(doc)))
	return r, nil
}

// cursor goes through the keys of a bucket, stored and virtual ones, in the order of their bytes.
type cursor struct {
	s      *Server
	stored []string
	v      *virtual
	i, j   int     // the next key of each
	made   *Object // the j-th virtual object
}

// cursor must be called without the server's lock, and used with it.
func (s *Server) cursor(b *bucket) *cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &cursor{s: s, stored: b.sortedKeys(), v: b.virtual}
}

// seek goes to the first key that is not less.
func (c *cursor) seek(key string) {
	c.i = sort.SearchStrings(c.stored, key)
	c.produce(c.v.search(key))
}

func (c *cursor) produce(at int) {
	c.j, c.made = at, nil
	if at < c.v.len() {
		c.made = c.v.object(c.s, at, false)
	}
}

// next returns a key, and the object if it is virtual. A stored one may have been deleted since.
func (c *cursor) next() (key string, made *Object, ok bool) {
	if c.i == len(c.stored) && c.made == nil {
		return "", nil, false
	}
	if c.i == len(c.stored) || c.made != nil && c.made.Key < c.stored[c.i] {
		made = c.made
		c.produce(c.j + 1)
		return made.Key, made, true
	}
	key = c.stored[c.i]
	c.i++
	if c.made != nil && c.made.Key == key {
		c.produce(c.j + 1) // hidden by the stored one
	}
	return key, nil, true
}

// walk fills one page.
func (s *Server) walk(b *bucket, l *listing, after string, wasPrefix bool) {
	c := s.cursor(b)
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case wasPrefix && after >= l.Prefix:
		c.seek(beyond(after))
	case after >= l.Prefix && after != "":
		c.seek(after + "\x00")
	default:
		c.seek(l.Prefix)
	}
	for {
		key, o, ok := c.next()
		if !ok || !strings.HasPrefix(key, l.Prefix) {
			return
		}
		if o == nil {
			o = b.find(s, key, "")
		}
		if o == nil || o.Marker {
			continue
		}
		if len(l.Contents)+len(l.CommonPrefixes) == l.MaxKeys {
			l.IsTruncated = true
			l.NextContinuationToken = tokenMark + base64.StdEncoding.EncodeToString([]byte(token(l)))
			return
		}
		if common, ok := commonPrefix(key, l.Prefix, l.Delimiter); ok {
			l.CommonPrefixes = append(l.CommonPrefixes, listedPrefix{common})
			c.seek(beyond(common))
			continue
		}
		_, restoreInfo := s.archiveState(o)
		l.Contents = append(l.Contents, listed1{
			Key: key, LastModified: iso(o.LastModified), ETag: o.ETag, Type: o.Type, Size: o.Size(),
			StorageClass: o.Class, RestoreInfo: restoreInfo,
		})
	}
}

// commonPrefix is what the key is listed as, if not by itself.
func commonPrefix(key, prefix, delimiter string) (string, bool) {
	rest, ok := strings.CutPrefix(key, prefix)
	if !ok || delimiter == "" {
		return "", false
	}
	at := strings.Index(rest, delimiter)
	if at < 0 {
		return "", false
	}
	return key[:len(prefix)+at+len(delimiter)], true
}

// tokenMark begins every token, so that none is the same escaped and plain, or in a query that is not escaped.
const tokenMark = "+/%2B="

// token names the last entry of a page.
func token(l *listing) string {
	var key, prefix string
	if n := len(l.Contents); n > 0 {
		key = l.Contents[n-1].Key
	}
	if n := len(l.CommonPrefixes); n > 0 {
		prefix = l.CommonPrefixes[n-1].Prefix
	}
	if prefix > key {
		return "p" + prefix
	}
	return "k" + key
}

// beyond is the first string after all those that begin with prefix.
func beyond(prefix string) string {
	b := []byte(prefix)
	for len(b) > 0 {
		if b[len(b)-1] < 0xff {
			b[len(b)-1]++
			return string(b)
		}
		b = b[:len(b)-1]
	}
	return "\xff\xff\xff\xff" // no key is as great: keys are UTF-8
}
