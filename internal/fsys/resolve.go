package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unicode/utf8"
)

// maxLinks bounds a chain of links, as the kernel does.
const maxLinks = 40

// ErrForeignLink is the cause when a symbolic link is not followed because of the folder it is in and of its owner. The
// error is fs.ErrPermission too, and names the link and its owner.
var ErrForeignLink = errors.New("link of another user in a folder that everybody may write to")

// Resolve is OS().Resolve.
func Resolve(path string) (string, error) { return resolvePath(path) }

// MakeFolder makes the folder dir if it is missing; its parent must exist. It returns the path of the folder without links. Links
// on the way are resolved by f, never by the kernel, so a folder is made behind a link only if MayFollow allows the link.
func MakeFolder(f FS, dir string, perm fs.FileMode) (real string, err error) {
	var made Folders
	real, err = made.make(f, dir, perm, false)
	if made.fresh[real] {
		_ = f.SyncDir(filepath.Dir(real)) // who needs to know uses Folders
	}
	return real, err
}

// Folders makes the folders for the files of one call, and syncs those that they are in. It remembers what it has synced, so that
// many files in a few folders cost few syncs. The zero value is ready. It is safe for concurrent use.
type Folders struct {
	mu     sync.Mutex       // held until a folder that was made is synced: whoever finds it must know how that ended
	fresh  map[string]bool  // those that were made here, by path without links
	synced map[string]error // those in which there are others: why these may not be there after a power loss
}

// Make is MakeFolder, and makes missing parents too. It syncs each folder in which it makes one, and each in which an earlier call
// may have made one on the way to dir: that call may have been killed before it could sync the folder, or have failed to. unsynced
// is the first failure of that: a power loss may take dir, with what is in it.
func (s *Folders) Make(f FS, dir string, perm fs.FileMode) (real string, unsynced, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if real, err = s.make(f, dir, perm, true); err != nil {
		return "", nil, err
	}
	return real, s.syncAbove(f, real), nil
}

func (s *Folders) make(f FS, dir string, perm fs.FileMode, parents bool) (real string, err error) {
	if s.fresh == nil {
		s.fresh, s.synced = map[string]bool{}, map[string]error{}
	}
	// Not filepath.Clean: the parent of "link/../dir" is beside the link's target, not beside the link.
	plain := strings.TrimRightFunc(dir, isSeparator)
	real, err = f.Resolve(plain + string(filepath.Separator) + ".")
	if !errors.Is(err, fs.ErrNotExist) {
		return real, err
	}
	if i := strings.LastIndexFunc(plain, isSeparator); i > 0 && parents {
		if _, err = s.make(f, plain[:i], perm, true); err != nil {
			return "", err
		}
	}
	if real, err = f.Resolve(plain); err != nil {
		return "", err
	}
	if err := f.Mkdir(real, perm); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	s.fresh[real] = true
	if above := filepath.Dir(real); s.synced[above] == nil {
		delete(s.synced, above)
	}
	return real, nil
}

// syncAbove syncs the folders above dir, up to the first one in which no call of this user makes any.
func (s *Folders) syncAbove(f FS, dir string) error {
	above := filepath.Dir(dir)
	if above == dir {
		return nil
	}
	err, known := s.synced[above]
	if known {
		return err
	}
	if makes, err := mayMakeIn(f, above, dir); !s.fresh[dir] && (err != nil || !makes) {
		s.synced[above] = err
		return err
	}
	if err = f.SyncDir(above); err == nil {
		err = s.syncAbove(f, above)
	}
	s.synced[above] = err
	return err
}

// mayMakeIn reports whether a call of this user may have made the folder dir in the one above it: if not, there is nothing to sync, and
// others, such as /home, often cannot be opened for that. Where users are not known, as on Windows, folders cannot be synced either.
func mayMakeIn(f FS, above, dir string) (bool, error) {
	if mounted, err := f.MountPoint(dir); mounted && err == nil {
		return false, nil
	}
	fi, err := f.Lstat(above)
	if err != nil {
		return false, err
	}
	_, ok := f.User()
	return ok && (isUsers(f, fi) || f.Writable(above) == nil), nil
}

func isSeparator(r rune) bool { return r < utf8.RuneSelf && os.IsPathSeparator(uint8(r)) }

// OpenFolder opens the folder dir as a root, and makes it and its parents if they are missing. Of the links on the way, and
// at dir itself, only those are followed that MayFollow allows. unsynced is that of [Folders.Make].
func OpenFolder(dir string) (root *Root, unsynced, err error) { return openFolder(dir) }

// OpenExistingFolder is OpenFolder for a folder that exists. It makes nothing.
func OpenExistingFolder(dir string) (*Root, error) { return openExistingFolder(dir) }
