package ossv2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/osstest"
)

// sameAsSDK is the method that programs call now.
var sameAsSDK = []any{(*oss.Downloader).DownloadFile, (*Downloader).DownloadFile}

// TestSignature checks that DownloadFile can be called as that of the SDK.
func TestSignature(t *testing.T) {
	theirs, ours := reflect.TypeOf(sameAsSDK[0]), reflect.TypeOf(sameAsSDK[1])
	for i := 1; i < theirs.NumIn(); i++ {
		if theirs.In(i) != ours.In(i) {
			t.Errorf("argument %d is %v, not %v", i, ours.In(i), theirs.In(i))
		}
	}
	for i := range theirs.NumOut() {
		if theirs.Out(i) != ours.Out(i) {
			t.Errorf("result %d is %v, not %v", i, ours.Out(i), theirs.Out(i))
		}
	}
	if theirs.NumIn() != ours.NumIn() || theirs.NumOut() != ours.NumOut() || theirs.IsVariadic() != ours.IsVariadic() {
		t.Errorf("%v is not %v", ours, theirs)
	}
}

// content returns the bytes of an object.
func content(t *testing.T, c osstest.Content) []byte {
	t.Helper()
	b := make([]byte, c.Size())
	if _, err := c.ReadAt(b, 0); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return b
}

// wire is what a field of a request leads to: these parts of a request, and these bytes of the object.
type wire struct {
	header, value string // of each request
	query         string // of each request
	off, end      int64  // of the object; 0 and 0: all
}

// requestCases say for each field of GetObjectRequest what a value leads to; a nil want is an error that names the field, or what
// names says.
var requestCases = map[string][]struct {
	set   func(*oss.GetObjectRequest)
	want  *wire
	names string
}{
	"Bucket": {{func(r *oss.GetObjectRequest) { r.Bucket = nil }, nil, ""}},
	"Key":    {{func(r *oss.GetObjectRequest) { r.Key = nil }, nil, ""}},
	"IfMatch": {
		{func(r *oss.GetObjectRequest) { r.IfMatch = oss.Ptr("5B3C1A2E053D763E1B002CC607C5A0FE") }, &wire{header: "If-Match", value: `"5B3C1A2E053D763E1B002CC607C5A0FE"`}, ""},
		{func(r *oss.GetObjectRequest) { r.IfMatch = oss.Ptr("") }, nil, "WithIfMatch"},
	},
	"IfNoneMatch":       {{func(r *oss.GetObjectRequest) { r.IfNoneMatch = oss.Ptr(`"x"`) }, nil, ""}},
	"IfModifiedSince":   {{func(r *oss.GetObjectRequest) { r.IfModifiedSince = oss.Ptr("x") }, nil, ""}},
	"IfUnmodifiedSince": {{func(r *oss.GetObjectRequest) { r.IfUnmodifiedSince = oss.Ptr("x") }, nil, ""}},
	"Range": {
		{func(r *oss.GetObjectRequest) { r.Range = oss.Ptr("bytes=10-19") }, &wire{header: "Range", value: "bytes=10-19", off: 10, end: 20}, ""},
		{func(r *oss.GetObjectRequest) { r.Range = oss.Ptr("bytes=900-") }, &wire{off: 900, end: 1000}, ""},
		{func(r *oss.GetObjectRequest) { r.Range = oss.Ptr("bytes=-9") }, nil, ""},
		{func(r *oss.GetObjectRequest) { r.Range = oss.Ptr("bytes=9-8") }, nil, ""},
		{func(r *oss.GetObjectRequest) { r.Range = oss.Ptr("bytes=0-1,5-6") }, nil, ""},
		{func(r *oss.GetObjectRequest) { r.Range = oss.Ptr("0-1") }, nil, ""},
		{func(r *oss.GetObjectRequest) { r.Range = oss.Ptr("") }, nil, ""},
	},
	"RangeBehavior": {
		{func(r *oss.GetObjectRequest) { r.RangeBehavior = oss.Ptr("standard") }, &wire{header: "X-Oss-Range-Behavior", value: "standard"}, ""},
		{func(r *oss.GetObjectRequest) { r.RangeBehavior = oss.Ptr("other") }, nil, ""},
	},
	"ResponseCacheControl":       {{func(r *oss.GetObjectRequest) { r.ResponseCacheControl = oss.Ptr("no-cache") }, &wire{query: "response-cache-control=no-cache"}, ""}},
	"ResponseContentDisposition": {{func(r *oss.GetObjectRequest) { r.ResponseContentDisposition = oss.Ptr("inline") }, &wire{query: "response-content-disposition=inline"}, ""}},
	"ResponseContentEncoding":    {{func(r *oss.GetObjectRequest) { r.ResponseContentEncoding = oss.Ptr("gzip") }, &wire{query: "response-content-encoding=gzip"}, ""}},
	"ResponseContentLanguage":    {{func(r *oss.GetObjectRequest) { r.ResponseContentLanguage = oss.Ptr("de") }, &wire{query: "response-content-language=de"}, ""}},
	"ResponseContentType":        {{func(r *oss.GetObjectRequest) { r.ResponseContentType = oss.Ptr("text") }, &wire{query: "response-content-type=text"}, ""}},
	"ResponseExpires":            {{func(r *oss.GetObjectRequest) { r.ResponseExpires = oss.Ptr("0") }, &wire{query: "response-expires=0"}, ""}},
	"VersionId":                  {{func(r *oss.GetObjectRequest) { r.VersionId = oss.Ptr("null") }, &wire{query: "versionId=null"}, ""}},
	"TrafficLimit":               {{func(r *oss.GetObjectRequest) { r.TrafficLimit = 838860800 }, &wire{header: "X-Oss-Traffic-Limit", value: "838860800"}, ""}},
	"ProgressFn":                 {{func(r *oss.GetObjectRequest) { r.ProgressFn = func(_, _, _ int64) {} }, &wire{}, ""}}, // see TestProgress
	"Process":                    {{func(r *oss.GetObjectRequest) { r.Process = oss.Ptr("image/resize,w_100") }, nil, ""}},
	"RequestPayer":               {{func(r *oss.GetObjectRequest) { r.RequestPayer = oss.Ptr("requester") }, &wire{header: "X-Oss-Request-Payer", value: "requester"}, ""}},
	"Headers": {
		{func(r *oss.GetObjectRequest) { r.Headers = map[string]string{"X-Mine": "1"} }, &wire{header: "X-Mine", value: "1"}, ""},
		{func(r *oss.GetObjectRequest) { r.Headers = map[string]string{"If-Range": "x"} }, nil, "If-Range"},
	},
	"Parameters": {
		{func(r *oss.GetObjectRequest) { r.Parameters = map[string]string{"mine": "1"} }, &wire{query: "mine=1"}, ""},
		{func(r *oss.GetObjectRequest) { r.Parameters = map[string]string{"x-oss-process": "x"} }, nil, "x-oss-process"},
	},
	"Payload": {{func(r *oss.GetObjectRequest) { r.Payload = strings.NewReader("x") }, nil, ""}},
}

// TestRequestFields checks that each field of a request is honored or refused by name before any request. It fails for a field
// that a newer SDK has added.
func TestRequestFields(t *testing.T) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[oss.GetObjectRequest]()) {
		if field.Anonymous {
			continue
		}
		cases := requestCases[field.Name]
		if len(cases) == 0 {
			t.Errorf("nothing is known about the field %s", field.Name)
		}
		for i, c := range cases {
			t.Run(fmt.Sprintf("%s/%d", field.Name, i), func(t *testing.T) {
				s := osstest.NewServer(t)
				s.CreateBucket("bkt", osstest.Versioned())
				all := osstest.Random(1, 1000)
				s.Put("bkt", "k", all, osstest.ETag(`"5B3C1A2E053D763E1B002CC607C5A0FE"`))
				if field.Name == "VersionId" {
					s = osstest.NewServer(t)
					s.CreateBucket("bkt")
					s.Put("bkt", "k", all)
				}
				d, err := NewDownloader(oss.NewConfig().WithRegion(osstest.Region).WithEndpoint(s.Endpoint()).WithCredentialsProvider(someKeys).
					WithDefaultRequestHeaders(map[string]string{"X-Default": "1"}))
				if err != nil {
					t.Fatal(err)
				}
				request := &oss.GetObjectRequest{Bucket: oss.Ptr("bkt"), Key: oss.Ptr("k")}
				c.set(request)
				path := filepath.Join(t.TempDir(), "f")
				res, err := d.DownloadFile(t.Context(), request, path)
				if c.want == nil {
					names := c.names
					if names == "" {
						names = "ossv2: DownloadFile: GetObjectRequest." + field.Name
					}
					if err == nil || res != nil || !strings.Contains(err.Error(), names) || len(s.Requests()) > 0 {
						t.Errorf("%v, %v with %d requests, want an error that names %s", res, err, len(s.Requests()), names)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				want := content(t, all)
				if c.want.end > 0 {
					want = want[c.want.off:c.want.end]
				}
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) || res.Written != int64(len(want)) {
					t.Errorf("%d bytes, %v; Written %d; want %d bytes", len(got), err, res.Written, len(want))
				}
				for _, r := range s.Requests() {
					if c.want.header != "" && r.Header.Get(c.want.header) != c.want.value || !strings.Contains(r.Query, c.want.query) || r.Header.Get("X-Default") != "1" {
						t.Errorf("request ?%s %v", r.Query, r.Header)
					}
				}
			})
		}
	}
}

// optionCases say for each field of DownloaderOptions which option of ossdl a value leads to; "": it is refused by name.
var optionCases = map[string][]struct {
	set  func(*oss.DownloaderOptions)
	want string
}{
	"PartSize": {
		{func(o *oss.DownloaderOptions) { o.PartSize = 1 << 20 }, "WithPartSize WithoutCheckpoint"},
		{func(o *oss.DownloaderOptions) { o.PartSize = -1 }, "WithoutCheckpoint"},
		{func(o *oss.DownloaderOptions) { o.PartSize = ossdl.MaxPartSize + 1 }, ""},
	},
	"ParallelNum": {
		{func(o *oss.DownloaderOptions) { o.ParallelNum = 3 }, "WithConcurrency WithoutCheckpoint"},
		{func(o *oss.DownloaderOptions) { o.ParallelNum = 0 }, "WithoutCheckpoint"},
		{func(o *oss.DownloaderOptions) { o.ParallelNum = ossdl.MaxConcurrency + 1 }, ""},
	},
	"EnableCheckpoint": {
		{func(o *oss.DownloaderOptions) { o.EnableCheckpoint = true }, "none"},
		{func(o *oss.DownloaderOptions) { o.EnableCheckpoint = false }, "WithoutCheckpoint"},
	},
	"CheckpointDir": {
		{func(o *oss.DownloaderOptions) { o.EnableCheckpoint, o.CheckpointDir = true, "/cp/" }, "WithCheckpointDir"},
		{func(o *oss.DownloaderOptions) { o.CheckpointDir = "/cp/" }, "WithoutCheckpoint"},
	},
	"VerifyData":      {{func(o *oss.DownloaderOptions) { o.EnableCheckpoint, o.VerifyData = true, true }, "none"}},
	"UseTempFile":     {{func(o *oss.DownloaderOptions) { o.UseTempFile = true }, "WithoutCheckpoint"}, {func(o *oss.DownloaderOptions) { o.UseTempFile = false }, ""}},
	"WriteBufferSize": {{func(o *oss.DownloaderOptions) { o.WriteBufferSize = 4096 }, ""}},
	"ClientOptions":   {{func(o *oss.DownloaderOptions) { o.ClientOptions = append(o.ClientOptions, func(*oss.Options) {}) }, ""}},
}

// TestDownloaderOptionFields checks that each field of the SDK's options is honored or refused by name. It fails for a field that a
// newer SDK has added.
func TestDownloaderOptionFields(t *testing.T) {
	for _, field := range reflect.VisibleFields(reflect.TypeFor[oss.DownloaderOptions]()) {
		cases := optionCases[field.Name]
		if len(cases) == 0 {
			t.Errorf("nothing is known about the field %s", field.Name)
		}
		for _, c := range cases {
			opts, err := readOptions([]func(*oss.DownloaderOptions){c.set})
			got := strings.Join(optionNames(opts), " ")
			if got == "" {
				got = "none"
			}
			switch {
			case c.want == "" && (err == nil || !strings.Contains(err.Error(), "DownloaderOptions."+field.Name)):
				t.Errorf("%s: %v, want an error that names the field", field.Name, err)
			case c.want != "" && (err != nil || got != c.want):
				t.Errorf("%s: %s, %v; want %s", field.Name, got, err, c.want)
			}
		}
	}
}

// TestDownloadFileResumes checks that with a checkpoint an interrupted download is resumed, and that without one nothing is left.
func TestDownloadFileResumes(t *testing.T) {
	for _, keeps := range []bool{false, true} {
		s := osstest.NewServer(t)
		s.CreateBucket("bkt")
		all := osstest.Random(1, 1<<20)
		s.Put("bkt", "k", all)
		cfg := oss.NewConfig().WithRegion(osstest.Region).WithEndpoint(s.Endpoint()).WithCredentialsProvider(someKeys).WithRetryMaxAttempts(1)
		d, err := NewDownloader(cfg, func(o *oss.DownloaderOptions) { o.EnableCheckpoint = keeps })
		if err != nil {
			t.Fatal(err)
		}
		s.Nth(2, osstest.Error(500, "InternalError"))
		request := &oss.GetObjectRequest{Bucket: oss.Ptr("bkt"), Key: oss.Ptr("k")}
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		sizes := func(o *oss.DownloaderOptions) { o.PartSize, o.ParallelNum = 128<<10, 1 }
		_, err = d.DownloadFile(t.Context(), request, path, sizes)
		var said *oss.ServiceError
		if !errors.As(err, &said) || said.StatusCode != 500 || said.Code != "InternalError" || said.RequestID == "" {
			t.Fatalf("%v has no service error of the SDK", err)
		}
		if left, err := os.ReadDir(dir); err != nil || (len(left) > 0) != keeps {
			t.Errorf("left: %v, %v", left, err)
		}
		s.ResetLog()
		if _, err := d.DownloadFile(t.Context(), request, path, sizes); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content(t, all)) {
			t.Errorf("another file: %v", err)
		}
		if sent := s.Sent(); (sent < 1<<20) != keeps {
			t.Errorf("%d bytes were sent, with a checkpoint: %t", sent, keeps)
		}
	}
}

// TestProgress checks that the increments of progress reports add up.
func TestProgress(t *testing.T) {
	_, cfg := server(t)
	d, err := NewDownloader(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var sum, last, total int64
	request := &oss.GetObjectRequest{Bucket: oss.Ptr("bkt"), Key: oss.Ptr("k"), ProgressFn: func(increment, transferred, all int64) {
		sum, last, total = sum+increment, transferred, all
	}}
	res, err := d.DownloadFile(t.Context(), request, filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	if sum != res.Written || last != res.Written || total != res.Written || sum != 100<<10 {
		t.Errorf("increments of %d, %d of %d, written %d", sum, last, total, res.Written)
	}
}

// TestBadOptionsOfADownloader checks that options that are refused are refused when the Downloader is made.
func TestBadOptionsOfADownloader(t *testing.T) {
	if _, err := NewDownloader(base(), func(o *oss.DownloaderOptions) { o.WriteBufferSize = 1 }); err == nil || !strings.Contains(err.Error(), "WriteBufferSize") {
		t.Errorf("%v", err)
	}
	if _, err := NewDownloader(base().WithEnabledRedirect(true)); err == nil || !strings.Contains(err.Error(), "EnabledRedirect") {
		t.Errorf("%v", err)
	}
	d, err := NewDownloader(base())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.DownloadFile(t.Context(), nil, "f"); err == nil {
		t.Error("no error for a nil request")
	}
}

// TestEntrances checks that each way into the library works with the SDK's configuration, and signs its requests with the provider's
// credentials.
func TestEntrances(t *testing.T) {
	s, cfg := server(t)
	s.Put("bkt", "dir/a", osstest.Random(2, 1000))
	s.Put("bkt", "dir/b", osstest.Random(3, 2000))
	want := content(t, osstest.Random(1, 100<<10))
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	presigned, err := oss.NewClient(cfg).Presign(t.Context(), &oss.GetObjectRequest{Bucket: oss.Ptr("bkt"), Key: oss.Ptr("k")})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(path string, err error) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		return os.ReadFile(path)
	}
	stream := func(r *ossdl.Reader, err error) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(r)
		return b, errors.Join(err, r.Close())
	}
	for name, call := range map[string]func() ([]byte, error){
		"Download": func() ([]byte, error) {
			_, err := d.Download(t.Context(), "bkt", "k", filepath.Join(dir, "1"))
			return file(filepath.Join(dir, "1"), err)
		},
		"DownloadURL": func() ([]byte, error) {
			_, err := d.DownloadURL(t.Context(), presigned.URL, filepath.Join(dir, "2"))
			return file(filepath.Join(dir, "2"), err)
		},
		"DownloadTo": func() ([]byte, error) {
			f, err := os.Create(filepath.Join(dir, "3"))
			if err != nil {
				return nil, err
			}
			_, err = d.DownloadTo(t.Context(), "bkt", "k", f)
			return file(filepath.Join(dir, "3"), errors.Join(err, f.Close()))
		},
		"Open":    func() ([]byte, error) { return stream(d.Open(t.Context(), "bkt", "k")) },
		"OpenURL": func() ([]byte, error) { return stream(d.OpenURL(t.Context(), presigned.URL)) },
		"DownloadFile": func() ([]byte, error) {
			d, err := NewDownloader(cfg)
			if err != nil {
				return nil, err
			}
			_, err = d.DownloadFile(t.Context(), &oss.GetObjectRequest{Bucket: oss.Ptr("bkt"), Key: oss.Ptr("k")}, filepath.Join(dir, "4"))
			return file(filepath.Join(dir, "4"), err)
		},
	} {
		if got, err := call(); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}

	tree, manifest := filepath.Join(dir, "tree"), filepath.Join(dir, "manifest")
	if res, err := d.DownloadPrefix(t.Context(), "bkt", "dir/", tree, ossdl.WithManifest(manifest)); err != nil || res.Done != 2 {
		t.Errorf("DownloadPrefix: %+v, %v", res, err)
	}
	if _, err := d.VerifyPrefix(t.Context(), "bkt", "dir/", tree); err != nil {
		t.Errorf("VerifyPrefix: %v", err)
	}
	if _, err := d.VerifyManifest(t.Context(), manifest, tree); err != nil {
		t.Errorf("VerifyManifest: %v", err)
	}
	list := func(yield func(ossdl.Object, error) bool) {
		for _, key := range []string{"dir/a", "k"} {
			if !yield(ossdl.Object{Key: key}, nil) {
				return
			}
		}
	}
	if res, err := d.DownloadObjects(t.Context(), "bkt", list, filepath.Join(dir, "list")); err != nil || res.Done != 2 {
		t.Errorf("DownloadObjects: %+v, %v", res, err)
	}
	for _, r := range s.Requests() {
		if signed := r.Header.Get("Authorization") + r.Query; !strings.Contains(signed, osstest.AccessKeyID) {
			t.Errorf("%s %s was not signed", r.Method, r.Key)
		}
	}
}
