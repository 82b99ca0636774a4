// Package memfs is a file system in memory that knows what a power loss would leave of it.
//
// # What survives
//
// Besides its present state, every FS remembers what is on the disk for certain. Kill is the state after the death of the
// process: everything written is there, locks are gone. Crash is a state after a power loss, drawn from the many that
// the following rules allow:
//
//   - Bytes covered by a File.Sync are there. Of each later write, each 512-byte or 4 KiB sector is there or not, so that
//     a write is kept, dropped or torn; of two writes to one sector the second can be there or the first or none.
//   - Changes of a file's size since the last Sync (by writing past the end, Truncate, Reserve) survive in order, up to
//     any point. A size can survive without the bytes, which read as zeros then, but not the bytes without the size.
//   - Names made, renamed or removed are certain after a SyncDir of their folder, not after a Sync of the file. Those
//     since then survive in order within one folder, up to any point; folders are independent of each other. A rename
//     is seen whole or not at all, also between two folders: never both names, never neither.
//   - A Sync that failed (faultfs) has lost the bytes it was for, although they can still be read: a later Sync that
//     succeeds does not cover them.
//   - SyncDir makes certain what is in the folder, not the folder's own name in its parent.
//   - Modes and times survive.
//
// This is what a journalling file system does that orders its metadata (ext4, XFS, APFS, NTFS) and what POSIX leaves
// open beyond that: bytes are not ordered before names (ext4 data=writeback, XFS), and syncing a file does not sync its
// name. The same rng gives the same state.
//
// Permissions are remembered and not enforced, except what sticky folders forbid: to rename, replace or remove what
// belongs to another user, and to follow such a user's link (fsys.MayFollow). Files belong to the user of SetUser that
// made them.
package memfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
)

// Config is what a disk can do. The zero value is an endless disk with everything.
type Config struct {
	Capacity    int64 // bytes for the content of files, in blocks of 4 KiB; 0: no limit
	MaxFileSize int64 // a longer file is EFBIG; 0: no limit
	MaxFiles    int64 // files, folders and links; one more is ENOSPC; 0: no limit
	MaxName     int   // bytes; a longer name is ENAMETOOLONG; 0: no limit
	NoReserve   bool  // File.Reserve is errors.ErrUnsupported
	NoLocks     bool  // File.TryLock is errors.ErrUnsupported
	NoSync      bool  // File.Sync is errors.ErrUnsupported, and makes nothing certain
	NoSyncDir   bool  // SyncDir is errors.ErrUnsupported, and makes nothing certain
	NoSizes     bool  // Free is errors.ErrUnsupported

	TimeStep time.Duration // the times that Chtimes sets are rounded down to it, as FAT does; 0: not rounded
}

// FS is a file system in memory. The zero value is not one; New, Crash and Kill make them. Names are separated by slashes (on Windows by backslashes too) and start at /, also
// those that do not begin with it. Methods are safe for concurrent use.
type FS struct {
	mu      sync.Mutex
	config  Config
	root    *inode
	journal []dirChange // changes of folders that are not certain to be on the disk, oldest first
	used    int64       // blocks
	user    uint32      // who makes files
	mounts  uint64
}

var _ fsys.FS = (*FS)(nil)

// New is an empty file system: the folder / and nothing else.
func New(config Config) *FS {
	return &FS{config: config, root: newFolder(0o755)}
}

// SetCapacity changes the size of the disk; 0: no limit. What is there stays there, also if it is more.
func (f *FS) SetCapacity(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.config.Capacity = bytes
}

// SetUser changes who the process is: User says so, new files belong to that user, and sticky folders are bounds unless
// the user is 0, as at the beginning.
func (f *FS) SetUser(uid uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.user = uid
}

// User is the user of SetUser.
func (f *FS) User() (uid uint32, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.user, true
}

// Chown gives a file, folder or link to a user.
func (f *FS) Chown(name string, uid uint32) error {
	return f.on("chown", name, func(n *inode) { n.uid = uid })
}

// Chmod sets the permissions, and whether a folder is sticky (fs.ModeSticky).
func (f *FS) Chmod(name string, mode fs.FileMode) error {
	return f.on("chmod", name, func(n *inode) { n.mode = n.mode.Type() | mode.Perm() | mode&fs.ModeSticky })
}

// Mount makes a file or folder a mount point: it cannot be renamed, replaced or removed (EBUSY), and between what is
// below it and the rest nothing can be renamed (EXDEV).
func (f *FS) Mount(name string) error {
	return f.on("mount", name, func(n *inode) {
		f.mounts++
		var below func(n *inode)
		below = func(n *inode) {
			n.mount = f.mounts
			for _, e := range n.entries {
				below(e)
			}
		}
		below(n)
		n.mounted = true
	})
}

// on does fn to what is at name, which is not followed if it is a link.
func (f *FS) on(op, name string, fn func(*inode)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := f.find(name, false)
	if err == nil && at.node == nil {
		err = syscall.ENOENT
	}
	if err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	fn(at.node)
	return nil
}

// Names is every name, folders with a slash at the end, sorted.
func (f *FS) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	var walk func(prefix string, dir *inode)
	walk = func(prefix string, dir *inode) {
		for name, node := range dir.entries {
			name = prefix + name
			if node.entries != nil {
				name += "/"
				walk(name, node)
			}
			names = append(names, name)
		}
	}
	walk("/", f.root)
	slices.Sort(names)
	return names
}

// Symlink makes a symbolic link, as os.Symlink does.
func (f *FS) Symlink(target, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := f.vacant("symlink", name)
	if err != nil {
		return err
	}
	if err := f.admit(at); err != nil {
		return &fs.PathError{Op: "symlink", Path: name, Err: err}
	}
	f.change(edit{at.dir, at.base, f.made(at.dir, &inode{mode: fs.ModeSymlink | 0o777, target: target, mtime: time.Now()})})
	return nil
}

// Link makes a hard link, as os.Link does.
func (f *FS) Link(oldname, newname string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	fail := func(err error) error { return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: err} }
	old, err := f.find(oldname, false)
	if err == nil && old.node == nil {
		err = syscall.ENOENT
	}
	if err != nil {
		return fail(err)
	}
	at, err := f.vacant("link", newname)
	if err != nil {
		return err
	}
	if old.node.entries != nil {
		return fail(syscall.EPERM)
	}
	f.change(edit{at.dir, at.base, old.node})
	return nil
}

func (f *FS) OpenFile(name string, flag int, perm fs.FileMode) (fsys.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fail := func(err error) (fsys.File, error) { return nil, &fs.PathError{Op: "open", Path: name, Err: err} }
	at, err := f.find(name, false)
	if err != nil {
		return fail(err)
	}
	switch {
	case at.node == nil && flag&os.O_CREATE == 0:
		return fail(syscall.ENOENT)
	case at.node == nil:
		if err := f.admit(at); err != nil {
			return fail(err)
		}
		at.node = f.made(at.dir, &inode{mode: perm.Perm(), mtime: time.Now()})
		f.change(edit{at.dir, at.base, at.node})
	case flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return fail(syscall.EEXIST)
	case !at.node.mode.IsRegular():
		return fail(fsys.ErrNotRegular)
	case flag&os.O_TRUNC != 0:
		f.resize(at.node, 0)
	}
	at.node.opens++
	access := flag & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
	return &file{fs: f, name: name, node: at.node, reads: access != os.O_WRONLY, writes: access != os.O_RDONLY}, nil
}

func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := f.find(name, false)
	if err == nil && at.node == nil {
		err = syscall.ENOENT
	}
	if err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	return at.node.info(at.base), nil
}

func (f *FS) Mkdir(name string, perm fs.FileMode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := f.vacant("mkdir", name)
	if err != nil {
		return err
	}
	if err := f.admit(at); err != nil {
		return &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	f.change(edit{at.dir, at.base, f.made(at.dir, newFolder(perm))})
	return nil
}

func (f *FS) List(dir string, most int) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	folder, err := f.folder(dir)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	names := slices.Sorted(maps.Keys(folder.entries))
	return names[:min(len(names), max(most, 1))], nil
}

func (f *FS) Rename(oldname, newname string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.rename(oldname, newname); err != nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	return nil
}

func (f *FS) rename(oldname, newname string) error {
	from, err := f.find(oldname, false)
	if err != nil {
		return err
	}
	to, err := f.find(newname, false)
	if err != nil {
		return err
	}
	switch {
	case from.node == nil:
		return syscall.ENOENT
	case from.dir == nil || to.dir == nil:
		return syscall.EBUSY // the root
	case from.node.mounted || to.node != nil && to.node.mounted:
		return syscall.EBUSY
	case from.dir.mount != to.dir.mount:
		return syscall.EXDEV
	case len(to.base) > f.config.maxName():
		return syscall.ENAMETOOLONG
	case f.guarded(from) || f.guarded(to):
		return syscall.EPERM
	case to.node != nil && to.node.entries != nil && (from.node != to.node || oldname == newname):
		return syscall.EEXIST // os.Rename replaces no folder
	case from.node == to.node:
		return nil // two names of one file stay two names
	case slices.Contains(to.above, from.node):
		return syscall.EINVAL // into itself
	case from.node.entries != nil && to.node != nil:
		return syscall.ENOTDIR
	}
	f.change(edit{from.dir, from.base, nil}, edit{to.dir, to.base, from.node})
	return nil
}

func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := f.find(name, false)
	switch {
	case err != nil:
	case at.node == nil:
		err = syscall.ENOENT
	case at.dir == nil || at.node.mounted:
		err = syscall.EBUSY
	case f.guarded(at):
		err = syscall.EPERM
	case len(at.node.entries) > 0:
		err = syscall.ENOTEMPTY
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	f.change(edit{at.dir, at.base, nil})
	return nil
}

func (f *FS) SyncDir(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir, err := f.folder(name)
	if err != nil {
		return &fs.PathError{Op: "sync", Path: name, Err: err}
	}
	if f.config.NoSyncDir {
		return &fs.PathError{Op: "sync", Path: name, Err: fsys.Unsupported(syscall.EINVAL)}
	}
	f.commit(dir)
	return nil
}

// Free is math.MaxInt64 without a limit.
func (f *FS) Free(dir string) (int64, error) {
	v, err := f.Volume(dir)
	if err == nil && v.Free < 0 {
		err = &fs.PathError{Op: "statfs", Path: dir, Err: errors.ErrUnsupported}
	}
	if err != nil {
		return 0, err
	}
	return v.Free, nil
}

func (f *FS) Volume(dir string) (fsys.Volume, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	node, err := f.folder(dir)
	if err != nil {
		return fsys.Volume{}, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	v := fsys.Volume{
		Free: math.MaxInt64, Files: -1, MaxSize: f.config.maxSize(), MaxName: f.config.maxName(),
		Mount: fsys.Mount{Device: 1, ID: node.mount + 1},
	}
	if f.config.NoSizes {
		v.Free = -1
	} else if f.config.Capacity != 0 {
		v.Free = f.room() * pageSize
	}
	if f.config.MaxFiles > 0 {
		v.Files = max(f.config.MaxFiles-f.files(), 0)
	}
	return v, nil
}

func (f *FS) MountPoint(name string) (is bool, err error) {
	err = f.on("stat", name, func(n *inode) { is = n.mounted })
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return is, err
}

func (f *FS) Writable(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.folder(dir); err != nil {
		return &fs.PathError{Op: "access", Path: dir, Err: err}
	}
	return nil
}

func (f *FS) Chtimes(name string, mtime time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := f.find(name, true)
	if err == nil && at.node == nil {
		err = syscall.ENOENT
	}
	if err != nil {
		return &fs.PathError{Op: "chtimes", Path: name, Err: err}
	}
	at.node.mtime = mtime
	if step := f.config.TimeStep; step > 0 {
		at.node.mtime = mtime.Truncate(step)
	}
	return nil
}

func (f *FS) Resolve(name string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := f.find(name, true)
	if link, ok := errors.AsType[*fs.PathError](err); ok {
		return "", link
	}
	if err != nil {
		return "", &fs.PathError{Op: "resolve", Path: name, Err: err}
	}
	return filepath.FromSlash(at.path), nil
}

// Key distinguishes this FS from every other one.
func (f *FS) Key(name string) (any, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := f.find(name, false)
	if err != nil {
		return nil, &fs.PathError{Op: "resolve", Path: name, Err: err}
	}
	return key{f, at.path}, nil
}

type key struct {
	fs   *FS
	path string
}

// place is where a name leads.
type place struct {
	path  string   // without links on the way
	dir   *inode   // the folder that has base or could have it; nil for the root
	base  string   // last element of path
	node  *inode   // nil: nothing there
	above []*inode // dir and the folders over it
}

// find looks a name up, following links on the way; a link as the last element only if follow.
func (f *FS) find(name string, follow bool) (place, error) {
	const maxLinks = 40
	if name == "" {
		return place{}, syscall.ENOENT
	}
	todo := elements(name)
	above, names := []*inode{}, []string{}
	here := f.root
	for links := 0; ; {
		if len(todo) == 0 { // the root, or . or .. at the end
			at := place{path: "/" + strings.Join(names, "/"), node: here, above: above}
			if len(above) > 0 {
				at.dir, at.base = above[len(above)-1], names[len(names)-1]
			}
			return at, nil
		}
		if here.entries == nil {
			return place{}, syscall.ENOTDIR
		}
		elem := todo[0]
		todo = todo[1:]
		if elem == "." {
			continue
		}
		if elem == ".." {
			if n := len(above); n > 0 {
				here, above, names = above[n-1], above[:n-1], names[:n-1]
			}
			continue
		}
		last := len(todo) == 0
		node := here.entries[elem]
		switch {
		case node == nil && !last:
			return place{}, syscall.ENOENT
		case node != nil && node.mode&fs.ModeSymlink != 0 && (!last || follow):
			if links++; links > maxLinks {
				return place{}, syscall.ELOOP
			}
			if err := fsys.MayFollow(f.user, here.info(""), node.info(elem)); err != nil {
				link := filepath.FromSlash(path.Join("/", strings.Join(names, "/"), elem))
				return place{}, &fs.PathError{Op: "resolve", Path: link, Err: err}
			}
			if strings.HasPrefix(node.target, "/") {
				here, above, names = f.root, above[:0], names[:0]
			}
			todo = append(elements(node.target), todo...)
		case last:
			return place{
				path: path.Join("/", strings.Join(names, "/"), elem), dir: here, base: elem, node: node,
				above: append(slices.Clone(above), here),
			}, nil
		default:
			above, names = append(above, here), append(names, elem)
			here = node
		}
	}
}

func elements(name string) []string {
	name = filepath.ToSlash(name[len(filepath.VolumeName(name)):])
	return slices.DeleteFunc(strings.Split(name, "/"), func(e string) bool { return e == "" })
}

func (f *FS) folder(name string) (*inode, error) {
	at, err := f.find(name, true)
	switch {
	case err != nil:
		return nil, err
	case at.node == nil:
		return nil, syscall.ENOENT
	case at.node.entries == nil:
		return nil, syscall.ENOTDIR
	}
	return at.node, nil
}

// vacant is a place where nothing is yet.
func (f *FS) vacant(op, name string) (place, error) {
	at, err := f.find(name, false)
	if err == nil && at.node != nil {
		err = syscall.EEXIST
	}
	if err != nil {
		return place{}, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return at, nil
}

// file is an open file. It keeps working after its name is gone.
type file struct {
	fs            *FS
	name          string
	node          *inode
	reads, writes bool
	closed        bool // under fs.mu
}

func (o *file) Name() string { return o.name }

func (o *file) fail(op string, err error) error { return &fs.PathError{Op: op, Path: o.name, Err: err} }

func (o *file) ReadAt(p []byte, off int64) (int, error) {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	switch {
	case o.closed:
		return 0, o.fail("read", fs.ErrClosed)
	case !o.reads:
		return 0, o.fail("read", syscall.EBADF)
	case off < 0:
		return 0, o.fail("read", errors.New("negative offset"))
	}
	n := o.node.now.read(p, off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes what there is room for, and says how much that was.
func (o *file) WriteAt(p []byte, off int64) (int, error) {
	data := bytes.Clone(p)
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	switch {
	case o.closed:
		return 0, o.fail("write", fs.ErrClosed)
	case !o.writes:
		return 0, o.fail("write", syscall.EBADF)
	case off < 0:
		return 0, o.fail("write", errors.New("negative offset"))
	case len(data) == 0:
		return 0, nil
	}
	var err error
	if most := o.fs.config.maxSize() - off; most < int64(len(data)) {
		data, err = data[:max(most, 0)], syscall.EFBIG
	}
	fits := o.fs.allocate(o.node, off, int64(len(data)))
	if fits < int64(len(data)) {
		data, err = data[:fits], syscall.ENOSPC
	}
	if len(data) > 0 {
		o.node.now.write(data, off)
		o.node.mtime = time.Now()
		o.node.pending = append(o.node.pending, change{data: data, off: off, size: o.node.now.size})
	}
	if err != nil {
		err = o.fail("write", err)
	}
	return len(data), err
}

func (o *file) Close() error {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	if o.closed {
		return o.fail("close", fs.ErrClosed)
	}
	o.closed = true
	if o.node.locked == o {
		o.node.locked = nil
	}
	o.node.opens--
	o.fs.drop(o.node)
	return nil
}

func (o *file) Stat() (fs.FileInfo, error) {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	if o.closed {
		return nil, o.fail("stat", fs.ErrClosed)
	}
	return o.node.info(path.Base(filepath.ToSlash(o.name))), nil
}

func (o *file) Truncate(size int64) error {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	switch {
	case o.closed:
		return o.fail("truncate", fs.ErrClosed)
	case !o.writes || size < 0:
		return o.fail("truncate", syscall.EINVAL)
	case size > o.fs.config.maxSize():
		return o.fail("truncate", syscall.EFBIG)
	}
	o.fs.resize(o.node, size)
	return nil
}

func (o *file) Reserve(off, size int64) error {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	switch {
	case o.closed:
		return o.fail("reserve", fs.ErrClosed)
	case off < 0 || size < 0:
		return o.fail("reserve", syscall.EINVAL)
	case o.fs.config.NoReserve:
		return o.fail("reserve", errors.ErrUnsupported)
	case !o.writes:
		return o.fail("reserve", syscall.EBADF)
	case size > o.fs.config.maxSize()-off:
		return o.fail("reserve", syscall.EFBIG)
	}
	size += off // all up to there
	if !o.fs.reserve(o.node, size) {
		return o.fail("reserve", syscall.ENOSPC)
	}
	if size > o.node.now.size {
		o.fs.resize(o.node, size)
	}
	return nil
}

func (o *file) Sync() error {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	if o.closed {
		return o.fail("sync", fs.ErrClosed)
	}
	if o.fs.config.NoSync {
		return o.fail("sync", fsys.Unsupported(syscall.EINVAL))
	}
	o.node.commit()
	return nil
}

func (o *file) WriteBack(off, size int64) error { return o.hint("write back") }

func (o *file) DropCache(off, size int64) error { return o.hint("drop cache") }

// hint does nothing: there is no cache.
func (o *file) hint(op string) error {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	if o.closed {
		return o.fail(op, fs.ErrClosed)
	}
	return nil
}

func (o *file) Chmod(mode fs.FileMode) error {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	if o.closed {
		return o.fail("chmod", fs.ErrClosed)
	}
	o.node.mode = o.node.mode.Type() | mode.Perm()
	return nil
}

func (o *file) Chown(uid, _ int) error {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	if o.closed {
		return o.fail("chown", fs.ErrClosed)
	}
	if uid >= 0 {
		o.node.uid = uint32(uid)
	}
	return nil
}

// LoseUnsynced is what a failed Sync does on Linux: the bytes written since the last good one are still to be read, and
// count as written, but no later Sync will write them to the disk. faultfs calls it.
func (o *file) LoseUnsynced() {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	o.node.pending = nil
}

func (o *file) TryLock() error {
	o.fs.mu.Lock()
	defer o.fs.mu.Unlock()
	switch {
	case o.closed:
		return o.fail("lock", fs.ErrClosed)
	case o.fs.config.NoLocks:
		return o.fail("lock", errors.ErrUnsupported)
	case o.node.locked != nil && o.node.locked != o:
		return o.fail("lock", fsys.ErrLocked)
	}
	o.node.locked = o
	return nil
}

func (c Config) maxSize() int64 {
	if c.MaxFileSize > 0 {
		return c.MaxFileSize
	}
	return math.MaxInt64
}

func (c Config) maxName() int {
	if c.MaxName > 0 {
		return c.MaxName
	}
	return math.MaxInt32
}

// info is a FileInfo as of now.
type info struct {
	name  string
	size  int64
	mode  fs.FileMode
	mtime time.Time
	sys   sys
}

func (n *inode) info(name string) fs.FileInfo {
	size := n.now.size
	if n.target != "" {
		size = int64(len(n.target))
	}
	if name == "" {
		name = "/"
	}
	return info{name, size, n.mode, n.mtime, sys{n, uint64(n.links), n.blocks() * pageSize, n.uid, n.mount + 1}}
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) ModTime() time.Time { return i.mtime }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return i.sys }

type sys struct {
	node      *inode
	links     uint64
	allocated int64
	uid       uint32
	device    uint64
}

var _ fsys.Inode = sys{}

func (s sys) Links() uint64 { return s.links }

func (s sys) Allocated() int64 { return s.allocated }

func (s sys) Owner() (uid uint32, ok bool) { return s.uid, true }

func (s sys) Device() uint64 { return s.device }

func (s sys) Same(other any) bool {
	o, ok := other.(sys)
	return ok && o.node == s.node
}
