package osstest_test

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/osstest"
)

func TestRanges(t *testing.T) {
	s := publicServer(t)
	whole := string(all(t, osstest.Random(1, 1000)))
	s.Put("bkt", "empty", osstest.Bytes(nil))
	const outside = -1 // 416
	for _, c := range []struct {
		spec                   string
		start, end             int // without x-oss-range-behavior; 0, 0: whole
		standardStart, stanEnd int
	}{
		{"bytes=0-0", 0, 1, 0, 1},
		{"bytes=0-499", 0, 500, 0, 500},
		{"bytes=500-999", 500, 1000, 500, 1000},
		{"bytes=999-", 999, 1000, 999, 1000},
		{"bytes=0-", 0, 1000, 0, 1000},
		{"bytes=-1", 999, 1000, 999, 1000},
		{"bytes=-1000", 0, 1000, 0, 1000},
		{"bytes=0-1000", 0, 0, 0, 1000},
		{"bytes=500-2000", 0, 0, 500, 1000},
		{"bytes=0-99999999999999999999", 0, 0, 0, 1000},
		{"bytes=1000-2000", 0, 0, outside, 0},
		{"bytes=1000-", 0, 0, outside, 0},
		{"bytes=-2000", 0, 0, 0, 1000},
		{"bytes=-0", 0, 0, outside, 0},
		{"byte=0-499", 0, 0, 0, 0},
		{"bytes=5-3", 0, 0, 0, 0},
		{"bytes=-", 0, 0, 0, 0},
		{"bytes=a-b", 0, 0, 0, 0},
		{"bytes=0-1,5-6", 0, 0, 0, 0},
		{"bytes=+1-2", 0, 0, 0, 0},
	} {
		for _, standard := range []bool{false, true} {
			start, end := c.start, c.end
			h := map[string]string{"Range": c.spec}
			if standard {
				h["x-oss-range-behavior"] = "standard"
				start, end = c.standardStart, c.stanEnd
			}
			resp, body, err := try(s, "GET", s.URL("bkt", "k"), h)
			if err != nil {
				t.Fatal(err)
			}
			status, want, cr := 206, whole, ""
			switch {
			case start == outside:
				status, want = 416, body
			case end == 0:
				status = 200
			default:
				want, cr = whole[start:end], fmt.Sprintf("bytes %d-%d/1000", start, end-1)
			}
			if resp.StatusCode != status || body != want || resp.Header.Get("Content-Range") != cr {
				t.Errorf("%s, standard %v: %d %q %d bytes, want %d %q %d bytes", c.spec, standard,
					resp.StatusCode, resp.Header.Get("Content-Range"), len(body), status, cr, len(want))
			}
			if status == 416 && !strings.Contains(body, "<Code>InvalidRange</Code>") {
				t.Errorf("%s: %s", c.spec, body)
			}
			if status != 416 && resp.Header.Get("X-Oss-Hash-Crc64ecma") != fmt.Sprint(osstest.Random(1, 1000).CRC64()) {
				t.Errorf("%s: CRC header %q is not the whole object's", c.spec, resp.Header.Get("X-Oss-Hash-Crc64ecma"))
			}
		}
	}
	for _, spec := range []string{"bytes=0-", "bytes=0-0", "bytes=-1"} {
		if status, body := do(t, s, "GET", s.URL("bkt", "empty"), map[string]string{"Range": spec}); status != 200 || body != "" {
			t.Errorf("empty object, %s: %d %q", spec, status, body)
		}
		h := map[string]string{"Range": spec, "x-oss-range-behavior": "standard"}
		if status, _ := do(t, s, "GET", s.URL("bkt", "empty"), h); status != 416 {
			t.Errorf("empty object, standard, %s: %d", spec, status)
		}
	}
	// A HEAD knows no range.
	resp, _, err := try(s, "HEAD", s.URL("bkt", "k"), map[string]string{"Range": "bytes=0-9"})
	if err != nil || resp.StatusCode != 200 || resp.ContentLength != 1000 {
		t.Errorf("HEAD with range: %v, %v", resp, err)
	}
}

func TestRangeQuirks(t *testing.T) {
	s := publicServer(t)
	etag := s.Stat("bkt", "k").ETag
	for _, c := range []struct {
		quirk  osstest.Quirk
		method string
		header map[string]string
		status int
		cr     string
		length int64
	}{
		{osstest.NoRanges, "GET", map[string]string{"Range": "bytes=0-9"}, 200, "", 1000},
		{osstest.IgnoreRangeBehavior, "GET", map[string]string{"Range": "bytes=990-1009", "x-oss-range-behavior": "standard"}, 200, "", 1000},
		{osstest.ContentRangeOn416, "GET", map[string]string{"Range": "bytes=1000-", "x-oss-range-behavior": "standard"}, 416, "bytes */1000", -2},
		{osstest.RangeOutside206, "GET", map[string]string{"Range": "bytes=1000-"}, 206, "", 1000},
		{osstest.RangeOnHead, "HEAD", map[string]string{"Range": "bytes=0-9"}, 206, "bytes 0-9/1000", 10},
		{0, "GET", map[string]string{"Range": "bytes=0-9", "If-Match": etag}, 206, "bytes 0-9/1000", 10},
		{osstest.IfMatchWithRangeUnsupported, "GET", map[string]string{"Range": "bytes=0-9", "If-Match": etag}, 412, "", -2},
		{osstest.IfMatchWithRangeUnsupported, "GET", map[string]string{"If-Match": etag}, 200, "", 1000},
		{osstest.IgnoreIfMatch, "GET", map[string]string{"If-Match": `"X"`}, 200, "", 1000},
	} {
		s.SetQuirks(c.quirk)
		resp, _, err := try(s, c.method, s.URL("bkt", "k"), c.header)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != c.status || resp.Header.Get("Content-Range") != c.cr || c.length >= 0 && resp.ContentLength != c.length {
			t.Errorf("quirk %b %v: %d %q %d", c.quirk, c.header, resp.StatusCode, resp.Header.Get("Content-Range"), resp.ContentLength)
		}
	}
}

func TestConditions(t *testing.T) {
	s := publicServer(t)
	when := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	o := s.Put("bkt", "k", osstest.Bytes([]byte("hello world")), osstest.LastModified(when))
	if o.ETag != `"5EB63BBBE01EEED093CB22BB8F5ACDC3"` {
		t.Errorf("ETag %s is not the MD5", o.ETag)
	}
	at := func(d time.Duration) string { return when.Add(d).Format(http.TimeFormat) }
	for _, c := range []struct {
		name, value string
		status      int
	}{
		{"If-Match", o.ETag, 200},
		{"If-Match", "*", 200},
		{"If-Match", `"x", ` + o.ETag, 200},
		{"If-Match", strings.ToLower(o.ETag), 412},
		{"If-Match", strings.Trim(o.ETag, `"`), 412},
		{"If-None-Match", o.ETag, 304},
		{"If-None-Match", `"x"`, 200},
		{"If-Modified-Since", at(0), 304},
		{"If-Modified-Since", at(-time.Second), 200},
		{"If-Modified-Since", "yesterday", 200},
		{"If-Unmodified-Since", at(0), 200},
		{"If-Unmodified-Since", at(-time.Second), 412},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			resp, body, err := try(s, method, s.URL("bkt", "k"), map[string]string{c.name: c.value})
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status || c.status == 304 && (body != "" || resp.Header.Get("Etag") != o.ETag) {
				t.Errorf("%s %s: %s: %d %q, want %d", method, c.name, c.value, resp.StatusCode, body, c.status)
			}
		}
	}
}

func TestVersions(t *testing.T) {
	s := publicServer(t) // k is the null version from now on
	s.CreateBucket("bkt", osstest.Versioning(osstest.Enabled))
	v1 := s.Put("bkt", "k", osstest.Bytes([]byte("one")))
	v2 := s.Put("bkt", "k", osstest.Bytes([]byte("two!")))
	if v1.VersionID == v2.VersionID || len(v1.VersionID) < 10 {
		t.Errorf("versions %q, %q", v1.VersionID, v2.VersionID)
	}
	marker := s.Delete("bkt", "k")
	get := func(query string) *http.Response {
		t.Helper()
		resp, _, err := try(s, "GET", s.URL("bkt", "k")+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	check := func(query string, status int, version string, length int64) *http.Response {
		t.Helper()
		resp := get(query)
		if resp.StatusCode != status || resp.Header.Get("X-Oss-Version-Id") != version || length >= 0 && resp.ContentLength != length {
			t.Errorf("%s: %d %s %d, want %d %s %d", query, resp.StatusCode, resp.Header.Get("X-Oss-Version-Id"),
				resp.ContentLength, status, version, length)
		}
		return resp
	}
	resp := check("", 404, marker, -1)
	if resp.Header.Get("X-Oss-Delete-Marker") != "true" {
		t.Error("no x-oss-delete-marker")
	}
	resp = check("?versionId="+marker, 405, marker, -1)
	if resp.Header.Get("Allow") != "DELETE" || resp.Header.Get("X-Oss-Delete-Marker") != "true" {
		t.Errorf("405: %v", resp.Header)
	}
	check("?versionId="+v1.VersionID, 200, v1.VersionID, 3)
	check("?versionId="+v2.VersionID, 200, v2.VersionID, 4)
	check("?versionId=null", 200, "", 1000)
	check("?versionId=nonesuch", 404, "", -1)
	s.DeleteVersion("bkt", "k", marker)
	check("", 200, v2.VersionID, 4)

	s.CreateBucket("bkt", osstest.Versioning(osstest.Suspended))
	s.Put("bkt", "k", osstest.Bytes([]byte("null5")))
	check("", 200, "null", 5)
	s.Put("bkt", "k", osstest.Bytes([]byte("null66")))
	check("?versionId=null", 200, "null", 6)
	check("?versionId="+v2.VersionID, 200, v2.VersionID, 4)
	if s.Delete("bkt", "k") != "null" || s.Stat("bkt", "k") != nil {
		t.Error("suspended: the delete marker is not the null version")
	}
}

func TestKindsOfObjects(t *testing.T) {
	s := publicServer(t)
	old := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	target := s.Put("bkt", "target", osstest.Bytes([]byte("the target")), osstest.LastModified(old), osstest.ContentType("text/x"))
	sum := md5.Sum([]byte("the target"))
	link := s.Symlink("bkt", "link", "target", osstest.ContentType("link/x"))
	s.Symlink("bkt", "loop", "link")
	s.Symlink("bkt", "dangling", "nothing")
	s.Put("bkt", "multi", osstest.Random(1, 5<<20), osstest.Type("Multipart"))
	s.Put("bkt", "lie", osstest.Random(1, 5), osstest.CRCHeader("not a number"), osstest.WeakETag())
	s.Put("bkt", "bare", osstest.Random(1, 5), osstest.NoCRC(), osstest.NoETag(), osstest.Header("x-oss-server-side-encryption", "KMS"))
	s.Put("bkt", "frozen", osstest.Random(1, 5), osstest.Archived(""))
	s.Put("bkt", "thawed", osstest.Random(1, 5), osstest.Archived(`ongoing-request="false", expiry-date="Sun, 16 Apr 2017 08:12:33 GMT"`))
	s.Put("bkt", "thawing", osstest.Random(1, 5), osstest.StorageClass("ColdArchive"), osstest.Archived(`ongoing-request="true"`))
	for _, c := range []struct {
		method, key string
		status      int
		header      map[string]string // a value of - must be missing
	}{
		{"GET", "k", 200, map[string]string{"Content-Md5": "-", "Accept-Ranges": "bytes", "X-Oss-Object-Type": "Normal", "X-Oss-Storage-Class": "Standard"}},
		{"GET", "target", 200, map[string]string{"Content-Type": "text/x", "Content-Md5": base64.StdEncoding.EncodeToString(sum[:])}},
		{"GET", "link", 200, map[string]string{"Content-Type": "link/x", "Etag": target.ETag, "X-Oss-Object-Type": "Symlink",
			"Last-Modified": link.LastModified.Format(http.TimeFormat), "X-Oss-Hash-Crc64ecma": target.CRC, "Content-Length": "10"}},
		{"HEAD", "link?objectMeta", 200, map[string]string{"Etag": link.ETag, "X-Oss-Object-Type": "-"}},
		{"GET", "loop", 400, nil},
		{"GET", "dangling", 404, nil},
		{"GET", "lie", 200, map[string]string{"X-Oss-Hash-Crc64ecma": "not a number"}},
		{"GET", "bare", 200, map[string]string{"X-Oss-Hash-Crc64ecma": "-", "Etag": "-", "X-Oss-Server-Side-Encryption": "KMS"}},
		{"GET", "frozen", 403, nil},
		{"HEAD", "frozen", 200, map[string]string{"X-Oss-Storage-Class": "Archive", "X-Oss-Restore": "-"}},
		{"GET", "thawed", 200, nil},
		{"GET", "thawing", 403, nil},
	} {
		resp, body, err := try(s, c.method, s.URL("bkt", "")+c.key, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != c.status {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.key, resp.StatusCode, body, c.status)
		}
		for name, want := range c.header {
			if got := resp.Header.Get(name); got != want && !(want == "-" && got == "") {
				t.Errorf("%s %s: %s is %q, want %q", c.method, c.key, name, got, want)
			}
		}
		if c.method == "GET" && resp.Header.Get("X-Oss-Request-Id") == "" {
			t.Errorf("%s: no request ID", c.key)
		}
	}
	if e := s.Stat("bkt", "multi").ETag; !strings.HasSuffix(e, `-5"`) {
		t.Errorf("multipart ETag %s", e)
	}
	if e := s.Stat("bkt", "lie").ETag; !strings.HasPrefix(e, `W/"`) {
		t.Errorf("weak ETag %s", e)
	}

	s.Restore("bkt", "frozen", time.Now().Add(time.Hour))
	if status, _ := do(t, s, "GET", s.URL("bkt", "frozen"), nil); status != 200 {
		t.Errorf("restored: %d", status)
	}
	s.Archive("bkt", "frozen")
	if status, _ := do(t, s, "GET", s.URL("bkt", "frozen"), nil); status != 403 {
		t.Errorf("archived again: %d", status)
	}
	s.SetQuirks(osstest.LinkCRC)
	if resp, _, err := try(s, "GET", s.URL("bkt", "link"), nil); err != nil || resp.Header.Get("X-Oss-Hash-Crc64ecma") != link.CRC {
		t.Errorf("LinkCRC: %v, %v", resp.Header, err)
	}

	before := s.Put("bkt", "log", osstest.Bytes([]byte("line 1\n")), osstest.Type("Appendable"))
	s.Append("bkt", "log", []byte("line 2\n"))
	resp, body, err := try(s, "GET", s.URL("bkt", "log"), nil)
	if err != nil || body != "line 1\nline 2\n" || resp.Header.Get("X-Oss-Next-Append-Position") != "14" ||
		resp.Header.Get("X-Oss-Object-Type") != "Appendable" || resp.Header.Get("Etag") == before.ETag {
		t.Errorf("appended: %v %q %v", err, body, resp.Header)
	}
}

func TestGzipOnTheFly(t *testing.T) {
	s := publicServer(t)
	text := bytes.Repeat([]byte("all work and no play\n"), 100)
	o := s.Put("bkt", "text", osstest.Bytes(text), osstest.ContentType("text/plain; charset=utf-8"))
	s.Put("bkt", "short", osstest.Bytes(text[:1023]), osstest.ContentType("text/plain"))
	s.Put("bkt", "stored", osstest.Bytes(text), osstest.ContentType("text/plain"), osstest.StoredEncoding("gzip"))
	gz := map[string]string{"Accept-Encoding": "gzip, deflate"}
	for key, zipped := range map[string]bool{"text": true, "short": false, "k": false, "stored": false} {
		for _, method := range []string{"GET", "HEAD"} {
			resp, body, err := try(s, method, s.URL("bkt", key), gz)
			if err != nil {
				t.Fatal(err)
			}
			got := resp.Header.Get("Content-Encoding") == "gzip" && resp.ContentLength < 0 && resp.Header.Get("Etag") == "" && resp.Header.Get("Accept-Ranges") == ""
			if got != zipped {
				t.Errorf("%s %s: zipped %v: %v", method, key, got, resp.Header)
			}
			if !zipped || method == "HEAD" {
				continue
			}
			z, err := gzip.NewReader(strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if plain, err := io.ReadAll(z); err != nil || !bytes.Equal(plain, text) || resp.Header.Get("X-Oss-Hash-Crc64ecma") != o.CRC {
				t.Errorf("%s: %d bytes, %v", key, len(plain), err)
			}
		}
	}
	gz["Range"] = "bytes=0-9"
	if status, body := do(t, s, "GET", s.URL("bkt", "text"), gz); status != 206 || body != string(text[:10]) {
		t.Errorf("with a range: %d %q", status, body)
	}
}

// Output has the object's headers and nothing else of it.
func TestProcess(t *testing.T) {
	s := publicServer(t)
	c := osstest.Random(1, 1000)
	want := all(t, osstest.Processed(c, "image/info"))
	plain, _, err := try(s, "GET", s.URL("bkt", "k"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		resp, body, err := try(s, "GET", s.URL("bkt", "k")+"?x-oss-process=image/info", map[string]string{"Range": "bytes=0-9"})
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK || string(body) != string(want) || len(body) == 1000 {
			t.Errorf("%d with %d bytes", resp.StatusCode, len(body))
		}
		for _, h := range []string{"Etag", "X-Oss-Hash-Crc64ecma", "Last-Modified"} {
			if got := resp.Header.Get(h); got == "" || got != plain.Header.Get(h) {
				t.Errorf("%s %q, the object's is %q", h, got, plain.Header.Get(h))
			}
		}
	}
	if string(all(t, osstest.Processed(c, "image/info"))) == string(all(t, osstest.Processed(c, "image/flip"))) {
		t.Error("two ways to process bring the same")
	}
}

func TestTrafficLimit(t *testing.T) {
	s := publicServer(t)
	s.Put("bkt", "big", osstest.Random(1, 20<<10))
	for _, c := range []struct {
		header, query string
		status        int
	}{{"819200", "", 200}, {"", "819200", 200}, {"819200", "819200", 400}, {"1", "", 400}, {"x", "", 400}} {
		h := map[string]string{}
		if c.header != "" {
			h["x-oss-traffic-limit"] = c.header
		}
		u := s.URL("bkt", "big")
		if c.query != "" {
			u += "?x-oss-traffic-limit=" + c.query
		}
		began := time.Now()
		status, _ := do(t, s, "GET", u, h)
		if took := time.Since(began); status != c.status || status == 200 && took < 150*time.Millisecond {
			t.Errorf("%v: %d after %v", c, status, took)
		}
	}
}

func TestVirtualHost(t *testing.T) {
	s := publicServer(t)
	s.CNAME("files.example.com", "bkt")
	for _, host := range []string{"bkt.oss-cn-hangzhou.aliyuncs.com", "bkt.oss.test:80", "files.example.com"} {
		req, err := http.NewRequest("GET", s.Endpoint()+"/k", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := s.HTTPClient().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 || resp.ContentLength != 1000 {
			t.Errorf("%s: %v", host, resp)
		}
	}
	// The SDK signs for the bucket whatever the host is. The server serves as proxy to reach it by name.
	for name, opts := range auths {
		for _, endpoint := range []string{"http://oss.test", "http://files.example.com"} {
			client, err := oss.New(endpoint, osstest.AccessKeyID, osstest.AccessKeySecret,
				append(opts, oss.Region(osstest.Region), oss.Proxy(s.Endpoint()), oss.UseCname(strings.Contains(endpoint, "files")))...)
			if err != nil {
				t.Fatal(err)
			}
			b, err := client.Bucket("bkt")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.GetObjectDetailedMeta("k"); err != nil {
				t.Errorf("%s at %s: %v", name, endpoint, err)
			}
		}
	}
}
