package ossdl_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// newBucket is the SDK's bucket "bkt" of the server, as a program that moves over has it.
func newBucket(t testing.TB, s *osstest.Server) *oss.Bucket {
	t.Helper()
	hc := ossdl.HTTPClient()
	t.Cleanup(hc.CloseIdleConnections)
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := client.Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	return bucket
}

// versioned starts a server with three versions of "k"; the second is old.
func versioned(t testing.TB) (s *osstest.Server, old, current *osstest.Object) {
	s = harness.NewServer(t)
	s.CreateBucket("bkt", osstest.Versioning(osstest.Enabled))
	s.Put("bkt", "k", osstest.Random(1, 1000))
	old = s.Put("bkt", "k", osstest.Random(2, 300_000))
	return s, old, s.Put("bkt", "k", osstest.Random(3, 400_000))
}

// TestDownloadFileBringsWhatTheSDKBrings checks that DownloadFile and the SDK download the same with each option.
func TestDownloadFileBringsWhatTheSDKBrings(t *testing.T) {
	t.Parallel()
	s, old, current := versioned(t)
	bucket := newBucket(t, s)
	dir := t.TempDir()
	var h http.Header
	for name, options := range map[string][]oss.Option{
		"no option":               nil,
		"nil option":              {nil, oss.SetTagging(oss.Tagging{})},
		"routines":                {oss.Routines(4)},
		"routines below 1":        {oss.Routines(-1)},
		"routines over 100":       {oss.Routines(1000)},
		"checkpoint":              {oss.Checkpoint(true, filepath.Join(dir, "c")), oss.Routines(2)},
		"checkpoint, by default":  {oss.Checkpoint(true, "")},
		"checkpoint switched off": {oss.Checkpoint(false, filepath.Join(dir, "none", "c"))},
		"checkpoint folder":       {oss.CheckpointDir(true, dir)},
		"no checkpoint folder":    {oss.CheckpointDir(false, filepath.Join(dir, "none"))},
		"range":                   {oss.Range(100, 200_000)},
		"range of one byte":       {oss.Range(5, 5)},
		"range to the last byte":  {oss.Range(7, current.Size()-1)},
		"range to the end":        {oss.NormalizedRange("150000-")},
		"range from the start":    {oss.NormalizedRange("0-")},
		"last bytes":              {oss.NormalizedRange("-100000")},
		"more than all of them":   {oss.NormalizedRange("-400001")},
		"the last of options":     {oss.Range(1, 2), oss.Range(3, 4)},
		"version":                 {oss.VersionId(old.VersionID)},
		"end of a version":        {oss.VersionId(old.VersionID), oss.NormalizedRange("-10")},
		"ETag":                    {oss.IfMatch(current.ETag), oss.Range(0, 10)},
		"context":                 {oss.WithContext(t.Context())},
		"headers":                 {oss.RequestPayer(oss.Requester), oss.TrafficLimitHeader(838860800), oss.UserAgentHeader("me")},
		"parameters":              {oss.RequestPayerParam(oss.Requester), oss.ResponseContentType("text/plain"), oss.AddParam("a", "b")},
		"encoding":                {oss.AcceptEncoding("identity"), oss.RangeBehavior("standard")},
		"answer's headers":        {oss.GetResponseHeader(&h)},
		"progress":                {oss.Progress(harness.IgnoredProgress{}), oss.Progress(nil)},
	} {
		t.Run(name, func(t *testing.T) {
			theirs, ours := filepath.Join(t.TempDir(), "theirs"), filepath.Join(t.TempDir(), "ours")
			if err := bucket.DownloadFile("k", theirs, 64<<10, options...); err != nil {
				t.Fatalf("the SDK: %v", err)
			}
			if err := ossdl.DownloadFile(bucket, "k", ours, 64<<10, options...); err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(theirs)
			if err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, ours, osstest.Bytes(want))
		})
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDownloadFileOnTheWire(t *testing.T) {
	s, old, current := versioned(t)
	bucket := newBucket(t, s)
	for _, c := range []struct {
		name    string
		options []oss.Option
		want    []string
	}{
		{"parts", []oss.Option{oss.Routines(1)}, []string{"GET bytes=0-249999", "GET bytes=250000-399999 if-match"}},
		{"range", []oss.Option{oss.Routines(1), oss.Range(10, 300_009)}, []string{"GET bytes=10-250009", "GET bytes=250010-300009 if-match"}},
		{"last bytes", []oss.Option{oss.NormalizedRange("-10")}, []string{"GET bytes=0-0", "GET bytes=399990-399999 if-match"}},
		{"all as last bytes", []oss.Option{oss.Routines(1), oss.NormalizedRange("-400000")},
			[]string{"GET bytes=0-0", "GET bytes=0-249999 if-match", "GET bytes=250000-399999 if-match"}},
		{"ETag", []oss.Option{oss.IfMatch(current.ETag), oss.Range(0, 10)}, []string{"GET bytes=0-10 if-match"}},
	} {
		s.ResetLog()
		if err := ossdl.DownloadFile(bucket, "k", filepath.Join(t.TempDir(), "file"), 250_000, c.options...); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		harness.SameLines(t, harness.Wire(s), c.want...)
	}

	s.ResetLog()
	if err := ossdl.DownloadFile(bucket, "k", filepath.Join(t.TempDir(), "file"), 64<<10, oss.Routines(3), oss.VersionId(old.VersionID),
		oss.RequestPayer(oss.Requester), oss.UserAgentHeader("me"), oss.SetHeader("X-Oss-Mine", "1"), oss.AddParam("p", "q")); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Requests() {
		if r.Header.Get("X-Oss-Request-Payer") != "requester" || r.Header.Get("User-Agent") != "me" || r.Header.Get("X-Oss-Mine") != "1" {
			t.Errorf("headers %v", r.Header)
		}
		if !strings.Contains(r.Query, "versionId="+old.VersionID) || !strings.Contains(r.Query, "p=q") {
			t.Errorf("query %q", r.Query)
		}
	}
	if n := s.MaxInFlight(); n > 3 {
		t.Errorf("%d requests at once, 3 routines were asked for", n)
	}
}

func TestDownloadFileRefusesBeforeAnyRequest(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 1000))
	bucket := newBucket(t, s)
	path := filepath.Join(t.TempDir(), "file")
	var body []byte
	for _, c := range []struct {
		want     string
		partSize int64
		options  []oss.Option
	}{
		{"1 to 5368709120", 0, nil},
		{"1 to 5368709120", -1, nil},
		{"1 to 5368709120", math.MaxInt64, nil},
		{"If-None-Match", 1, []oss.Option{oss.IfNoneMatch("e")}},
		{"If-Modified-Since", 1, []oss.Option{oss.IfModifiedSince(time.Now())}},
		{"If-Unmodified-Since", 1, []oss.Option{oss.IfUnmodifiedSince(time.Now())}},
		{"x-oss-process", 1, []oss.Option{oss.Process("image/resize")}},
		{"Accept-Encoding", 1, []oss.Option{oss.AcceptEncoding("gzip")}},
		{"X-Oss-Range-Behavior", 1, []oss.Option{oss.RangeBehavior("other")}},
		{"oss.CallbackResult", 1, []oss.Option{oss.CallbackResult(&body)}},
		{"oss.InitCRC", 1, []oss.Option{oss.InitCRC(1)}},
		{"oss.StorageClass", 1, []oss.Option{oss.StorageClass(oss.StorageIA)}},
		{"oss.RedundancyType", 1, []oss.Option{oss.RedundancyType(oss.RedundancyLRS)}},
		{"oss.ObjectHashFunc", 1, []oss.Option{oss.ObjectHashFunc(oss.HashFuncSha1)}},
		{"oss.DeleteObjectsQuiet", 1, []oss.Option{oss.DeleteObjectsQuiet(true)}},
		{"Authorization", 1, []oss.Option{oss.SetHeader("Authorization", "mine")}},
		{"P is refused: its value is a int", 1, []oss.Option{oss.SetHeader("P", 1)}},
		{"p is refused: its value is a int", 1, []oss.Option{oss.AddParam("p", 1)}},
		{"Range", 1, []oss.Option{oss.SetHeader("Range", 1)}},
		{`Range "bytes=5-4"`, 1, []oss.Option{oss.Range(5, 4)}},
		{`Range "bytes=-1-4"`, 1, []oss.Option{oss.Range(-1, 4)}},
		{`Range "bytes=-0"`, 1, []oss.Option{oss.NormalizedRange("-0")}},
		{`Range "bytes=-"`, 1, []oss.Option{oss.NormalizedRange("-")}},
		{`Range "bytes="`, 1, []oss.Option{oss.NormalizedRange("")}},
		{`Range "bytes=0-1,3-4"`, 1, []oss.Option{oss.NormalizedRange("0-1,3-4")}},
		{`Range "bytes=+1-2"`, 1, []oss.Option{oss.NormalizedRange("+1-2")}},
		{"bytes=0-9223372036854775807", 1, []oss.Option{oss.Range(0, math.MaxInt64)}},
		{"bytes=0-9223372036854775808", 1, []oss.Option{oss.NormalizedRange("0-9223372036854775808")}},
		{`Range "lines=1-2"`, 1, []oss.Option{oss.SetHeader("Range", "lines=1-2")}},
		{"strong ETag", 1, []oss.Option{oss.IfMatch("")}},
		{"empty version", 1, []oss.Option{oss.VersionId("")}},
		{"nowhere", 1, []oss.Option{oss.Checkpoint(true, filepath.Join(path+".nowhere", "c"))}},
	} {
		err := ossdl.DownloadFile(bucket, "k", path, c.partSize, c.options...)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "oss://bkt/k") {
			t.Errorf("%q: %v", c.want, err)
		}
	}
	if err := ossdl.DownloadFile(nil, "k", path, 1); err == nil || !strings.Contains(err.Error(), "nil bucket") {
		t.Error(err)
	}
	if err := ossdl.DownloadFile(bucket, "", path, 1); err == nil || !strings.Contains(err.Error(), "key") {
		t.Error(err)
	}
	missing := filepath.Join(path, "file")
	if err := ossdl.DownloadFile(bucket, "k", missing, 1, oss.NormalizedRange("-5")); err == nil || !strings.Contains(err.Error(), missing) {
		t.Error(err)
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests were made", n)
	}
}

func TestDownloadFileErrors(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 1000))
	s.Put("bkt", "weak", osstest.Random(1, 1000), osstest.WeakETag())
	s.Put("bkt", "empty", osstest.Bytes(nil))
	s.Put("bkt", "lie", osstest.Random(1, 1000), osstest.CRCHeader("1"))
	bucket := newBucket(t, s)
	bucket.Client.Config.IsEnableCRC = false // it is not asked
	path := filepath.Join(t.TempDir(), "file")
	harness.WriteFile(t, path, "the good old file")
	for _, c := range []struct {
		key     string
		options []oss.Option
		want    error
	}{
		{"none", nil, ossdl.ErrNotFound},
		{"none", []oss.Option{oss.NormalizedRange("-5")}, ossdl.ErrNotFound},
		{"k", []oss.Option{oss.IfMatch("other")}, ossdl.ErrObjectChanged},
		{"k", []oss.Option{oss.NormalizedRange("-5"), oss.IfMatch("other")}, ossdl.ErrObjectChanged},
		{"k", []oss.Option{oss.Range(900, 1000)}, ossdl.ErrRange},
		{"empty", []oss.Option{oss.NormalizedRange("-5")}, ossdl.ErrRange},
		{"lie", nil, ossdl.ErrChecksum},
	} {
		err := ossdl.DownloadFile(bucket, c.key, path, 500, c.options...)
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), "oss://bkt/"+c.key) {
			t.Errorf("%s: %v, want %v", c.key, err, c.want)
		}
	}
	if err := ossdl.DownloadFile(bucket, "weak", path, 500, oss.NormalizedRange("-5")); err == nil || !strings.Contains(err.Error(), `"bytes=-5"`) {
		t.Error(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "the good old file" {
		t.Errorf("%q, %v", got, err)
	}
	harness.NoLeftovers(t, path)
}

// TestDownloadFileEndOfAnotherObject checks what happens if the object is replaced between the question for its size and
// the download of its end.
func TestDownloadFileEndOfAnotherObject(t *testing.T) {
	s := harness.NewServer(t)
	for _, last := range []string{"-5", "-1000", "-1500"} {
		s.Put("bkt", "k", osstest.Random(1, 1000))
		s.Nth(1, osstest.Inject().Before(func() { s.Put("bkt", "k", osstest.Random(2, 2000)) }))
		path := filepath.Join(t.TempDir(), "file")
		if err := ossdl.DownloadFile(newBucket(t, s), "k", path, 500, oss.NormalizedRange(last)); !errors.Is(err, ossdl.ErrObjectChanged) {
			t.Errorf("%s: %v", last, err)
		}
		if harness.Exists(path) {
			t.Errorf("%s: there is a file", last)
		}
	}
}

func TestDownloadFileCheckpoint(t *testing.T) {
	elsewhere := t.TempDir()
	for name, c := range map[string]struct {
		options []oss.Option
		resumes bool
	}{
		"none":         {nil, false},
		"switched off": {[]oss.Option{oss.Checkpoint(false, filepath.Join(elsewhere, "off"))}, false},
		"default":      {[]oss.Option{oss.Checkpoint(true, "")}, true},
		"file":         {[]oss.Option{oss.Checkpoint(true, filepath.Join(elsewhere, "c"))}, true},
		"folder":       {[]oss.Option{oss.CheckpointDir(true, filepath.Join(elsewhere, "new"))}, true},
		"last bytes":   {[]oss.Option{oss.Checkpoint(true, ""), oss.NormalizedRange("-1048575")}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewServer(t)
			s.Put("bkt", "k", osstest.Random(1, 16*harness.PartSize))
			bucket := newBucket(t, s)
			path := filepath.Join(t.TempDir(), "file")
			ctx, cancel := context.WithCancelCause(t.Context())
			reason := errors.New("enough")
			s.Nth(6, osstest.Inject().Before(func() { cancel(reason) }).HoldHeaders(nil))
			options := append(slices.Clone(c.options), oss.Routines(1))
			err := ossdl.DownloadFile(bucket, "k", path, harness.PartSize, append(slices.Clone(options), oss.WithContext(ctx))...)
			if !errors.Is(err, reason) || !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if harness.Exists(path) || harness.Exists(path+harness.PartSuffix) != c.resumes {
				t.Errorf("file: %t, partial file: %t", harness.Exists(path), harness.Exists(path+harness.PartSuffix))
			}
			s.ClearFaults()
			s.ResetLog()
			if err := ossdl.DownloadFile(bucket, "k", path, harness.PartSize, options...); err != nil {
				t.Fatal(err)
			}
			harness.NoLeftovers(t, path)
			if n := harness.Fetched(s); (n <= 11*harness.PartSize) != c.resumes {
				t.Errorf("%d bytes were fetched", n)
			}
		})
	}
}

// TestDownloadFileAfterTheSDK checks that what the SDK left is neither believed nor touched.
func TestDownloadFileAfterTheSDK(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 16*harness.PartSize)
	s.Put("bkt", "k", content)
	bucket := newBucket(t, s)
	path := filepath.Join(t.TempDir(), "file")
	sdks := path + ".cp"
	options := []oss.Option{oss.Checkpoint(true, sdks)}
	s.Once(func(r *osstest.Request) bool { return r.Start == 5*harness.PartSize }, osstest.Error(http.StatusForbidden, "AccessDenied"))
	if err := bucket.DownloadFile("k", path, harness.PartSize, options...); err == nil || !harness.Exists(sdks) || !harness.Exists(path+oss.TempFileSuffix) {
		t.Fatalf("the SDK was to leave something: %v", err)
	}
	kept, err := os.ReadFile(sdks)
	if err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, path+oss.TempFileSuffix, "the SDK's")
	if err := ossdl.DownloadFile(bucket, "k", path, harness.PartSize, options...); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path + oss.TempFileSuffix); err != nil || string(got) != "the SDK's" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := os.ReadFile(sdks); err != nil || string(got) != string(kept) {
		t.Errorf("the checkpoint of the SDK is %q, %v", got, err)
	}
	if err := os.Remove(sdks); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, content)
}

// recorder writes down what a listener hears.
type recorder struct {
	t      *testing.T
	events []oss.ProgressEvent
	seen   func(oss.ProgressEvent)
}

func (r *recorder) ProgressChanged(e *oss.ProgressEvent) {
	r.events = append(r.events, *e)
	if r.seen != nil {
		r.seen(*e)
	}
}

// check holds the order and the sums of events that end with this one.
func (r *recorder) check(from, total int64, last oss.ProgressEventType) {
	r.t.Helper()
	if len(r.events) < 2 {
		r.t.Fatalf("events %+v", r.events)
	}
	done := from
	for i, e := range r.events {
		kind := oss.TransferDataEvent
		switch i {
		case 0:
			kind = oss.TransferStartedEvent
		case len(r.events) - 1:
			kind = last
		default:
			done += e.RwBytes
		}
		if want := (oss.ProgressEvent{ConsumedBytes: done, TotalBytes: total, RwBytes: e.RwBytes, EventType: kind}); e != want ||
			(e.RwBytes > 0) != (kind == oss.TransferDataEvent) {
			r.t.Errorf("event %d is %+v, want %+v", i, e, want)
		}
	}
	if last == oss.TransferCompletedEvent && done != total {
		r.t.Errorf("completed at %d of %d", done, total)
	}
}

func TestDownloadFileProgress(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 16*harness.PartSize)
	s.Put("bkt", "k", content)
	s.Put("bkt", "empty", osstest.Bytes(nil))
	s.Put("bkt", "lie", content, osstest.CRCHeader("1"))
	bucket := newBucket(t, s)
	path := filepath.Join(t.TempDir(), "file")

	t.Run("whole", func(t *testing.T) {
		r := &recorder{t: t, seen: func(e oss.ProgressEvent) {
			if e.EventType == oss.TransferCompletedEvent {
				harness.CheckFile(t, path, content)
			}
		}}
		if err := ossdl.DownloadFile(bucket, "k", path, harness.PartSize, oss.Progress(r)); err != nil {
			t.Fatal(err)
		}
		r.check(0, content.Size(), oss.TransferCompletedEvent)
	})
	t.Run("empty", func(t *testing.T) {
		r := &recorder{t: t}
		if err := ossdl.DownloadFile(bucket, "empty", path, harness.PartSize, oss.Progress(r)); err != nil {
			t.Fatal(err)
		}
		r.check(0, 0, oss.TransferCompletedEvent)
	})
	t.Run("last bytes", func(t *testing.T) {
		r := &recorder{t: t}
		if err := ossdl.DownloadFile(bucket, "k", path, harness.PartSize, oss.Progress(r), oss.NormalizedRange("-100000")); err != nil {
			t.Fatal(err)
		}
		r.check(0, 100_000, oss.TransferCompletedEvent)
	})
	t.Run("resumed", func(t *testing.T) {
		resume := slices.Clip([]oss.Option{oss.Routines(1), oss.Checkpoint(true, "")})
		s.ResetLog()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s.Nth(5, osstest.Inject().Before(cancel).HoldHeaders(nil))
		r := &recorder{t: t}
		if err := ossdl.DownloadFile(bucket, "k", path, harness.PartSize, append(resume, oss.WithContext(ctx), oss.Progress(r))...); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		r.check(0, content.Size(), oss.TransferFailedEvent)
		s.ClearFaults()
		r = &recorder{t: t}
		if err := ossdl.DownloadFile(bucket, "k", path, harness.PartSize, append(resume, oss.Progress(r))...); err != nil {
			t.Fatal(err)
		}
		from := r.events[0].ConsumedBytes
		if from < 0 || from > 5*harness.PartSize {
			t.Errorf("started at %d", from)
		}
		r.check(from, content.Size(), oss.TransferCompletedEvent)
	})
	t.Run("wrong", func(t *testing.T) {
		r := &recorder{t: t}
		if err := ossdl.DownloadFile(bucket, "lie", path, harness.PartSize, oss.Progress(r)); !errors.Is(err, ossdl.ErrChecksum) {
			t.Fatal(err)
		}
		r.check(0, content.Size(), oss.TransferFailedEvent)
	})
	t.Run("never begun", func(t *testing.T) {
		r := &recorder{t: t}
		if err := ossdl.DownloadFile(bucket, "none", path, harness.PartSize, oss.Progress(r)); !errors.Is(err, ossdl.ErrNotFound) || len(r.events) > 0 {
			t.Errorf("%v, %+v", err, r.events)
		}
	})
}

func TestDownloadFileResponseHeader(t *testing.T) {
	s := harness.NewServer(t)
	o := s.Put("bkt", "k", osstest.Random(1, 16*harness.PartSize), osstest.Meta("colour", "blue"), osstest.ContentType("text/x"))
	bucket := newBucket(t, s)
	path := filepath.Join(t.TempDir(), "file")
	for _, options := range [][]oss.Option{{}, {oss.Range(100, 1000)}, {oss.NormalizedRange("-5")}} {
		var theirs, ours http.Header
		if err := bucket.DownloadFile("k", path, harness.PartSize, append(options, oss.GetResponseHeader(&theirs))...); err != nil {
			t.Fatal(err)
		}
		if err := ossdl.DownloadFile(bucket, "k", path, harness.PartSize, append(options, oss.GetResponseHeader(&ours))...); err != nil {
			t.Fatal(err)
		}
		for name := range theirs {
			if v := theirs.Get(name); v != ours.Get(name) && name != "Date" && name != "X-Oss-Request-Id" && name != "X-Oss-Server-Time" {
				t.Errorf("%s: %q, the SDK has %q", name, ours.Get(name), v)
			}
		}
		if oss.GetRequestId(ours) == "" || ours.Get("X-Oss-Meta-Colour") != "blue" || ours.Get("Content-Range") != "" ||
			ours.Get("Content-Length") != fmt.Sprint(o.Size()) {
			t.Errorf("%v", ours)
		}
	}
	if err := ossdl.DownloadFile(bucket, "k", path, harness.PartSize, oss.GetResponseHeader(nil)); err != nil {
		t.Error(err)
	}
	kept := http.Header{"Kept": {"1"}}
	if err := ossdl.DownloadFile(bucket, "none", path, harness.PartSize, oss.GetResponseHeader(&kept)); !errors.Is(err, ossdl.ErrNotFound) || kept.Get("Kept") != "1" {
		t.Errorf("%v, %v", kept, err)
	}
}

// TestDownloadFileKeepsSecrets checks that no error of the compatible way in holds what the others keep out of theirs.
func TestDownloadFileKeepsSecrets(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 1000))
	client, err := s.ClientFor(osstest.AccessKeyID, "wrong-secret", oss.SecurityToken("secret-token"))
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := client.Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	err = ossdl.DownloadFile(bucket, "k", filepath.Join(t.TempDir(), "file"), 100, oss.NormalizedRange("-5"))
	if text := fmt.Sprintf("%v %+v", err, err); err == nil || bytes.Contains([]byte(text), []byte("secret")) {
		t.Error(text)
	}
}
