package object

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/ossdl/ossdl/internal/span"
)

// FuzzAnswer checks that an answer that is accepted has the bytes that were asked for, whatever its headers, and that it
// differs from the facts of another object.
func FuzzAnswer(f *testing.F) {
	const etag, modified = `"5B3C1A2E053D763E1B002CC607C5A0FE"`, "Fri, 24 Feb 2012 06:07:48 GMT"
	f.Add(int64(0), int64(100), false, true, 206, "bytes 0-99/1000", "100", etag, "", "1", "id", modified)
	f.Add(int64(900), int64(200), false, true, 206, "bytes 900-999/1000", "", "W/"+etag, "gzip", "", "id", modified)
	f.Add(int64(0), int64(100), true, false, 200, "", "1000", "", "identity", "18446744073709551615", "", "")
	f.Add(int64(100), int64(100), false, true, 206, "bytes 0-99/1000", "100", etag, "", "+1", "id", modified)
	f.Add(int64(0), int64(100), false, true, 206, "bytes 0-99/9223372036854775808", "-100", etag, "", "0x1", "id", modified)
	f.Add(int64(0), int64(100), false, false, 206, "bytes 00-099/*", "+100", `""`, "br", "1_0", "", "0")
	f.Fuzz(func(t *testing.T, off, n int64, whole, fromOSS bool, status int, contentRange, contentLength, etag, encoding, crc, requestID, modified string) {
		if off < 0 || n < 1 || off+n < 0 {
			t.Skip("not a range that is ever asked for")
		}
		r := Request{Span: span.Span{Off: off, End: off + n}, Whole: whole}
		if whole {
			r.Off = 0
		}
		h := http.Header{}
		for name, value := range map[string]string{
			"Content-Range": contentRange, "Content-Length": contentLength, "ETag": etag, "Content-Encoding": encoding,
			"X-Oss-Hash-Crc64ecma": crc, "X-Oss-Request-Id": requestID, "Last-Modified": modified,
		} {
			if value != "" {
				h.Set(name, value)
			}
		}
		from := Plain
		if fromOSS {
			from = OSS
		}
		delimited := n%2 == 1
		a, err := Read(r, status, h, from, delimited)
		if err != nil {
			var odd *MismatchError
			if !errors.As(err, &odd) || a != nil {
				t.Fatalf("%T, %+v", err, a)
			}
			return
		}
		length, lerr := strconv.ParseUint(contentLength, 10, 63)
		switch {
		case a.Partial && (status != 206 || whole || a.Off > r.Off || a.Off < r.Off-maxLead || a.End <= r.Off || a.End > a.Size):
			t.Errorf("asked for %v, accepted a 206 of %+v from %q", r, a.Span, contentRange)
		case a.Partial && lerr == nil && int64(length) != a.Len():
			t.Errorf("accepted a 206 of %+v with a Content-Length of %s", a.Span, contentLength)
		case a.Size == UnknownSize:
			if status != 200 || !delimited || fromOSS || r.Off != 0 || contentRange != "" || lerr == nil {
				t.Errorf("asked for %v, accepted a body of unknown size, %+v", r, h)
			}
			return
		case !a.Partial && (r.Off != 0 || a.Off != 0 || a.End != a.Size || contentRange != "" && status != 206):
			t.Errorf("asked for %v, accepted the whole, %+v, %+v", r, a.Span, h)
		case !a.Partial && status == 206 && (whole || r.End >= a.Size):
			t.Errorf("asked for %v, and a 206 of %+v counts as the whole object", r, a.Span)
		case !a.Partial && status == 200 && (lerr != nil || int64(length) != a.Size):
			t.Errorf("accepted a 200 of %d bytes with a Content-Length of %q", a.Size, contentLength)
		}
		if a.HasCRC {
			if v, err := strconv.ParseUint(crc, 10, 64); err != nil || v != a.CRC {
				t.Errorf("CRC-64 %d of %q", a.CRC, crc)
			}
		}
		pinned := Facts{Size: 1000, ETag: `"5B3C1A2E053D763E1B002CC607C5A0FE"`, CRC: 1, HasCRC: true}
		why := pinned.Differs(a.Facts)
		same := a.Size == pinned.Size && (!a.HasCRC || a.CRC == pinned.CRC)
		if !a.HasCRC || a.Symlink { // otherwise the CRC-64 has decided, whatever the ETag
			same = same && (a.ETag == "" || SameETag(a.ETag, pinned.ETag))
		}
		if same != (why == "") {
			t.Errorf("%+v differs from %+v: %q", a.Facts, pinned, why)
		}
	})
}

// FuzzContentRange checks that a field that is accepted is read as it is written, and does not contradict itself.
func FuzzContentRange(f *testing.F) {
	for _, v := range []string{
		"bytes 0-0/1", "bytes 5-9/10", "bytes 0-9/*", "bytes */10", "bytes 0-9", "bytes=0-9/10", "Bytes 0-9/10", "bytes 9-0/10",
		"bytes 0-10/10", "bytes 00-01/02", "bytes -1-2/3", "bytes 0-9223372036854775806/9223372036854775807",
		"bytes 0-9223372036854775807/9223372036854775808", "bytes 0-9/10 ", "bytes 0-9/10, bytes 0-9/10", "bytes 0x0-0x9/10", "",
	} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		got, total, ok := parseContentRange(v)
		if !ok {
			if got != (span.Span{}) || total != 0 {
				t.Errorf("%q is refused as %+v of %d", v, got, total)
			}
			return
		}
		if got.Off < 0 || got.Off >= got.End || got.End > total {
			t.Fatalf("%q is read as %+v of %d", v, got, total)
		}
		canonical := fmt.Sprintf("bytes %d-%d/%d", got.Off, got.End-1, total)
		if again, size, ok := parseContentRange(canonical); !ok || again != got || size != total {
			t.Errorf("%q is read as %+v of %d, %t", canonical, again, size, ok)
		}
		if len(v) < len(canonical) || strings.Trim(v[len("bytes "):], "0123456789-/") != "" {
			t.Errorf("%q is read as %q", v, canonical)
		}
	})
}
