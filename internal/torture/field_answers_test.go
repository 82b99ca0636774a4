package torture_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestFieldEndBeyondTotal checks that a 206 whose Content-Range repeats the end that was asked for, beyond the total, holds
// the bytes up to the total.
func TestFieldEndBeyondTotal(t *testing.T) {
	s := newWeb(t, func(_ int, h http.Header) { h.Set("ETag", `"x"`) })
	s.content = s.content[:1000]
	s.setAnswer(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Range", "bytes 0-8388607/1000")
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(s.content)
		return false
	})
	if _, err := s.download(t); err != nil {
		t.Fatal(err)
	}
	s.mustHold(t, s.content)
}

// TestFieldEndBeyondTotalOfAnObject checks the same for an object of a bucket: Alibaba's emulator of OSS is used through the SDK.
func TestFieldEndBeyondTotalOfAnObject(t *testing.T) {
	harness.Tried.Add("cases from the field", 1)
	s := harness.NewServer(t)
	content := osstest.Random(1, 1000)
	s.Put("bkt", "key", content)
	o := s.Stat("bkt", "key")
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Key == "" {
			return nil
		}
		return osstest.Inject().Raw(fmt.Appendf(nil, "HTTP/1.1 206 Partial Content\r\nETag: %s\r\nLast-Modified: %s\r\nx-oss-request-id: 5F\r\n"+
			"Content-Range: bytes 0-8388607/1000\r\nContent-Length: 1000\r\n\r\n%s", o.ETag, o.LastModified.UTC().Format(http.TimeFormat), harness.Bytes(t, content)))
	})
	d := harness.NewDownloader(t, s, ossdl.WithRetry(lieRetry))
	path := filepath.Join(t.TempDir(), "file")
	res, err := d.Download(t.Context(), "bkt", "key", path)
	if err != nil || res.Size != 1000 || res.Retries != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	harness.CheckFile(t, path, content)
	harness.NoLeftovers(t, path)
	dir := t.TempDir()
	all, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, all, err, 1, 0, 0)
	harness.CheckFile(t, filepath.Join(dir, "key"), content)
}

// TestFieldEncodingNotAskedFor checks that a body with an encoding that nobody asked for is refused, unless a strong ETag or a
// CRC-64 says that these are the bytes of the object.
func TestFieldEncodingNotAskedFor(t *testing.T) {
	for _, c := range []struct {
		etag    string
		crc     bool
		refused bool
	}{
		{`W/"x"`, false, true}, {"", false, true}, {`"x"`, false, false}, {`W/"x"`, true, false},
	} {
		t.Run(fmt.Sprintf("ETag %s, CRC-64 %t", c.etag, c.crc), func(t *testing.T) {
			s := newWeb(t, func(_ int, h http.Header) {
				h["Etag"] = []string{c.etag}
				h.Set("Last-Modified", fieldTime)
				h.Set("Content-Encoding", "gzip")
			})
			s.content = s.content[:lieSmall]
			s.setAnswer(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				if c.crc {
					w.Header()["X-Oss-Hash-Crc64ecma"] = named(s.content)["X-Oss-Hash-Crc64ecma"]
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(s.content)))
				_, _ = bytes.NewReader(s.content).WriteTo(w)
				return false
			})
			_, err := s.download(t)
			switch {
			case c.refused && !harness.IsOddAnswer(err):
				t.Errorf("error %v", err)
			case c.refused:
				harness.NoLeftovers(t, s.path)
			case err != nil:
				t.Error(err)
			default:
				s.mustHold(t, s.content)
			}
		})
	}
}

// sendRange answers with a 206 of these bytes of the content, whatever was asked for.
func sendRange(w http.ResponseWriter, content []byte, off, end int64) bool {
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", off, end-1, len(content)))
	w.Header().Set("Content-Length", strconv.FormatInt(end-off, 10))
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write(content[off:end])
	return false
}

// rangeAsked returns the range of a request, cut off at the end of the content; whole: there is none.
func rangeAsked(r *http.Request, size int64) (off, end int64, whole bool) {
	first, last, ok := strings.Cut(strings.TrimPrefix(r.Header.Get("Range"), "bytes="), "-")
	if !ok {
		return 0, size, true
	}
	off, _ = strconv.ParseInt(first, 10, 64)
	end, _ = strconv.ParseInt(last, 10, 64)
	return off, min(end+1, size), false
}

// TestFieldOtherRange checks that a 206 with more or less than was asked for is used as far as it overlaps, and that the rest
// is asked for.
func TestFieldOtherRange(t *testing.T) {
	const block = 100_000
	for _, c := range []struct {
		name     string
		other    func(off, end, size int64) (int64, int64)
		requests int // at most, for the whole object
	}{
		{"whole blocks", func(off, end, size int64) (int64, int64) {
			return off / block * block, min((end+block-1)/block*block, size)
		}, lieParts},
		{"one block", func(off, _, size int64) (int64, int64) {
			return off / block * block, min((off/block+1)*block, size)
		}, 2*lieParts + 1},
		{"50,000 bytes at most", func(off, end, _ int64) (int64, int64) { return off, min(off+50_000, end) }, 2 * lieParts},
		{"16 KiB at most", func(off, end, _ int64) (int64, int64) { return off, min(off+16<<10, end) }, 4 * lieParts},
		{"to the end of the object", func(off, _, size int64) (int64, int64) { return off, size }, lieParts},
		{"from the start of the object", func(_, end, _ int64) (int64, int64) { return 0, end }, lieParts},
		{"everything", func(_, _, size int64) (int64, int64) { return 0, size }, 3},
	} {
		other := func(s *web) func(int, http.ResponseWriter, *http.Request) bool {
			return func(_ int, w http.ResponseWriter, r *http.Request) bool {
				off, end, whole := rangeAsked(r, lieSize)
				if whole {
					return true
				}
				from, to := c.other(off, end, lieSize)
				return sendRange(w, s.content, from, to)
			}
		}
		for _, name := range []http.Header{{"Etag": {`"x"`}}, {"Last-Modified": {fieldTime}}, {}} {
			t.Run(fmt.Sprintf("%s, names %v", c.name, name), func(t *testing.T) {
				s := newWeb(t, func(_ int, h http.Header) { setAll(h, name) })
				s.setAnswer(other(s))
				res, err := s.download(t)
				if err != nil {
					t.Fatal(err)
				}
				s.mustHold(t, s.content)
				// On a busy machine each of the other workers may take over a range that seems slow.
				if n := s.requests(); n > c.requests+lieWorkers-1 || res.Retries != 0 {
					t.Errorf("%d requests, want at most %d; %+v", n, c.requests, *res)
				}
			})
		}
		t.Run(c.name+", on resume", func(t *testing.T) {
			s := newWeb(t, func(_ int, h http.Header) { h.Set("ETag", `"x"`) })
			kept := s.interrupt(t, true)
			s.setAnswer(other(s))
			res, err := s.download(t)
			if err != nil {
				t.Fatal(err)
			}
			s.mustHold(t, s.content)
			if res.ResumedBytes != kept {
				t.Errorf("%d bytes resumed of %d", res.ResumedBytes, kept)
			}
			if n := s.requests(); c.name == "everything" && n != 3 { // two with a range, and then one for everything
				t.Errorf("%d requests", n)
			}
		})
		t.Run(c.name+", a range that is read", func(t *testing.T) {
			s := newWeb(t, func(_ int, h http.Header) { h.Set("ETag", `"x"`) })
			s.setAnswer(other(s))
			d := harness.NewURLDownloader(t, ossdl.WithPartSize(liePart), ossdl.WithRetry(lieRetry))
			r, err := d.OpenURL(t.Context(), s.URL+"/key", ossdl.WithRange(liePart+1, 3*liePart))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, s.content[liePart+1:4*liePart+1]) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// TestFieldNextToNothing checks that a server that sends a few bytes in each answer is given up.
func TestFieldNextToNothing(t *testing.T) {
	s := newWeb(t, func(_ int, h http.Header) { h.Set("ETag", `"x"`) })
	s.setAnswer(func(_ int, w http.ResponseWriter, r *http.Request) bool {
		off, _, _ := rangeAsked(r, lieSize)
		return sendRange(w, s.content, off, off+1)
	})
	_, err := s.download(t)
	var pe *ossdl.PartError
	if !errors.As(err, &pe) || pe.Attempts != lieAttempts+1 {
		t.Errorf("error %v", err)
	}
	if n := s.requests(); n > lieWorkers*(lieAttempts+1) {
		t.Errorf("%d requests", n)
	}
}

// TestFieldOtherLengthThanListed checks that an answer with ETag and time of the listing, and another length, does not become
// the file of an object.
func TestFieldOtherLengthThanListed(t *testing.T) {
	const size = 50_000
	modified := time.Date(2023, 1, 2, 3, 4, 5, 0, time.UTC)
	styled := func(o *osstest.Object, status string, n int) *osstest.Fault {
		contentRange := ""
		if n > 0 {
			contentRange = fmt.Sprintf("Content-Range: bytes 0-%d/%d\r\n", n-1, n)
		}
		return osstest.Inject().Raw(fmt.Appendf(nil, "HTTP/1.1 %s\r\nETag: %s\r\nLast-Modified: %s\r\nx-oss-request-id: 5F\r\n%sContent-Length: %d\r\n\r\n%s",
			status, o.ETag, o.LastModified.UTC().Format(http.TimeFormat), contentRange, n, make([]byte, n)))
	}
	for _, c := range []struct {
		name, status string
		bytes        int
	}{
		{"a style", "206 Partial Content", 700}, {"longer", "206 Partial Content", 2 * size}, {"empty", "200 OK", 0},
	} {
		for _, always := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, always %t", c.name, always), func(t *testing.T) {
				harness.Tried.Add("cases from the field", 1)
				s := harness.NewServer(t)
				content := osstest.Random(7, size)
				s.Put("bkt", "a", content, osstest.LastModified(modified))
				s.Put("bkt", "b", content)
				object := s.Stat("bkt", "a")
				asked := 0
				s.OnRequest(func(r *osstest.Request) *osstest.Fault {
					if r.Key != "a" {
						return nil
					}
					if asked++; asked > 1 && !always {
						return nil
					}
					return styled(object, c.status, c.bytes)
				})
				dir := t.TempDir()
				harness.WriteFile(t, filepath.Join(dir, "a"), "old")
				res, err := harness.NewDownloader(t, s, ossdl.WithRetry(lieRetry)).DownloadPrefix(t.Context(), "bkt", "", dir)
				harness.CheckFile(t, filepath.Join(dir, "b"), content)
				if !always {
					if err != nil || res.Done != 2 {
						t.Fatalf("%+v, %v", res, err)
					}
					harness.CheckFile(t, filepath.Join(dir, "a"), content)
					return
				}
				if !harness.IsOddAnswer(err) || res.Done != 1 || res.Failed != 1 {
					t.Errorf("%+v, %v", res, err)
				}
				harness.CheckFile(t, filepath.Join(dir, "a"), osstest.Bytes([]byte("old")))
			})
		}
	}
	for _, c := range []struct {
		name   string
		object []osstest.ObjectOption // of what replaces the object after the listing
	}{
		{"replaced since", []osstest.ObjectOption{osstest.LastModified(modified.Add(time.Hour))}},
		{"replaced in the same second", []osstest.ObjectOption{osstest.LastModified(modified), osstest.ETag(`"other"`)}},
		{"appended to in the same second", []osstest.ObjectOption{osstest.LastModified(modified), osstest.ETag(`"A"`), osstest.Type("Appendable")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			harness.Tried.Add("cases from the field", 1)
			s := harness.NewServer(t)
			kind := "Normal"
			if strings.HasPrefix(c.name, "appended") {
				kind = "Appendable"
			}
			s.Put("bkt", "a", osstest.Random(7, size), osstest.LastModified(modified), osstest.ETag(`"A"`), osstest.Type(kind))
			s.Once(func(r *osstest.Request) bool { return r.Key == "a" }, osstest.Inject().Before(func() {
				s.Put("bkt", "a", osstest.Random(7, size+1000), c.object...)
			}))
			dir := t.TempDir()
			if _, err := harness.NewDownloader(t, s, ossdl.WithRetry(lieRetry)).DownloadPrefix(t.Context(), "bkt", "", dir); err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, filepath.Join(dir, "a"), osstest.Random(7, size+1000))
		})
	}
}
