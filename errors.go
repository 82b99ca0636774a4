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
	// ErrArchived: the object must be restored before it can be read.
	ErrArchived = errors.New("object is archived")
	// ErrExpired: the signed URL or the security token has expired. The same call with a new one resumes.
	ErrExpired = errors.New("credentials expired")
)

// PartError says which bytes of which object could not be fetched, and why. A call returns the error that happened
// first; what its cancellation did to other parts is not reported.
type PartError struct {
	Bucket, Key string
	Offset      int64 // of the first byte that is missing, in the object
	Size        int64 // bytes that were still to come
	Attempts    int   // requests made in a row without progress, the last included
	Err         error
}

func (e *PartError) Error() string {
	return fmt.Sprintf("bytes %d-%d, attempt %d: %v", e.Offset, e.Offset+e.Size-1, e.Attempts, e.Err)
}

func (e *PartError) Unwrap() error { return e.Err }

// KeyError is the failure of one object of a prefix.
type KeyError struct {
	Key string
	Err error
}

func (e KeyError) Error() string { return fmt.Sprintf("%q: %v", e.Key, e.Err) }

func (e KeyError) Unwrap() error { return e.Err }

// objectName is how messages name an object.
func objectName(bucket, key string) string { return "oss://" + bucket + "/" + key }
