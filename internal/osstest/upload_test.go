package osstest_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/osstest"
)

// TestUploadFile checks that the SDK's parallel upload makes one object, with the headers of its beginning.
func TestUploadFile(t *testing.T) {
	for name, opts := range auths {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.CreateBucket("bkt", osstest.Versioning(osstest.Enabled))
			b := sdkBucket(t, s, opts...)
			content := osstest.Random(7, 350<<10)
			want := all(t, content)
			path := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(path, want, 0o600); err != nil {
				t.Fatal(err)
			}
			const key = "a b/ключ+%2F"
			if err := b.UploadFile(key, path, 100<<10, oss.Routines(3), oss.Meta("who", "me"), oss.ContentType("text/x"),
				oss.ObjectStorageClass("IA")); err != nil {
				t.Fatal(err)
			}
			var h http.Header
			body, err := b.GetObject(key, oss.GetResponseHeader(&h))
			if err != nil {
				t.Fatal(err)
			}
			defer body.Close()
			if got := readAll(t, body); !bytes.Equal(got, want) {
				t.Errorf("%d bytes, want %d", len(got), len(want))
			}
			for name, want := range map[string]string{
				"X-Oss-Meta-Who": "me", "Content-Type": "text/x", "X-Oss-Storage-Class": "IA", "X-Oss-Object-Type": "Multipart",
				"X-Oss-Hash-Crc64ecma": fmt.Sprint(content.CRC64()), "Content-Md5": "", "X-Oss-Version-Id": s.Stat("bkt", key).VersionID,
			} {
				if got := h.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if etag := h.Get("ETag"); !strings.HasSuffix(etag, `-4"`) {
				t.Errorf("ETag %s", etag)
			}
			if s.Uploads("bkt") != 0 {
				t.Error("the upload is still there")
			}
		})
	}
}

// TestMultipartRefused checks what is wrong with a completion, and that it makes no object.
func TestMultipartRefused(t *testing.T) {
	const least = 100 << 10
	for name, c := range map[string]struct {
		sizes  []int
		change func([]oss.UploadPart) []oss.UploadPart
		opts   []oss.Option
		status int // 0: no error
		code   string
	}{
		"good":          {[]int{least, least, 1}, nil, nil, 0, ""},
		"gap":           {[]int{least, 0, 1}, nil, nil, 0, ""},
		"small":         {[]int{least - 1, least}, nil, nil, 400, "EntityTooSmall"},
		"ETag":          {[]int{least, 1}, func(p []oss.UploadPart) []oss.UploadPart { p[1].ETag = `"00"`; return p }, nil, 400, "InvalidPart"},
		"missing":       {[]int{least, 1}, func(p []oss.UploadPart) []oss.UploadPart { p[1].PartNumber = 9; return p }, nil, 400, "InvalidPart"},
		"twice":         {[]int{least, 1}, func(p []oss.UploadPart) []oss.UploadPart { return append(p[:1], p[0]) }, nil, 400, "InvalidPartOrder"},
		"none":          {nil, nil, nil, 400, "MalformedXML"},
		"as encrypted":  {[]int{least, 1}, nil, sizes(least+1, least), 0, ""},
		"more than so":  {[]int{least, least, 1}, nil, sizes(2*least, least), 400, "InvalidArgument"},
		"fewer than so": {[]int{least, 1}, nil, sizes(3*least, least), 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			b := sdkBucket(t, s)
			up, err := b.InitiateMultipartUpload("k", c.opts...)
			if err != nil {
				t.Fatal(err)
			}
			var parts []oss.UploadPart
			var want []byte
			for i, size := range c.sizes {
				if size == 0 {
					continue
				}
				data := all(t, osstest.Random(uint64(i), int64(size)))
				for range 2 { // the second replaces the first
					p, err := b.UploadPart(up, bytes.NewReader(data), int64(size), i+1)
					if err != nil {
						t.Fatal(err)
					}
					if len(parts) == 0 || parts[len(parts)-1].PartNumber != p.PartNumber {
						parts = append(parts, p)
					}
				}
				want = append(want, data...)
			}
			if c.change != nil {
				parts = c.change(parts)
			}
			_, err = b.CompleteMultipartUpload(up, parts)
			if c.status != 0 {
				if !isCode(err, c.status, c.code) || s.Stat("bkt", "k") != nil || s.Uploads("bkt") != 1 {
					t.Errorf("%v, stored %v", err, s.Stat("bkt", "k"))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if o := s.Stat("bkt", "k"); o == nil || !bytes.Equal(all(t, o.Content), want) {
				t.Errorf("%v", o)
			}
		})
	}
}

func sizes(data, part int) []oss.Option {
	return []oss.Option{
		oss.Meta("client-side-encryption-data-size", fmt.Sprint(data)), oss.Meta("client-side-encryption-part-size", fmt.Sprint(part)),
	}
}

// TestUnknownUpload checks that an upload is there from its beginning to its end, and only for its key.
func TestUnknownUpload(t *testing.T) {
	s := newServer(t)
	b := sdkBucket(t, s)
	up, err := b.InitiateMultipartUpload("k")
	if err != nil {
		t.Fatal(err)
	}
	put := func(up oss.InitiateMultipartUploadResult, n int) error {
		_, err := b.UploadPart(up, strings.NewReader("x"), 1, n)
		return err
	}
	if err := put(up, 10000); err != nil {
		t.Error(err)
	}
	for _, n := range []int{0, 10001} {
		if err := put(up, n); !isCode(err, 400, "InvalidArgument") {
			t.Errorf("part %d: %v", n, err)
		}
	}
	other := up
	other.Key = "other"
	if err := put(other, 1); !isCode(err, 404, "NoSuchUpload") {
		t.Errorf("another key: %v", err)
	}
	if err := b.AbortMultipartUpload(up); err != nil || s.Uploads("bkt") != 0 {
		t.Error(err)
	}
	if err := put(up, 1); !isCode(err, 404, "NoSuchUpload") {
		t.Errorf("aborted: %v", err)
	}
	if _, err := b.CompleteMultipartUpload(up, []oss.UploadPart{{PartNumber: 1}}); !isCode(err, 404, "NoSuchUpload") {
		t.Errorf("aborted: %v", err)
	}
	if err := b.AbortMultipartUpload(up); !isCode(err, 404, "NoSuchUpload") {
		t.Errorf("aborted: %v", err)
	}
}

// TestEncryptionHeaders checks that what an encrypting client stores with an object comes back on GET and HEAD.
func TestEncryptionHeaders(t *testing.T) {
	s := newServer(t)
	b := sdkBucket(t, s)
	meta := map[string]string{
		"key": "a2V5", "start": "aXY=", "cek-alg": "AES/CTR/NoPadding", "wrap-alg": "RSA/NONE/PKCS1Padding",
		"matdesc": `{"a":"1","b":"2"}`, "unencrypted-content-length": "5", "unencrypted-content-md5": "eA==",
	}
	var opts []oss.Option
	for name, value := range meta {
		opts = append(opts, oss.Meta("client-side-encryption-"+name, value))
	}
	if err := b.PutObject("put", strings.NewReader("12345"), opts...); err != nil {
		t.Fatal(err)
	}
	up, err := b.InitiateMultipartUpload("multipart", opts...)
	if err != nil {
		t.Fatal(err)
	}
	// The SDKs send the headers with each part, too. They mean nothing there.
	p, err := b.UploadPart(up, strings.NewReader("12345"), 5, 1, oss.Meta("client-side-encryption-key", "other"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.CompleteMultipartUpload(up, []oss.UploadPart{p}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"put", "multipart"} {
		head, err := b.GetObjectDetailedMeta(key)
		if err != nil {
			t.Fatal(err)
		}
		var got http.Header
		body, err := b.GetObject(key, oss.GetResponseHeader(&got), oss.Range(1, 2))
		if err != nil {
			t.Fatal(err)
		}
		body.Close()
		for name, value := range meta {
			name = "X-Oss-Meta-Client-Side-Encryption-" + name
			if head.Get(name) != value || got.Get(name) != value {
				t.Errorf("%s: %s: HEAD %q, GET %q, want %q", key, name, head.Get(name), got.Get(name), value)
			}
		}
	}
}
