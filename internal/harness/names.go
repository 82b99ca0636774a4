package harness

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"path/filepath"
)

// FolderSuffix is what the name of a download's working folder has after the name of the file.
const FolderSuffix = ".cp"

// What the paths of a download's own files have after the path of the file.
const (
	PartSuffix       = FolderSuffix + sep + "data" // until it is complete
	CheckpointSuffix = FolderSuffix + sep + "checkpoint.json"
	LockSuffix       = FolderSuffix + sep + "lock"   // there while a call runs
	RecentSuffix     = FolderSuffix + sep + "recent" // saves that no sync has covered

	sep = string(filepath.Separator)
)

// OtherFolder is the working folder of a download to path when the name of the usual one is taken.
func OtherFolder(path string) string {
	dir, name := filepath.Split(path)
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(dir, ".ossdl-"+hex.EncodeToString(sum[:16])+FolderSuffix)
}

// What the names of the working files of DownloadPrefix have after that of [WorkBase].
const (
	TreePart       = ".part"
	TreeCheckpoint = ".cp"
	TreeRecent     = ".recent"
	TreeLock       = ".part.lock"
	TreeSmall      = ".new" // a small object has this one alone
)

// HeldFiles is how many small objects DownloadPrefix has begun that do not have their paths yet, at most.
const HeldFiles = 512

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
