package tree

import (
	"io/fs"
	"path"
	"path/filepath"

	"github.com/ossdl/ossdl/internal/fsys"
)

// sharing says who may have put files into a folder.
type sharing struct {
	strangers bool   // not only we, root and those whom the folder's permissions trust
	made      uint32 // the owner of files that we make there, if madeKnown
	madeKnown bool
}

// Planted reports whether a file may be a stranger's: it is neither ours nor root's, and its folder is sticky, or is another user's
// below such a one. Its owner can change it at any time, and can give it any size, time and CRC-64. In other folders whoever may
// write to them is trusted.
func (f *Folder) Planted(name string, fi fs.FileInfo) (bool, error) {
	owner, owned := fsys.Owner(fi)
	user, compared := f.fs.User()
	if !owned || !compared || owner == user || owner == 0 {
		return false, nil
	}
	s, err := f.sharingOf(path.Dir(name))
	if err != nil || !s.strangers {
		return false, err
	}
	return s.madeKnown && owner != s.made, nil
}

// sharingOf finds out about a folder, which exists.
func (f *Folder) sharingOf(dir string) (s sharing, err error) {
	f.mu.Lock()
	s, known := f.sharing[dir]
	f.mu.Unlock()
	if known {
		return s, nil
	}
	at := filepath.FromSlash(dir)
	if s.strangers, err = f.isOfStrangers(dir); err != nil {
		return s, err
	}
	user, _ := f.fs.User()
	switch {
	case !s.strangers:
	case f.readOnly:
		s.made, s.madeKnown = user, true // to find out would make a file
	default:
		if s.made, s.madeKnown, err = fsys.MadeBy(f.fs, at); err != nil {
			return s, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.sharing) >= maxKnown {
		clear(f.sharing)
	}
	f.sharing[dir] = s
	return s, nil
}

// isOfStrangers reports whether strangers may have put files into a folder: it is sticky, or one of them may have made it in such
// a folder.
func (f *Folder) isOfStrangers(dir string) (bool, error) {
	fi, err := f.fs.Lstat(filepath.FromSlash(dir))
	if err != nil || fsys.Sticky(fi) || dir == "." {
		return err == nil && fsys.Sticky(fi), err
	}
	owner, _ := fsys.Owner(fi)
	if user, _ := f.fs.User(); owner == user || owner == 0 {
		return false, nil
	}
	return f.isOfStrangers(path.Dir(dir))
}
