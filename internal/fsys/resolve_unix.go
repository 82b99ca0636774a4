//go:build unix

package fsys

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// walker finds out where a name leads, one element after the other and each link where it is. The kernel is never asked
// to follow one: it checks whose links may be followed only if fs.protected_symlinks is set.
type walker struct {
	lstat    func(name string) (fs.FileInfo, error)
	readlink func(name string) (string, error)
	rooted   bool    // names are relative, and none leads out
	user     *uint32 // who follows, for mayFollow; nil: every link is followed
}

func osWalker() walker { return walker{lstat: os.Lstat, readlink: os.Readlink} }

// as has the walker follow the links that the user may follow.
func (w walker) as(user uint32) walker {
	w.user = &user
	return w
}

func resolvePath(path string) (string, error) {
	return osWalker().as(uint32(os.Geteuid())).resolve(path)
}

// resolveFolder is the absolute path of an existing folder without links.
func resolveFolder(dir string) (string, error) {
	if dir == "" {
		dir = "."
	}
	return osWalker().resolve(dir + "/.")
}

// resolve is where a file written to path belongs.
func (w walker) resolve(path string) (string, error) {
	here, err := w.start(path)
	if err != nil {
		return "", err
	}
	todo := elements(path)
	for links := 0; len(todo) > 0; {
		name := filepath.Join(here, todo[0]) // here has no links: its parent is what it is by its name
		if w.rooted && name == ".." {
			return "", &fs.PathError{Op: "resolve", Path: path, Err: errEscapes}
		}
		last := len(todo) == 1
		todo = todo[1:]
		fi, err := w.lstat(name)
		switch {
		case last && errors.Is(err, fs.ErrNotExist):
			return name, nil
		case err != nil:
			return "", err
		case fi.Mode()&fs.ModeSymlink != 0:
			if links++; links > maxLinks {
				return "", &fs.PathError{Op: "resolve", Path: path, Err: syscall.ELOOP}
			}
			target, err := w.follow(here, name, fi)
			if err != nil {
				return "", err
			}
			if filepath.IsAbs(target) {
				here = "/"
			}
			todo = slices.Concat(elements(target), todo)
		case !last && !fi.IsDir():
			return "", &fs.PathError{Op: "resolve", Path: name, Err: syscall.ENOTDIR}
		default:
			here = name
		}
	}
	return here, nil
}

// openFolder is OpenFolder.
func openFolder(dir string) (root *Root, unsynced, err error) {
	real, unsynced, err := new(Folders).Make(OS(), dir, 0o777)
	if err != nil {
		return nil, nil, err
	}
	root, err = openResolved(real)
	return root, unsynced, err
}

// openExistingFolder is OpenExistingFolder.
func openExistingFolder(dir string) (*Root, error) {
	real, err := resolvePath(strings.TrimRight(dir, "/") + "/.")
	if err != nil {
		return nil, err
	}
	return openResolved(real)
}

// openResolved opens a folder by a path without links.
func openResolved(real string) (*Root, error) {
	root, err := OpenRoot(real)
	if err != nil {
		return nil, err
	}
	if err := isAtPath(root, real); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

// isAtPath returns an error unless the root is what is at the path, which has no links. os.OpenRoot would follow one that was
// put there after the path was resolved.
func isAtPath(root *Root, path string) error {
	opened, err := root.Stat(".")
	if err != nil {
		return err
	}
	now, err := os.Lstat(path)
	if err == nil && !SameFile(opened, now) {
		err = &fs.PathError{Op: "open", Path: path, Err: errAgain}
	}
	return err
}

// start is the folder at which path begins: the working folder itself, rather than the links by which one came there.
func (w walker) start(path string) (string, error) {
	switch {
	case path == "":
		return "", &fs.PathError{Op: "resolve", Path: path, Err: fs.ErrNotExist}
	case w.rooted && filepath.IsAbs(path):
		return "", &fs.PathError{Op: "resolve", Path: path, Err: errEscapes}
	case w.rooted:
		return ".", nil
	case filepath.IsAbs(path):
		return "/", nil
	}
	wd, err := syscall.Getwd() // os.Getwd believes $PWD
	if err != nil {
		return "", &fs.PathError{Op: "getwd", Path: path, Err: err}
	}
	return wd, nil
}

var errEscapes = errors.New("path escapes from the root")

// elements of a path. A slash at the end is a last element ".", as for the kernel: what is before it must be a folder.
func elements(path string) []string {
	names := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	if strings.HasSuffix(path, "/") {
		names = append(names, ".")
	}
	return names
}

// follow is the target of the link name in the folder dir.
func (w walker) follow(dir, name string, link fs.FileInfo) (string, error) {
	if w.user != nil {
		folder, err := w.lstat(dir)
		if err != nil {
			return "", err
		}
		if err := MayFollow(*w.user, folder, link); err != nil {
			return "", &fs.PathError{Op: "resolve", Path: name, Err: err}
		}
	}
	target, err := w.readlink(name)
	switch {
	case err != nil:
		return "", err
	case target == "":
		return "", &fs.PathError{Op: "resolve", Path: name, Err: syscall.ENOENT}
	case w.rooted && filepath.IsAbs(target):
		return "", &fs.PathError{Op: "resolve", Path: name, Err: errEscapes}
	}
	return target, nil
}

// MayFollow is nil if the user may follow the link in the folder, by the rule of the kernel's fs.protected_symlinks: in a
// sticky folder that everybody may write to, a link is followed only by its owner, or if it belongs to the folder's owner.
// Without the rule, a link that one user made in /tmp makes another user's program write where the first may not.
func MayFollow(user uint32, folder, link fs.FileInfo) error {
	const shared = fs.ModeSticky | 0o002
	if folder.Mode()&shared != shared {
		return nil
	}
	owner, ok := Owner(link)
	if !ok || owner == user {
		return nil
	}
	of, _ := Owner(folder)
	if of == owner {
		return nil
	}
	return fmt.Errorf("%w: %w: the link belongs to user %d, its folder to user %d; name the file without the link",
		syscall.EACCES, ErrForeignLink, owner, of)
}

// Resolve follows links within the root only. os.Root would follow those to folders itself, but whosever they are.
func (r *rootFS) Resolve(name string) (string, error) {
	w := walker{lstat: r.Lstat, readlink: r.held.root.Readlink, rooted: true}
	return w.as(uint32(os.Geteuid())).resolve(name)
}
