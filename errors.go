package ossdl

import (
	"errors"
	"fmt"
)

// The errors that a caller can act on. They are found with errors.Is, at whatever depth. Where the service answered,
// errors.As also finds an oss.ServiceError (a value, not a pointer) with the request ID; its RawMessage is empty, since the
// service quotes in it what it was sent. A refusal for want of a permission has no name here: it is an oss.ServiceError
// with the StatusCode 403.
//
// An error may match several: an object that was deleted on the way is ErrObjectChanged and ErrNotFound. Ask for
// ErrObjectChanged first.
var (
	// ErrNotFound: there is no such bucket, object or version, or the version is a delete marker.
	ErrNotFound = errors.New("object not found")
	// ErrObjectChanged: the object is not, or no longer, the one asked for: it was replaced, appended to or deleted after
	// this call's first answer, or it does not have the ETag given to WithIfMatch. The same call starts anew; with
	// WithIfMatch it fails until the object has that ETag again.
	ErrObjectChanged = errors.New("object changed")
	// ErrChecksum: the bytes do not have the digest that the service or the caller says they have, also when fetched once
	// more. A download to a file leaves neither partial file nor checkpoint; what DownloadTo has written, or a Reader given
	// out, is not to be used.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrRange: the range asked for with WithRange does not lie within the object.
	ErrRange = errors.New("range outside the object")
	// ErrInUse: the destination is being written by another call or process. Of a DownloadPrefix in another process, only
	// another DownloadPrefix into the same folder knows.
	ErrInUse = errors.New("destination in use")
	// ErrArchived: the object must be restored before it can be read.
	ErrArchived = errors.New("object is archived")
	// ErrExpired: the signed URL or the security token has expired. The same call with a new one resumes.
	ErrExpired = errors.New("credentials expired")
	// ErrNoSpace: the disk, or the caller's quota on it, is full. The same call resumes once there is room.
	ErrNoSpace = errors.New("not enough disk space")
)

// PartError says which bytes of which object could not be fetched, and why. errors.As finds it as a *PartError.
//
// A call returns the error that happened first. Errors that its cancellation causes in other parts are not reported.
type PartError struct {
	Bucket   string `json:"bucket"`
	Key      string `json:"key"`
	Offset   int64  `json:"offset"`   // of the first byte that is missing, in the object
	Size     int64  `json:"size"`     // bytes that were still to come
	Attempts int    `json:"attempts"` // requests made in a row without progress, the last included
	Err      error  `json:"error"`
}

func (e *PartError) Error() string {
	return fmt.Sprintf("bytes %d-%d, attempt %d: %v", e.Offset, e.Offset+e.Size-1, e.Attempts, e.Err)
}

func (e *PartError) Unwrap() error { return e.Err }

// KeyError is the failure of one object of a prefix. An error of [Downloader.DownloadPrefix] holds a *KeyError;
// [PrefixResult] lists values, which are errors, too.
type KeyError struct {
	Key string `json:"key"`
	Err error  `json:"error"`
}

func (e KeyError) Error() string { return fmt.Sprintf("%q: %v", e.Key, e.Err) }

func (e KeyError) Unwrap() error { return e.Err }

// As lets errors.As find a KeyError by pointer and by value, whichever of them the error holds.
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

// noSpaceError carries the figures of an ErrNoSpace.
type noSpaceError struct {
	missing int64 // bytes still to be written; 0: none, or not known yet
	free    int64 // bytes the file system has left; -1 where it does not say
	err     error // what the operating system said, if it was asked to write
}

func (e *noSpaceError) Error() string {
	msg := ErrNoSpace.Error()
	if e.missing > 0 {
		msg += fmt.Sprintf(": %d bytes are missing", e.missing)
	}
	if e.free >= 0 {
		msg += fmt.Sprintf(", %d are free", e.free)
	}
	if e.err != nil {
		msg += ": " + e.err.Error()
	}
	return msg
}

func (e *noSpaceError) Unwrap() []error {
	if e.err == nil {
		return []error{ErrNoSpace}
	}
	return []error{ErrNoSpace, e.err}
}

// objectName is how messages name an object.
func objectName(bucket, key string) string { return "oss://" + bucket + "/" + key }
