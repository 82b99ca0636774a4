package osstest

import (
	"crypto/md5"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// put stores the body of a request.
func (s *Server) put(q *query, b *bucket) (*reply, *apiError) {
	if q.has("uploadId") {
		return s.putPart(q, b)
	}
	if e := onlyParameters(q); e != nil {
		return nil, e
	}
	body, e := s.readBody(q)
	if e != nil {
		return nil, e
	}
	o := s.Put(b.name, q.key, Bytes(body), storedOptions(q.req.Header)...)
	r := newReply(http.StatusOK)
	r.header.Set("Etag", o.ETag)
	r.header.Set("X-Oss-Hash-Crc64ecma", strconv.FormatUint(o.CRC64(), 10))
	r.header.Set("Content-Md5", o.md5)
	if o.md5 == "" {
		r.header.Del("Content-Md5")
	}
	if o.VersionID != "" {
		r.header.Set("X-Oss-Version-Id", o.VersionID)
	}
	return r, nil
}

// storedOptions are the properties that a request gives the object.
func storedOptions(h http.Header) []ObjectOption {
	opts := []ObjectOption{
		ContentType(h.Get("Content-Type")), StoredEncoding(h.Get("Content-Encoding")), StorageClass(h.Get("X-Oss-Storage-Class")),
	}
	for k, v := range h {
		if name, ok := strings.CutPrefix(k, "X-Oss-Meta-"); ok {
			opts = append(opts, Meta(name, v[0]))
		}
	}
	return opts
}

// readBody reads the whole body, and checks it against its MD5.
func (s *Server) readBody(q *query) ([]byte, *apiError) {
	if q.req.ContentLength > s.cfg.maxPut {
		return nil, fail(http.StatusBadRequest, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.", "")
	}
	if strings.EqualFold(q.req.Header.Get("Expect"), "100-continue") {
		if err := q.conn.write([]byte("HTTP/1.1 100 Continue\r\n\r\n")); err != nil {
			return nil, fail(http.StatusBadRequest, "RequestTimeout", "The connection broke.", "")
		}
		q.conn.continued = true
	}
	body, err := io.ReadAll(io.LimitReader(q.req.Body, s.cfg.maxPut+1))
	if err != nil || int64(len(body)) > s.cfg.maxPut {
		q.close = true
		return nil, fail(http.StatusBadRequest, "IncompleteBody", "The body is not as long as was said, or too long.", "")
	}
	if want := q.req.Header.Get("Content-Md5"); want != "" {
		if sum := md5.Sum(body); base64std(sum[:]) != want {
			return nil, fail(http.StatusBadRequest, "InvalidDigest", "The Content-MD5 you specified was invalid.", "0017-00000102")
		}
	}
	return body, nil
}

// post answers the operations on an object that are a POST.
func (s *Server) post(q *query, b *bucket) (*reply, *apiError) {
	switch {
	case q.has("restore"):
		return s.restore(q, b)
	case q.has("append"):
		return s.append(q, b)
	case q.has("uploads"):
		return s.initiate(q, b)
	case q.has("uploadId"):
		return s.complete(q, b)
	}
	return nil, fail(http.StatusNotImplemented, "NotImplemented", "This POST is not imitated.", "")
}

// delete removes an object or a version; what is not there is no error.
func (s *Server) delete(q *query, b *bucket) (*reply, *apiError) {
	if q.has("uploadId") {
		return s.abortUpload(q, b)
	}
	if e := onlyParameters(q, "versionId"); e != nil {
		return nil, e
	}
	r := newReply(http.StatusNoContent)
	r.bodiless, r.declared = true, undeclared
	if version, ok := q.value("versionId"); ok {
		s.DeleteVersion(b.name, q.key, version)
		r.header.Set("X-Oss-Version-Id", version)
	} else if marker := s.Delete(b.name, q.key); marker != "" {
		r.header.Set("X-Oss-Version-Id", marker)
		r.header.Set("X-Oss-Delete-Marker", "true")
	}
	return r, nil
}

// onlyParameters refuses sub-resources, which mean another operation than the plain one.
func onlyParameters(q *query, allowed ...string) *apiError {
	for _, p := range q.values {
		if signedParameter(p.key) && !authParameter(p.key) && !slices.Contains(allowed, p.key) {
			return fail(http.StatusNotImplemented, "NotImplemented", fmt.Sprintf("%s ?%s is not imitated.", q.method, p.key), "")
		}
	}
	return nil
}
