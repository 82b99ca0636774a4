package ossdl

import (
	"errors"
	"fmt"

	"github.com/ossdl/ossdl/internal/localfile"
	"github.com/ossdl/ossdl/internal/object"
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
	// or deleted after this call's first answer, or it does not have the ETag given to [WithIfMatch]. The same call starts
	// over; with WithIfMatch it fails until the object has that ETag again.
	ErrObjectChanged = object.ErrObjectChanged
	// ErrChecksum says that the bytes do not have the checksum that the service or the caller named, even after they were
	// fetched once more. A download to a file leaves neither partial file nor checkpoint. What DownloadTo has written, or a
	// Reader returned, must not be used.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrRange says that the range given to [WithRange] is not within the object.
	ErrRange = object.ErrRange
	// ErrInUse says that another call or process is writing the destination.
	ErrInUse = localfile.ErrInUse
	// ErrArchived says that the object must be restored before it can be read.
	ErrArchived = object.ErrArchived
	// ErrExpired says that the signed URL or the security token has expired. The same call with a new one resumes.
	ErrExpired = object.ErrExpired
	// ErrNoSpace says that the disk, or the quota on it, is full. The same call resumes once there is room.
	ErrNoSpace = localfile.ErrNoSpace
)

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

// objectName is how messages name an object.
func objectName(bucket, key string) string { return object.Identity{Bucket: bucket, Key: key}.String() }
