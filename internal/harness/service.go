package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ossdl/ossdl/internal/crc64"
)

// Service is OSS as one bucket, without a network. A body comes a piece at a time, with a pause before each.
type Service struct {
	Objects map[string][]byte // by key
	Sealed  map[string]Sealer // how objects are encrypted that are
	Piece   int               // bytes
	Flip    int64             // changes the byte at this offset, less one, of the first answer that has it; 0: none
	flipped atomic.Bool

	Requests, Open atomic.Int64 // Open: bodies not closed
	Sent           atomic.Int64 // bytes of objects that were read
}

// ServicePause passes before each head and each piece of a body.
const ServicePause = 200 * time.Millisecond

// RoundTrip implements http.RoundTripper.
func (s *Service) RoundTrip(r *http.Request) (*http.Response, error) {
	s.Requests.Add(1)
	if err := Pass(r.Context(), ServicePause); err != nil {
		return nil, err
	}
	if r.URL.Path == "/" {
		return s.List(r), nil
	}
	content := s.Objects[r.URL.Path[1:]]
	sealer, sealed := s.Sealed[r.URL.Path[1:]]
	if sealed {
		content = sealer.Seal(content)
	}
	crc := crc64.Update(0, content)
	etag := fmt.Sprintf(`"%016X"`, crc)
	switch given := r.Header.Get("If-Match"); {
	case strings.ContainsFunc(given, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }): // what a Transport says
		return nil, errors.New(`net/http: invalid header field value for "If-Match"`)
	case len(given) > 8<<10:
		return s.refuse(r, http.StatusBadRequest, "InvalidArgument"), nil
	case given != "" && given != etag:
		return s.refuse(r, http.StatusPreconditionFailed, "PreconditionFailed"), nil
	}
	var off, last int64
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &off, &last); err != nil {
		return nil, fmt.Errorf("the service wants a range: %w", err)
	}
	end := min(last+1, int64(len(content)))
	body := content[off:end]
	if at := s.Flip - 1; at >= off && at < end && !s.flipped.Swap(true) {
		body = bytes.Clone(body)
		body[at-off] ^= 1
	}
	header := map[string]string{
		"Content-Range":        fmt.Sprintf("bytes %d-%d/%d", off, end-1, len(content)),
		"ETag":                 etag,
		"X-Oss-Hash-Crc64ecma": strconv.FormatUint(crc, 10),
		"Last-Modified":        ServiceTime.Format(http.TimeFormat),
	}
	if sealed {
		for name, value := range sealer.Meta() {
			header["X-Oss-Meta-"+name] = value
		}
	}
	return s.Answer(r, http.StatusPartialContent, body, header), nil
}

// refuse answers with an error document.
func (s *Service) refuse(r *http.Request, status int, code string) *http.Response {
	return s.Answer(r, status, fmt.Appendf(nil, "<Error><Code>%s</Code><RequestId>%s</RequestId></Error>", code, ServiceRequestID), nil)
}

// ServiceRequestID is in each answer.
const ServiceRequestID = "5C3D9778CC1C2AEDF85B587E"

// ServiceTime is when every object was last modified.
var ServiceTime = time.Unix(1e9, 0).UTC()

// List answers ListObjectsV2.
func (s *Service) List(r *http.Request) *http.Response {
	var doc strings.Builder
	doc.WriteString("<ListBucketResult>")
	for _, key := range slices.Sorted(maps.Keys(s.Objects)) {
		fmt.Fprintf(&doc, "<Contents><Key>%s</Key><Size>%d</Size><LastModified>%s</LastModified></Contents>",
			key, len(s.Objects[key]), ServiceTime.Format(time.RFC3339))
	}
	doc.WriteString("</ListBucketResult>")
	return s.Answer(r, http.StatusOK, []byte(doc.String()), nil)
}

// Answer makes an answer. Its body is one of an object if the status is 206.
func (s *Service) Answer(r *http.Request, status int, body []byte, header map[string]string) *http.Response {
	h := http.Header{}
	for name, value := range header {
		h.Set(name, value)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("X-Oss-Request-Id", ServiceRequestID)
	s.Open.Add(1)
	return &http.Response{
		StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h, ContentLength: int64(len(body)),
		Body: &ServiceBody{s: s, Ctx: r.Context(), rest: body, object: status == http.StatusPartialContent}, Request: r,
	}
}

// ServiceBody is the body of an answer.
type ServiceBody struct {
	s      *Service
	Ctx    context.Context
	rest   []byte
	object bool // rather than a document
	closed sync.Once
}

// Read implements io.Reader.
func (b *ServiceBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	if err := Pass(b.Ctx, ServicePause); err != nil {
		return 0, err
	}
	n := copy(p[:min(len(p), b.s.Piece)], b.rest)
	b.rest = b.rest[n:]
	if b.object {
		b.s.Sent.Add(int64(n))
	}
	return n, nil
}

// Close implements io.Closer.
func (b *ServiceBody) Close() error {
	b.closed.Do(func() { b.s.Open.Add(-1) })
	return nil
}

// Pass passes time, or ends with the context.
func Pass(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
