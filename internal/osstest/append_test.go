package osstest_test

import (
	"fmt"
	"hash/crc64"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/osstest"
)

// TestAppend checks an Appendable object from append to append, each with the CRC-64 of the whole.
func TestAppend(t *testing.T) {
	for name, opts := range auths {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			b := sdkBucket(t, s, opts...)
			whole, etag, crc := "", "", uint64(0)
			for i, more := range []string{"one", "", "two", strings.Repeat("three", 1000)} {
				whole += more
				r, err := b.DoAppendObject(&oss.AppendObjectRequest{
					ObjectKey: "a b/log", Reader: strings.NewReader(more), Position: int64(len(whole) - len(more)),
				}, []oss.Option{oss.InitCRC(crc), oss.Meta("append", fmt.Sprint(i)), oss.ContentType(fmt.Sprint("text/", i))})
				if err != nil || r.NextPosition != int64(len(whole)) {
					t.Fatal(r, err)
				}
				crc = crc64.Checksum([]byte(whole), crc64.MakeTable(crc64.ECMA))
				var h http.Header
				body, err := b.GetObject("a b/log", oss.GetResponseHeader(&h))
				if err != nil {
					t.Fatal(err)
				}
				got := string(readAll(t, body))
				body.Close()
				if got != whole || r.CRC != crc {
					t.Errorf("%q, CRC-64 %d, want %q, %d", got, r.CRC, whole, crc)
				}
				for name, want := range map[string]string{
					"X-Oss-Hash-Crc64ecma": fmt.Sprint(crc), "X-Oss-Object-Type": "Appendable", "X-Oss-Meta-Append": "0", "Content-Type": "text/0",
					"X-Oss-Next-Append-Position": fmt.Sprint(len(whole)), "Content-Md5": "",
				} {
					if h.Get(name) != want {
						t.Errorf("append %d: %s: %q, want %q", i, name, h.Get(name), want)
					}
				}
				if same := h.Get("ETag") == etag; same != (more == "") || !strings.HasSuffix(h.Get("ETag"), `00000000"`) {
					t.Errorf("append %d: ETag %s after %s", i, h.Get("ETag"), etag)
				}
				etag = h.Get("ETag")
			}
			if r, err := b.ListObjectsV2(); err != nil || r.Objects[0].Type != "Appendable" || r.Objects[0].Size != int64(len(whole)) {
				t.Error(r.Objects, err)
			}
		})
	}
}

// TestAppendRefused checks what cannot be appended, and what the answer says of the length.
func TestAppendRefused(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("bkt", osstest.Versioning(osstest.Enabled))
	b := sdkBucket(t, s)
	if _, err := b.AppendObject("log", strings.NewReader("12345"), 0); err != nil {
		t.Fatal(err)
	}
	s.Put("bkt", "normal", osstest.Bytes(nil))
	s.Put("bkt", "deleted", osstest.Bytes(nil))
	s.Delete("bkt", "deleted")
	for _, c := range []struct {
		key      string
		position int64
		status   int
		code     string
		next     string
	}{
		{"log", 4, 409, "PositionNotEqualToLength", "5"},
		{"log", 6, 409, "PositionNotEqualToLength", "5"},
		{"log", -1, 400, "InvalidArgument", ""},
		{"new", 1, 409, "PositionNotEqualToLength", "0"},
		{"normal", 0, 409, "ObjectNotAppendable", ""},
		{"deleted", 0, 409, "ObjectNotAppendable", ""},
	} {
		var h http.Header
		_, err := b.AppendObject(c.key, strings.NewReader("more"), c.position, oss.GetResponseHeader(&h))
		if !isCode(err, c.status, c.code) || h.Get("X-Oss-Next-Append-Position") != c.next {
			t.Errorf("%s at %d: %v, next %q", c.key, c.position, err, h.Get("X-Oss-Next-Append-Position"))
		}
	}
	if o := s.Stat("bkt", "log"); o.Size() != 5 {
		t.Errorf("%d bytes", o.Size())
	}
}

// TestAppendVersions checks that appends make no versions, that a PUT ends them, and what the quirks change.
func TestAppendVersions(t *testing.T) {
	for _, quirk := range []osstest.Quirk{0, osstest.AppendKeepsETag, osstest.AppendNullVersion} {
		t.Run(fmt.Sprint(quirk), func(t *testing.T) {
			s, clock := newArchive(t)
			s.CreateBucket("bkt", osstest.Versioning(osstest.Enabled))
			s.SetQuirks(osstest.AnyClock | quirk)
			b := sdkBucket(t, s)
			if _, err := b.AppendObject("new", strings.NewReader("one"), 0); err != nil {
				t.Fatal(err)
			}
			before := s.Stat("bkt", "new")
			clock.advance(time.Minute)
			if _, err := b.AppendObject("new", strings.NewReader("two"), 3); err != nil {
				t.Fatal(err)
			}
			after := s.Stat("bkt", "new")
			if after.VersionID != before.VersionID || (after.VersionID == "null") != (quirk == osstest.AppendNullVersion) {
				t.Errorf("version %q, was %q", after.VersionID, before.VersionID)
			}
			if (after.ETag == before.ETag) != (quirk == osstest.AppendKeepsETag) || !after.LastModified.Equal(before.LastModified.Add(time.Minute)) {
				t.Errorf("%s %s, was %s %s", after.ETag, after.LastModified, before.ETag, before.LastModified)
			}
			clock.advance(time.Minute)
			if _, err := b.AppendObject("new", strings.NewReader(""), 6); err != nil || s.Stat("bkt", "new") != after {
				t.Errorf("an empty append: %v, %+v", err, s.Stat("bkt", "new"))
			}
			if err := b.PutObject("new", strings.NewReader("normal")); err != nil {
				t.Fatal(err)
			}
			if _, err := b.AppendObject("new", strings.NewReader("x"), 6); !isCode(err, 409, "ObjectNotAppendable") {
				t.Error(err)
			}
			if r, err := b.ListObjectVersions(oss.Prefix("new")); err != nil || len(r.ObjectVersions) != 2 || r.ObjectVersions[1].VersionId != after.VersionID {
				t.Errorf("%+v, %v", r.ObjectVersions, err)
			}
			s.Append("bkt", "new", []byte("more"))
			if h, err := b.GetObjectDetailedMeta("new"); err != nil || h.Get("Content-Md5") != "" || h.Get("X-Oss-Object-Type") != "Appendable" {
				t.Errorf("appended by the test: %v, %v", h, err)
			}
		})
	}
}

// TestAppendDuringGet checks that an answer under way ends where the object ended when it began.
func TestAppendDuringGet(t *testing.T) {
	s := newServer(t)
	b := sdkBucket(t, s)
	first := strings.Repeat("first ", 1000)
	if _, err := b.AppendObject("log", strings.NewReader(first), 0); err != nil {
		t.Fatal(err)
	}
	crc := fmt.Sprint(s.Stat("bkt", "log").CRC64())
	open := make(chan struct{})
	s.Nth(0, osstest.Inject().Gate(100, open))
	var h http.Header
	body, err := b.GetObject("log", oss.GetResponseHeader(&h))
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	begun := make([]byte, 100)
	if _, err := io.ReadFull(body, begun); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AppendObject("log", strings.NewReader("second"), int64(len(first))); err != nil {
		t.Fatal(err)
	}
	close(open)
	if got := string(begun) + string(readAll(t, body)); got != first || h.Get("X-Oss-Hash-Crc64ecma") != crc {
		t.Errorf("%d bytes, CRC-64 %s, want %d, %s", len(got), h.Get("X-Oss-Hash-Crc64ecma"), len(first), crc)
	}
	rest, err := b.GetObject("log", oss.NormalizedRange(fmt.Sprintf("%d-", len(first))), oss.GetResponseHeader(&h))
	if err != nil {
		t.Fatal(err)
	}
	defer rest.Close()
	if got := string(readAll(t, rest)); got != "second" || h.Get("X-Oss-Hash-Crc64ecma") == crc {
		t.Errorf("%q, %s", got, h.Get("X-Oss-Hash-Crc64ecma"))
	}
}
