package object

import (
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"time"
)

// Stored are the time, the mode and the owner of the file that an object was made of, as tools that copy files keep them in its metadata. The
// values are as received; "": there is none.
type Stored struct {
	MTime string // x-oss-meta-mtime
	Mode  string // x-oss-meta-mode
	UID   string // x-oss-meta-uid
	GID   string // x-oss-meta-gid
}

// maxSeconds is the latest time in seconds, in the year 5138. What is larger is in smaller units, and of unknown tools.
const maxSeconds = 1e11

// Time returns the time of the file. rclone writes the seconds since 1970 as a decimal fraction of up to nine digits, possibly
// negative, and ossfs whole seconds, or a fraction of nine digits.
func (s Stored) Time() (time.Time, error) {
	rest, negative := strings.CutPrefix(s.MTime, "-")
	whole, fraction, _ := strings.Cut(rest, ".")
	seconds, err := strconv.ParseUint(whole, 10, 63)
	if err != nil || seconds > maxSeconds || strings.Trim(fraction, "0123456789") != "" || strings.HasSuffix(rest, ".") {
		return time.Time{}, fmt.Errorf("mtime %q in the metadata is not a number of seconds", s.MTime)
	}
	nanos, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64) // digits
	if negative {
		return time.Unix(-int64(seconds), -nanos), nil
	}
	return time.Unix(int64(seconds), nanos), nil
}

// regularFile is the type of a regular file in the mode of Unix.
const (
	regularFile = 0o100000
)

// Permissions returns the permissions of the file. Bits for another user, another group or the folder are dropped. ossfs writes the
// mode with the type of the file as a decimal number, such as 33188, and rclone as an octal one, such as 100644; other tools
// begin an octal one with a zero. No number is valid in both forms: a decimal one of a regular file has five digits, an octal
// one six.
func (s Stored) Permissions() (fs.FileMode, error) {
	base := 10
	if strings.HasPrefix(s.Mode, "0") || len(s.Mode) == 6 {
		base = 8
	}
	mode, err := strconv.ParseUint(s.Mode, base, 32)
	untyped := base == 8 && mode&^0o7777 == 0 && strings.HasPrefix(s.Mode, "0")
	if err != nil || mode&^0o7777 != regularFile && !untyped {
		return 0, fmt.Errorf("mode %q in the metadata is not that of a regular file", s.Mode)
	}
	return fs.FileMode(mode).Perm(), nil
}

// Owner returns the user and the group of the file; -1: there is none. ossfs, s3fs and rclone write both as decimal numbers.
func (s Stored) Owner() (uid, gid int, err error) {
	if uid, err = ownerNumber("uid", s.UID); err != nil {
		return -1, -1, err
	}
	if gid, err = ownerNumber("gid", s.GID); err != nil {
		return -1, -1, err
	}
	return uid, gid, nil
}

// ownerNumber returns the number of a user or group; -1: there is none. The largest one of 32 bits is no number of anybody: for
// chown(2) it means that nothing changes.
func ownerNumber(name, value string) (int, error) {
	if value == "" {
		return -1, nil
	}
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n == math.MaxUint32 || uint64(int(n)) != n || int(n) < 0 {
		return -1, fmt.Errorf("%s %q in the metadata is not a number of a user or group", name, value)
	}
	return int(n), nil
}
