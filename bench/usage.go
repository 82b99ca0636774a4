package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
)

// peakMemory is the most memory that the process has had resident, in bytes; 0 if the system does not report it.
// It is not ru_maxrss: a child inherits that from the process that started it.
func peakMemory(pid int) int64 { return procValue(pid, "status", "VmHWM:") << 10 }

// written is the bytes that the process has given to write calls, to sockets as well as to files; 0 if the system
// does not report it.
func written(pid int) int64 { return procValue(pid, "io", "wchar:") }

// procValue is the number after name in /proc/PID/FILE, or 0.
func procValue(pid int, file, name string) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			fields := bytes.Fields(rest)
			if len(fields) == 0 {
				return 0
			}
			n, err := strconv.ParseInt(string(fields[0]), 10, 64)
			if err != nil {
				return 0
			}
			return n
		}
	}
	return 0
}
