package fsys

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
)

// TempSuffix is what WriteFile appends to a name for the file it writes before the rename; see TempName.
const TempSuffix = ".ossdl-tmp"

// leastMaxName is the least number of bytes, among the file systems in use, that a name may have: that of eCryptfs.
const leastMaxName = 143

// TempName is the name of the file that WriteFile writes before it is renamed to name: in the same folder, with TempSuffix. If
// that could be too long for a file system, it is made from a hash of the name.
func TempName(name string) string {
	dir, base := filepath.Split(name)
	if len(base)+len(TempSuffix) <= leastMaxName {
		return name + TempSuffix
	}
	sum := sha256.Sum256([]byte(base))
	return dir + ".ossdl-" + hex.EncodeToString(sum[:16]) + TempSuffix
}

// WriteFile replaces the file name by one that holds data, with the mode perm less the umask. Another process sees the
// old content (or no file) until the rename, and the new content after it; never a part. Once WriteFile has returned nil
// a power loss does not bring the old content back, unless the file system cannot sync at all.
//
// After an error the name holds the old content or, where only the last step failed, the new one, and the temporary is
// gone unless that too failed. A temporary left by a killed process is removed, never opened: it may be a link to
// elsewhere. The caller makes sure that nothing else writes the same name at the same time.
func WriteFile(f FS, name string, data []byte, perm fs.FileMode) (err error) {
	temp := TempName(name)
	file, err := createTemp(f, temp, perm)
	if err != nil {
		return err
	}
	defer func() {
		if err == nil {
			return
		}
		if rerr := f.Remove(temp); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}()
	_, err = file.WriteAt(data, 0)
	if err == nil {
		// Without it the rename can reach the disk before the bytes, and a power loss leaves an empty file in place of the old.
		err = unlessUnsupported(file.Sync())
	}
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := f.Rename(temp, name); err != nil {
		return err
	}
	// Without it a power loss can bring the old content back after we said that it was replaced.
	return unlessUnsupported(f.SyncDir(filepath.Dir(name)))
}

// SyncFile syncs the file name, whoever has written it.
func SyncFile(f FS, name string) error {
	file, err := f.OpenFile(name, syncAccess, 0)
	if err != nil {
		return err
	}
	err = file.Sync()
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	return err
}

// unlessUnsupported: more than the file system has cannot be had.
func unlessUnsupported(err error) error {
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// createTemp makes the file, which must not exist; what an earlier process left there is removed.
func createTemp(f FS, temp string, perm fs.FileMode) (File, error) {
	const flag = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	file, err := f.OpenFile(temp, flag, perm)
	if !errors.Is(err, fs.ErrExist) {
		return file, err
	}
	fi, err := f.Lstat(temp)
	if err != nil {
		return nil, err
	}
	if fi.IsDir() {
		return nil, notRegular("open", temp, fi.Mode()) // not a leftover of ours, and Remove would remove an empty folder
	}
	if err := f.Remove(temp); err != nil {
		return nil, err
	}
	return f.OpenFile(temp, flag, perm)
}

// firstRead is the most memory that ReadFile takes for what the size of a file promises.
const firstRead = 1 << 20

// readUpTo reads a file to its end, but at most so many bytes.
func readUpTo(file File, most int64) ([]byte, error) {
	fi, err := file.Stat()
	if err != nil {
		return nil, err
	}
	var data bytes.Buffer
	data.Grow(int(max(0, min(fi.Size(), most, firstRead))) + bytes.MinRead) // room to meet the end, too
	_, err = data.ReadFrom(io.NewSectionReader(file, 0, most))
	return data.Bytes(), err
}

// ReadFile is the content of the plain file name. More than limit bytes are ErrTooLarge, a link, folder, pipe or device
// ErrNotRegular, neither waited for nor read. A file that promises a size gets at most firstRead bytes of memory for that;
// beyond it, memory grows with what was read.
func ReadFile(f FS, name string, limit int64) ([]byte, error) {
	file, err := f.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	data, err := readUpTo(file, min(limit, math.MaxInt64-1)+1)
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)}
	}
	return data, nil
}
