package ossdl_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys/fstest"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// manifestLine is a line of a manifest, as another program would read it.
type manifestLine struct {
	Name, Key, ETag, Version, CRC64, SHA256 string
	Size                                    int64
	LastModified                            time.Time
}

// readManifest returns the lines of a manifest by name. Each name must be there once.
func readManifest(t *testing.T, path string) map[string]manifestLine {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]manifestLine{}
	for line := range strings.Lines(string(text)) {
		var l manifestLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if _, twice := lines[l.Name]; twice {
			t.Errorf("two lines for %q", l.Name)
		}
		lines[l.Name] = l
	}
	return lines
}

// checkManifest fails the test unless a manifest has exactly these files, and the folders.
func checkManifest(t *testing.T, path string, s *osstest.Server, withSHA256 bool, files harness.Contents, folders ...string) {
	t.Helper()
	lines := readManifest(t, path)
	if len(lines) != len(files)+len(folders) {
		t.Errorf("%d lines, want %d: %v", len(lines), len(files)+len(folders), slices.Sorted(maps.Keys(lines)))
	}
	for name, c := range files {
		o, l := s.Stat("bkt", name), lines[name]
		want := manifestLine{Name: name, Key: name, ETag: o.ETag, CRC64: strconv.FormatUint(c.CRC64(), 10), Size: c.Size(), LastModified: o.LastModified.UTC()}
		if withSHA256 {
			sum := sha256.Sum256(harness.Bytes(t, c))
			want.SHA256 = hex.EncodeToString(sum[:])
		}
		if l.LastModified = l.LastModified.UTC(); l != want {
			t.Errorf("%q: %+v, want %+v", name, l, want)
		}
	}
	for _, name := range folders {
		if l := lines[name]; l.Name != name || l.Size != 0 || l.CRC64 != "0" || l.SHA256 != "" {
			t.Errorf("folder %q: %+v", name, l)
		}
	}
	for _, left := range []string{path + ".ossdl-tmp", path + ".ossdl-lock"} {
		if harness.Exists(left) {
			t.Errorf("%s was left behind", left)
		}
	}
}

// stateOf describes everything below a folder, times and modes included.
func stateOf(t *testing.T, dir string) (state []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err == nil {
			state = append(state, fmt.Sprint(path, fi.Mode(), fi.Size(), fi.ModTime().UnixNano()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// oddKeys are objects of all kinds, one of them with a name that would be two lines.
func oddKeys(s *osstest.Server) harness.Contents {
	sizes := map[string]int64{"a": 1, "b/empty": 0, "b/deep/er": 100_000, "b/large": 5<<20 + 7, "ключ": 3}
	if runtime.GOOS == "windows" {
		sizes["c & d"] = 70_000
	} else {
		sizes["c & <d>"] = 70_000 // which JSON may write otherwise
	}
	if runtime.GOOS != "windows" {
		sizes["two\nlines\"\\\u2028\x7f"] = 4
	}
	return harness.Put(s, sizes)
}

// TestManifestHasWhatIsInPlace checks that a manifest has a line for each object that was downloaded or was there, with and without
// SHA-256, and that VerifyManifest agrees without the service.
func TestManifestHasWhatIsInPlace(t *testing.T) {
	for _, withSHA256 := range []bool{false, true} {
		s := harness.NewServer(t)
		all := oddKeys(s)
		harness.Put(s, map[string]int64{"dir/": 0})
		d := harness.NewDownloader(t, s, ossdl.WithPartSize(30_000)) // so that the bytes of one come in no order
		dir, manifest := filepath.Join(t.TempDir(), "tree"), filepath.Join(t.TempDir(), "m.jsonl")
		opts := []ossdl.Option{ossdl.WithManifest(manifest)}
		if withSHA256 {
			opts = append(opts, ossdl.WithManifestSHA256())
		}
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, opts...)
		harness.CheckCounts(t, res, err, len(all)+1, 0, 0)
		checkManifest(t, manifest, s, withSHA256, all, "dir/")

		// The same, if everything is there.
		s.ResetLog()
		res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, opts...)
		harness.CheckCounts(t, res, err, 0, len(all)+1, 0)
		checkManifest(t, manifest, s, withSHA256, all, "dir/")
		if n := len(s.Requests()); n != 1 {
			t.Errorf("%d requests, want a listing alone", n)
		}
		res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, append(opts, ossdl.WithCompareCRC64())...)
		harness.CheckCounts(t, res, err, 0, len(all)+1, 0)
		checkManifest(t, manifest, s, withSHA256, all, "dir/")

		alone, err := ossdl.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		before := stateOf(t, dir)
		found, err := alone.VerifyManifest(t.Context(), manifest, dir)
		if err != nil || found.Same != len(all)+1 || found.Unverified+found.Requests != 0 || found.Bytes != totalSize(all) {
			t.Errorf("%+v, %v", found, err)
		}
		if after := stateOf(t, dir); !slices.Equal(before, after) {
			t.Errorf("before\n%q\nafter\n%q", before, after)
		}
	}
}

func totalSize(all harness.Contents) (n int64) {
	for _, c := range all {
		n += c.Size()
	}
	return n
}

// TestManifestOfAList checks the manifest of DownloadObjects: other names, and a file that does not have the CRC-64 of the list
// although size and time are right.
func TestManifestOfAList(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 1000, "b": 2000})
	d := harness.NewDownloader(t, s)
	dir, manifest := t.TempDir(), filepath.Join(t.TempDir(), "m")
	a := s.Stat("bkt", "a")
	list := harness.List(
		ossdl.Object{Key: "a", Size: 1000, CRC64: all["a"].CRC64(), LastModified: a.LastModified}, ossdl.Object{Key: "b", Name: "sub/c"},
	)
	for range 2 {
		if _, err := d.DownloadObjects(t.Context(), "bkt", list, dir, ossdl.WithManifest(manifest)); err != nil {
			t.Fatal(err)
		}
		lines := readManifest(t, manifest)
		if l := lines["sub/c"]; len(lines) != 2 || l.Key != "b" || l.CRC64 != strconv.FormatUint(all["b"].CRC64(), 10) {
			t.Errorf("%+v", lines)
		}
		path := filepath.Join(dir, "a")
		flip(t, path, 500)
		if err := os.Chtimes(path, time.Time{}, a.LastModified); err != nil {
			t.Fatal(err)
		}
	}
	res, err := d.DownloadObjects(t.Context(), "bkt", list, dir, ossdl.WithManifest(manifest))
	harness.CheckCounts(t, res, err, 1, 1, 0)
	harness.CheckFile(t, filepath.Join(dir, "a"), all["a"])
	if _, err := d.VerifyManifest(t.Context(), manifest, dir); err != nil {
		t.Error(err)
	}
}

// flip changes a byte of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestManifestOfACallThatFails checks that the manifest has what is in place if objects fail or the call is cancelled, and that a
// call that gets nowhere leaves the old one.
func TestManifestOfACallThatFails(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 1000, "b": 2000, "c": 3000})
	s.Archive("bkt", "b")
	d := harness.NewDownloader(t, s)
	dir, manifest := t.TempDir(), filepath.Join(t.TempDir(), "m")
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithManifest(manifest))
	if !errors.Is(err, ossdl.ErrArchived) || res.Done != 2 {
		t.Errorf("%+v, %v", res, err)
	}
	checkManifest(t, manifest, s, false, harness.Contents{"a": all["a"], "c": all["c"]})

	// Nothing is settled: the listing is refused, or there is no bucket.
	before, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	s.OnList(func(*osstest.Request) *osstest.Fault { return osstest.Error(403, "AccessDenied") })
	for _, bucket := range []string{"bkt", "none"} {
		if _, err := d.DownloadPrefix(t.Context(), bucket, "", dir, ossdl.WithManifest(manifest)); err == nil {
			t.Error("no error")
		}
	}
	s.ClearFaults()
	if now, err := os.ReadFile(manifest); err != nil || string(now) != string(before) {
		t.Errorf("%q, %v, want %q", now, err, before)
	}

	// Cancelled when two are there and the third is on its way.
	s.Put("bkt", "b", osstest.Random(9, 2000))
	ctx, cancel := context.WithCancel(t.Context())
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Key != "b" {
			return nil
		}
		return osstest.Inject().StallAfter(100).Maybe()
	})
	left := 2
	_, err = d.DownloadPrefix(ctx, "bkt", "", dir, ossdl.WithManifest(manifest), ossdl.WithObjectResult(func(ossdl.ObjectResult) {
		if left--; left == 0 {
			cancel()
		}
	}))
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.ClearFaults()
	checkManifest(t, manifest, s, false, harness.Contents{"a": all["a"], "c": all["c"]})
}

// TestManifestPlaces checks where a manifest is refused, before any request: in the folder, over what is no manifest, and without
// a folder.
func TestManifestPlaces(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"sub/a": 1000})
	d := harness.NewDownloader(t, s)
	outside, dir := t.TempDir(), t.TempDir()
	sub, other, folder, linked := filepath.Join(dir, "sub"), filepath.Join(outside, "other"), filepath.Join(outside, "folder"), filepath.Join(outside, "linked")
	for _, name := range []string{sub, folder} {
		if err := os.Mkdir(name, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	harness.WriteFile(t, other, "a file of the user's")
	refused := map[string]string{
		filepath.Join(dir, "m"):                "is in the folder",
		filepath.Join(sub, "m"):                "is in the folder",
		filepath.Join(dir, ".ossdl", "m"):      "is in the folder",
		filepath.Join(outside, "no", "folder"): "",
		other:                                  "not a manifest",
		folder:                                 "not a regular file",
	}
	if err := fstest.Symlink(sub, linked); err == nil {
		refused[filepath.Join(linked, "m")] = "is in the folder"
	}
	for path, want := range refused {
		s.ResetLog()
		_, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithManifest(path))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
		if n := len(s.Requests()); n > 0 {
			t.Errorf("%s: %d requests", path, n)
		}
	}
	if text, err := os.ReadFile(other); err != nil || string(text) != "a file of the user's" {
		t.Errorf("%q, %v", text, err)
	}
	harness.CheckTree(t, dir, nil)
	if _, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithDryRun(), ossdl.WithManifest(filepath.Join(outside, "m"))); err == nil || !strings.Contains(err.Error(), "exclude each other") {
		t.Error(err)
	}
	// Two calls with one manifest.
	manifest := filepath.Join(outside, "m")
	_, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithManifest(manifest), ossdl.WithObjectResult(func(ossdl.ObjectResult) {
		if _, err := d.DownloadPrefix(t.Context(), "bkt", "", t.TempDir(), ossdl.WithManifest(manifest)); !errors.Is(err, ossdl.ErrInUse) {
			t.Errorf("the second call: %v", err)
		}
	}))
	if err != nil {
		t.Error(err)
	}
}

// damage is what happens to a tree of files, and what is to be found then.
type damage struct {
	name  string
	do    func(t *testing.T, dir string)
	kind  ossdl.DifferenceKind
	file  string
	why   string // part of the reason
	reads bool   // the file must be read to see it
}

func damages() []damage {
	at := filepath.Join
	all := []damage{
		{"a flipped byte", func(t *testing.T, dir string) { flip(t, at(dir, "b", "deep", "er"), 99_999) }, ossdl.DifferenceContent, "b/deep/er", "CRC-64 is", true},
		{"a flipped byte in a large one", func(t *testing.T, dir string) { flip(t, at(dir, "b", "large"), 3<<20) }, ossdl.DifferenceContent, "b/large", "CRC-64 is", true},
		{"a truncated file", func(t *testing.T, dir string) { harness.Truncate(t, at(dir, "b", "deep", "er"), 99_999) }, ossdl.DifferenceContent, "b/deep/er", "size is 99999, want 100000", false},
		{"a longer file", func(t *testing.T, dir string) { harness.Truncate(t, at(dir, "b", "empty"), 1) }, ossdl.DifferenceContent, "b/empty", "size is 1, want 0", false},
		{"a missing file", func(t *testing.T, dir string) { remove(t, at(dir, "a")) }, ossdl.DifferenceMissing, "a", "", false},
		{"a missing folder", func(t *testing.T, dir string) { remove(t, at(dir, "dir")) }, ossdl.DifferenceMissing, "dir/", "", false},
		{"an extra file", func(t *testing.T, dir string) { harness.WriteFile(t, at(dir, "b", "zz"), "x") }, ossdl.DifferenceExtra, "b/zz", "", false},
		{"an extra file in a folder of its own", func(t *testing.T, dir string) {
			if err := os.MkdirAll(at(dir, "x", "y"), 0o777); err != nil {
				t.Fatal(err)
			}
			harness.WriteFile(t, at(dir, "x", "y", "z"), "x")
		}, ossdl.DifferenceExtra, "x/y/z", "", false},
		{"a folder instead of a file", func(t *testing.T, dir string) {
			remove(t, at(dir, "a"))
			if err := os.Mkdir(at(dir, "a"), 0o777); err != nil {
				t.Fatal(err)
			}
		}, ossdl.DifferenceContent, "a", "it is a folder", false},
		{"a file instead of a folder", func(t *testing.T, dir string) {
			remove(t, at(dir, "dir"))
			harness.WriteFile(t, at(dir, "dir"), "")
		}, ossdl.DifferenceContent, "dir/", "not a folder", false},
	}
	if runtime.GOOS == "windows" {
		return all
	}
	link := func(t *testing.T, target, name string) {
		if err := fstest.Symlink(target, name); err != nil {
			t.Skip(err)
		}
	}
	return append(all,
		damage{"a link to the right content", func(t *testing.T, dir string) {
			if err := os.Rename(at(dir, "a"), at(filepath.Dir(dir), "a-elsewhere")); err != nil {
				t.Fatal(err)
			}
			link(t, at(filepath.Dir(dir), "a-elsewhere"), at(dir, "a"))
		}, ossdl.DifferenceContent, "a", "symbolic link", false},
		damage{"a link to the right folder", func(t *testing.T, dir string) {
			elsewhere := at(filepath.Dir(dir), "deep-elsewhere")
			if err := os.Rename(at(dir, "b", "deep"), elsewhere); err != nil {
				t.Fatal(err)
			}
			link(t, elsewhere, at(dir, "b", "deep"))
		}, ossdl.DifferenceContent, "b/deep/er", "b/deep: it is a symbolic link", false},
		damage{"an extra link", func(t *testing.T, dir string) { link(t, at(dir, "a"), at(dir, "z")) }, ossdl.DifferenceExtra, "z", "", false},
	)
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyFindsEachDamage checks that VerifyPrefix and VerifyManifest find every kind of difference and nothing else, report it
// alike, and change nothing.
func TestVerifyFindsEachDamage(t *testing.T) {
	s := harness.NewServer(t)
	all := oddKeys(s)
	harness.Put(s, map[string]int64{"dir/": 0})
	d := harness.NewDownloader(t, s)
	for _, c := range append(damages(), damage{name: "none", do: func(*testing.T, string) {}}) {
		t.Run(c.name, func(t *testing.T) {
			base := t.TempDir()
			dir, manifest := filepath.Join(base, "tree"), filepath.Join(base, "m")
			if _, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithManifest(manifest), ossdl.WithManifestSHA256()); err != nil {
				t.Fatal(err)
			}
			c.do(t, dir)
			before := stateOf(t, base)
			var reported []ossdl.Difference
			report := ossdl.WithDifference(func(d ossdl.Difference) { reported = append(reported, d) })
			check := func(res *ossdl.VerifyResult, err error) {
				t.Helper()
				defer func() { reported = nil }()
				if !slices.Equal(reported, res.Differences) || res.Failed+res.Unverified != 0 {
					t.Errorf("%+v, reported %+v", res, reported)
				}
				if c.kind == "" {
					if err != nil || len(reported) > 0 || res.Same != len(all)+1 || res.Bytes != totalSize(all) {
						t.Errorf("%+v, %v", res, err)
					}
					return
				}
				if !errors.Is(err, ossdl.ErrDifferent) || res.Missing+res.Differing+res.Extra != 1 || len(reported) != 1 {
					t.Fatalf("%+v, %v", res, err)
				}
				key := c.file
				if c.kind == ossdl.DifferenceExtra {
					key = ""
				}
				got := reported[0]
				if got.Kind != c.kind || got.Name != c.file || got.Key != key || !strings.Contains(got.Reason, c.why) ||
					(got.Reason == "") != (c.why == "") || got.Path != filepath.Join(dir, filepath.FromSlash(c.file)) {
					t.Errorf("%+v", got)
				}
			}
			s.ResetLog()
			check(d.VerifyPrefix(t.Context(), "bkt", "", dir, report))
			for _, r := range s.Requests() {
				if r.Key != "" && r.Method != "HEAD" {
					t.Errorf("%s %s: an object was fetched", r.Method, r.Key)
				}
				if r.Key == c.file && c.file != "" && !c.reads {
					t.Errorf("%s %s: what is on the disk says enough", r.Method, r.Key)
				}
			}
			s.ResetLog()
			check(d.VerifyManifest(t.Context(), manifest, dir, report))
			if n := len(s.Requests()); n > 0 {
				t.Errorf("%d requests with a manifest", n)
			}
			if after := stateOf(t, base); !slices.Equal(before, after) {
				t.Errorf("before\n%q\nafter\n%q", before, after)
			}
		})
	}
}

// TestVerifyBySHA256 checks that a manifest's SHA-256 is compared, too: the CRC-64 of two files may be the same.
func TestVerifyBySHA256(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a": 1000})
	d := harness.NewDownloader(t, s)
	dir, manifest := t.TempDir(), filepath.Join(t.TempDir(), "m")
	if _, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithManifest(manifest), ossdl.WithManifestSHA256()); err != nil {
		t.Fatal(err)
	}
	right := readManifest(t, manifest)["a"].SHA256
	text, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, manifest, strings.ReplaceAll(string(text), right, strings.Repeat("ab", 32)))
	res, err := d.VerifyManifest(t.Context(), manifest, dir)
	if !errors.Is(err, ossdl.ErrDifferent) || res.Differing != 1 || !strings.Contains(res.Differences[0].Reason, "SHA-256 is "+right) {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestVerifyTimeOfMetadata checks that a file that has the time in the metadata of an object without a CRC-64 is not found to differ.
func TestVerifyTimeOfMetadata(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "old", osstest.Random(1, 500), osstest.NoCRC(), osstest.Meta("mtime", "1000000000"))
	d, dir := harness.NewDownloader(t, s), t.TempDir()
	stored := ossdl.WithMetadata(ossdl.MetadataTime)
	if _, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, stored); err != nil {
		t.Fatal(err)
	}
	if res, err := d.VerifyPrefix(t.Context(), "bkt", "", dir, stored); err != nil {
		t.Errorf("%+v, %v", res, err)
	}
	if _, err := d.VerifyPrefix(t.Context(), "bkt", "", dir); !errors.Is(err, ossdl.ErrDifferent) {
		t.Errorf("compared with Last-Modified: %v", err)
	}
}

// TestVerifyWithoutCRC checks that files of objects without a CRC-64 are compared by size and time, and counted.
func TestVerifyWithoutCRC(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a": 1000})
	s.Put("bkt", "old", osstest.Random(1, 500), osstest.NoCRC())
	d := harness.NewDownloader(t, s)
	dir := t.TempDir()
	if _, err := d.DownloadPrefix(t.Context(), "bkt", "", dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "old")
	if res, err := d.VerifyPrefix(t.Context(), "bkt", "", dir); err != nil || res.Same != 2 || res.Unverified != 1 || res.Bytes != 1000 {
		t.Errorf("%+v, %v", res, err)
	}
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	res, err := d.VerifyPrefix(t.Context(), "bkt", "", dir)
	if !errors.Is(err, ossdl.ErrDifferent) || res.Differing != 1 || !strings.Contains(res.Differences[0].Reason, "no CRC-64") {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestVerifyWhatIsLeftOut checks that patterns, shards and a prefix within a name limit what is compared, and what is extra. Working
// files are never extra.
func TestVerifyWhatIsLeftOut(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"p/a.gz": 1, "p/b.txt": 2, "p/2024/x": 3, "p/2025/y": 4, "p/k1": 5, "p/k2": 6, "q": 7})
	d := harness.NewDownloader(t, s)
	dir, manifest := t.TempDir(), filepath.Join(t.TempDir(), "m")
	if _, err := d.DownloadPrefix(t.Context(), "bkt", "p/", dir, ossdl.WithManifest(manifest)); err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(dir, harness.WorkDir)
	if err := os.Mkdir(work, 0o777); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(work, "left"), "x")
	harness.WriteFile(t, filepath.Join(dir, "extra.gz"), "x")
	flip(t, filepath.Join(dir, "b.txt"), 0)
	remove(t, filepath.Join(dir, "2025", "y"))
	same := map[string][3]int{ // missing, differing, extra
		"p/":     {1, 1, 1},
		"p/2024": {0, 0, 0},
		"p/2025": {1, 0, 0},
		"p/e":    {0, 0, 1},
	}
	for prefix, want := range same {
		res, _ := d.VerifyPrefix(t.Context(), "bkt", prefix, dir)
		if got := [3]int{res.Missing, res.Differing, res.Extra}; got != want {
			t.Errorf("%s: %v, want %v: %+v", prefix, got, want, res.Differences)
		}
	}
	for _, c := range []struct {
		opt  ossdl.Option
		want [3]int
	}{
		{ossdl.WithInclude("*.gz"), [3]int{0, 0, 1}},
		{ossdl.WithExclude("*.gz", "2025/*"), [3]int{0, 1, 0}},
	} {
		for name, verify := range map[string]func() (*ossdl.VerifyResult, error){
			"prefix":   func() (*ossdl.VerifyResult, error) { return d.VerifyPrefix(t.Context(), "bkt", "p/", dir, c.opt) },
			"manifest": func() (*ossdl.VerifyResult, error) { return d.VerifyManifest(t.Context(), manifest, dir, c.opt) },
		} {
			res, _ := verify()
			if got := [3]int{res.Missing, res.Differing, res.Extra}; got != c.want {
				t.Errorf("%s: %v, want %v: %+v", name, got, c.want, res.Differences)
			}
		}
	}
	// Ranges of keys, as workers would take them.
	ranges := [3]int{}
	for _, r := range [][2]string{{"", "p/2024/x"}, {"p/2024/x", "p/b.txt"}, {"p/b.txt", ""}} {
		res, _ := d.VerifyPrefix(t.Context(), "bkt", "p/", dir, ossdl.WithKeyRange(r[0], r[1]))
		ranges = [3]int{ranges[0] + res.Missing, ranges[1] + res.Differing, ranges[2] + res.Extra}
	}
	if ranges != [3]int{1, 1, 1} {
		t.Errorf("three ranges: %v", ranges)
	}
	sum := [4]int{}
	for i := range 3 {
		res, _ := d.VerifyPrefix(t.Context(), "bkt", "p/", dir, ossdl.WithShard(i, 3))
		sum = [4]int{sum[0] + res.Missing, sum[1] + res.Differing, sum[2] + res.Extra, sum[3] + res.Same}
	}
	if sum != [4]int{1, 1, 1, 4} {
		t.Errorf("three shards: %v", sum)
	}
}

// TestVerifyKeysWithoutFiles checks that keys that can have no file are missing, with the reason.
func TestVerifyKeysWithoutFiles(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a": 1, "a/b": 2, "c//d": 3, "e/": 4, ".ossdl/x": 5, "../f": 6})
	d := harness.NewDownloader(t, s)
	dir := t.TempDir()
	if res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir); err == nil || res.Done != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	res, err := d.VerifyPrefix(t.Context(), "bkt", "", dir)
	if !errors.Is(err, ossdl.ErrDifferent) || res.Same != 1 || res.Missing != 5 || res.Differing+res.Extra+res.Failed != 0 {
		t.Errorf("%+v, %v", res, err)
	}
	for _, d := range res.Differences {
		if !strings.Contains(d.Reason, "it can have no file") || d.Key == "" {
			t.Errorf("%+v", d)
		}
	}
}

// TestVerifyThatCannotFindOut checks that a failed request and a file that cannot be read are failures and not differences, that
// they do not stop the others, and that a listing that fails reports no extra files.
func TestVerifyThatCannotFindOut(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a": 1000, "b": 2000, "c": 3000})
	d := harness.NewDownloader(t, s)
	dir := t.TempDir()
	if _, err := d.VerifyPrefix(t.Context(), "bkt", "", filepath.Join(dir, "no")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	if harness.Exists(filepath.Join(dir, "no")) {
		t.Error("the folder was made")
	}
	if _, err := d.DownloadPrefix(t.Context(), "bkt", "", dir); err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(dir, "c"), 0)
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Key == "b" {
			return osstest.Error(403, "AccessDenied")
		}
		return nil
	})
	res, err := d.VerifyPrefix(t.Context(), "bkt", "", dir)
	var failure *ossdl.KeyError
	if !errors.Is(err, ossdl.ErrDifferent) || !errors.As(err, &failure) || failure.Key != "b" || res.Same != 1 || res.Differing != 1 || res.Failed != 1 || len(res.Failures) != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	s.ClearFaults()
	s.OnList(func(*osstest.Request) *osstest.Fault { return osstest.Error(403, "AccessDenied") })
	res, err = d.VerifyPrefix(t.Context(), "bkt", "", dir)
	if err == nil || errors.Is(err, ossdl.ErrDifferent) || res.Extra != 0 {
		t.Errorf("listing: %+v, %v", res, err)
	}
	s.ClearFaults()
	if runtime.GOOS != "windows" && os.Geteuid() != 0 {
		if err := os.Chmod(filepath.Join(dir, "a"), 0); err != nil {
			t.Fatal(err)
		}
		if res, err := d.VerifyPrefix(t.Context(), "bkt", "", dir); !errors.Is(err, fs.ErrPermission) || res.Failed != 1 {
			t.Errorf("unreadable: %+v, %v", res, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if res, err := d.VerifyPrefix(ctx, "bkt", "", dir); !errors.Is(err, context.Canceled) || res.Extra != 0 {
		t.Errorf("cancelled: %+v, %v", res, err)
	}
	// The function that is told gives up.
	ctx, cancel = context.WithCancel(t.Context())
	harness.WriteFile(t, filepath.Join(dir, "d"), "x")
	if _, err := d.VerifyPrefix(ctx, "bkt", "", dir, ossdl.WithDifference(func(ossdl.Difference) { cancel() })); !errors.Is(err, context.Canceled) && !errors.Is(err, ossdl.ErrDifferent) {
		t.Error(err)
	}
}

// TestVerifyRaisesPanics checks that a panic of the function that is told ends the call and is raised in the caller's goroutine.
func TestVerifyRaisesPanics(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a": 1, "b": 2})
	d := harness.NewDownloader(t, s)
	calls := 0
	defer func() {
		if r := recover(); r == nil || calls != 1 {
			t.Errorf("%v after %d calls", r, calls)
		}
	}()
	_, err := d.VerifyPrefix(t.Context(), "bkt", "", t.TempDir(), ossdl.WithDifference(func(ossdl.Difference) {
		calls++
		panic("the caller's")
	}))
	t.Error("no panic, ", err)
}

// TestHostileManifests checks that a manifest with a line that no call has written is an error with the number of the line, and
// that no name leads out of the folder.
func TestHostileManifests(t *testing.T) {
	base := t.TempDir()
	dir, manifest := filepath.Join(base, "tree"), filepath.Join(base, "m")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, filepath.Join(base, "secret"), "")
	harness.WriteFile(t, filepath.Join(dir, "a"), "")
	line := func(name string) string {
		quoted, err := json.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"name":%s,"key":"k","size":0,"crc64":"0"}`+"\n", quoted)
	}
	d, err := ossdl.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	good := line("a")
	for text, want := range map[string]string{
		good + line("../secret"):                    "line 2: name \"../secret\"",
		line("/etc/passwd"):                         "line 1: name",
		good + line("x/../a"):                       "line 2: name",
		line("a\x00b"):                              "NUL",
		line(".ossdl/x"):                            "reserved",
		line("a//b"):                                "empty",
		good + good:                                 "line 2: name \"a\"",
		good + line("a/b"):                          "line 2: name",
		good + strings.TrimSpace(line("b")):         "line 2: its end is missing",
		good + "\n":                                 "line 2",
		"not JSON\n":                                "line 1",
		`{"key":"k","size":0,"crc64":"0"}` + "\n":   "name, size and crc64",
		`{"name":"a","size":-1,"crc64":"0"}` + "\n": "negative",
		`{"name":"a","size":0,"crc64":"-1"}` + "\n": "crc64",
		`{"name":"a","size":0,"crc64":0}` + "\n":    "crc64",
		`{"name":"a","size":0,"crc64":"0","sha256":"0"}` + "\n": "sha256",
		"{\"name\":\"\xff\",\"size\":0,\"crc64\":\"0\"}\n":      "UTF-8",
		good + strings.Repeat(" ", 100<<20) + good:              "line 2: it has more than 65536 bytes",
		`{"name":"a","size":0,"crc64":"0"}{}` + "\n":            "line 1",
	} {
		harness.WriteFile(t, manifest, text)
		before := stateOf(t, dir)
		res, err := d.VerifyManifest(t.Context(), manifest, dir)
		if err == nil || errors.Is(err, ossdl.ErrDifferent) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), manifest) || res.Extra != 0 {
			t.Errorf("%.200q: %+v, %v, want %q", text, res, err, want)
		}
		if !slices.Equal(before, stateOf(t, dir)) {
			t.Errorf("%.200q: the folder was changed", text)
		}
	}
	// What a later version may add is no error.
	harness.WriteFile(t, manifest, `{"name":"a","new":[1],"size":0,"crc64":"0"}`+"\n")
	if res, err := d.VerifyManifest(t.Context(), manifest, dir); err != nil || res.Same != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	for _, path := range []string{dir, filepath.Join(base, "none")} {
		if _, err := d.VerifyManifest(t.Context(), path, dir); err == nil || errors.Is(err, ossdl.ErrDifferent) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestVerifyResultJSON checks the names of the JSON, and that lists are never null.
func TestVerifyResultJSON(t *testing.T) {
	b, err := json.Marshal(ossdl.VerifyResult{Same: 1})
	const want = `{"same":1,"unverified":0,"missing":0,"differing":0,"extra":0,"failed":0,"bytes":0,"requests":0,"retries":0,"differences":[],"failures":[]}`
	if err != nil || string(b) != want {
		t.Errorf("%s, %v", b, err)
	}
}

// TestManifestOfAMirror checks that a mirror has no lines for what it deletes, and is as VerifyPrefix and VerifyManifest want it.
func TestManifestOfAMirror(t *testing.T) {
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 1000, "sub/b": 2000})
	d := harness.NewDownloader(t, s)
	dir, manifest := t.TempDir(), filepath.Join(t.TempDir(), "m")
	harness.WriteFile(t, filepath.Join(dir, "old"), "x")
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithManifest(manifest), ossdl.WithDelete(1))
	if err != nil || res.Deleted != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	checkManifest(t, manifest, s, false, all)
	if _, err := d.VerifyPrefix(t.Context(), "bkt", "", dir); err != nil {
		t.Error(err)
	}
	if _, err := d.VerifyManifest(t.Context(), manifest, dir); err != nil {
		t.Error(err)
	}
}
