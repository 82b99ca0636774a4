package fsys

import (
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// with replaces a seam until the end of the test.
func with[T any](t *testing.T, seam *T, by T) {
	t.Helper()
	was := *seam
	*seam = by
	t.Cleanup(func() { *seam = was })
}

func opened(t *testing.T, path string) File {
	t.Helper()
	f, err := OS().OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// TestReserveErrors checks the results of errors of fallocate(2), on the first call and on a later one.
func TestReserveErrors(t *testing.T) {
	f := opened(t, filepath.Join(t.TempDir(), "file"))
	for errno, fatal := range map[error]bool{
		unix.ENOSPC: true, unix.EDQUOT: true, unix.EFBIG: true, unix.EPERM: false, unix.EINVAL: false, unix.EIO: false, unix.ENODEV: false,
		unix.ENOSYS: false, unix.EOPNOTSUPP: false, syscall.Errno(524): false,
	} {
		for _, first := range []bool{true, false} {
			calls := 0
			with(t, &fallocate, func(int, uint32, int64, int64) error {
				if calls++; calls == 1 && !first {
					return unix.EINTR // which halves the step
				}
				if calls == 2 && !first {
					return nil
				}
				return errno
			})
			err := f.Reserve(0, 4<<20)
			if !errors.Is(err, errno) || errors.Is(err, errors.ErrUnsupported) == fatal || !strings.Contains(err.Error(), "file") {
				t.Errorf("%v, first %t: %v", errno, first, err)
			}
		}
	}
}

// TestSyncErrors checks that an unsupported sync is distinguished from one that failed.
func TestSyncErrors(t *testing.T) {
	dir := t.TempDir()
	f := opened(t, filepath.Join(dir, "file"))
	for errno, soft := range map[error]struct{ file, dir bool }{
		unix.EINVAL: {true, true}, unix.ENOSYS: {true, true}, unix.EPERM: {true, false}, unix.EIO: {false, false}, unix.EACCES: {false, false},
	} {
		with(t, &fdatasync, func(int) error { return errno })
		with(t, &fsyncFolder, func(int) error { return errno })
		if err := f.Sync(); !errors.Is(err, errno) || errors.Is(err, errors.ErrUnsupported) != soft.file {
			t.Errorf("file, %v: %v", errno, err)
		}
		if err := OS().SyncDir(dir); !errors.Is(err, errno) || errors.Is(err, errors.ErrUnsupported) != soft.dir {
			t.Errorf("folder, %v: %v", errno, err)
		}
	}
}

// TestWriteBackErrors checks that a file system without sync_file_range(2) works as well, and that Sync still returns an
// error that the kernel reports only once.
func TestWriteBackErrors(t *testing.T) {
	f := opened(t, filepath.Join(t.TempDir(), "file"))
	for _, errno := range []error{unix.ENOSYS, unix.EINVAL, unix.EPERM, unix.ESPIPE} {
		with(t, &syncFileRange, func(int, int64, int64, int) error { return errno })
		if err := errors.Join(f.WriteBack(0, 1), f.DropCache(0, 1), f.Sync()); err != nil {
			t.Errorf("%v: %v", errno, err)
		}
	}
	with(t, &syncFileRange, func(int, int64, int64, int) error { return unix.EIO })
	if err := f.DropCache(0, 1); !errors.Is(err, unix.EIO) {
		t.Errorf("DropCache: %v", err)
	}
	if err := f.Sync(); !errors.Is(err, unix.EIO) || errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("the next Sync: %v", err)
	}
	if err := f.Sync(); err != nil {
		t.Errorf("the Sync after that: %v", err)
	}
}

// TestOpenWithoutNonblock checks that a plain file is opened also where O_NONBLOCK is refused, and that nothing else is waited for.
func TestOpenWithoutNonblock(t *testing.T) {
	dir := t.TempDir()
	path, pipe := filepath.Join(dir, "file"), filepath.Join(dir, "pipe")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), unix.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, errno := range []error{unix.EINVAL, unix.EWOULDBLOCK} {
		with(t, &openFile, func(name string, flag int, perm fs.FileMode) (*os.File, error) {
			if flag&unix.O_NONBLOCK != 0 {
				return nil, &fs.PathError{Op: "open", Path: name, Err: errno}
			}
			return os.OpenFile(name, flag, perm)
		})
		f, err := OS().OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatalf("%v: %v", errno, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if _, err := OS().OpenFile(pipe, os.O_RDONLY, 0); !errors.Is(err, ErrNotRegular) {
			t.Errorf("%v, a pipe: %v", errno, err)
		}
	}
}

// TestMemoryLimits checks where the memory limits of a process are looked for.
func TestMemoryLimits(t *testing.T) {
	for groups, want := range map[string]string{
		"":           "",
		"0::/\n":     "/sys/fs/cgroup/memory.max",
		"0::/a/b\n":  "/sys/fs/cgroup/a/b/memory.max /sys/fs/cgroup/a/memory.max /sys/fs/cgroup/memory.max",
		"0::/../x\n": "/sys/fs/cgroup/x/memory.max /sys/fs/cgroup/memory.max",
		"12:cpu:/a\n4:hugetlb,memory:/b:c\nodd\n": "/sys/fs/cgroup/memory/b:c/memory.limit_in_bytes /sys/fs/cgroup/memory/memory.limit_in_bytes",
	} {
		if got := strings.Join(memoryLimits(groups), " "); got != want {
			t.Errorf("%q: %q, want %q", groups, got, want)
		}
	}
	if n := Memory(); n < 1<<20 || n == math.MaxInt64 {
		t.Errorf("%d bytes of memory", n)
	}
}

// TestWritableErrors checks that EROFS is the only error of access(2) that counts.
func TestWritableErrors(t *testing.T) {
	dir := t.TempDir()
	root, err := OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for errno, believed := range map[error]bool{
		unix.EROFS: true, unix.EACCES: false, unix.EPERM: false, unix.ENOSYS: false, unix.EINVAL: false, unix.EIO: false,
	} {
		with(t, &faccessat, func(int, string) error { return errno })
		for f, name := range map[FS]string{OS(): dir, Rooted(root): "."} {
			if err := f.Writable(name); errors.Is(err, errno) != believed || (err != nil) != believed {
				t.Errorf("%T, %v: %v", f, errno, err)
			}
		}
	}
}

// TestVolumeOfCounts checks the results for the figures of statfs(2).
func TestVolumeOfCounts(t *testing.T) {
	const none = math.MaxInt64
	for _, test := range []struct {
		name   string
		counts counts
		root   bool
		limit  int64
		want   Volume
	}{
		{"ext4", counts{blockSize: 4096, blocks: 100, free: 50, available: 45, files: 10, freeFiles: 5, maxName: 255}, false, none,
			Volume{Free: 45 * 4096, Files: 5, MaxSize: none, MaxName: 255}},
		{"ext4 for root, who has the reserve", counts{blockSize: 4096, blocks: 100, free: 50, available: 45, files: 10, freeFiles: 5, maxName: 255}, true, none,
			Volume{Free: 50 * 4096, Files: 5, MaxSize: none, MaxName: 255}},
		{"ramfs, or FUSE without statfs", counts{blockSize: 4096, maxName: 255}, false, none, Volume{Free: -1, Files: -1, MaxSize: none, MaxName: 255}},
		{"full", counts{blockSize: 4096, blocks: 100, files: 10, freeFiles: 5, maxName: 255}, false, none, Volume{Free: 0, Files: 5, MaxSize: none, MaxName: 255}},
		{"inodes used up", counts{blockSize: 4096, blocks: 100, free: 1, available: 1, files: 10, maxName: 143}, false, none,
			Volume{Free: 4096, Files: 0, MaxSize: none, MaxName: 143}},
		{"btrfs, which counts no inodes", counts{blockSize: 4096, blocks: 100, free: 1, available: 1, maxName: 255}, false, none,
			Volume{Free: 4096, Files: -1, MaxSize: none, MaxName: 255}},
		{"vfat", counts{blockSize: 512, blocks: 100, free: 1, available: 1, maxName: 1530, fat: true}, false, none,
			Volume{Free: 512, Files: -1, MaxSize: 1<<32 - 1, MaxName: 1530}},
		{"vfat under ulimit -f", counts{blockSize: 512, blocks: 100, free: 1, available: 1, fat: true}, false, 1 << 20,
			Volume{Free: 512, Files: -1, MaxSize: 1 << 20, MaxName: 255}},
		{"huge", counts{blockSize: 1 << 20, blocks: math.MaxUint64, free: math.MaxUint64, available: math.MaxUint64, files: math.MaxUint64, freeFiles: math.MaxUint64, maxName: math.MaxUint64},
			false, none, Volume{Free: none, Files: none, MaxSize: none, MaxName: math.MaxInt32}},
	} {
		if got := test.counts.volume(test.root, test.limit); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

// TestMountIDs checks that the two ways to identify a mount agree.
func TestMountIDs(t *testing.T) {
	for _, name := range []string{"/", "/proc", "/dev", t.TempDir()} {
		a, ok := mountID(unix.AT_FDCWD, name)
		b, okB := procMountID(unix.AT_FDCWD, name)
		if a != b || ok != okB || !ok {
			t.Errorf("%s: %d %t, %d %t", name, a, ok, b, okB)
		}
	}
	if _, ok := procMountID(unix.AT_FDCWD, "/none"); ok {
		t.Error("a mount of nothing")
	}
}

// TestResolveOthersLinks checks the same as TestResolveStickyOwners for users other than root: owners and modes are
// simulated.
func TestResolveOthersLinks(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(top, "tmp"), 0o755), os.Mkdir(filepath.Join(top, "dir"), 0o755),
		os.Symlink("../dir/file", filepath.Join(top, "tmp", "link")), os.Symlink("tmp/link", filepath.Join(top, "way"))); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		link, folder, user uint32
		mode               fs.FileMode
		followed           bool
	}{
		{1001, 0, 1000, 0o777 | fs.ModeSticky, false}, {1000, 0, 1000, 0o777 | fs.ModeSticky, true}, {0, 0, 1000, 0o777 | fs.ModeSticky, true},
		{1001, 0, 0, 0o777 | fs.ModeSticky, false}, {1001, 0, 1000, 0o777, true}, {1001, 0, 1000, 0o775 | fs.ModeSticky, true},
		{1001, 1001, 1000, 0o777 | fs.ModeSticky, true}, {1001, 1002, 1000, 0o1777&0o777 | fs.ModeSticky, false},
	} {
		w := osWalker().as(test.user)
		w.lstat = func(name string) (fs.FileInfo, error) {
			fi, err := os.Lstat(name)
			if err != nil {
				return nil, err
			}
			switch name {
			case filepath.Join(top, "tmp"):
				fi = madeUp{fi, fs.ModeDir | test.mode, test.folder}
			case filepath.Join(top, "tmp", "link"):
				fi = madeUp{fi, fi.Mode(), test.link}
			}
			return fi, nil
		}
		for _, name := range []string{"tmp/link", "way"} {
			got, err := w.resolve(filepath.Join(top, name))
			if test.followed && (err != nil || got != filepath.Join(top, "dir", "file")) {
				t.Errorf("%+v: %s, %v", test, got, err)
			}
			if !test.followed && (!errors.Is(err, ErrForeignLink) || !errors.Is(err, fs.ErrPermission)) {
				t.Errorf("%+v: %s, %v", test, got, err)
			}
		}
	}
}

type madeUp struct {
	fs.FileInfo
	mode fs.FileMode
	uid  uint32
}

func (m madeUp) Mode() fs.FileMode { return m.mode }

func (m madeUp) Sys() any { return &syscall.Stat_t{Uid: m.uid} }

// TestCountsOf checks that FAT is recognized by its number, and that a fragment size that is missing, as on old kernels, is not
// taken for zero.
func TestCountsOf(t *testing.T) {
	fat := countsOf(&unix.Statfs_t{Type: unix.MSDOS_SUPER_MAGIC, Bsize: 512, Blocks: 10, Bfree: 3, Bavail: 2, Namelen: 1530})
	if want := (counts{blockSize: 512, blocks: 10, free: 3, available: 2, maxName: 1530, fat: true}); fat != want {
		t.Errorf("vfat: %+v, want %+v", fat, want)
	}
	ext := countsOf(&unix.Statfs_t{Type: unix.EXT4_SUPER_MAGIC, Bsize: 4096, Frsize: 1024, Files: 5, Ffree: 4})
	if want := (counts{blockSize: 1024, files: 5, freeFiles: 4}); ext != want {
		t.Errorf("ext4: %+v, want %+v", ext, want)
	}
}
