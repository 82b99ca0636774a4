package tree

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/ossdl/ossdl/internal/fsys"
)

// Destinations tells whether files that are named by paths, anywhere, would be one file, or whether one would lie below another.
// Links are followed. Folders are told apart by what they are and not by their paths, since one can have several. What would be
// in a folder that does not exist yet is told apart by name, in the way of the folder above that does.
//
// An empty folder does not show how it treats names. So paths that differ only by case must get their files one after the other, and
// once the first is there the file system is asked whether the second is the same one.
type Destinations struct {
	fs      fsys.FS
	seed    maphash.Seed
	folds   bool                // what a folder does that shows nothing of itself
	byPath  map[string]int      // folders that exist, by path without links: their numbers
	byFold  map[string]int      // the same, by folded path: the number of the first
	folders []destinationFolder // by number
	taken   map[destination]bool
	owners  map[Turn]bool   // the files whose working folders would have one of the files in them
	twins   map[Turn]*twins // of all files; nil: of one alone

	mu     sync.Mutex
	placed map[uint64]string // the paths of the files that are in place, by fsys.ID
}

// destinationFolder is a folder that exists.
type destinationFolder struct {
	info      fs.FileInfo
	foldsCase bool
	first     int // the number of the first folder whose path differs from that of this one only by case
}

// Turn is the same for all files whose paths differ only by case. Others hardly ever have the same one.
type Turn uint64

// twins are the paths of files with one Turn that are in place.
type twins []string

// destination is a name below a folder that exists.
type destination struct {
	folder int // its number; -1: not even the top folder exists
	name   string
}

// NewDestinations returns the Destinations for files on f. foldsCase says whether a folder is taken to be case-insensitive if
// nothing in it shows that.
func NewDestinations(f fsys.FS, foldsCase bool) *Destinations {
	return &Destinations{
		fs: f, seed: maphash.MakeSeed(), folds: foldsCase, byPath: map[string]int{}, byFold: map[string]int{},
		taken: map[destination]bool{}, owners: map[Turn]bool{}, twins: map[Turn]*twins{}, placed: map[uint64]string{},
	}
}

// errTaken is the error of Place.
var errTaken = fmt.Errorf("an earlier item has the same file: %w", ErrCollision)

// The errors of Add.
var (
	errTwin  = errors.New("an earlier item has the same file; each needs one of its own")
	errBelow = errors.New("it would lie below the file of an earlier item, or that below this one")
	errInner = errors.New("it would lie in the folder that another item's download works in, or that in the folder of this one")
)

// workSuffix is what the folder that a download works in is named behind its file. It may also have another name, which begins
// with otherWork.
const (
	workSuffix = ".cp"
	otherWork  = ".ossdl-"
)

// Add remembers the file that a path names. It returns an error if that is the file of an earlier path, if one of the two would
// have to be a folder for the other, or if one lies in the folder that the download of the other works in, in any case of its
// name. It makes and changes nothing. The Turn is for [Destinations.Place].
func (d *Destinations) Add(path string) (Turn, error) {
	path = d.real(path)
	at := d.find(path)
	turn := d.turn(at)
	isFile, seen := d.taken[at]
	switch {
	case seen && isFile:
		return 0, errTwin
	case seen:
		return 0, errBelow
	case d.owners[turn]:
		return 0, errInner
	}
	if err := d.checkFolder(filepath.Dir(path)); err != nil {
		return 0, err
	}
	for dir := filepath.Dir(at.name); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		above := destination{at.folder, dir}
		if d.taken[above] {
			return 0, errBelow
		}
		d.taken[above] = false
	}
	d.taken[at] = true
	t, seen := d.twins[turn]
	if seen && t == nil {
		t = &twins{}
	}
	d.twins[turn] = t
	return turn, nil
}

// turn returns the Turn of a destination.
func (d *Destinations) turn(at destination) Turn {
	if at.folder >= 0 {
		at.folder = d.folders[at.folder].first
	}
	at.name = fold(at.name)
	return Turn(maphash.Comparable(d.seed, at))
}

// Place calls place, which is to put the file that a path names in place, once all paths were added. It returns [ErrCollision] instead
// if the file is that of another path, which is in place by now. It may be called for several files at once, but not for two with one
// Turn. Nor must two be placed at once that turn out to be one: the lock of the file must be held.
func (d *Destinations) Place(turn Turn, path string, place func() error) error {
	t := d.twins[turn]
	if d.isPlaced(t, d.real(path)) {
		return errTaken
	}
	err := place()
	if err == nil {
		d.note(t, d.real(path))
	}
	return err
}

// isPlaced reports whether what is at a path without links is a file that was placed at another path.
func (d *Destinations) isPlaced(t *twins, path string) bool {
	fi, err := d.fs.Lstat(path)
	if err != nil { // almost always
		return false
	}
	if t != nil && slices.ContainsFunc(*t, func(placed string) bool { return isOne(d.fs, placed, path) }) {
		return true
	}
	// Some file systems ignore more than case, such as the normal form of Unicode.
	id, ok := fsys.ID(fi)
	d.mu.Lock()
	placed, known := d.placed[id]
	d.mu.Unlock()
	return ok && known && isOne(d.fs, placed, path)
}

// note remembers that the file at a path without links is in place.
func (d *Destinations) note(t *twins, path string) {
	if t != nil {
		*t = append(*t, path)
	}
	fi, err := d.fs.Lstat(path)
	if err != nil {
		return
	}
	if id, ok := fsys.ID(fi); ok {
		d.mu.Lock()
		d.placed[id] = path
		d.mu.Unlock()
	}
}

// isOne reports whether a file system takes two paths, at which there are files, for one. Two inodes can be one file, and one
// inode can be two links that the user has made. Then the names in the folders say which it is.
func isOne(f fsys.FS, a, b string) bool {
	fa, err := f.Lstat(a)
	if err != nil {
		return false
	}
	fb, err := f.Lstat(b)
	if err != nil {
		return false
	}
	if fsys.SameFile(fa, fb) && fsys.Links(fa) == 1 {
		return true
	}
	for a != b {
		dir, baseA, baseB := filepath.Dir(a), filepath.Base(a), filepath.Base(b)
		if dir == a || filepath.Dir(b) == b {
			return false // one of them has more elements
		}
		if baseA != baseB {
			names, err := f.List(dir, maxListed)
			if err != nil || len(names) >= maxListed || slices.Contains(names, baseA) && slices.Contains(names, baseB) {
				return false
			}
		}
		a, b = dir, filepath.Dir(b)
	}
	return true
}

// checkFolder returns an error if a download works in the folder of a file. It remembers the file whose download would do that.
func (d *Destinations) checkFolder(dir string) error {
	base := filepath.Base(dir)
	at := len(base) - len(workSuffix)
	if at <= 0 || !strings.EqualFold(base[at:], workSuffix) {
		return nil
	}
	owner := d.turn(d.find(d.real(dir[:len(dir)-len(workSuffix)])))
	if _, taken := d.twins[owner]; taken || strings.HasPrefix(strings.ToLower(base), otherWork) {
		return errInner
	}
	d.owners[owner] = true
	return nil
}

// real returns a path without links, as far as it exists.
func (d *Destinations) real(path string) string {
	if real, err := d.fs.Resolve(path); err == nil {
		return real
	} else if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// find returns the destination that a path without links names.
func (d *Destinations) find(path string) destination {
	dir, name := filepath.Dir(path), filepath.Base(path)
	for {
		if n, found := d.number(dir); found {
			if d.folders[n].foldsCase {
				name = fold(name)
			}
			return destination{n, name}
		}
		above := filepath.Dir(dir)
		if above == dir {
			return destination{-1, filepath.Join(dir, name)}
		}
		dir, name = above, filepath.Join(filepath.Base(dir), name)
	}
}

// number returns the number of a folder, if it exists.
func (d *Destinations) number(dir string) (n int, found bool) {
	real, err := d.fs.Resolve(strings.TrimRight(dir, string(filepath.Separator)) + string(filepath.Separator) + ".")
	if err != nil {
		return 0, false
	}
	if n, found := d.byPath[real]; found {
		return n, true
	}
	info, err := d.fs.Lstat(real)
	if err != nil || !info.IsDir() {
		return 0, false
	}
	for n, f := range d.folders {
		if fsys.SameFile(f.info, info) {
			d.byPath[real] = n
			return n, true
		}
	}
	n = len(d.folders)
	folded := fold(real)
	first, seen := d.byFold[folded]
	if !seen {
		first, d.byFold[folded] = n, n
	}
	d.folders = append(d.folders, destinationFolder{info, looksFolding(d.fs, real, d.folds), first})
	d.byPath[real] = n
	return n, true
}
