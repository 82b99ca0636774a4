package osstest

import (
	"net/http"
	"strconv"
	"time"
)

// Append makes the object's current version longer, as an append to an Appendable object does. The ETag changes.
func (s *Server) Append(bucket, key string, more []byte) *Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mustBucket(bucket).change(key, "", func(o *Object) { s.grow(o, more) })
}

// grow appends to an object that nobody else has yet.
func (s *Server) grow(o *Object, more []byte) {
	whole := make([]byte, o.Size(), o.Size()+int64(len(more)))
	_, _ = o.Content.ReadAt(whole, 0) // io.EOF at its end
	o.Content = Bytes(append(whole, more...))
	if o.Type != "Appendable" || !s.quirk(AppendKeepsETag) {
		o.ETag = ""
	}
	o.Type, o.md5, o.LastModified = "Appendable", "", time.Time{}
	if o.CRC != "" {
		o.CRC = "auto"
	}
	s.finish(o)
}

// append answers AppendObject.
func (s *Server) append(q *query, b *bucket) (*reply, *apiError) {
	if e := onlyParameters(q, "append", "position"); e != nil {
		return nil, e
	}
	position, err := strconv.ParseInt(q.get("position"), 10, 64)
	if err != nil || position < 0 {
		e := badArgument("position", q.get("position"), "The position must be the length of the object.")
		if !q.has("position") {
			e.ec = "0016-00000501"
		}
		return nil, e
	}
	more, e := s.readBody(q)
	if e != nil {
		return nil, e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := b.find(s, q.key, "")
	switch {
	case o != nil && o.Type != "Appendable":
		return nil, fail(http.StatusConflict, "ObjectNotAppendable", "The object is not appendable", "")
	case o == nil && position != 0:
		return nil, wrongPosition(0)
	case o == nil:
		o = &Object{Key: q.key, Content: Bytes(more), CRC: "auto", Type: "Appendable"}
		for _, opt := range storedOptions(q.req.Header) {
			opt(o)
		}
		s.finish(o)
		b.store(o, s)
	case position != o.Size():
		return nil, wrongPosition(o.Size())
	case len(more) > 0:
		// Not a new version, and with the headers of the first append.
		o = b.change(q.key, "", func(o *Object) { s.grow(o, more) })
	}
	r := newReply(http.StatusOK)
	r.setBody(Bytes(nil), 0, 0)
	r.header.Set("Etag", o.ETag)
	r.header.Set("X-Oss-Next-Append-Position", strconv.FormatInt(o.Size(), 10))
	r.header.Set("X-Oss-Hash-Crc64ecma", strconv.FormatUint(o.CRC64(), 10))
	if o.VersionID != "" {
		r.header.Set("X-Oss-Version-Id", o.VersionID)
	}
	return r, nil
}

func wrongPosition(size int64) *apiError {
	e := fail(http.StatusConflict, "PositionNotEqualToLength", "Position is not equal to file length", "")
	e.header = append(e.header, [2]string{"X-Oss-Next-Append-Position", strconv.FormatInt(size, 10)})
	return e
}
