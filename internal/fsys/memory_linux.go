package fsys

import (
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Memory is how many bytes of memory this process may use together with the page cache that is charged to it: those of the
// machine, or fewer by the limits of its control groups, as in a container. math.MaxInt64 if that is not known.
func Memory() int64 {
	limit := int64(math.MaxInt64)
	var machine unix.Sysinfo_t
	if unix.Sysinfo(&machine) == nil {
		limit = product(uint64(machine.Totalram), uint64(machine.Unit))
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return limit
	}
	for _, name := range memoryLimits(string(groups)) {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // of a group above the root of the container
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil { // or it is "max"
			limit = min(limit, n)
		}
	}
	return limit
}

// memoryLimits returns the files that may hold the memory limits of the control groups that /proc/self/cgroup lists, and of
// the groups that these are in.
func memoryLimits(groups string) (names []string) {
	for line := range strings.Lines(groups) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3) // number, controllers, path
		if len(fields) < 3 {
			continue
		}
		root, file := "/sys/fs/cgroup", "memory.max" // version 2
		if fields[1] != "" {
			if !slices.Contains(strings.Split(fields[1], ","), "memory") {
				continue
			}
			root, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		for group := path.Clean("/" + fields[2]); ; group = path.Dir(group) {
			names = append(names, path.Join(root, group, file))
			if group == "/" {
				break
			}
		}
	}
	return names
}
