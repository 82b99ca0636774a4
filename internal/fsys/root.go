package fsys

import (
	"errors"
	"os"
)

// Root is an open folder for Rooted. On Unix it also holds some of the folders below it open, those that were used last.
type Root struct {
	*os.Root
	below heldFolders
}

// OpenRoot is os.OpenRoot: unlike OpenFolder it follows every link.
func OpenRoot(dir string) (*Root, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	r := &Root{Root: root}
	if err := r.below.openTop(root); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return r, nil
}

// Close closes the folder and those that are held open below it. It ends the use of the file system that Rooted made of it,
// but not that of the files that are open.
func (r *Root) Close() error {
	r.below.close()
	return r.Root.Close()
}

// Rooted is the file system below root. Names are relative to root; a name that leads out of it, by ".." or by a link
// that someone planted on the way, is an error. The caller closes root, after the last use.
//
// On Unix the folders that are used stay open, as the held folders, until others have been used more recently. An operation
// takes place in the held folder, and so usually costs one system call. This is noticed if others remove, move or replace such
// a folder:
//
//   - An operation that finds nothing (ENOENT, ESTALE) looks whether the held folder is still at its name. If it is not, the
//     operation is done once more in the folder that a new walk from the root leads to.
//   - List, Volume, Free and Writable, which ask about the folder itself, look first.
//   - Everything else may still be done in a folder that was moved away. SyncDir finds out afterwards: if a file was renamed
//     to a held folder, or a folder made in it, since the last SyncDir, and the held folder is not at its name, SyncDir fails
//     with ErrMoved, then and for as long as the root is open. So a file counts as placed only after a SyncDir of its folder.
//   - A folder that an operation finds removed is forgotten without such an error: it was empty by then, and no file of ours
//     is anywhere else.
func Rooted(root *Root) FS { return newRootFS(root) }

// ErrMoved is the cause if SyncDir finds that what was done in a folder went to one that is no longer at the name.
var ErrMoved = errors.New("the folder was moved, removed or replaced by another while it was in use")

var errAgain = errors.New("replaced by others while it was being opened")

// pathOfRoot is the absolute path of the root when it was opened. It is only for Key: the folder itself is held open and may
// be renamed meanwhile.
func pathOfRoot(root *os.Root) string {
	path, err := resolveFolder(root.Name())
	if err != nil {
		return root.Name()
	}
	return path
}
