package torture_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
	"github.com/ossdl/ossdl/internal/osstest"
)

// weakNames do not identify bytes.
var weakNames = []http.Header{{"Last-Modified": {fieldTime}}, {"Etag": {`W/"x"`}}, {"Etag": {`W/"x"`}, "Last-Modified": {fieldTime}}}

// otherLengths are what an object may have become that begins as it did, and whose names do not show it.
func otherLengths(content []byte) map[string][]byte {
	return map[string][]byte{
		"longer":                  slices.Concat(content, []byte("more")),
		"much longer":             slices.Concat(content, content),
		"shorter":                 content[:len(content)-10],
		"shorter than a part":     content[:10],
		"as long, of other bytes": slices.Concat(content[:len(content)-10], []byte("0123456789")),
	}
}

// TestFieldOtherLengthOnResume checks that what an earlier run left is not completed from a stream of unknown length unless that is
// the same from its first byte to its end. The file is never the new object cut to the old length, nor a mixture.
func TestFieldOtherLengthOnResume(t *testing.T) {
	content := harness.Bytes(t, osstest.Random(7, lieSize))
	tried := 0
	for kept, spans := range map[string][]checkpoints.Span{
		"the beginning":        {{Off: 0, End: lieKept}},
		"all":                  {{Off: 0, End: lieSize}},
		"the end":              {{Off: lieKept, End: lieSize}},
		"all but the middle":   {{Off: 0, End: liePart}, {Off: 2 * liePart, End: lieSize}},
		"two pieces":           {{Off: liePart, End: 2 * liePart}, {Off: 3 * liePart, End: 4 * liePart}},
		"all but the last one": {{Off: 0, End: lieSize - 1}},
	} {
		for _, name := range weakNames {
			became := otherLengths(content)
			became["the same"] = content
			for how, now := range became {
				for _, asked := range []int64{0, liePart + 1} {
					if asked > 0 && how == "shorter than a part" {
						continue // the range is outside, which is an error of its own
					}
					if tried++; harness.LeaveOut(tried, 6) {
						continue
					}
					t.Run(fmt.Sprintf("%s, from %d on, kept %s, names %v", how, asked, kept, name), func(t *testing.T) {
						s := newWeb(t, func(_ int, h http.Header) { setAll(h, name) })
						opts := s.keep(t, asked, spans)
						s.content = now
						s.streams()
						res, err := s.download(t, opts...)
						if err != nil {
							t.Fatal(err)
						}
						s.mustHold(t, now[asked:])
						same := len(now) == len(content)
						for _, sp := range spans {
							end := min(sp.End+asked, lieSize)
							same = same && bytes.Equal(now[sp.Off+asked:end], content[sp.Off+asked:end])
						}
						if same != (res.ResumedBytes > 0) {
							t.Errorf("%d bytes resumed", res.ResumedBytes)
						}
					})
				}
			}
		}
	}
}

// keep leaves an interrupted run of the content from asked on, which has kept these spans of it. It returns the options of the run.
func (s *web) keep(t *testing.T, asked int64, spans []checkpoints.Span) []ossdl.Option {
	t.Helper()
	if asked > 0 {
		opts := []ossdl.Option{ossdl.WithRange(asked, -1)}
		s.setAnswer(func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n == 0 {
				cut(w, r, s.content, liePart)
			}
			http.Error(w, "no", http.StatusForbidden)
			return false
		})
		if _, err := s.download(t, append(opts, ossdl.WithConcurrency(1))...); err == nil {
			t.Fatal("the run that was to be interrupted completed")
		}
		s.claim(t, s.content[asked:], spans)
		return opts
	}
	s.interrupt(t, true)
	s.claim(t, s.content, spans)
	return nil
}

// claim makes the checkpoint of an interrupted run claim these spans, as far as the download has them.
func (s *web) claim(t *testing.T, content []byte, spans []checkpoints.Span) {
	t.Helper()
	cp := checkpoints.Read(t, s.path+harness.CheckpointSuffix)
	var within []checkpoints.Span
	for _, sp := range spans {
		if sp.End = min(sp.End, int64(len(content))); sp.Off < sp.End {
			within = append(within, sp)
		}
	}
	cp.Claim(content, within...)
	checkpoints.Write(t, s.path+harness.CheckpointSuffix, cp)
	if err := os.WriteFile(s.path+harness.PartSuffix, content, 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestFieldOtherLengthAfterACut checks the same in one run: the first answer says a length and breaks off, and the next is a stream
// of another one.
func TestFieldOtherLengthAfterACut(t *testing.T) {
	content := harness.Bytes(t, osstest.Random(7, lieSize))
	for _, name := range append(slices.Clone(weakNames), http.Header{}) {
		for how, now := range otherLengths(content) {
			broken := func(t *testing.T) *web {
				s := newWeb(t, func(_ int, h http.Header) { setAll(h, name) })
				s.setAnswer(func(n int, w http.ResponseWriter, r *http.Request) bool {
					if r.Header.Del("Range"); n == 0 {
						cut(w, r, s.content, 300_000)
					}
					return chunked(w, now, len(now))
				})
				return s
			}
			t.Run(fmt.Sprintf("%s, names %v", how, name), func(t *testing.T) {
				s := broken(t)
				if _, err := s.download(t); !errors.Is(err, ossdl.ErrObjectChanged) {
					if got, rerr := os.ReadFile(s.path); how != "as long, of other bytes" || err != nil || rerr != nil || !bytes.Equal(got, now) {
						t.Fatalf("error %v", err)
					}
					return // nobody has seen the last bytes before
				}
				if harness.Exists(s.path) {
					t.Error("there is a file")
				}
				// Again, and the new object comes.
				if _, err := s.download(t); err != nil {
					t.Fatal(err)
				}
				s.mustHold(t, now)
			})
			t.Run(fmt.Sprintf("%s, read, names %v", how, name), func(t *testing.T) {
				s := broken(t)
				r, err := harness.NewURLDownloader(t, ossdl.WithRetry(lieRetry)).OpenURL(t.Context(), s.URL+"/key")
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				got, err := io.ReadAll(r)
				if same := how == "as long, of other bytes"; !same && (!errors.Is(err, ossdl.ErrObjectChanged) || !bytes.HasPrefix(content, got)) ||
					same && (err != nil || !bytes.Equal(got, now)) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
	}
}
