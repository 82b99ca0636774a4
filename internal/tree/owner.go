package tree

import (
	"io/fs"
	"path"
	"path/filepath"

	"github.com/ossdl/ossdl/internal/fsys"
)

// Planted reports whether a file may be a stranger's: as for [fsys.Planted], also if its folder is another user's below a sticky one.
func (f *Folder) Planted(name string, fi fs.FileInfo) (bool, error) {
	return fsys.PlantedIn(f.fs, fi, func() (fsys.Sharing, error) { return f.sharingOf(path.Dir(name)) })
}

// sharingOf finds out about a folder, which exists.
func (f *Folder) sharingOf(dir string) (s fsys.Sharing, err error) {
	f.mu.Lock()
	s, known := f.sharing[dir]
	f.mu.Unlock()
	if known {
		return s, nil
	}
	if s.Over, s.Strangers, err = f.isOfStrangers(dir); s.Strangers {
		s.Maker, s.Strangers, err = f.makerIn(dir)
	}
	if err != nil {
		return s, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.sharing) >= maxKnown {
		clear(f.sharing)
	}
	f.sharing[dir] = s
	return s, nil
}

// makerIn is [fsys.MakerIn]. If nothing may be made, it is the owner of the folder for working files, if a call has left one, or else
// the effective user.
func (f *Folder) makerIn(dir string) (uid uint32, ok bool, err error) {
	if !f.readOnly {
		return fsys.MakerIn(f.fs, filepath.FromSlash(dir))
	}
	if fi, err := f.fs.Lstat(WorkDir); err == nil && fi.IsDir() {
		uid, ok = fsys.Owner(fi)
		return uid, ok, nil
	}
	uid, ok = f.fs.User()
	return uid, ok, nil
}

// isOfStrangers reports whether strangers may have put files into a folder: it is sticky, or one of them may have made it in such
// a folder. over is the owner of the sticky one; of two, the upper one, in which a stranger may have made the other.
func (f *Folder) isOfStrangers(dir string) (over uint32, is bool, err error) {
	fi, err := f.fs.Lstat(filepath.FromSlash(dir))
	if err != nil {
		return 0, false, err
	}
	owner, _ := fsys.Owner(fi)
	if user, _ := f.fs.User(); dir != "." && owner != user && owner != 0 {
		if over, is, err = f.isOfStrangers(path.Dir(dir)); is || err != nil {
			return over, is, err
		}
	}
	return owner, fsys.Sticky(fi), nil
}
