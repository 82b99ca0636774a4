package ossdl

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/localfile"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/parts"
)

// renames counts the checkpoints that were put in place.
func renames(f *faultfs.FS) (n int) {
	for _, op := range f.Ops() {
		if op.Kind == faultfs.Rename && strings.HasSuffix(op.To, localfile.CheckpointSuffix) {
			n++
		}
	}
	return n
}

// passes waits, and reports whether the context has not ended by then.
func passes(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// TestSaveCadence saves beside a line that brings a gigabyte a second: at most twenty times a second, and at most a twentieth
// of the time, however slow the disk is. With little to save a second passes between two.
func TestSaveCadence(t *testing.T) {
	for name, c := range map[string]struct {
		every       time.Duration // a MiB comes
		disk        time.Duration // a rename takes
		least, most int           // saves in ten seconds
	}{
		"fast line":               {time.Millisecond, 0, 100, 200},
		"slow line":               {250 * time.Millisecond, 0, 8, 11},
		"nothing comes":           {time.Hour, 0, 0, 0},
		"slow disk":               {time.Millisecond, 40 * time.Millisecond, 8, 13},
		"disk that is very slow":  {time.Millisecond, 200 * time.Millisecond, 2, 3},
		"slow disk and slow line": {250 * time.Millisecond, 40 * time.Millisecond, 7, 11},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				disk := memfs.New(memfs.Config{})
				if err := disk.Mkdir("/dir", 0o755); err != nil {
					t.Fatal(err)
				}
				f := faultfs.New(disk)
				f.OnOp(func(op faultfs.Op) error {
					if op.Kind == faultfs.Rename {
						time.Sleep(c.disk)
					}
					return nil
				})
				cfg := defaults()
				parts := parts.New(1 << 40)
				dst, err := localfile.Check(localfile.Config{FS: f, Log: cfg.log, Path: "/dir/file", KeepPartial: true})
				if err != nil {
					t.Fatal(err)
				}
				k := newKeeper(dst, parts, object.Identity{Bucket: "b", Key: "k"}, &cfg.object, cfg.log)
				k.run = begun{object.Facts{Size: 1 << 40, ETag: `"e"`}}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				var line sync.WaitGroup
				line.Go(func() {
					for passes(ctx, c.every) {
						p := parts.Take(func(int64) int64 { return 1 << 20 })
						parts.Advance(p, parts.Hold(p, 1<<20), 0)
					}
				})
				if err := k.saves(ctx); err != nil {
					t.Error(err)
				}
				line.Wait()
				if n := renames(f); n < c.least || n > c.most {
					t.Errorf("%d saves in ten seconds, want %d to %d", n, c.least, c.most)
				}
			})
		})
	}
}

// begun is a run of an object that is known, into a destination that has begun.
type begun struct{ f object.Facts }

func (b begun) Facts() (object.Facts, bool) { return b.f, true }
func (begun) HasBegun() bool                { return true }
func (begun) IsReady() bool                 { return true }
