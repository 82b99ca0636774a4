package osstest_test

import (
	"fmt"
	"runtime"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/osstest"
)

// listAll reads all pages.
func listAll(t *testing.T, b *oss.Bucket, opts ...oss.Option) (keys, prefixes []string, pages int) {
	t.Helper()
	token := ""
	for {
		r, err := b.ListObjectsV2(append(opts, oss.ContinuationToken(token))...)
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, o := range r.Objects {
			keys = append(keys, o.Key)
		}
		prefixes = append(prefixes, r.CommonPrefixes...)
		if !r.IsTruncated {
			return keys, prefixes, pages
		}
		token = r.NextContinuationToken
	}
}

func TestList(t *testing.T) {
	odd := []string{"a", "a/", "a/b", "a/b/c", "a//x", "a b+c%2F", "b<&>'\"", "c\x01d", "ключ/文件", "z"}
	for name, opts := range auths {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.CreateBucket("bkt", osstest.Versioning(osstest.Enabled))
			for _, k := range odd {
				s.Put("bkt", k, osstest.Bytes([]byte(k)))
			}
			s.Put("bkt", "gone", osstest.Bytes(nil))
			s.Delete("bkt", "gone")
			sort.Strings(odd)
			b := sdkBucket(t, s, opts...)
			for _, max := range []int{1, 2, 3, 1000} {
				keys, _, pages := listAll(t, b, oss.MaxKeys(max))
				if !slices.Equal(keys, odd) || pages != (len(odd)+max-1)/max {
					t.Errorf("max %d: %q in %d pages", max, keys, pages)
				}
				keys, prefixes, _ := listAll(t, b, oss.MaxKeys(max), oss.Delimiter("/"))
				if !slices.Equal(keys, []string{"a", "a b+c%2F", "b<&>'\"", "c\x01d", "z"}) || !slices.Equal(prefixes, []string{"a/", "ключ/"}) {
					t.Errorf("max %d, delimiter: %q %q", max, keys, prefixes)
				}
				keys, prefixes, _ = listAll(t, b, oss.MaxKeys(max), oss.Prefix("a/"), oss.Delimiter("/"))
				if !slices.Equal(keys, []string{"a/", "a/b"}) || !slices.Equal(prefixes, []string{"a//", "a/b/"}) {
					t.Errorf("max %d, prefix: %q %q", max, keys, prefixes)
				}
			}
			if keys, _, _ := listAll(t, b, oss.StartAfter("c")); !slices.Equal(keys, odd[slices.Index(odd, "c\x01d"):]) {
				t.Errorf("start-after: %q", keys)
			}
			r, err := b.ListObjectsV2(oss.Prefix("a/b/"))
			if err != nil || len(r.Objects) != 1 {
				t.Fatal(r, err)
			}
			if o, want := r.Objects[0], s.Stat("bkt", "a/b/c"); o.Size != 5 || o.ETag != want.ETag || !o.LastModified.Equal(want.LastModified) ||
				o.Type != "Normal" || o.StorageClass != "Standard" {
				t.Errorf("%+v", o)
			}
			if _, err := b.ListObjectsV2(oss.MaxKeys(1001)); !isCode(err, 400, "InvalidArgument") {
				t.Errorf("max-keys 1001: %v", err)
			}
			if _, err := b.ListObjectsV2(oss.ContinuationToken("?")); !isCode(err, 400, "InvalidArgument") {
				t.Errorf("wrong token: %v", err)
			}
			if _, err := b.ListObjects(); !isCode(err, 501, "NotImplemented") {
				t.Errorf("ListObjects: %v", err)
			}
		})
	}
}

func TestListMillion(t *testing.T) {
	s := newServer(t, osstest.WithoutLog())
	const n = 1_000_000
	s.SetVirtual("bkt", n, func(i int) (string, osstest.Content) {
		return fmt.Sprintf("d%03d/k%07d", i/2000, i), osstest.Random(uint64(i), int64(i%100))
	})
	s.Put("bkt", "d050/extra", osstest.Bytes([]byte("x")))
	s.Put("bkt", "d000/k0000007", osstest.Bytes([]byte("hides the virtual one")))
	b := sdkBucket(t, s)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	_, prefixes, _ := listAll(t, b, oss.Delimiter("/"), oss.MaxKeys(1000))
	if len(prefixes) != 500 || prefixes[50] != "d050/" {
		t.Errorf("%d prefixes", len(prefixes))
	}
	keys, _, pages := listAll(t, b, oss.Prefix("d050/"), oss.MaxKeys(1000))
	if len(keys) != 2001 || pages != 3 || keys[0] != "d050/extra" || !slices.IsSorted(keys) {
		t.Errorf("%d keys in %d pages", len(keys), pages)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the heap has grown by %d bytes", grown)
	}
	h, err := b.GetObjectDetailedMeta("d499/k0999999")
	if err != nil || h.Get("Content-Length") != "99" || h.Get("X-Oss-Hash-Crc64ecma") != fmt.Sprint(osstest.Random(999999, 99).CRC64()) {
		t.Errorf("virtual object: %v, %v", h, err)
	}
	r, err := b.ListObjectsV2(oss.Prefix("d000/k0000007"))
	if err != nil || r.Objects[0].Size != int64(len("hides the virtual one")) {
		t.Errorf("%v %v", r.Objects, err)
	}
	s.OnList(func(r *osstest.Request) *osstest.Fault {
		if strings.Contains(r.Query, "prefix=fail") {
			return osstest.Error(503, "TotalQpsLimitExceeded")
		}
		return nil
	})
	if _, err := b.ListObjectsV2(oss.Prefix("fail")); !isCode(err, 503, "TotalQpsLimitExceeded") {
		t.Errorf("OnList: %v", err)
	}
}
