//go:build unix && !linux

package fsys

// mountsFiles: only folders can be mount points.
const mountsFiles = false

// mountID: the device distinguishes mounts here.
func mountID(int, string) (uint64, bool) { return 0, false }
