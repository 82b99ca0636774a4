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

// list answers ListObjectsV2.
func (s *Server) list(q *query, b *bucket) (*reply, *apiError) {
	if q.get("list-type") != "2" {
		return nil, fail(http.StatusNotImplemented, "NotImplemented", "Of the requests to a bucket only ListObjectsV2 is imitated.", "")
	}
	l := &listing{
		Name: b.name, Prefix: q.get("prefix"), Delimiter: q.get("delimiter"), StartAfter: q.get("start-after"),
		ContinuationToken: q.get("continuation-token"), EncodingType: q.get("encoding-type"), MaxKeys: 100,
	}
	if v, ok := q.value("max-keys"); ok {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > 1000 {
			return nil, badArgument("max-keys", v, "max-keys must be 1 to 1000.")
		}
		l.MaxKeys = n
	}
	if l.EncodingType != "" && l.EncodingType != "url" {
		return nil, badArgument("encoding-type", l.EncodingType, "encoding-type must be url.")
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

// walk fills one page.
func (s *Server) walk(b *bucket, l *listing, after string, wasPrefix bool) {
	s.mu.Lock()
	stored, v := b.sortedKeys(), b.virtual
	s.mu.Unlock()
	s.mu.RLock()
	defer s.mu.RUnlock()
	// Two sorted sequences are merged; i and j stand on the next key of each.
	i, j := 0, 0
	var made *Object // the j-th virtual object
	produce := func(at int) {
		j, made = at, nil
		if j < v.len() {
			made = v.object(s, j, false)
		}
	}
	seek := func(key string) {
		i = sort.SearchStrings(stored, key)
		produce(v.search(key))
	}
	switch {
	case wasPrefix && after >= l.Prefix:
		seek(beyond(after))
	case after >= l.Prefix && after != "":
		seek(after + "\x00")
	default:
		seek(l.Prefix)
	}
	for i < len(stored) || made != nil {
		var o *Object
		var key string
		if i < len(stored) && (made == nil || stored[i] <= made.Key) {
			key = stored[i]
			o = b.find(s, key, "") // nil: deleted since
			if made != nil && made.Key == key {
				produce(j + 1) // hidden by the stored one
			}
			i++
		} else {
			o, key = made, made.Key
			produce(j + 1)
		}
		if !strings.HasPrefix(key, l.Prefix) {
			return
		}
		if o == nil || o.Marker {
			continue
		}
		if len(l.Contents)+len(l.CommonPrefixes) == l.MaxKeys {
			l.IsTruncated = true
			l.NextContinuationToken = tokenMark + base64.StdEncoding.EncodeToString([]byte(token(l)))
			return
		}
		if l.Delimiter != "" {
			rest := key[len(l.Prefix):]
			if at := strings.Index(rest, l.Delimiter); at >= 0 {
				common := key[:len(l.Prefix)+at+len(l.Delimiter)]
				l.CommonPrefixes = append(l.CommonPrefixes, listedPrefix{common})
				seek(beyond(common))
				continue
			}
		}
		_, restoreInfo := s.frost(o)
		l.Contents = append(l.Contents, listed1{
			Key: key, LastModified: iso(o.LastModified), ETag: o.ETag, Type: o.Type, Size: o.Size(),
			StorageClass: o.Class, RestoreInfo: restoreInfo,
		})
	}
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
