package machine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// mountsEnv is set in the process that mounts file systems.
const mountsEnv = "OSSDL_TEST_MOUNTS"

// mountsTime limits that process.
const mountsTime = 5 * time.Minute

// realFS is a file system that can be mounted, if the machine has what it takes.
type realFS struct {
	name  string
	size  int64    // of the image; 0: it has none
	mkfs  []string // makes one in the image, whose name is the last argument
	mount func(t *testing.T, image, dir string)
	folds bool // it is case-insensitive
}

var realFileSystems = []realFS{
	{name: "tmpfs", mount: func(t *testing.T, _, dir string) { mountAt(t, "tmpfs", dir, "tmpfs", 0, "size=32m") }},
	{name: "bind", mount: func(t *testing.T, _, dir string) { mountAt(t, t.TempDir(), dir, "", unix.MS_BIND, "") }},
	{name: "ext4", size: 32 << 20, mkfs: []string{"mkfs.ext4", "-q", "-F"}, mount: mountLoop("ext4", "")},
	{name: "xfs", size: 320 << 20, mkfs: []string{"mkfs.xfs", "-q", "-f"}, mount: mountLoop("xfs", "")},
	{name: "btrfs", size: 128 << 20, mkfs: []string{"mkfs.btrfs", "-q"}, mount: mountLoop("btrfs", "")},
	{name: "vfat", size: 64 << 20, mkfs: []string{"mkfs.vfat"}, mount: mountLoop("vfat", "utf8=1"), folds: true},
	{name: "exfat", size: 64 << 20, mkfs: []string{"mkfs.exfat"}, mount: mountLoop("exfat", "iocharset=utf8"), folds: true},
	{name: "exfat-fuse", size: 64 << 20, mkfs: []string{"mkfs.exfat"}, mount: mountFUSELoop("mount.exfat-fuse", "-d"), folds: true},
	{name: "ntfs-3g", size: 64 << 20, mkfs: []string{"mkfs.ntfs", "-q", "-F"}, mount: mountFUSE("ntfs-3g", "-o", "no_detach")},
	{name: "bindfs", mount: func(t *testing.T, _, dir string) { mountFUSE("bindfs", "-f")(t, t.TempDir(), dir) }},
}

// TestRealFileSystems checks, on each file system that this machine can mount, that a download is killed and resumed, that a
// prefix is fetched once, that names that are one fail by name, that long names work, and that a target that nothing can be
// renamed over is refused before a request.
//
// The file systems are mounted by another process, in namespaces of its own. So nothing of them is left, whatever happens.
func TestRealFileSystems(t *testing.T) {
	if os.Getenv(mountsEnv) == "" {
		for _, f := range realFileSystems { // those that are not tried have a count, too
			harness.Tried.Add(f.what(), 0)
		}
		inNamespaces(t)
		return
	}
	for _, f := range realFileSystems {
		t.Run(f.name, func(t *testing.T) {
			dir := f.mounted(t)
			f.killed(t, filepath.Join(dir, "killed"))
			f.resumed(t, filepath.Join(dir, "resumed"))
			f.prefixTwice(t, filepath.Join(dir, "twice"))
			f.spellings(t, filepath.Join(dir, "spellings"))
			f.spellingsOfAList(t, filepath.Join(dir, "list"))
			f.longNames(t, filepath.Join(dir, "long"))
			f.mountsBelow(t, filepath.Join(dir, "below"))
			harness.Tried.Add("real file systems", 1)
			harness.Tried.Add(f.what(), 1)
		})
	}
}

// what is what the file system is counted as.
func (f realFS) what() string { return "real file system " + f.name }

// inNamespaces runs this test in a process with namespaces of its own, and reports what it says.
func inNamespaces(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may mount file systems")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), mountsTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout="+mountsTime.String())
	cmd.Env = append(os.Environ(), mountsEnv+"=1")
	// Once the first process of the second namespace has ended the system ends all others in it, such as those that serve file
	// systems in user space.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	switch err := cmd.Run(); {
	case errors.Is(err, syscall.EPERM):
		t.Skip("no namespaces: ", err)
	case err != nil:
		t.Errorf("%v\n%s", err, &out)
	default:
		for line := range strings.Lines(out.String()) {
			if strings.Contains(line, "--- ") || strings.Contains(line, "SKIP") || strings.Contains(line, "_linux_test.go") {
				t.Log(strings.TrimRight(line, "\n"))
			}
		}
	}
}

// mounted returns an empty folder of the file system.
func (f realFS) mounted(t *testing.T) string {
	t.Helper()
	image, dir := "", t.TempDir()
	if f.size > 0 {
		image = filepath.Join(t.TempDir(), "image")
		harness.WriteFile(t, image, "")
		harness.Truncate(t, image, f.size)
		mkfs := toolOrSkip(t, f.mkfs[0])
		if out, err := exec.CommandContext(t.Context(), mkfs, append(f.mkfs[1:], image)...).CombinedOutput(); err != nil {
			t.Skipf("%s: %v\n%s", f.mkfs[0], err, out)
		}
	}
	f.mount(t, image, dir)
	return dir
}

// toolOrSkip finds a program that only root has in its path.
func toolOrSkip(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	t.Skip("there is no ", name)
	return ""
}

// mountAt mounts a file system until the test ends.
func mountAt(t *testing.T, source, dir, kind string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, dir, kind, flags, data); err != nil {
		t.Skipf("mount %s: %v", kind, err)
	}
	unmountAtEnd(t, dir)
}

func unmountAtEnd(t *testing.T, dir string) {
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
}

// mountLoop returns a function that mounts an image by a loop device, which the system frees with the mount.
func mountLoop(kind, data string) func(t *testing.T, image, dir string) {
	return func(t *testing.T, image, dir string) {
		t.Helper()
		device := loopDevice(t, image)
		defer device.Close()
		mountAt(t, device.Name(), dir, kind, 0, data)
	}
}

// loopDevice returns a loop device with the image, which the system frees once nobody uses it.
func loopDevice(t *testing.T, image string) *os.File {
	t.Helper()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer control.Close()
	file, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for range 10 { // another process may take the device that was free
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Skip("no free loop device: ", err)
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			t.Skip(err)
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) {
			t.Skip("loop device: ", err)
		}
	}
	t.Skip("all loop devices are taken at once by others")
	return nil
}

// mountFUSELoop is mountFUSE for a program that takes nothing but devices.
func mountFUSELoop(name string, args ...string) func(t *testing.T, image, dir string) {
	return func(t *testing.T, image, dir string) {
		t.Helper()
		device := loopDevice(t, image)
		defer device.Close()
		mountFUSE(name, args...)(t, device.Name(), dir)
	}
}

// mountFUSE returns a function that has a program, which stays in the foreground, serve a file system.
func mountFUSE(name string, args ...string) func(t *testing.T, source, dir string) {
	return func(t *testing.T, source, dir string) {
		t.Helper()
		if _, err := os.Stat("/dev/fuse"); err != nil {
			t.Skip(err)
		}
		tool := toolOrSkip(t, name)
		var before, now unix.Stat_t
		if err := unix.Stat(dir, &before); err != nil {
			t.Fatal(err)
		}
		server := exec.Command(tool, append(slices.Clone(args), source, dir)...)
		var out bytes.Buffer
		server.Stderr = &out
		if err := server.Start(); err != nil {
			t.Skip(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- server.Wait() }()
		for { // it says to nobody that it is ready
			if err := unix.Stat(dir, &now); err == nil && now.Dev != before.Dev {
				break
			}
			select {
			case err := <-ended:
				t.Skipf("%s: %v\n%s", name, err, &out)
			case <-t.Context().Done():
				t.Fatal("not mounted in time")
			case <-time.After(5 * time.Millisecond):
			}
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir, 0); err != nil {
				t.Errorf("unmount %s: %v", dir, errors.Join(err, unix.Unmount(dir, unix.MNT_DETACH), server.Process.Kill()))
			}
			<-ended
		})
	}
}

// killed kills a process in the middle of a download and of a prefix. The next call makes it whole.
func (f realFS) killed(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 10, "sub/b": 5000, "large": 3 << 20})
	path, tree := filepath.Join(dir, "file"), filepath.Join(dir, "tree")
	for _, job := range [][]string{{"download", path, "large"}, {"prefix", tree}} {
		came := make(chan struct{})
		s.Once(func(r *osstest.Request) bool { return r.Key == "large" }, osstest.Inject().At(1<<20, func() { close(came) }).Gate(1<<20, nil))
		p := startChild(t, s, job...)
		<-came
		if err := p.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); err == nil {
			t.Fatal("the process was not killed")
		}
		s.ClearFaults()
	}
	d := harness.NewDownloader(t, s)
	if _, err := d.Download(t.Context(), "bkt", "large", path); err != nil {
		t.Fatal(err)
	}
	if _, err := d.DownloadPrefix(t.Context(), "bkt", "", tree); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, all["large"])
	harness.CheckTree(t, tree, all)
}

// resumed interrupts a download and a prefix before their last request. The next call makes only that.
func (f realFS) resumed(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	const part, size = 256 << 10, 8 * 256 << 10
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"large": size})
	path, tree := filepath.Join(dir, "file"), filepath.Join(dir, "tree")
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(part), ossdl.WithConcurrency(1))
	for name, call := range map[string]func(context.Context) error{
		"Download": func(ctx context.Context) error {
			_, err := d.Download(ctx, "bkt", "large", path)
			return err
		},
		"DownloadPrefix": func(ctx context.Context) error {
			_, err := d.DownloadPrefix(ctx, "bkt", "", tree)
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		s.Nth(7, osstest.Inject().Before(cancel).HoldHeaders(nil))
		err := call(ctx)
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("%s: %v, want that it is interrupted", name, err)
		}
		s.ResetLog()
		if err := call(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := objectRequests(s); len(got) > 2 { // the first continues what had come, and a connection may have been closed
			t.Errorf("%s: %d requests came again", name, len(got))
		}
	}
	harness.CheckFile(t, path, all["large"])
	harness.CheckTree(t, tree, all)
}

// prefixTwice downloads a prefix twice. The second time nothing is fetched, however the file system keeps times.
func (f realFS) prefixTwice(t *testing.T, dir string) {
	t.Helper()
	s := harness.NewServer(t)
	all := harness.Contents{}
	for i, key := range []string{"even", "odd", "sub/even", "sub/odd", "sub/deep/empty"} {
		all[key] = osstest.Random(uint64(i), int64(4-i)*1000)
		s.Put("bkt", key, all[key], osstest.LastModified(time.Unix(1_600_000_000+int64(i), 0)))
	}
	d := harness.NewDownloader(t, s)
	res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, len(all), 0, 0)
	s.ResetLog()
	res, err = d.DownloadPrefix(t.Context(), "bkt", "", dir)
	harness.CheckCounts(t, res, err, 0, len(all), 0)
	for _, line := range objectRequests(s) {
		if strings.HasPrefix(line, "GET") {
			t.Errorf("%s: fetched again", line)
		}
	}
	harness.CheckTree(t, dir, all)
}

// spellingsOfAList downloads a list of items that are one file on some file systems, into a folder that shows nothing of itself.
// There the second fails by its name.
func (f realFS) spellingsOfAList(t *testing.T, dir string) {
	t.Helper()
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"A.txt": 10, "a.txt": 20, "Dir/x": 30, "dir/x": 40, "z": 50})
	at := func(key string) string { return filepath.Join(dir, filepath.FromSlash(key)) }
	var items []ossdl.Item
	for _, key := range slices.Sorted(maps.Keys(all)) {
		items = append(items, ossdl.Item{Source: "oss://bkt/" + key, Path: at(key)})
	}
	failed := 0
	if f.folds {
		failed = 2
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	res, err := harness.NewDownloader(t, s, ossdl.WithMkdirAll()).DownloadAll(t.Context(), harness.Items(items...))
	harness.CheckCounts(t, res, err, len(all)-failed, 0, failed)
	for _, f := range res.Failures {
		if !strings.Contains(f.Err.Error(), "earlier item") {
			t.Error(f)
		}
		delete(all, strings.TrimPrefix(f.Key, "oss://bkt/"))
	}
	for key, content := range all {
		harness.CheckFile(t, at(key), content)
	}
}

// spellings downloads keys that are one file on some file systems. There the second fails by its name, each time.
func (f realFS) spellings(t *testing.T, dir string) {
	t.Helper()
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"A.txt": 10, "a.txt": 20, "Dir/x": 30, "dir/x": 40, "z": 50})
	failed := 0
	if f.folds {
		failed = 2
	}
	d := harness.NewDownloader(t, s)
	for range 2 {
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
		if res == nil || res.Failed != failed || res.Done+res.Skipped != len(all)-failed {
			t.Fatalf("%+v, %v; want %d that fail", res, err, failed)
		}
		for _, f := range res.Failures {
			if !strings.Contains(f.Err.Error(), "another key") {
				t.Error(f)
			}
			delete(all, f.Key)
		}
		if len(all) != 5-failed {
			t.Errorf("left are %d", len(all))
		}
		for key, content := range all {
			harness.CheckFile(t, filepath.Join(dir, filepath.FromSlash(key)), content)
		}
		all = harness.Put(s, map[string]int64{"A.txt": 10, "a.txt": 20, "Dir/x": 30, "dir/x": 40, "z": 50})
	}
}

// longNames downloads to names as long as there can be, and longer.
func (f realFS) longNames(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	s := harness.NewServer(t)
	c := osstest.Random(1, 1000)
	s.Put("bkt", "key", c)
	d := harness.NewDownloader(t, s)
	v, err := fsys.OS().Volume(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("names of up to %d bytes", v.MaxName)
	var names []string
	for n := 246; n <= 255; n++ {
		names = append(names, strings.Repeat("n", n))
	}
	names = append(names, strings.Repeat("网", 85))
	for _, name := range names {
		path := filepath.Join(dir, name)
		if _, err := d.Download(t.Context(), "bkt", "key", path); err != nil {
			t.Fatalf("%d bytes: %v", len(name), err)
		}
		harness.CheckFile(t, path, c)
	}
	s.ResetLog()
	_, err = d.Download(t.Context(), "bkt", "key", filepath.Join(dir, strings.Repeat("n", v.MaxName+1)))
	if n := len(s.Requests()); !errors.Is(err, syscall.ENAMETOOLONG) || n > 0 {
		t.Errorf("%d bytes: %v, %d requests", v.MaxName+1, err, n)
	}
}

// mountsBelow downloads below mounts, and to a file that is one.
func (f realFS) mountsBelow(t *testing.T, dir string) {
	t.Helper()
	s := harness.NewServer(t)
	all := harness.Put(s, map[string]int64{"a": 10, "sub/b": 20, "sub/deep/c": 300 << 10, "twice/d": 30, "target": 40})
	at := func(name string) string { return filepath.Join(dir, filepath.FromSlash(name)) }
	for _, name := range []string{"sub", "twice", "elsewhere"} {
		if err := os.MkdirAll(at(name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	harness.WriteFile(t, at("target"), "old")
	harness.WriteFile(t, at("elsewhere/file"), "mounted")
	for name, mount := range map[string]func() error{
		"sub":    func() error { return unix.Mount("tmpfs", at("sub"), "tmpfs", 0, "size=4m") },
		"twice":  func() error { return unix.Mount(at("elsewhere"), at("twice"), "", unix.MS_BIND, "") },
		"target": func() error { return unix.Mount(at("elsewhere/file"), at("target"), "", unix.MS_BIND, "") },
	} {
		if err := mount(); err != nil {
			t.Fatal(name, err)
		}
		unmountAtEnd(t, at(name))
	}
	d := harness.NewDownloader(t, s, ossdl.WithPartSize(64<<10))
	for run := range 2 {
		s.ResetLog()
		res, err := d.DownloadPrefix(t.Context(), "bkt", "", dir)
		harness.CheckCounts(t, res, err, (len(all)-1)*(1-run), (len(all)-1)*run, 1)
		if !errors.Is(err, syscall.EBUSY) || res.Failures[0].Key != "target" {
			t.Error(err)
		}
		for _, line := range objectRequests(s) {
			if run > 0 && strings.HasPrefix(line, "GET") || line == "GET target" {
				t.Error(line)
			}
		}
	}
	s.ResetLog()
	if _, err := d.Download(t.Context(), "bkt", "target", at("target")); !errors.Is(err, syscall.EBUSY) || len(s.Requests()) > 0 {
		t.Errorf("%v, %d requests", err, len(s.Requests()))
	}
	for key, content := range all {
		if key != "target" {
			harness.CheckFile(t, at(key), content)
		}
	}
	for _, name := range []string{harness.WorkDir, "sub/" + harness.WorkDir, "twice/" + harness.WorkDir} {
		if harness.Exists(at(name)) {
			t.Errorf("%s is left", name)
		}
	}
	if b, err := os.ReadFile(at("elsewhere/file")); string(b) != "mounted" {
		t.Errorf("%q, %v", b, err)
	}
}
