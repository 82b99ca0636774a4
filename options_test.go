package ossdl_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
	"github.com/ossdl/ossdl/internal/testhook"
)

// allEntryPoints are the ways in, by the names that errors have for them.
var allEntryPoints = []string{"New", "Download", "DownloadURL", "DownloadTo", "Open", "OpenURL", "DownloadPrefix", "DownloadObjects", "DownloadAll", "VerifyPrefix", "VerifyManifest", "PlanRanges"}

// entry is the object "ver/k" with a way to give an option to each entry point. Everything local is in dir, which is empty.
type entry struct {
	t      *testing.T
	s      *osstest.Server
	client *oss.Client
	url    string
	object *osstest.Object
	sum    [sha256.Size]byte
	dir    string
}

func newEntry(t *testing.T) *entry {
	t.Helper()
	s := harness.NewServer(t)
	s.CreateBucket("ver", osstest.Versioning(osstest.Enabled), osstest.PublicRead())
	content := osstest.Random(1, 100)
	hc := ossdl.HTTPClient()
	t.Cleanup(hc.CloseIdleConnections)
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	return &entry{t, s, client, s.URL("ver", "k"), s.Put("ver", "k", content), sha256.Sum256(harness.Bytes(t, content)), t.TempDir()}
}

// through gives an option to one entry point and reports whether the call had a result, and its error.
func (e *entry) through(entryPoint string, o ossdl.Option) (result bool, err error) {
	e.t.Helper()
	if entryPoint == "New" {
		d, err := ossdl.New(e.client, o)
		return d != nil, err
	}
	d, err := ossdl.New(e.client)
	if err != nil {
		e.t.Fatal(err)
	}
	defer d.CloseIdleConnections()
	path := filepath.Join(e.dir, "file")
	switch entryPoint {
	case "Download":
		res, err := d.Download(e.t.Context(), "ver", "k", path, o)
		return res != nil, err
	case "DownloadURL":
		res, err := d.DownloadURL(e.t.Context(), e.url, path, o)
		return res != nil, err
	case "DownloadTo":
		res, err := d.DownloadTo(e.t.Context(), "ver", "k", &harness.ReadableMemory{Memory: harness.Memory{Content: make([]byte, 100)}}, o)
		return res != nil, err
	case "Open", "OpenURL":
		r, err := (*ossdl.Reader)(nil), error(nil)
		if entryPoint == "Open" {
			r, err = d.Open(e.t.Context(), "ver", "k", o)
		} else {
			r, err = d.OpenURL(e.t.Context(), e.url, o)
		}
		if err != nil {
			return r != nil, err
		}
		_, err = io.Copy(io.Discard, r)
		if cerr := r.Close(); err == nil {
			err = cerr
		}
		return true, err
	case "DownloadPrefix":
		res, err := d.DownloadPrefix(e.t.Context(), "ver", "", filepath.Join(e.dir, "tree"), o)
		return res != nil, err
	case "DownloadObjects":
		res, err := d.DownloadObjects(e.t.Context(), "ver", harness.List(ossdl.Object{Key: "k"}), filepath.Join(e.dir, "tree"), o)
		return res != nil, err
	case "DownloadAll":
		res, err := d.DownloadAll(e.t.Context(), harness.Items(ossdl.Item{Source: e.url, Path: path}, ossdl.Item{Source: "oss://ver/k", Path: path + "2"}), o)
		return res != nil, err
	case "VerifyPrefix":
		res, err := d.VerifyPrefix(e.t.Context(), "ver", "", e.verified(), o)
		return res != nil, err
	case "PlanRanges":
		ranges, err := d.PlanRanges(e.t.Context(), "ver", "", 2, o)
		return ranges != nil, err
	case "VerifyManifest":
		manifest := filepath.Join(e.t.TempDir(), "m")
		harness.WriteFile(e.t, manifest, fmt.Sprintf(`{"name":"k","size":100,"crc64":"%d"}`+"\n", e.object.CRC64()))
		res, err := d.VerifyManifest(e.t.Context(), manifest, e.verified(), o)
		return res != nil, err
	}
	e.t.Fatal("no such entry point: ", entryPoint)
	return false, nil
}

// verified returns a folder that is as the bucket, beside dir.
func (e *entry) verified() string {
	e.t.Helper()
	dir := e.t.TempDir()
	harness.WriteFile(e.t, filepath.Join(dir, "k"), string(harness.Bytes(e.t, e.object.Content)))
	return dir
}

// untouched fails the test where a request was made or something was left in the folder.
func (e *entry) untouched(what string) {
	e.t.Helper()
	if n := len(e.s.Requests()); n > 0 {
		e.t.Errorf("%s: %d requests were made", what, n)
	}
	if entries, err := os.ReadDir(e.dir); err != nil || len(entries) > 0 {
		e.t.Errorf("%s: on the disk is %v, %v", what, entries, err)
	}
}

// exportedOptions are the functions of the package that make an Option.
func exportedOptions(t *testing.T) (names []string) {
	t.Helper()
	pkg, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range pkg {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !f.Name.IsExported() || f.Type.Results == nil || len(f.Type.Results.List) != 1 {
				continue
			}
			if id, ok := f.Type.Results.List[0].Type.(*ast.Ident); ok && id.Name == "Option" {
				names = append(names, f.Name.Name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// TestEveryOptionAtEveryEntryPoint checks that an option works where it is said to, and is an error elsewhere that names
// both, before anything is asked or made. An option that is missing in the table fails the test.
func TestEveryOptionAtEveryEntryPoint(t *testing.T) {
	const (
		downloads  = "New Download DownloadURL DownloadTo Open OpenURL DownloadPrefix DownloadObjects DownloadAll"
		network    = downloads + " VerifyPrefix PlanRanges"
		everywhere = network + " VerifyManifest"
		one        = "Download DownloadURL DownloadTo Open OpenURL"
		prefix     = "New DownloadPrefix DownloadObjects"
		many       = "DownloadPrefix DownloadObjects"
		verify     = "VerifyPrefix VerifyManifest"
	)
	table := map[string]struct {
		where string
		give  func(e *entry) ossdl.Option
	}{
		"WithPartSize":      {downloads, func(*entry) ossdl.Option { return ossdl.WithPartSize(10) }},
		"WithConcurrency":   {everywhere, func(*entry) ossdl.Option { return ossdl.WithConcurrency(2) }},
		"WithRateLimit":     {network, func(*entry) ossdl.Option { return ossdl.WithRateLimit(1 << 30) }},
		"WithCheckpoint":    {"Download DownloadURL", func(e *entry) ossdl.Option { return ossdl.WithCheckpoint(filepath.Join(e.dir, "cp")) }},
		"WithCheckpointDir": {"New Download DownloadURL DownloadAll", func(e *entry) ossdl.Option { return ossdl.WithCheckpointDir(filepath.Join(e.dir, "cps")) }},
		"WithoutCheckpoint": {"New Download DownloadURL DownloadPrefix DownloadObjects DownloadAll", func(*entry) ossdl.Option { return ossdl.WithoutCheckpoint() }},
		"WithVersionID":     {"Download DownloadTo Open", func(e *entry) ossdl.Option { return ossdl.WithVersionID(e.object.VersionID) }},
		"WithAsOf":          {"Download DownloadTo Open DownloadPrefix VerifyPrefix", func(*entry) ossdl.Option { return ossdl.WithAsOf(time.Now().Add(time.Hour)) }},
		"WithIfMatch":       {one, func(e *entry) ossdl.Option { return ossdl.WithIfMatch(e.object.ETag) }},
		"WithRange":         {one, func(*entry) ossdl.Option { return ossdl.WithRange(1, 2) }},
		"WithSnapshot":      {downloads, func(*entry) ossdl.Option { return ossdl.WithSnapshot() }},
		"WithRestore": {"New Download DownloadTo Open DownloadPrefix DownloadObjects", func(*entry) ossdl.Option {
			return ossdl.WithRestore(ossdl.RestorePolicy{Days: 7, Tier: "Bulk"})
		}},
		"WithChecksum":     {one, func(e *entry) ossdl.Option { return ossdl.WithChecksum(sha256.New, e.sum[:]) }},
		"WithDecryption":   {downloads + " VerifyPrefix", func(*entry) ossdl.Option { return ossdl.WithDecryption(&harness.MasterKey{}) }},
		"WithProgress":     {everywhere, func(*entry) ossdl.Option { return ossdl.WithProgress(func(ossdl.Progress) {}) }},
		"WithRetry":        {network, func(*entry) ossdl.Option { return ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}) }},
		"WithStallTimeout": {network, func(*entry) ossdl.Option { return ossdl.WithStallTimeout(time.Minute) }},
		"WithFallback": {"New", func(e *entry) ossdl.Option {
			other, err := e.s.Client(oss.HTTPClient(e.s.HTTPClient()))
			if err != nil {
				e.t.Fatal(err)
			}
			return ossdl.WithFallback(other)
		}},
		"WithRequestOptions": {"New Download DownloadTo Open DownloadPrefix DownloadObjects DownloadAll VerifyPrefix PlanRanges", func(*entry) ossdl.Option {
			return ossdl.WithRequestOptions(oss.RequestPayer(oss.Requester))
		}},
		"WithURLRefresh": {"DownloadURL OpenURL", func(e *entry) ossdl.Option {
			return ossdl.WithURLRefresh(func(context.Context) (string, error) { return e.url, nil })
		}},
		"WithHeader":           {"DownloadURL OpenURL DownloadAll", func(*entry) ossdl.Option { return ossdl.WithHeader("Referer", "http://h.test/") }},
		"WithHTTPClient":       {"New DownloadURL OpenURL DownloadAll", func(e *entry) ossdl.Option { return ossdl.WithHTTPClient(e.s.HTTPClient()) }},
		"WithReadAhead":        {"New Open OpenURL", func(*entry) ossdl.Option { return ossdl.WithReadAhead(ossdl.MinReadAhead) }},
		"WithInclude":          {prefix + " " + verify, func(*entry) ossdl.Option { return ossdl.WithInclude("*") }},
		"WithExclude":          {prefix + " " + verify, func(*entry) ossdl.Option { return ossdl.WithExclude("*.tmp") }},
		"WithShard":            {prefix + " VerifyPrefix", func(*entry) ossdl.Option { return ossdl.WithShard(0, 1) }},
		"WithCompareCRC64":     {prefix, func(*entry) ossdl.Option { return ossdl.WithCompareCRC64() }},
		"WithObjectResult":     {"DownloadPrefix DownloadObjects DownloadAll", func(*entry) ossdl.Option { return ossdl.WithObjectResult(func(ossdl.ObjectResult) {}) }},
		"WithDryRun":           {"DownloadPrefix DownloadObjects", func(*entry) ossdl.Option { return ossdl.WithDryRun() }},
		"WithKeyRange":         {"DownloadPrefix VerifyPrefix", func(*entry) ossdl.Option { return ossdl.WithKeyRange("a", "z") }},
		"WithDelete":           {"DownloadPrefix", func(*entry) ossdl.Option { return ossdl.WithDelete(5) }},
		"WithManifest":         {many, func(e *entry) ossdl.Option { return ossdl.WithManifest(filepath.Join(e.dir, "m")) }},
		"WithManifestSHA256":   {prefix, func(*entry) ossdl.Option { return ossdl.WithManifestSHA256() }},
		"WithDifference":       {verify, func(*entry) ossdl.Option { return ossdl.WithDifference(func(ossdl.Difference) {}) }},
		"WithoutPreallocation": {"New Download DownloadURL DownloadPrefix DownloadObjects DownloadAll", func(*entry) ossdl.Option { return ossdl.WithoutPreallocation() }},
		"WithIfChanged":        {"New Download DownloadURL DownloadAll", func(*entry) ossdl.Option { return ossdl.WithIfChanged() }},
		"WithWait":             {"New Download DownloadURL DownloadAll", func(*entry) ossdl.Option { return ossdl.WithWait(time.Minute) }},
		"WithMkdirAll":         {"New Download DownloadURL DownloadAll", func(*entry) ossdl.Option { return ossdl.WithMkdirAll() }},
		"WithObjectTime":       {"New Download DownloadURL DownloadAll", func(*entry) ossdl.Option { return ossdl.WithObjectTime() }},
		"WithMetadata": {"New Download DownloadURL DownloadPrefix DownloadObjects DownloadAll VerifyPrefix", func(*entry) ossdl.Option {
			return ossdl.WithMetadata(ossdl.MetadataTime | ossdl.MetadataMode)
		}},
		"WithLogger": {everywhere, func(*entry) ossdl.Option { return ossdl.WithLogger(slog.New(slog.DiscardHandler)) }},
	}
	if got, want := exportedOptions(t), slices.Sorted(maps.Keys(table)); !slices.Equal(got, want) {
		t.Errorf("the package has the options\n\t%v\nand the table\n\t%v", got, want)
	}
	for name, row := range table {
		for _, entryPoint := range allEntryPoints {
			t.Run(name+"/"+entryPoint, func(t *testing.T) {
				e := newEntry(t)
				result, err := e.through(entryPoint, row.give(e))
				if slices.Contains(strings.Fields(row.where), entryPoint) {
					if err != nil || !result {
						t.Errorf("result %t, %v", result, err)
					}
					return
				}
				if err == nil || !strings.Contains(err.Error(), name+" does not apply to "+entryPoint+";") || result {
					t.Errorf("result %t, %v; want an error that names %s and %s", result, err, name, entryPoint)
				}
				e.untouched(name)
			})
		}
	}
}

// TestDefaultsThatDoNotConcernACall checks that options given to New have no effect on calls that they do not apply to: none is
// refused for them, and a policy that only starts restores makes no other call ask for one.
func TestDefaultsThatDoNotConcernACall(t *testing.T) {
	e := newEntry(t)
	e.s.Put("bkt", "frozen", osstest.Random(1, 100), osstest.StorageClass("ColdArchive"))
	e.s.CreateBucket("pub", osstest.PublicRead())
	e.s.Put("pub", "image", osstest.Random(2, 100))
	d := harness.NewDownloader(t, e.s, ossdl.WithRestore(ossdl.RestorePolicy{StartOnly: true}), ossdl.WithIfChanged(), ossdl.WithWait(time.Minute),
		ossdl.WithCheckpointDir(filepath.Join(e.dir, "cps")), ossdl.WithReadAhead(ossdl.MinReadAhead))
	e.s.ResetLog()
	path := filepath.Join(t.TempDir(), "file")
	for name, call := range map[string]func() error{
		"Stat":               func() error { _, err := d.Stat(t.Context(), "bkt", "frozen"); return err },
		"Stat, with a range": func() error { _, err := d.Stat(t.Context(), "bkt", "frozen", ossdl.WithRange(1, 2)); return err },
		"StatURL":            func() error { _, err := d.StatURL(t.Context(), e.s.URL("pub", "image")+"?x-oss-process=x"); return err },
		"List": func() error {
			for i, err := range d.List(t.Context(), "bkt", "") {
				if err != nil {
					return err
				}
				if i.Key == "frozen" {
					return nil
				}
			}
			return errors.New("the object is not listed")
		},
		"VerifyPrefix": func() error { _, err := d.VerifyPrefix(t.Context(), "bkt", "none/", t.TempDir()); return err },
		"Open, with a range": func() error {
			r, err := d.Open(t.Context(), "pub", "image", ossdl.WithRange(1, 2))
			if err == nil {
				r.Close()
			}
			return err
		},
		"Download": func() error { _, err := d.Download(t.Context(), "pub", "image", path); return err },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := d.Download(t.Context(), "bkt", "frozen", path+"2"); !errors.Is(err, ossdl.ErrArchived) {
		t.Errorf("Download of an archived object: %v", err)
	}
	for _, r := range e.s.Requests() {
		if r.Method == http.MethodPost {
			t.Error("a restore was asked for")
		}
	}
	_, err := d.Download(t.Context(), "bkt", "frozen", path+"2", ossdl.WithRestore(ossdl.RestorePolicy{StartOnly: true}))
	if err == nil || !strings.Contains(err.Error(), "WithRestore with StartOnly does not apply to Download; it applies to New, DownloadPrefix, DownloadObjects") {
		t.Errorf("given to the call: %v", err)
	}
}

// TestBadOptionsTouchNothing checks that a value out of bounds is refused at each entry point that takes the option, before
// anything is asked or made.
func TestBadOptionsTouchNothing(t *testing.T) {
	const (
		file       = "Download DownloadURL"
		url        = "DownloadURL OpenURL"
		one        = "Download DownloadURL DownloadTo Open OpenURL"
		downloads  = "New " + one + " DownloadPrefix DownloadObjects DownloadAll"
		network    = downloads + " VerifyPrefix PlanRanges"
		everywhere = network + " VerifyManifest"
		restores   = "New Download DownloadTo Open DownloadPrefix DownloadObjects"
	)
	for _, c := range []struct {
		name  string
		o     ossdl.Option
		where string
		says  string // with the name
	}{
		{"WithPartSize", ossdl.WithPartSize(0), downloads, "1 to 5368709120"},
		{"WithPartSize", ossdl.WithPartSize(ossdl.MaxPartSize + 1), downloads, "1 to 5368709120"},
		{"WithConcurrency", ossdl.WithConcurrency(0), everywhere, "1 to 256"},
		{"WithConcurrency", ossdl.WithConcurrency(ossdl.MaxConcurrency + 1), everywhere, "1 to 256"},
		{"WithRateLimit", ossdl.WithRateLimit(0), network, "1 byte"},
		{"WithCheckpoint", ossdl.WithCheckpoint(""), file, "empty"},
		{"WithCheckpointDir", ossdl.WithCheckpointDir(""), "New DownloadAll " + file, "empty"},
		{"WithVersionID", ossdl.WithVersionID(""), "Download DownloadTo Open", "empty"},
		{"WithAsOf", ossdl.WithAsOf(time.Time{}), "Download DownloadTo Open DownloadPrefix VerifyPrefix", "zero"},
		{"WithIfMatch", ossdl.WithIfMatch(""), one, "strong"},
		{"WithIfMatch", ossdl.WithIfMatch("a\r\nHost: b"), one, "strong"},
		{"WithRange", ossdl.WithRange(-1, 1), one, "offset"},
		{"WithRange", ossdl.WithRange(1<<63-1, 1), one, "offset"},
		{"WithRange", ossdl.WithRange(0, -2), one, "length"},
		{"WithChecksum", ossdl.WithChecksum(nil, nil), one, "nil"},
		{"WithChecksum", ossdl.WithChecksum(sha256.New, []byte("short")), one, "32"},
		{"WithDecryption", ossdl.WithDecryption(), downloads + " VerifyPrefix", "no keys"},
		{"WithDecryption", ossdl.WithDecryption(&harness.MasterKey{}, nil), downloads + " VerifyPrefix", "nil key"},
		{"WithRestore", ossdl.WithRestore(ossdl.RestorePolicy{Days: -1}), restores, "1 to 365"},
		{"WithRestore", ossdl.WithRestore(ossdl.RestorePolicy{Days: ossdl.MaxRestoreDays + 1}), restores, "1 to 365"},
		{"WithRestore", ossdl.WithRestore(ossdl.RestorePolicy{Tier: "fast"}), restores, "Expedited, Standard and Bulk"},
		{"WithRestore", ossdl.WithRestore(ossdl.RestorePolicy{PollMin: 1}), restores, "PollMin 1ns is outside 100ms to 6h0m0s"},
		{"WithRestore", ossdl.WithRestore(ossdl.RestorePolicy{PollMax: 7 * time.Hour}), restores, "PollMax 7h0m0s is outside 100ms to 6h0m0s"},
		{"WithRestore", ossdl.WithRestore(ossdl.RestorePolicy{PollMin: 2 * time.Second, PollMax: time.Second}), restores, "PollMin 2s is more"},
		{"WithProgress", ossdl.WithProgress(nil), everywhere, "nil"},
		{"WithRetry", ossdl.WithRetry(ossdl.RetryPolicy{Attempts: -1}), network, "negative"},
		{"WithRetry", ossdl.WithRetry(ossdl.RetryPolicy{MinDelay: 2, MaxDelay: 1}), network, "MinDelay"},
		{"WithStallTimeout", ossdl.WithStallTimeout(100*time.Millisecond - 1), network, "100ms"},
		{"WithURLRefresh", ossdl.WithURLRefresh(nil), url, "nil"},
		{"WithHTTPClient", ossdl.WithHTTPClient(nil), "New DownloadAll " + url, "nil"},
		{"WithHeader", ossdl.WithHeader("Range", "bytes=0-1"), "DownloadAll " + url, "not for the caller"},
		{"WithHeader", ossdl.WithHeader("Referer", "a\r\nHost: b"), url, "control character"},
		{"WithReadAhead", ossdl.WithReadAhead(ossdl.MinReadAhead - 1), "New Open OpenURL", "1048576"},
		{"WithInclude", ossdl.WithInclude("[a"), "New DownloadPrefix DownloadObjects VerifyPrefix VerifyManifest", "[a"},
		{"WithExclude", ossdl.WithExclude("ok", ""), "New DownloadPrefix DownloadObjects VerifyPrefix VerifyManifest", "malformed"},
		{"WithShard", ossdl.WithShard(2, 2), "New DownloadPrefix DownloadObjects", "index"},
		{"WithShard", ossdl.WithShard(0, 0), "New DownloadPrefix DownloadObjects", "count"},
		{"WithManifest", ossdl.WithManifest(""), "DownloadPrefix DownloadObjects", "empty"},
		{"WithDifference", ossdl.WithDifference(nil), "VerifyPrefix VerifyManifest", "nil"},
		{"WithObjectResult", ossdl.WithObjectResult(nil), "DownloadPrefix DownloadObjects DownloadAll", "nil"},
		{"WithKeyRange", ossdl.WithKeyRange("b", "b"), "DownloadPrefix VerifyPrefix", "no key"},
		{"WithKeyRange", ossdl.WithKeyRange("b", "a"), "DownloadPrefix VerifyPrefix", "no key"},
		{"WithKeyRange", ossdl.WithKeyRange("\xff", ""), "DownloadPrefix VerifyPrefix", "UTF-8"},
		{"WithKeyRange", ossdl.WithKeyRange("", strings.Repeat("x", 1024)), "DownloadPrefix VerifyPrefix", "1023"},
		{"WithDelete", ossdl.WithDelete(-1), "DownloadPrefix", "0 or more"},
		{"WithLogger", ossdl.WithLogger(nil), everywhere, "nil"},
	} {
		e := newEntry(t)
		for entryPoint := range strings.FieldsSeq(c.where) {
			result, err := e.through(entryPoint, c.o)
			if err == nil || !strings.Contains(err.Error(), c.name+": ") || !strings.Contains(err.Error(), c.says) || result {
				t.Errorf("%s at %s: result %t, %v; want an error with %q", c.name, entryPoint, result, err, c.says)
			}
		}
		e.untouched(c.name)
	}
}

// TestRequestOptionsRefused checks that what the engine decides itself is refused by name wherever SDK options are taken.
func TestRequestOptionsRefused(t *testing.T) {
	var header http.Header
	for name, o := range map[string]oss.Option{
		"Range":                 oss.Range(0, 1),
		"range":                 oss.SetHeader("range", "bytes=0-1"),
		"X-Oss-Range-Behavior":  oss.RangeBehavior("standard"),
		"x-oss-range-behavior":  oss.SetHeader("x-oss-range-behavior", "standard"),
		"If-Match":              oss.IfMatch(`"e"`),
		"if-match":              oss.SetHeader("if-match", `"e"`),
		"If-None-Match":         oss.IfNoneMatch(`"e"`),
		"If-Modified-Since":     oss.IfModifiedSince(time.Unix(1e9, 0)),
		"If-Unmodified-Since":   oss.IfUnmodifiedSince(time.Unix(1e9, 0)),
		"If-Range":              oss.SetHeader("If-Range", `"e"`),
		"Accept-Encoding":       oss.AcceptEncoding("gzip"),
		"versionId":             oss.VersionId("v"),
		"VERSIONID":             oss.AddParam("VERSIONID", "v"),
		"x-oss-process":         oss.Process("image/resize,w_1"),
		"oss.WithContext":       oss.WithContext(context.Background()),
		"oss.Progress":          oss.Progress(harness.IgnoredProgress{}),
		"oss.GetResponseHeader": oss.GetResponseHeader(&header),
		"oss.CallbackResult":    oss.CallbackResult(new([]byte)),
		"oss.Routines":          oss.Routines(2),
		"oss.Checkpoint":        oss.Checkpoint(true, "cp"),
		"oss.InitCRC":           oss.InitCRC(1),
		"Authorization":         oss.SetHeader("Authorization", "OSS a:b"),
		"x-oss-security-token":  oss.SetHeader("x-oss-security-token", "t"),
		"Host":                  oss.SetHeader("Host", "elsewhere"),
		"X-Number":              oss.SetHeader("X-Number", 1), // the SDK would panic when it sends it
		"option 1 is nil":       nil,
	} {
		e := newEntry(t)
		given := []oss.Option{oss.RequestPayer(oss.Requester), o}
		for _, entryPoint := range []string{"New", "Download", "DownloadTo", "Open", "DownloadPrefix", "DownloadObjects", "VerifyPrefix"} {
			result, err := e.through(entryPoint, ossdl.WithRequestOptions(given...))
			if err == nil || !strings.Contains(err.Error(), "WithRequestOptions: "+name) || result {
				t.Errorf("%s at %s: result %t, %v", name, entryPoint, result, err)
			}
		}
		e.untouched(name)
	}
}

// TestRequestOptionsOnTheWire checks that what is allowed is in each request for an object's bytes, whichever entry point
// makes it. Listings and HEADs get the headers but the traffic limit, which is for bytes, and of the parameters the payer
// alone: another would change what is listed.
func TestRequestOptionsOnTheWire(t *testing.T) {
	extra := ossdl.WithRequestOptions(oss.RequestPayer(oss.Requester), oss.RequestPayerParam(oss.Requester), oss.TrafficLimitHeader(819200), oss.SetHeader("X-Of-Mine", "yes"),
		oss.AddParam("x-of-mine", "a b"))
	for name, auth := range map[string]oss.AuthVersionType{"V1": oss.AuthV1, "V4": oss.AuthV4} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewServer(t)
			s.Put("bkt", "k", osstest.Random(1, 300))
			hc := ossdl.HTTPClient()
			t.Cleanup(hc.CloseIdleConnections)
			client, err := s.Client(oss.HTTPClient(hc), oss.AuthVersion(auth), oss.Region("cn-hangzhou"))
			if err != nil {
				t.Fatal(err)
			}
			d, err := ossdl.New(client, ossdl.WithPartSize(100), ossdl.WithConcurrency(1), extra) // no request takes over from another
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if _, err := d.Download(t.Context(), "bkt", "k", filepath.Join(dir, "file")); err != nil {
				t.Fatal(err)
			}
			if _, err := d.DownloadTo(t.Context(), "bkt", "k", &harness.Memory{Content: make([]byte, 300)}); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, open(t, d)); err != nil {
				t.Fatal(err)
			}
			for range 2 { // it is downloaded, and then compared by a HEAD
				if _, err := d.DownloadPrefix(t.Context(), "bkt", "", filepath.Join(dir, "tree"), ossdl.WithCompareCRC64()); err != nil {
					t.Fatal(err)
				}
			}
			kinds := map[string]int{}
			for _, r := range s.Requests() {
				bytes := r.Method == http.MethodGet && r.Key != ""
				kind := r.Method
				if r.Key == "" {
					kind = "listing"
				}
				kinds[kind]++
				if r.Header.Get("X-Oss-Request-Payer") != "requester" || !strings.Contains(r.Query, "x-oss-request-payer=requester") || r.Header.Get("X-Of-Mine") != "yes" ||
					(r.Header.Get("X-Oss-Traffic-Limit") == "819200") != bytes || strings.Contains(r.Query, "x-of-mine=a") != bytes {
					t.Errorf("%s %q?%s: %v", r.Method, r.Key, r.Query, r.Header)
				}
			}
			if want := map[string]int{"GET": 12, "HEAD": 1, "listing": 2}; !maps.Equal(kinds, want) {
				t.Errorf("requests %v, want %v", kinds, want)
			}
		})
	}
}

// TestOptionsOfTheCallReplaceTheDownloaders checks that they do, except for those that bind all calls together.
func TestOptionsOfTheCallReplaceTheDownloaders(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 1000))
	dir := t.TempDir()
	var theirs, own int
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(100), ossdl.WithProgress(func(ossdl.Progress) { theirs++ }), ossdl.WithoutCheckpoint(),
		ossdl.WithConcurrency(1), // no request takes over from another
		ossdl.WithRequestOptions(oss.SetHeader("X-Theirs", "yes")))
	if _, err := d.Download(t.Context(), "bkt", "k", filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Requests()); n != 10 || theirs == 0 || s.Requests()[0].Header.Get("X-Theirs") == "" {
		t.Errorf("the options of New: %d requests, %d reports", n, theirs)
	}
	theirs = 0
	s.ResetLog()
	_, err := d.Download(t.Context(), "bkt", "k", filepath.Join(dir, "b"), ossdl.WithPartSize(500), ossdl.WithProgress(func(ossdl.Progress) { own++ }),
		ossdl.WithRequestOptions(oss.SetHeader("X-Own", "yes")))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(s.Requests()); n != 2 || theirs != 0 || own == 0 {
		t.Errorf("%d requests of parts of 500, %d and %d reports", n, theirs, own)
	}
	if h := s.Requests()[0].Header; h.Get("X-Theirs") != "" || h.Get("X-Own") != "yes" {
		t.Errorf("request options %v", h)
	}
	if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && filepath.Ext(path) != "" {
			t.Errorf("%s is left", path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// testProxyWord is the password of a proxy.
const testProxyWord = "proxypassword"

// deadOptions are the SDK's options that have no effect together with oss.HTTPClient, by name.
func deadOptions() map[string]oss.ClientOption {
	return map[string]oss.ClientOption{
		"oss.Proxy":              oss.Proxy("http://127.0.0.1:1"),
		"oss.AuthProxy":          oss.AuthProxy("http://127.0.0.1:1", "user", testProxyWord),
		"oss.Timeout":            oss.Timeout(30, 60),
		"oss.MaxConns":           oss.MaxConns(100, 100, 1),
		"oss.InsecureSkipVerify": oss.InsecureSkipVerify(true),
		"oss.SetLocalAddr":       oss.SetLocalAddr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}),
		"oss.RedirectEnabled":    oss.RedirectEnabled(false),
	}
}

// TestNewRefusesDeadClientOptions checks that New names each option that would be ignored, and says what to do.
func TestNewRefusesDeadClientOptions(t *testing.T) {
	s := harness.NewServer(t)
	for name, option := range deadOptions() {
		for whose, hc := range map[string]*http.Client{"ours": tuned(t), "another": {}} {
			for place, options := range map[string][]oss.ClientOption{"before": {option, oss.HTTPClient(hc)}, "behind": {oss.HTTPClient(hc), option}} {
				client, err := s.Client(options...)
				if err != nil {
					t.Fatal(err)
				}
				d, err := ossdl.New(client)
				if d != nil || err == nil {
					t.Fatalf("%s %s oss.HTTPClient, %s: no error", name, place, whose)
				}
				text := err.Error()
				if !strings.HasPrefix(text, "ossdl: client option "+name+" has no effect together with oss.HTTPClient; omit it and set ") ||
					!strings.Contains(text, "ossdl.HTTPClient(func(t *http.Transport)") && name != "oss.RedirectEnabled" || strings.Contains(text, testProxyWord) {
					t.Errorf("%s %s oss.HTTPClient, %s: %v", name, place, whose, err)
				}
			}
		}
		client, err := s.Client(option)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ossdl.New(client); err != nil {
			t.Errorf("%s without oss.HTTPClient: %v", name, err)
		}
	}
}

// TestNewTakesOtherClientOptions checks that options with an effect are no error together with oss.HTTPClient, nor are those that
// set what is the default anyway.
func TestNewTakesOtherClientOptions(t *testing.T) {
	s := harness.NewServer(t)
	for name, option := range map[string]oss.ClientOption{
		"none":                 oss.SecurityToken(""),
		"UseCname":             oss.UseCname(true),
		"ForcePathStyle":       oss.ForcePathStyle(true),
		"UserAgent":            oss.UserAgent("me"),
		"EnableCRC":            oss.EnableCRC(false),
		"EnableMD5":            oss.EnableMD5(true),
		"AuthVersion":          oss.AuthVersion(oss.AuthV4),
		"AdditionalHeaders":    oss.AdditionalHeaders([]string{"host"}),
		"SetLogLevel":          oss.SetLogLevel(oss.LogOff),
		"MaxConns, default":    oss.MaxConns(100, 100, 0),
		"InsecureSkipVerify":   oss.InsecureSkipVerify(false),
		"SetLocalAddr":         oss.SetLocalAddr(nil),
		"RedirectEnabled":      oss.RedirectEnabled(true),
		"CredentialsProvider":  oss.SetCredentialsProvider(nil),
		"VerifyObjectStrict":   oss.VerifyObjectStrict(false),
		"another region":       oss.Region("cn-beijing"),
		"another product":      oss.Product("oss-cloudbox"),
		"another cloud box":    oss.CloudBoxId("cb"),
		"MD5 threshold":        oss.MD5ThresholdCalcInMemory(1),
		"no logger of its own": oss.SetLogger(nil),
	} {
		client, err := s.Client(oss.HTTPClient(ossdl.HTTPClient()), option)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ossdl.New(client); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ossdl.New(nil); err != nil {
		t.Error(err)
	}
}

// TestDownloadFileWithDeadClientOptions checks that a program that moves over goes on as it was: with the SDK, too, these
// options do nothing together with oss.HTTPClient.
func TestDownloadFileWithDeadClientOptions(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 1000)
	s.Put("bkt", "k", content)
	for name, option := range deadOptions() {
		client, err := s.Client(oss.HTTPClient(tuned(t)), option)
		if err != nil {
			t.Fatal(err)
		}
		bucket, err := client.Bucket("bkt")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "file")
		if err := bucket.DownloadFile("k", path, 1<<20); err != nil {
			t.Errorf("%s, the SDK: %v", name, err)
		}
		if err := ossdl.DownloadFile(bucket, "k", path, 1<<20); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		harness.CheckFile(t, path, content)
	}
}

// TestDownloadFileOverTheSDKsTransport checks that options of the client keep their effect where the SDK makes the
// transport.
func TestDownloadFileOverTheSDKsTransport(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 1000)
	s.Put("bkt", "k", content)
	client, err := oss.New("http://oss.test", osstest.AccessKeyID, osstest.AccessKeySecret, oss.Proxy(s.Endpoint()), oss.Timeout(30, 60))
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := client.Bucket("bkt")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := ossdl.DownloadFile(bucket, "k", path, 1<<20); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, content)
	if host := s.Requests()[0].Host; host != "bkt.oss.test" {
		t.Errorf("the proxy was asked for %s", host)
	}
}

// TestHooksHaveTheirTypes checks the types that package testhook says its hooks have, and that package harness relies on.
func TestHooksHaveTheirTypes(t *testing.T) {
	if _, ok := testhook.FileSystem.(func(fsys.FS) ossdl.Option); !ok {
		t.Errorf("FileSystem is a %T", testhook.FileSystem)
	}
	if _, ok := testhook.FolderFileSystem.(func(func(*fsys.Root) fsys.FS) ossdl.Option); !ok {
		t.Errorf("FolderFileSystem is a %T", testhook.FolderFileSystem)
	}
	if _, ok := testhook.Transport.(func(*http.Client) *http.Transport); !ok {
		t.Errorf("Transport is a %T", testhook.Transport)
	}
	if _, ok := testhook.Network.(func(*http.Client, func(context.Context, string) ([]net.IPAddr, error), func(context.Context, string, string) (net.Conn, error))); !ok {
		t.Errorf("Network is a %T", testhook.Network)
	}
}

// TestMkdirAll checks that the folder of the file is made with its parents only if the option says so, given to New or to the call.
func TestMkdirAll(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 1000)
	s.Put("bkt", "k", content)
	dir := t.TempDir()
	if _, err := harness.NewDownloader(t, s).Download(t.Context(), "bkt", "k", filepath.Join(dir, "none", "file")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the option: %v", err)
	}
	for name, opts := range map[string][2][]ossdl.Option{
		"new": {{ossdl.WithMkdirAll()}, nil}, "call": {nil, {ossdl.WithMkdirAll()}},
	} {
		path := filepath.Join(dir, name, "sub", "file")
		if _, err := harness.NewDownloader(t, s, opts[0]...).Download(t.Context(), "bkt", "k", path, opts[1]...); err != nil {
			t.Fatal(err)
		}
		harness.CheckFile(t, path, content)
	}
	if there, err := os.ReadDir(dir); err != nil || len(there) != 2 {
		t.Errorf("there are %v, %v", there, err)
	}
}

// TestOptionCheck checks that an option can be checked without a call, and that the error is that of a call.
func TestOptionCheck(t *testing.T) {
	for _, o := range []ossdl.Option{ossdl.WithPartSize(1), ossdl.WithHeader("Referer", "v"), ossdl.WithRetry(ossdl.RetryPolicy{}), ossdl.WithShard(0, 1)} {
		if err := o.Check(); err != nil {
			t.Error(err)
		}
	}
	for want, o := range map[string]ossdl.Option{
		"zero Option": {}, "WithPartSize: part size 0": ossdl.WithPartSize(0), "WithHeader: the header Range": ossdl.WithHeader("range", "v"),
		"WithShard: shard 1 of 1": ossdl.WithShard(1, 1),
	} {
		if err := o.Check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestFallbackClients checks that the clients of WithFallback are checked like that of New, and that the error says which one is wrong.
func TestFallbackClients(t *testing.T) {
	client := func(endpoint, id string, opts ...oss.ClientOption) *oss.Client {
		c, err := oss.New(endpoint, id, id, opts...)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first, good := client("http://a.test", "id"), client("http://b.test", "id")
	noProvider := client("http://b.test", "id")
	noProvider.Config.CredentialsProvider = nil
	for name, c := range map[string]struct {
		first *oss.Client
		all   []*oss.Client
		want  string
	}{
		"none":                {first, nil, "WithFallback: no client"},
		"nil client of New":   {nil, []*oss.Client{good}, "WithFallback: New was given no client"},
		"nil":                 {first, []*oss.Client{good, nil}, "WithFallback: client 2: it is nil"},
		"twice":               {first, []*oss.Client{good, good}, "WithFallback: client 2: it is given twice"},
		"that of New":         {first, []*oss.Client{first}, "WithFallback: client 1: it is given twice"},
		"no endpoint":         {first, []*oss.Client{client("https://", "id")}, "WithFallback: client 1: the client's endpoint"},
		"option of no effect": {first, []*oss.Client{client("http://b.test", "id", oss.HTTPClient(http.DefaultClient), oss.Proxy("http://p.test"))}, "WithFallback: client 1: client option oss.Proxy"},
		"unsigned":            {first, []*oss.Client{client("http://b.test", "")}, "no access key"},
		"signed":              {client("http://a.test", ""), []*oss.Client{good}, "no access key"},
		"no provider":         {first, []*oss.Client{noProvider}, "WithFallback: client 1: its credentials provider is nil"},
	} {
		if _, err := ossdl.New(c.first, ossdl.WithFallback(c.all...)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := ossdl.New(first, ossdl.WithFallback(good, client("http://c.test", "id"))); err != nil {
		t.Error(err)
	}
}
