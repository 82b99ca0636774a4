package fsys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
)

// lockAttempts bounds how often Lock starts again because the file was removed between its open and its lock. Each
// such turn means that another holder came and went.
const lockAttempts = 100

// Lock takes the lock file name, making it if there is none, and does not wait: it returns ErrLocked if another call of
// this process or another process has it. The folder must exist.
//
// The lock ends with unlock, or with the process, however that ends; a file left by a dead process is taken over. Other
// processes see the file while it is held. unlock removes the name first and closes the file after that. So a file at the
// name always counts. A process that opened the file before, and gets its lock only now, finds that it is no longer at the
// name, and starts again with a new one. unlock may be called more than once. If it returns an error, the file may be left
// behind, which does no harm: the lock itself is gone.
//
// systemwide false: the file system has no locks, and only other calls of this process are kept out.
//
// A link, folder, device or pipe at name is ErrNotRegular and left alone. So is a file's content.
//
// On Windows a file that others have open may refuse to go or go late. It stays behind then, empty and without a lock,
// and the next Lock takes it.
func Lock(f FS, name string) (unlock func() error, systemwide bool, err error) {
	return lock(f, name, 0o600, "")
}

// LockNamed is Lock with a lock file that has the mode perm less the umask and says who holds it: its content is replaced
// by note, for Holder. The caller sees to it that a file which is at name already is one of ours.
func LockNamed(f FS, name string, perm fs.FileMode, note string) (unlock func() error, systemwide bool, err error) {
	return lock(f, name, perm, note)
}

// maxNote bounds what Holder reads.
const maxNote = 1 << 10

// Holder reports whether the lock of the file name is held, and the holder's note. It makes no file and opens none for
// writing, so that it may be asked about a file that is not ours. For a moment it holds a lock that is free.
func Holder(f FS, name string) (note string, held bool, err error) {
	file, err := f.OpenFile(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	defer file.Close() // nothing was written
	err = file.TryLock()
	if errors.Is(err, errors.ErrUnsupported) {
		err = heldHere(f, name)
	}
	if !errors.Is(err, ErrLocked) {
		return "", false, err
	}
	buf := make([]byte, maxNote)
	n, err := file.ReadAt(buf, 0)
	if err == io.EOF {
		err = nil
	}
	return string(buf[:n]), true, err
}

// heldHere returns ErrLocked if this process holds the lock.
func heldHere(f FS, name string) error {
	key, err := f.Key(name)
	if err == nil && held.has(key) {
		err = ErrLocked
	}
	return err
}

func lock(f FS, name string, perm fs.FileMode, note string) (unlock func() error, systemwide bool, err error) {
	key, err := f.Key(name)
	if err != nil {
		return nil, false, err
	}
	if !held.take(key) {
		return nil, false, &fs.PathError{Op: "lock", Path: name, Err: ErrLocked}
	}
	defer func() {
		if err != nil {
			held.give(key)
		}
	}()

	var last error
	for range lockAttempts {
		file, err := f.OpenFile(name, os.O_RDWR|os.O_CREATE, perm)
		if err != nil {
			if vanishing(err) {
				last = err
				continue
			}
			return nil, false, err
		}
		err = file.TryLock()
		systemwide := err == nil
		if errors.Is(err, errors.ErrUnsupported) {
			err = nil
		}
		var same bool
		if err == nil {
			same, err = isAt(f, file, name)
		}
		if err != nil {
			return nil, false, errors.Join(err, file.Close())
		}
		if same {
			sign(file, note)
			return sync.OnceValue(func() error {
				// Last: a call that comes in between must not open the file that is about to go.
				defer held.give(key)
				return release(f, file, name)
			}), systemwide, nil
		}
		if err := file.Close(); err != nil {
			return nil, false, err
		}
	}
	if last != nil {
		return nil, false, last
	}
	return nil, false, &fs.PathError{Op: "lock", Path: name,
		Err: fmt.Errorf("replaced by others %d times in a row", lockAttempts)}
}

// Claim keeps other calls of this process that claim or lock the same name out, until release; it returns ErrLocked if one
// has it. It touches no file, so other processes do not notice it. The folder must exist, the file need not.
func Claim(f FS, name string) (release func(), err error) {
	key, err := f.Key(name)
	if err != nil {
		return nil, err
	}
	if !held.take(key) {
		return nil, &fs.PathError{Op: "claim", Path: name, Err: ErrLocked}
	}
	return sync.OnceFunc(func() { held.give(key) }), nil
}

// sign makes note the content of the lock file. The lock counts without it, on a full disk for example.
func sign(file File, note string) {
	if note != "" && file.Truncate(0) == nil {
		_, _ = file.WriteAt([]byte(note), 0)
	}
}

// release removes the name while the lock is held, and ends the lock.
func release(f FS, file File, name string) error {
	// If someone tidied up under us there may be a newcomer's file at the name. Removing that would let a third in.
	same, err := isAt(f, file, name)
	if err == nil && same {
		err = f.Remove(name)
		if errors.Is(err, fs.ErrNotExist) || busy(err) {
			err = nil
		}
	}
	return errors.Join(err, file.Close())
}

// isAt reports whether file is the one to be found at name.
func isAt(f FS, file File, name string) (bool, error) {
	mine, err := file.Stat()
	if err != nil {
		return false, err
	}
	there, err := f.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || vanishing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return SameFile(mine, there), nil
}

// held is what this process has locked. The locks of some file systems do not exclude two opens of one process, and some
// have none.
var held = registry{keys: make(map[any]struct{})}

type registry struct {
	mu   sync.Mutex
	keys map[any]struct{}
}

func (r *registry) take(key any) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.keys[key]; ok {
		return false
	}
	r.keys[key] = struct{}{}
	return true
}

func (r *registry) has(key any) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.keys[key]
	return ok
}

func (r *registry) give(key any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.keys, key)
}
