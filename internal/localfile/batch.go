package localfile

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ossdl/ossdl/internal/fsys"
)

const (
	batchFiles = heldFiles / 2         // in a batch: the other half is fetched and collected meanwhile
	batchBytes = heldBytes / 2         // in the files of a batch
	batchWait  = 25 * time.Millisecond // how long the first file of a batch waits for others
	finishTime = time.Second           // how long after the end of the context files are still synced
	syncers    = 32                    // files of a batch that are synced at once: the file system does many in one go
)

// Committer gives files their paths, many at a time: a disk syncs many files nearly as fast as one. [NewCommitter] makes one.
//
// A batch goes through these steps. Each begins once the one before has ended for all its files:
//
//  1. It is collected, until it has batchFiles or batchBytes, or batchWait has passed since its first file came, and the batch
//     before is done. The system writes its bytes to the disk meanwhile.
//  2. Each file is synced.
//  3. Each file whose sync did not fail is renamed to its path.
//  4. Each folder that has a new file is synced, once.
//  5. Each file is reported: only now it counts as done.
//
// So through a power cut at any instant a path holds no file, the old one, or the whole new one. A file that fails in a step is
// reported with its error, and its working file is removed. The others go on. Once the context is done, what was added is still
// brought to its path, so that a call that is cut off again and again comes to an end. But after finishTime no further file is
// synced: it fails with the cause of the context.
//
// One batch is committed while the next one is collected. When that is full, too, Add waits. [Bodies] bounds the files of both and
// those that are still fetched.
//
// A call may be killed between the third step and the fourth. Its files are at their paths then, and no later call would see
// that a power loss may still undo that. So the committer names the folders in a file of its own before it renames, and removes
// it after the last batch. [SyncLeftBatches] syncs the folders in such a file.
type Committer struct {
	d       *Destination // for what is of no single file
	note    string       // the path of the file that names the folders
	in      chan stored
	batches chan []stored
	ended   chan struct{}
	noted   []string // folders in the note
	unnote  func() error

	stopped atomic.Int64 // when the context was done, in nanoseconds; 0: it is not
	unwatch func() bool  // the context
}

// stored is a small file with its bytes, on its way to its path.
type stored struct {
	*Small
	done func(durable bool, err error)
	err  error
}

// NewCommitter makes a committer for the files of one call, in the file system of cfg. cfg.Folder is one for working files.
func NewCommitter(ctx context.Context, cfg Config) *Committer {
	c := &Committer{
		d: newDestination(cfg), note: filepath.Join(cfg.Folder, rand.Text()[:noteName]+noteSuffix),
		in: make(chan stored), batches: make(chan []stored), ended: make(chan struct{}),
	}
	c.unwatch = context.AfterFunc(ctx, c.stop)
	go c.collect(ctx)
	go c.run(ctx)
	return c
}

// Add gives a file to the committer, which calls done when it is in place or has failed. durable says whether a power loss
// leaves the file as it is. The calls of done come one after the other. Add waits while there are two full batches. If ctx ends
// first, the caller keeps the file.
func (c *Committer) Add(ctx context.Context, s *Small, done func(durable bool, err error)) error {
	select {
	case c.in <- stored{Small: s, done: done}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close returns once every file is in place or has failed. Add must not be called any more.
func (c *Committer) Close() {
	close(c.in)
	<-c.ended
	c.unwatch()
}

// stop records when the context was done.
func (c *Committer) stop() { c.stopped.CompareAndSwap(0, time.Now().UnixNano()) }

// collect makes batches of the files that come.
func (c *Committer) collect(ctx context.Context) {
	defer close(c.batches)
	var batch []stored
	var size int64
	var wait *time.Timer
	for open := true; open || len(batch) > 0; {
		var in <-chan stored
		var out chan<- []stored
		var stop <-chan struct{}
		var due <-chan time.Time
		full := len(batch) >= batchFiles || size >= batchBytes
		if open && !full {
			in = c.in
		}
		switch {
		case len(batch) == 0:
		case full || !open || wait == nil:
			out = c.batches
		default:
			due, stop = wait.C, ctx.Done()
		}
		select {
		case s, ok := <-in:
			if open = ok; !ok {
				continue
			}
			if len(batch) == 0 {
				wait = time.NewTimer(batchWait)
			}
			batch, size = append(batch, s), size+s.size
		case <-due:
			wait = nil
		case <-stop:
			wait = nil
		case out <- batch:
			batch, size = nil, 0
		}
	}
}

// run commits one batch after the other.
func (c *Committer) run(ctx context.Context) {
	defer close(c.ended)
	for batch := range c.batches {
		c.commit(ctx, batch)
	}
	c.dropNote()
}

// commit takes a batch through its steps.
func (c *Committer) commit(ctx context.Context, batch []stored) {
	each(batch, func(s *stored) {
		if s.err = c.tooLate(ctx); s.err == nil {
			s.err = s.sync()
		}
	})
	folders := foldersOfBatch(batch) // also those in which a rename is about to fail: it may have taken place all the same
	c.writeNote(folders)
	each(batch, func(s *stored) {
		if s.err == nil {
			s.err = s.rename()
		}
	})
	each(folders, func(f *folder) { f.synced, f.err = f.one.syncFolder() })
	byName := map[string]folder{}
	for _, f := range folders {
		byName[f.name] = f
	}
	for _, s := range batch {
		f := byName[filepath.Dir(s.d.path)]
		if s.err == nil {
			s.err = f.err
		}
		if s.err != nil {
			s.Abandon()
			s.done(false, s.err)
			continue
		}
		s.end()
		s.done(s.synced && f.synced, nil)
	}
}

// tooLate returns the cause of the context once finishTime has passed since its end.
func (c *Committer) tooLate(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	c.stop() // it may not have been yet
	if time.Now().UnixNano()-c.stopped.Load() < int64(finishTime) {
		return nil
	}
	return context.Cause(ctx)
}

// folder is one that has files of a batch.
type folder struct {
	name   string
	one    *Destination // a file in it
	synced bool
	err    error // its files are not at their paths
}

// foldersOfBatch returns the folders of those files of a batch that have not failed.
func foldersOfBatch(batch []stored) []folder {
	var all []folder
	known := map[string]struct{}{}
	for _, s := range batch {
		dir := filepath.Dir(s.d.path)
		if _, have := known[dir]; s.err == nil && !have {
			known[dir] = struct{}{}
			all = append(all, folder{name: dir, one: s.d})
		}
	}
	return all
}

// each calls fn for every element, for some at once.
func each[T any](batch []T, fn func(*T)) {
	var next atomic.Int64
	var running sync.WaitGroup
	defer running.Wait()
	for range min(syncers, len(batch)) {
		running.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(batch)); i = next.Add(1) - 1 {
				fn(&batch[i])
			}
		})
	}
}

const (
	noteSuffix = ".batch"
	noteName   = 16      // characters before it
	maxNote    = 4 << 20 // bytes that are read: batchFiles of the longest paths, each byte escaped
)

// writeNote names the folders of a batch, before its files are renamed. It is locked, so that other calls leave it to this one. A
// failure is logged and no more: it matters only if this call is killed now, and then the power fails.
func (c *Committer) writeNote(folders []folder) {
	var names []string
	fresh := false
	for _, f := range folders {
		names = append(names, f.name)
		fresh = fresh || !slices.Contains(c.noted, f.name)
	}
	if !fresh {
		return
	}
	c.dropNote()
	text, err := json.Marshal(names)
	if err == nil {
		err = c.lockNote(string(text))
	}
	if err != nil {
		c.d.log.Info("folders of a batch not noted: if this call is killed, a power loss may undo renames", "error", err)
		return
	}
	c.noted = names
}

// lockNote makes the note. Another call, which has ended, may have removed its folder.
func (c *Committer) lockNote(text string) (err error) {
	c.unnote, _, err = fsys.LockNamed(c.d.fs, c.note, fileMode, text)
	if errors.Is(err, fs.ErrNotExist) && c.d.makeFolder() == nil {
		c.unnote, _, err = fsys.LockNamed(c.d.fs, c.note, fileMode, text)
	}
	return err
}

// dropNote removes the note: the folders in it are synced.
func (c *Committer) dropNote() {
	if c.unnote == nil {
		return
	}
	if err := c.unnote(); err != nil {
		c.d.log.Warn("working file left behind", "error", err)
	}
	c.unnote, c.noted = nil, nil
}

// SyncLeftBatches syncs the folders that calls which were killed have named; see [Committer]. names are those of the files in
// cfg.Folder. It returns the folders that could not be synced: a power loss may undo renames in them. known is false if these
// may be any: a note could not be read.
func SyncLeftBatches(cfg Config, names []string) (unsynced []string, known bool) {
	d := newDestination(cfg)
	known = true
	for _, name := range names {
		if strings.HasSuffix(name, noteSuffix) {
			dirs, read := d.syncLeftBatch(filepath.Join(cfg.Folder, name))
			unsynced, known = append(unsynced, dirs...), known && read
		}
	}
	return unsynced, known
}

// syncLeftBatch syncs the folders that a note names, and removes the note once that has succeeded. read is false if the note is
// there and could not be read.
func (d *Destination) syncLeftBatch(note string) (unsynced []string, read bool) {
	if fi, err := d.ourFile(note); fi == nil || err != nil {
		return nil, true
	}
	if _, held, _ := fsys.Holder(d.fs, note); held {
		return nil, true // its call is running
	}
	data, err := fsys.ReadFile(d.fs, note, maxNote)
	read = err == nil || errors.Is(err, fs.ErrNotExist)
	var folders []string
	if err == nil && json.Unmarshal(data, &folders) != nil {
		folders = nil // torn by a power loss: what is there now is on the disk
	}
	for _, dir := range folders {
		if !filepath.IsLocal(dir) {
			continue // no call has written that
		}
		serr := d.fs.SyncDir(dir)
		if serr == nil || errors.Is(serr, fs.ErrNotExist) {
			continue
		}
		unsynced = append(unsynced, dir)
		if !errors.Is(serr, errors.ErrUnsupported) {
			err = serr
		}
	}
	if err != nil {
		d.log.Warn("renames of an earlier call could not be made durable", "note", note, "error", err)
		return unsynced, read
	}
	if unlock, _, lerr := fsys.Lock(d.fs, note); lerr == nil {
		d.logLeft(unlock())
	}
	return unsynced, read
}
