package fsys

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Sticky reports whether only owners may rename and remove what is in the folder, as in /tmp.
func Sticky(folder fs.FileInfo) bool { return folder.Mode()&fs.ModeSticky != 0 }

// ModeIn is what a working file or folder with the mode perm gets in the folder: in a sticky one, which strangers share,
// only the bits of the owner.
func ModeIn(folder fs.FileInfo, perm fs.FileMode) fs.FileMode {
	if Sticky(folder) {
		return perm & 0o700
	}
	return perm
}

// ReplacedMode is the mode for a file that replaces one with the mode old, when files made in its folder get the mode
// fresh (by umask or default ACL). Nobody may read or write the new file who could not read or write the old one, and
// whoever could execute it still can: 0600 stays 0600 under the umask 022, and an executable stays one.
func ReplacedMode(old, fresh fs.FileMode) fs.FileMode {
	return (fresh&old | old&0o111).Perm()
}

// SetTime sets the modification time of the file and returns what the file says then: FAT rounds to two seconds, some
// file systems to one, and some keep what they had without an error. A later look is to be compared with that.
func SetTime(f FS, name string, mtime time.Time) (is time.Time, err error) {
	if err := f.Chtimes(name, mtime); err != nil {
		return time.Time{}, err
	}
	fi, err := f.Lstat(name)
	if err != nil {
		return time.Time{}, err
	}
	return fi.ModTime(), nil
}

// Ours reports whether the file or folder in dir belongs to us: to the effective user, or to whoever gets the files that
// we make in dir. The latter is asked only when the former says no, by making a file. Without owners all files are ours.
func Ours(f FS, dir string, fi fs.FileInfo) (bool, error) {
	if isUsers(f, fi) {
		return true, nil
	}
	owner, _ := Owner(fi)
	made, ok, err := MadeBy(f, dir)
	return err == nil && (!ok || made == owner), err
}

// MadeBy is the owner of the files that we make in dir. It is not the effective user where root is squashed (NFS) or
// where a mount gives all files one owner (vfat, CIFS, many FUSE file systems). It makes an empty file and removes it.
// ok is false if the system does not say.
func MadeBy(f FS, dir string) (uid uint32, ok bool, err error) {
	name := filepath.Join(dir, ".ossdl-"+rand.Text()[:12]+".tmp")
	file, err := f.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, false, err
	}
	fi, err := file.Stat()
	if err = errors.Join(err, file.Close(), f.Remove(name)); err != nil {
		return 0, false, err
	}
	uid, ok = Owner(fi)
	return uid, ok, nil
}

// MakerIn is MadeBy for judging what is there. Where nothing of ours can be made, it is the effective user.
func MakerIn(f FS, dir string) (uid uint32, ok bool, err error) {
	uid, ok, err = MadeBy(f, dir)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		uid, ok = f.User()
		return uid, ok, nil
	}
	return uid, ok, err
}

// Sharing says whose files are in a folder.
type Sharing struct {
	Strangers bool   // not only ours, root's and those of whom the folder's permissions trust; only then:
	Over      uint32 // the owner of the sticky folder
	Maker     uint32 // who gets the files that we make there
}

// Planted reports whether the file fi in the folder dir may be a stranger's: dir is sticky, so that strangers share it, and the
// file is neither ours nor root's, nor the folder owner's, who can replace any file there anyway. Its owner can change it at any time,
// and can forge bytes that have the right CRC-64. In any other folder whoever may write to it is trusted.
func Planted(f FS, dir string, fi fs.FileInfo) (bool, error) {
	return PlantedIn(f, fi, func() (s Sharing, err error) {
		folder, err := f.Lstat(dir)
		if err == nil && Sticky(folder) {
			s.Over, _ = Owner(folder)
			s.Maker, s.Strangers, err = MakerIn(f, dir)
		}
		return s, err
	})
}

// PlantedIn is Planted for a file in a folder that sharing tells about. It is called only if that matters.
func PlantedIn(f FS, fi fs.FileInfo, sharing func() (Sharing, error)) (bool, error) {
	owner, _ := Owner(fi)
	if isUsers(f, fi) || owner == 0 {
		return false, nil
	}
	s, err := sharing()
	return err == nil && s.Strangers && owner != s.Over && owner != s.Maker, err
}

// isUsers reports whether a file or folder belongs to the effective user, or to nobody.
func isUsers(f FS, fi fs.FileInfo) bool {
	owner, ok := Owner(fi)
	if !ok {
		return true
	}
	user, ok := f.User()
	return !ok || owner == user
}

// CheckReplaceable finds what keeps every rename from replacing the file name, as far as that can be known before: the
// file is a mount point of its own (EBUSY), or another user's in a sticky folder of another user (EPERM). No file is no
// hindrance. name must be resolved.
func CheckReplaceable(f FS, name string) error {
	fi, err := f.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	refuse := func(err error) error { return Unusable(&fs.PathError{Op: "replace", Path: name, Err: err}) }
	mount, err := f.MountPoint(name)
	if err != nil {
		return err
	}
	if mount {
		return refuse(fmt.Errorf("%w: the file is a mount point of its own, which nothing can replace", syscall.EBUSY))
	}
	dir := filepath.Dir(name)
	folder, err := f.Lstat(dir)
	if err != nil || !Sticky(folder) {
		return err
	}
	user, ok := f.User()
	of, _ := Owner(folder)
	if !ok || user == 0 || of == user {
		return nil
	}
	owner, _ := Owner(fi)
	if isUsers(f, fi) {
		return nil
	}
	if maker, ok, err := MakerIn(f, dir); err != nil || !ok || owner == maker {
		return err
	}
	return refuse(fmt.Errorf("%w: the file belongs to user %d, and in this sticky folder of user %d nobody else may replace it",
		syscall.EPERM, owner, of))
}
