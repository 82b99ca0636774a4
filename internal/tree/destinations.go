package tree

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/ossdl/ossdl/internal/fsys"
)

// Destinations tells whether files that are named by paths, anywhere, would be one file, or whether one would lie below another.
// Links are followed. Folders are told apart by what they are and not by their paths, since one can have several. What would be
// in a folder that does not exist yet is told apart by name, in the way of the folder above that does.
type Destinations struct {
	fs      fsys.FS
	folds   bool                // what a folder does that shows nothing of itself
	byPath  map[string]int      // folders that exist, by path without links: their numbers
	folders []destinationFolder // by number
	taken   map[destination]bool
	owners  map[destination]bool // the files whose working folders would have one of the files in them
}

// destinationFolder is a folder that exists.
type destinationFolder struct {
	info      fs.FileInfo
	foldsCase bool
}

// destination is a name below a folder that exists.
type destination struct {
	folder int // its number; -1: not even the top folder exists
	name   string
}

// NewDestinations returns the Destinations for files on f. foldsCase says whether a folder is taken to be case-insensitive if
// nothing in it shows that.
func NewDestinations(f fsys.FS, foldsCase bool) *Destinations {
	return &Destinations{fs: f, folds: foldsCase, byPath: map[string]int{}, taken: map[destination]bool{}, owners: map[destination]bool{}}
}

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
// have to be a folder for the other, or if one lies in the folder that the download of the other works in. It makes and changes
// nothing.
func (d *Destinations) Add(path string) error {
	path = d.real(path)
	at := d.find(path)
	isFile, seen := d.taken[at]
	switch {
	case seen && isFile:
		return errTwin
	case seen:
		return errBelow
	case d.owners[at]:
		return errInner
	}
	if err := d.checkFolder(filepath.Dir(path)); err != nil {
		return err
	}
	for dir := filepath.Dir(at.name); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		above := destination{at.folder, dir}
		if d.taken[above] {
			return errBelow
		}
		d.taken[above] = false
	}
	d.taken[at] = true
	return nil
}

// checkFolder returns an error if a download works in the folder of a file. It remembers the file whose download would do that.
func (d *Destinations) checkFolder(dir string) error {
	base := filepath.Base(dir)
	at := len(base) - len(workSuffix)
	if at <= 0 || !strings.EqualFold(base[at:], workSuffix) {
		return nil
	}
	owner := d.find(d.real(dir[:len(dir)-len(workSuffix)]))
	if d.taken[owner] || strings.HasPrefix(strings.ToLower(base), otherWork) {
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
	d.folders = append(d.folders, destinationFolder{info, looksFolding(d.fs, real, d.folds)})
	d.byPath[real] = n
	return n, true
}
