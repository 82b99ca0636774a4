package harness

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"path/filepath"

	"github.com/ossdl/ossdl/internal/harness/checkpoints"
)

// What the names of a download's own files have after the name of the file.
const (
	PartSuffix       = ".part" // the data, until it is complete
	CheckpointSuffix = checkpoints.Suffix
	LockSuffix       = ".part.lock" // there while a call runs
)

// WorkDir is the folder in which DownloadPrefix keeps what is not complete, below the folder that it writes to.
const WorkDir = ".ossdl"

// WorkBase is the name of the working files of an object, relative to the folder of the prefix and without their suffixes.
// name is the local name of the object.
func WorkBase(name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(WorkDir, hex.EncodeToString(sum[:16]))
}

// RoundTrip is a function as a transport.
type RoundTrip func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (fn RoundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return fn(r) }
