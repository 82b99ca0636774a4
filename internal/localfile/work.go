package localfile

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/ossdl/ossdl/internal/fsys"
)

// The working folder of a file is beside it. Its name is that of the file with the suffix, or, if that is taken or too long,
// one made from a hash of the file's name.
const (
	folderSuffix = ".cp"
	hashedPrefix = ".ossdl-"
)

// The names in a working folder.
const (
	dataName       = "data"            // the data, until the rename
	checkpointName = "checkpoint.json" // which bytes of it are done
	recentName     = "recent"          // which were done after that was saved
	lockName       = "lock"            // held by the running call
	trialName      = "trial"           // empty, there for a moment, as is the next
	movedName      = "trial.moved"
)

// The suffixes of working files in a folder that several files share; see [Config].Base.
const (
	partSuffix       = ".part"
	smallSuffix      = ".new" // of a [Small]; it has none of the others
	checkpointSuffix = ".cp"
	recentSuffix     = ".recent"
	lockSuffix       = ".part.lock"
	trialSuffix      = ".trial" // there for a moment, as is the next
	movedSuffix      = ".trial.moved"
)

const (
	folderMode = 0o777 // less the umask, as those below
	fileMode   = 0o666
)

// workFiles are the paths of the working files of one file. All are gone after success.
type workFiles struct {
	folder                 string // that they are in
	data, checkpoint, lock string
	recent                 string // "": of a [Small], which has none
	other                  string // the data of a [Small] for the same path; "": there can be none
	trial, moved           string // an empty file, before and after its rename
}

// filesIn returns the working files in a folder that holds nothing else.
func filesIn(folder string) workFiles {
	return workFiles{
		folder: folder,
		data:   filepath.Join(folder, dataName), checkpoint: filepath.Join(folder, checkpointName), lock: filepath.Join(folder, lockName),
		recent: filepath.Join(folder, recentName),
		trial:  filepath.Join(folder, trialName), moved: filepath.Join(folder, movedName),
	}
}

// filesAt returns the working files whose paths begin with base, in a folder that others use as well.
func filesAt(folder, base string) workFiles {
	return workFiles{
		folder: folder, data: base + partSuffix, checkpoint: base + checkpointSuffix, lock: base + lockSuffix, other: base + smallSuffix,
		recent: base + recentSuffix, trial: base + trialSuffix, moved: base + movedSuffix,
	}
}

// smallFilesAt returns the working files of a [Small]. It has but one, and looks at the lock.
func smallFilesAt(folder, base string) workFiles {
	return workFiles{
		folder: folder, data: base + smallSuffix, lock: base + lockSuffix, trial: base + trialSuffix, moved: base + movedSuffix,
	}
}

// foldersOf returns the two folders that the working files of a path may be in, the usual one first.
func foldersOf(path string) []string {
	dir, name := filepath.Split(path)
	sum := sha256.Sum256([]byte(name))
	return []string{path + folderSuffix, filepath.Join(dir, hashedPrefix+hex.EncodeToString(sum[:16])+folderSuffix)}
}

// takenError says that a name is taken by what is not ours. It is left alone.
type takenError struct {
	name, why string
	passes    bool // by another download
}

func (e *takenError) Error() string { return fmt.Sprintf("%s is in the way: %s", e.name, e.why) }

// Is makes it an [fsys.ErrUnusable], unless it passes.
func (e *takenError) Is(target error) bool { return target == fsys.ErrUnusable && !e.passes }

func taken(name, format string, args ...any) error {
	return &takenError{name: name, why: fmt.Sprintf(format, args...)}
}

func isTaken(err error) bool {
	_, ok := errors.AsType[*takenError](err)
	return ok
}

// checkOwner returns an error unless the file or folder at name belongs to us. Whoever owns it can change it at any time, and
// can make bytes that have the right CRC-64.
func (d *Destination) checkOwner(name string, fi fs.FileInfo) error {
	ours, err := fsys.Ours(d.fs, filepath.Dir(name), fi)
	if err != nil || ours {
		return err
	}
	owner, _ := fsys.Owner(fi)
	return taken(name, "it belongs to user %d", owner)
}

// ourFile returns what is at the name of a file of ours: nil if there is nothing, an error if it is not a regular file or
// belongs to another user.
func (d *Destination) ourFile(name string) (fs.FileInfo, error) {
	fi, err := d.fs.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !fi.Mode().IsRegular():
		return nil, fmt.Errorf("%w (%w)", taken(name, "it is not a file but %s", kindOf(fi)), fsys.ErrNotRegular)
	}
	return fi, d.checkOwner(name, fi)
}

// kindOf says what stands where something else was expected.
func kindOf(fi fs.FileInfo) string {
	switch {
	case fi.Mode().IsRegular():
		return "a file"
	case fi.IsDir():
		return "a folder"
	case fi.Mode()&fs.ModeSymlink != 0:
		return "a symbolic link"
	}
	return "a special file"
}

// isOurName reports whether a working folder may hold this name. Some file systems keep a removed file that is open under
// another name for a while.
func isOurName(name string) bool {
	return slices.Contains([]string{dataName, checkpointName, fsys.TempName(checkpointName), recentName, lockName, trialName, movedName}, name) ||
		strings.HasPrefix(name, ".nfs") || strings.HasPrefix(name, ".fuse_hidden") ||
		strings.HasPrefix(name, ".ossdl-") && strings.HasSuffix(name, ".tmp") // of fsys.MadeBy
}

// maxNames is how many names in a working folder are looked at. If there are more, one of them is not ours.
const maxNames = 16

// inspect looks at a working folder. It reports whether the folder is there. The error is a takenError if the name cannot be
// used because something is there that is not ours.
func (d *Destination) inspect(folder string) (there bool, err error) {
	fi, err := d.fs.Lstat(folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if fi, err := d.fs.Lstat(folder + folderSuffix); err == nil && fi.IsDir() {
			return false, &takenError{folder, "a download to it is running or was interrupted", true}
		}
		return false, nil
	case errors.Is(err, syscall.ENAMETOOLONG):
		return false, taken(folder, "the name is too long")
	case err != nil:
		return false, err
	case !fi.IsDir():
		owner, _ := fsys.Owner(fi)
		return false, taken(folder, "it is %s of user %d", kindOf(fi), owner)
	}
	if err := d.checkOwner(folder, fi); err != nil {
		return false, err
	}
	names, err := d.fs.List(folder, maxNames)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if err := d.inspectFile(folder, name); err != nil {
			return false, err
		}
	}
	return true, nil
}

// inspectFile returns an error unless a name in a working folder is that of a file of ours.
func (d *Destination) inspectFile(folder, name string) error {
	if !isOurName(name) {
		return taken(folder, "it holds %q, which is not ours", name)
	}
	file := filepath.Join(folder, name)
	fi, err := d.ourFile(file)
	if err != nil || fi == nil {
		return err
	}
	switch name {
	case checkpointName:
		return d.checkCheckpoint(file)
	case lockName:
		return checkOneName(file, fi)
	}
	return nil
}

// checkOneName returns an error if a lock file has other names: its content is replaced, and would be under these.
func checkOneName(name string, fi fs.FileInfo) error {
	if fsys.Links(fi) > 1 {
		return taken(name, "the file has other names")
	}
	return nil
}

// checkCheckpoint returns an error unless the file begins as a checkpoint, be it a torn one.
func (d *Destination) checkCheckpoint(name string) error {
	head, err := d.head(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !d.isCheckpoint(head) {
		err = taken(name, "it is not a checkpoint of a download")
	}
	return err
}

// headSize is how much of a checkpoint shows whether it is one, unless that is zeros.
const headSize = 64

// head returns the first bytes of a file, and more than any checkpoint has if they are zeros.
func (d *Destination) head(name string) ([]byte, error) {
	f, err := d.fs.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	b, err := readHead(f, headSize)
	if err == nil && len(b) == headSize && IsZeros(b) {
		b, err = readHead(f, CheckpointLimit+1)
	}
	return b, errors.Join(err, f.Close())
}

func readHead(f fsys.File, most int) ([]byte, error) {
	b := make([]byte, most)
	n, err := f.ReadAt(b, 0)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}

// IsZeros reports whether there is nothing but zeros.
func IsZeros(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// chooseFolder decides which of the two working folders this call uses: the one that an earlier call left, or else the first
// that can be made. It reports whether the folder is there. Until disclaim is called, no other call of this process uses the
// name, not even as a destination.
func (d *Destination) chooseFolder() (there bool, disclaim func(), err error) {
	choice, disclaim := "", func() {}
	defer func() {
		if err != nil {
			disclaim()
		}
	}()
	var reasons []error
	for _, folder := range d.folders {
		claimed, there, err := d.claimFolder(folder)
		switch {
		case isTaken(err):
			reasons = append(reasons, err)
		case err != nil:
			return false, disclaim, err
		case there || choice == "":
			disclaim()
			choice, disclaim = folder, claimed
			if there {
				d.use(filesIn(folder))
				return true, disclaim, nil
			}
		default:
			claimed()
		}
	}
	if choice == "" {
		return false, disclaim, fmt.Errorf("no working folder for %s: %w; remove or rename what is in the way", d.path, joined(reasons))
	}
	if len(reasons) > 0 {
		d.log.Info("using another working folder", "folder", choice, "reason", joined(reasons))
	}
	d.use(filesIn(choice))
	return false, disclaim, nil
}

// claimFolder claims the name of a working folder and looks at it, as inspect does.
func (d *Destination) claimFolder(folder string) (disclaim func(), there bool, err error) {
	disclaim, err = fsys.Claim(d.fs, folder)
	if errors.Is(err, fsys.ErrLocked) {
		err = &takenError{folder, "a call of this process downloads to it", true}
	}
	if err != nil {
		return nil, false, err
	}
	if there, err = d.inspect(folder); err != nil {
		disclaim()
	}
	return disclaim, there, err
}

// joined is errors.Join on one line.
func joined(errs []error) error {
	err := errs[0]
	for _, next := range errs[1:] {
		err = fmt.Errorf("%w; %w", err, next)
	}
	return err
}

// use makes these the working files.
func (d *Destination) use(w workFiles) {
	d.work = w
	if d.keepPartial && !d.ownCheckpoint {
		d.checkpoint = w.checkpoint
	}
}

// makeFolder makes the working folder. In a sticky folder, which strangers share, only its owner may look into it.
func (d *Destination) makeFolder() error {
	dir := filepath.Dir(d.work.folder)
	fi, err := d.fs.Lstat(dir)
	if err != nil {
		return err
	}
	return d.fs.Mkdir(d.work.folder, fsys.ModeIn(fi, folderMode))
}

// removeFolder removes the working folder if it is empty.
func (d *Destination) removeFolder() {
	err := d.fs.Remove(d.work.folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) { // the latter: it is not empty
		d.log.Warn("working folder left behind", "error", err)
	}
}
