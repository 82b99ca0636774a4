package machine_test

import (
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// TestMadeFoldersLast checks that a power loss after a durable download leaves the folders that were made for its file. If one of the
// folders above cannot be synced, the file is in place and not durable.
func TestMadeFoldersLast(t *testing.T) {
	const path = "/new/deep/file"
	s := harness.NewServer(t)
	content := osstest.Random(1, 300<<10)
	s.Put("bkt", "k", content)
	for i := -1; ; i++ {
		disk := memfs.New(memfs.Config{})
		f := faultfs.New(disk, faultfs.Plan{At: i, Kind: faultfs.SyncDir, Err: syscall.EIO})
		res, err := harness.NewDownloader(t, s, harness.WithFS(f), ossdl.WithMkdirAll()).Download(t.Context(), "bkt", "k", path)
		if err != nil {
			t.Fatalf("sync %d: %v", i, err)
		}
		if i < 2 && res.Durable != (i < 0) { // those of the two folders come first
			t.Errorf("sync %d: durable is %t", i, res.Durable)
		}
		if res.Durable {
			for seed := range uint64(10) {
				mustHold(t, disk.Crash(rand.New(rand.NewPCG(seed, 0))), path, content)
			}
		}
		if i >= 0 && !f.Fired() {
			break
		}
	}
}
