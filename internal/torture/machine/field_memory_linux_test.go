package machine_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ossdl/ossdl/internal/harness"
	"github.com/ossdl/ossdl/internal/osstest"
)

const (
	// groupEnv names the control group in the process that mounts file systems.
	groupEnv = "OSSDL_TEST_GROUP"
	// slowDisks has the bytes per second that disks may take, in version 1 of control groups.
	slowDisks = "/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device"
)

// TestLittleMemorySlowDisk checks that downloads of several times the memory of a container, onto a disk that is much slower than
// the network, are not ended by the system for want of memory, and hold back about half of it at most: one large file,
// and many small ones at once.
func TestLittleMemorySlowDisk(t *testing.T) {
	const memory, disk = 192 << 20, 96 << 20 // the disk takes so much in a second
	if os.Getenv(mountsEnv) == "" {
		// Here, so that they are gone even if the other process does not end well.
		t.Setenv(groupEnv, memoryGroup(t, memory))
		endSlowDisks(t)
		inNamespaces(t)
		return
	}
	group := os.Getenv(groupEnv)
	small := map[string]osstest.Content{}
	for i := range 40 {
		small[fmt.Sprintf("small/%d", i)] = osstest.Random(uint64(i), 12<<20)
	}
	for _, c := range []struct {
		name string
		job  []string
		want map[string]osstest.Content
	}{
		{"one large file", []string{"download", "DIR/large", "large"}, map[string]osstest.Content{"large": osstest.Random(1, 5*memory/2)}},
		{"many small files", []string{"prefix", "DIR"}, small},
	} {
		if testing.Short() && len(c.want) == 1 {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			s := harness.NewServer(t)
			for key, content := range c.want {
				s.Put("bkt", key, content)
			}
			dir := slowDiskAt(t, group, disk)
			job := []string{"group", group}
			for _, arg := range c.job {
				job = append(job, strings.Replace(arg, "DIR", dir, 1))
			}
			var said bytes.Buffer
			cmd := newChild(t, s, job...)
			cmd.Stderr = &said
			most, err := unwritten(group, cmd.Run)
			if err != nil {
				t.Fatalf("%v: %s", err, &said)
			}
			t.Logf("up to %d MiB of %d were still to be written", most>>20, memory>>20)
			if most == 0 || most > memory*5/8 {
				t.Errorf("%d bytes were still to be written at a time, want up to %d", most, memory*5/8)
			}
			for name, content := range c.want {
				harness.CheckFile(t, filepath.Join(dir, name), content)
			}
			harness.Tried.Add("cases from the field", 1)
		})
	}
}

// slowDiskAt returns an empty folder of a disk that takes so many bytes per second: by the root group in version 1 of control groups,
// to which all that is written back belongs, and by the group that wrote them in version 2.
func slowDiskAt(t *testing.T, group string, bytesPerSecond int) string {
	t.Helper()
	dir := realFS{name: "ext4", size: 2 << 30, mkfs: []string{"mkfs.ext4", "-q", "-F"}, mount: mountLoop("ext4", "")}.mounted(t)
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	device := fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
	err := os.WriteFile(filepath.Join(group, "io.max"), fmt.Appendf(nil, "%s wbps=%d", device, bytesPerSecond), 0)
	if err == nil {
		return dir
	}
	if v1 := os.WriteFile(slowDisks, fmt.Appendf(nil, "%s %d", device, bytesPerSecond), 0); v1 != nil {
		t.Skip("a disk cannot be made slow here: ", errors.Join(err, v1))
	}
	return dir
}

// endSlowDisks makes the disks fast again, at the end, that the test has made slow.
func endSlowDisks(t *testing.T) {
	before, err := os.ReadFile(slowDisks)
	if err != nil {
		return // there are none
	}
	t.Cleanup(func() {
		now, err := os.ReadFile(slowDisks)
		for line := range strings.Lines(string(now)) {
			if device, _, _ := strings.Cut(line, " "); !strings.Contains(string(before), line) {
				err = errors.Join(err, os.WriteFile(slowDisks, []byte(device+" 0"), 0))
			}
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// memoryGroup makes a control group, of either version, with a limit for its memory. Processes may join it until the test ends.
func memoryGroup(t *testing.T, limit int64) string {
	t.Helper()
	var reasons []error
	for root, file := range map[string]string{"/sys/fs/cgroup/memory": "memory.limit_in_bytes", "/sys/fs/cgroup": "memory.max"} {
		group := filepath.Join(root, "ossdl-test-"+rand.Text())
		if err := os.Mkdir(group, 0o755); err != nil {
			reasons = append(reasons, err)
			continue
		}
		if _, err := os.Stat(filepath.Join(group, file)); err == nil {
			err = os.WriteFile(filepath.Join(group, file), strconv.AppendInt(nil, limit, 10), 0)
			if err == nil {
				t.Cleanup(func() {
					if err := os.Remove(group); err != nil {
						t.Error(err)
					}
				})
				return group
			}
			reasons = append(reasons, err)
		}
		reasons = append(reasons, os.Remove(group))
	}
	t.Skip("no control group with a limit for memory: ", errors.Join(reasons...))
	return ""
}

// unwritten runs a job, and returns the most bytes seen in the page cache of the group that were not on the disk yet.
func unwritten(group string, run func() error) (most int64, err error) {
	ended := make(chan error)
	go func() { ended <- run() }()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			return most, err
		case <-look.C:
		}
		stat, err := os.ReadFile(filepath.Join(group, "memory.stat"))
		if err != nil {
			return most, errors.Join(err, <-ended)
		}
		sum := int64(0)
		for line := range strings.Lines(string(stat)) {
			var name string
			var n int64
			if _, err := fmt.Sscan(line, &name, &n); err != nil {
				continue
			}
			if name = strings.TrimPrefix(name, "file_"); name == "dirty" || name == "writeback" {
				sum += n
			}
		}
		most = max(most, sum)
	}
}

// joinGroup moves this process to a control group.
func joinGroup(group string) error {
	return os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0)
}
