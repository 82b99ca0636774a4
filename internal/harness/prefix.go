package harness

import (
	"io/fs"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/osstest"
)

// Contents are objects by key, or files by local name.
type Contents map[string]osstest.Content

// Put stores random objects of these sizes, all of a different time.
func Put(s *osstest.Server, sizes map[string]int64) Contents {
	all := Contents{}
	for i, key := range slices.Sorted(maps.Keys(sizes)) {
		all[key] = osstest.Random(uint64(i), sizes[key])
		s.Put("bkt", key, all[key], osstest.LastModified(time.Unix(1_600_000_000+int64(i)*1000, 0)))
	}
	return all
}

// List yields objects.
func List(objects ...ossdl.Object) iter.Seq2[ossdl.Object, error] {
	return func(yield func(ossdl.Object, error) bool) {
		for _, o := range objects {
			if !yield(o, nil) {
				return
			}
		}
	}
}

// Items yields the items of a list.
func Items(items ...ossdl.Item) iter.Seq2[ossdl.Item, error] {
	return func(yield func(ossdl.Item, error) bool) {
		for _, it := range items {
			if !yield(it, nil) {
				return
			}
		}
	}
}

// CheckTree fails the test unless below dir there are these files, with these contents, and nothing else but folders.
func CheckTree(t testing.TB, dir string, want Contents) {
	t.Helper()
	var got []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() && e.Name() != WorkDir {
			return err
		}
		name, err := filepath.Rel(dir, path)
		got = append(got, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if names := slices.Sorted(maps.Keys(want)); !slices.Equal(got, names) {
		t.Fatalf("%s holds %q, want %q", dir, got, names)
	}
	for name, c := range want {
		CheckFile(t, filepath.Join(dir, filepath.FromSlash(name)), c)
	}
}

// CheckCounts fails the test unless the result is this one.
func CheckCounts(t testing.TB, res *ossdl.PrefixResult, err error, done, skipped, failed int) {
	t.Helper()
	if res == nil {
		t.Fatalf("no result, %v", err)
	}
	if res.Done != done || res.Skipped != skipped || res.Failed != failed || len(res.Failures) != failed || (err != nil) != (failed > 0) {
		t.Fatalf("%+v, %v; want %d done, %d skipped, %d failed", *res, err, done, skipped, failed)
	}
}
