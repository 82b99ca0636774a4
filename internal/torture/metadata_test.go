package torture

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// storedTime is the time that the objects of these tests have in their metadata.
var storedTime = time.Unix(1648047444, 796073379)

const storedSeconds = "1648047444.796073379"

// wantFile checks the permissions of a file, unless they are 0, and its time, to the second.
func wantFile(t *testing.T, path string, mode fs.FileMode, modified time.Time) {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.ModTime().Unix() != modified.Unix() {
		t.Errorf("%s is of %v, want %v", filepath.Base(path), fi.ModTime(), modified)
	}
	if mode != 0 && fi.Mode().Perm() != mode && runtime.GOOS != "windows" {
		t.Errorf("%s has the mode %v, want %v", filepath.Base(path), fi.Mode(), mode)
	}
}

// TestMetadata checks that a file gets the time and the mode in the metadata of its object, and nothing from what is malformed there.
func TestMetadata(t *testing.T) {
	s := harness.NewServer(t)
	both := ossdl.WithMetadata(ossdl.MetadataTime | ossdl.MetadataMode)
	for key, meta := range map[string][2]string{
		"rclone": {storedSeconds, "100751"}, "ossfs": {"1648047444", "33257"}, "setuid": {storedSeconds, "104751"}, "readonly": {storedSeconds, "100444"},
		"malformed": {"yesterday", "rwx"}, "none": {"", ""}, "folder": {storedSeconds, "16877"},
	} {
		var opts []osstest.ObjectOption
		if meta[0] != "" {
			opts = append(opts, osstest.Meta("mtime", meta[0]), osstest.Meta("mode", meta[1]))
		}
		s.Put("bkt", key, osstest.Random(1, 1000), opts...)
	}
	single, tree := t.TempDir(), t.TempDir()
	harness.WriteFile(t, filepath.Join(single, "narrow"), "")
	plain, err := os.Stat(filepath.Join(single, "narrow"))
	if err != nil {
		t.Fatal(err)
	}
	usual := plain.Mode().Perm()
	var log harness.Records
	d := harness.NewDownloader(t, s, both, ossdl.WithLogger(log.Logger()))
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", tree)
	harness.CheckCounts(t, res, err, 7, 0, 0)
	for key, mode := range map[string]fs.FileMode{"rclone": 0o751, "ossfs": 0o751, "setuid": 0o751, "readonly": 0o644, "malformed": usual, "none": usual, "folder": usual} {
		modified := storedTime
		if key == "malformed" || key == "none" {
			modified = s.Stat("bkt", key).LastModified
		}
		wantFile(t, filepath.Join(tree, key), mode, modified)
		// A file that is replaced does not narrow a mode that was asked for.
		path := filepath.Join(single, key)
		if key == "rclone" {
			harness.WriteFile(t, path, "old")
			if err := os.Chmod(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := d.Download(t.Context(), "bkt", key, path, ossdl.WithObjectTime()); err != nil {
			t.Fatal(err)
		}
		wantFile(t, path, mode, modified)
	}
	for _, want := range []string{`mtime \"yesterday\"`, `mode \"rwx\"`, `mode \"16877\"`} {
		if n := strings.Count(log.String(), want); n == 0 && (runtime.GOOS != "windows" || !strings.HasPrefix(want, "mode")) {
			t.Errorf("no warning of %s:\n%s", want, &log)
		}
	}
	path := filepath.Join(single, "url")
	u := harness.Sign(t, s, oss.AuthV4, time.Hour, "ossfs")
	if _, err := harness.NewURLDownloader(t).DownloadURL(t.Context(), u, path, both); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, 0o751, storedTime)
	for _, bad := range []ossdl.Metadata{0, 8} {
		if _, err := ossdl.New(nil, ossdl.WithMetadata(bad)); err == nil {
			t.Errorf("metadata %d was accepted", bad)
		}
	}
}

// TestMetadataOwner checks that root, who asked for it, gets files that belong to the user and the group in the metadata, large ones
// and those of a batch, without set-user-ID bits, and that they are skipped by a later call.
func TestMetadataOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		if _, err := ossdl.New(nil, ossdl.WithMetadata(ossdl.MetadataOwner)); err == nil || !strings.Contains(err.Error(), "for root alone") {
			t.Errorf("not root: %v", err)
		}
		t.Skip("only root may give files to other users")
	}
	s := harness.NewServer(t)
	all := ossdl.WithMetadata(ossdl.MetadataTime | ossdl.MetadataMode | ossdl.MetadataOwner)
	const size = 3 * harness.PartSize
	for _, o := range []struct {
		name, uid, gid, mode string
		wantUID, wantGID     int
		wantMode             fs.FileMode
	}{
		{"ossfs", "4242", "4343", "33256", 4242, 4343, 0o750},
		{"rclone", "4242", "4343", "104750", 4242, 4343, 0o750},
		{"user alone", "4242", "", "100640", 4242, 0, 0o640},
		{"group alone", "", "4343", "100640", 0, 4343, 0o640},
		{"none", "", "", "100640", 0, 0, 0o640},
		{"malformed", "4242", "staff", "100640", 0, 0, 0o640},
		{"nobody", "4294967295", "4343", "100640", 0, 0, 0o640},
	} {
		t.Run(o.name, func(t *testing.T) {
			opts := []osstest.ObjectOption{osstest.Meta("mtime", storedSeconds), osstest.Meta("mode", o.mode)}
			if o.uid != "" {
				opts = append(opts, osstest.Meta("uid", o.uid))
			}
			if o.gid != "" {
				opts = append(opts, osstest.Meta("gid", o.gid))
			}
			s.Put("bkt", o.name+"/small", osstest.Random(1, 1000), opts...)
			s.Put("bkt", o.name+"/large", osstest.Random(2, size), opts...)
			dir := t.TempDir()
			var log harness.Records
			disk := faultfs.New(fsys.OS())
			d := harness.NewDownloader(t, s, all, ossdl.WithPartSize(harness.PartSize), ossdl.WithLogger(log.Logger()))
			path := filepath.Join(dir, "single")
			for range 2 { // the second time it replaces a file of another user
				if _, err := d.Download(t.Context(), "bkt", o.name+"/large", path, harness.WithFS(disk)); err != nil {
					t.Fatal(err)
				}
			}
			files := []string{path}
			tree := filepath.Join(dir, "tree")
			res, err := d.DownloadPrefix(t.Context(), "bkt", o.name+"/", tree)
			harness.CheckCounts(t, res, err, 2, 0, 0)
			res, err = d.DownloadPrefix(t.Context(), "bkt", o.name+"/", tree)
			harness.CheckCounts(t, res, err, 0, 2, 0)
			for _, file := range append(files, filepath.Join(tree, "small"), filepath.Join(tree, "large")) {
				wantFile(t, file, o.wantMode, storedTime)
				fi, err := os.Lstat(file)
				if err != nil {
					t.Fatal(err)
				}
				if uid, gid := ownerOf(fi); uid != o.wantUID || gid != o.wantGID || fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0 {
					t.Errorf("%s belongs to %d:%d and has the mode %v", filepath.Base(file), uid, gid, fi.Mode())
				}
			}
			if refused := o.name == "malformed" || o.name == "nobody"; strings.Contains(log.String(), "in the metadata is not a number") != refused {
				t.Errorf("logged: %s", &log)
			}
			chowned := -1
			for i, op := range disk.Ops() {
				switch {
				case op.Kind == faultfs.Chown:
					chowned = i
				case op.Kind == faultfs.Chmod && chowned < 0 && o.wantUID != 0:
					t.Errorf("chmod before chown: %v", op)
				case op.Kind == faultfs.Rename:
					chowned = -1
				}
			}
			// Without the option the owner is not touched.
			if _, err := d.Download(t.Context(), "bkt", o.name+"/large", path, ossdl.WithMetadata(ossdl.MetadataMode)); err != nil {
				t.Fatal(err)
			}
			fi, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if uid, gid := ownerOf(fi); uid != 0 || gid != 0 {
				t.Errorf("not asked for: %d:%d", uid, gid)
			}
		})
	}
}

// TestOwnerThatCannotBeSet checks that a file system that gives no files away costs a warning, and not the file.
func TestOwnerThatCannotBeSet(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may give files to other users")
	}
	s := harness.NewServer(t)
	content := osstest.Random(1, 1000)
	s.Put("bkt", "k", content, osstest.Meta("uid", "4242"), osstest.Meta("mode", "100640"))
	disk := faultfs.New(fsys.OS(), faultfs.Plan{Kind: faultfs.Chown, Err: fs.ErrPermission})
	var log harness.Records
	d := harness.NewDownloader(t, s, ossdl.WithMetadata(ossdl.MetadataMode|ossdl.MetadataOwner), ossdl.WithLogger(log.Logger()))
	path := filepath.Join(t.TempDir(), "file")
	if _, err := d.Download(t.Context(), "bkt", "k", path, harness.WithFS(disk)); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, content)
	if !disk.Fired() || !strings.Contains(log.String(), "could not set the owner") {
		t.Errorf("the fault fired: %t; logged: %s", disk.Fired(), &log)
	}
}

// TestObjectTime checks that one file gets the time of its object if that is asked for.
func TestObjectTime(t *testing.T) {
	s := harness.NewServer(t)
	modified := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	s.Put("bkt", "k", osstest.Random(1, 1000), osstest.LastModified(modified))
	dir := t.TempDir()
	d, byURL := harness.NewDownloader(t, s), harness.NewURLDownloader(t)
	u := harness.Sign(t, s, oss.AuthV4, time.Hour, "k")
	for name, get := range map[string]func(path string, opts ...ossdl.Option) (*ossdl.Result, error){
		"bucket": func(path string, opts ...ossdl.Option) (*ossdl.Result, error) {
			return d.Download(t.Context(), "bkt", "k", path, opts...)
		},
		"URL": func(path string, opts ...ossdl.Option) (*ossdl.Result, error) {
			return byURL.DownloadURL(t.Context(), u, path, opts...)
		},
	} {
		with, without := filepath.Join(dir, name+".with"), filepath.Join(dir, name+".without")
		if _, err := get(with, ossdl.WithObjectTime()); err != nil {
			t.Fatal(err)
		}
		wantFile(t, with, 0, modified)
		if _, err := get(without); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(without); err != nil || !fi.ModTime().After(modified.AddDate(1, 0, 0)) {
			t.Errorf("%s: without the option the file is of %v, %v", name, fi.ModTime(), err)
		}
	}
}

// cappedTimes is a file system that keeps no time after 2001, as old ones keep none after 2038.
type cappedTimes struct{ fsys.FS }

func (f cappedTimes) Chtimes(name string, mtime time.Time) error {
	if last := time.Date(2001, 12, 31, 0, 0, 0, 0, time.UTC); mtime.After(last) {
		mtime = last
	}
	return f.FS.Chtimes(name, mtime)
}

// TestMetadataIsNotFetchedAgain checks that a file whose time comes from metadata is skipped by later calls, even if the file system
// cannot keep that time, and is replaced once the object is another one.
func TestMetadataIsNotFetchedAgain(t *testing.T) {
	for name, disk := range map[string]ossdl.Option{
		"exact times":  harness.WithFolderFS(fsys.Rooted),
		"capped times": harness.WithFolderFS(func(r *fsys.Root) fsys.FS { return cappedTimes{fsys.Rooted(r)} }),
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewServer(t)
			old := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
			s.Put("bkt", "stored", osstest.Random(1, 1000), osstest.LastModified(old), osstest.Meta("mtime", storedSeconds))
			s.Put("bkt", "plain", osstest.Random(2, 1000), osstest.LastModified(old))
			d, dir := harness.NewDownloader(t, s, ossdl.WithMetadata(ossdl.MetadataTime)), t.TempDir()
			res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, disk)
			harness.CheckCounts(t, res, err, 2, 0, 0)
			for range 2 {
				s.ResetLog()
				res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, disk)
				harness.CheckCounts(t, res, err, 0, 2, 0)
				if lines := harness.Wire(s); len(lines) != 2 || !strings.HasPrefix(lines[1], "HEAD") {
					t.Errorf("asked for %q, want the listing and one HEAD", lines)
				}
			}
			changed := osstest.Random(3, 1000)
			s.Put("bkt", "stored", changed, osstest.Meta("mtime", "1648047446"))
			res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, disk)
			harness.CheckCounts(t, res, err, 1, 1, 0)
			harness.CheckFile(t, filepath.Join(dir, "stored"), changed)
		})
	}
}
