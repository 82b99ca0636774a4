package bucket

import "testing"

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
		at := Cursor{token, after, empty}
		objects, next, err := readPage(doc, at)
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
