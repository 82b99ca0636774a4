package ossdl_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/fstest"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// onDisk describes everything below dir: names, sizes and times, also those of folders.
func onDisk(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := os.Lstat(path)
		if err == nil {
			all = append(all, fmt.Sprint(path, " ", fi.Mode(), " ", fi.Size(), " ", fi.ModTime().UnixNano()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// statuses are the names of what was reported, by status.
func statuses(all []ossdl.ObjectResult) map[ossdl.ObjectStatus][]string {
	by := map[ossdl.ObjectStatus][]string{}
	for _, r := range all {
		name := r.Name
		if name == "" {
			name = r.Key
		}
		by[r.Status] = append(by[r.Status], name)
	}
	for _, names := range by {
		slices.Sort(names)
	}
	return by
}

// reportedTo returns an option that collects what is reported.
func reportedTo(to *[]ossdl.ObjectResult) ossdl.Option {
	*to = nil
	return ossdl.WithObjectResult(func(r ossdl.ObjectResult) { *to = append(*to, r) })
}

// makeFiles makes files below dir, with their folders, and folders for names that end in a slash.
func makeFiles(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		path := filepath.Join(dir, filepath.FromSlash(name))
		folder := filepath.Dir(path)
		if strings.HasSuffix(name, "/") {
			folder = path
		}
		if err := os.MkdirAll(folder, 0o777); err != nil {
			t.Fatal(err)
		}
		if folder != path {
			harness.WriteFile(t, path, "mine")
		}
	}
}

// TestDryRun checks that a dry run changes nothing at all, and that the call does afterwards what it said.
func TestDryRun(t *testing.T) {
	s := harness.NewServer(t)
	sizes := map[string]int64{
		"new": 5, "sub/new": 6, "same": 7, "touched": 8, "longer": 9, "empty/": 0, "there/": 0, "file/x": 2, "folder": 3, "deep/er/new": 1, "a": 1, "a/b": 1,
	}
	harness.Put(s, sizes)
	d := harness.NewDownloader(t, s)
	dir := t.TempDir()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithInclude("same", "touched", "longer"))
	harness.CheckCounts(t, res, err, 3, 0, 0)
	makeFiles(t, dir, "there/", "folder/", "file", "sub/extra", "extra")
	if err := os.Chtimes(filepath.Join(dir, "touched"), time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(dir, "longer"), "longer than the object")

	before := onDisk(t, dir)
	s.ResetLog()
	var got []ossdl.ObjectResult
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithDryRun(), ossdl.WithDelete(100), reportedTo(&got))
	if res == nil || res.Done != 7 || res.Skipped != 2 || res.Failed != 3 || res.Bytes != 30 || res.Deleted != 0 || err == nil {
		t.Errorf("%+v, %v", res, err)
	}
	if after := onDisk(t, dir); !slices.Equal(after, before) {
		t.Errorf("the folder has changed:\n%s\nwas\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
	harness.SameLines(t, harness.Wire(s), "GET ") // the listing
	said := statuses(got)
	want := map[ossdl.ObjectStatus][]string{
		ossdl.ObjectWouldDownload: {"a", "deep/er/new", "empty/", "longer", "new", "sub/new", "touched"},
		ossdl.ObjectSkipped:       {"same", "there/"},
		ossdl.ObjectFailed:        {"a/b", "file/x", "folder"},
	}
	if !maps.EqualFunc(said, want, slices.Equal) {
		t.Errorf("reported %q, want %q", said, want)
	}
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, reportedTo(&got))
	if res == nil || res.Done != 7 || res.Skipped != 2 || res.Failed != 3 || res.Bytes != 30 {
		t.Errorf("%+v, %v", res, err)
	}
	did := statuses(got)
	did[ossdl.ObjectWouldDownload] = append(did[ossdl.ObjectDone], did[ossdl.ObjectFolder]...)
	slices.Sort(did[ossdl.ObjectWouldDownload])
	delete(did, ossdl.ObjectDone)
	delete(did, ossdl.ObjectFolder)
	if !maps.EqualFunc(did, said, slices.Equal) {
		t.Errorf("done was %q, and said %q", did, said)
	}
}

// TestDryRunWithoutFolder checks that a folder that is missing is not made, nor its parents.
func TestDryRunWithoutFolder(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a": 5, "b/c": 6, "d/": 0})
	d := harness.NewDownloader(t, s)
	top := t.TempDir()
	dir := filepath.Join(top, "not", "there")
	var got []ossdl.ObjectResult
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithDryRun(), ossdl.WithDelete(0), reportedTo(&got))
	harness.CheckCounts(t, res, err, 3, 0, 0)
	if said := statuses(got)[ossdl.ObjectWouldDownload]; !slices.Equal(said, []string{"a", "b/c", "d/"}) {
		t.Errorf("%q", said)
	}
	res, err = d.DownloadObjects(t.Context(), "bkt", harness.List(ossdl.Object{Key: "a"}, ossdl.Object{Key: "none"}), dir, ossdl.WithDryRun())
	harness.CheckCounts(t, res, err, 2, 0, 0) // that there is no such key would be found out later
	if left := onDisk(t, top); len(left) != 1 {
		t.Errorf("made: %q", left)
	}
	if _, err := d.DownloadPrefix(t.Context(), "bkt", "", filepath.Join(top, "file"), ossdl.WithDryRun()); err != nil {
		t.Error(err)
	}
	harness.WriteFile(t, filepath.Join(top, "file"), "mine")
	if res, err := d.DownloadPrefix(t.Context(), "bkt", "", filepath.Join(top, "file"), ossdl.WithDryRun()); err == nil || res != nil {
		t.Errorf("a file in place of the folder: %+v, %v", res, err)
	}
}

// TestDelete checks which files a mirror loses, and which it keeps.
func TestDelete(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"p/a": 5, "p/sub/b": 6, "p/keep/": 0, "p/Upper": 7, "p/left.out": 8})
	d := harness.NewDownloader(t, s)
	dir := t.TempDir()
	makeFiles(t, dir, "extra", "sub/extra", "gone/deep/x", "gone/y", "mixed/extra", "mixed/own.out", "keep/x", "was/empty/", "upper",
		"own.out", ".ossdl/x", "sub/.ossdl/y", ".ossdl-0123.cp/data", "target")
	outside := filepath.Join(t.TempDir(), "outside")
	makeFiles(t, outside, "precious")
	links := map[string]string{"link": "target", "dangling": "nowhere", "out": outside}
	for name, target := range links {
		if err := fstest.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	opts := []ossdl.Option{ossdl.WithExclude("*.out"), ossdl.WithDelete(8)}
	goes := []string{"extra", "gone/deep/x", "gone/y", "keep/x", "mixed/extra", "sub/extra", "target", "upper"}
	folds := harness.Exists(filepath.Join(dir, "UPPER"))
	if folds {
		goes = goes[:7] // it is the file of the key
	}
	before := onDisk(t, dir)
	var got []ossdl.ObjectResult
	res, err := d.DownloadPrefix(t.Context(), "bkt", "p/", dir, append(opts, ossdl.WithDryRun(), reportedTo(&got))...)
	if err != nil || res.Deleted != len(goes) {
		t.Errorf("%+v, %v", res, err)
	}
	if said := statuses(got)[ossdl.ObjectWouldDelete]; !slices.Equal(said, goes) {
		t.Errorf("would delete %q, want %q", said, goes)
	}
	if after := onDisk(t, dir); !slices.Equal(after, before) {
		t.Errorf("the dry run has changed the folder:\n%s\nwas\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}

	res, err = d.DownloadPrefix(t.Context(), "bkt", "p/", dir, append(opts, reportedTo(&got))...)
	if err != nil || res.Deleted != len(goes) {
		t.Errorf("%+v, %v", res, err)
	}
	if did := statuses(got)[ossdl.ObjectDeleted]; !slices.Equal(did, goes) {
		t.Errorf("deleted %q, want %q", did, goes)
	}
	for _, r := range got {
		if r.Status == ossdl.ObjectDeleted && (r.Key != "" || r.Size != 4 || r.Path != filepath.Join(dir, filepath.FromSlash(r.Name)) || r.LastModified.IsZero()) {
			t.Errorf("%+v", r)
		}
	}
	for _, name := range goes {
		if harness.Exists(filepath.Join(dir, name)) {
			t.Errorf("%s is still there", name)
		}
	}
	for _, name := range []string{"gone", "gone/deep"} {
		if harness.Exists(filepath.Join(dir, name)) {
			t.Errorf("the empty folder %s is still there", name)
		}
	}
	for _, name := range []string{"mixed/own.out", "own.out", "keep", "was/empty", "sub/.ossdl/y", ".ossdl/x", ".ossdl-0123.cp/data"} {
		if !harness.Exists(filepath.Join(dir, filepath.FromSlash(name))) {
			t.Errorf("%s is gone", name)
		}
	}
	for name := range links {
		if fi, err := os.Lstat(filepath.Join(dir, name)); err != nil || fi.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("the link %s is gone: %v", name, err)
		}
	}
	if !harness.Exists(filepath.Join(outside, "precious")) {
		t.Error("the target of a link is gone")
	}
	harness.CheckFile(t, filepath.Join(dir, "sub", "b"), all["p/sub/b"])

	res, err = d.DownloadPrefix(t.Context(), "bkt", "p/", dir, append(opts, ossdl.WithDelete(0))...)
	if err != nil || res.Deleted != 0 {
		t.Errorf("again: %+v, %v", res, err)
	}
}

// TestDeleteConcernsThePrefix checks that files stay whose names no key with the prefix could have.
func TestDeleteConcernsThePrefix(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"logs/2024/a": 5})
	dir := t.TempDir()
	makeFiles(t, dir, "2023/x", "2024/x", "2024.txt", "other")
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "logs/2024", dir, ossdl.WithDelete(10))
	if err != nil || res.Deleted != 2 || !harness.Exists(filepath.Join(dir, "2023", "x")) || !harness.Exists(filepath.Join(dir, "other")) {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestDeleteNothing checks that nothing is deleted if there is too much, if an object fails, if the listing ends early and
// if the call is cut off; and that the error says why.
func TestDeleteNothing(t *testing.T) {
	for name, c := range map[string]struct {
		most   int
		opts   []ossdl.Option
		old    []string // files of keys that are there already
		before func(*osstest.Server, context.CancelFunc)
		says   string
	}{
		"too much": {most: 2, says: "nothing is deleted: 3 files have no key, and at most 2 may be deleted"},
		"none may": {most: 0, says: "3 files have no key, and at most 0 may be deleted"},
		"too much, dry run": {most: 2, opts: []ossdl.Option{ossdl.WithDryRun()},
			says: "nothing is deleted: 3 files have no key, and at most 2 may be deleted"},
		// Its old file is in place: if it were missing, that alone would keep the others.
		"an object fails": {most: 9, says: "1 of 2 objects failed", old: []string{"a"}, before: func(s *osstest.Server, _ context.CancelFunc) {
			s.Archive("bkt", "a")
		}},
		"the listing fails": {most: 9, says: "AccessDenied", before: func(s *osstest.Server, _ context.CancelFunc) {
			n := 0
			s.OnList(func(*osstest.Request) *osstest.Fault {
				if n++; n == 1 {
					return osstest.Inject().Reply(200, "application/xml", "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>")
				}
				return osstest.Error(403, "AccessDenied")
			})
		}},
		"cut off": {most: 9, says: "context canceled", before: func(s *osstest.Server, cancel context.CancelFunc) {
			s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().Before(cancel).HoldHeaders(nil) })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewServer(t)
			harness.Put(s, map[string]int64{"a": 5, "b": 6})
			dir := t.TempDir()
			makeFiles(t, dir, append(c.old, "x", "y/z", "y/zz")...)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.before != nil {
				c.before(s, cancel)
			}
			var got []ossdl.ObjectResult
			res, err := harness.NewDownloader(t, s).DownloadPrefix(ctx, "bkt", "", dir, append(c.opts, ossdl.WithDelete(c.most), reportedTo(&got))...)
			if err == nil || !strings.Contains(err.Error(), c.says) || res == nil {
				t.Errorf("%+v, %v; want %q", res, err, c.says)
			}
			if name != "the listing fails" && res.Listing != nil {
				t.Errorf("the listing is said to have failed: %v", res.Listing)
			}
			if n := len(statuses(got)[ossdl.ObjectWouldDelete]); (n == 3) != (c.opts != nil) || len(statuses(got)[ossdl.ObjectDeleted]) > 0 {
				t.Errorf("reported %+v", got)
			}
			for _, name := range append(c.old, "x", "y/z", "y/zz") {
				if !harness.Exists(filepath.Join(dir, filepath.FromSlash(name))) {
					t.Errorf("%s is gone", name)
				}
			}
		})
	}
}

// TestDeleteFails checks that a file that cannot be deleted is an error that names it, and that the others go.
func TestDeleteFails(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a": 5})
	dir := t.TempDir()
	makeFiles(t, dir, "x", "y/stuck", "z")
	var log harness.Records
	d := harness.NewDownloader(t, s, ossdl.WithLogger(log.Logger()))
	broken := harness.WithFolderFS(func(r *fsys.Root) fsys.FS {
		return faultfs.New(fsys.Rooted(r), faultfs.Plan{Kind: faultfs.Remove, Name: "stuck"})
	})
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithDelete(10), broken)
	path := filepath.Join(dir, "y", "stuck")
	if res == nil || res.Deleted != 2 || res.Failed != 0 || res.Listing != nil || !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), path) ||
		!strings.Contains(err.Error(), "1 of 3 files") {
		t.Errorf("%+v, %v", res, err)
	}
	if !strings.Contains(log.String(), `level=ERROR msg="file not deleted" path=`+path) {
		t.Errorf("not logged:\n%s", log.String())
	}
	if !harness.Exists(path) || harness.Exists(filepath.Join(dir, "x")) || harness.Exists(filepath.Join(dir, "z")) {
		t.Error("not the others are gone")
	}
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithDelete(10))
	if err != nil || res.Deleted != 1 || harness.Exists(filepath.Dir(path)) {
		t.Errorf("the next call: %+v, %v", res, err)
	}
}

// List is fsys.FS.List.
func (f foldFS) List(dir string, most int) ([]string, error) { return f.FS.List(f.name(dir), most) }

// TestDeleteUnderOtherNames checks that the file of a key is not deleted if the file system lists it in another case, and that
// nothing is if it lists it under a name that cannot be recognized.
func TestDeleteUnderOtherNames(t *testing.T) {
	for _, c := range []struct {
		key     string
		more    *strings.Replacer
		deleted int
		says    string
	}{
		{"dir/README", nil, 2, ""},
		{"dir/КЛЮЧ", nil, 2, ""},
		{"dir/stra\u00dfe", strings.NewReplacer("\u00df", "ss"), 0, "under other names"},
	} {
		s := harness.NewServer(t)
		harness.Put(s, map[string]int64{c.key: 5, "other": 6})
		dir := t.TempDir()
		makeFiles(t, dir, "x", "dir/y")
		folding := harness.WithFolderFS(func(r *fsys.Root) fsys.FS { return foldFS{fsys.Rooted(r), c.more} })
		for range 2 { // it is downloaded, and then there
			res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithDelete(10), folding)
			if res == nil || res.Done+res.Skipped != 2 || res.Deleted != c.deleted || (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %+v, %v", c.key, res, err)
			}
			if c.says == "" {
				c.deleted = 0 // by now
			}
		}
		if !harness.Exists(filepath.Join(dir, foldFS{nil, c.more}.name(c.key))) {
			t.Errorf("the file of %s is gone", c.key)
		}
	}
}

// TestDeleteExcludesShards checks that a share of the keys is no mirror.
func TestDeleteExcludesShards(t *testing.T) {
	s := harness.NewServer(t)
	dir := filepath.Join(t.TempDir(), "new")
	d := harness.NewDownloader(t, s)
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithDelete(1), ossdl.WithShard(0, 2))
	if res != nil || err == nil || !strings.Contains(err.Error(), "WithDelete and WithShard") || harness.Exists(dir) {
		t.Errorf("%+v, %v", res, err)
	}
	if res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithDelete(1), ossdl.WithShard(0, 1)); err != nil {
		t.Errorf("one share of one: %+v, %v", res, err)
	}
}
