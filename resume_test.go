package ossdl_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
	"github.com/ossdl/ossdl/internal/osstest"
)

func TestResumeFetchesOnlyWhatIsMissing(t *testing.T) {
	for name, opts := range map[string][]ossdl.Option{
		"same":                    nil,
		"other part size":         {ossdl.WithPartSize(10_000)},
		"parts of the engine":     {ossdl.WithPartSize(ossdl.MaxPartSize)},
		"more workers":            {ossdl.WithConcurrency(8)},
		"without preallocation":   {ossdl.WithoutPreallocation()},
		"wanting the ETag it has": {ossdl.WithIfMatch("ETAG")},
	} {
		t.Run(name, func(t *testing.T) {
			s, d, path, content := harness.Interrupted(t)
			if name == "wanting the ETag it has" {
				opts = []ossdl.Option{ossdl.WithIfMatch(s.Stat("bkt", "k").ETag)}
			}
			if harness.Exists(path) || !harness.Exists(path+harness.PartSuffix) || !harness.Exists(path+harness.CheckpointSuffix) || harness.Exists(path+harness.LockSuffix) {
				t.Fatal("an interrupted download has a partial file, a checkpoint and nothing else")
			}
			cp := checkpoints.Read(t, path+harness.CheckpointSuffix)
			if len(cp.Parts) != 1 || cp.Parts[0].Offset != 0 || cp.Parts[0].Done != 5*harness.PartSize {
				t.Fatalf("checkpoint has %+v", cp.Parts)
			}
			begun := time.Now()
			res, err := d.Download(t.Context(), "bkt", "k", path, opts...)
			if err != nil {
				t.Fatal(err)
			}
			taken := harness.TakenOver(s.Requests(), 8, time.Since(begun))
			harness.CheckFile(t, path, content)
			exact := func(n int64) bool { return n == 11*harness.PartSize || n > 11*harness.PartSize && taken > 0 }
			if res.ResumedBytes != 5*harness.PartSize || !exact(res.DownloadedBytes) || !res.Verified {
				t.Errorf("%+v, %d requests taken over", res, taken)
			}
			for _, r := range s.Requests() {
				if r.Start < 5*harness.PartSize || r.Header.Get("If-Match") == "" {
					t.Errorf("asked for %s with If-Match %q", r.Range, r.Header.Get("If-Match"))
				}
			}
			if n := harness.Fetched(s); !exact(n) {
				t.Errorf("%d bytes sent, want %d; %d requests taken over", n, 11*harness.PartSize, taken)
			}
		})
	}
}

func TestResumeWireSequence(t *testing.T) {
	s, d, path, _ := harness.Interrupted(t)
	if _, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithPartSize(6*harness.PartSize)); err != nil {
		t.Fatal(err)
	}
	harness.SameLines(t, harness.Wire(s), "GET bytes=327680-720895 if-match", "GET bytes=720896-1048575 if-match")
}

func TestResumeElsewhere(t *testing.T) {
	t.Run("checkpoint file", func(t *testing.T) {
		cp := filepath.Join(t.TempDir(), "my checkpoint")
		s, d, path, content := harness.Interrupted(t, ossdl.WithCheckpoint(cp))
		if !harness.Exists(cp) || harness.Exists(path+harness.CheckpointSuffix) {
			t.Error("the checkpoint is not where it was asked for")
		}
		res, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithCheckpoint(cp))
		if err != nil || res.ResumedBytes != 5*harness.PartSize {
			t.Errorf("%+v, %v", res, err)
		}
		harness.CheckFile(t, path, content)
		if harness.Exists(cp) || harness.Fetched(s) != 11*harness.PartSize {
			t.Error("checkpoint left or bytes fetched again")
		}
	})
	t.Run("checkpoint folder", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "checkpoints")
		_, d, path, content := harness.Interrupted(t, ossdl.WithCheckpointDir(dir))
		fi, err := os.Stat(dir)
		if err != nil || fi.Mode().Perm() != 0o700 && runtime.GOOS != "windows" { // which has no mode bits
			t.Errorf("%v, %v", fi, err)
		}
		res, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithCheckpointDir(dir))
		if err != nil || res.ResumedBytes != 5*harness.PartSize {
			t.Errorf("%+v, %v", res, err)
		}
		harness.CheckFile(t, path, content)
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("%v, %v", entries, err)
		}
	})
	t.Run("moved together", func(t *testing.T) {
		_, d, path, content := harness.Interrupted(t)
		moved := filepath.Join(t.TempDir(), "elsewhere")
		if err := os.Rename(filepath.Dir(path), moved); err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(moved, "file")
		res, err := d.Download(t.Context(), "bkt", "k", path)
		if err != nil || res.ResumedBytes != 5*harness.PartSize {
			t.Errorf("%+v, %v", res, err)
		}
		harness.CheckFile(t, path, content)
	})
}

func TestWithoutCheckpointLeavesNothing(t *testing.T) {
	s, d, path, content := harness.Interrupted(t, ossdl.WithoutCheckpoint())
	harness.NoLeftovers(t, path)
	res, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithoutCheckpoint())
	if err != nil || res.ResumedBytes != 0 || harness.Fetched(s) != content.Size() {
		t.Errorf("%+v, %v", res, err)
	}
	harness.CheckFile(t, path, content)
}

// TestCheckpointOfNoUse checks that whatever is found in its place, the file is right in the end, and what could be kept
// is.
func TestCheckpointOfNoUse(t *testing.T) {
	t.Parallel()
	edit := func(fn func(c *checkpoints.Document)) func(t *testing.T, path string) {
		return func(t *testing.T, path string) {
			c := checkpoints.Read(t, path+harness.CheckpointSuffix)
			fn(c)
			checkpoints.Write(t, path+harness.CheckpointSuffix, c)
		}
	}
	for name, c := range map[string]struct {
		damage  func(t *testing.T, path string)
		resumed int64
	}{
		"torn early": {func(t *testing.T, path string) { harness.Truncate(t, path+harness.CheckpointSuffix, 5) }, 0},
		"torn":       {func(t *testing.T, path string) { harness.Truncate(t, path+harness.CheckpointSuffix, 100) }, 0},
		"empty":      {func(t *testing.T, path string) { harness.WriteFile(t, path+harness.CheckpointSuffix, "") }, 0},
		"huge": {func(t *testing.T, path string) {
			harness.WriteFile(t, path+harness.CheckpointSuffix, `{"format":"ossdl checkpoint","version":1`+string(make([]byte, 2<<20)))
		}, 0},
		"zeros": {func(t *testing.T, path string) {
			harness.WriteFile(t, path+harness.CheckpointSuffix, string(make([]byte, 4096)))
		}, 0},
		"gone":           {func(t *testing.T, path string) { os.Remove(path + harness.CheckpointSuffix) }, 0},
		"other format":   {edit(func(c *checkpoints.Document) { c.Version = 99 }), 0},
		"other object":   {edit(func(c *checkpoints.Document) { c.Key = "other" }), 0},
		"other bucket":   {edit(func(c *checkpoints.Document) { c.Bucket = "other" }), 0},
		"other range":    {edit(func(c *checkpoints.Document) { c.Range = &checkpoints.Range{Offset: 0, Length: 16 * harness.PartSize} }), 0},
		"other ETag":     {edit(func(c *checkpoints.Document) { c.ETag = `"0123456789ABCDEF0123456789ABCDEF"` }), 5 * harness.PartSize}, // the CRC-64 is the same
		"other size":     {edit(func(c *checkpoints.Document) { c.Size++ }), 0},
		"other CRC-64":   {edit(func(c *checkpoints.Document) { *c.CRC64++ }), 0},
		"wrong part sum": {edit(func(c *checkpoints.Document) { c.Parts[0].CRC64++ }), 0},
		"claims too much": {edit(func(c *checkpoints.Document) {
			c.Parts[0].Size, c.Parts[0].Done = 16*harness.PartSize, 16*harness.PartSize
		}), 0},
		"claims less":                   {edit(func(c *checkpoints.Document) { c.Parts = nil }), 0},
		"version differs":               {edit(func(c *checkpoints.Document) { c.VersionID = "old" }), 5 * harness.PartSize},
		"partial gone":                  {func(t *testing.T, path string) { os.Remove(path + harness.PartSuffix) }, 0},
		"partial empty":                 {func(t *testing.T, path string) { harness.WriteFile(t, path+harness.PartSuffix, "") }, 0},
		"partial shorter":               {func(t *testing.T, path string) { harness.Truncate(t, path+harness.PartSuffix, 4*harness.PartSize) }, 0},
		"partial cut behind its claims": {func(t *testing.T, path string) { harness.Truncate(t, path+harness.PartSuffix, 5*harness.PartSize) }, 5 * harness.PartSize},
		"partial longer":                {func(t *testing.T, path string) { harness.Truncate(t, path+harness.PartSuffix, 100*harness.PartSize) }, 5 * harness.PartSize},
		"partial altered":               {func(t *testing.T, path string) { alter(t, path+harness.PartSuffix, 100) }, 0},
		"partial altered where missing": {func(t *testing.T, path string) { alter(t, path+harness.PartSuffix, 6*harness.PartSize) }, 5 * harness.PartSize},
		"partial hard-linked elsewhere": {func(t *testing.T, path string) {
			if err := os.Link(path+harness.PartSuffix, path+".elsewhere"); err != nil {
				t.Skip(err)
			}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, d, path, content := harness.Interrupted(t)
			c.damage(t, path)
			res, err := d.Download(t.Context(), "bkt", "k", path)
			if err != nil {
				t.Fatal(err)
			}
			harness.CheckFile(t, path, content)
			if res.ResumedBytes != c.resumed {
				t.Errorf("resumed %d bytes, want %d", res.ResumedBytes, c.resumed)
			}
		})
	}
}

// alter changes one byte of a file.
func alter(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	b[0]++
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFinishedButNotRenamed(t *testing.T) {
	s, d, path, content := harness.Interrupted(t)
	f, err := os.OpenFile(path+harness.PartSuffix, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, content.Size())
	content.ReadAt(b, 0)
	if _, err := f.WriteAt(b, 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	claimAll(t, path, content)
	res, err := d.Download(t.Context(), "bkt", "k", path)
	if err != nil || res.ResumedBytes != content.Size() || res.DownloadedBytes > 1 {
		t.Errorf("%+v, %v", res, err)
	}
	harness.CheckFile(t, path, content)
	harness.SameLines(t, harness.Wire(s), "GET bytes=0-0 if-match")
}

// claimAll makes the checkpoint claim the whole object.
func claimAll(t *testing.T, path string, content osstest.Content) {
	t.Helper()
	c := checkpoints.Read(t, path+harness.CheckpointSuffix)
	c.Parts = []checkpoints.Part{{Offset: 0, Size: content.Size(), Done: content.Size(), CRC64: content.CRC64()}}
	checkpoints.Write(t, path+harness.CheckpointSuffix, c)
}

func TestRenamedButCheckpointLeft(t *testing.T) {
	s, d, path, content := harness.Interrupted(t)
	claimAll(t, path, content)
	os.Remove(path + harness.PartSuffix)
	b := make([]byte, content.Size())
	content.ReadAt(b, 0)
	harness.WriteFile(t, path, string(b))
	res, err := d.Download(t.Context(), "bkt", "k", path)
	if err != nil || res.ResumedBytes != content.Size() || !res.Verified {
		t.Errorf("%+v, %v", res, err)
	}
	harness.CheckFile(t, path, content)
	harness.SameLines(t, harness.Wire(s), "GET bytes=0-0 if-match")
}

func TestOldCheckpointBesideANewerFile(t *testing.T) {
	right := make([]byte, 16*harness.PartSize)
	if _, err := osstest.Random(1, 16*harness.PartSize).ReadAt(right, 0); err != nil {
		t.Fatal(err)
	}
	for name, newer := range map[string]string{
		"other content of the same size": string(make([]byte, 16*harness.PartSize)),
		"shorter":                        "short",
		"the object and more":            string(right) + "more",
		"half of it right":               string(right[:8*harness.PartSize]) + string(make([]byte, 8*harness.PartSize)),
	} {
		t.Run(name, func(t *testing.T) {
			_, d, path, content := harness.Interrupted(t)
			claimAll(t, path, content)
			os.Remove(path + harness.PartSuffix)
			harness.WriteFile(t, path, newer)
			res, err := d.Download(t.Context(), "bkt", "k", path)
			if err != nil || res.ResumedBytes != 0 {
				t.Errorf("%+v, %v", res, err)
			}
			harness.CheckFile(t, path, content)
		})
	}
}

// TestCheckpointOfNothing checks that a document that claims nothing vouches for no file.
func TestCheckpointOfNothing(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("bkt", osstest.PublicRead())
	o := s.Put("bkt", "k", osstest.Bytes(nil))
	d := harness.NewDownloader(t, s)
	path := filepath.Join(t.TempDir(), "file")
	harness.WriteFile(t, path, "old content")
	if err := os.Mkdir(path+harness.FolderSuffix, 0o777); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, path+harness.CheckpointSuffix, fmt.Sprintf(`{"format":"ossdl checkpoint","version":1,"bucket":"bkt","key":"k","etag":%q,"size":0,"path":"file","parts":[]}`, o.ETag))
	if _, err := d.Download(t.Context(), "bkt", "k", path); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, osstest.Bytes(nil))
}

// TestCheckpointWhoseTemporaryIsThePath checks that the names of a checkpoint and of its temporary may not be those of the
// download.
func TestCheckpointWhoseTemporaryIsThePath(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 1000))
	d := harness.NewDownloader(t, s)
	dir := t.TempDir()
	path := filepath.Join(dir, "data"+fsys.TempSuffix)
	harness.WriteFile(t, path, "old")
	if _, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithCheckpoint(filepath.Join(dir, "data"))); err == nil {
		t.Error("accepted a checkpoint whose temporary is the file itself")
	}
	if got, err := os.ReadFile(path); string(got) != "old" {
		t.Errorf("the old file is %q, %v", got, err)
	}
}

// TestCheckpointWithALongName checks that a checkpoint may have any name that its file system allows: it is written, read and
// removed, and so is the temporary of a run that was killed.
func TestCheckpointWithALongName(t *testing.T) {
	v, err := fsys.OS().Volume(t.TempDir())
	if err != nil || v.MaxName < 255 {
		t.Skipf("names of %d bytes, %v", v.MaxName, err)
	}
	for _, n := range []int{133, 134, 245, 246, 254, 255} {
		cps := t.TempDir()
		cp := filepath.Join(cps, strings.Repeat("n", n))
		_, d, path, content := harness.Interrupted(t, ossdl.WithCheckpoint(cp))
		if !harness.Exists(cp) {
			t.Errorf("%d bytes: no checkpoint", n)
		}
		harness.WriteFile(t, fsys.TempName(cp), "half of one")
		res, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithCheckpoint(cp))
		if err != nil || res.ResumedBytes == 0 {
			t.Fatalf("%d bytes: %+v, %v", n, res, err)
		}
		harness.CheckFile(t, path, content)
		if left, err := os.ReadDir(cps); err != nil || len(left) > 0 {
			t.Errorf("%d bytes: %v is left, %v", n, left, err)
		}
	}
}

// TestStrayCheckpoint checks that a call with other options removes what an interrupted one has left at the default place,
// and nothing that is not a checkpoint.
func TestStrayCheckpoint(t *testing.T) {
	_, d, path, content := harness.Interrupted(t)
	if _, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithoutCheckpoint()); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, content)
	if err := os.Mkdir(path+harness.FolderSuffix, 0o777); err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, path+harness.CheckpointSuffix, "somebody's notes")
	if _, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithoutCheckpoint()); err != nil {
		t.Fatal(err)
	}
	if !harness.Exists(path + harness.CheckpointSuffix) {
		t.Error("a file that is no checkpoint was removed")
	}
}

// TestOwnFileInTheWay checks that a file of the user's with the name of the working folder stays as it is, whether a download to its
// neighbor is interrupted, resumed or done, and that a disk image is not taken for a torn checkpoint.
func TestOwnFileInTheWay(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 16*harness.PartSize)
	s.Put("bkt", "k", content)
	s.CreateBucket("public", osstest.PublicRead())
	s.Put("public", "k", content)
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1), ossdl.WithRetry(ossdl.RetryPolicy{Attempts: 1}))
	for name, download := range map[string]func(path string) (*ossdl.Result, error){
		"Download": func(path string) (*ossdl.Result, error) { return d.Download(t.Context(), "bkt", "k", path) },
		"DownloadURL": func(path string) (*ossdl.Result, error) {
			return d.DownloadURL(t.Context(), s.URL("public", "k"), path)
		},
		"DownloadAll": func(path string) (*ossdl.Result, error) {
			res, err := d.DownloadAll(t.Context(), func(yield func(ossdl.Item, error) bool) { yield(ossdl.Item{Source: "oss://bkt/k", Path: path}, nil) })
			return &ossdl.Result{ResumedBytes: res.ResumedBytes}, err
		},
	} {
		for _, mine := range []string{"mine", "", strings.Repeat("\x00", 4096) + "CD001"} {
			path := filepath.Join(t.TempDir(), "file")
			harness.WriteFile(t, path+harness.FolderSuffix, mine)
			check := func(when string) {
				if got, err := os.ReadFile(path + harness.FolderSuffix); string(got) != mine || err != nil {
					t.Errorf("%s, %s: %.20q is %.20q, %v", name, when, mine, got, err)
				}
			}
			s.Once(func(r *osstest.Request) bool { return r.Start == 5*harness.PartSize }, osstest.Error(http.StatusForbidden, "AccessDenied"))
			if _, err := download(path); err == nil {
				t.Fatal("it was to be interrupted")
			}
			check("interrupted")
			res, err := download(path)
			if err != nil || res.ResumedBytes != 5*harness.PartSize {
				t.Errorf("%s: %+v, %v", name, res, err)
			}
			check("done")
			if got, err := os.ReadFile(path); string(got) != string(harness.Bytes(t, content)) || err != nil {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
			if names, err := os.ReadDir(filepath.Dir(path)); len(names) != 2 || err != nil {
				t.Errorf("%s: left %v, %v", name, names, err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		path, image := filepath.Join(t.TempDir(), "file"), filepath.Join(t.TempDir(), "disk.iso")
		harness.WriteFile(t, image, strings.Repeat("\x00", 32<<10)+"\x01CD001")
		res, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithCheckpoint(image))
		if res != nil || err == nil || !strings.Contains(err.Error(), image) {
			t.Errorf("a disk image as the checkpoint: %+v, %v", res, err)
		}
		if fi, err := os.Stat(image); err != nil || fi.Size() != 32<<10+6 {
			t.Errorf("the disk image: %v, %v", fi, err)
		}
	}
}

// TestFailureWithoutCheckpointLeavesNothing checks that nothing is left, not even what an earlier call with a checkpoint
// has left: its partial file is gone.
func TestFailureWithoutCheckpointLeavesNothing(t *testing.T) {
	s, d, path, _ := harness.Interrupted(t)
	s.OnRequest(func(r *osstest.Request) *osstest.Fault {
		if r.Seq < 2 {
			return nil
		}
		return osstest.Error(403, "AccessDenied", "no more")
	})
	if _, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithoutCheckpoint()); err == nil {
		t.Fatal("no error")
	}
	harness.NoLeftovers(t, path)
}

func TestObjectChangedSinceTheCheckpoint(t *testing.T) {
	s, d, path, _ := harness.Interrupted(t)
	newer := osstest.Random(2, 10*harness.PartSize+5)
	s.Put("bkt", "k", newer)
	res, err := d.Download(t.Context(), "bkt", "k", path)
	if err != nil || res.ResumedBytes != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	harness.CheckFile(t, path, newer)
}

func TestObjectDeletedSinceTheCheckpoint(t *testing.T) {
	s, d, path, content := harness.Interrupted(t)
	s.Delete("bkt", "k")
	if _, err := d.Download(t.Context(), "bkt", "k", path); !errors.Is(err, ossdl.ErrNotFound) {
		t.Fatal(err)
	}
	s.Put("bkt", "k", content)
	res, err := d.Download(t.Context(), "bkt", "k", path)
	if err != nil || res.ResumedBytes != 5*harness.PartSize {
		t.Errorf("the object came back, what was there of it was lost: %+v, %v", res, err)
	}
	harness.CheckFile(t, path, content)
}

func TestRangeAndWholeDoNotMix(t *testing.T) {
	part := []ossdl.Option{ossdl.WithRange(harness.PartSize, 10*harness.PartSize)}
	s, d, path, content := harness.Interrupted(t, part...)
	res, err := d.Download(t.Context(), "bkt", "k", path)
	if err != nil || res.ResumedBytes != 0 {
		t.Fatalf("the whole after a range: %+v, %v", res, err)
	}
	harness.CheckFile(t, path, content)
	harness.Interrupt(t, s, d, path, 5)
	res, err = d.Download(t.Context(), "bkt", "k", path, part...)
	if err != nil || res.ResumedBytes != 0 {
		t.Fatalf("a range after the whole: %+v, %v", res, err)
	}
	b := make([]byte, 10*harness.PartSize)
	content.ReadAt(b, harness.PartSize)
	harness.CheckFile(t, path, osstest.Bytes(b))
	harness.Interrupt(t, s, d, path, 5, part...)
	res, err = d.Download(t.Context(), "bkt", "k", path, part...)
	if err != nil || res.ResumedBytes != 5*harness.PartSize {
		t.Fatalf("a range resumes: %+v, %v", res, err)
	}
	harness.CheckFile(t, path, osstest.Bytes(b))
}

func TestWrongCRCOnResume(t *testing.T) {
	s, d, path, content := harness.Interrupted(t)
	harness.WriteFile(t, path, "old")
	// The same object in every respect but a CRC-64 that its bytes do not have.
	o := s.Stat("bkt", "k")
	s.Put("bkt", "k", content, osstest.ETag(o.ETag), osstest.LastModified(o.LastModified), osstest.CRCHeader("12345"))
	c := checkpoints.Read(t, path+harness.CheckpointSuffix)
	*c.CRC64 = 12345
	checkpoints.Write(t, path+harness.CheckpointSuffix, c)
	res, err := d.Download(t.Context(), "bkt", "k", path)
	if !errors.Is(err, ossdl.ErrChecksum) || res.Verified {
		t.Errorf("%+v, %v", res, err)
	}
	harness.NoLeftovers(t, path)
	if got, _ := os.ReadFile(path); string(got) != "old" {
		t.Errorf("the old file is %q", got)
	}
	if n := harness.Fetched(s); n > 2*content.Size() {
		t.Errorf("%d bytes fetched of %d", n, content.Size())
	}
}

func TestProgressOnResume(t *testing.T) {
	_, d, path, content := harness.Interrupted(t)
	p := &harness.ProgressRecorder{T: t}
	if _, err := d.Download(t.Context(), "bkt", "k", path, ossdl.WithProgress(p.Add)); err != nil {
		t.Fatal(err)
	}
	if last := p.Last(); last.Done != content.Size() || last.Resumed != 5*harness.PartSize {
		t.Errorf("last report %+v", last)
	}
}

// TestInterruptUntilDone is the headline: cut off anywhere, again and again, and byte-exact in the end, with nothing
// fetched twice.
func TestInterruptUntilDone(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(7, 4<<20)
	s.Put("bkt", "k", content)
	d := harness.NewDownloader(t, s, ossdl.WithConcurrency(4))
	path := filepath.Join(t.TempDir(), "file")
	var total int64
	for cuts := 0; ; cuts++ {
		ctx, cancel := context.WithCancel(t.Context())
		seen := 0
		s.OnRequest(func(*osstest.Request) *osstest.Fault {
			seen++
			if seen == 3+cuts%5 {
				return osstest.Inject().At(int64(cuts*7919%60_000), cancel).Maybe() // a body may be shorter
			}
			return nil
		})
		res, err := d.Download(ctx, "bkt", "k", path, ossdl.WithPartSize(int64(60_001+cuts*1000)))
		cancel()
		s.ClearFaults()
		total += res.DownloadedBytes
		if err == nil {
			t.Logf("%d interruptions", cuts)
			break
		}
		if !errors.Is(err, context.Canceled) || harness.Exists(path) {
			t.Fatalf("run %d: %v", cuts, err)
		}
		if cuts > 500 {
			t.Fatal("no end in sight")
		}
	}
	harness.CheckFile(t, path, content)
	// What a cancelled request had in its buffer is lost: at most a buffer for each worker and cut, here part of a part.
	if total < content.Size() {
		t.Errorf("%d bytes downloaded of %d", total, content.Size())
	}
}

// TestCheckpointDirNames checks that each source and destination has one name, and another range of the same has the same
// name.
func TestCheckpointDirNames(t *testing.T) {
	s := harness.NewServer(t)
	s.CreateBucket("other", osstest.PublicRead())
	content := osstest.Random(1, 16*harness.PartSize)
	for _, bucket := range []string{"bkt", "other"} {
		for _, key := range []string{"k", "k2"} {
			s.Put(bucket, key, content)
		}
	}
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
	t.Cleanup(d.CloseIdleConnections)
	dir, cps := t.TempDir(), filepath.Join(t.TempDir(), "cps")
	paths := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	n := 0
	interrupted := func(what string, more int, call func(ctx context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s.Nth(5, osstest.Inject().Before(cancel).HoldHeaders(nil))
		if err := call(ctx); err == nil {
			t.Fatalf("%s: not interrupted", what)
		}
		s.ClearFaults()
		s.ResetLog()
		n += more
		if entries, err := os.ReadDir(cps); err != nil || len(entries) != n {
			t.Errorf("%s: %d checkpoints, want %d (%v)", what, len(entries), n, err)
		}
	}
	for _, path := range paths {
		for _, bucket := range []string{"bkt", "other"} {
			for _, key := range []string{"k", "k2"} {
				interrupted(bucket+"/"+key, 1, func(ctx context.Context) error {
					_, err := d.Download(ctx, bucket, key, path, ossdl.WithCheckpointDir(cps))
					return err
				})
			}
		}
		interrupted("URL", 1, func(ctx context.Context) error {
			_, err := d.DownloadURL(ctx, s.URL("other", "k"), path, ossdl.WithCheckpointDir(cps))
			return err
		})
		interrupted("range", 0, func(ctx context.Context) error {
			_, err := d.Download(ctx, "bkt", "k", path, ossdl.WithCheckpointDir(cps), ossdl.WithRange(1, -1))
			return err
		})
	}
	// Each is of the last call to it alone: the range goes on.
	res, err := d.Download(t.Context(), "bkt", "k", paths[1], ossdl.WithCheckpointDir(cps), ossdl.WithRange(1, -1))
	if err != nil || res.ResumedBytes != 5*harness.PartSize {
		t.Errorf("%+v, %v", res, err)
	}
	if entries, err := os.ReadDir(cps); err != nil || len(entries) != n-1 {
		t.Errorf("%d checkpoints, want %d (%v)", len(entries), n-1, err)
	}
}

// TestCheckpointDirByAnotherName checks that a relative name and an absolute one are of the same folder, and so are two of
// the path.
func TestCheckpointDirByAnotherName(t *testing.T) {
	for _, c := range []struct{ path, dir, thenPath, thenDir string }{
		{"file", "cps", "file", "ABS/cps"},
		{"file", "ABS/cps", "file", "cps"},
		{"file", "cps", "ABS/file", "./cps"},
		{"ABS/file", "cps", "sub/../file", "sub/../cps"},
	} {
		s := harness.NewServer(t)
		content := osstest.Random(1, 16*harness.PartSize)
		s.Put("bkt", "k", content)
		d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithConcurrency(1))
		dir := t.TempDir()
		t.Chdir(dir)
		if err := os.Mkdir("sub", 0o755); err != nil {
			t.Fatal(err)
		}
		name := func(n string) string { return strings.Replace(n, "ABS", dir, 1) }
		harness.Interrupt(t, s, d, name(c.path), 5, ossdl.WithCheckpointDir(name(c.dir)))
		res, err := d.Download(t.Context(), "bkt", "k", name(c.thenPath), ossdl.WithCheckpointDir(name(c.thenDir)))
		if err != nil || res.ResumedBytes != 5*harness.PartSize {
			t.Errorf("%+v: %+v, %v", c, res, err)
		}
		harness.CheckFile(t, filepath.Join(dir, "file"), content)
		if entries, err := os.ReadDir("cps"); err != nil || len(entries) != 0 {
			t.Errorf("%+v: left are %v, %v", c, entries, err)
		}
	}
}

// TestCheckpointDirIsShared checks that calls which begin at the same time and find no folder share one, and that an existing
// folder keeps its mode.
func TestCheckpointDirIsShared(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(1, 4*harness.PartSize)
	s.Put("bkt", "k", content)
	cps := filepath.Join(t.TempDir(), "cps")
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(harness.PartSize), ossdl.WithCheckpointDir(cps))
	dir := t.TempDir()
	var calls sync.WaitGroup
	for i := range 20 {
		calls.Go(func() {
			if _, err := d.Download(t.Context(), "bkt", "k", filepath.Join(dir, strconv.Itoa(i))); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	for i := range 20 {
		harness.CheckFile(t, filepath.Join(dir, strconv.Itoa(i)), content)
	}
	if err := os.Chmod(cps, 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Download(t.Context(), "bkt", "k", filepath.Join(dir, "again")); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(cps); err != nil || len(entries) != 0 {
		t.Errorf("left are %v, %v", entries, err)
	}
	if fi, err := os.Stat(cps); err != nil || os.PathSeparator == '/' && fi.Mode().Perm() != 0o750 {
		t.Errorf("the caller's folder is %v now, %v", fi.Mode(), err)
	}
}
