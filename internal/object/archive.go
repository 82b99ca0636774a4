package object

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// RestoreState says whether an object of an archive class can be read.
type RestoreState uint8

// The states.
const (
	NotArchived RestoreState = iota // the class is none that must be restored
	Frozen                          // it must be restored before it can be read
	Thawing                         // a restore is under way
	Restored                        // it can be read until a time
)

func (s RestoreState) String() string {
	return [...]string{"not archived", "frozen", "being restored", "restored"}[s]
}

// Storage classes whose objects are frozen until they are restored.
const (
	Archive         = "Archive"
	ColdArchive     = "ColdArchive"
	DeepColdArchive = "DeepColdArchive"
)

// ArchiveStatus says of an object how it is stored, and whether it can be read.
type ArchiveStatus struct {
	Class string // the storage class; "" if it is not known
	State RestoreState
	Until time.Time // when a restored object freezes again; zero if that is not known
}

// ReadArchiveStatus reads a storage class and the text of x-oss-restore or RestoreInfo, which have the same form. Without that text, an
// object of an archive class was never restored, or is frozen again.
func ReadArchiveStatus(class, restore string) ArchiveStatus {
	f := ArchiveStatus{Class: className(class)}
	switch {
	case strings.Contains(restore, `ongoing-request="true"`):
		f.State = Thawing
	case strings.Contains(restore, `ongoing-request="false"`):
		f.State = Restored
		_, rest, _ := strings.Cut(restore, `expiry-date="`)
		text, _, _ := strings.Cut(rest, `"`)
		if t, err := http.ParseTime(text); err == nil {
			f.Until = t
		}
	case f.Archived():
		f.State = Frozen
	}
	return f
}

// className returns a class as OSS documents it. Some answers have it in other cases.
func className(class string) string {
	if known := ArchiveClass([]byte(class)); known != "" {
		return known
	}
	return class
}

// ArchiveClass returns the archive class that a text names, in any case; "" if it names none.
func ArchiveClass(text []byte) string {
	if len(text) < len(Archive) || len(text) > len(DeepColdArchive) {
		return ""
	}
	for _, class := range [...]string{Archive, ColdArchive, DeepColdArchive} {
		if bytes.EqualFold(text, []byte(class)) {
			return class
		}
	}
	return ""
}

// Archived reports whether objects of the class must be restored.
func (f ArchiveStatus) Archived() bool { return ArchiveClass([]byte(f.Class)) != "" }

// String describes class and state for messages.
func (f ArchiveStatus) String() string {
	class, until := f.Class, ""
	if class == "" {
		class = "an archive class"
	}
	if !f.Until.IsZero() {
		until = " until " + f.Until.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("%s, %v%s", class, f.State, until)
}

// BilledByRange reports whether the bytes of an answer cost what was asked for, not what arrived: those of an Archive object
// that is read without a restore, which a setting of the bucket allows (page on direct reading of Archive objects).
func BilledByRange(h http.Header) bool {
	return strings.EqualFold(h.Get("X-Oss-Storage-Class"), Archive) && h.Get("X-Oss-Restore") == ""
}
