package torture_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/crc64"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
	"github.com/ossdl/ossdl/internal/osstest"
)

// The tests of the files field_*_test.go are about what was met in the field: servers, proxies and caches that keep to the
// protocol only in part, without being at fault all the time.

// web is a web server that is not OSS, with one object. It serves ranges and conditions as net/http does.
type web struct {
	*httptest.Server
	content []byte
	path    string

	mu       sync.Mutex
	asked    []http.Header // of the requests since the last reset
	inFlight int
	most     int // requests in flight at once
	// answer is called with the number of each request. It returns false if it has answered. Otherwise the headers that it
	// has set are sent with the bytes asked for.
	answer func(n int, w http.ResponseWriter, r *http.Request) bool
}

// newWeb starts a server whose object has the names that name sets in the answer to the n-th request.
func newWeb(t *testing.T, name func(n int, h http.Header)) *web {
	t.Helper()
	harness.Tried.Add("cases from the field", 1)
	s := &web{content: harness.Bytes(t, osstest.Random(7, lieSize)), path: filepath.Join(t.TempDir(), "file")}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		n := len(s.asked)
		s.asked = append(s.asked, r.Header.Clone())
		if n > 0 { // the body of the first answer may be given up, which the server does not notice at once
			s.inFlight++
			s.most = max(s.most, s.inFlight)
		}
		answer := s.answer
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if n > 0 {
				s.inFlight--
			}
		}()
		name(n, w.Header())
		if answer == nil || answer(n, w, r) {
			serve(w, r, s.content)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// serve answers with the bytes asked for. The time is the one that the header says, if any.
func serve(w http.ResponseWriter, r *http.Request, content []byte) {
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// setAnswer changes what the server does, and forgets what was asked until now.
func (s *web) setAnswer(fn func(n int, w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer, s.asked, s.most = fn, nil, 0
}

func (s *web) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func (s *web) download(t *testing.T, opts ...ossdl.Option) (*ossdl.Result, error) {
	t.Helper()
	d := harness.NewURLDownloader(t, ossdl.WithPartSize(liePart), ossdl.WithConcurrency(lieWorkers), ossdl.WithRetry(lieRetry))
	return d.DownloadURL(t.Context(), s.URL+"/key", s.path, opts...)
}

// mustHold asks that the file at the path has this content.
func (s *web) mustHold(t *testing.T, want []byte) {
	t.Helper()
	got, err := os.ReadFile(s.path)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the file has %d bytes, %v, and is not the one that it should be (%d bytes)", len(got), err, len(want))
	}
}

// interrupt makes a run that gets some bytes and is then refused.
func (s *web) interrupt(t *testing.T, ranges bool) (kept int64) {
	t.Helper()
	broken := false
	s.setAnswer(func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if !ranges {
			r.Header.Del("Range")
			if broken {
				http.Error(w, "no", http.StatusForbidden)
				return false
			}
			broken = r.Header.Get("If-Match") == ""
			cut(w, r, s.content, lieKept)
			return false
		}
		if start := rangeStart(r); start >= lieKept {
			http.Error(w, "no", http.StatusForbidden)
			return false
		}
		return true
	})
	if _, err := s.download(t, ossdl.WithConcurrency(1)); err == nil {
		t.Fatal("the run that was to be interrupted completed")
	}
	s.setAnswer(nil)
	return s.claimed(t)
}

// claimed returns how many bytes the checkpoint claims.
func (s *web) claimed(t *testing.T) (sum int64) {
	t.Helper()
	data, err := os.ReadFile(s.path + harness.CheckpointSuffix)
	if err != nil {
		t.Fatal(err)
	}
	cp, err := checkpoints.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range cp.Parts {
		sum += p.Done
	}
	return sum
}

// rangeStart returns the first byte that is asked for.
func rangeStart(r *http.Request) int64 {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-")
	n, _ := strconv.ParseInt(first, 10, 64)
	return n
}

// cut sends n bytes of the answer and breaks the connection.
func cut(w http.ResponseWriter, r *http.Request, content []byte, n int) {
	serve(&cutWriter{ResponseWriter: w, left: n}, r, content)
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(b []byte) (int, error) {
	if len(b) < w.left {
		w.left -= len(b)
		return w.ResponseWriter.Write(b)
	}
	_, _ = w.ResponseWriter.Write(b[:w.left])
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

const fieldTime = "Mon, 02 Jan 2023 03:04:05 GMT"

// named returns headers that identify an object as OSS does.
func named(content []byte) http.Header {
	return http.Header{
		"Etag": {`"5B3C1A2E053D763E1B002CC607C5A0FE"`}, "Last-Modified": {fieldTime}, "X-Oss-Request-Id": {"5C3D9175B6FC201293AD0001"},
		"X-Oss-Hash-Crc64ecma": {strconv.FormatUint(crc64.Update(0, content), 10)},
	}
}

func setAll(to, from http.Header) {
	for k, v := range from {
		to[k] = v
	}
}

// TestFieldNamelessPage checks that the page of a network that says 200 never replaces an object that is known by name: not in
// the middle of a run, and not what an earlier run left.
func TestFieldNamelessPage(t *testing.T) {
	const page = "<!DOCTYPE html><title>Sign in</title>"
	plain := func(h http.Header) http.Header {
		h = h.Clone()
		h.Del("X-Oss-Request-Id")
		h.Del("X-Oss-Hash-Crc64ecma")
		return h
	}
	oss := named(harness.Bytes(t, osstest.Random(7, lieSize)))
	onlyETag := http.Header{"Etag": {`"x"`}}
	for _, c := range []struct {
		name         string
		object, page http.Header
	}{
		{"of OSS, a bare page", oss, http.Header{}},
		{"of OSS, a page with a time", oss, http.Header{"Last-Modified": {"Tue, 03 Jan 2023 03:04:05 GMT"}}},
		{"of OSS, a page with an ETag", oss, http.Header{"Etag": {`"portal"`}}},
		{"plain, a bare page", plain(oss), http.Header{}},
		{"plain, a page with a time", plain(oss), http.Header{"Last-Modified": {"Tue, 03 Jan 2023 03:04:05 GMT"}}},
		{"with an ETag alone, a page with a time", onlyETag, http.Header{"Last-Modified": {fieldTime}}},
		{"with a time alone, a bare page", http.Header{"Last-Modified": {fieldTime}}, http.Header{}},
	} {
		for _, ranges := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, ranges %t", c.name, ranges), func(t *testing.T) {
				s := newWeb(t, func(_ int, h http.Header) { setAll(h, c.object) })
				honest := func(_ int, _ http.ResponseWriter, r *http.Request) bool {
					if !ranges {
						r.Header.Del("Range")
					}
					return true
				}
				portal := func(w http.ResponseWriter) bool {
					clear(w.Header())
					setAll(w.Header(), c.page)
					w.Header().Set("Content-Type", "text/html")
					_, _ = io.WriteString(w, page)
					return false
				}
				kept := s.interrupt(t, ranges)
				if err := os.WriteFile(s.path, []byte("old"), 0o644); err != nil {
					t.Fatal(err)
				}
				s.setAnswer(func(_ int, w http.ResponseWriter, _ *http.Request) bool { return portal(w) })
				_, err := s.download(t)
				if !harness.IsOddAnswer(err) || errors.Is(err, ossdl.ErrObjectChanged) || s.requests() != lieAttempts {
					t.Fatalf("%d requests, %v", s.requests(), err)
				}
				s.mustHold(t, []byte("old"))
				if now := s.claimed(t); now != kept {
					t.Fatalf("%d bytes are left of %d", now, kept)
				}
				// Once, at the start and in the middle.
				s.setAnswer(func(n int, w http.ResponseWriter, r *http.Request) bool {
					if n == 0 || n == 3 {
						return portal(w)
					}
					return honest(n, w, r)
				})
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
	}
}

// TestFieldSpellings checks that an object is the same however the answers of several caches spell its name.
func TestFieldSpellings(t *testing.T) {
	content := harness.Bytes(t, osstest.Random(7, lieSize))
	crc := strconv.FormatUint(crc64.Update(0, content), 10)
	const upper, lower = `"5B3C1A2E053D763E1B002CC607C5A0FE"`, `"5b3c1a2e053d763e1b002cc607c5a0fe"`
	turns := func(some ...http.Header) func(int, http.Header) {
		return func(n int, h http.Header) { setAll(h, some[n%len(some)]) }
	}
	for _, c := range []struct {
		name    string
		headers func(int, http.Header)
		ifMatch string
		wrong   error // nil: the object is delivered
	}{
		{"strong and weak", turns(http.Header{"Etag": {`"x"`}}, http.Header{"Etag": {`W/"x"`}}), `"x"`, nil},
		{"weak and strong", turns(http.Header{"Etag": {`W/"x"`}}, http.Header{"Etag": {`"x"`}}), `"x"`, nil},
		{"upper and lower case", turns(http.Header{"Etag": {upper}}, http.Header{"Etag": {lower}}), upper, nil},
		{"with and without quotes", turns(http.Header{"Etag": {upper}}, http.Header{"Etag": {strings.Trim(upper, `"`)}}), upper, nil},
		{"three spellings", turns(http.Header{"Etag": {upper}}, http.Header{"Etag": {lower}}, http.Header{"Etag": {"W/" + upper}}), lower, nil},
		{"two ETags of one CRC-64", turns(http.Header{"Etag": {`"x"`}, "X-Oss-Hash-Crc64ecma": {crc}}, http.Header{"Etag": {`"y"`}, "X-Oss-Hash-Crc64ecma": {crc}}), "", nil},
		{"every second ETag missing", turns(http.Header{"Etag": {`"x"`}}, http.Header{}), `"x"`, nil},
		{"every second ETag missing, with a CRC-64", turns(http.Header{"Etag": {`"x"`}, "X-Oss-Hash-Crc64ecma": {crc}}, http.Header{"X-Oss-Hash-Crc64ecma": {crc}}), `"x"`, nil},
		{"every second ETag missing, with a time", turns(http.Header{"Etag": {`"x"`}, "Last-Modified": {fieldTime}}, http.Header{"Last-Modified": {fieldTime}}), `"x"`, nil},
		{"two ETags", turns(http.Header{"Etag": {`"x"`}}, http.Header{"Etag": {`"y"`}}), "", ossdl.ErrObjectChanged},
		{"two tags that differ by case", turns(http.Header{"Etag": {`"xY"`}}, http.Header{"Etag": {`"Xy"`}}), "", ossdl.ErrObjectChanged},
		{"two CRC-64s of one ETag", turns(http.Header{"Etag": {`"x"`}, "X-Oss-Hash-Crc64ecma": {crc}}, http.Header{"Etag": {`"x"`}, "X-Oss-Hash-Crc64ecma": {"1"}}), "", ossdl.ErrObjectChanged},
		{"two times of one weak ETag", turns(http.Header{"Etag": {`W/"x"`}, "Last-Modified": {fieldTime}}, http.Header{"Etag": {`W/"x"`}, "Last-Modified": {"Tue, 03 Jan 2023 03:04:05 GMT"}}), "", ossdl.ErrObjectChanged},
	} {
		for _, ifMatch := range []bool{false, true} {
			if ifMatch && c.ifMatch == "" {
				continue
			}
			t.Run(fmt.Sprintf("%s, WithIfMatch %t", c.name, ifMatch), func(t *testing.T) {
				s := newWeb(t, c.headers)
				// One worker, so that every second answer to a range is another one. It may be one that says too little, or a
				// refusal of a spelling and a question what it means.
				opts := []ossdl.Option{ossdl.WithConcurrency(1)}
				if ifMatch {
					opts = append(opts, ossdl.WithIfMatch(c.ifMatch))
				}
				res, err := s.download(t, opts...)
				if n := s.requests(); n > 3*lieParts {
					t.Errorf("%d requests", n)
				}
				if c.wrong != nil {
					if !errors.Is(err, c.wrong) {
						t.Errorf("error %v, want %v", err, c.wrong)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				s.mustHold(t, s.content)
				if res.Size != lieSize {
					t.Errorf("%+v", *res)
				}
			})
			if c.wrong == nil && !ifMatch {
				t.Run(c.name+", on resume", func(t *testing.T) {
					s := newWeb(t, c.headers)
					kept := s.interrupt(t, true)
					res, err := s.download(t, ossdl.WithConcurrency(1))
					if err != nil {
						t.Fatal(err)
					}
					s.mustHold(t, s.content)
					if res.ResumedBytes != kept {
						t.Errorf("%d bytes resumed of %d", res.ResumedBytes, kept)
					}
				})
			}
		}
	}
}

// TestFieldSpellingThatNeverSettles checks that a caller's ETag is respelled once, and that an object is delivered although the
// server spells its ETag in another way in each answer.
func TestFieldSpellingThatNeverSettles(t *testing.T) {
	const tag = "5b3c1a2e053d763e1b002cc607c5a0fe"
	spell := func(n int) string { // 2^22 ways
		b := []byte(tag)
		for i, bit := 0, 0; i < len(b); i++ {
			if b[i] >= 'a' {
				if n>>bit&1 == 1 {
					b[i] -= 'a' - 'A'
				}
				bit++
			}
		}
		return `"` + string(b) + `"`
	}
	s := newWeb(t, func(n int, h http.Header) { h.Set("ETag", spell(n+1)) })
	_, err := s.download(t, ossdl.WithIfMatch(`"`+tag+`"`))
	if err != nil {
		t.Error(err)
	} else {
		s.mustHold(t, s.content)
	}
	if n := s.requests(); n > lieParts+5 {
		t.Errorf("%d requests", n)
	}
}

// TestFieldNothingIdentifiesTheObject checks that an object without any name comes in one stream, that bytes of two contents are
// never mixed, and that nothing is kept for a later run.
func TestFieldNothingIdentifiesTheObject(t *testing.T) {
	other := harness.Bytes(t, osstest.Random(8, lieSize))

	for _, c := range []struct {
		name   string
		answer func(s *web) func(int, http.ResponseWriter, *http.Request) bool
		want   int // 0: an error; 1: the content; 2: the other one
	}{
		{"undisturbed", func(*web) func(int, http.ResponseWriter, *http.Request) bool { return nil }, 1},
		{"without ranges", func(*web) func(int, http.ResponseWriter, *http.Request) bool {
			return func(_ int, _ http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return true }
		}, 1},
		{"two contents in turn", func(s *web) func(int, http.ResponseWriter, *http.Request) bool {
			return func(n int, w http.ResponseWriter, r *http.Request) bool {
				serve(w, r, [][]byte{s.content, other}[n%2])
				return false
			}
		}, 2},
		{"cut twice", func(s *web) func(int, http.ResponseWriter, *http.Request) bool {
			return func(n int, w http.ResponseWriter, r *http.Request) bool {
				if n == 1 || n == 2 {
					cut(w, r, s.content, n*300_000)
					return false
				}
				return true
			}
		}, 1},
		{"cut, and then another content", func(s *web) func(int, http.ResponseWriter, *http.Request) bool {
			return func(n int, w http.ResponseWriter, r *http.Request) bool {
				switch n {
				case 0, 1:
					cut(w, r, s.content, 300_000)
				default:
					serve(w, r, other)
				}
				return false
			}
		}, 0},
	} {
		check := func(t *testing.T, s *web, got []byte, err error) {
			t.Helper()
			want := [][]byte{nil, s.content, other}[c.want]
			switch {
			case want == nil && !errors.Is(err, ossdl.ErrObjectChanged):
				t.Errorf("error %v, want %v", err, ossdl.ErrObjectChanged)
			case want != nil && (err != nil || !bytes.Equal(got, want)):
				t.Errorf("%d bytes that are not those of one content: %v", len(got), err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.most > 1 {
				t.Errorf("%d requests at once", s.most)
			}
			for _, h := range s.asked {
				if h.Get("If-Match") != "" {
					t.Errorf("If-Match %s", h.Get("If-Match"))
				}
			}
		}
		t.Run(c.name, func(t *testing.T) {
			s := newWeb(t, func(int, http.Header) {})
			s.setAnswer(c.answer(s))
			_, err := s.download(t)
			got, _ := os.ReadFile(s.path)
			check(t, s, got, err)
			if err != nil {
				harness.NoLeftovers(t, s.path)
			}
		})
		t.Run(c.name+", read", func(t *testing.T) {
			s := newWeb(t, func(int, http.Header) {})
			s.setAnswer(c.answer(s))
			d := harness.NewURLDownloader(t, ossdl.WithPartSize(liePart), ossdl.WithRetry(lieRetry))
			r, err := d.OpenURL(t.Context(), s.URL+"/key")
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			got, err := io.ReadAll(r)
			check(t, s, got, err)
		})
	}
	t.Run("one range", func(t *testing.T) {
		s := newWeb(t, func(int, http.Header) {})
		s.setAnswer(func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 0 {
				cut(w, r, s.content, 1000)
			}
			return true
		})
		if _, err := s.download(t, ossdl.WithRange(liePart, liePart)); err != nil {
			t.Fatal(err)
		}
		s.mustHold(t, s.content[liePart:2*liePart])
	})
	t.Run("a range of several parts", func(t *testing.T) {
		s := newWeb(t, func(int, http.Header) {})
		if _, err := s.download(t, ossdl.WithRange(liePart+1, 3*liePart)); err != nil {
			t.Fatal(err)
		}
		s.mustHold(t, s.content[liePart+1:4*liePart+1])
	})
	t.Run("refused after a cut", func(t *testing.T) {
		s := newWeb(t, func(int, http.Header) {})
		s.setAnswer(func(n int, w http.ResponseWriter, r *http.Request) bool {
			switch n {
			case 0: // one part, which is not the whole object
				serve(w, r, s.content)
			case 1:
				cut(w, r, s.content, 8*liePart)
			default:
				http.Error(w, "no", http.StatusForbidden)
			}
			return false
		})
		if _, err := s.download(t); err == nil {
			t.Fatal("no error")
		}
		harness.NoLeftovers(t, s.path)
	})
}
