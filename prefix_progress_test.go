package ossdl_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

func TestPrefixProgress(t *testing.T) {
	s := harness.NewServer(t)
	harness.Put(s, map[string]int64{"a": 1 << 20, "b": 1000, "c": 0, "d": 5 << 20, "e/": 0})
	s.OnRequest(func(r *osstest.Request) *osstest.Fault { return osstest.Inject().Rate(3 << 20) })
	d := harness.NewDownloader(t, s)
	dir := t.TempDir()
	total := int64(6<<20 + 1000)
	p := &harness.ProgressRecorder{T: t}
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithProgress(p.AddOfMany), ossdl.WithPartSize(1<<20))
	harness.CheckCounts(t, res, err, 5, 0, 0)
	if last := p.Last(); last.Done != total || last.Total != total || last.Resumed != 0 || last.InFlight != 0 || last.Remaining != 0 {
		t.Errorf("last report %+v", last)
	}
	if len(p.All) < 3 {
		t.Errorf("%d reports", len(p.All))
	}
	if err := os.Remove(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	p = &harness.ProgressRecorder{T: t}
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithProgress(p.AddOfMany))
	harness.CheckCounts(t, res, err, 1, 4, 0)
	if last := p.Last(); last.Done != total || last.Total != total || last.Resumed != 6<<20 {
		t.Errorf("last report %+v", last)
	}

	// An object that is another one by the time it is fetched counts as what it is then.
	p = &harness.ProgressRecorder{T: t}
	s.Once(func(*osstest.Request) bool { return true }, osstest.Inject().Before(func() { s.Put("bkt", "b", osstest.Random(8, 2<<20)) }))
	res, err = d.DownloadPrefix(t.Context(), "bkt", "b", t.TempDir(), ossdl.WithProgress(func(r ossdl.Progress) {
		p.AddOfMany(r)
		for _, o := range r.Objects {
			if want := int64(2 << 20); o.Done > 0 && o.Total != want {
				t.Errorf("%+v, want a total of %d", o, want)
			}
		}
	}))
	harness.CheckCounts(t, res, err, 1, 0, 0)
	if last := p.Last(); last.Done != 2<<20 || last.Total != 2<<20 || res.Bytes != 2<<20 {
		t.Errorf("last report %+v", last)
	}
}

// TestPrefixProgressOfObjects holds ten objects in the middle: the same eight of them, which were begun first, are told with
// how far they are, and none once all is done.
func TestPrefixProgressOfObjects(t *testing.T) {
	s := harness.NewServer(t)
	const size, gate, n = 6 << 18, 5 << 18, 10 // so small that no request takes a part of another's
	sizes := map[string]int64{}
	for i := range n {
		sizes[fmt.Sprintf("large%d", i)] = size
	}
	all := harness.Put(s, sizes)
	open := make(chan struct{})
	s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().Gate(gate, open) })
	var first, last ossdl.Progress
	same := 0
	dir := t.TempDir()
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "", dir, ossdl.WithConcurrency(n+2), ossdl.WithProgress(func(p ossdl.Progress) {
		last = p
		var done int64
		for _, o := range p.Objects {
			if done += o.Done; sizes[o.Key] != o.Total || o.Done < 0 || o.Done > o.Total {
				t.Errorf("%+v", o)
			}
		}
		if len(p.Objects) > 8 || done > p.Done {
			t.Errorf("%+v", p)
		}
		if len(p.Objects) < 8 || done < 8*gate/2 || same == 3 { // then they go on
			return
		}
		names := func(p ossdl.Progress) (keys []string) {
			for _, o := range p.Objects {
				keys = append(keys, o.Key)
			}
			return keys
		}
		if same == 0 {
			first = p
		} else if !slices.Equal(names(first), names(p)) {
			t.Errorf("%q after %q", names(p), names(first))
		}
		if same++; same == 3 {
			close(open)
		}
	}))
	harness.CheckCounts(t, res, err, n, 0, 0)
	harness.CheckTree(t, dir, all)
	if same < 3 || last.Objects != nil || last.Requests != s.Stats().Requests {
		t.Errorf("seen %d times; last report %+v, of %d requests", same, last, s.Stats().Requests)
	}
}
