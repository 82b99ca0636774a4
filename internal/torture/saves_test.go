package torture_test

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/harness"
)

// saves are the moments at which a checkpoint was put in place.
func saves(f *faultfs.FS) (n int) {
	for _, op := range f.Ops() {
		if op.Kind == faultfs.Rename && strings.HasSuffix(op.To, harness.CheckpointSuffix) {
			n++
		}
	}
	return n
}

// TestSaveThatFails checks that a save that fails, each time, is logged once and ends nothing.
func TestSaveThatFails(t *testing.T) {
	for _, kind := range []faultfs.Kind{faultfs.Open, faultfs.Write, faultfs.Sync, faultfs.Rename} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log harness.Records
				b := harness.NewBubbleClient(t, 8<<20, 64<<10, nil, ossdl.WithPartSize(1<<20), ossdl.WithConcurrency(2), ossdl.WithLogger(log.Logger()))
				f := faultfs.New(b.Disk, faultfs.Plan{Kind: kind, Name: harness.CheckpointSuffix + fsys.TempSuffix, Forever: true})
				res, err := b.Download(t, t.Context(), "Download", harness.BubblePath, harness.WithFS(f))
				if err != nil || !res.Verified {
					t.Fatalf("%+v, %v", res, err)
				}
				tries := 0
				for _, op := range f.Ops() {
					if op.Kind == faultfs.Open && strings.HasSuffix(op.Name, harness.CheckpointSuffix+fsys.TempSuffix) {
						tries++
					}
				}
				if n := strings.Count(log.String(), "checkpoint not saved"); n != 1 || tries < 5 || !f.Fired() {
					t.Errorf("logged %d times after %d saves that failed\n%s", n, tries, log.String())
				}
				if got := strings.Join(b.Disk.Names(), " "); got != "/dir/ /dir/file" {
					t.Errorf("left behind: %s", got)
				}
			})
		})
	}
}

// TestNoSaveForWhatIsDoneAtOnce checks that an object that is done before the first save is due writes no checkpoint at
// all, one that takes longer does.
func TestNoSaveForWhatIsDoneAtOnce(t *testing.T) {
	for _, c := range []struct {
		size  int64
		saves bool
	}{{100, false}, {256 << 10, false}, {2 << 20, true}} {
		synctest.Test(t, func(t *testing.T) {
			b := harness.NewBubbleClient(t, c.size, 128<<10, nil, ossdl.WithConcurrency(1))
			f := faultfs.New(b.Disk)
			start := time.Now()
			if _, err := b.Download(t, t.Context(), "Download", harness.BubblePath, harness.WithFS(f)); err != nil {
				t.Fatal(err)
			}
			if n := saves(f); (n > 0) != c.saves {
				t.Errorf("%d saves of %d bytes, which took %v", n, c.size, time.Since(start))
			}
			for _, op := range f.Ops() {
				if !c.saves && op.Kind == faultfs.Open && op.Flag&os.O_CREATE != 0 && strings.Contains(op.Name, harness.CheckpointSuffix) {
					t.Errorf("%v for %d bytes", op, c.size)
				}
			}
		})
	}
}
