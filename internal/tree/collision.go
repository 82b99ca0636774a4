package tree

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ossdl/ossdl/internal/fsys"
)

// ErrCollision says that two keys of one call have names that the file system takes for the same.
var ErrCollision = errors.New("the file system takes its name for that of another key, whose file is there")

// collisionFS is a file system that takes some names for the same. It refuses to give two keys of one call the same file.
// Only the file system itself knows which names those are, since it folds more than case.
type collisionFS struct {
	fsys.FS
	mu    sync.Mutex
	files map[uint64]struct{} // those that have the name of a key of this call
}

// Rename refuses to replace the file of another key: it returns [ErrCollision].
func (f *collisionFS) Rename(from, to string) error {
	if strings.HasPrefix(to, WorkDir+string(filepath.Separator)) {
		return f.FS.Rename(from, to)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if fi, err := f.FS.Lstat(to); err == nil && f.taken(fi) {
		return ErrCollision
	}
	if err := f.FS.Rename(from, to); err != nil {
		return err
	}
	return f.add(to)
}

// claim records that an existing file belongs to a key. It returns [ErrCollision] if the file belongs to another.
func (f *collisionFS) claim(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.add(name)
}

// taken reports whether a file belongs to a key. One with several hard links does not count: the user may have made them,
// so the other key's name need not be the same as this one's.
func (f *collisionFS) taken(fi fs.FileInfo) bool {
	id, ok := fsys.ID(fi)
	if _, known := f.files[id]; known && ok {
		return fsys.Links(fi) == 1
	}
	return false
}

// add records that a file belongs to a key. The mutex must be held.
func (f *collisionFS) add(name string) error {
	fi, err := f.FS.Lstat(name)
	if err != nil {
		return err
	}
	if f.taken(fi) {
		return ErrCollision
	}
	if id, ok := fsys.ID(fi); ok {
		f.files[id] = struct{}{}
	}
	return nil
}
