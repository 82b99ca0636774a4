package machine_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

// The users and the group of a shared cache.
const (
	userA, userB, userC = "1001", "1002", "1003"
	sharedGroup         = 2000
)

// sharedCache is a folder of root that a group shares (mode 2775), as CI caches are, and a server with an object for it.
type sharedCache struct {
	t       *testing.T
	s       *osstest.Server
	content osstest.Content
	path    string
}

func newSharedCache(t *testing.T) *sharedCache {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can be two users")
	}
	harness.Tried.Add("cases from the field", 1)
	dir := filepath.Join(openFolder(t), "cache")
	if err := errors.Join(os.Mkdir(dir, 0o775), os.Chown(dir, 0, sharedGroup), os.Chmod(dir, 0o775|fs.ModeSetgid)); err != nil {
		t.Fatal(err)
	}
	c := &sharedCache{t: t, s: harness.NewServer(t), content: osstest.Random(1, 8<<20), path: filepath.Join(dir, "file")}
	c.s.Put("bkt", "k", c.content)
	return c
}

// as is the job of a process of this user, in the group.
func as(user string, job ...string) []string {
	return append([]string{"limit", "group", "2000", "limit", "user", user}, job...)
}

// download downloads as a user, and returns what the process said if it failed.
func (c *sharedCache) download(user string) (said string, ok bool) {
	c.t.Helper()
	var out bytes.Buffer
	cmd := newChild(c.t, c.s, as(user, "download", c.path, "k")...)
	cmd.Stderr = &out
	err := cmd.Run()
	return out.String(), err == nil
}

// kill has a user's download killed while its first body is arriving.
func (c *sharedCache) kill(user string) {
	c.t.Helper()
	c.s.ResetLog()
	open := make(chan struct{})
	c.s.OnRequest(func(*osstest.Request) *osstest.Fault { return osstest.Inject().Gate(64<<10, open) })
	cmd := startChild(c.t, c.s, as(user, "download", c.path, "k")...)
	harness.WaitFor(c.t, c.s, func() bool { return c.s.Stats().Sent >= 64<<10 })
	if err := cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	c.s.ClearFaults()
	close(open)
	harness.Tried.Add("processes killed", 1)
}

// is checks whose a file or folder is, and its mode.
func (c *sharedCache) is(name, user string, mode fs.FileMode) {
	c.t.Helper()
	fi, err := os.Lstat(name)
	if err != nil {
		c.t.Error(err)
		return
	}
	st := fi.Sys().(*syscall.Stat_t)
	if got := map[string]uint32{userA: 1001, userB: 1002, userC: 1003}[user]; st.Uid != got || st.Gid != sharedGroup {
		c.t.Errorf("%s belongs to %d:%d, want %d:%d", name, st.Uid, st.Gid, got, sharedGroup)
	}
	if fi.Mode().Perm() != mode {
		c.t.Errorf("%s has mode %v, want %v", name, fi.Mode(), mode)
	}
}

// TestSharedCache checks that a download in a shared folder works although another user's was killed there, and that what is in
// the way is named with its owner where it does not.
func TestSharedCache(t *testing.T) {
	c := newSharedCache(t)
	c.kill(userA)
	if said, ok := c.download(userB); !ok {
		t.Fatalf("B after A was killed: %s", said)
	}
	// The mode is that of every new file, and the group is that of the folder.
	c.is(c.path, userB, 0o666&^umask())
	c.is(c.path+harness.FolderSuffix, userA, 0o777&^umask())

	// A's next run meets B's file, which A may not write.
	if said, ok := c.download(userA); ok || !strings.Contains(said, c.path+" belongs to user 1002") {
		t.Errorf("A, with B's file in the way: %t, %q", ok, said)
	}
	// Once B lets the group write, A replaces the file, and the folder that A was killed in goes.
	if err := os.Chmod(c.path, 0o664); err != nil {
		t.Fatal(err)
	}
	if said, ok := c.download(userA); !ok {
		t.Errorf("A: %s", said)
	}
	c.is(c.path, userA, 0o664&^umask())
	harness.CheckFile(t, c.path, c.content)
}

// TestSharedCacheBothNamesTaken checks that the error names both working folders and their owners, before any request.
func TestSharedCacheBothNamesTaken(t *testing.T) {
	c := newSharedCache(t)
	c.kill(userA)
	c.kill(userB)
	c.s.ResetLog()
	said, ok := c.download(userC)
	for _, want := range []string{c.path + harness.FolderSuffix, harness.OtherFolder(c.path), "user 1001", "user 1002"} {
		if ok || !strings.Contains(said, want) {
			t.Errorf("%t, %q; want it to name %s", ok, said, want)
		}
	}
	if n := len(c.s.Requests()); n != 0 {
		t.Errorf("%d requests were made", n)
	}
	for _, user := range []string{userA, userB} { // whose own downloads go on
		if said, ok := c.download(user); !ok {
			t.Errorf("user %s: %s", user, said)
		}
		if err := os.Remove(c.path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSharedCacheModes checks that a file that is replaced is not open to more people than before, and keeps its group.
func TestSharedCacheModes(t *testing.T) {
	for _, mode := range []fs.FileMode{0o600, 0o640, 0o750, 0o664} {
		c := newSharedCache(t)
		harness.WriteFile(t, c.path, "old")
		if err := errors.Join(os.Chown(c.path, 1001, sharedGroup), os.Chmod(c.path, mode)); err != nil {
			t.Fatal(err)
		}
		if said, ok := c.download(userA); !ok {
			t.Fatal(said)
		}
		c.is(c.path, userA, mode&(0o666&^umask())|mode&0o111)
		harness.CheckFile(t, c.path, c.content)
	}
}

// umask returns that of this process, which its children have, too.
func umask() fs.FileMode {
	mask := syscall.Umask(0)
	syscall.Umask(mask)
	return fs.FileMode(mask)
}
