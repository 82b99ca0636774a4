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
	// ErrChecksum: the bytes do not have the digest that the service or the caller says they have, also when fetched once
	// more. A download to a file leaves neither partial file nor checkpoint; what DownloadTo has written, or a Reader given
	// out, is not to be used.
	ErrChecksum = errors.New("checksum mismatch")
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
func objectName(bucket, key string) string { return identity{bucket: bucket, key: key}.String() }
