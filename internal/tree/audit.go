package tree

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"math"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/ossdl/ossdl/internal/fsys"
)

// Audit compares names with what is below a folder. It changes nothing, and follows no symbolic link. [NewAudit] makes one. It
// is safe for concurrent use, except that [Audit.Others] must come last.
//
// It remembers the names that it was asked about, as hashes of 16 bytes each. Two names have the same hash once in 10^7 audits
// of a million names; then one file too many counts as known.
type Audit struct {
	fs        fsys.FS // within the folder
	spellings *spellings
	seed      maphash.Seed

	mu    sync.Mutex
	known map[string]struct{} // some of the folders that exist
	names map[uint64]uint64   // that are known: hashes of the canonical spelling and of the one that was asked about
	files map[uint64]struct{} // the same files by their identity; nil: names are enough
}

// NewAudit returns an Audit of the folder that f is the file system of.
func NewAudit(f fsys.FS) *Audit {
	a := &Audit{
		fs: f, spellings: newSpellings(f, false), seed: maphash.MakeSeed(),
		known: map[string]struct{}{}, names: map[uint64]uint64{},
	}
	if runtime.GOOS == "darwin" { // whose file systems may list a name in another normal form
		a.files = map[uint64]struct{}{}
	}
	return a
}

// File returns what is at the name of a file: nil if there is nothing. If the file cannot be that of this name, why says so.
func (a *Audit) File(name string) (fi fs.FileInfo, why string, err error) {
	fi, why, err = a.look(name)
	switch {
	case fi == nil || why != "" || err != nil:
		return nil, why, err
	case fi.IsDir():
		return nil, "it is a folder", nil
	case !fi.Mode().IsRegular():
		why = notRegular(fi)
	}
	return fi, a.claim(name, fi, why), nil
}

// Folder reports whether there is anything at the name of a folder. If it is no folder, why says so.
func (a *Audit) Folder(name string) (there bool, why string, err error) {
	fi, why, err := a.look(name)
	switch {
	case fi == nil || why != "" || err != nil:
		return false, why, err
	case !fi.IsDir():
		return true, a.claim(name, fi, "it is not a folder"), nil
	}
	return true, "", nil
}

func notRegular(fi fs.FileInfo) string {
	if fi.Mode()&fs.ModeSymlink != 0 {
		return "it is a symbolic link, and links inside the folder are not followed"
	}
	return fmt.Sprintf("it is not a regular file (%v)", fi.Mode().Type())
}

// look returns what is at name: nil if there is nothing, or if what is above is no folder, which why says then.
func (a *Audit) look(name string) (fi fs.FileInfo, why string, err error) {
	if there, why, err := a.enter(path.Dir(name)); !there || why != "" || err != nil {
		return nil, why, err
	}
	fi, err = a.lstat(name)
	return fi, "", err
}

// lstat returns what is at name; nil if there is nothing.
func (a *Audit) lstat(name string) (fs.FileInfo, error) {
	fi, err := a.fs.Lstat(filepath.FromSlash(name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENAMETOOLONG) {
		return nil, nil
	}
	return fi, err
}

// enter reports whether the folder name is there, with those above it. why says what is there instead.
func (a *Audit) enter(name string) (there bool, why string, err error) {
	if name == "." || a.isKnown(name) {
		return true, "", nil
	}
	if there, why, err := a.enter(path.Dir(name)); !there || why != "" || err != nil {
		return false, why, err
	}
	fi, err := a.lstat(name)
	switch {
	case fi == nil || err != nil:
		return false, "", err
	case !fi.IsDir():
		return false, name + ": " + a.claim(name, fi, notFolder(fi)), nil
	}
	a.observe(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxKnown {
		clear(a.known)
	}
	a.known[name] = struct{}{}
	return true, "", nil
}

func notFolder(fi fs.FileInfo) string {
	if fi.Mode()&fs.ModeSymlink != 0 {
		return notRegular(fi)
	}
	return "it is not a folder"
}

func (a *Audit) isKnown(folder string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, known := a.known[folder]
	return known
}

// observe learns how the folder of name, where something is, treats names.
func (a *Audit) observe(name string) {
	if at := filepath.FromSlash(name); a.spellings.mayFold(at) {
		a.spellings.observe(at)
	}
}

// claim records that what is at name belongs to it, whether or not it is as it should be. It returns why, or that the file
// belongs to another name.
func (a *Audit) claim(name string, fi fs.FileInfo, why string) string {
	a.observe(name)
	canonical, exact := a.hashes(name)
	a.mu.Lock()
	defer a.mu.Unlock()
	if other, taken := a.names[canonical]; taken && other != exact {
		return "its file is that of another name, which the file system takes for the same"
	}
	a.names[canonical] = exact
	if id, ok := fsys.ID(fi); ok && a.files != nil && fsys.Links(fi) == 1 {
		a.files[id] = struct{}{}
	}
	return why
}

// hashes returns the hashes of the canonical spelling of a name and of the name itself.
func (a *Audit) hashes(name string) (canonical, exact uint64) {
	at := filepath.FromSlash(name)
	a.spellings.mu.Lock()
	same := a.spellings.canonical(at)
	a.spellings.mu.Unlock()
	return maphash.String(a.seed, same), maphash.String(a.seed, at)
}

// has reports whether the file at name belongs to a name that was asked about.
func (a *Audit) has(name string, fi fs.FileInfo) bool {
	a.observe(name)
	canonical, _ := a.hashes(name)
	if _, known := a.names[canonical]; known {
		return true
	}
	id, ok := fsys.ID(fi)
	_, known := a.files[id]
	return ok && known
}

// Others calls fn with the names of all files, links and other things but folders that were not asked about, in the order of
// names within a folder. Working files are left out.
func (a *Audit) Others(ctx context.Context, fn func(name string)) error { return a.walk(ctx, ".", fn) }

// walk does it for one folder and those below it.
func (a *Audit) walk(ctx context.Context, dir string, fn func(name string)) error {
	names, err := a.fs.List(filepath.FromSlash(dir), math.MaxInt32)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, base := range names {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		name := path.Join(dir, base)
		fi, err := a.lstat(name)
		switch {
		case err != nil:
			return err
		case fi == nil: // gone meanwhile
		case !fi.IsDir():
			if !a.has(name, fi) && !isOfDownload(name) {
				fn(name)
			}
		case a.isWorkDir(dir, base):
		default:
			if err := a.walk(ctx, name, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// isWorkDir reports whether the folder base in dir is one for working files. Below the top there is one only where
// [Folder.WorkDir] says so.
func (a *Audit) isWorkDir(dir, base string) bool {
	if dir == "." || base != WorkDir {
		return dir == "." && strings.EqualFold(base, WorkDir)
	}
	here, err := a.fs.Volume(filepath.FromSlash(dir))
	if err != nil {
		return false
	}
	above, err := a.fs.Volume(filepath.FromSlash(path.Dir(dir)))
	return err == nil && needsWorkDir(here, above)
}
