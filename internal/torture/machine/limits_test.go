package machine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"
	"golang.org/x/sync/errgroup"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/harness/checkpoints"
	"github.com/ossdl/ossdl/internal/osstest"
)

const page = 4096

// missing is how many bytes an ErrNoSpace says are missing.
func missingIn(t *testing.T, err error) (n int64) {
	t.Helper()
	_, text, _ := strings.Cut(err.Error(), ossdl.ErrNoSpace.Error()+": ")
	if _, serr := fmt.Sscanf(text, "%d bytes are missing", &n); !errors.Is(err, ossdl.ErrNoSpace) || serr != nil {
		t.Errorf("the error does not say how much is missing: %v", err)
	}
	return n
}

// TestDiskFills gives a download less room than it needs. It keeps what there is room for, says how many bytes are missing,
// and these the next run fetches once there is room.
func TestDiskFills(t *testing.T) {
	for name, c := range map[string]struct {
		config memfs.Config
		opts   []ossdl.Option
		early  bool // before a byte is written
	}{
		"reserved":       {memfs.Config{}, nil, true},
		"no reservation": {memfs.Config{NoReserve: true}, nil, true},
		"sparse":         {memfs.Config{}, []ossdl.Option{ossdl.WithoutPreallocation()}, false},
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 1))
			rounds := 20
			if testing.Short() {
				rounds = 5
			}
			for range rounds {
				sc := newCrashScene(t, name, bigSize, c.config, c.opts...)
				disk := sc.before
				disk.SetCapacity(page + rng.Int64N(bigSize/page)*page) // the old file has a page
				out := sc.run(t, disk)
				missing := missingIn(t, out.err)
				if c.early && (missing != bigSize || out.sent > 2*int64(sc.piece())) {
					t.Errorf("%d bytes came before it was found that %d are missing", out.sent, missing)
				}
				disk.SetCapacity(0)
				if again := sc.mustHeal(t, disk); again.sent != missing {
					t.Errorf("%d bytes fetched, %d were said to be missing", again.sent, missing)
				}
				if t.Failed() {
					t.Fatalf("%v\n%s", out.err, out.log)
				}
			}
		})
	}
}

// TestDiskFilledByOthers fills the disk while a download goes on, which ends by that or is interrupted. Nothing but what
// could not be written is lost.
func TestDiskFilledByOthers(t *testing.T) {
	for name, c := range map[string]struct {
		config memfs.Config
		opts   []ossdl.Option
	}{
		"reserved":       {memfs.Config{Capacity: 4 << 20}, nil},
		"no reservation": {memfs.Config{Capacity: 4 << 20, NoReserve: true}, nil},
		"sparse":         {memfs.Config{Capacity: 4 << 20}, []ossdl.Option{ossdl.WithoutPreallocation()}},
	} {
		t.Run(name, func(t *testing.T) {
			const filler = "/cps/filler"
			full, interrupted := 0, 0
			for at := range 8 {
				sc := newCrashScene(t, name, bigSize, c.config, c.opts...)
				disk := sc.before
				f := faultfs.New(disk)
				var writes atomic.Int64
				f.OnOp(func(op faultfs.Op) error {
					if op.Kind != faultfs.Write || !strings.HasSuffix(op.Name, harness.PartSuffix) || writes.Add(1) != int64(at)+2 {
						return nil
					}
					free, err := disk.Free("/")
					if err != nil {
						return err
					}
					return putFile(disk, filler, string(make([]byte, free)))
				})
				var out outcome
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
					defer cancel()
					out = sc.runInBubble(t, ctx, f)
				})
				if err := disk.Remove(filler); err != nil {
					t.Fatal(err)
				}
				switch {
				case errors.Is(out.err, ossdl.ErrNoSpace):
					full++
				case errors.Is(out.err, context.DeadlineExceeded):
					interrupted++
				default:
					t.Error(out.err)
				}
				// A worker may have come with more to write than there was room for.
				again := sc.mustHeal(t, disk)
				if most := bigSize - out.sent + 2*2*int64(sc.piece()); again.sent > most {
					t.Errorf("%d bytes fetched again, after %d of %d", again.sent, out.sent, bigSize)
				}
				if errors.Is(out.err, ossdl.ErrNoSpace) && again.sent != missingIn(t, out.err) {
					t.Errorf("%d bytes fetched again: %v", again.sent, out.err)
				}
				if t.Failed() {
					t.Fatalf("write %d: %v\n%s", at+2, out.err, out.log)
				}
			}
			t.Logf("%d ended by the disk, %d by their caller", full, interrupted)
		})
	}
}

// TestDiskFillsOnAResume gives less room than it needs to a run that continues, over a partial file of which not all that
// is claimed is true. The error says how many bytes are missing: what the next run fetches, if there was room for the
// checkpoint. Before a byte is written the false claim may not have been looked at.
func TestDiskFillsOnAResume(t *testing.T) {
	for name, opts := range map[string][]ossdl.Option{"reserved": nil, "sparse": {ossdl.WithoutPreallocation()}} {
		t.Run(name, func(t *testing.T) {
			early, late, step := 0, 0, int64(1)
			if testing.Short() {
				step = 5
			}
			for room := int64(0); ; room += step {
				sc := newCrashScene(t, name, bigSize, memfs.Config{}, ossdl.WithoutPreallocation())
				sc.interrupt(t, killedHalfway).falsify(t)
				sc.opts = opts
				disk := sc.before.Kill()
				used := int64(0)
				for _, n := range disk.Names() {
					if fi, err := disk.Lstat(n); err == nil && fi.Mode().IsRegular() {
						used += fsys.Allocated(fi)
					}
				}
				_, cp := sc.checkpoint(t, disk)
				claimed := int64(0)
				for _, p := range cp.Parts {
					claimed += p.Done
				}
				unproved := claimed - sc.intact(t, disk)
				disk.SetCapacity(used + room*4*page)
				out := sc.run(t, disk)
				if out.err == nil {
					sc.mustBeDone(t, disk)
					break
				}
				said := missingIn(t, out.err)
				disk.SetCapacity(0)
				again := sc.mustHeal(t, disk)
				switch {
				case opts == nil:
					early++
					if said != again.sent && said != again.sent-unproved {
						t.Errorf("%d bytes fetched, %d were said to be missing, %d claimed falsely", again.sent, said, unproved)
					}
				default:
					late++
					if again.sent != said {
						t.Errorf("%d bytes fetched, %d were said to be missing", again.sent, said)
					}
				}
				if t.Failed() {
					t.Fatalf("room for %d pages: %v\n%s", 4*room, out.err, out.log)
				}
			}
			t.Logf("found early %d times, late %d times", early, late)
			if early+late == 0 {
				t.Error("the disk never was full")
			}
		})
	}
}

// TestThousandsOfDownloads makes many small downloads in one process, and wants goroutines and open files back where they
// began.
func TestThousandsOfDownloads(t *testing.T) {
	n := 500
	if harness.Long() {
		n = 10_000
	}
	s := harness.NewServer(t, osstest.WithoutLog())
	for i := range 10 {
		s.Put("bkt", fmt.Sprint(i), osstest.Random(uint64(i), int64(i)*100))
	}
	hc := ossdl.HTTPClient()
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ossdl.New(client)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	goroutines, files := runtime.NumGoroutine(), harness.OpenFiles()
	var group errgroup.Group
	group.SetLimit(8)
	for i := range n {
		group.Go(func() error {
			key := i % 11 // the last of which does not exist
			_, err := d.Download(t.Context(), "bkt", fmt.Sprint(key), filepath.Join(dir, fmt.Sprint(i%100)))
			if key == 10 && errors.Is(err, ossdl.ErrNotFound) || errors.Is(err, ossdl.ErrInUse) {
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	hc.CloseIdleConnections()
	harness.BackTo(t, goroutines, files)
	for i := range 100 {
		harness.NoLeftovers(t, filepath.Join(dir, fmt.Sprint(i)))
	}
}

// TestEveryEntryPointClosesWhatItOpens makes some calls of every kind, good ones and others, and wants goroutines and open
// files back where they began. What is forgotten is not closed by the collector here.
func TestEveryEntryPointClosesWhatItOpens(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	const n = 60
	s := harness.NewServer(t, osstest.WithoutLog())
	content := osstest.Random(1, 3*harness.PartSize)
	s.Put("bkt", "k", content)
	s.Put("bkt", "lie", content, osstest.CRCHeader("1"))
	hc := ossdl.HTTPClient()
	client, err := s.Client(oss.HTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	d, err := ossdl.New(client, ossdl.WithPartSize(harness.PartSize), ossdl.WithHTTPClient(hc))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	urls := map[string]string{}
	for _, key := range []string{"k", "none", "lie"} {
		urls[key] = harness.Sign(t, s, oss.AuthV4, time.Hour, key)
	}
	for name, call := range map[string]func(ctx context.Context, key string) error{
		"Open": func(ctx context.Context, key string) error {
			r, err := d.Open(ctx, "bkt", key)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, r)
			return errors.Join(err, r.Close())
		},
		"Open, closed early": func(ctx context.Context, key string) error {
			r, err := d.Open(ctx, "bkt", key)
			if err != nil {
				return err
			}
			_, err = io.CopyN(io.Discard, r, 10)
			r.Close() // may say that it was closed before the verdict, or the verdict
			if err == nil && key == "lie" {
				err = ossdl.ErrChecksum
			}
			return err
		},
		"DownloadTo": func(ctx context.Context, key string) error {
			_, err := d.DownloadTo(ctx, "bkt", key, discard{})
			return err
		},
		"DownloadURL": func(ctx context.Context, key string) error {
			_, err := d.DownloadURL(ctx, urls[key], filepath.Join(dir, key))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			goroutines, files := runtime.NumGoroutine(), harness.OpenFiles()
			for i := range n {
				ctx, cancel := context.WithCancel(t.Context())
				key, want := "k", error(nil)
				switch i % 4 {
				case 1:
					key, want = "none", ossdl.ErrNotFound
				case 2:
					key, want = "lie", ossdl.ErrChecksum
				case 3:
					want = context.Canceled
					cancel()
				}
				if err := call(ctx, key); !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", key, err, want)
				}
				cancel()
			}
			hc.CloseIdleConnections()
			harness.BackTo(t, goroutines, files)
		})
	}
}

// discard is where bytes are of no interest.
type discard struct{}

func (discard) WriteAt(b []byte, _ int64) (int, error) { return len(b), nil }

// childEntryPoints are those that enterChild knows.
var childEntryPoints = []string{"Download", "DownloadURL", "DownloadTo", "Open", "DownloadPrefix"}

// enterChild brings an object to the path in a process of its own. Where that is the caller's business, it is done as a
// caller would do it.
func enterChild(d *ossdl.Downloader, client *oss.Client, entryPoint, path, key string) error {
	ctx := context.Background()
	switch entryPoint {
	case "Download":
		_, err := d.Download(ctx, "bkt", key, path)
		return err
	case "DownloadURL":
		b, err := client.Bucket("bkt")
		if err != nil {
			return err
		}
		signed, err := b.SignURL(key, oss.HTTPGet, 600)
		if err != nil {
			return err
		}
		_, err = d.DownloadURL(ctx, signed, path)
		return err
	case "DownloadPrefix":
		res, err := d.DownloadPrefix(ctx, "bkt", key, filepath.Dir(path))
		if err != nil {
			return err
		}
		if res.Done != 1 || filepath.Base(path) != key {
			return fmt.Errorf("%+v", res)
		}
		return nil
	}
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	if entryPoint == "DownloadTo" {
		_, err = d.DownloadTo(ctx, "bkt", key, f)
	} else {
		var r *ossdl.Reader
		if r, err = d.Open(ctx, "bkt", key); err == nil {
			_, err = io.Copy(f, r)
			err = errors.Join(err, r.Close())
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// hugeSize is OSS's limit for an object.
const hugeSize = 48_800_000_000_000

// TestHugeObjectInterrupted starts to download the largest object there can be, again and again, to a sparse file.
func TestHugeObjectInterrupted(t *testing.T) {
	s := harness.NewServer(t)
	content := osstest.Random(3, hugeSize)
	s.Put("bkt", "k", content)
	disk := memfs.New(memfs.Config{NoReserve: true})
	d := harness.NewDownloader(t, s, harness.WithFS(disk), ossdl.WithConcurrency(2), ossdl.WithPartSize(1<<20))
	claimed := int64(0) // by the run before
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		s.Nth(6, osstest.Inject().Before(cancel).HoldHeaders(nil))
		res, err := d.Download(ctx, "bkt", "k", "/file")
		cancel()
		s.ClearFaults()
		if !errors.Is(err, context.Canceled) || res.ResumedBytes > claimed || res.Size != hugeSize {
			t.Fatalf("%d were claimed: %+v, %v", claimed, res, err)
		}
		data, err := fsys.ReadFile(disk, "/file"+harness.CheckpointSuffix, checkpoints.ReadLimit)
		if err != nil {
			t.Fatal(err)
		}
		c, err := checkpoints.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		all := claimed + res.DownloadedBytes
		claimed = 0
		for _, p := range c.Parts {
			claimed += p.Done
		}
		// The other worker loses what it has in its buffer when it is cancelled. What was not proved by then stays claimed.
		if claimed > all || claimed < all-harness.BufferSize {
			t.Fatalf("%d bytes are claimed of %d: %+v", claimed, all, res)
		}
	}
	// The end of it, by itself.
	end := make([]byte, 2<<20+7)
	if _, err := content.ReadAt(end, hugeSize-int64(len(end))); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "end")
	if _, err := d.Download(t.Context(), "bkt", "k", path, harness.WithFS(fsys.OS()), ossdl.WithRange(hugeSize-int64(len(end)), -1)); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, osstest.Bytes(end))
}
