//go:build unix

package torture

import (
	"io/fs"
	"syscall"
)

// ownerOf returns the user and the group of a file.
func ownerOf(fi fs.FileInfo) (uid, gid int) {
	s := fi.Sys().(*syscall.Stat_t)
	return int(s.Uid), int(s.Gid)
}
