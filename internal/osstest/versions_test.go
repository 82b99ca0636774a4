package osstest_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl/internal/osstest"
)

// versionEntry is a version or a delete marker in a listing.
type versionEntry struct {
	Key, ID, ETag      string
	Latest, Marker     bool
	Size               int64
	Modified           time.Time
	Type, StorageClass string
}

// versionPage is one page, with its entries in their order: the SDK's result has lost it.
type versionPage struct {
	XMLName     xml.Name `xml:"ListVersionsResult"`
	IsTruncated bool
	NextKey     string                    `xml:"NextKeyMarker"`
	NextID      string                    `xml:"NextVersionIdMarker"`
	Prefixes    []struct{ Prefix string } `xml:"CommonPrefixes"`
	All         []struct {
		XMLName                 xml.Name
		Key, ETag, LastModified string
		VersionID               string `xml:"VersionId"`
		IsLatest                bool
		Size                    int64
		Type, StorageClass      string
		Owner                   struct{ ID string }
	} `xml:",any"`
}

func getVersions(t *testing.T, b *oss.Bucket, params map[string]any) (*versionPage, error) {
	t.Helper()
	params = maps.Clone(params)
	params["versions"], params["encoding-type"] = nil, "url"
	resp, err := b.Do("GET", "", params, nil, nil, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	p := new(versionPage)
	if err := xml.Unmarshal(readAll(t, resp.Body), p); err != nil {
		t.Fatal(err)
	}
	return p, nil
}

func unescape(t *testing.T, s string) string {
	t.Helper()
	u, err := url.QueryUnescape(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// allVersions reads all pages. between is called between two pages.
func allVersions(t *testing.T, b *oss.Bucket, params map[string]any, between func()) (all []versionEntry, prefixes []string, pages int) {
	t.Helper()
	params = maps.Clone(params)
	for {
		p, err := getVersions(t, b, params)
		if err != nil {
			t.Fatal(err)
		}
		if pages++; pages > 1000 {
			t.Fatal("the listing does not end")
		}
		for _, e := range p.All {
			if e.XMLName.Local != "Version" && e.XMLName.Local != "DeleteMarker" {
				continue
			}
			at, err := time.Parse(time.RFC3339, e.LastModified)
			if err != nil || e.Owner.ID == "" {
				t.Fatal(e, err)
			}
			all = append(all, versionEntry{
				Key: unescape(t, e.Key), ID: e.VersionID, ETag: e.ETag, Latest: e.IsLatest, Marker: e.XMLName.Local == "DeleteMarker",
				Size: e.Size, Modified: at, Type: e.Type, StorageClass: e.StorageClass,
			})
		}
		for _, c := range p.Prefixes {
			prefixes = append(prefixes, unescape(t, c.Prefix))
		}
		if !p.IsTruncated {
			if p.NextKey != "" || p.NextID != "" {
				t.Errorf("the last page has markers: %q %q", p.NextKey, p.NextID)
			}
			return all, prefixes, pages
		}
		params["key-marker"], params["version-id-marker"] = unescape(t, p.NextKey), p.NextID
		if between != nil {
			between()
		}
	}
}

// TestVersionsEqualModel checks listings against a model, after random puts, deletes and changes of versioning.
func TestVersionsEqualModel(t *testing.T) {
	keys := []string{"a", "a/", "a/b c+d%2F", "b<&>'\"", "ключ/文件", "c\x01d"}
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			s, clock := newArchive(t)
			b := sdkBucket(t, s, slices.Collect(maps.Values(auths))[seed%3]...)
			model := map[string][]versionEntry{} // the newest first
			status := osstest.Unversioned
			add := func(e versionEntry) {
				old := slices.DeleteFunc(model[e.Key], func(o versionEntry) bool {
					return status == osstest.Unversioned || status == osstest.Suspended && o.ID == "null"
				})
				model[e.Key] = slices.Insert(old, 0, e)
			}
			for range 60 {
				clock.advance(time.Duration(r.IntN(5000)) * time.Millisecond)
				key := keys[r.IntN(len(keys))]
				now := clock.now().UTC().Truncate(time.Second)
				switch n := r.IntN(10); {
				case n < 6:
					content := fmt.Sprint("content ", r.Uint64())
					if err := b.PutObject(key, strings.NewReader(content)); err != nil {
						t.Fatal(err)
					}
					o := s.Stat("bkt", key)
					id := o.VersionID
					if status != osstest.Enabled {
						id = "null"
					}
					add(versionEntry{Key: key, ID: id, ETag: o.ETag, Size: int64(len(content)), Modified: now, Type: "Normal", StorageClass: "Standard"})
				case n < 8:
					var h http.Header
					if err := b.DeleteObject(key, oss.GetResponseHeader(&h)); err != nil {
						t.Fatal(err)
					}
					if status == osstest.Unversioned {
						delete(model, key)
						continue
					}
					id := h.Get("X-Oss-Version-Id")
					if status == osstest.Suspended && id != "null" || h.Get("X-Oss-Delete-Marker") != "true" {
						t.Errorf("%s: %v", status, h)
					}
					add(versionEntry{Key: key, ID: id, Marker: true, Modified: now})
				case n < 9 && len(model[key]) > 0:
					at := r.IntN(len(model[key]))
					if err := b.DeleteObject(key, oss.VersionId(model[key][at].ID)); err != nil {
						t.Fatal(err)
					}
					model[key] = slices.Delete(model[key], at, at+1)
				default:
					status = []osstest.VersioningStatus{osstest.Enabled, osstest.Suspended}[r.IntN(2)]
					s.CreateBucket("bkt", osstest.Versioning(status))
				}
			}
			for _, prefix := range []string{"", "a", "a/", "ключ", "none"} {
				var want []versionEntry
				for _, key := range slices.Sorted(maps.Keys(model)) {
					for i, e := range model[key] {
						e.Latest = i == 0
						if strings.HasPrefix(key, prefix) {
							want = append(want, e)
						}
					}
				}
				for _, most := range []int{1, 2, 3, 7, 1000} {
					got, _, pages := allVersions(t, b, map[string]any{"prefix": prefix, "max-keys": fmt.Sprint(most)}, nil)
					if !slices.Equal(got, want) {
						t.Fatalf("prefix %q, %d at a time:\n%+v\nwant\n%+v", prefix, most, got, want)
					}
					if pages != max(1, (len(want)+most-1)/most) {
						t.Errorf("%d entries, %d at a time: %d pages", len(want), most, pages)
					}
				}
				checkSDKVersions(t, b, prefix, want)
			}
		})
	}
}

// checkSDKVersions checks that the SDK reads the listing, and each version in it.
func checkSDKVersions(t *testing.T, b *oss.Bucket, prefix string, want []versionEntry) {
	t.Helper()
	var versions, markers int
	key, id := "", ""
	for versions+markers <= len(want) {
		r, err := b.ListObjectVersions(oss.Prefix(prefix), oss.KeyMarker(key), oss.VersionIdMarker(id), oss.MaxKeys(3))
		if err != nil {
			t.Fatal(err)
		}
		find := func(key, id string, marker bool) versionEntry {
			i := slices.IndexFunc(want, func(e versionEntry) bool { return e.Key == key && e.ID == id && e.Marker == marker })
			if i < 0 {
				t.Fatalf("%q %s is not there", key, id)
			}
			return want[i]
		}
		for _, v := range r.ObjectVersions {
			e := find(v.Key, v.VersionId, false)
			if v.ETag != e.ETag || v.Size != e.Size || v.IsLatest != e.Latest || !v.LastModified.Equal(e.Modified) || v.Owner.ID == "" {
				t.Errorf("%+v, want %+v", v, e)
			}
			h, err := b.GetObjectDetailedMeta(v.Key, oss.VersionId(v.VersionId))
			if err != nil || h.Get("ETag") != e.ETag {
				t.Errorf("%q %s: %v, %v", v.Key, v.VersionId, h, err)
			}
		}
		for _, m := range r.ObjectDeleteMarkers {
			if e := find(m.Key, m.VersionId, true); m.IsLatest != e.Latest || !m.LastModified.Equal(e.Modified) {
				t.Errorf("%+v, want %+v", m, e)
			}
			if _, err := b.GetObject(m.Key, oss.VersionId(m.VersionId)); !isCode(err, 405, "MethodNotAllowed") {
				t.Errorf("%q %s: %v", m.Key, m.VersionId, err)
			}
		}
		versions, markers = versions+len(r.ObjectVersions), markers+len(r.ObjectDeleteMarkers)
		if !r.IsTruncated {
			break
		}
		key, id = r.NextKeyMarker, r.NextVersionIdMarker
	}
	if versions+markers != len(want) {
		t.Errorf("%d versions and %d markers, want %d", versions, markers, len(want))
	}
}

// TestVersionsWithDelimiter checks that the versions below a common prefix are one entry.
func TestVersionsWithDelimiter(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("bkt", osstest.Versioning(osstest.Enabled))
	for _, key := range []string{"a", "d/1", "d/2", "e/f/1", "g", "g"} {
		s.Put("bkt", key, osstest.Bytes(nil))
	}
	s.Delete("bkt", "d/2")
	b := sdkBucket(t, s)
	for _, most := range []string{"1", "2", "1000"} {
		all, prefixes, _ := allVersions(t, b, map[string]any{"delimiter": "/", "max-keys": most}, nil)
		var keys []string
		for _, e := range all {
			keys = append(keys, e.Key)
		}
		if !slices.Equal(keys, []string{"a", "g", "g"}) || !slices.Equal(prefixes, []string{"d/", "e/"}) {
			t.Errorf("%s at a time: %q, %q", most, keys, prefixes)
		}
	}
}

// TestVersionsOfBucketWithout checks what is listed of a bucket that never had versions, virtual objects among them.
func TestVersionsOfBucketWithout(t *testing.T) {
	s := newServer(t)
	s.SetVirtual("bkt", 2500, func(i int) (string, osstest.Content) { return fmt.Sprintf("k%04d", i), osstest.Zeros(int64(i)) })
	s.Put("bkt", "k0007", osstest.Bytes([]byte("hides the virtual one, and is longer")))
	s.Put("bkt", "k0007x", osstest.Bytes(nil))
	b := sdkBucket(t, s)
	for quirk, id := range map[osstest.Quirk]string{0: "null", osstest.EmptyVersionID: ""} {
		s.SetQuirks(quirk)
		all, _, pages := allVersions(t, b, map[string]any{"max-keys": "1000"}, nil)
		if len(all) != 2501 || pages != 3 || all[7].Size < 30 || all[8].Key != "k0007x" || all[2500].Size != 2499 {
			t.Fatalf("%d entries in %d pages", len(all), pages)
		}
		for _, e := range all {
			if e.ID != id || !e.Latest || e.Marker {
				t.Fatalf("%+v", e)
			}
		}
	}
}

// TestNoNullVersion checks that the version null is there in a bucket that never had versions, unless a quirk says that it is not.
func TestNoNullVersion(t *testing.T) {
	s := newServer(t)
	b := sdkBucket(t, s)
	s.Put("bkt", "k", osstest.Random(1, 10))
	for quirk, status := range map[osstest.Quirk]int{0: http.StatusOK, osstest.NoNullVersion: http.StatusNotFound} {
		s.SetQuirks(quirk)
		_, err := b.GetObjectDetailedMeta("k", oss.VersionId("null"))
		var se oss.ServiceError
		if (err == nil) != (status == http.StatusOK) || err != nil && (!errors.As(err, &se) || se.StatusCode != status) {
			t.Errorf("quirk %v: %v", quirk, err)
		}
	}
	s.CreateBucket("bkt", osstest.Versioning(osstest.Suspended))
	if _, err := b.GetObjectDetailedMeta("k", oss.VersionId("null")); err != nil {
		t.Errorf("with versions: %v", err)
	}
}

// TestVersionsChangeBetweenPages checks that a listing goes on behind a version that is deleted meanwhile.
func TestVersionsChangeBetweenPages(t *testing.T) {
	s := newServer(t)
	s.CreateBucket("bkt", osstest.Versioning(osstest.Enabled))
	b := sdkBucket(t, s)
	var ids []string
	for i := range 5 {
		ids = append(ids, s.Put("bkt", "k", osstest.Zeros(int64(i))).VersionID)
	}
	page := func() (*versionPage, error) {
		return getVersions(t, b, map[string]any{"key-marker": "k", "version-id-marker": ids[3]})
	}
	check := func(want ...string) {
		t.Helper()
		p, err := page()
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range p.All {
			if e.XMLName.Local == "Version" {
				got = append(got, e.VersionID)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	s.SetQuirks(osstest.MarkerMustExist)
	check(ids[2], ids[1], ids[0])
	s.SetQuirks(0)
	s.DeleteVersion("bkt", "k", ids[3])
	check(ids[2], ids[1], ids[0])
	s.SetQuirks(osstest.MarkerMustExist)
	if _, err := page(); !isCode(err, 400, "InvalidArgument") {
		t.Error(err)
	}
}

// TestVersionsRefused checks what is wrong with a request, and the permission that its error names.
func TestVersionsRefused(t *testing.T) {
	s := newServer(t)
	b := sdkBucket(t, s)
	_, err := getVersions(t, b, map[string]any{"version-id-marker": "x"})
	if !isCode(err, 400, "InvalidArgument") || err.(oss.ServiceError).Ec != "0012-00000106" {
		t.Error(err)
	}
	for _, most := range []string{"0", "1001", "x"} {
		if _, err := getVersions(t, b, map[string]any{"max-keys": most}); !isCode(err, 400, "InvalidArgument") {
			t.Errorf("%s: %v", most, err)
		}
	}
	s.AddUser("limited", "sk", osstest.Without("oss:ListObjectVersions"))
	client, err := s.ClientFor("limited", "sk")
	if err != nil {
		t.Fatal(err)
	}
	limited, err := client.Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := limited.ListObjectVersions(); !isCode(err, 403, "AccessDenied") || !strings.Contains(err.(oss.ServiceError).RawMessage, "oss:ListObjectVersions") {
		t.Error(err)
	}
	if _, err := limited.ListObjectsV2(); err != nil {
		t.Error(err)
	}
}

// TestVersionsOfOldObjects checks objects that are older than the bucket's versioning, and archived versions.
func TestVersionsOfOldObjects(t *testing.T) {
	s, clock := newArchive(t)
	b := sdkBucket(t, s)
	s.Put("bkt", "k", osstest.Bytes([]byte("null")), osstest.StorageClass("ColdArchive"))
	s.CreateBucket("bkt", osstest.Versioning(osstest.Enabled))
	s.RestoreVersion("bkt", "k", "null", clock.now().Add(time.Hour))
	s.Put("bkt", "k", osstest.Bytes([]byte("new")))
	r, err := b.ListObjectVersions()
	if err != nil || len(r.ObjectVersions) != 2 {
		t.Fatal(r.ObjectVersions, err)
	}
	if o := r.ObjectVersions[1]; o.VersionId != "null" || o.IsLatest || o.StorageClass != "ColdArchive" || !strings.Contains(o.RestoreInfo, `ongoing-request="false"`) {
		t.Errorf("%+v", o)
	}
	for quirk, want := range map[osstest.Quirk]string{0: "", osstest.NullVersionHeader: "null"} {
		s.SetQuirks(osstest.AnyClock | quirk)
		h, err := b.GetObjectDetailedMeta("k", oss.VersionId("null"))
		if err != nil || h.Get("X-Oss-Version-Id") != want {
			t.Errorf("%v, %v", h, err)
		}
	}
	s.SetQuirks(osstest.AnyClock | osstest.UnknownVersionNoSuchKey)
	if _, err := b.GetObject("k", oss.VersionId("unknown")); !isCode(err, 404, "NoSuchKey") {
		t.Error(err)
	}
}
