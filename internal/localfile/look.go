package localfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
)

// Found is what is at a path, and what an earlier call has left beside it.
type Found struct {
	Path   string       // symbolic links resolved
	File   fs.FileInfo  // nil: there is none
	Left   *Destination // has the data of an interrupted download, and is only read; nil: there is none
	Holder string       // the call that is writing it now; "": none
}

// Look looks at a path and its working folders, and changes nothing. What is not ours is passed over. A path at which no download
// can make a file is an error.
func Look(f fsys.FS, path string, isCheckpoint func([]byte) bool) (Found, error) {
	if path == "" {
		return Found{}, errors.New("empty path")
	}
	resolved, err := f.Resolve(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Found{Path: path}, nil // its folder is missing
	}
	if err != nil {
		return Found{}, fsys.NameError(f, err)
	}
	found := Found{Path: resolved}
	fi, err := f.Lstat(resolved)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return found, err
	case !fi.Mode().IsRegular():
		return found, fmt.Errorf("%s is not a file but %s", resolved, kindOf(fi))
	default:
		found.File = fi
	}
	first := true // the next call uses the first folder that is there
	for _, folder := range foldersOf(resolved) {
		d := newDestination(Config{FS: f, Log: slog.New(slog.DiscardHandler), Path: resolved, KeepPartial: true, IsCheckpoint: isCheckpoint})
		if there, err := d.inspect(folder); !there || err != nil {
			continue
		}
		d.use(filesIn(folder))
		if holder := d.holder(); holder != "" {
			found.Holder = holder
		}
		if fi, err := d.ourFile(d.work.data); first && err == nil && fi != nil && hasOneName(f, d.work.data) {
			found.Left = d
		}
		first = false
	}
	return found, nil
}

// holder says which call holds the lock; "": none.
func (d *Destination) holder() string {
	note, held, err := fsys.Holder(d.fs, d.work.lock)
	var by holder
	switch {
	case err != nil || !held:
		return ""
	case json.Unmarshal([]byte(note), &by) != nil || by.PID == 0:
		return "another call"
	}
	return fmt.Sprintf("process %d on %q since %s", by.PID, by.Host, by.Start.Format(time.RFC3339))
}

// hasOneName reports whether a file has no other name. Only an open file shows that on Windows. A download does not continue one
// that it cannot open.
func hasOneName(f fsys.FS, name string) bool {
	file, err := f.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	fi, err := file.Stat()
	return err == nil && fsys.Links(fi) <= 1
}
