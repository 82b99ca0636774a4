package fsys

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/bits"
	"path/filepath"
	"syscall"
	"unicode/utf16"
)

// Volume is what is known of the file system that holds a folder. Every figure is a hint: quotas, compression and
// servers have their own ideas, and what was said a moment ago need not be so any more.
type Volume struct {
	// Free is the number of bytes that this process may still write; -1 if that is not known. A file system that has no
	// idea of its size (ramfs, a FUSE file system without statfs) says zero, which is not taken for full.
	Free int64
	// Files is how many files and folders may still be made; -1 if there is no bound, or none that is known. At zero the
	// error of a full disk (IsNoSpace) means that the inodes are used up, whatever Free says.
	Files int64
	// MaxSize is the size of the longest file that this process may write there, as far as that is known: FAT has 32 bits
	// for it, and a process may have a limit of its own (ulimit -f). math.MaxInt64 if no bound is known.
	MaxSize int64
	// MaxName bounds the length of a name, in bytes (on Windows in UTF-16 units). A longer one is refused; a shorter one
	// may be refused too, by file systems that count characters. 255 if that is not known.
	MaxName int
	// Mount distinguishes the mounts. Between two that differ nothing can be renamed (EXDEV), not even if they show the
	// same file system. It is the zero value if that is not known.
	Mount Mount
	// Inherit is what files made in the folder take from it: the group, the default access list, the security label. A file
	// that is moved there keeps what it got elsewhere. It differs if one of them does; empty if none is known.
	Inherit string
}

// Mount distinguishes mounts by the device of the file system and, on Linux, by the place where it is mounted.
type Mount struct{ Device, ID uint64 }

// SameMount reports whether a file can be renamed from one of the two folders to the other, as far as is known.
func SameMount(a, b Volume) bool {
	return a.Mount == b.Mount || a.Mount == Mount{} || b.Mount == Mount{}
}

// shortName is a length that every file system in use allows; eCryptfs allows 143 bytes.
const shortName = 120

// CheckName returns an error that names the limit if the last element of name is longer than its file system allows. It is for
// file systems that look for any name and refuse only to make it. Whether they count bytes or characters is not known, so a
// name that is short enough by either passes.
func CheckName(f FS, name string) error {
	base := filepath.Base(name)
	if len(base) <= shortName {
		return nil
	}
	v, err := f.Volume(filepath.Dir(name))
	if err != nil || len(base) <= v.MaxName || len(utf16.Encode([]rune(base))) <= v.MaxName {
		return nil
	}
	return nameTooLong(name, base, v)
}

// NameError returns err, with the limit if it says that a name is too long.
func NameError(f FS, err error) error {
	if !errors.Is(err, syscall.ENAMETOOLONG) {
		return err
	}
	pe, ok := errors.AsType[*fs.PathError](err)
	if !ok {
		return err
	}
	base := filepath.Base(pe.Path)
	if v, verr := f.Volume(filepath.Dir(pe.Path)); verr == nil && len(base) > v.MaxName { // else the whole path is too long
		return nameTooLong(pe.Path, base, v)
	}
	return err
}

func nameTooLong(name, base string, v Volume) error {
	return Unusable(fmt.Errorf("%w: the name has %d bytes, and the file system allows %d",
		&fs.PathError{Op: "make", Path: name, Err: syscall.ENAMETOOLONG}, len(base), v.MaxName))
}

const (
	defaultMaxName = 255
	maxFAT         = math.MaxUint32 // the size of a file has 32 bits
)

// counts are the figures of statfs(2).
type counts struct {
	blockSize               uint64
	blocks, free, available uint64 // available: to those who are not root
	files, freeFiles        uint64
	maxName                 uint64
	fat                     bool
}

// volume is what the figures say to this process. The largest file that it may write is known to maxFile.
func (c counts) volume(root bool, maxFile int64) Volume {
	v := Volume{Free: -1, Files: -1, MaxSize: maxFile, MaxName: defaultMaxName}
	if c.blocks > 0 {
		free := c.available
		if root {
			free = max(free, c.free)
		}
		v.Free = product(free, c.blockSize)
	}
	if c.files > 0 {
		v.Files = int64(min(c.freeFiles, math.MaxInt64))
	}
	if c.fat {
		v.MaxSize = min(v.MaxSize, maxFAT)
	}
	if c.maxName > 0 {
		v.MaxName = int(min(c.maxName, math.MaxInt32))
	}
	return v
}

// freeOf is the answer of FS.Free.
func freeOf(dir string, v Volume, err error) (int64, error) {
	if err == nil && v.Free < 0 {
		err = &fs.PathError{Op: "statfs", Path: dir, Err: errors.ErrUnsupported}
	}
	if err != nil {
		return 0, err
	}
	return v.Free, nil
}

// product is blocks times size, or as much of it as an int64 holds.
func product(blocks, size uint64) int64 {
	hi, lo := bits.Mul64(blocks, size)
	if hi != 0 || lo > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(lo)
}
