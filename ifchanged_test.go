package ossdl_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestIfChanged checks what it costs, on the wire, to find that a file is there, and that one that differs is replaced.
func TestIfChanged(t *testing.T) {
	s := harness.NewServer(t)
	c := osstest.Random(1, 3<<20)
	content := harness.Bytes(t, c)
	sum := sha256.Sum256(content)
	o := s.Put("bkt", "k", c)
	s.CreateBucket("public", osstest.PublicRead())
	s.Put("public", "k", c)
	bare := s.Put("bkt", "bare", c, osstest.NoCRC())
	d := harness.NewDownloader(t, s, ossdl.WithIfChanged())
	digest := ossdl.WithChecksum(sha256.New, sum[:])
	other := append([]byte{content[0] + 1}, content[1:]...)
	bucket := func(key string) func(context.Context, string, ...ossdl.Option) (*ossdl.Result, error) {
		return func(ctx context.Context, path string, opts ...ossdl.Option) (*ossdl.Result, error) {
			return d.Download(ctx, "bkt", key, path, opts...)
		}
	}
	viaURL := func(ctx context.Context, path string, opts ...ossdl.Option) (*ossdl.Result, error) {
		return d.DownloadURL(ctx, s.URL("public", "k"), path, opts...)
	}
	for _, test := range []struct {
		name     string
		download func(context.Context, string, ...ossdl.Option) (*ossdl.Result, error)
		there    []byte
		modified time.Time
		opts     []ossdl.Option
		skipped  bool
		wire     string // the requests before the bytes
		verified bool
	}{
		{"digest", bucket("k"), content, time.Time{}, []ossdl.Option{digest}, true, "", true},
		{"digest of a part", bucket("k"), content, time.Time{}, []ossdl.Option{digest, ossdl.WithRange(0, 3<<20)}, true, "", true},
		{"digest of a URL", viaURL, content, time.Time{}, []ossdl.Option{digest}, true, "", true},
		{"other digest", bucket("k"), other, time.Time{}, []ossdl.Option{digest}, false, "", true},
		{"CRC-64", bucket("k"), content, time.Time{}, nil, true, "HEAD ", true},
		{"CRC-64 of a URL", viaURL, content, time.Time{}, nil, true, "GET bytes=0-0", true},
		{"other CRC-64", bucket("k"), other, o.LastModified, nil, false, "HEAD ", true},
		{"other size", bucket("k"), content[1:], time.Time{}, nil, false, "HEAD ", true},
		{"other ETag", bucket("k"), content, time.Time{}, []ossdl.Option{ossdl.WithIfMatch(`"` + strings.Repeat("0", 32) + `"`)}, false, "HEAD ", false},
		{"time", bucket("bare"), content, bare.LastModified, nil, true, "HEAD ", false},
		{"other time", bucket("bare"), content, bare.LastModified.Add(-time.Hour), nil, false, "HEAD ", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			if err := os.WriteFile(path, test.there, 0o600); err != nil {
				t.Fatal(err)
			}
			if !test.modified.IsZero() {
				if err := os.Chtimes(path, test.modified, test.modified); err != nil {
					t.Fatal(err)
				}
			}
			s.ResetLog()
			res, err := test.download(t.Context(), path, test.opts...)
			wire := strings.Join(harness.Wire(s), "\n")
			if test.name == "other ETag" {
				if !errors.Is(err, ossdl.ErrObjectChanged) {
					t.Fatal(err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if res.Skipped != test.skipped || res.Verified != test.verified || !res.Durable || res.Size != 3<<20 || res.CRC64 != o.CRC64() || res.Path != path {
				t.Errorf("%+v", res)
			}
			if test.skipped && (wire != test.wire || res.DownloadedBytes != 0) || !strings.HasPrefix(wire, test.wire) || !test.skipped && !strings.Contains(wire, "GET") {
				t.Errorf("requests:\n%s", wire)
			}
			harness.CheckFile(t, path, c)
		})
	}
}

// TestIfChangedRefused checks that the option is refused where nothing can be compared.
func TestIfChangedRefused(t *testing.T) {
	s := harness.NewServer(t)
	d := harness.NewDownloader(t, s)
	path := filepath.Join(t.TempDir(), "f")
	_, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithIfChanged(), ossdl.WithRange(0, 1))
	if err == nil || !strings.Contains(err.Error(), "WithIfChanged") || !strings.Contains(err.Error(), "WithRange") {
		t.Error(err)
	}
	_, err = d.DownloadURL(t.Context(), s.URL("bkt", "k")+"?x-oss-process=image/info", path, ossdl.WithIfChanged())
	if err == nil || !strings.Contains(err.Error(), "WithIfChanged") {
		t.Error(err)
	}
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestIfChangedRemovesRest checks that what an interrupted download has left goes once its file is there.
func TestIfChangedRemovesRest(t *testing.T) {
	s := harness.NewServer(t)
	c := osstest.Random(1, 4<<20)
	s.Put("bkt", "k", c)
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(1<<20), ossdl.WithConcurrency(1), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}))
	path := filepath.Join(t.TempDir(), "f")
	s.Nth(2, osstest.Inject().Error(503, ""))
	if _, err := d.Download(t.Context(), "bkt", "k", path); err == nil {
		t.Fatal("no error")
	}
	if _, err := os.Stat(path + ".cp"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, harness.Bytes(t, c), 0o600); err != nil {
		t.Fatal(err)
	}
	s.ResetLog()
	res, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithIfChanged())
	if err != nil || !res.Skipped {
		t.Fatal(res, err)
	}
	if _, err := os.Stat(path + ".cp"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the working folder: %v", err)
	}
}

// TestIfChangedOfNewAndPrefix checks that the option, given to New, changes nothing for a prefix, which compares in its own way.
func TestIfChangedOfNewAndPrefix(t *testing.T) {
	s := harness.NewServer(t)
	c := osstest.Random(1, 4<<20)
	s.Put("bkt", "p/k", c)
	d := harness.NewDownloader(t, s, ossdl.WithIfChanged(), ossdl.WithWait(time.Minute), ossdl.WithPartSize(1<<20))
	dir := t.TempDir()
	t.Chdir(dir) // where the name of the file leads to the file
	path := filepath.Join(dir, "k")
	if err := os.WriteFile(path, harness.Bytes(t, c), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Unix(1_600_000_000, 0)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	res, err := d.DownloadPrefix(t.Context(), "bkt", "p/", dir)
	if err != nil || res.Done != 1 || res.DownloadedBytes != c.Size() {
		t.Errorf("%+v, %v; want the file replaced, whose time is another one", res, err)
	}
	harness.CheckFile(t, path, c)
}

// TestIfChangedReports checks what is said of a file that is there: progress ends at its size, and it is durable only if it can be
// synced.
func TestIfChangedReports(t *testing.T) {
	s := harness.NewServer(t)
	c := osstest.Random(1, 3000)
	s.Put("bkt", "k", c)
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, harness.Bytes(t, c), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, broken := range []bool{false, true} {
		files := fsys.OS()
		if broken {
			files = faultfs.New(files, faultfs.Plan{Kind: faultfs.Sync, Err: syscall.EIO, Forever: true})
		}
		var last ossdl.Progress
		d := harness.NewDownloader(t, s, harness.WithFS(files), ossdl.WithIfChanged(), ossdl.WithProgress(func(p ossdl.Progress) { last = p }))
		res, err := d.Download(t.Context(), "bkt", "k", path)
		if err != nil || !res.Skipped || res.Durable == broken || last.Done != c.Size() || last.Total != c.Size() {
			t.Errorf("syncs fail %t: %+v, %v; progress %+v", broken, res, err, last)
		}
	}
}

// TestIfChangedLink checks that the time of a symbolic link proves nothing, which may be older than what it leads to.
func TestIfChangedLink(t *testing.T) {
	s := harness.NewServer(t)
	c := osstest.Random(1, 3000)
	s.Put("bkt", "k", c, osstest.NoCRC())
	link := s.Symlink("bkt", "link", "k", osstest.NoCRC())
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, make([]byte, c.Size()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, link.LastModified, link.LastModified); err != nil {
		t.Fatal(err)
	}
	d := harness.NewDownloader(t, s)
	info, err := d.Stat(t.Context(), "bkt", "link")
	if err != nil {
		t.Fatal(err)
	}
	if local, err := info.Local(t.Context(), path); err != nil || local.Same {
		t.Errorf("%+v, %v; want a file that may differ", local, err)
	}
	res, err := d.Download(t.Context(), "bkt", "link", path, ossdl.WithIfChanged())
	if err != nil || res.Skipped {
		t.Errorf("%+v, %v; want the target downloaded", res, err)
	}
	harness.CheckFile(t, path, c)
}
