package bucket

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ossdl/ossdl/internal/object"
)

// pageOf returns the reader of a page.
func pageOf(doc []byte) *pageReader { return &pageReader{from: bytes.NewReader(doc), left: pageLimit} }

// TestHostilePage checks that no page costs more memory than a few times what OSS's largest does.
func TestHostilePage(t *testing.T) {
	const size, most = 16 << 20, 64 << 20
	fill := func(head, repeat, tail string) string { return head + strings.Repeat(repeat, size/len(repeat)) + tail }
	documents := map[string]string{
		"many empty entries":  fill("<ListBucketResult>", "<Contents/>", ""),
		"many other elements": fill("<ListBucketResult>", "<a/>", ""),
		"deep":                fill("<ListBucketResult>", "<a>", ""),
		"many attributes":     fill("<ListBucketResult><Contents", " a=''", ""),
		"one long name":       fill("<ListBucketResult><", "a", ""),
		"one long text":       fill("<ListBucketResult><Contents><Key>", "a", ""),
		"text in pieces":      fill("<ListBucketResult><Contents><Key>", "a<!-- -->", ""),
		"a long comment":      fill("<ListBucketResult><!--", "a", ""),
		"a directive":         fill("<!DOCTYPE ", "<a>", ""),
		"spaces":              fill("", " ", ""),
		"many documents":      fill("", "<?a?>", ""),
	}
	cursors := map[string]Cursor{}
	ofVersions := strings.NewReplacer("ListBucketResult", "ListVersionsResult", "Contents", "Version")
	for name, doc := range maps.Clone(documents) {
		if strings.HasPrefix(doc, "<List") {
			documents[name+", versions"], cursors[name+", versions"] = ofVersions.Replace(doc), Cursor{asOf: time.Unix(1, 0)}
		}
	}
	documents["many delete markers"], cursors["many delete markers"] = fill("<ListVersionsResult>", "<DeleteMarker/>", ""), Cursor{asOf: time.Unix(1, 0)}
	for name, doc := range documents {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			entries, _, err := readPage(pageOf([]byte(doc)), cursors[name])
			runtime.ReadMemStats(&after)
			if err != nil && strings.Contains(err.Error(), "its root is") {
				t.Error(err)
			}
			if err == nil || entries != nil {
				t.Errorf("accepted with %d entries", len(entries))
			}
			// All that was allocated, whether or not it was garbage by the end; the document itself is a copy.
			if n := after.TotalAlloc - before.TotalAlloc; n > size+most {
				t.Errorf("%d MiB for a page of %d MiB", n>>20, size>>20)
			}
		})
	}
}

// TestLargestPage checks that a page as large as OSS makes them is within the bounds.
func TestLargestPage(t *testing.T) {
	var doc strings.Builder
	doc.WriteString("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult>\n  <Name>bkt</Name>\n  <EncodingType>url</EncodingType>\n")
	for i := range maxKeys {
		doc.WriteString("  <Contents>\n    <Key>" + strings.Repeat("%E4", MaxKey-4))
		for _, digit := range []int{i / 1000, i / 100, i / 10, i} {
			doc.WriteString(string(rune('0' + digit%10)))
		}
		doc.WriteString("</Key>\n    <LastModified>2026-01-02T03:04:05.000Z</LastModified>\n    <ETag>\"5B3C1A2E053D763E1B002CC607C5A0FE1****\"</ETag>\n" +
			"    <Type>Normal</Type>\n    <Size>344606</Size>\n    <StorageClass>ColdArchive</StorageClass>\n    <RestoreInfo>ongoing-request=\"true\"</RestoreInfo>\n" +
			"    <TransitionTime>2026-01-02T03:04:05.000Z</TransitionTime>\n    <Owner>\n      <ID>0022012****</ID>\n      <DisplayName>user-example</DisplayName>\n    </Owner>\n  </Contents>\n")
	}
	doc.WriteString("  <IsTruncated>true</IsTruncated>\n  <NextContinuationToken>" + strings.Repeat("a", 4<<10) + "</NextContinuationToken>\n</ListBucketResult>")
	entries, next, err := readPage(pageOf([]byte(doc.String())), Cursor{})
	if err != nil || len(entries) != maxKeys || next.Token == "" || entries[0].Size != 344606 || entries[0].Modified.IsZero() {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
}

// TestPageWithMoreThanAskedFor checks that a page with some thousand entries is read, since not every server counts.
func TestPageWithMoreThanAskedFor(t *testing.T) {
	for _, c := range []struct {
		n  int
		ok bool
	}{{3 * maxKeys, true}, {maxEntries, true}, {maxEntries + 1, false}} {
		var doc strings.Builder
		doc.WriteString("<ListBucketResult>")
		for i := range c.n {
			fmt.Fprintf(&doc, "<Contents><Key>%06d</Key><Size>1</Size><LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>", i)
		}
		doc.WriteString("</ListBucketResult>")
		if entries, _, err := readPage(pageOf([]byte(doc.String())), Cursor{}); (err == nil) != c.ok || c.ok && len(entries) != c.n {
			t.Errorf("a page of %d: %d entries, %v", c.n, len(entries), err)
		}
	}
}

// TestListedArchiveStatus checks what a listing says of archived objects, in whichever order its elements come.
func TestListedArchiveStatus(t *testing.T) {
	until := time.Date(2017, 4, 16, 8, 12, 33, 0, time.UTC)
	const restored = `<RestoreInfo>ongoing-request="false", expiry-date="Sun, 16 Apr 2017 08:12:33 GMT"</RestoreInfo>`
	for elements, want := range map[string]object.ArchiveStatus{
		"":                                      {},
		"<StorageClass>Standard</StorageClass>": {},
		"<StorageClass>IA</StorageClass>" + restored:                                                              {},
		"<StorageClass>Archive</StorageClass>":                                                                    {Class: object.Archive, State: object.Frozen},
		"<StorageClass>COLDARCHIVE</StorageClass><RestoreInfo/>":                                                  {Class: object.ColdArchive, State: object.Frozen},
		"<StorageClass>DeepColdArchive</StorageClass><RestoreInfo>ongoing-request=&quot;true&quot;</RestoreInfo>": {Class: object.DeepColdArchive, State: object.Thawing},
		restored + "<StorageClass>Archive</StorageClass>":                                                         {Class: object.Archive, State: object.Restored, Until: until},
		"<StorageClass>Archive</StorageClass>" + restored:                                                         {Class: object.Archive, State: object.Restored, Until: until},
	} {
		doc := "<ListBucketResult><Contents><Key>k</Key>" + elements + "</Contents></ListBucketResult>"
		entries, _, err := readPage(pageOf([]byte(doc)), Cursor{})
		if err != nil || len(entries) != 1 || entries[0].ArchiveStatus != want {
			t.Errorf("%s: %+v, %v; want %+v", elements, entries, err, want)
		}
	}
}

// FuzzListing checks that a listing is refused unless it names objects that can exist, and that it does not go in circles.
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
		at := Cursor{Token: token, after: after, empty: empty}
		objects, next, err := readPage(pageOf(doc), at)
		if err != nil {
			if objects != nil || next != (Cursor{}) {
				t.Errorf("%v, but %+v and %+v", err, objects, next)
			}
			return
		}
		last := after
		for _, o := range objects {
			if o.Key == "" || o.Size < 0 || o.Key <= last {
				t.Errorf("accepted %+v after %q", o, last)
			}
			last = o.Key
		}
		// Either the listing ends, or it has come further, or it has fewer pages left without a key.
		if next.after != last || next.Token != "" && (next.Token == token || len(objects) == 0 && (next.empty != empty+1 || next.empty >= maxEmpty)) {
			t.Errorf("the page at %+v is followed by that at %+v", at, next)
		}
	})
}

// FuzzVersions checks that pages of a listing of versions name objects that can exist, in order, each key once, none that was written
// after the time; that a listing ends, or has come further; and that no sequence of pages takes more memory than its last key.
func FuzzVersions(f *testing.F) {
	const head, tail = "<ListVersionsResult>", "</ListVersionsResult>"
	entry := func(kind, key, id, at string) string {
		return "<" + kind + "><Key>" + key + "</Key><VersionId>" + id + "</VersionId><LastModified>" + at + "</LastModified><Size>1</Size></" + kind + ">"
	}
	more := func(key, id string) string {
		return "<IsTruncated>true</IsTruncated><NextKeyMarker>" + key + "</NextKeyMarker><NextVersionIdMarker>" + id + "</NextVersionIdMarker>"
	}
	const old, late = "2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z"
	for _, doc := range []string{
		entry("Version", "a", "2", late) + entry("Version", "a", "1", old), entry("DeleteMarker", "a", "2", old) + entry("Version", "a", "1", old),
		entry("Version", "a", "2", late) + more("a", "2"), entry("Version", "a", "", old) + more("a", ""), entry("Version", "a", "null", old) + more("a", "null"),
		entry("Version", "b", "1", old) + entry("Version", "a", "1", old), more("x", ""), more("", "1"), more("a", "1") + entry("Version", "%2B", "1", old) + "<EncodingType>url</EncodingType>",
		entry("Version", "", "1", old), entry("Version", "a", "1", ""), "<Version/>", "<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>" + more("a/", ""), "",
	} {
		f.Add([]byte(head+doc+tail), "", "", "", false, 0)
		f.Add([]byte(head+doc+tail), "a", "a", "2", false, maxEmpty-1)
		f.Add([]byte(head+doc+tail), "a", "a", "1", true, 1)
	}
	when := time.Date(2026, 1, 15, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, doc []byte, token, after, version string, settled bool, empty int) {
		at := Cursor{Token: token, after: after, empty: empty}.AsOf(when)
		at.version, at.settled = version, settled
		objects, next, err := readPage(pageOf(doc), at)
		if err != nil {
			if objects != nil || next != (Cursor{}) {
				t.Errorf("%v, but %+v and %+v", err, objects, next)
			}
			return
		}
		last := after
		for i, o := range objects {
			switch {
			case o.Key == "" || o.Size < 0 || o.deleted || o.Modified.IsZero() || o.Modified.After(when), o.Key < last, i > 0 && o.Key == last,
				i == 0 && o.Key == after && (settled || version == ""):
				t.Errorf("accepted %+v after %q", o, last)
			}
			last = o.Key
		}
		switch {
		case next.asOf != at.asOf || next.after < last:
			t.Errorf("the page at %+v is followed by that at %+v", at, next)
		case next.Token == "": // the end
		case next.Token == cmp.Or(token, after) && next.version == version, next.Token < next.after, next.empty >= maxEmpty, next.Token < after:
			t.Errorf("the page at %+v is followed by that at %+v, which does not go on", at, next)
		}
		// The same page again, as a server may send it for ever, ends soon.
		for n := 0; next.Token != ""; n++ {
			if n > 2*maxEmpty {
				t.Fatalf("%d times the same page: %+v", n, next)
			}
			if _, next, err = readPage(pageOf(doc), next); err != nil {
				return
			}
		}
	})
}
