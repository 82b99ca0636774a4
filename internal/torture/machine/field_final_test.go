package machine_test

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestDestinationsThatNothingCanReplace checks that a file that no rename can replace is ErrDestination through every entrance,
// before a request for its object, and that others of the call are downloaded.
func TestDestinationsThatNothingCanReplace(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no owners")
	}
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"good": 10, "small": 20, "large": 3 << 20})
	s.CreateBucket("public", osstest.PublicRead())
	s.Put("public", "small", all["small"])
	for why, prepare := range map[string]func(disk *memfs.FS, name string) error{
		"mount point": func(disk *memfs.FS, name string) error { return disk.Mount(name) },
		"another user's in a sticky folder": func(disk *memfs.FS, name string) error {
			disk.SetUser(1000)
			return errors.Join(disk.Chown("/", 0), disk.Chmod("/", 0o777|fs.ModeSticky), disk.Chown(name, planter))
		},
		"folder": func(disk *memfs.FS, name string) error {
			return errors.Join(disk.Remove(name), disk.Mkdir(name, 0o755))
		},
	} {
		for how, download := range map[string]func(ctx context.Context, d *ossdl.Downloader, disk *memfs.FS) (*ossdl.PrefixResult, error){
			"prefix": func(ctx context.Context, d *ossdl.Downloader, disk *memfs.FS) (*ossdl.PrefixResult, error) {
				return d.DownloadPrefix(ctx, "bkt", "", t.TempDir(), onDisk(disk))
			},
			"list": func(ctx context.Context, d *ossdl.Downloader, _ *memfs.FS) (*ossdl.PrefixResult, error) {
				return d.DownloadAll(ctx, func(yield func(ossdl.Item, error) bool) {
					_ = yield(ossdl.Item{Source: "oss://bkt/small", Path: "/small"}, nil) && yield(ossdl.Item{Source: "oss://bkt/large", Path: "/large"}, nil) &&
						yield(ossdl.Item{Source: "oss://bkt/good", Path: "/good"}, nil)
				})
			},
			"one": func(ctx context.Context, d *ossdl.Downloader, _ *memfs.FS) (*ossdl.PrefixResult, error) {
				res, err := d.Download(ctx, "bkt", "small", "/small")
				if res != nil {
					t.Errorf("%s: %+v", why, res)
				}
				return nil, err
			},
			"URL": func(ctx context.Context, d *ossdl.Downloader, _ *memfs.FS) (*ossdl.PrefixResult, error) {
				res, err := d.DownloadURL(ctx, s.URL("public", "small"), "/small")
				if res != nil {
					t.Errorf("%s: %+v", why, res)
				}
				return nil, err
			},
		} {
			harness.Tried.Add("cases from the field", 1)
			disk := memfs.New(memfs.Config{})
			for _, name := range []string{"/small", "/large"} {
				if err := errors.Join(putFile(disk, name, "old"), prepare(disk, name)); err != nil {
					t.Fatal(err)
				}
			}
			s.ResetLog()
			res, err := download(t.Context(), harness.NewDownloader(t, s, harness.WithFS(disk)), disk)
			if !errors.Is(err, ossdl.ErrDestination) {
				t.Errorf("%s, %s: %v", why, how, err)
			}
			if res == nil {
				if n := len(s.Requests()); n > 0 {
					t.Errorf("%s, %s: %d requests", why, how, n)
				}
				continue
			}
			harness.CheckCounts(t, res, err, 1, 0, 2)
			for _, f := range res.Failures {
				if !errors.Is(f.Err, ossdl.ErrDestination) {
					t.Errorf("%s, %s: %v", why, how, f)
				}
			}
		}
	}
}
