//go:build unix

package fsys

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// maxHeld bounds how many folders below a root are held open besides those in use.
const maxHeld = 64

// heldFolders are the folders of a root that are held open, by their names. Rooted says what happens when others move them.
type heldFolders struct {
	root *os.Root
	top  *folder

	mu     sync.Mutex
	open   map[string]*folder
	clock  uint64
	closed bool
	lost   map[string]struct{} // folders that were moved away after something had been placed in them, and not synced
}

// folder is an open folder below a root, or the root itself.
type folder struct {
	name     string // slash-separated elements without "..", or "." for the root
	path     string // absolute and without links, when it was opened
	fd       int
	readable bool      // or else it is open for nothing but the names in it
	info     *fileInfo // when it was opened

	changes, synced atomic.Uint64  // how often something was placed in it, and how much of that is durable
	missing         [2]atomic.Bool // whether the last search of a kind found nothing in it

	// Guarded by heldFolders.mu.
	users    int
	used     uint64 // the time of heldFolders.clock
	kept     bool   // it is in heldFolders.open
	expected bool   // it is not at its name any more because we moved or removed it
}

func (h *heldFolders) openTop(root *os.Root) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	top, err := newFolder(f, ".", pathOfRoot(root), true)
	if err != nil {
		return err
	}
	top.kept = true
	h.root, h.top = root, top
	h.open, h.lost = map[string]*folder{".": top}, map[string]struct{}{}
	return nil
}

// newFolder is the folder f, which it closes.
func newFolder(f *os.File, name, path string, readable bool) (*folder, error) {
	flags := unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	if !readable {
		flags |= openAt
	}
	var fd int
	err := control(f, "open", func(of uintptr) (err error) {
		fd, err = openat(int(of), ".", flags, 0)
		return err
	})
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	return folderOf(fd, name, path, readable)
}

// folderOf is the folder with the descriptor, which is closed if there is an error.
func folderOf(fd int, name, path string, readable bool) (*folder, error) {
	fi, err := statOf(fd, name)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &folder{name: name, path: path, fd: fd, readable: readable, info: fi}, nil
}

// close closes all folders but those in use, which go with the end of that.
func (h *heldFolders) close() {
	h.mu.Lock()
	h.closed = true
	all := h.forget(func(*folder) bool { return true })
	h.mu.Unlock()
	h.releaseAll(all)
}

// acquire opens the folder, unless it is open. It stays open at least until release.
func (h *heldFolders) acquire(name string) (*folder, error) {
	d, err := h.recall(name)
	if d != nil || err != nil {
		return d, err
	}
	if d, err = h.walk(name); err != nil {
		return nil, err
	}
	return h.keep(d)
}

// acquireThere is acquire for a question about the folder itself: one that is no longer at its name is not the answer.
func (h *heldFolders) acquireThere(name string) (*folder, error) {
	d, err := h.acquire(name)
	if err != nil || h.isThere(d) {
		return d, err
	}
	h.drop(d)
	h.release(d)
	return h.acquire(name)
}

func (h *heldFolders) recall(name string) (*folder, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, fs.ErrClosed
	}
	d := h.open[name]
	if d != nil {
		h.use(d)
	}
	return d, nil
}

// use counts a user of the folder. h.mu must be held.
func (h *heldFolders) use(d *folder) {
	d.users++
	h.clock++
	d.used = h.clock
}

// keep holds a folder that was opened, or takes the one that was opened meanwhile.
func (h *heldFolders) keep(d *folder) (*folder, error) {
	h.mu.Lock()
	h.use(d)
	var unneeded []*folder
	var err error
	switch other := h.open[d.name]; {
	case h.closed:
		unneeded, err = []*folder{d}, fs.ErrClosed
	case !isCanonical(d.name): // by another of its names it would not be found when it is moved
	case other != nil:
		h.use(other)
		unneeded, d = []*folder{d}, other
	default:
		h.open[d.name], d.kept = d, true
		unneeded = h.evict()
	}
	h.mu.Unlock()
	h.releaseAll(unneeded)
	return d, err
}

// evict forgets the folder that was used least recently, if there are too many. h.mu must be held.
func (h *heldFolders) evict() []*folder {
	if len(h.open) <= maxHeld {
		return nil
	}
	var oldest *folder
	for _, d := range h.open {
		if d.users == 0 && d != h.top && (oldest == nil || d.used < oldest.used) {
			oldest = d
		}
	}
	return h.forget(func(d *folder) bool { return d == oldest })
}

// forget has those folders held no longer. The caller must release them. h.mu must be held.
func (h *heldFolders) forget(these func(*folder) bool) (forgotten []*folder) {
	for name, d := range h.open {
		if these(d) {
			delete(h.open, name)
			d.kept = false
			d.users++
			forgotten = append(forgotten, d)
		}
	}
	return forgotten
}

// drop forgets a folder that is no longer at its name, and those on the way to it and below it: one of the former was moved
// as well, perhaps, and all of the latter were.
func (h *heldFolders) drop(d *folder) {
	h.mu.Lock()
	var gone []*folder
	if h.open[d.name] == d {
		gone = h.forget(func(e *folder) bool {
			return e != h.top && (isWithin(e.name, d.name) || isWithin(d.name, e.name))
		})
	}
	h.mu.Unlock()
	h.releaseAll(gone)
}

// moved forgets the folders at the names and below, where we moved or removed one, or made a new one.
func (h *heldFolders) moved(names ...string) {
	h.mu.Lock()
	gone := h.forget(func(e *folder) bool {
		return e != h.top && slices.ContainsFunc(names, func(name string) bool { return isWithin(e.name, name) })
	})
	for _, d := range gone {
		d.expected = true
	}
	h.mu.Unlock()
	h.releaseAll(gone)
}

// isWithin reports whether the name is dir or below it.
func isWithin(name, dir string) bool {
	return strings.HasPrefix(name, dir) && (len(name) == len(dir) || name[len(dir)] == filepath.Separator)
}

func (h *heldFolders) releaseAll(these []*folder) {
	for _, d := range these {
		h.release(d)
	}
}

// release ends a use of the folder. The last one closes it unless it is held.
func (h *heldFolders) release(d *folder) {
	h.mu.Lock()
	watched := d.kept || d.expected || h.closed
	if !watched && d.changes.Load() > d.synced.Load() {
		h.mu.Unlock()
		// Nobody asks this folder any more whether it is at its name.
		if !h.isThere(d) && !d.isRemoved() {
			h.lose(d)
		}
		h.mu.Lock()
	}
	d.users--
	last := d.users == 0 && !d.kept
	h.mu.Unlock()
	if last {
		_ = unix.Close(d.fd) // nothing is written through it
	}
}

// lose records that what was placed in the folder is not at the folder's name.
func (h *heldFolders) lose(d *folder) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost[d.name] = struct{}{}
}

func (h *heldFolders) isLost(name string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, lost := h.lost[name]
	return lost
}

// walk opens a folder in the one above it. A link is followed by os.Root, which stays within the root.
func (h *heldFolders) walk(name string) (*folder, error) {
	if !isCanonical(name) {
		return h.walkLinks(name)
	}
	for again := true; ; again = false {
		above, err := h.acquire(filepath.Dir(name))
		if err != nil {
			return nil, err
		}
		base := filepath.Base(name)
		fd, readable, err := openFolderAt(above.fd, base)
		if again && h.isOutdated(above, err) {
			h.drop(above)
			h.release(above)
			continue
		}
		path := filepath.Join(above.path, base)
		h.release(above)
		if err == nil {
			return folderOf(fd, name, path, readable)
		}
		if isGone(err) {
			return nil, err
		}
		return h.walkLinks(name)
	}
}

func (h *heldFolders) walkLinks(name string) (*folder, error) {
	readable := true
	f, err := h.root.OpenFile(name, os.O_RDONLY|openGuards|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrPermission) && openAt != 0 {
		readable = false
		f, err = h.root.OpenFile(name, os.O_RDONLY|openGuards|openAt, 0)
	}
	if err != nil {
		return nil, err
	}
	path := filepath.Join(h.top.path, name)
	if real, err := resolveFolder(path); err == nil {
		path = real
	}
	return newFolder(f, name, path, readable)
}

// openFolderAt opens a folder in an open one, and does not follow a link.
func openFolderAt(dir int, name string) (fd int, readable bool, err error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | openGuards
	fd, err = openat(dir, name, flags, 0)
	if errors.Is(err, fs.ErrPermission) && openAt != 0 {
		fd, err = openat(dir, name, flags|openAt, 0)
		return fd, false, err
	}
	return fd, true, err
}

// isCanonical reports whether the name is the only one of its folder, but for links.
func isCanonical(name string) bool {
	return !strings.Contains(name, "..") || !slices.Contains(strings.Split(name, string(filepath.Separator)), "..")
}

// isOutdated reports whether err says that something is not there, and the folder in which it was looked for is not at its
// name any more, so that another may have it.
func (h *heldFolders) isOutdated(d *folder, err error) bool { return isGone(err) && !h.isThere(d) }

// isGone reports whether err can be that of a folder which was removed. ESTALE is what NFS says.
func isGone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESTALE) }

// isThere reports whether the folder is at its name. The kernel may follow whatever link it likes on the way: the answer is
// used for nothing but the comparison.
func (h *heldFolders) isThere(d *folder) bool {
	if d == h.top {
		return true
	}
	there, err := statWith(h.top.fd, d.name, 0)
	if err != nil {
		return false
	}
	if SameFile(there, d.info) {
		return true
	}
	// A file system in layers gives a folder another number once something is written to it.
	now, err := statOf(d.fd, d.name)
	return err == nil && SameFile(there, now)
}

// isRemoved reports whether the folder was removed. It was empty then, so whatever was placed in it had gone before.
func (d *folder) isRemoved() bool {
	fi, err := statOf(d.fd, d.name)
	return isGone(err) || err == nil && Links(fi) == 0
}
