package fsys

import (
	"errors"
	"os"
)

// maxLinks bounds a chain of links, as the kernel does.
const maxLinks = 40

// ErrForeignLink is the cause when a symbolic link is not followed because of the folder it is in and of its owner. The
// error is fs.ErrPermission too, and names the link and its owner.
var ErrForeignLink = errors.New("link of another user in a folder that everybody may write to")

// Resolve is OS().Resolve.
func Resolve(path string) (string, error) { return resolvePath(path) }

// OpenFolder opens the folder dir as a root, and makes it and its parents if they are missing. Of the links on the way, and
// at dir itself, only those are followed that MayFollow allows.
func OpenFolder(dir string) (*os.Root, error) { return openFolder(dir) }

// OpenExistingFolder is OpenFolder for a folder that exists. It makes nothing.
func OpenExistingFolder(dir string) (*os.Root, error) { return openExistingFolder(dir) }
