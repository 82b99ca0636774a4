package torture_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// chunked answers with a 200 of the whole content and no Content-Length, whatever was asked for. It breaks off after n bytes if
// that is fewer.
func chunked(w http.ResponseWriter, content []byte, n int) bool {
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	if n < len(content) {
		_, _ = w.Write(content[:n])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(content)
	return false
}

// streams answers each request with all of the content in chunks.
func (s *web) streams() {
	s.setAnswer(func(_ int, w http.ResponseWriter, _ *http.Request) bool { return chunked(w, s.content, len(s.content)) })
}

// TestFieldNoLength checks that a body in chunks, whose length nobody says, is the whole object once its last chunk has come.
func TestFieldNoLength(t *testing.T) {
	names := func(crc bool, content []byte) []http.Header {
		all := []http.Header{{}, {"Etag": {`"x"`}}, {"Last-Modified": {fieldTime}}}
		if crc {
			all = append(all, http.Header{"X-Oss-Hash-Crc64ecma": named(content)["X-Oss-Hash-Crc64ecma"]})
		}
		return all
	}
	for _, size := range []int{0, 1, lieSmall, liePart, lieSize} {
		content := harness.Bytes(t, osstest.Random(7, lieSize))[:size]
		for _, name := range names(true, content) {
			t.Run(fmt.Sprintf("%d bytes, names %v", size, name), func(t *testing.T) {
				s := newWeb(t, func(_ int, h http.Header) { setAll(h, name) })
				s.content = content
				s.streams()
				var mu sync.Mutex
				var last ossdl.Progress
				res, err := s.download(t, ossdl.WithProgress(func(p ossdl.Progress) {
					mu.Lock()
					defer mu.Unlock()
					if p.Total != 0 && p.Total != int64(size) {
						t.Errorf("%+v", p)
					}
					last = p
				}))
				if err != nil {
					t.Fatal(err)
				}
				s.mustHold(t, content)
				if verified := name["X-Oss-Hash-Crc64ecma"] != nil; res.Size != int64(size) || res.Verified != verified || res.Requests != 1 {
					t.Errorf("%+v", *res)
				}
				if last.Done != int64(size) || last.Total != int64(size) {
					t.Errorf("the last report is %+v", last)
				}
			})
		}
	}
	for _, name := range names(false, nil) {
		t.Run(fmt.Sprintf("cut twice, names %v", name), func(t *testing.T) {
			s := newWeb(t, func(_ int, h http.Header) { setAll(h, name) })
			s.setAnswer(func(n int, w http.ResponseWriter, _ *http.Request) bool {
				return chunked(w, s.content, []int{300_000, 600_000, lieSize}[min(n, 2)])
			})
			res, err := s.download(t)
			if err != nil {
				t.Fatal(err)
			}
			s.mustHold(t, s.content)
			if res.Size != lieSize || res.Requests != 3 {
				t.Errorf("%+v", *res)
			}
		})
		t.Run(fmt.Sprintf("cut, and then with a length, names %v", name), func(t *testing.T) {
			s := newWeb(t, func(_ int, h http.Header) { setAll(h, name) })
			s.setAnswer(func(n int, w http.ResponseWriter, _ *http.Request) bool {
				return n > 0 || chunked(w, s.content, 300_000)
			})
			if _, err := s.download(t); err != nil {
				t.Fatal(err)
			}
			s.mustHold(t, s.content)
		})
		t.Run(fmt.Sprintf("always cut, names %v", name), func(t *testing.T) {
			s := newWeb(t, func(_ int, h http.Header) { setAll(h, name) })
			s.setAnswer(func(_ int, w http.ResponseWriter, _ *http.Request) bool { return chunked(w, s.content, 300_000) })
			_, err := s.download(t)
			var pe *ossdl.PartError
			if !errors.As(err, &pe) || pe.Size != -1 || pe.Offset != 300_000 || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("error %v", err)
			}
			harness.NoLeftovers(t, s.path)
		})
		t.Run(fmt.Sprintf("another one after a cut, names %v", name), func(t *testing.T) {
			s := newWeb(t, func(n int, h http.Header) {
				setAll(h, name)
				if n > 0 && len(name) > 0 {
					setAll(h, http.Header{"Etag": {`"y"`}, "Last-Modified": {"Tue, 03 Jan 2023 03:04:05 GMT"}})
				}
			})
			other := harness.Bytes(t, osstest.Random(8, lieSize))
			s.setAnswer(func(n int, w http.ResponseWriter, _ *http.Request) bool {
				if n == 0 {
					return chunked(w, s.content, 300_000)
				}
				return chunked(w, other, lieSize)
			})
			if _, err := s.download(t); !errors.Is(err, ossdl.ErrObjectChanged) {
				t.Errorf("error %v", err)
			}
			harness.NoLeftovers(t, s.path)
		})
	}
	// What does not identify bytes may be the same for other bytes.
	for _, name := range []http.Header{{"Last-Modified": {fieldTime}}, {"Etag": {`W/"x"`}}, {"Etag": {`W/"x"`}, "Last-Modified": {fieldTime}}} {
		other := harness.Bytes(t, osstest.Random(8, lieSize))
		for rest, answer := range map[string]func(http.ResponseWriter) bool{
			"in chunks": func(w http.ResponseWriter) bool { return chunked(w, other, lieSize) },
			"with a length": func(w http.ResponseWriter) bool {
				w.Header().Set("Content-Length", strconv.Itoa(lieSize))
				_, _ = w.Write(other)
				return false
			},
		} {
			cutOnce := func(t *testing.T) *web {
				s := newWeb(t, func(_ int, h http.Header) { setAll(h, name) })
				s.setAnswer(func(n int, w http.ResponseWriter, _ *http.Request) bool {
					if n == 0 {
						return chunked(w, s.content, 300_000)
					}
					return answer(w)
				})
				return s
			}
			t.Run(fmt.Sprintf("other bytes after a cut, %s, names %v", rest, name), func(t *testing.T) {
				s := cutOnce(t)
				if _, err := s.download(t); !errors.Is(err, ossdl.ErrObjectChanged) {
					t.Errorf("error %v", err)
				}
				harness.NoLeftovers(t, s.path)
			})
			t.Run(fmt.Sprintf("other bytes after a cut, read, %s, names %v", rest, name), func(t *testing.T) {
				s := cutOnce(t)
				r, err := harness.NewURLDownloader(t, ossdl.WithRetry(lieRetry)).OpenURL(t.Context(), s.URL+"/key")
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if got, err := io.ReadAll(r); !errors.Is(err, ossdl.ErrObjectChanged) || !bytes.HasPrefix(s.content, got) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
	}
	for _, name := range []http.Header{{"Etag": {`"x"`}}, {"Etag": {`W/"x"`}}, {"Last-Modified": {fieldTime}}} {
		for _, other := range []bool{false, true} {
			if other && name.Get("Etag") == `"x"` {
				continue // other bytes have another strong ETag
			}
			t.Run(fmt.Sprintf("on resume, names %v, other bytes %t", name, other), func(t *testing.T) {
				s := newWeb(t, func(_ int, h http.Header) { setAll(h, name) })
				kept := s.interrupt(t, true)
				if other { // the size would not show it
					s.content, kept = harness.Bytes(t, osstest.Random(8, lieSize)), 0
				}
				s.streams()
				res, err := s.download(t)
				if err != nil {
					t.Fatal(err)
				}
				s.mustHold(t, s.content)
				if res.ResumedBytes != kept {
					t.Errorf("%d bytes resumed of %d", res.ResumedBytes, kept)
				}
			})
		}
		t.Run(fmt.Sprintf("cut after a length was said, names %v", name), func(t *testing.T) {
			for _, same := range []bool{true, false} {
				if !same && name.Get("Etag") == `"x"` {
					continue
				}
				s := newWeb(t, func(_ int, h http.Header) { setAll(h, name) })
				rest := s.content
				if !same {
					rest = harness.Bytes(t, osstest.Random(8, lieSize))
				}
				s.setAnswer(func(n int, w http.ResponseWriter, r *http.Request) bool {
					if r.Header.Del("Range"); n == 0 {
						cut(w, r, s.content, 300_000)
					}
					return chunked(w, rest, lieSize)
				})
				_, err := s.download(t)
				switch {
				case same && err != nil:
					t.Error(err)
				case same:
					s.mustHold(t, s.content)
				case !errors.Is(err, ossdl.ErrObjectChanged):
					t.Errorf("error %v", err)
				}
			}
		})
	}
	t.Run("with a digest", func(t *testing.T) {
		s := newWeb(t, func(int, http.Header) {})
		s.streams()
		want := sha256.Sum256(s.content)
		res, err := s.download(t, ossdl.WithChecksum(func() hash.Hash { return sha256.New() }, want[:]))
		if err != nil || !res.Verified {
			t.Fatalf("%+v, %v", res, err)
		}
		want[0]++
		if err := os.Remove(s.path); err != nil {
			t.Fatal(err)
		}
		if _, err := s.download(t, ossdl.WithChecksum(func() hash.Hash { return sha256.New() }, want[:])); !errors.Is(err, ossdl.ErrChecksum) {
			t.Errorf("error %v", err)
		}
		harness.NoLeftovers(t, s.path)
	})
}

// TestFieldNoLengthRange checks ranges of an object whose length nobody says.
func TestFieldNoLengthRange(t *testing.T) {
	for _, c := range []struct {
		offset, length int64
		outside        bool
	}{
		{liePart + 1, 3 * liePart, false}, {liePart + 1, -1, false}, {0, lieSize, false}, {lieSize - 1, 1, false},
		{liePart, lieSize, true}, {lieSize, 1, true}, {lieSize, -1, true}, {2 * lieSize, -1, true},
	} {
		t.Run(fmt.Sprintf("%d bytes from %d on", c.length, c.offset), func(t *testing.T) {
			s := newWeb(t, func(int, http.Header) {})
			s.streams()
			_, err := s.download(t, ossdl.WithRange(c.offset, c.length))
			switch {
			case c.outside && !errors.Is(err, ossdl.ErrRange):
				t.Errorf("error %v", err)
			case c.outside:
				harness.NoLeftovers(t, s.path)
			case err != nil:
				t.Error(err)
			case c.length < 0:
				s.mustHold(t, s.content[c.offset:])
			default:
				s.mustHold(t, s.content[c.offset:c.offset+c.length])
			}
		})
	}
}

// TestFieldNoLengthRead checks that a Reader of an object whose length nobody says ends where the object does, with little
// memory.
func TestFieldNoLengthRead(t *testing.T) {
	for _, size := range []int{0, lieSmall, 6 << 20} {
		t.Run(fmt.Sprintf("%d bytes", size), func(t *testing.T) {
			s := newWeb(t, func(int, http.Header) {})
			s.content = harness.Bytes(t, osstest.Random(7, int64(size)))
			s.streams()
			d := harness.NewURLDownloader(t, ossdl.WithRetry(lieRetry))
			r, err := d.OpenURL(t.Context(), s.URL+"/key", ossdl.WithReadAhead(2<<20))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, s.content) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if res := r.Result(); r.Size() != int64(size) || res == nil || res.Size != int64(size) {
				t.Errorf("size %d, %+v", r.Size(), res)
			}
		})
	}
	t.Run("cut", func(t *testing.T) {
		s := newWeb(t, func(int, http.Header) {})
		s.setAnswer(func(_ int, w http.ResponseWriter, _ *http.Request) bool { return chunked(w, s.content, 300_000) })
		d := harness.NewURLDownloader(t, ossdl.WithRetry(lieRetry))
		r, err := d.OpenURL(t.Context(), s.URL+"/key")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if got, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) || len(got) != 300_000 || r.Size() != -1 {
			t.Errorf("%d bytes of %d, %v", len(got), r.Size(), err)
		}
	})
}
