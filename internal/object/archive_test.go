package object

import (
	"net/http"
	"testing"
	"time"
)

// TestReadArchiveStatus checks what storage classes and x-oss-restore say of an object.
func TestReadArchiveStatus(t *testing.T) {
	until := time.Date(2017, 4, 16, 8, 12, 33, 0, time.UTC)
	for _, c := range []struct {
		class, restore string
		want           ArchiveStatus
		text           string
	}{
		{"Standard", "", ArchiveStatus{Class: "Standard"}, "Standard, not archived"},
		{"IA", "", ArchiveStatus{Class: "IA"}, "IA, not archived"},
		{"", "", ArchiveStatus{}, "an archive class, not archived"},
		{"Archive", "", ArchiveStatus{Class: Archive, State: Frozen}, "Archive, frozen"},
		{"COLDARCHIVE", "", ArchiveStatus{Class: ColdArchive, State: Frozen}, "ColdArchive, frozen"},
		{"DeepColdArchive", `ongoing-request="true"`, ArchiveStatus{Class: DeepColdArchive, State: Thawing}, "DeepColdArchive, being restored"},
		{"Archive", `ongoing-request="false", expiry-date="Sun, 16 Apr 2017 08:12:33 GMT"`, ArchiveStatus{Archive, Restored, until}, "Archive, restored until 2017-04-16T08:12:33Z"},
		{"Archive", `ongoing-request="false", expiry-date="tomorrow"`, ArchiveStatus{Class: Archive, State: Restored}, "Archive, restored"},
		{"Archive", `ongoing-request="false"`, ArchiveStatus{Class: Archive, State: Restored}, "Archive, restored"},
		{"Archive", "nonsense", ArchiveStatus{Class: Archive, State: Frozen}, "Archive, frozen"},
		{"ArchiveOfAnotherKind", "", ArchiveStatus{Class: "ArchiveOfAnotherKind"}, "ArchiveOfAnotherKind, not archived"},
	} {
		got := ReadArchiveStatus(c.class, c.restore)
		if got.Class != c.want.Class || got.State != c.want.State || !got.Until.Equal(c.want.Until) || got.String() != c.text {
			t.Errorf("%q, %q: %+v, %v; want %+v, %s", c.class, c.restore, got, got, c.want, c.text)
		}
	}
}

// TestBilledByRange checks of which answers each byte that is asked for costs money.
func TestBilledByRange(t *testing.T) {
	for _, c := range []struct {
		class, restore string
		want           bool
	}{
		{"Archive", "", true},
		{"Archive", `ongoing-request="false", expiry-date="Sun, 16 Apr 2017 08:12:33 GMT"`, false},
		{"ColdArchive", "", false},
		{"Standard", "", false},
		{"", "", false},
	} {
		h := http.Header{}
		h.Set("X-Oss-Storage-Class", c.class)
		if c.restore != "" {
			h.Set("X-Oss-Restore", c.restore)
		}
		if got := BilledByRange(h); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}
