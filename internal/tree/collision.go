package tree

import (
	"errors"
	"hash/maphash"
	"io/fs"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
)

// ErrCollision says that two keys of one call have names that the file system takes for the same.
var ErrCollision = fsys.Unusable(errors.New("the file system takes its name for that of another key, whose file is there"))

// collisionFS is a file system that may take some names for the same. It refuses to give two keys of one call the same file.
// Only the file system itself knows which names those are, since it folds more than case, and need not do so in all folders.
type collisionFS struct {
	fsys.FS
	log       *slog.Logger
	isWorking func(name string) bool // whether name is that of a working file
	spellings *spellings             // nil: names that differ only by case do not get here

	mu    sync.Mutex
	files map[uint64]struct{} // those that have the name of a key of this call; nil: they are not remembered

	noTimes sync.Once // a time could not be set, and that was logged
}

// newCollisionFS returns f as a file system for the files of one call. foldsCase says that the top folder is case-insensitive,
// so that [Names] keeps names apart that differ only by case.
func newCollisionFS(f fsys.FS, foldsCase bool, isWorking func(string) bool, log *slog.Logger) *collisionFS {
	c := &collisionFS{FS: f, log: log, isWorking: isWorking}
	if foldsCase || runtime.GOOS == "darwin" { // whose file systems normalize names even if they are case-sensitive
		c.files = map[uint64]struct{}{}
	}
	if !foldsCase {
		c.spellings = newSpellings(f, true)
	}
	return c
}

// Rename refuses to replace the file of another key: it returns [ErrCollision].
func (f *collisionFS) Rename(from, to string) error {
	if !f.mayFold(to) || f.isWorking(to) {
		return f.FS.Rename(from, to)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.spellings.taken(to) {
		return ErrCollision
	}
	if f.files != nil {
		if fi, err := f.FS.Lstat(to); err == nil && f.taken(fi) {
			return ErrCollision
		}
	}
	if err := f.FS.Rename(from, to); err != nil {
		return err
	}
	return f.add(to)
}

// Chtimes sets the modification time, if that can be done. A file without its time is complete all the same, and the next call
// compares the content of such files.
func (f *collisionFS) Chtimes(name string, mtime time.Time) error {
	if err := f.FS.Chtimes(name, mtime); err != nil {
		f.noTimes.Do(func() {
			f.log.Warn("could not set the modification time of a file; further ones are not logged", "path", name, "error", err)
		})
	}
	return nil
}

// claim records that an existing file belongs to a key. It returns [ErrCollision] if the file belongs to another.
func (f *collisionFS) claim(name string) error {
	if !f.mayFold(name) {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.spellings.taken(name) {
		return ErrCollision
	}
	return f.add(name)
}

// observe learns from a folder that exists how the one above it treats names.
func (f *collisionFS) observe(name string) {
	if f.spellings.mayFold(name) {
		f.spellings.observe(name)
	}
}

// mayFold reports whether another name may be that of the same file.
func (f *collisionFS) mayFold(name string) bool { return f.files != nil || f.spellings.mayFold(name) }

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
	f.spellings.add(name)
	if f.files == nil {
		return nil
	}
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

// spellings finds the folders below the top that are case-insensitive though the top is not: other mounts, and folders that are
// marked so. There it remembers the names of the call's files. It does not rely on the inode of a file: some file systems give
// each spelling one of its own. A nil one knows of no such folder.
type spellings struct {
	fs       fsys.FS
	seed     maphash.Seed
	topExact bool // the top is known to be case-sensitive

	mu      sync.Mutex
	exact   map[string]struct{} // some of the folders that are case-sensitive, as all folders above them are
	folding map[string]struct{} // all folders that are case-insensitive, as canonical spells them
	names   map[uint64]uint64   // of the call's files in such folders: hashes of the canonical spelling and of the actual one
}

func newSpellings(f fsys.FS, topExact bool) *spellings {
	s := &spellings{
		fs: f, seed: maphash.MakeSeed(), topExact: topExact,
		exact: map[string]struct{}{}, folding: map[string]struct{}{}, names: map[uint64]uint64{},
	}
	s.forget()
	return s
}

// forget drops the folders that are known to be case-sensitive, but for the top. The mutex must be held.
func (s *spellings) forget() {
	clear(s.exact)
	if s.topExact {
		s.exact["."] = struct{}{}
	}
}

// mayFold reports whether another spelling of name may lead to the same file, as far as is known.
func (s *spellings) mayFold(name string) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, exact := s.exact[filepath.Dir(name)]; exact {
		return false
	}
	base := filepath.Base(name)
	return len(s.folding) > 0 || otherCase(base) != base
}

// observe learns how the folder of name, at which there is a file or folder, treats names.
func (s *spellings) observe(name string) {
	dir, base := filepath.Dir(name), filepath.Base(name)
	if s.isFolding(dir) || otherCase(base) == base {
		return
	}
	fi, err := s.fs.Lstat(name)
	if err != nil {
		return
	}
	folds, sure := foldsCase(s.fs, name, fi)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case folds:
		s.folding[s.canonical(dir)] = struct{}{}
	case sure && !s.anyFolds(s.canonical(dir)):
		if len(s.exact) >= maxKnown {
			s.forget()
		}
		s.exact[dir] = struct{}{}
	}
}

func (s *spellings) isFolding(dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, folding := s.folding[s.canonical(dir)]
	return folding
}

// taken reports whether the file name belongs to another key, which is spelled differently.
func (s *spellings) taken(name string) bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	actual, taken := s.names[s.hash(s.canonical(name))]
	return taken && actual != s.hash(name)
}

// add remembers the name of a file, which is there, if other spellings of it lead to the file.
func (s *spellings) add(name string) {
	if s == nil {
		return
	}
	s.observe(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if canonical := s.canonical(name); s.anyFolds(canonical) {
		s.names[s.hash(canonical)] = s.hash(name)
	}
}

// canonical returns the same string for all names that lead to one file. The mutex must be held.
func (s *spellings) canonical(name string) string {
	dir, base := filepath.Dir(name), filepath.Base(name)
	if dir != "." {
		dir = s.canonical(dir)
	}
	if _, folding := s.folding[dir]; folding {
		base = fold(base)
	}
	return filepath.Join(dir, base)
}

// anyFolds reports whether one of the folders that lead to a name, which is spelled canonically, is case-insensitive. The mutex
// must be held.
func (s *spellings) anyFolds(canonical string) bool {
	for canonical != "." {
		canonical = filepath.Dir(canonical)
		if _, folding := s.folding[canonical]; folding {
			return true
		}
	}
	return false
}

func (s *spellings) hash(name string) uint64 { return maphash.String(s.seed, name) }

// maxListed limits how many names of a folder are looked at.
const maxListed = 1 << 20

// foldsCase reports whether the folder of name, where fi is, takes another spelling of name for the same, and whether that is
// sure. One name can show that a folder folds. That it does not is shown only by a name with letters that every such folder folds.
func foldsCase(f fsys.FS, name string, fi fs.FileInfo) (folds, sure bool) {
	dir, base := filepath.Split(name)
	other := otherCase(base)
	if other == base {
		return false, false
	}
	there, err := f.Lstat(dir + other)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, strings.ContainsFunc(base, isASCIILetter)
	case err != nil:
		return false, false
	case fsys.SameFile(fi, there) && (fi.IsDir() || fsys.Links(fi) == 1):
		return true, true
	}
	// Two files of one folder, or two inodes for one file, or two links that the user has made. The names say which it is.
	if dir == "" {
		dir = "."
	}
	names, err := f.List(dir, maxListed)
	if err != nil || len(names) >= maxListed {
		return false, false
	}
	return !slices.Contains(names, base) || !slices.Contains(names, other), true
}

func isASCIILetter(r rune) bool { return 'a' <= r|0x20 && r|0x20 <= 'z' }
