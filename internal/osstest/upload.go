package osstest

import (
	"bytes"
	"crypto/md5"
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// upload is a multipart upload under way.
type upload struct {
	key   string
	opts  []ObjectOption // of the request that began it
	parts map[int]*part
	most  int64 // parts that may be completed; 0: no bound
}

type part struct {
	data []byte
	etag string
}

const (
	maxParts = 10000
	minPart  = 100 << 10 // of all but the last
)

// initiate answers InitiateMultipartUpload.
func (s *Server) initiate(q *query, b *bucket) (*reply, *apiError) {
	if e := onlyParameters(q, "uploads", "sequential"); e != nil {
		return nil, e
	}
	if _, e := s.readBody(q); e != nil {
		return nil, e
	}
	u := &upload{key: q.key, opts: storedOptions(q.req.Header), parts: map[int]*part{}, most: encryptedParts(q.req.Header)}
	id := fmt.Sprintf("%032X", s.serial.Add(1))
	s.mu.Lock()
	b.uploads[id] = u
	s.mu.Unlock()
	key := q.key
	if q.get("encoding-type") == "url" {
		key = escape(key)
	}
	return xmlReply(struct {
		XMLName      xml.Name `xml:"InitiateMultipartUploadResult"`
		Bucket, Key  string
		UploadID     string `xml:"UploadId"`
		EncodingType string `xml:",omitempty"`
	}{Bucket: b.name, Key: key, UploadID: id, EncodingType: q.get("encoding-type")})
}

// encryptedParts is how many parts an upload that was encrypted by its client has, by the sizes in its headers.
func encryptedParts(h http.Header) int64 {
	size := func(name string) int64 {
		n, err := strconv.ParseInt(h.Get("X-Oss-Meta-Client-Side-Encryption-"+name), 10, 64)
		if err != nil || n < 1 {
			return 0
		}
		return n
	}
	data, part := size("Data-Size"), size("Part-Size")
	if data == 0 || part == 0 {
		return 0
	}
	return (data-1)/part + 1
}

// findUpload returns the upload that the request names. The server's lock must be held.
func (b *bucket) findUpload(q *query) (*upload, *apiError) {
	id := q.get("uploadId")
	if u := b.uploads[id]; u != nil && u.key == q.key {
		return u, nil
	}
	return nil, fail(http.StatusNotFound, "NoSuchUpload",
		"The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.", "",
		[2]string{"UploadId", id})
}

// putPart answers UploadPart.
func (s *Server) putPart(q *query, b *bucket) (*reply, *apiError) {
	if e := onlyParameters(q, "uploadId", "partNumber"); e != nil {
		return nil, e
	}
	n, err := strconv.Atoi(q.get("partNumber"))
	if err != nil || n < 1 || n > maxParts {
		return nil, badArgument("partNumber", q.get("partNumber"), "Part number must be an integer between 1 and 10000, inclusive.")
	}
	body, e := s.readBody(q)
	if e != nil {
		return nil, e
	}
	sum := md5.Sum(body)
	p := &part{data: body, etag: fmt.Sprintf(`"%X"`, sum)}
	s.mu.Lock()
	defer s.mu.Unlock()
	u, e := b.findUpload(q)
	if e != nil {
		return nil, e
	}
	u.parts[n] = p
	r := newReply(http.StatusOK)
	r.header.Set("Etag", p.etag)
	r.header.Set("Content-Md5", base64std(sum[:]))
	r.header.Set("X-Oss-Hash-Crc64ecma", strconv.FormatUint(Bytes(body).CRC64(), 10))
	return r, nil
}

// complete answers CompleteMultipartUpload.
func (s *Server) complete(q *query, b *bucket) (*reply, *apiError) {
	if e := onlyParameters(q, "uploadId"); e != nil {
		return nil, e
	}
	body, e := s.readBody(q)
	if e != nil {
		return nil, e
	}
	var asked struct {
		XMLName xml.Name `xml:"CompleteMultipartUpload"`
		Part    []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := xml.Unmarshal(body, &asked); err != nil || len(asked.Part) == 0 {
		return nil, fail(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema.", "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	u, e := b.findUpload(q)
	if e != nil {
		return nil, e
	}
	if u.most > 0 && int64(len(asked.Part)) > u.most {
		return nil, fail(http.StatusBadRequest, "InvalidArgument", "The number of parts is larger than expected by the sizes of the client-side encryption.", "0005-00000411")
	}
	var whole bytes.Buffer
	sums := md5.New()
	for i, a := range asked.Part {
		p := u.parts[a.PartNumber]
		switch {
		case i > 0 && a.PartNumber <= asked.Part[i-1].PartNumber:
			return nil, fail(http.StatusBadRequest, "InvalidPartOrder", "The list of parts was not in ascending order. Parts list must specified in order by part number.", "")
		case p == nil || strings.Trim(a.ETag, `"`) != strings.Trim(p.etag, `"`):
			return nil, fail(http.StatusBadRequest, "InvalidPart", "One or more of the specified parts could not be found or the specified entity tag might not have matched the part's entity tag.", "",
				[2]string{"PartNumber", strconv.Itoa(a.PartNumber)})
		case i < len(asked.Part)-1 && len(p.data) < minPart:
			return nil, fail(http.StatusBadRequest, "EntityTooSmall", "Your proposed upload smaller than the minimum allowed size.", "",
				[2]string{"MinSizeAllowed", strconv.Itoa(minPart)}, [2]string{"PartNumber", strconv.Itoa(a.PartNumber)})
		}
		whole.Write(p.data)
		sums.Write([]byte(p.etag))
	}
	o := &Object{Key: u.key, Content: Bytes(whole.Bytes()), CRC: "auto", Type: "Multipart", ETag: fmt.Sprintf(`"%X-%d"`, sums.Sum(nil), len(asked.Part))}
	for _, opt := range u.opts {
		opt(o)
	}
	s.finish(o)
	b.store(o, s)
	delete(b.uploads, q.get("uploadId"))
	return s.completed(q, b, o)
}

func (s *Server) completed(q *query, b *bucket, o *Object) (*reply, *apiError) {
	key := o.Key
	if q.get("encoding-type") == "url" {
		key = escape(key)
	}
	r, e := xmlReply(struct {
		XMLName                     xml.Name `xml:"CompleteMultipartUploadResult"`
		Location, Bucket, Key, ETag string
		EncodingType                string `xml:",omitempty"`
	}{Location: s.URL(b.name, o.Key), Bucket: b.name, Key: key, ETag: o.ETag, EncodingType: q.get("encoding-type")})
	if e != nil {
		return nil, e
	}
	r.header.Set("Etag", o.ETag)
	r.header.Set("X-Oss-Hash-Crc64ecma", strconv.FormatUint(o.CRC64(), 10))
	if o.VersionID != "" {
		r.header.Set("X-Oss-Version-Id", o.VersionID)
	}
	return r, nil
}

// abortUpload answers AbortMultipartUpload.
func (s *Server) abortUpload(q *query, b *bucket) (*reply, *apiError) {
	if e := onlyParameters(q, "uploadId"); e != nil {
		return nil, e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, e := b.findUpload(q); e != nil {
		return nil, e
	}
	delete(b.uploads, q.get("uploadId"))
	r := newReply(http.StatusNoContent)
	r.bodiless, r.declared = true, undeclared
	return r, nil
}

// Uploads is the number of multipart uploads of a bucket that are neither completed nor aborted.
func (s *Server) Uploads(bucket string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.mustBucket(bucket).uploads)
}
