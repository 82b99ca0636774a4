package tree

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
)

// Keep remembers the names that a call's keys have, to find the files that no key has. It takes 16 bytes a name, and up to
// twice as much while it grows. First all names are added, and then it is asked. [NewKeep] makes one.
type Keep struct {
	seed   maphash.Seed
	files  []uint64 // hashes of the names of files, sorted once it is asked
	folded []uint64 // hashes of all names, as a case-insensitive file system takes them; sorted, too
	found  []bool   // of folded: the file was found by its name
	sorted bool
}

// NewKeep returns a Keep without names.
func NewKeep() *Keep { return &Keep{seed: maphash.MakeSeed()} }

// Add remembers the name of a file, or of a folder, which ends in a slash.
func (k *Keep) Add(name string) {
	plain, isFolder := strings.CutSuffix(name, "/")
	if !isFolder {
		k.files = append(k.files, k.hash(plain))
	}
	k.folded = append(k.folded, k.hash(fold(plain)))
}

// Files returns how many files it has.
func (k *Keep) Files() int { return len(k.files) }

func (k *Keep) hash(name string) uint64 { return maphash.String(k.seed, name) }

func (k *Keep) sort() {
	if !k.sorted {
		slices.Sort(k.files)
		slices.Sort(k.folded)
		k.found = make([]bool, len(k.folded))
		k.sorted = true
	}
}

// hasFile reports whether a key has the file.
func (k *Keep) hasFile(name string) bool {
	_, has := slices.BinarySearch(k.files, k.hash(name))
	return has
}

// hasAnyCase reports whether a key has a name, of a file or a folder, that differs from this one by nothing but case.
func (k *Keep) hasAnyCase(name string) bool {
	_, has := slices.BinarySearch(k.folded, k.hash(fold(name)))
	return has
}

// Extra is a file that no key has.
type Extra struct {
	Name    string
	Size    int64
	ModTime time.Time
}

// noteFound records that the file of a key was found by its name.
func (k *Keep) noteFound(name string) {
	if i, has := slices.BinarySearch(k.folded, k.hash(fold(name))); has {
		k.found[i] = true
	}
}

// explains reports whether a file may be that of a key which was not found by its name: the key differs from it only by case.
func (k *Keep) explains(name string) bool {
	i, has := slices.BinarySearch(k.folded, k.hash(fold(name)))
	return has && !k.found[i]
}

// extras are those found by a walk. Of each kind at most some are kept, and all are counted.
type extras struct {
	sure, unsure []Extra // unsure: a key differs from it only by case
	nSure        int
	names        []string // of all unsure ones
	found        int      // files of keys
}

// Extras returns the files that no key has, at most as many as most, and how many there are. there is how many of the files of
// keep must be there. Only names are looked at that concerns returns true for. What is not a regular file is none of them,
// links above all, and neither are working files and what is in folders that may not be read. Links are not followed.
//
// A file system may give a file another name than it was made with: in another case, or another normal form of Unicode. Then
// the file of a key would look like one without. So all files of keys must be found. Those that are not may be files whose
// names differ by case, which are left out then. If that does not explain it, the error says so.
func (f *Folder) Extras(ctx context.Context, keep *Keep, there int, concerns func(name string) bool, most int) ([]Extra, int, error) {
	keep.sort()
	var x extras
	if err := f.walk(ctx, ".", keep, concerns, most, &x); err != nil {
		return nil, 0, err
	}
	explained := 0
	for _, name := range x.names {
		if keep.explains(name) {
			explained++
		}
	}
	switch missing := there - x.found; {
	case missing <= 0:
		all := append(x.sure, x.unsure...)
		return all[:min(len(all), most)], x.nSure + len(x.names), nil
	case missing <= explained:
		return x.sure, x.nSure, nil
	default:
		return nil, 0, fmt.Errorf("%d files of keys are no longer in %s, or the file system lists them under other names", missing-explained, f.dir)
	}
}

// maxEntries limits how many names of one folder are read.
const maxEntries = 1 << 24

// walk looks at what is in the folder dir, and below it.
func (f *Folder) walk(ctx context.Context, dir string, keep *Keep, concerns func(string) bool, most int, x *extras) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	names, err := f.fs.List(filepath.FromSlash(dir), maxEntries)
	if errors.Is(err, fs.ErrPermission) { // such as lost+found
		f.log.Warn("folder not read; nothing in it is deleted", "dir", filepath.Join(f.dir, filepath.FromSlash(dir)), "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	if len(names) >= maxEntries {
		return fmt.Errorf("%s has more than %d entries", filepath.Join(f.dir, filepath.FromSlash(dir)), maxEntries)
	}
	slices.Sort(names)
	for _, base := range names {
		name := path.Join(dir, base)
		fi, err := f.fs.Lstat(filepath.FromSlash(name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case fi.IsDir():
			if err := f.walk(ctx, name, keep, concerns, most, x); err != nil {
				return err
			}
		case fi.Mode().IsRegular():
			x.see(name, fi, keep, concerns, most)
		}
	}
	return nil
}

// see sorts out a file.
func (x *extras) see(name string, fi fs.FileInfo, keep *Keep, concerns func(string) bool, most int) {
	if keep.hasFile(name) {
		x.found++
		keep.noteFound(name)
		return
	}
	if isAmongWorking(name) || !concerns(name) {
		return
	}
	list := &x.sure
	if keep.hasAnyCase(name) {
		list = &x.unsure
		x.names = append(x.names, name)
	} else {
		x.nSure++
	}
	if len(*list) < most {
		*list = append(*list, Extra{Name: name, Size: fi.Size(), ModTime: fi.ModTime()})
	}
}

// isAmongWorking reports whether a name is that of a folder for working files, at the top or below, or within one. Those of a
// download to the single file NAME are in NAME.cp, or in a folder whose name begins with .ossdl-.
func isAmongWorking(name string) bool {
	return slices.ContainsFunc(strings.Split(name, "/"), isWorkDir) || isOfDownload(name)
}

// isOfDownload reports whether a name is that of a working file of a download to a single file.
func isOfDownload(name string) bool {
	for element := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(element, WorkDir+"-") {
			return true
		}
	}
	return strings.HasSuffix(path.Dir(name), ".cp") && isWorkingFile(path.Base(name))
}

// isWorkingFile reports whether a download to a single file may have a working file of this name.
func isWorkingFile(base string) bool {
	switch base {
	case "data", "lock", "recent", "trial", "trial.moved":
		return true
	}
	return strings.HasPrefix(base, "checkpoint.json") // also while it is replaced
}

// Delete removes a file that no key has, and the folders above it that are empty then, unless a key stands for them. It removes
// no file that has changed since it was found, and none through a link.
func (f *Folder) Delete(e Extra, keep *Keep) error {
	at := filepath.FromSlash(e.Name)
	for i, c := range e.Name {
		if c == '/' {
			if err := f.checkFolder(e.Name[:i]); err != nil {
				return err
			}
		}
	}
	fi, err := f.fs.Lstat(at)
	switch {
	case err != nil:
		return err
	case !fi.Mode().IsRegular() || fi.Size() != e.Size || !fi.ModTime().Equal(e.ModTime):
		return errors.New("it has changed meanwhile")
	}
	if err := f.fs.Remove(at); err != nil {
		return err
	}
	for dir := path.Dir(e.Name); dir != "." && !keep.hasAnyCase(dir) && f.IsFolder(dir); dir = path.Dir(dir) {
		if err := f.fs.Remove(filepath.FromSlash(dir)); err != nil {
			break // it is not empty, or a mount point
		}
	}
	return nil
}

// Look returns the folder that f is the file system of, to find out what a call would do there. Nothing is made or changed. f
// is nil if there is no such folder. foldsCase says whether it is taken to be case-insensitive if nothing in it shows that.
func Look(f fsys.FS, dir string, foldsCase bool, log *slog.Logger) *Folder {
	if f == nil {
		f = nothing{}
	}
	d := &Folder{
		fs: f, dir: dir, log: log, readOnly: true,
		known: map[string]place{}, sharing: map[string]fsys.Sharing{}, workDirs: map[string]*left{}, times: map[string]times{},
	}
	d.foldsCase = looksFolding(f, ".", foldsCase)
	d.top = place{work: WorkDir}
	if v, err := f.Volume("."); err == nil { // a hint
		d.top.volume = v
	}
	d.names = newCollisionFS(f, d.foldsCase, d.isWorking, log)
	d.fs = d.names
	return d
}

// looksFolding reports whether the folder dir is case-insensitive, as far as one of its names shows that; otherwise it returns usual.
func looksFolding(f fsys.FS, dir string, usual bool) bool {
	const enough = 1000
	names, err := f.List(dir, enough)
	if err != nil {
		return usual
	}
	for _, name := range names {
		name = filepath.Join(dir, name)
		fi, err := f.Lstat(name)
		if err != nil {
			continue
		}
		if folds, sure := foldsCase(f, name, fi); folds || sure {
			return folds
		}
	}
	return usual
}

// nothing is the file system of a folder that is not there.
type nothing struct{ fsys.FS }

// Lstat implements [fsys.FS].
func (nothing) Lstat(name string) (fs.FileInfo, error) {
	return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
}

// List implements [fsys.FS].
func (nothing) List(string, int) ([]string, error) { return nil, nil }

// Volume implements [fsys.FS].
func (nothing) Volume(string) (fsys.Volume, error) { return fsys.Volume{}, errors.ErrUnsupported }
