package machine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestFreshStarts checks that a checkpoint that is of no use, whatever made it so, is a fresh start that is logged once
// with its reason. Nothing of the interrupted download is in the file, and nothing is left.
func TestFreshStarts(t *testing.T) {
	rewrite := func(from, to string) func(t *testing.T, s *osstest.Server, path string) {
		return func(t *testing.T, _ *osstest.Server, path string) {
			data, err := os.ReadFile(path + harness.CheckpointSuffix)
			if err != nil || !strings.Contains(string(data), from) {
				t.Fatalf("%s, %v", data, err)
			}
			harness.WriteFile(t, path+harness.CheckpointSuffix, strings.Replace(string(data), from, to, 1))
		}
	}
	for name, c := range map[string]struct {
		change func(t *testing.T, s *osstest.Server, path string)
		key    string // "": k
		opts   []ossdl.Option
		reason string
	}{
		"cut short": {func(t *testing.T, _ *osstest.Server, path string) {
			harness.Truncate(t, path+harness.CheckpointSuffix, 50)
		}, "", nil, "unexpected end"},
		"another format":        {rewrite(`"version":1`, `"version":2`), "", nil, "format version 2"},
		"another bucket":        {rewrite(`"bucket":"bkt"`, `"bucket":"bkx"`), "", nil, "another object"},
		"another key":           {nil, "other", nil, "another object"},
		"a range of the object": {nil, "", []ossdl.Option{ossdl.WithRange(0, 16*harness.PartSize-1)}, "another range"},
		"a version":             {nil, "", []ossdl.Option{ossdl.WithVersionID("null")}, "version"},
		"another ETag wanted":   {nil, "other", []ossdl.Option{ossdl.WithIfMatch("OTHER")}, "another object"},
		"another destination":   {rewrite(`"path":"../file"`, `"path":"../fill"`), "", nil, "another destination"},
		"object replaced": {func(_ *testing.T, s *osstest.Server, _ string) {
			s.Put("bkt", "k", osstest.Random(7, 16*harness.PartSize))
		}, "", nil, "ETag"},
		"object shorter": {func(_ *testing.T, s *osstest.Server, _ string) {
			s.Put("bkt", "k", osstest.Random(7, harness.PartSize))
		}, "", nil, "another object"},
	} {
		t.Run(name, func(t *testing.T) {
			s, d, path, _ := harness.Interrupted(t)
			s.Put("bkt", "other", osstest.Random(2, 16*harness.PartSize), osstest.ETag(`"OTHER"`))
			if c.change != nil {
				c.change(t, s, path)
			}
			key := "k"
			if c.key != "" {
				key = c.key
			}
			var log harness.Records
			res, err := d.Download(t.Context(), "bkt", key, path, append(c.opts, ossdl.WithLogger(log.Logger()))...)
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, "starting over") {
					lines = append(lines, line)
				}
			}
			if len(lines) != 1 || !strings.Contains(lines[0], "level=WARN") || !strings.Contains(lines[0], c.reason) {
				t.Errorf("logged %q, want one fresh start with %q", lines, c.reason)
			}
			want := harness.Bytes(t, s.Stat("bkt", key).Content)
			harness.CheckFile(t, path, osstest.Bytes(want[:res.Size]))
			if res.ResumedBytes != 0 || res.DownloadedBytes < res.Size {
				t.Errorf("%+v", res)
			}
		})
	}
}

// TestCheckpointOfAnotherDestination is about one checkpoint file for two paths. The second starts anew and is right, and
// the first, whose checkpoint is gone, is not mixed up with it.
func TestCheckpointOfAnotherDestination(t *testing.T) {
	cp := filepath.Join(t.TempDir(), "shared")
	_, d, path, content := harness.Interrupted(t, ossdl.WithCheckpoint(cp))
	before, err := os.ReadFile(path + harness.PartSuffix)
	if err != nil {
		t.Fatal(err)
	}
	var log harness.Records
	second := path + "2"
	res, err := d.Download(t.Context(), "bkt", "k", second, ossdl.WithCheckpoint(cp), ossdl.WithLogger(log.Logger()))
	if err != nil || res.ResumedBytes != 0 || !strings.Contains(log.String(), "another destination") {
		t.Fatalf("%+v, %v\n%s", res, err, log.String())
	}
	harness.CheckFile(t, second, content)
	if after, err := os.ReadFile(path + harness.PartSuffix); err != nil || string(after) != string(before) {
		t.Errorf("the partial file of the first was touched, %v", err)
	}
	res, err = d.Download(t.Context(), "bkt", "k", path, ossdl.WithCheckpoint(cp))
	if err != nil || res.ResumedBytes != 0 {
		t.Errorf("%+v, %v", res, err)
	}
	harness.CheckFile(t, path, content)
	if harness.Exists(cp) {
		t.Error("the checkpoint is left")
	}
}

// TestOutcomesOfURLs checks that what is refused for a destination is so for a URL too.
func TestOutcomesOfURLs(t *testing.T) {
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 1000))
	d := harness.NewURLDownloader(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, c := range []struct {
		name, path, want string
		opts             []ossdl.Option
	}{
		{"empty path", "", "empty", nil},
		{"folder missing", filepath.Join(dir, "none", "file"), "none", nil},
		{"a folder", dir, dir + " is a folder", nil},
		{"a device", os.DevNull, os.DevNull + " is not a regular file", nil},
		{"folder of the checkpoint missing", path, filepath.Join(dir, "nowhere"), []ossdl.Option{ossdl.WithCheckpoint(filepath.Join(dir, "nowhere", "c"))}},
		{"folder above the checkpoints missing", path, filepath.Join(dir, "nowhere"), []ossdl.Option{ossdl.WithCheckpointDir(filepath.Join(dir, "nowhere", "c"))}},
		{"checkpoint is a folder", path, dir, []ossdl.Option{ossdl.WithCheckpoint(dir)}},
	} {
		raw := harness.Sign(t, s, oss.AuthV1, 1e12, "k")
		if res, err := d.DownloadURL(t.Context(), raw, c.path, c.opts...); res != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v; want an error with %q", c.name, res, err, c.want)
		}
	}
	if n := len(s.Requests()); n > 0 {
		t.Errorf("%d requests were made", n)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
