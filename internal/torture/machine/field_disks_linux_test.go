package machine_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl"
	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// mountedAt is mountAt, and counts a case.
func mountedAt(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	mountAt(t, source, target, kind, flags, data)
	harness.Tried.Add("cases from the field", 1)
}

// TestRamfs checks that a file system which has no idea of its size is written to.
func TestRamfs(t *testing.T) {
	dir := t.TempDir()
	mountedAt(t, "ramfs", dir, "ramfs", 0, "")
	s := harness.NewServer(t)
	content := osstest.Random(1, 3<<20)
	s.Put("bkt", "k", content)
	path := filepath.Join(dir, "file")
	if _, err := harness.NewDownloader(t, s).Download(t.Context(), "bkt", "k", path); err != nil {
		t.Fatal(err)
	}
	harness.CheckFile(t, path, content)
	harness.Put(s, map[string]int64{"p/a": 1 << 20, "p/b/c": 10})
	res, err := harness.NewDownloader(t, s).DownloadPrefix(t.Context(), "bkt", "p/", filepath.Join(dir, "below"))
	harness.CheckCounts(t, res, err, 2, 0, 0)
}

// TestNoInodes checks that a disk with room and without inodes says so.
func TestNoInodes(t *testing.T) {
	dir := t.TempDir()
	mountedAt(t, "tmpfs", dir, "tmpfs", 0, "size=64m,nr_inodes=3") // the folder, the working folder, the lock file
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 3<<20))
	_, err := harness.NewDownloader(t, s).Download(t.Context(), "bkt", "k", filepath.Join(dir, "file"))
	if !errors.Is(err, ossdl.ErrNoSpace) || !strings.Contains(err.Error(), "the inodes are used up") {
		t.Error(err)
	}
}

// TestPathIsAMount checks that a path that is a mount point of its own is found before any request, by every way to a file.
func TestPathIsAMount(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "k"), filepath.Join(dir, "other")
	harness.WriteFile(t, path, "old")
	harness.WriteFile(t, other, "mounted")
	mountedAt(t, other, path, "", syscall.MS_BIND, "")
	s := harness.NewServer(t)
	s.CreateBucket("public", osstest.PublicRead())
	content := osstest.Random(1, 1<<20)
	s.Put("bkt", "k", content)
	s.Put("public", "k", content)
	d := harness.NewDownloader(t, s)
	_, err := d.Download(t.Context(), "bkt", "k", path)
	_, urlErr := d.DownloadURL(t.Context(), s.URL("public", "k"), path)
	for _, err := range []error{err, urlErr} {
		if !errors.Is(err, syscall.EBUSY) || !strings.Contains(err.Error(), path) {
			t.Error(err)
		}
	}
	if n := len(s.Requests()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
	if _, err := d.DownloadPrefix(t.Context(), "bkt", "", dir); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("a prefix: %v", err)
	}
	if n := harness.Fetched(s); n > 64<<10 { // a listing
		t.Errorf("%d bytes were fetched", n)
	}
	if got, err := os.ReadFile(path); string(got) != "mounted" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestFileSizeLimitIsKnown checks that a limit of the process is found before the first byte, and that the error has its figures.
func TestFileSizeLimitIsKnown(t *testing.T) {
	harness.Tried.Add("cases from the field", 1)
	s := harness.NewServer(t)
	s.Put("bkt", "k", osstest.Random(1, 64<<20))
	path := filepath.Join(t.TempDir(), "k")
	var said bytes.Buffer
	cmd := newChild(t, s, "limit", "file size", strconv.Itoa(2<<20), "download", path, "k")
	cmd.Stderr = &said
	if err := cmd.Run(); err == nil || !strings.Contains(said.String(), "67108864 bytes, and at most 2097152") {
		t.Errorf("%v, %q", err, said.String())
	}
	if harness.Exists(path) {
		t.Error("something is at the path")
	}
	harness.NoLeftovers(t, path)
}

// TestDropBox checks that a folder that may be written to and not read takes a file: its sync fails, which is a warning.
func TestDropBox(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be another user")
	}
	harness.Tried.Add("cases from the field", 1)
	s := harness.NewServer(t)
	content := osstest.Random(1, 1<<20)
	s.Put("bkt", "k", content)
	dir := filepath.Join(openFolder(t), "box")
	if err := errors.Join(os.Mkdir(dir, 0o733), os.Chmod(dir, 0o733)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "file")
	for range 2 { // a new file, and one that is replaced
		if err := newChild(t, s, asNobody("download", path, "k")...).Run(); err != nil {
			t.Fatal(err)
		}
		harness.CheckFile(t, path, content)
	}
}

// openFolder is a new folder that every user can reach.
func openFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
