package torture_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"testing"

	"github.com/ossdl/ossdl/internal/harness"
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
