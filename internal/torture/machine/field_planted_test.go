package machine_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// planter is a user who puts files where others look for theirs.
const planter = 4242

// sharedDisk is a disk with a folder in which strangers, or a group, may make files.
type sharedDisk struct {
	name   string
	folder fs.FileMode // its mode
	of     uint32      // its owner
	user   uint32      // who downloads
	sticky bool
}

var sharedDisks = []sharedDisk{
	{"sticky, for root", 0o777 | fs.ModeSticky, 0, 0, true},
	{"sticky, of its user", 0o777 | fs.ModeSticky, 1000, 1000, true},
	{"of a group", 0o775, 0, 1000, false},
}

// TestPlantedFile checks that a file of another user in a sticky folder does not count as downloaded, whatever size, time and
// checksum it has, and that one in a folder of a group does.
func TestPlantedFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no owners")
	}
	s := harness.NewServer(t)
	c := osstest.Random(1, 3000)
	content := harness.Bytes(t, c)
	sum := sha256.Sum256(content)
	s.CreateBucket("public", osstest.PublicRead())
	for _, bucket := range []string{"bkt", "public"} {
		s.Put(bucket, "k", c)
	}
	bare := s.Put("bkt", "bare", c, osstest.NoCRC())
	download := func(key string, opts ...ossdl.Option) func(context.Context, *ossdl.Downloader, string) (*ossdl.Result, error) {
		return func(ctx context.Context, d *ossdl.Downloader, path string) (*ossdl.Result, error) {
			return d.Download(ctx, "bkt", key, path, opts...)
		}
	}
	ways := map[string]func(context.Context, *ossdl.Downloader, string) (*ossdl.Result, error){
		"CRC-64": download("k"),
		"time":   download("bare"),
		"digest": download("k", ossdl.WithChecksum(sha256.New, sum[:])),
		"URL": func(ctx context.Context, d *ossdl.Downloader, path string) (*ossdl.Result, error) {
			return d.DownloadURL(ctx, s.URL("public", "k"), path)
		},
		"list": func(ctx context.Context, d *ossdl.Downloader, path string) (*ossdl.Result, error) {
			res, err := d.DownloadAll(ctx, func(yield func(ossdl.Item, error) bool) {
				yield(ossdl.Item{Source: "oss://bkt/k", Path: path}, nil)
			})
			return &ossdl.Result{Skipped: res.Skipped == 1}, err
		},
	}
	for _, on := range sharedDisks {
		for name, way := range ways {
			harness.Tried.Add("cases from the field", 1)
			disk := memfs.New(memfs.Config{})
			if err := errors.Join(disk.Mkdir("/dir", 0o755), disk.Chmod("/dir", on.folder), disk.Chown("/dir", on.of),
				fsys.WriteFile(disk, "/dir/f", content, 0o666), disk.Chtimes("/dir/f", bare.LastModified), disk.Chown("/dir/f", planter)); err != nil {
				t.Fatal(err)
			}
			disk.SetUser(on.user)
			d := harness.NewDownloader(t, s, harness.WithFS(disk), ossdl.WithIfChanged())
			res, err := way(t.Context(), d, "/dir/f")
			if err != nil || res.Skipped == on.sticky {
				t.Errorf("%s, %s: %+v, %v", on.name, name, res, err)
			}
			mustBelong(t, disk, "/dir/f", map[bool]uint32{true: on.user, false: planter}[on.sticky])
			mustHold(t, disk, "/dir/f", c)
		}
	}
}

// mustBelong checks whose a file is.
func mustBelong(t *testing.T, disk fsys.FS, name string, want uint32) {
	t.Helper()
	fi, err := disk.Lstat(name)
	if err != nil {
		t.Error(err)
		return
	}
	if owner, ok := fsys.Owner(fi); ok && owner != want {
		t.Errorf("%s belongs to user %d, want %d", name, owner, want)
	}
}

// plantedPrefix is a call for the objects of a prefix.
type plantedPrefix func(ctx context.Context, d *ossdl.Downloader, dir string, opts ...ossdl.Option) (*ossdl.PrefixResult, error)

var plantedPrefixes = map[string]plantedPrefix{
	"prefix": func(ctx context.Context, d *ossdl.Downloader, dir string, opts ...ossdl.Option) (*ossdl.PrefixResult, error) {
		return d.DownloadPrefix(ctx, "bkt", "", dir, opts...)
	},
	"compared by CRC-64": func(ctx context.Context, d *ossdl.Downloader, dir string, opts ...ossdl.Option) (*ossdl.PrefixResult, error) {
		return d.DownloadPrefix(ctx, "bkt", "", dir, append(opts, ossdl.WithCompareCRC64())...)
	},
	"objects": func(ctx context.Context, d *ossdl.Downloader, dir string, opts ...ossdl.Option) (*ossdl.PrefixResult, error) {
		return d.DownloadObjects(ctx, "bkt", func(yield func(ossdl.Object, error) bool) {
			for _, key := range []string{"a", "sub/b", "sub/deep/c"} {
				if !yield(ossdl.Object{Key: key}, nil) {
					return
				}
			}
		}, dir, opts...)
	},
}

// TestPlantedInPrefix does the same for the files of a prefix, also in folders that the stranger has made. A dry run says the same,
// and makes nothing.
func TestPlantedInPrefix(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no owners")
	}
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 10, "sub/b": 20, "sub/deep/c": 30})
	d := harness.NewDownloader(t, s)
	for _, on := range sharedDisks {
		for name, download := range plantedPrefixes {
			harness.Tried.Add("cases from the field", 1)
			disk := memfs.New(memfs.Config{})
			if err := errors.Join(disk.Chmod("/", on.folder), disk.Chown("/", on.of)); err != nil {
				t.Fatal(err)
			}
			res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), onDisk(disk))
			harness.CheckCounts(t, res, err, len(all), 0, 0)
			planted := []string{"/a", "/sub", "/sub/b", "/sub/deep", "/sub/deep/c"}
			for _, name := range planted {
				if err := disk.Chown(name, planter); err != nil {
					t.Fatal(err)
				}
			}
			disk.SetUser(on.user)
			done, skipped, owner := 0, len(all), uint32(planter)
			if on.sticky {
				done, skipped, owner = len(all), 0, on.user
			}
			before := len(disk.Names())
			res, err = download(t.Context(), d, t.TempDir(), onDisk(disk), ossdl.WithDryRun())
			harness.CheckCounts(t, res, err, done, skipped, 0)
			if after := len(disk.Names()); after != before {
				t.Errorf("%s, %s: a dry run made files: %q", on.name, name, disk.Names())
			}
			res, err = download(t.Context(), d, t.TempDir(), onDisk(disk))
			harness.CheckCounts(t, res, err, done, skipped, 0)
			for name, content := range all {
				mustBelong(t, disk, name, owner)
				mustHold(t, disk, name, content)
			}
			res, err = download(t.Context(), d, t.TempDir(), onDisk(disk)) // ours count in any folder
			harness.CheckCounts(t, res, err, 0, len(all), 0)
			if t.Failed() {
				t.Fatalf("%s, %s", on.name, name)
			}
		}
	}
}

// TestPlantedWhereNothingCanBeMade checks that, in a sticky folder where nothing can be made, our files count as downloaded, and the
// error for another user's says whose it is. A dry run reports the same.
func TestPlantedWhereNothingCanBeMade(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no owners")
	}
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"sub/ours": 10, "sub/theirs": 20})
	d := harness.NewDownloader(t, s)
	for _, refused := range []error{syscall.EACCES, syscall.EPERM, syscall.EROFS} {
		harness.Tried.Add("cases from the field", 1)
		disk := memfs.New(memfs.Config{})
		disk.SetUser(1000)
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), onDisk(disk))
		harness.CheckCounts(t, res, err, 2, 0, 0)
		if err := errors.Join(disk.Chmod("/sub", 0o755|fs.ModeSticky), disk.Chown("/sub", 0), disk.Chown("/sub/theirs", planter)); err != nil {
			t.Fatal(err)
		}
		closed := onDisk(faultfs.New(disk, faultfs.Plan{Kind: faultfs.Open, Name: ".tmp", Err: refused, Forever: true}))
		res, err = d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), closed, ossdl.WithDryRun())
		harness.CheckCounts(t, res, err, 1, 1, 0)
		res, err = d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), closed)
		harness.CheckCounts(t, res, err, 0, 1, 1)
		for _, f := range res.Failures {
			if !errors.Is(f.Err, ossdl.ErrDestination) || !strings.Contains(f.Err.Error(), "user 4242") {
				t.Errorf("%v: %v", refused, f)
			}
		}
	}
}

// TestPlantedWhereAllFilesHaveOneOwner checks that on a mount that gives all files to one user, a sticky folder among them, those that
// are there count as downloaded, and a stranger's does not. A dry run reports the same, and makes nothing to find it out.
func TestPlantedWhereAllFilesHaveOneOwner(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files have no owners")
	}
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 10, "sub/b": 20, "sub/deep/c": 30})
	d := harness.NewDownloader(t, s)
	for name, download := range plantedPrefixes {
		harness.Tried.Add("cases from the field", 1)
		disk := memfs.New(memfs.Config{})
		disk.SetUser(1000)
		if err := errors.Join(disk.Chmod("/", 0o777|fs.ModeSticky), disk.Chown("/", 1000)); err != nil {
			t.Fatal(err)
		}
		mount := onDisk(oneOwner{disk})
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), mount)
		harness.CheckCounts(t, res, err, len(all), 0, 0)
		if err := disk.Chown("/a", planter); err != nil {
			t.Fatal(err)
		}
		before := disk.Names()
		res, err = download(t.Context(), d, t.TempDir(), mount, ossdl.WithDryRun())
		harness.CheckCounts(t, res, err, 1, 2, 0)
		if after := disk.Names(); !slices.Equal(after, before) {
			t.Errorf("%s: a dry run made files: %q", name, after)
		}
		res, err = download(t.Context(), d, t.TempDir(), mount)
		harness.CheckCounts(t, res, err, 1, 2, 0)
		mustBelong(t, disk, "/a", 1000)
	}
}

// oneOwner is a mount on which the files of root belong to another.
type oneOwner struct{ fsys.FS }

func (oneOwner) User() (uid uint32, ok bool) { return 0, true }

// TestFilesBehindForeignLinks checks that neither a checkpoint nor a manifest is made behind another user's link in a sticky folder.
func TestFilesBehindForeignLinks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a link of another user")
	}
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"k": 3 * harness.PartSize})
	d := harness.NewDownloader(t, s)
	for _, owner := range []int{0, planter} {
		harness.Tried.Add("cases from the field", 1)
		top := t.TempDir()
		elsewhere, link := filepath.Join(top, "elsewhere"), filepath.Join(top, "shared", "link")
		toFile := link + "-file"
		if err := errors.Join(
			os.Mkdir(elsewhere, 0o755), os.Mkdir(filepath.Dir(link), 0o755), os.Chmod(filepath.Dir(link), 0o777|fs.ModeSticky),
			os.Symlink(elsewhere, link), os.Lchown(link, owner, owner),
			os.Symlink(filepath.Join(elsewhere, "new"), toFile), os.Lchown(toFile, owner, owner),
		); err != nil {
			t.Fatal(err)
		}
		for _, at := range []string{filepath.Join(link, "new"), toFile} {
			s.ResetLog()
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			_, one := d.Download(t.Context(), "bkt", "k", path, ossdl.WithCheckpoint(at))
			_, many := d.DownloadPrefix(t.Context(), "bkt", "", filepath.Join(dir, "tree"), ossdl.WithManifest(at))
			for what, err := range map[string]error{"checkpoint": one, "manifest": many} {
				if owner == 0 && err != nil || owner != 0 && (!errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "user 4242")) {
					t.Errorf("%s at %s, whose link user %d owns: %v", what, at, owner, err)
				}
			}
			if owner == 0 {
				harness.CheckFile(t, path, all["k"])
				if err := os.Remove(filepath.Join(elsewhere, "new")); err != nil { // the manifest
					t.Error(err)
				}
				continue
			}
			if names, err := os.ReadDir(elsewhere); len(names) > 0 || err != nil {
				t.Errorf("made behind the link: %v, %v", names, err)
			}
			if n := len(s.Requests()); n > 0 {
				t.Errorf("%d requests", n)
			}
		}
	}
}

// TestPlantedForReal does both with real owners.
func TestPlantedForReal(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 10, "sub/b": 20})
	d := harness.NewDownloader(t, s)
	for _, sticky := range []bool{true, false} {
		harness.Tried.Add("cases from the field", 1)
		dir := t.TempDir()
		mode, done := fs.FileMode(0o775)|fs.ModeSetgid, 0
		if sticky {
			mode, done = 0o777|fs.ModeSticky, len(all)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		plant := func() {
			for _, name := range []string{"a", "sub", "sub/b"} {
				if err := os.Chown(filepath.Join(dir, filepath.FromSlash(name)), planter, planter); err != nil {
					t.Fatal(err)
				}
			}
		}
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
		harness.CheckCounts(t, res, err, len(all), 0, 0)
		plant()
		res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
		harness.CheckCounts(t, res, err, done, len(all)-done, 0)
		harness.CheckTree(t, dir, all)
		plant()
		one, err := d.Download(t.Context(), "bkt", "a", filepath.Join(dir, "a"), ossdl.WithIfChanged())
		if err != nil || one.Skipped == sticky {
			t.Errorf("sticky %t: %+v, %v", sticky, one, err)
		}
		if sticky {
			mustBelong(t, fsys.OS(), filepath.Join(dir, "a"), 0)
		}
	}
}
