package torture_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/fsys/faultfs"
	"github.com/ossdl/ossdl/internal/fsys/memfs"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// nothingFree says that nothing is free, as file systems do that do not know.
type nothingFree struct{ fsys.FS }

func (nothingFree) Free(string) (int64, error) { return 0, nil }

// TestOddFileSystems downloads to file systems that cannot do something, or say so in odd ways. What can be left out is, with a
// warning; what cannot be is found before a byte of the object is written, and the error says what works.
func TestOddFileSystems(t *testing.T) {
	const size = 3 << 20
	const enotsupp = syscall.Errno(524)
	forever := func(kind faultfs.Kind, name string, err error) []faultfs.Plan {
		return []faultfs.Plan{{Kind: kind, Name: name, Err: err, Forever: true}}
	}
	type test struct {
		config  memfs.Config
		figures bool // says that nothing is free
		plans   []faultfs.Plan
		wants   error  // nil: it succeeds
		says    string // the error, or the log
		unsafe  bool   // not durable
	}
	tests := map[string]test{
		"reserves nothing, EPERM":  {plans: forever(faultfs.Reserve, "", syscall.EPERM), says: "no space reserved"},
		"reserves nothing, EINVAL": {plans: forever(faultfs.Reserve, "", syscall.EINVAL), says: "no space reserved"},
		"reserves nothing, EIO":    {plans: forever(faultfs.Reserve, "", syscall.EIO), says: "no space reserved"},
		"reserves nothing, ENODEV": {plans: forever(faultfs.Reserve, "", syscall.ENODEV), says: "no space reserved"},
		"reserves nothing, 524":    {plans: forever(faultfs.Reserve, "", enotsupp), says: "no space reserved"},
		"the quota is used up":     {plans: forever(faultfs.Reserve, "", syscall.EDQUOT), wants: ossdl.ErrNoSpace, says: "bytes are missing"},

		"says that nothing is free":                       {figures: true},
		"says that nothing is free, and reserves nothing": {figures: true, config: memfs.Config{NoReserve: true}, says: "no space reserved"},
		"knows no sizes":                                  {config: memfs.Config{NoSizes: true}},
		"has no inodes left":                              {config: memfs.Config{MaxFiles: 2}, wants: ossdl.ErrNoSpace, says: "the inodes are used up"},
		"has 20 bits for the size of a file":              {config: memfs.Config{MaxFileSize: 1 << 20}, wants: ossdl.ErrTooLarge, says: "at most 1048576"},
		"refuses a large file when it is made":            {plans: forever(faultfs.Reserve, "", syscall.EFBIG), wants: ossdl.ErrTooLarge, says: "too large"},
		"syncs no file, EINVAL":                           {plans: forever(faultfs.Sync, "", syscall.EINVAL), says: "cannot sync", unsafe: true},
		"syncs no file, ENOSYS":                           {plans: forever(faultfs.Sync, "", syscall.ENOSYS), says: "cannot sync", unsafe: true},
		"syncs no file, EPERM":                            {plans: forever(faultfs.Sync, "", syscall.EPERM), says: "cannot sync", unsafe: true},
		"syncs no folder, EIO":                            {plans: forever(faultfs.SyncDir, "", syscall.EIO), says: "folder could not be synced", unsafe: true},
		"syncs no folder, EPERM":                          {plans: forever(faultfs.SyncDir, "", syscall.EPERM), says: "folder could not be synced", unsafe: true},
		"syncs no folder, EACCES":                         {plans: forever(faultfs.SyncDir, "", syscall.EACCES), says: "folder could not be synced", unsafe: true},
		"syncs nothing":                                   {config: memfs.Config{NoSync: true, NoSyncDir: true}, says: "cannot sync", unsafe: true},
		"renames nothing":                                 {plans: forever(faultfs.Rename, "", syscall.ENOSYS), wants: errors.ErrUnsupported, says: "ossget: -"},
		"writes in order only":                            {plans: forever(faultfs.Write, "trial", syscall.EINVAL), wants: errors.ErrUnsupported, says: "another folder"},
		"sets no length":                                  {plans: forever(faultfs.Truncate, "", syscall.ENOTSUP), wants: errors.ErrUnsupported, says: "another folder"},
		"has the old file under a lease":                  {plans: forever(faultfs.Open, "/file", syscall.EWOULDBLOCK)},
		"knows no O_NONBLOCK":                             {plans: forever(faultfs.Open, "/file", syscall.EINVAL)},
		"sets no modes":                                   {plans: forever(faultfs.Chmod, "", syscall.EPERM)},
		"says nothing of its size and its mount":          {plans: append(forever(faultfs.Volume, "", syscall.ENOSYS), forever(faultfs.Free, "", syscall.ENOSYS)...)},
	}
	s := harness.NewServer(t)
	s.CreateBucket("public", osstest.PublicRead())
	content := osstest.Random(1, size)
	s.Put("bkt", "k", content)
	s.Put("public", "k", content)
	for name, c := range tests {
		for _, url := range []bool{false, true} {
			for _, checkpoint := range []bool{false, true} {
				t.Run(name, func(t *testing.T) {
					harness.Tried.Add("cases from the field", 1)
					below := memfs.New(c.config)
					if c.config.MaxFiles == 0 {
						if err := fsys.WriteFile(below, "/file", []byte("old"), 0o644); err != nil {
							t.Fatal(err)
						}
					}
					disk := faultfs.New(below, c.plans...)
					var on fsys.FS = disk
					if c.figures {
						on = nothingFree{disk}
					}
					var log harness.Records
					d := harness.NewDownloader(t, s, ossdl.WithPartSize(1<<20), ossdl.WithConcurrency(3), ossdl.WithLogger(log.Logger()))
					download := func(on fsys.FS) (*ossdl.Result, error) {
						opts := []ossdl.Option{harness.WithFS(on)}
						if !checkpoint {
							opts = append(opts, ossdl.WithoutCheckpoint())
						}
						if url {
							return d.DownloadURL(t.Context(), s.URL("public", "k"), "/file", opts...)
						}
						return d.Download(t.Context(), "bkt", "k", "/file", opts...)
					}
					res, err := download(on)
					if c.wants == nil {
						if err != nil || res.Durable == c.unsafe || !res.Verified {
							t.Fatalf("%+v, %v\n%v", res, err, disk)
						}
						if n := strings.Count(log.String(), c.says); c.says != "" && n != 1 {
							t.Errorf("%q is %d times in the log:\n%s", c.says, n, log.String())
						}
						if warned := strings.Contains(log.String(), "level=WARN"); warned != (c.says != "") && !strings.Contains(name, "modes") {
							t.Errorf("the log:\n%s", log.String())
						}
					} else {
						if !errors.Is(err, c.wants) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "/file") || res != nil && res.Durable {
							t.Fatalf("%+v, %v", res, err)
						}
						for _, op := range disk.Ops() {
							if op.Kind == faultfs.Write && strings.HasSuffix(op.Name, harness.PartSuffix) {
								t.Errorf("%v, before %v", op, err)
							}
						}
						if c.config != (memfs.Config{}) {
							return // nothing heals this disk
						}
						if got, err := fsys.ReadFile(below, "/file", size); err != nil || string(got) != "old" {
							t.Errorf("the old file: %d bytes, %v", len(got), err)
						}
						if _, err := download(below); err != nil {
							t.Errorf("then: %v", err)
						}
					}
					if got, err := fsys.ReadFile(below, "/file", size); err != nil || osstest.Bytes(got).CRC64() != content.CRC64() {
						t.Errorf("%d bytes, %v", len(got), err)
					}
					if left := strings.Join(below.Names(), " "); left != "/file" {
						t.Errorf("left: %s", left)
					}
				})
			}
		}
	}
}

// TestWriteBackOnTheWay checks that a large file is handed to the disk while it is downloaded, with a checkpoint and without.
func TestWriteBackOnTheWay(t *testing.T) {
	const batch, size = 64 << 20, 4*64<<20 + 1
	s := harness.NewServer(t)
	content := osstest.Random(1, size)
	s.Put("bkt", "k", content)
	for _, opts := range [][]ossdl.Option{nil, {ossdl.WithoutCheckpoint()}} {
		if testing.Short() && opts != nil {
			continue
		}
		harness.Tried.Add("cases from the field", 1)
		disk := faultfs.New(fsys.OS())
		path := filepath.Join(t.TempDir(), "file")
		d := harness.NewDownloader(t, s, harness.WithFS(disk))
		if _, err := d.Download(t.Context(), "bkt", "k", path, opts...); err != nil {
			t.Fatal(err)
		}
		begun := int64(0)
		for _, op := range disk.Ops() {
			if op.Kind == faultfs.WriteBack {
				begun += op.Size
			}
		}
		// As the sync at the end comes, one batch may wait to be handed over, and the next has filled meanwhile.
		if begun < size-2*batch {
			t.Errorf("the writing of %d bytes was begun, want %d or more", begun, size-2*batch)
		}
		harness.CheckFile(t, path, content)
	}
}

// TestPrefixOnDisksThatCannot downloads many objects to file systems that cannot do what files need. That is found before much is
// fetched, nothing is asked for after that, and the error says what works. What needs no more than the file system can do is
// downloaded.
func TestPrefixOnDisksThatCannot(t *testing.T) {
	const large, small = 40, 1200
	forever := func(kind faultfs.Kind, name string, err error) faultfs.Plan {
		return faultfs.Plan{Kind: kind, Name: name, Err: err, Forever: true}
	}
	for name, c := range map[string]struct {
		plan   faultfs.Plan
		says   string
		failed int
		most   int // objects whose bytes are fetched, at most, of those that fail
	}{
		"renames nothing":      {forever(faultfs.Rename, "", syscall.ENOSYS), "cannot rename", large + small, 1000},
		"writes in order only": {forever(faultfs.Write, ".trial", syscall.EINVAL), "cannot write a file out of order", large, 8},
		"sets no length":       {forever(faultfs.Truncate, "", syscall.ENOTSUP), "cannot set the length", large, 8},
	} {
		t.Run(name, func(t *testing.T) {
			harness.Tried.Add("cases from the field", 1)
			s := harness.NewServer(t)
			sizes := map[string]int64{}
			for i := range small {
				sizes[fmt.Sprintf("a/%04d", i)] = 10
			}
			for i := range large {
				sizes[fmt.Sprintf("z/%02d", i)] = 3 << 20
			}
			all := harness.Put(s, sizes)
			below := memfs.New(memfs.Config{})
			disk := faultfs.New(below, c.plan)
			dir := t.TempDir()
			d := harness.NewDownloader(t, s, ossdl.WithConcurrency(4), ossdl.WithPartSize(1<<20))
			res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir, onDisk(disk))
			if res == nil || res.Failed != c.failed || res.Done != len(all)-c.failed {
				t.Fatalf("%+v, %v", res, err)
			}
			for _, f := range res.Failures {
				if !errors.Is(f.Err, errors.ErrUnsupported) || !strings.Contains(f.Err.Error(), c.says) || !strings.Contains(f.Err.Error(), dir) ||
					!strings.Contains(f.Err.Error(), "another folder") || !strings.Contains(f.Err.Error(), "ossget: -") {
					t.Fatal(f)
				}
			}
			asked := map[string]bool{}
			for _, r := range s.Requests() {
				if r.Key != "" && (c.failed == len(all) || strings.HasPrefix(r.Key, "z/")) {
					asked[r.Key] = true
				}
			}
			if len(asked) > c.most {
				t.Errorf("%d objects were asked for that cannot be written", len(asked))
			}
			for _, op := range disk.Ops() {
				if op.Kind == faultfs.Write && strings.HasSuffix(op.Name, ".part") {
					t.Errorf("%v, before %v", op, err)
				}
			}
			for _, left := range below.Names() {
				if strings.HasPrefix(left, harness.WorkDir) {
					t.Errorf("left: %s", left)
				}
			}
			res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir, onDisk(below))
			harness.CheckCounts(t, res, err, c.failed, len(all)-c.failed, 0)
			for key, content := range all {
				if strings.HasPrefix(key, "a/") {
					mustHold(t, below, key, content)
				}
			}
		})
	}
}
