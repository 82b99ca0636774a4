package ossdl

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
	"github.com/ossdl/ossdl/internal/localfile"
	"github.com/ossdl/ossdl/internal/object"
	"github.com/ossdl/ossdl/internal/sealed"
)

// The errors that a caller can act on; [errors.Is] finds them at any depth of an error.
//
// If the service answered, [errors.As] also finds an oss.ServiceError, as a value, with the request ID. Its RawMessage is
// empty, because the service quotes in it what it was sent. A missing permission has no name here: it is an oss.ServiceError
// with the StatusCode 403.
//
// An error may match several of them. An object that was deleted during a download is ErrObjectChanged and ErrNotFound: test
// for ErrObjectChanged first.
var (
	// ErrNotFound says that there is no such bucket, object or version, or that the version is a delete marker.
	ErrNotFound = object.ErrNotFound
	// ErrObjectChanged says that the object is not, or is no longer, the one that was asked for. It was replaced, appended to
	// or deleted after this call's first answer, or it does not have the ETag given to [WithIfMatch]. The same call made again
	// starts over; with WithIfMatch it fails until the object has that ETag again. [WithSnapshot] accepts what was appended.
	ErrObjectChanged = object.ErrObjectChanged
	// ErrChecksum says that the bytes do not have the checksum that the service or the caller named, even after they were
	// fetched once more. A download to a file leaves neither partial file nor checkpoint. What DownloadTo wrote, or a Reader
	// returned, must not be used.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrRange says that the range given to [WithRange] is not within the object.
	ErrRange = object.ErrRange
	// ErrInUse says that another call or process is writing the destination. This call has not touched it.
	ErrInUse = localfile.ErrInUse
	// ErrArchived says that the object must be restored before it can be read. An [*ArchivedError] has its class and state.
	// [WithRestore] restores it.
	ErrArchived = object.ErrArchived
	// ErrDecryption says that an encrypted object cannot be decrypted with the keys of [WithDecryption]: none of them is the one
	// that it was encrypted with, or its metadata is not what the SDKs write. Nothing was written.
	ErrDecryption = sealed.ErrDecryption
	// ErrRestoring says that a call with [RestorePolicy].StartOnly has left objects that still thaw. PrefixResult.Restoring is
	// how many. The same call without StartOnly downloads them.
	ErrRestoring = errors.New("restores are under way")
	// ErrExpired says that the signed URL or the security token has expired. The same call with a new one resumes.
	ErrExpired = object.ErrExpired
	// ErrNoSpace says that the disk, or the quota on it, is full. The same call resumes once there is room.
	ErrNoSpace = localfile.ErrNoSpace
	// ErrTooLarge says that the file would be longer than its file system, or the limit of the process (ulimit -f), allows.
	// The same call fails again.
	ErrTooLarge = localfile.ErrTooLarge
	// ErrDestination says that no file can be made or replaced at a path as things are: by its name, by what is there or on the way to
	// it, or by whom that belongs to. The same call fails again. A folder that is missing is [io/fs.ErrNotExist] instead, and a file
	// system that cannot do what is needed is [errors.ErrUnsupported].
	ErrDestination = fsys.ErrUnusable
	// ErrDifferent says that a folder is not as [Downloader.VerifyPrefix] or [Downloader.VerifyManifest] should find it.
	ErrDifferent = errors.New("the folder differs")
)

// errReplaced says that an object that seemed to grow was replaced by another one. It is ErrObjectChanged; what came of the two
// cannot be told apart, so nothing is kept.
var errReplaced = fmt.Errorf("%w", ErrObjectChanged)

// KeyError is the failure of one object of a prefix or a list. An error of [Downloader.DownloadPrefix] holds a *KeyError.
// [PrefixResult].Failures holds values, which are errors as well.
type KeyError struct {
	Key string `json:"key"`   // of the object, prefix included; for DownloadAll the source, without the query of a URL
	Err error  `json:"error"` // why it failed; it wraps the errors that [Downloader.Download] returns
}

// Error returns the key, quoted, and the text of Err.
func (e KeyError) Error() string { return fmt.Sprintf("%q: %v", e.Key, e.Err) }

// Unwrap returns Err.
func (e KeyError) Unwrap() error { return e.Err }

// As lets [errors.As] find a KeyError by pointer and by value, whichever of the two the error holds.
func (e KeyError) As(target any) bool {
	switch t := target.(type) {
	case **KeyError:
		*t = &e
	case *KeyError:
		*t = e
	default:
		return false
	}
	return true
}

// MarshalJSON writes the key, and the text of Err as error.
func (e KeyError) MarshalJSON() ([]byte, error) {
	type fields KeyError
	return marshal(struct {
		fields
		Err jsonError `json:"error"`
	}{fields(e), jsonError{&e.Err}})
}

// UnmarshalJSON reads what MarshalJSON writes. Err is then an error with the same text, and [errors.Is] no longer finds what
// it wrapped.
func (e *KeyError) UnmarshalJSON(b []byte) error {
	type fields KeyError
	return json.Unmarshal(b, &struct {
		*fields
		Err jsonError `json:"error"`
	}{(*fields)(e), jsonError{&e.Err}})
}

// LogValue returns the text, so that a log line has the same kind of value for every error.
func (e KeyError) LogValue() slog.Value { return slog.StringValue(e.Error()) }

// ArchivedError describes an archived object that could not be read. It wraps [ErrArchived]. [errors.As] finds it as an
// *ArchivedError.
type ArchivedError struct {
	StorageClass string       `json:"storageClass"`   // Archive, ColdArchive or DeepColdArchive; "" if it is not known
	State        ArchiveState `json:"state"`          // "" if it is not known
	Until        time.Time    `json:"until,omitzero"` // when a restored object freezes again; zero for the other states
	Err          error        `json:"error"`          // what the service, or the check of the policy, has said
}

// ArchiveState says whether an object of an archive class can be read.
type ArchiveState string

// The states of an archived object.
const (
	ArchiveFrozen   ArchiveState = "frozen"   // it must be restored: with RestoreObject, or by [WithRestore]
	ArchiveThawing  ArchiveState = "thawing"  // a restore is under way
	ArchiveRestored ArchiveState = "restored" // it can be read, until it freezes again
)

// Error returns the text of Err, followed by class, state and what to do.
func (e *ArchivedError) Error() string {
	class, what := e.StorageClass, ""
	if class == "" {
		class = "archive class not known"
	}
	switch e.State {
	case ArchiveFrozen:
		what = "; restore it with RestoreObject or WithRestore"
	case ArchiveThawing:
		what = "; try again when its restore has ended"
	case ArchiveRestored:
		what = "; try again"
		if !e.Until.IsZero() {
			what = " until " + e.Until.UTC().Format(time.RFC3339) + what
		}
	}
	if e.State == "" {
		return e.Err.Error()
	}
	return fmt.Sprintf("%v (%s, %s%s)", e.Err, class, e.State, what)
}

// Unwrap returns Err.
func (e *ArchivedError) Unwrap() error { return e.Err }

// MarshalJSON writes the names that the tags of the fields give, and the text of Err as error.
func (e *ArchivedError) MarshalJSON() ([]byte, error) {
	type fields ArchivedError
	return marshal(struct {
		*fields
		Err jsonError `json:"error"`
	}{(*fields)(e), jsonError{&e.Err}})
}

// UnmarshalJSON reads what MarshalJSON writes. Err is then an error with the same text, and [errors.Is] no longer finds what
// it wrapped.
func (e *ArchivedError) UnmarshalJSON(b []byte) error {
	type fields ArchivedError
	return json.Unmarshal(b, &struct {
		*fields
		Err jsonError `json:"error"`
	}{(*fields)(e), jsonError{&e.Err}})
}

// LogValue returns the text, so that a log line has the same kind of value for every error.
func (e *ArchivedError) LogValue() slog.Value { return slog.StringValue(e.Error()) }

// archived adds class and state to an error that wraps ErrArchived. Other errors are returned as they are.
func archived(f object.ArchiveStatus, err error) error {
	var known *ArchivedError
	if !errors.Is(err, ErrArchived) || errors.As(err, &known) {
		return err
	}
	e := &ArchivedError{StorageClass: f.Class, State: archiveState(f), Err: err}
	if f.State == object.Restored {
		e.Until = f.Until
	}
	return e
}

// archiveState is the public name of a state.
func archiveState(f object.ArchiveStatus) ArchiveState {
	switch f.State {
	case object.Frozen:
		return ArchiveFrozen
	case object.Thawing:
		return ArchiveThawing
	case object.Restored:
		return ArchiveRestored
	}
	return ""
}

// objectName returns how messages name an object.
func objectName(bucket, key string) string { return object.Identity{Bucket: bucket, Key: key}.String() }

// nameError begins an error with what was to be done to which object.
func nameError(verb, bucket, key string, err error) error {
	return fmt.Errorf("ossdl: %s %s: %w", verb, objectName(bucket, key), err)
}

// withNames adds the names of object and destination to an error.
func (c *call) withNames(ctx context.Context, path string, err error) error {
	if path != "" {
		path = " to " + path
	}
	return fmt.Errorf("ossdl: download %s%s: %w", c.src, path, withContextError(ctx, err))
}

// withContextError adds ctx.Err() to an error that is only the cause that the caller gave its context: errors.Is finds both.
func withContextError(ctx context.Context, err error) error {
	if ctxErr := ctx.Err(); ctxErr != nil && !errors.Is(err, ctxErr) && errors.Is(err, context.Cause(ctx)) {
		return fmt.Errorf("%w: %w", ctxErr, err)
	}
	return err
}

// byteCount returns a number of bytes with the right form of the noun.
func byteCount(n int64) string {
	if n == 1 {
		return "1 byte"
	}
	return fmt.Sprintf("%d bytes", n)
}
