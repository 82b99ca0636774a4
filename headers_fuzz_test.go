package ossdl

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/harness/leaks"
	"github.com/ossdl/ossdl/internal/osstest"
)

// FuzzAnswer: whatever headers come with a success, an answer that is accepted is of the bytes that were asked for, and of
// the object that the run is pinned to.
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
			t.Skip("no range of ours")
		}
		r := request{span: span{off, off + n}, whole: whole}
		if whole {
			r.off = 0
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
		a, err := readAnswer(r, status, h, fromOSS)
		if err != nil {
			var odd *answerError
			if !errors.As(err, &odd) || a != nil {
				t.Fatalf("%T, %+v", err, a)
			}
			return
		}
		length, lerr := strconv.ParseUint(contentLength, 10, 63)
		switch {
		case a.partial && (status != 206 || whole || a.off != r.off || a.end != min(r.end, a.size) || a.len() < 1):
			t.Errorf("asked for %v, accepted a 206 of %+v from %q", r, a.span, contentRange)
		case a.partial && lerr == nil && int64(length) != a.len():
			t.Errorf("accepted a 206 of %+v with a Content-Length of %s", a.span, contentLength)
		case !a.partial && (status != 200 || r.off != 0 || a.off != 0 || a.end != a.size || contentRange != ""):
			t.Errorf("asked for %v, accepted a 200 of %+v, %+v", r, a.span, h)
		case !a.partial && (lerr != nil || int64(length) != a.size):
			t.Errorf("accepted a 200 of %d bytes with a Content-Length of %q", a.size, contentLength)
		}
		if a.hasCRC {
			if v, err := strconv.ParseUint(crc, 10, 64); err != nil || v != a.crc {
				t.Errorf("CRC-64 %d of %q", a.crc, crc)
			}
		}
		pinned := facts{size: 1000, etag: `"5B3C1A2E053D763E1B002CC607C5A0FE"`, crc: 1, hasCRC: true}
		p := &pin{log: slog.New(slog.DiscardHandler), fixed: true, facts: pinned}
		_, err = p.accept(r, a)
		if same := a.size == pinned.size && a.etag == pinned.etag && (!a.hasCRC || a.crc == pinned.crc); same != (err == nil) {
			t.Errorf("pinned to %+v, answer of %+v: %v", pinned, a.facts, err)
		}
	})
}

// FuzzContentRange: what is read is what is written there, and lies within itself.
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
			if got != (span{}) || total != 0 {
				t.Errorf("%q is refused as %+v of %d", v, got, total)
			}
			return
		}
		if got.off < 0 || got.off >= got.end || got.end > total {
			t.Fatalf("%q is read as %+v of %d", v, got, total)
		}
		canonical := fmt.Sprintf("bytes %d-%d/%d", got.off, got.end-1, total)
		if again, size, ok := parseContentRange(canonical); !ok || again != got || size != total {
			t.Errorf("%q is read as %+v of %d, %t", canonical, again, size, ok)
		}
		if len(v) < len(canonical) || strings.Trim(v[len("bytes "):], "0123456789-/") != "" {
			t.Errorf("%q is read as %q", v, canonical)
		}
	})
}

// FuzzErrorBody sends a refusal through the SDK and through our own reading of it. What was sent is in none of what is kept
// of it, whichever field of body or head it came back in, and what a server asks for is bounded.
func FuzzErrorBody(f *testing.F) {
	const secret = "STS-TOKEN-AND-SIGNATURE"
	elements := []string{"StringToSign", "SignatureProvided", "Error", "Code", "Message", "HostId", "Endpoint", "EC", "RequestId", "message"}
	for i, status := range []int{304, 403, 404, 405, 412, 416, 429, 500, 503, 506, 99} {
		f.Add(status, "SecurityTokenExpired", "The security token has expired.", elements[i%len(elements)], "", "10")
	}
	f.Add(403, "SignatureDoesNotMatch", "Request has expired.", "SignatureProvided", "<Error><Message>", "Fri, 24 Feb 2012 06:07:48 GMT")
	f.Add(403, "", "", "Error", "</Error>", "-1")
	f.Add(403, secret, "a "+secret, "Ec", secret, secret)
	f.Add(302, "&lt;", "]]>", "Message", "\x00", "99999999999999999999")
	var answer func() *http.Response
	hc := &http.Client{
		Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			if trace := httptrace.ContextClientTrace(r.Context()); trace != nil { // as net/http's transport does
				for name, values := range r.Header {
					trace.WroteHeaderField(name, values)
				}
			}
			return answer(), nil
		}),
		CheckRedirect: checkRedirect,
	}
	client, err := oss.New("http://service.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.HTTPClient(hc), oss.SecurityToken(secret))
	if err != nil {
		f.Fatal(err)
	}
	b, err := newBucketClient(client, "bkt", requestOptions{})
	if err != nil {
		f.Fatal(err)
	}
	src, err := b.object("k")
	if err != nil {
		f.Fatal(err)
	}
	signed, err := parseAddress("http://service.test/k?OSSAccessKeyId=" + osstest.AccessKeyID + "&Expires=32503680000&Signature=" + secret)
	if err != nil {
		f.Fatal(err)
	}
	byURL := &urlSource{client: hc, first: signed, now: signed}
	f.Fuzz(func(t *testing.T, status int, code, message, element, rest, retryAfter string) {
		if status/100 == 2 || status < 0 {
			t.Skip("no refusal")
		}
		if element == "" || strings.Trim(strings.ToLower(element), "abcdefghijklmnopqrstuvwxyz") != "" {
			t.Skip("no name of an element")
		}
		var body bytes.Buffer
		body.WriteString("<Error>")
		for _, field := range [][2]string{{"Code", code}, {"Message", message}} {
			body.WriteString("<" + field[0] + ">")
			if err := xml.EscapeText(&body, []byte(field[1])); err != nil {
				t.Fatal(err)
			}
			body.WriteString("</" + field[0] + ">")
		}
		fmt.Fprintf(&body, "<%s>%s</%[1]s>%s</Error>", element, secret, rest)
		answer = func() *http.Response {
			return &http.Response{StatusCode: status, Status: secret, Body: io.NopCloser(bytes.NewReader(body.Bytes())), Header: http.Header{
				"Retry-After": {retryAfter}, "Location": {"http://" + secret + ".test/?" + secret}, "X-Oss-Request-Id": {"id " + secret}, "X-Oss-Ec": {secret},
				"Content-Type": {secret}, "Etag": {secret}, "Date": {secret},
			}}
		}
		for _, from := range []source{src, byURL} {
			_, err := from.get(t.Context(), request{span: span{0, 1}, again: new(atomic.Int64)})
			leaks.NoSecret(t, err, secret)
			var refused *statusError
			if !errors.As(err, &refused) {
				continue // net/http did not take the answer
			}
			if refused.service.RawMessage != "" || refused.service.StatusCode != status {
				t.Errorf("%#v", refused.service)
			}
			if _, slow := slowDown(err); refused.retryAfter < 0 || slow != (status == 429 || status == 503) {
				t.Errorf("status %d, retry after %v, slow %t", status, refused.retryAfter, slow)
			}
			if retryable(err) && status < 500 && status != 408 && status != 429 && refused.service.Code != "RequestTimeout" {
				t.Errorf("status %d %s would be tried again", status, refused.service.Code)
			}
			if errors.Is(err, ErrNotFound) != (status == 404 || status == 405) {
				t.Errorf("status %d means %v", status, refused.means)
			}
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (fn roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return fn(r) }

// FuzzSignedURL: whatever a URL looks like, no error and no name of it tells its query, user or password, and another
// signature makes no other object of it.
func FuzzSignedURL(f *testing.F) {
	for _, prefix := range []string{
		"http://bkt.oss-cn-hangzhou.aliyuncs.com/k", "https://[::1]:443/a%2fb", "HTTP://HOST:80", "http://", "ftp://h/k", "//h/k", "http:/k",
		"http://h/k?versionId=1&x=%zz", "http://h/%zz", "http://h:99999/k", "http://h/k#f", "http://h/a b", "\x00", "http://h@h/k?@", "h/k",
	} {
		f.Add(prefix)
	}
	const secret = "SECRETSECRET"
	f.Fuzz(func(t *testing.T, prefix string) {
		join := "?"
		if strings.Contains(prefix, "?") {
			join = "&"
		}
		signed := func(signature string) string {
			return prefix + join + url.Values{"OSSAccessKeyId": {"id"}, "Expires": {"32503680000"}, "Signature": {signature}}.Encode()
		}
		a, err := parseAddress(signed(secret))
		scheme, rest, ok := strings.Cut(signed("1"), "://")
		if ok {
			if u, err := parseAddress(scheme + "://user:" + secret + "@" + rest); err == nil {
				t.Errorf("a password was accepted: %v", u)
			} else {
				leaks.NoSecret(t, err, secret)
			}
		}
		if err != nil {
			leaks.NoSecret(t, err, secret)
			return
		}
		if name := a.String(); strings.Contains(name, secret) || a.id.bucket == "" || !strings.HasPrefix(a.id.key, "/") {
			t.Errorf("%q, %+v", name, a.id)
		}
		b, err := parseAddress(signed("another"))
		if err != nil || a.id != b.id || a.version != b.version || !a.expires.Equal(b.expires) || b.expires.Before(time.Unix(0, 0)) && !b.expires.IsZero() {
			t.Errorf("%+v and %+v, %v", a, b, err)
		}
	})
}

// FuzzListing: whatever a listing says, it names objects that can be, or is refused, and it does not go round in circles.
func FuzzListing(f *testing.F) {
	const head, object = "<ListBucketResult>", "<Contents><Key>a</Key><Size>1</Size><LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
	for _, doc := range []string{
		head + object + "</ListBucketResult>", head + "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>",
		head + "<EncodingType>url</EncodingType><Contents><Key>%2e%2E%2fa</Key><Size>-1</Size></Contents></ListBucketResult>",
		head + object + object + "</ListBucketResult>", head + object + "<Contents><Key>A</Key></Contents></ListBucketResult>",
		head + "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><NextContinuationToken>%2B%2F%3D</NextContinuationToken></ListBucketResult>",
		"<Error><Code>AccessDenied</Code></Error>", head + "<Contents><Key></Key></Contents>", "",
	} {
		f.Add([]byte(doc), "t", "", 0)
		f.Add([]byte(doc), "u", "a", maxEmpty-1)
	}
	f.Fuzz(func(t *testing.T, doc []byte, token, after string, empty int) {
		at := place{token, after, empty}
		objects, next, err := readPage(doc, at)
		if err != nil {
			if objects != nil || next != (place{}) {
				t.Errorf("%v, but %+v and %+v", err, objects, next)
			}
			return
		}
		last := after
		for _, o := range objects {
			if o.key == "" || o.size < 0 || o.key <= last {
				t.Errorf("accepted %+v after %q", o, last)
			}
			last = o.key
		}
		// Either the listing ends, or it has come further, or it has fewer pages left without a key.
		if next.after != last || next.token != "" && (next.token == token || len(objects) == 0 && (next.empty != empty+1 || next.empty >= maxEmpty)) {
			t.Errorf("the page at %+v is followed by that at %+v", at, next)
		}
	})
}

// FuzzLocalName: whatever the keys are, the names they get lie within the folder and not within that of the working files,
// no two are the same, and none is a folder of another.
func FuzzLocalName(f *testing.F) {
	for _, keys := range []string{
		"a\na/b\na/b/", "../a\n./a\na/../b\n/a\na//b", ".ossdl/a\n.OSSDL\na/.ossdl\n.ossdl.", "A\na\n\u017f\ns\n\u212a\nk", "con\nCOM1.txt\na:b\na.\na \n\\",
		"\x00\n\xff\n" + strings.Repeat("x", 300), "p/a\np/\np", "",
		"A\na/", "A\na/b", "A/b\na", "A/\na", "A/b/c\na/B\na/c", "\u212a/x\nk\nK",
	} {
		f.Add(keys, "", true, true)
		f.Add(keys, "p/", false, false)
	}
	f.Fuzz(func(t *testing.T, keys, prefix string, windows, folds bool) {
		names := newNamer(prefix, windows, folds)
		files, folders := map[string]string{}, map[string]string{} // keys by name, folded where the file system folds names
		all := strings.Split(keys, "\n")
		slices.Sort(all)
		for _, key := range slices.Compact(all) {
			name, err := names.name(key)
			if err != nil || name == "" {
				continue
			}
			plain, isFolder := strings.CutSuffix(name, "/")
			if !fs.ValidPath(plain) || plain == "." || strings.ContainsAny(plain, "\x00") || windows && strings.ContainsAny(plain, `\:`) {
				t.Errorf("%q is named %q", key, name)
			}
			if folds {
				plain = fold(plain)
			}
			if first, _, _ := strings.Cut(plain, "/"); strings.EqualFold(first, workDir) {
				t.Errorf("%q is named %q, among the working files", key, name)
			}
			if other, taken := files[plain]; taken {
				t.Errorf("%q is named %q, and so is %q", key, name, other)
			}
			if other, taken := folders[plain]; taken && !isFolder {
				t.Errorf("%q is named %q, and %q needs a folder there", key, name, other)
			}
			if isFolder {
				folders[plain] = key
			} else {
				files[plain] = key
			}
			for i := range len(plain) {
				if plain[i] != '/' {
					continue
				}
				if other, taken := files[plain[:i]]; taken {
					t.Errorf("%q is named %q, and %q is a file above", key, name, other)
				}
				folders[plain[:i]] = key
			}
		}
	})
}
