//go:build unix && !linux

package fsys

// mountsFiles: only folders can be mount points.
const mountsFiles = false

// groupsInherited: files get the group of their folder.
const groupsInherited = true

// pathOf and attributesOf: no attribute of a folder is asked for.
func pathOf(uintptr) string { return "" }

func attributesOf(string) string { return "" }

// mountID: the device distinguishes mounts here.
func mountID(int, string) (uint64, bool) { return 0, false }
