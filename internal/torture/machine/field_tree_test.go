package machine_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// The tests of this file are about folders that DownloadPrefix finds in the field: shared ones, several file systems below one
// folder, and file systems with odd times and names.

// onDisk makes a disk in memory the folder of DownloadPrefix.
func onDisk(disk fsys.FS) ossdl.Option {
	return harness.WithFolderFS(func(*fsys.Root) fsys.FS { return disk })
}

// objectRequests returns the requests for objects since the last call of ResetLog, sorted.
func objectRequests(s *osstest.Server) (lines []string) {
	for _, r := range s.Requests() {
		if r.Key != "" {
			lines = append(lines, r.Method+" "+r.Key)
		}
	}
	slices.Sort(lines)
	return lines
}

// mustHold fails the test unless the file on the disk has this content.
func mustHold(t *testing.T, disk fsys.FS, name string, want osstest.Content) {
	t.Helper()
	data, err := fsys.ReadFile(disk, name, 1<<20)
	if err != nil || string(data) != string(harness.Bytes(t, want)) {
		t.Errorf("%s has %d bytes, %v", name, len(data), err)
	}
}

// TestPrefixFolderBehindForeignLink checks that another user's link in a sticky folder is not followed, whether it is the
// destination folder itself or on the way to it, and that nothing is made behind it.
func TestPrefixFolderBehindForeignLink(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a link of another user")
	}
	const stranger = 12345
	harness.Tried.Add("cases from the field", 1)
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 10, "b/c": 20})
	top := t.TempDir()
	shared, target := filepath.Join(top, "shared"), filepath.Join(top, "target")
	if err := errors.Join(
		os.Mkdir(shared, 0o777), os.Chmod(shared, 0o777|fs.ModeSticky), os.Mkdir(target, 0o755), os.Mkdir(filepath.Join(target, "below"), 0o755),
		os.Symlink(target, filepath.Join(shared, "theirs")), os.Lchown(filepath.Join(shared, "theirs"), stranger, -1),
		os.Symlink("../shared/theirs", filepath.Join(target, "back")),
		os.Symlink(target, filepath.Join(shared, "ours")),
	); err != nil {
		t.Fatal(err)
	}
	d := harness.NewDownloader(t, s)
	for _, dir := range []string{"shared/theirs", "shared/theirs/", "shared/theirs/below", "shared/theirs/new/folder", "target/back", "shared/../shared/theirs/."} {
		s.ResetLog()
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", top+"/"+dir)
		if res != nil || !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "user 12345") || !strings.Contains(err.Error(), "theirs") {
			t.Errorf("%s: %+v, %v", dir, res, err)
		}
		if n := len(s.Requests()); n > 0 {
			t.Errorf("%s: %d requests", dir, n)
		}
	}
	for _, name := range []string{"new", "a", "b", harness.WorkDir, "below/a"} {
		if harness.Exists(filepath.Join(target, name)) {
			t.Errorf("%s was made behind the link", name)
		}
	}
	for _, dir := range []string{"shared/ours/mine", "shared/new/deep", "target/below/../x", "target/below/no/../y/"} {
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", top+"/"+dir)
		harness.CheckCounts(t, res, err, len(all), 0, 0)
	}
	for _, dir := range []string{"target/mine", "shared/new/deep", "target/x", "target/below/y"} {
		harness.CheckTree(t, filepath.Join(top, dir), all)
	}
}

// forgetfulFS is a file system on which times cannot be set.
type forgetfulFS struct {
	fsys.FS
	err error // what it says; nil: it keeps the time that the file had, and says nothing
}

func (f forgetfulFS) Chtimes(string, time.Time) error { return f.err }

// TestPrefixOddTimes checks that a second run fetches nothing again if the file system rounds times or does not keep them, and
// that it still fetches what changed, also to an object of the same size.
func TestPrefixOddTimes(t *testing.T) {
	s := harness.NewServer(t)
	sizes := map[string]int64{"a": 10, "b": 10, "sub/c": 3000, "sub/d": 10}
	fat := func() fsys.FS { return memfs.New(memfs.Config{TimeStep: 2 * time.Second}) }
	for name, c := range map[string]struct {
		disk   fsys.FS
		second []string // requests of a run that finds all files
		logged string
	}{
		"exact":   {memfs.New(memfs.Config{}), nil, ""},
		"fat":     {fat(), nil, "rounds times"},
		"refused": {forgetfulFS{memfs.New(memfs.Config{}), syscall.EPERM}, []string{"HEAD a", "HEAD b", "HEAD sub/c", "HEAD sub/d"}, "could not set"},
		"dropped": {forgetfulFS{memfs.New(memfs.Config{}), nil}, []string{"HEAD a", "HEAD b", "HEAD sub/c", "HEAD sub/d"}, "does not keep times"},
	} {
		harness.Tried.Add("cases from the field", 1)
		all := harness.Contents{}
		for i, key := range []string{"a", "b", "sub/c", "sub/d"} {
			all[key] = osstest.Random(uint64(i), sizes[key])
			s.Put("bkt", key, all[key], osstest.LastModified(time.Unix(1_600_000_001+int64(i)*1000, 0))) // an odd second
		}
		var log harness.Records
		d := harness.NewDownloader(t, s, ossdl.WithLogger(log.Logger()))
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), onDisk(c.disk))
		harness.CheckCounts(t, res, err, 4, 0, 0)
		s.ResetLog()
		res, err = d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), onDisk(c.disk))
		harness.CheckCounts(t, res, err, 0, 4, 0)
		if got := objectRequests(s); !slices.Equal(got, c.second) {
			t.Errorf("%s: the second run asked %q, want %q", name, got, c.second)
		}
		if !strings.Contains(log.String(), c.logged) || strings.Count(log.String(), "level=WARN") > 3 {
			t.Errorf("%s: logged\n%s", name, &log)
		}
		all["b"] = osstest.Random(100, 10)
		s.Put("bkt", "b", all["b"])
		res, err = d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), onDisk(c.disk))
		harness.CheckCounts(t, res, err, 1, 3, 0)
		for key, content := range all {
			mustHold(t, c.disk, key, content)
		}
		if _, err := c.disk.Lstat(harness.WorkDir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the working folder is left: %v", name, err)
		}
	}
}

// TestPrefixWithoutTimesAndChecksums checks that objects without a CRC-64 are compared by time where the file system rounds times,
// and that they never come again without a word where it keeps none. Objects with one are compared by that all the same.
func TestPrefixWithoutTimesAndChecksums(t *testing.T) {
	for name, c := range map[string]struct {
		disk  fsys.FS
		again int
	}{
		"exact":   {memfs.New(memfs.Config{}), 0},
		"fat":     {memfs.New(memfs.Config{TimeStep: 2 * time.Second}), 0},
		"refused": {forgetfulFS{memfs.New(memfs.Config{}), syscall.EPERM}, 2},
		"dropped": {forgetfulFS{memfs.New(memfs.Config{}), nil}, 2},
	} {
		harness.Tried.Add("cases from the field", 1)
		s := harness.NewServer(t)
		all := harness.Contents{}
		for i, key := range []string{"a", "b", "with"} {
			all[key] = osstest.Random(uint64(i), 10)
			opts := []osstest.ObjectOption{osstest.LastModified(time.Unix(1_600_000_001+int64(i)*1000, 0))} // an odd second
			if key != "with" {
				opts = append(opts, osstest.NoCRC())
			}
			s.Put("bkt", key, all[key], opts...)
		}
		var log harness.Records
		d := harness.NewDownloader(t, s, ossdl.WithLogger(log.Logger()))
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), onDisk(c.disk))
		harness.CheckCounts(t, res, err, 3, 0, 0)
		res, err = d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), onDisk(c.disk))
		harness.CheckCounts(t, res, err, c.again, 3-c.again, 0)
		if n := strings.Count(log.String(), "fetched again: the file system"); n != min(1, c.again) {
			t.Errorf("%s: said %d times\n%s", name, n, &log)
		}
		for key, content := range all {
			mustHold(t, c.disk, key, content)
		}
	}
}

// TestPrefixTimesFromAnotherZone checks that files on FAT, which keeps local time, are compared by checksum once the zone is
// another one, rather than fetched again.
func TestPrefixTimesFromAnotherZone(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a": 10, "b": 20})
	disk := memfs.New(memfs.Config{TimeStep: 2 * time.Second})
	d := harness.NewDownloader(t, s)
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), onDisk(disk))
	harness.CheckCounts(t, res, err, 2, 0, 0)
	for _, name := range []string{"a", "b"} {
		if err := disk.Chtimes(name, s.Stat("bkt", name).LastModified.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	s.ResetLog()
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), onDisk(disk))
	harness.CheckCounts(t, res, err, 0, 2, 0)
	if got := objectRequests(s); !slices.Equal(got, []string{"HEAD a", "HEAD b"}) {
		t.Errorf("asked %q", got)
	}
}

// spelledFS is a file system that is case-insensitive below a folder, "" for all of it, and gives each spelling of a name an
// inode of its own, as exfat-fuse and sshfs do.
type spelledFS struct {
	fsys.FS
	under string
}

// foldingFS is one that is case-insensitive and has one inode for all spellings, as vfat has.
type foldingFS struct{ spelledFS }

func (f foldingFS) Lstat(name string) (fs.FileInfo, error) { return f.FS.Lstat(f.name(name)) }
func (f foldingFS) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	return f.FS.OpenFile(f.name(name), flag, perm)
}
func (f foldingFS) Key(name string) (any, error) { return f.FS.Key(f.name(name)) }

func (f spelledFS) name(name string) string {
	name = filepath.Clean(name)
	if !strings.HasPrefix(name, f.under) {
		return name
	}
	return f.under + strings.ToLower(name[len(f.under):])
}

func (f spelledFS) Lstat(name string) (fs.FileInfo, error) {
	fi, err := f.FS.Lstat(f.name(name))
	if err != nil {
		return nil, err
	}
	return spelledInfo{fi, filepath.Clean(name)}, nil
}

func (f spelledFS) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	file, err := f.FS.OpenFile(f.name(name), flag, perm)
	if err != nil {
		return nil, err
	}
	return spelledFile{file, filepath.Clean(name)}, nil
}

func (f spelledFS) Mkdir(name string, perm fs.FileMode) error { return f.FS.Mkdir(f.name(name), perm) }
func (f spelledFS) List(dir string, most int) ([]string, error) {
	return f.FS.List(f.name(dir), most)
}
func (f spelledFS) Rename(from, to string) error            { return f.FS.Rename(f.name(from), f.name(to)) }
func (f spelledFS) Remove(name string) error                { return f.FS.Remove(f.name(name)) }
func (f spelledFS) SyncDir(name string) error               { return f.FS.SyncDir(f.name(name)) }
func (f spelledFS) Free(dir string) (int64, error)          { return f.FS.Free(f.name(dir)) }
func (f spelledFS) MountPoint(name string) (bool, error)    { return f.FS.MountPoint(f.name(name)) }
func (f spelledFS) Writable(dir string) error               { return f.FS.Writable(f.name(dir)) }
func (f spelledFS) Chtimes(name string, at time.Time) error { return f.FS.Chtimes(f.name(name), at) }
func (f spelledFS) Volume(dir string) (fsys.Volume, error) {
	return f.FS.Volume(f.name(dir))
}

func (f spelledFS) Resolve(name string) (string, error) { // there are no links
	lower := name // not cleaned: a dot at the end says that it is a folder
	if below, found := strings.CutPrefix(name, f.under); found {
		lower = f.under + strings.ToLower(below)
	}
	if _, err := f.FS.Resolve(lower); err != nil {
		return "", err
	}
	return filepath.Join("/", name), nil
}

func (f spelledFS) Key(name string) (any, error) { // by its spelling: no inode tells that two are one
	dir, base := filepath.Split(name)
	key, err := f.FS.Key(f.name(dir + "x"))
	return [2]any{key, base}, err
}

type spelledFile struct {
	fsys.File
	name string
}

func (f spelledFile) Stat() (fs.FileInfo, error) {
	fi, err := f.File.Stat()
	if err != nil {
		return nil, err
	}
	return spelledInfo{fi, f.name}, nil
}

type spelledInfo struct {
	fs.FileInfo
	name string
}

func (i spelledInfo) Sys() any                     { return i }
func (i spelledInfo) Links() uint64                { return fsys.Links(i.FileInfo) }
func (i spelledInfo) Allocated() int64             { return fsys.Allocated(i.FileInfo) }
func (i spelledInfo) Owner() (uid uint32, ok bool) { return fsys.Owner(i.FileInfo) }
func (i spelledInfo) Device() uint64               { return 1 }
func (i spelledInfo) Same(other any) bool {
	o, ok := other.(spelledInfo)
	return ok && o.name == i.name && fsys.SameFile(i.FileInfo, o.FileInfo)
}

// TestPrefixSpellingsWithInodesOfTheirOwn checks that of two keys that a file system takes for one, the second fails by name
// also if no inode says that they are one, and also if only a folder below is like that.
func TestPrefixSpellingsWithInodesOfTheirOwn(t *testing.T) {
	for _, under := range []string{"", "sub/"} {
		harness.Tried.Add("cases from the field", 1)
		s := harness.NewServer(t)
		all := harness.Put(s, map[string]int64{
			"sub/A.txt": 1, "sub/a.txt": 2, "sub/Dir/x": 3, "sub/dir/x": 4, "sub/dir/y": 5, "sub/dir/1": 6, "sub/Dir/1": 7, "sub/z": 8,
			"Other": 9, "other": 10,
		})
		for run := range 3 {
			disk := memfs.New(memfs.Config{})
			folder := onDisk(spelledFS{disk, under})
			d := harness.NewDownloader(t, s, ossdl.WithConcurrency(1+run*3))
			failed := 3
			if under == "" {
				failed = 4 // Other, too
			}
			for range 2 {
				res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), folder)
				if err == nil || res.Failed != failed || res.Done+res.Skipped != len(all)-failed {
					t.Fatalf("below %q: %+v, %v", under, res, err)
				}
				lost := map[string]bool{}
				for _, f := range res.Failures {
					lost[f.Key] = true
					// In use: the other key with this name was being downloaded.
					if !strings.Contains(f.Err.Error(), "another key") && !errors.Is(f.Err, ossdl.ErrInUse) {
						t.Errorf("below %q: %v", under, f)
					}
				}
				for key, content := range all {
					if !lost[key] {
						mustHold(t, spelledFS{disk, under}, key, content)
					}
				}
				for _, two := range [][2]string{{"sub/A.txt", "sub/a.txt"}, {"sub/Dir/x", "sub/dir/x"}, {"sub/Dir/1", "sub/dir/1"}} {
					if lost[two[0]] == lost[two[1]] {
						t.Errorf("below %q: of %q did not fail one: %v", under, two, lost)
					}
				}
			}
		}
	}
}

// TestListSpellings checks that of two items of a list that an empty folder takes for one, the second fails and the first keeps its
// file, whether or not the folder was there, and also if no inode says that they are one.
func TestListSpellings(t *testing.T) {
	s := harness.NewServer(t)
	c := harness.Put(s, map[string]int64{"1": 10, "2": 20, "3": 30, "4": 40, "5": 50})
	paths := map[string]string{"1": "/A.txt", "2": "/a.txt", "3": "/Dir/x", "4": "/dir/x", "5": "/z"}
	for _, concurrency := range []int{1, 8} {
		for name, over := range map[string]func(fsys.FS) fsys.FS{
			"spelled": func(f fsys.FS) fsys.FS { return spelledFS{f, "/"} },
			"folding": func(f fsys.FS) fsys.FS { return foldingFS{spelledFS{f, "/"}} },
			"exact":   func(f fsys.FS) fsys.FS { return f },
		} {
			disk := over(memfs.New(memfs.Config{}))
			failed := 2
			if name == "exact" {
				failed = 0
			}
			var items []ossdl.Item
			for _, key := range slices.Sorted(maps.Keys(paths)) {
				items = append(items, ossdl.Item{Source: "oss://bkt/" + key, Path: paths[key]})
			}
			d := harness.NewDownloader(t, s, harness.WithFS(disk), ossdl.WithMkdirAll(), ossdl.WithConcurrency(concurrency))
			res, err := d.DownloadAll(t.Context(), harness.Items(items...))
			harness.CheckCounts(t, res, err, len(paths)-failed, 0, failed)
			lost := map[string]bool{}
			for _, f := range res.Failures {
				lost[strings.TrimPrefix(f.Key, "oss://bkt/")] = true
				if !strings.Contains(f.Err.Error(), "earlier item") {
					t.Errorf("%s, %d at a time: %v", name, concurrency, f)
				}
			}
			if failed > 0 && (lost["1"] == lost["2"] || lost["3"] == lost["4"]) {
				t.Errorf("%s, %d at a time: failed are %v", name, concurrency, lost)
			}
			for key, path := range paths {
				if !lost[key] {
					mustHold(t, disk, path, c[key])
				}
			}
			harness.Tried.Add("cases from the field", 1)
		}
	}
}

// composingFS is a file system over that of the machine which takes two normal forms of one letter for the same.
type composingFS struct{ fsys.FS }

func (composingFS) name(name string) string { return strings.ReplaceAll(name, "e\u0301", "\u00e9") }

func (f composingFS) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	return f.FS.OpenFile(f.name(name), flag, perm)
}
func (f composingFS) Lstat(name string) (fs.FileInfo, error) { return f.FS.Lstat(f.name(name)) }
func (f composingFS) Mkdir(name string, perm fs.FileMode) error {
	return f.FS.Mkdir(f.name(name), perm)
}
func (f composingFS) List(dir string, most int) ([]string, error) {
	return f.FS.List(f.name(dir), most)
}
func (f composingFS) Rename(from, to string) error           { return f.FS.Rename(f.name(from), f.name(to)) }
func (f composingFS) Remove(name string) error               { return f.FS.Remove(f.name(name)) }
func (f composingFS) SyncDir(name string) error              { return f.FS.SyncDir(f.name(name)) }
func (f composingFS) Free(dir string) (int64, error)         { return f.FS.Free(f.name(dir)) }
func (f composingFS) Volume(dir string) (fsys.Volume, error) { return f.FS.Volume(f.name(dir)) }
func (f composingFS) MountPoint(name string) (bool, error)   { return f.FS.MountPoint(f.name(name)) }
func (f composingFS) Writable(dir string) error              { return f.FS.Writable(f.name(dir)) }
func (f composingFS) Chtimes(name string, mtime time.Time) error {
	return f.FS.Chtimes(f.name(name), mtime)
}

func (f composingFS) Key(name string) (any, error) { // by its spelling, as for a folder that is found by its name
	_, err := f.FS.Key(f.name(name))
	return filepath.Clean(name), err
}

// onceSaid is closed once something was logged.
type onceSaid struct {
	slog.Handler
	text string
	said chan struct{}
	once *sync.Once
}

func (h onceSaid) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	if strings.Contains(text, h.text) {
		h.once.Do(func() { close(h.said) })
	}
	return nil
}

func (h onceSaid) Enabled(context.Context, slog.Level) bool { return true }
func (h onceSaid) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h onceSaid) WithGroup(string) slog.Handler            { return h }

// TestListNormalForms checks that of two items that a file system takes for one, though they differ by more than case, the second fails
// and the first keeps its file, also if both are downloaded at once.
func TestListNormalForms(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the file system may have normal forms of its own")
	}
	for name, opts := range map[string][]ossdl.Option{
		"in use":           nil,
		"waiting":          {ossdl.WithWait(time.Hour)},
		"waiting, skipped": {ossdl.WithWait(time.Hour), ossdl.WithIfChanged()},
	} {
		t.Run(name, func(t *testing.T) {
			s := harness.NewServer(t)
			c := harness.Put(s, map[string]int64{"1": 10, "2": 20})
			if strings.Contains(name, "skipped") {
				c["2"] = c["1"]
				s.Put("bkt", "2", c["1"])
			}
			inUse := onceSaid{text: "in use", said: make(chan struct{}), once: &sync.Once{}}
			s.Once(func(r *osstest.Request) bool { return r.Method == http.MethodGet }, osstest.Inject().HoldHeaders(inUse.said))
			dir := t.TempDir()
			paths := map[string]string{"1": filepath.Join(dir, "caf\u00e9"), "2": filepath.Join(dir, "cafe\u0301")}
			d := harness.NewDownloader(t, s, harness.WithFS(composingFS{fsys.OS()}), ossdl.WithConcurrency(8), ossdl.WithLogger(slog.New(inUse)))
			res, err := d.DownloadAll(t.Context(), harness.Items(
				ossdl.Item{Source: "oss://bkt/1", Path: paths["1"]}, ossdl.Item{Source: "oss://bkt/2", Path: paths["2"]},
			), opts...)
			if err == nil || res.Failed != 1 || res.Done != 1 {
				t.Fatalf("%+v, %v; want one done and one failed", res, err)
			}
			lost := strings.TrimPrefix(res.Failures[0].Key, "oss://bkt/")
			if !strings.Contains(res.Failures[0].Err.Error(), "earlier item") || !errors.Is(err, ossdl.ErrDestination) {
				t.Errorf("%s: %v", lost, res.Failures[0].Err)
			}
			harness.CheckTree(t, dir, harness.Contents{"caf\u00e9": c[map[string]string{"1": "2", "2": "1"}[lost]]})
			harness.Tried.Add("cases from the field", 1)
		})
	}
}

// TestListInUse checks that an item whose file another call has is tried again after the others, and fails if that call still has it.
func TestListInUse(t *testing.T) {
	for _, ends := range []bool{true, false} {
		s := harness.NewServer(t)
		all := harness.Put(s, map[string]int64{"a": 10, "A": 15, "b": 20})
		disk := memfs.New(memfs.Config{})
		release, err := fsys.Claim(disk, "/a")
		if err != nil {
			t.Fatal(err)
		}
		releaseTwin, err := fsys.Claim(disk, "/A")
		if err != nil {
			t.Fatal(err)
		}
		inUse := onceSaid{text: "in use", said: make(chan struct{}), once: &sync.Once{}}
		open := make(chan struct{})
		go func() {
			<-inUse.said
			if ends {
				release()
				releaseTwin()
			}
			close(open)
		}()
		s.OnRequest(func(r *osstest.Request) *osstest.Fault {
			if r.Key == "b" {
				return osstest.Inject().HoldHeaders(open)
			}
			return nil
		})
		d := harness.NewDownloader(t, s, harness.WithFS(disk), ossdl.WithLogger(slog.New(inUse)))
		res, err := d.DownloadAll(t.Context(), harness.Items(
			ossdl.Item{Source: "oss://bkt/a", Path: "/a"}, ossdl.Item{Source: "oss://bkt/A", Path: "/A"}, ossdl.Item{Source: "oss://bkt/b", Path: "/b"},
		))
		mustHold(t, disk, "/b", all["b"])
		if ends {
			harness.CheckCounts(t, res, err, 3, 0, 0)
			mustHold(t, disk, "/a", all["a"])
			mustHold(t, disk, "/A", all["A"])
			continue
		}
		harness.CheckCounts(t, res, err, 1, 0, 2)
		if !errors.Is(err, ossdl.ErrInUse) {
			t.Error(err)
		}
		release()
		releaseTwin()
	}
}

// TestListTwinsTakeNoRoom checks that items whose paths differ only by case are downloaded one after the other, and that those whose
// turn has not come keep no others waiting.
func TestListTwinsTakeNoRoom(t *testing.T) {
	s := harness.NewServer(t)
	sizes := map[string]int64{"other": 10}
	var names []string
	var items []ossdl.Item
	for i := range 16 {
		name := []byte("abcd")
		for bit := range name {
			if i>>bit&1 == 1 {
				name[bit] -= 'a' - 'A'
			}
		}
		sizes[string(name)] = int64(i + 1)
		names = append(names, string(name))
		items = append(items, ossdl.Item{Source: "oss://bkt/" + string(name), Path: "/" + string(name)})
	}
	all := harness.Put(s, sizes)
	items = append(items, ossdl.Item{Source: "oss://bkt/other", Path: "/other"})
	other := make(chan struct{})
	asksForOther := sync.OnceFunc(func() { close(other) })
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Key == "other" {
			asksForOther()
			return nil
		}
		return osstest.Inject().HoldHeaders(other)
	})
	disk := memfs.New(memfs.Config{})
	res, err := harness.NewDownloader(t, s, harness.WithFS(disk), ossdl.WithConcurrency(4)).DownloadAll(t.Context(), harness.Items(items...))
	harness.CheckCounts(t, res, err, len(all), 0, 0)
	var asked []string
	for _, r := range s.Requests() {
		if r.Key != "other" {
			asked = append(asked, r.Key)
		}
	}
	if asked = slices.Compact(asked); !slices.Equal(asked, names) { // a busy machine may ask again
		t.Errorf("asked for %q, want %q", asked, names)
	}
	for key, c := range all {
		mustHold(t, disk, "/"+key, c)
	}
}

// cancelingFS ends a context once a file has its name.
type cancelingFS struct {
	fsys.FS
	name   string
	cancel func()
}

func (f cancelingFS) Rename(from, to string) error {
	err := f.FS.Rename(from, to)
	if strings.EqualFold(filepath.Base(to), f.name) {
		f.cancel()
	}
	return err
}

// TestListTwinsEnd checks that an item whose turn has not come when the call is canceled is like any other that was not begun, and no
// failure.
func TestListTwinsEnd(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"1": 10, "2": 20})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	disk := foldingFS{spelledFS{memfs.New(memfs.Config{}), "/"}}
	d := harness.NewDownloader(t, s, harness.WithFS(cancelingFS{disk, "a.txt", cancel}))
	res, err := d.DownloadAll(ctx, harness.Items(ossdl.Item{Source: "oss://bkt/1", Path: "/A.txt"}, ossdl.Item{Source: "oss://bkt/2", Path: "/a.txt"}))
	if !errors.Is(err, context.Canceled) || res == nil || res.Done != 1 || res.Failed != 0 {
		t.Errorf("%+v, %v; want one done, and the other not begun", res, err)
	}
}

// TestPrefixSpellingsThatAreTwo checks that two keys that differ only by case are two files where the file system says so, even
// if the user has linked them to one.
func TestPrefixSpellingsThatAreTwo(t *testing.T) {
	harness.Tried.Add("cases from the field", 1)
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"A": 1, "a": 2, "sub/B": 3, "sub/b": 4, "sub/C/x": 5, "sub/c/x": 6, "sub/1": 7})
	disk := memfs.New(memfs.Config{})
	d := harness.NewDownloader(t, s)
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), onDisk(disk))
	harness.CheckCounts(t, res, err, len(all), 0, 0)
	if err := errors.Join(disk.Remove("sub/b"), disk.Link("sub/B", "sub/b")); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		res, err = d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), onDisk(disk))
		harness.CheckCounts(t, res, err, 1-i, len(all)-1+i, 0)
		for key, content := range all {
			mustHold(t, disk, key, content)
		}
	}
}

// TestLongNames checks that all names that the file system has can be downloaded to, and that a longer one is refused before
// any request, with the limit.
func TestLongNames(t *testing.T) {
	harness.Tried.Add("cases from the field", 1)
	s := harness.NewServer(t)
	c := osstest.Random(1, 3*harness.PartSize)
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize))
	names := []string{strings.Repeat("网", 85)}
	for n := 240; n <= 255; n++ {
		names = append(names, strings.Repeat("n", n))
	}
	long := []string{strings.Repeat("n", 256), strings.Repeat("网", 86), "sub/" + strings.Repeat("n", 256), strings.Repeat("d", 256) + "/x"}
	s.Put("bkt", "key", c)
	for _, name := range append(names, long...) {
		s.Put("bkt", "p/"+name, c)
	}
	dir := t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if _, err := d.Download(t.Context(), "bkt", "key", path); err != nil {
			t.Fatalf("%d bytes: %v", len(name), err)
		}
		harness.CheckFile(t, path, c)
	}
	s.ResetLog()
	for _, name := range []string{strings.Repeat("n", 256), strings.Repeat("网", 86), strings.Repeat("n", 1000)} {
		if _, err := d.Download(t.Context(), "bkt", "key", filepath.Join(dir, name)); !errors.Is(err, syscall.ENAMETOOLONG) || !strings.Contains(err.Error(), "allows 255") {
			t.Errorf("%d bytes: %v", len(name), err)
		}
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests for names that are too long", n)
	}
	res, err := d.DownloadPrefix(t.Context(), "bkt", "p/", t.TempDir())
	harness.CheckCounts(t, res, err, len(names), 0, len(long))
	for _, f := range res.Failures {
		if !errors.Is(f.Err, syscall.ENAMETOOLONG) || !strings.Contains(f.Err.Error(), "allows 255") {
			t.Errorf("%s: %v", f.Key, f.Err)
		}
	}
	for _, line := range objectRequests(s) {
		if slices.Contains(long, strings.TrimPrefix(line, "GET p/")) {
			t.Errorf("%.20s… was asked for", line)
		}
	}
}

// TestLongNamesOnShortNamedDisks checks the same with the limit of eCryptfs, which allows 143 bytes, and may find out only when
// a name is made.
func TestLongNamesOnShortNamedDisks(t *testing.T) {
	harness.Tried.Add("cases from the field", 1)
	s := harness.NewServer(t)
	c := osstest.Random(1, 3*harness.PartSize)
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize))
	s.Put("bkt", "key", c)
	disk := memfs.New(memfs.Config{MaxName: 143})
	if err := disk.Mkdir("/dir", 0o755); err != nil {
		t.Fatal(err)
	}
	for n := 130; n <= 143; n++ {
		path := filepath.Join("/dir", strings.Repeat("n", n))
		if _, err := d.Download(t.Context(), "bkt", "key", path, harness.WithFS(disk)); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		mustHold(t, disk, path, c)
	}
	s.ResetLog()
	if _, err := d.Download(t.Context(), "bkt", "key", "/dir/"+strings.Repeat("n", 144), harness.WithFS(disk)); !errors.Is(err, syscall.ENAMETOOLONG) || !strings.Contains(err.Error(), "allows 143") {
		t.Error(err)
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests for a name that is too long", n)
	}
	s.Put("bkt", "p/"+strings.Repeat("n", 143), c)
	s.Put("bkt", "p/"+strings.Repeat("n", 144), c)
	s.Put("bkt", "p/"+strings.Repeat("d", 144)+"/x", c)
	s.ResetLog()
	res, err := d.DownloadPrefix(t.Context(), "bkt", "p/", t.TempDir(), onDisk(disk))
	harness.CheckCounts(t, res, err, 1, 0, 2)
	for _, f := range res.Failures {
		if !errors.Is(f.Err, syscall.ENAMETOOLONG) || !strings.Contains(f.Err.Error(), "allows 143") {
			t.Errorf("%s: %v", f.Key, f.Err)
		}
	}
	for _, line := range objectRequests(s) {
		if line != "GET p/"+strings.Repeat("n", 143) {
			t.Errorf("%.20s… was asked for", line)
		}
	}
}

// TestPrefixOverTwoMounts checks that the working files of what is on another mount are there, where they can be renamed from,
// that an interrupted object continues from them, and that nothing of them is left.
func TestPrefixOverTwoMounts(t *testing.T) {
	harness.Tried.Add("cases from the field", 1)
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 10, "sub/b": 20, "sub/deep/c": 5 * harness.PartSize, "plain/d": 30})
	s.Put("bkt", "sub/.ossdl/x", osstest.Random(1, 10))
	s.Put("bkt", "sub/.OSSDL", osstest.Random(1, 10))
	s.Put("bkt", "plain/.ossdl/x", osstest.Random(2, 10))
	all["plain/.ossdl/x"] = osstest.Random(2, 10)
	disk := memfs.New(memfs.Config{})
	if err := errors.Join(disk.Mkdir("sub", 0o755), disk.Mount("/sub")); err != nil {
		t.Fatal(err)
	}
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}))
	third := 0
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Key == "sub/deep/c" {
			if third++; third > 2 {
				return osstest.Inject().Error(500, "InternalError")
			}
		}
		return nil
	})
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), onDisk(disk))
	harness.CheckCounts(t, res, err, len(all)-1, 0, 3)
	for _, f := range res.Failures {
		if f.Key != "sub/deep/c" && !strings.Contains(f.Err.Error(), "reserved") {
			t.Error(f)
		}
	}
	left := slices.DeleteFunc(disk.Names(), func(name string) bool { return !strings.Contains(name, harness.WorkDir+"/") })
	if !slices.Contains(left, "/sub/.ossdl/") || slices.Contains(left, "/.ossdl/") || slices.Contains(left, "/sub/deep/.ossdl/") {
		t.Fatalf("left %q", left)
	}
	s.ClearFaults()
	s.ResetLog()
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), onDisk(disk))
	harness.CheckCounts(t, res, err, 1, len(all)-1, 2)
	if got := objectRequests(s); len(got) != 3 {
		t.Errorf("%q: not resumed", got)
	}
	for key, content := range all {
		mustHold(t, disk, key, content)
	}
	left = slices.DeleteFunc(disk.Names(), func(name string) bool {
		return !strings.Contains(name, harness.WorkDir) || strings.HasPrefix(name, "/plain/.ossdl/")
	})
	if len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// TestPrefixWorkingFilesOfAnotherUserBelow checks that working files are not put into a folder of another user on another
// mount either.
func TestPrefixWorkingFilesOfAnotherUserBelow(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a": 10, "sub/b": 20})
	disk := memfs.New(memfs.Config{})
	disk.SetUser(1000)
	if err := errors.Join(disk.Mkdir("sub", 0o755), disk.Mkdir("sub/.ossdl", 0o777), disk.Chown("sub/.ossdl", 4242), disk.Mount("/sub")); err != nil {
		t.Fatal(err)
	}
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), onDisk(disk))
	harness.CheckCounts(t, res, err, 1, 0, 1)
	if why := err.Error(); !strings.Contains(why, "sub/.ossdl is in the way") || !strings.Contains(why, "user 4242") {
		t.Error(why)
	}
	if got := objectRequests(s); !slices.Equal(got, []string{"GET a"}) {
		t.Errorf("asked %q", got)
	}
}
