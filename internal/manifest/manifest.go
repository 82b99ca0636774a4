// Package manifest writes and reads lists of the files that a download has put in place, one JSON object a line. It knows the
// format and how the file is replaced, and must not know requests or the folder that the files are in. Its invariant: at the
// path there is the old manifest or the whole new one, and whatever is read is either valid or an error with its line.
package manifest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/ossdl/ossdl/internal/fsys"
)

// Suffixes of the files beside a manifest while it is written. A killed process leaves both, and the next writer takes them over.
const (
	tempSuffix = fsys.TempSuffix
	lockSuffix = ".ossdl-lock"
)

// MaxLine is the length of the longest line that is read, in bytes. A line that is written has at most half as many.
const MaxLine = 64 << 10

// Line is what a manifest says of one file or folder.
type Line struct {
	Name         string    `json:"name"` // relative, with slashes; that of a folder ends in one, and "" is the folder of the download
	Key          string    `json:"key"`
	Size         int64     `json:"size"` // in bytes
	ETag         string    `json:"etag"`
	Version      string    `json:"version"` // "": the bucket has no versions, or which one is not known
	CRC64        uint64    `json:"crc64,string"`
	LastModified time.Time `json:"lastModified,omitzero"` // of the object
	SHA256       string    `json:"sha256,omitempty"`      // hexadecimal
	Restored     bool      `json:"restored,omitempty"`    // the download has asked for the restore of the object, which was archived
}

// Writer writes a manifest beside the one that it replaces. [Create] makes one. It is safe for concurrent use.
type Writer struct {
	fs     fsys.FS
	path   string
	unlock func() error

	mu    sync.Mutex
	file  fsys.File
	off   int64 // bytes written
	buf   bytes.Buffer
	lines int
	err   error // the first one
}

// bufferSize is how much is collected before it is written.
const bufferSize = 64 << 10

// Create begins a manifest for path, which must be resolved. What is there stays until [Writer.Commit]. The error is
// [fsys.ErrLocked] if another call is writing it. A file that is there and no manifest is an error, and so is a folder.
func Create(f fsys.FS, path string) (*Writer, error) {
	old, err := checkReplaceable(f, path)
	if err != nil {
		return nil, err
	}
	unlock, _, err := fsys.Lock(f, path+lockSuffix)
	if err != nil {
		return nil, err
	}
	w := &Writer{fs: f, path: path, unlock: unlock}
	w.file, err = createTemp(f, path+tempSuffix, old)
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	return w, nil
}

// checkReplaceable returns what is at path; nil if there is nothing. Only a manifest, or an empty file, may be replaced.
func checkReplaceable(f fsys.FS, path string) (fs.FileInfo, error) {
	fi, err := f.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file (%v)", path, fi.Mode().Type())
	}
	if err := fsys.CheckReplaceable(f, path); err != nil {
		return nil, err
	}
	is, err := isManifest(f, path)
	if err == nil && !is {
		err = fmt.Errorf("%s is there and not a manifest; it is not replaced", path)
	}
	return fi, err
}

// isManifest reports whether a file is empty or begins as a manifest does.
func isManifest(f fsys.FS, path string) (bool, error) {
	file, err := f.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return false, err
	}
	defer file.Close() // nothing was written
	start := make([]byte, len(firstBytes))
	n, err := file.ReadAt(start, 0)
	if err != nil && err != io.EOF {
		return false, err
	}
	return n == 0 || string(start[:n]) == firstBytes, nil
}

// firstBytes is what every manifest begins with, unless it is empty.
const firstBytes = `{"name":"`

// createTemp makes the temporary file. What a killed process left there is removed, unless it is not ours.
func createTemp(f fsys.FS, temp string, old fs.FileInfo) (fsys.File, error) {
	left, err := f.Lstat(temp)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		ours, err := fsys.Ours(f, filepath.Dir(temp), left)
		if err == nil && (!ours || !left.Mode().IsRegular()) {
			err = fmt.Errorf("%s is in the way: it is not ours; remove it", temp)
		}
		if err == nil {
			err = f.Remove(temp)
		}
		if err != nil {
			return nil, err
		}
	}
	file, err := f.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil || old == nil {
		return file, err
	}
	fresh, err := file.Stat()
	if err == nil {
		err = file.Chmod(fsys.ReplacedMode(old.Mode(), fresh.Mode()))
	}
	if err != nil {
		return nil, errors.Join(err, file.Close(), f.Remove(temp))
	}
	return file, nil
}

// Add adds a line. An error is returned by [Writer.Commit], and nothing is written after it.
func (w *Writer) Add(l Line) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return
	}
	e := json.NewEncoder(&w.buf) // a line feed or another control in a name is escaped
	e.SetEscapeHTML(false)
	if w.err = e.Encode(l); w.err != nil {
		return
	}
	w.lines++
	if w.buf.Len() >= bufferSize {
		w.flush()
	}
}

// flush writes what was collected. The mutex must be held.
func (w *Writer) flush() {
	n, err := w.file.WriteAt(w.buf.Bytes(), w.off)
	w.off += int64(n)
	w.buf.Reset()
	w.err = err
}

// Lines returns how many lines were added.
func (w *Writer) Lines() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lines
}

// Commit replaces the manifest by the new one, and ends the Writer. After an error of the file or of its rename the old one is
// there. unsynced is why the folder could not be synced after the rename: then a power loss may bring the old one back. That is no
// error, since every later call would end the same way.
func (w *Writer) Commit() (unsynced, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.flush()
	}
	err = w.err
	if err == nil {
		// Without it the rename can reach the disk before the bytes, and a power loss leaves part of the lines.
		err = unlessUnsupported(w.file.Sync())
	}
	if cerr := w.file.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = w.fs.Rename(w.path+tempSuffix, w.path)
	}
	if err != nil {
		return nil, errors.Join(err, w.remove(), w.unlock())
	}
	unsynced = unlessUnsupported(w.fs.SyncDir(filepath.Dir(w.path)))
	if errors.Is(unsynced, fsys.ErrMoved) { // the manifest is not at the path
		unsynced, err = nil, unsynced
	}
	return unsynced, errors.Join(err, w.unlock())
}

// Discard ends the Writer and leaves the old manifest.
func (w *Writer) Discard() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.file.Close(), w.remove(), w.unlock())
}

func (w *Writer) remove() error {
	err := w.fs.Remove(w.path + tempSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
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

// Read yields the lines of a manifest with their numbers, and at the end the error that ended it early, if there is one. The
// lines of several manifests may follow each other.
func Read(r io.Reader) iter.Seq2[Numbered, error] {
	return func(yield func(Numbered, error) bool) {
		in := bufio.NewReaderSize(r, MaxLine)
		for n := 1; ; n++ {
			text, err := in.ReadSlice('\n')
			if err == io.EOF && len(text) == 0 {
				return
			}
			var l Line
			switch {
			case errors.Is(err, bufio.ErrBufferFull):
				err = fmt.Errorf("it has more than %d bytes", MaxLine)
			case err == io.EOF:
				err = errors.New("its end is missing: the manifest is cut off")
			case err == nil:
				l, err = parse(text)
			}
			if err != nil {
				yield(Numbered{}, LineError(n, err))
				return
			}
			if !yield(Numbered{l, n}, nil) {
				return
			}
		}
	}
}

// Numbered is a line and its number, counted from 1.
type Numbered struct {
	Line
	N int
}

// LineError returns an error of a line.
func LineError(n int, err error) error { return fmt.Errorf("line %d: %w", n, err) }

// parse reads one line. Names that are not known are ignored, so that a later version may add some.
func parse(text []byte) (Line, error) {
	var in struct {
		Line
		Name   *string `json:"name"`
		Size   *int64  `json:"size"`
		CRC64  *string `json:"crc64"`
		SHA256 string  `json:"sha256"`
	}
	if !utf8.Valid(text) { // the decoder would replace the bytes by others
		return Line{}, errors.New("it is not UTF-8")
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return Line{}, err
	}
	if in.Name == nil || in.Size == nil || in.CRC64 == nil {
		return Line{}, errors.New("name, size and crc64 are needed")
	}
	if *in.Size < 0 {
		return Line{}, fmt.Errorf("size %d is negative", *in.Size)
	}
	crc, err := strconv.ParseUint(*in.CRC64, 10, 64)
	if err != nil {
		return Line{}, fmt.Errorf("crc64 %q is no decimal number of 64 bits", *in.CRC64)
	}
	if sum, err := hex.DecodeString(in.SHA256); err != nil || len(sum) != 0 && len(sum) != 32 {
		return Line{}, fmt.Errorf("sha256 %q: 64 hexadecimal digits are needed", in.SHA256)
	}
	l := in.Line
	l.Name, l.Size, l.CRC64, l.SHA256 = *in.Name, *in.Size, crc, in.SHA256
	return l, nil
}
