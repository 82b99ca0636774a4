package object

import (
	"io/fs"
	"testing"
	"time"
)

// TestStoredTime checks the forms in which tools write a time, and that others are refused.
func TestStoredTime(t *testing.T) {
	for value, want := range map[string]time.Time{
		"1648047444":                 time.Unix(1648047444, 0),
		"1648047444.796073379":       time.Unix(1648047444, 796073379),
		"1648047444.5":               time.Unix(1648047444, 500000000),
		"1648047444.0000000019":      time.Unix(1648047444, 1),
		"-1.25":                      time.Unix(-1, -250000000),
		"0":                          time.Unix(0, 0),
		"":                           {},
		".5":                         {},
		"1.":                         {},
		"1.2.3":                      {},
		"1.-2":                       {},
		"--1":                        {},
		"+1":                         {},
		"1e3":                        {},
		"1648047444796":              {}, // milliseconds
		"99999999999999999999999999": {},
		"2022-03-23T14:57:24Z":       {},
	} {
		got, err := Stored{MTime: value}.Time()
		if (err != nil) != want.IsZero() || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", value, got, err, want)
		}
	}
}

// TestStoredPermissions checks the forms in which tools write a mode, that only permissions come of it, and that the mode of anything
// but a regular file is refused.
func TestStoredPermissions(t *testing.T) {
	const none = fs.FileMode(1) << 31
	for value, want := range map[string]fs.FileMode{
		"33188":   0o644, // ossfs
		"33261":   0o755,
		"33152":   0o600, // with digits of an octal number
		"36333":   0o755, // 0106755
		"100644":  0o644, // rclone
		"104755":  0o755,
		"0100600": 0o600,
		"0644":    0o644,
		"07777":   0o777,
		"0":       0,
		"":        none,
		"644":     none, // octal or decimal
		"420":     none,
		"16877":   none, // a folder
		"40755":   none,
		"41471":   none, // a link
		"120777":  none,
		"0o644":   none,
		"-33188":  none,
		"+33188":  none,
		"33188 ":  none,
		"0x1a4":   none,
		"100689":  none,
	} {
		got, err := Stored{Mode: value}.Permissions()
		if (err != nil) != (want == none) || err == nil && got != want {
			t.Errorf("%q: %v, %v; want %v", value, got, err, want)
		}
	}
}

// TestStoredOwner checks the form in which tools write an owner, and that others are refused.
func TestStoredOwner(t *testing.T) {
	for _, c := range []struct {
		stored   Stored
		uid, gid int
		refused  bool
	}{
		{stored: Stored{UID: "1000", GID: "100"}, uid: 1000, gid: 100},
		{stored: Stored{UID: "0", GID: "0"}},
		{stored: Stored{UID: "1000"}, uid: 1000, gid: -1},
		{stored: Stored{GID: "100"}, uid: -1, gid: 100},
		{uid: -1, gid: -1},
		{stored: Stored{UID: "root", GID: "100"}, refused: true},
		{stored: Stored{UID: "1000", GID: "-1"}, refused: true},
		{stored: Stored{UID: "+1"}, refused: true},
		{stored: Stored{UID: " 1"}, refused: true},
		{stored: Stored{UID: "0x1"}, refused: true},
		{stored: Stored{UID: "1.5"}, refused: true},
		{stored: Stored{UID: "4294967295"}, refused: true}, // no change, for chown(2)
		{stored: Stored{GID: "4294967296"}, refused: true},
	} {
		if c.refused {
			c.uid, c.gid = -1, -1
		}
		if uid, gid, err := c.stored.Owner(); (err != nil) != c.refused || uid != c.uid || gid != c.gid {
			t.Errorf("%+v: %d, %d, %v", c.stored, uid, gid, err)
		}
	}
}
